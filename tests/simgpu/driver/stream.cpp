/* SPDX-License-Identifier: Apache-2.0 */
#include "simgpu/driver/driver.h"

#include <chrono>
#include <fenv.h>
#include <signal.h>
#include <stdlib.h>

namespace simgpu
{

/* A task is done, somewhere. Never destroyed: workers outlive main. */
static std::condition_variable *finished = new std::condition_variable();

static std::vector<struct queue *> &all_queues = *new std::vector<struct queue *>();

static bool environment_says(const char *name)
{
    const char *text = getenv(name);
    return text != nullptr && text[0] != 0 && text[0] != '0';
}

static bool blocking_launches()
{
    return environment_says(driver_is_hip ? "AMD_SERIALIZE_KERNEL" : "CUDA_LAUNCH_BLOCKING");
}

/* -- workers --------------------------------------------------------------------------------------- */

static bool ready(const struct task &task)
{
    for (const std::shared_ptr<struct task> &other : task.waits) {
        if (!other->done) {
            return false;
        }
    }
    return true;
}

static void worker(struct queue *queue)
{
    fesetenv(FE_DFL_ENV); /* devices do not round as the caller's thread does */
    guard held(driver_lock);
    for (;;) {
        while (queue->tasks.empty() && !queue->stopping) {
            queue->wake.wait(held);
        }
        if (queue->tasks.empty()) {
            break;
        }
        std::shared_ptr<struct task> task = queue->tasks.front();
        while (!ready(*task)) {
            finished->wait(held);
        }
        held.unlock();
        int result = task->body(*queue);
        task->body = nullptr; /* what it kept alive */
        held.lock();
        if (result != SUCCESS) {
            queue->device->failed = result;
        }
        queue->tasks.pop_front();
        task->waits.clear();
        task->done = true;
        finished->notify_all();
    }
    machine_release(queue->machine);
    held.unlock();
    delete queue;
}

static void worker_start(struct queue &queue)
{
    sigset_t all, former;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    std::thread(worker, &queue).detach();
    pthread_sigmask(SIG_SETMASK, &former, nullptr);
    queue.started = true;
}

/* -- streams --------------------------------------------------------------------------------------- */

struct queue *queue_create(struct device *device, bool non_blocking, bool legacy)
{
    struct queue *queue = new struct queue();
    queue->device = device;
    queue->non_blocking = non_blocking;
    queue->legacy = legacy;
    all_queues.push_back(queue);
    handle_add(queue);
    if (!legacy) {
        worker_start(*queue); /* now, and not when a capture is open */
    }
    return queue;
}

void queues_forget()
{
    all_queues.clear();                       /* their threads stayed behind in the parent, */
    finished = new std::condition_variable(); /* and those that waited */
}

struct queue *queue_find(void *handle, int *result)
{
    if (handle == nullptr || handle == reinterpret_cast<void *>(1)) {
        struct device *device = device_current();
        *result = device == nullptr ? INVALID_CONTEXT : device->failed;
        return *result == SUCCESS ? device->legacy : nullptr;
    }
    *result = handle_is(handle) ? SUCCESS : INVALID_HANDLE;
    struct queue *queue = *result == SUCCESS ? static_cast<struct queue *>(handle) : nullptr;
    if (queue != nullptr && queue->device->failed != SUCCESS) {
        *result = queue->device->failed;
        return nullptr;
    }
    if (queue != nullptr) {
        queue->told.reset();
    }
    return queue;
}

int queue_destroy(struct queue *queue, guard &)
{
    if (queue->capture != nullptr) {
        capture_abandon(*queue);
    }
    handle_remove(queue);
    for (size_t at = 0; at < all_queues.size(); at++) {
        if (all_queues[at] == queue) {
            all_queues.erase(all_queues.begin() + (ptrdiff_t)at);
            break;
        }
    }
    queue->stopping = true; /* what is enqueued still runs */
    if (queue->started) {
        queue->wake.notify_one();
    } else {
        delete queue;
    }
    return SUCCESS;
}

static void push(struct queue &queue, work body)
{
    std::shared_ptr<struct task> task = std::make_shared<struct task>();
    task->body = std::move(body);
    task->waits.swap(queue.next_waits);
    for (struct queue *other : all_queues) {
        /* The legacy stream and the blocking ones of its device wait for each other. */
        bool ordered = queue.legacy ? !other->non_blocking : !queue.non_blocking && other->legacy;
        if (other != &queue && other->device == queue.device && ordered && other->last != nullptr &&
            !other->last->done) {
            task->waits.push_back(other->last);
        }
    }
    queue.last = task;
    queue.tasks.push_back(task);
    if (!queue.started) {
        worker_start(queue);
    }
    queue.wake.notify_one();
}

static void await(const std::shared_ptr<struct task> &task, guard &held)
{
    while (task != nullptr && !task->done) {
        finished->wait(held);
    }
}

void queue_await(struct queue &queue, guard &held)
{
    std::shared_ptr<struct task> last = queue.last;
    await(last, held);
}

int queue_submit(struct queue &queue, guard &held, node_type type, work body)
{
    if (queue.capture != nullptr) {
        return capture_add(queue, type, std::move(body));
    }
    if (queue.legacy) {
        int result = capture_check_legacy(*queue.device);
        if (result != SUCCESS) {
            return result;
        }
    }
    push(queue, std::move(body));
    bool launches = type == NODE_KERNEL || type == NODE_GRAPH || type == NODE_HOST;
    if (launches && blocking_launches()) {
        queue_await(queue, held);
        return queue.device->failed;
    }
    return SUCCESS;
}

/* Asking a capturing stream what it has done makes no sense, and spoils the capture. */
static int refuse_capturing(struct queue &queue)
{
    if (queue.capture == nullptr) {
        return capture_check_unsafe();
    }
    (void)capture_check_unsafe(); /* others may forbid it, too */
    capture_invalidate(*queue.capture);
    return CAPTURE_UNSUPPORTED;
}

int queue_synchronize(struct queue &queue, guard &held)
{
    int result = refuse_capturing(queue);
    if (result != SUCCESS) {
        return result;
    }
    struct device *device = queue.device;
    queue_await(queue, held);
    return device->failed;
}

int queue_query(struct queue &queue, guard &)
{
    int result = refuse_capturing(queue);
    if (result != SUCCESS) {
        return result;
    }
    if (queue.device->failed != SUCCESS) {
        return queue.device->failed;
    }
    return queue.last == nullptr || queue.last->done ? SUCCESS : NOT_READY;
}

void device_drain(struct device &device, guard &held)
{
    std::vector<std::shared_ptr<struct task>> lasts;
    for (struct queue *queue : all_queues) {
        if (queue->device == &device && queue->last != nullptr) {
            lasts.push_back(queue->last);
        }
    }
    for (const std::shared_ptr<struct task> &last : lasts) {
        await(last, held);
    }
}

/* -- events ---------------------------------------------------------------------------------------- */

static double now_ms()
{
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int event_record(struct event &event, struct queue &queue, guard &held)
{
    if (queue.capture != nullptr && queue.capture->invalidated) {
        return CAPTURE_INVALIDATED;
    }
    event.capture_id = 0;
    event.nodes.clear();
    if (queue.capture != nullptr) {
        event.capture_id = queue.capture->id;
        event.nodes = queue.frontier;
        return SUCCESS;
    }
    std::shared_ptr<double> completed_ms = std::make_shared<double>(0);
    int result = queue_submit(queue, held, NODE_MEMSET, [completed_ms](struct queue &) {
        *completed_ms = now_ms();
        return (int)SUCCESS;
    });
    event.recorded = queue.last;
    event.completed_ms = completed_ms;
    return result;
}

/* The waiting stream comes to take part in the event's capture. */
static int wait_captured(struct event &event, struct queue &queue)
{
    struct capture *capture = capture_by_id(event.capture_id);
    if (capture == nullptr) { /* that capture has ended */
        if (queue.capture != nullptr) {
            capture_invalidate(*queue.capture);
        }
        return CAPTURED_EVENT;
    }
    if (queue.capture != nullptr && queue.capture != capture) {
        capture_invalidate(*capture);
        capture_invalidate(*queue.capture);
        return CAPTURE_MERGE;
    }
    if (queue.legacy) {
        capture_invalidate(*capture);
        return CAPTURE_IMPLICIT;
    }
    if (capture->invalidated) {
        return CAPTURE_INVALIDATED;
    }
    queue.capture = capture;
    capture->members.insert(&queue);
    for (struct node *node : event.nodes) {
        bool known = false;
        for (struct node *other : queue.frontier) {
            known = known || other == node;
        }
        if (!known) {
            queue.frontier.push_back(node);
        }
    }
    return SUCCESS;
}

int event_wait(struct event &event, struct queue &queue, guard &)
{
    if (event.capture_id != 0) {
        return wait_captured(event, queue);
    }
    if (queue.capture != nullptr) {
        capture_invalidate(*queue.capture);
        return CAPTURE_ISOLATION; /* what was recorded outside of the capture */
    }
    if (event.recorded != nullptr && !event.recorded->done) {
        queue.next_waits.push_back(event.recorded);
        push(queue,
             [](struct simgpu::queue &) { return (int)SUCCESS; }); /* the stream is not done before the event is */
    }
    return SUCCESS;
}

static int refuse_captured(struct event &event)
{
    struct capture *capture = capture_by_id(event.capture_id);
    int unsafe = capture_check_unsafe();
    if (event.capture_id == 0) {
        return unsafe;
    }
    if (capture != nullptr) {
        capture_invalidate(*capture);
    }
    return CAPTURED_EVENT;
}

int event_query(struct event &event, guard &)
{
    int result = refuse_captured(event);
    if (result != SUCCESS) {
        return result;
    }
    return event.recorded == nullptr || event.recorded->done ? SUCCESS : NOT_READY;
}

int event_synchronize(struct event &event, guard &held)
{
    int result = refuse_captured(event);
    if (result == SUCCESS) {
        std::shared_ptr<struct task> task = event.recorded;
        await(task, held);
    }
    return result;
}

} // namespace simgpu
