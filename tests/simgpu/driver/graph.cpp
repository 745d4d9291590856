/* SPDX-License-Identifier: Apache-2.0 */
#include <fenv.h>
#include <map>

#include "simgpu/driver/driver.h"

namespace simgpu
{

struct user_object *object_create(void *pointer, void (*destroy)(void *), unsigned references)
{
    struct user_object *object = new simgpu::user_object{pointer, destroy, references};
    handle_add(object);
    return object;
}

void object_release(struct user_object *object, unsigned references)
{
    object->references -= references;
    if (object->references == 0) {
        handle_remove(object);
        std::thread(object->destroy, object->pointer).detach();
        delete object;
    }
}

/* Where the last graph, executable or launch in flight lets go of it: with or without the lock. */
graph_body::~graph_body()
{
    if (objects.empty()) {
        return;
    }
    std::vector<struct user_object *> dropped;
    dropped.swap(objects);
    std::thread([dropped] {
        guard held(driver_lock);
        for (struct user_object *object : dropped) {
            object_release(object, 1);
        }
    }).detach();
}

/* -- running --------------------------------------------------------------------------------------- */

/* A launch under way. Nodes that nothing orders run at the same time, as on a device: each branch is a chain of nodes with a thread of
 * its own, and waits for what else they depend on. */
struct run {
    const struct graph_body *body;
    std::vector<std::vector<size_t>> branches; /* nodes by number, in the order in which they were recorded */
    std::map<const struct node *, size_t> numbers;
    std::mutex lock;
    std::condition_variable progress;
    std::vector<bool> done;
    int failed = SUCCESS; /* the first failure; what comes after it is left out */
};

/* A node goes on with the branch that ends in one that it depends on, if there is one. */
static void branches_find(struct run &run)
{
    std::map<const struct node *, size_t> ends; /* a branch's last node, and its number */
    for (size_t at = 0; at < run.body->nodes.size(); at++) {
        const struct node *node = run.body->nodes[at].get();
        size_t branch = run.branches.size();
        for (const struct node *before : node->depends) {
            auto found = ends.find(before);
            if (found != ends.end() && found->second < branch) {
                branch = found->second;
            }
        }
        if (branch == run.branches.size()) {
            run.branches.emplace_back();
        } else {
            ends.erase(run.body->nodes[run.branches[branch].back()].get());
        }
        run.branches[branch].push_back(at);
        ends[node] = branch;
        run.numbers[node] = at;
    }
    run.done.resize(run.body->nodes.size());
}

static bool ready(const struct run &run, const struct node &node)
{
    for (const struct node *before : node.depends) {
        if (!run.done[run.numbers.at(before)]) {
            return false;
        }
    }
    return true;
}

static void branch_run(struct run &run, size_t branch, struct queue &on)
{
    for (size_t number : run.branches[branch]) {
        const struct node &node = *run.body->nodes[number];
        std::unique_lock<std::mutex> held(run.lock);
        while (!ready(run, node)) {
            run.progress.wait(held);
        }
        int failed = run.failed;
        held.unlock();
        failed = failed == SUCCESS ? node.body(on) : failed;
        held.lock();
        run.failed = run.failed == SUCCESS ? failed : run.failed;
        run.done[number] = true;
        run.progress.notify_all();
    }
}

static void branch_thread(struct run *run, size_t branch, struct device *device)
{
    fesetenv(FE_DFL_ENV); /* as a stream's thread does */
    struct queue on = {};
    on.device = device;
    branch_run(*run, branch, on);
    machine_release(on.machine);
}

static int graph_run(const struct graph_body &body, struct queue &on)
{
    struct run run;
    run.body = &body;
    branches_find(run);
    std::vector<std::thread> others;
    for (size_t branch = 1; branch < run.branches.size(); branch++) {
        others.emplace_back(branch_thread, &run, branch, on.device);
    }
    if (!run.branches.empty()) {
        branch_run(run, 0, on);
    }
    for (std::thread &other : others) {
        other.join();
    }
    return run.failed;
}

struct launch_counts launch_counts;

/* "Each launch is ordered behind both any previous work in this stream and any previous launches of this graph" (CUDA Driver
 * API, cuGraphLaunch). */
int graph_launch(struct executable &executable, struct queue &queue, guard &held)
{
    std::shared_ptr<struct graph_body> body = executable.body;
    bool recorded = queue.capture != nullptr;
    if (!recorded && executable.last != nullptr && !executable.last->done) {
        queue.next_waits.push_back(executable.last);
    }
    int result = queue_submit(queue, held, NODE_GRAPH, [body](struct queue &on) { return graph_run(*body, on); });
    if (!recorded && result == SUCCESS) {
        executable.last = queue.last;
        launch_counts.all++;
        launch_counts.holding += body->objects.empty() ? 0 : 1;
    }
    return result;
}

} // namespace simgpu
