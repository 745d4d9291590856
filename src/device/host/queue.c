/* SPDX-License-Identifier: Apache-2.0 */
#include "device/host/queue.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "device/host/frame.h"

#define CAPACITY_FIRST 64u /* tasks; a power of two, as every capacity is */

struct queue {
    pthread_mutex_t mutex;   /* everything below but the atomics */
    pthread_cond_t work;     /* the worker sleeps here */
    pthread_cond_t progress; /* whoever waits for a position sleeps here */
    struct task *ring;       /* the task of position p + 1 is at p & (capacity - 1) */
    uint64_t capacity;
    uint64_t enqueued;
    _Atomic uint64_t completed; /* written under the mutex, read without */
    uint64_t wake_at;           /* the smallest position that a sleeper waits for */
    bool executing;             /* somebody runs the task of position completed + 1 */
    bool worker_asleep;         /* and not yet signalled */
    bool closing;
    _Atomic uint32_t references; /* creator, worker, events' marks, helpers */
    pthread_t worker;
    pid_t process;
};

static uint64_t completed(const struct queue *queue)
{
    return atomic_load_explicit(&queue->completed, memory_order_acquire);
}

/* With the mutex held and nobody executing. The mutex is released while the task runs. */
static void execute_next(struct queue *queue)
{
    uint64_t position = completed(queue);
    struct task task = queue->ring[position & (queue->capacity - 1)];
    queue->executing = true;
    (void)pthread_mutex_unlock(&queue->mutex);

    struct frame frame;
    frame_push(&frame, queue);
    (void)task_run(&task); /* a collective's failure is its communicator's, which keeps it */
    task_drop(&task);
    frame_pop(&frame);

    (void)pthread_mutex_lock(&queue->mutex);
    queue->executing = false;
    atomic_store_explicit(&queue->completed, position + 1, memory_order_release);
    if (position + 1 >= queue->wake_at) {
        queue->wake_at = UINT64_MAX; /* those who sleep on set it again */
        (void)pthread_cond_broadcast(&queue->progress);
    }
}

static bool worker_needed(const struct queue *queue)
{
    return !queue->executing && (queue->closing || completed(queue) < queue->enqueued);
}

/* With the mutex held: decides whether the worker must be signalled. The signal itself comes after the unlock, or the
 * worker would wake only to wait for the mutex; by then a task may have destroyed the stream, hence the reference. */
static bool worker_claim(struct queue *queue)
{
    if (!queue->worker_asleep || !worker_needed(queue)) {
        return false;
    }
    queue->worker_asleep = false;
    queue_retain(queue);
    return true;
}

static void worker_signal(struct queue *queue, bool claimed)
{
    if (claimed) {
        (void)pthread_cond_signal(&queue->work);
        queue_release(queue);
    }
}

static void *worker_main(void *argument)
{
    struct queue *queue = argument;
    (void)pthread_mutex_lock(&queue->mutex);
    for (;;) {
        while (!queue->executing && completed(queue) < queue->enqueued) {
            execute_next(queue);
        }
        if (queue->closing && worker_needed(queue)) {
            break;
        }
        queue->worker_asleep = true;
        (void)pthread_cond_wait(&queue->work, &queue->mutex);
        queue->worker_asleep = false;
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    queue_release(queue);
    return NULL;
}

/* The host program's signal handlers must never run on a thread that it does not know. */
static int worker_start(struct queue *queue)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(&queue->worker, NULL, worker_main, queue);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (number == 0) {
        (void)pthread_setname_np(queue->worker, "tutti-stream");
    }
    return number;
}

tutti_status queue_create(struct queue **out)
{
    tutti_status status = TUTTI_OK;
    struct queue *queue = calloc(1, sizeof(*queue));
    if (queue == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "tutti_host_stream_create: no memory for a stream");
    }
    queue->ring = malloc(CAPACITY_FIRST * sizeof(*queue->ring));
    if (queue->ring == NULL) {
        status = error_set(TUTTI_ERR_SYSTEM, "tutti_host_stream_create: no memory for a stream's queue");
        goto free_queue;
    }
    queue->capacity = CAPACITY_FIRST;
    queue->wake_at = UINT64_MAX;
    queue->process = getpid();
    atomic_init(&queue->references, 2);
    (void)pthread_mutex_init(&queue->mutex, NULL);
    (void)pthread_cond_init(&queue->work, NULL);
    (void)pthread_cond_init(&queue->progress, NULL);
    int number = worker_start(queue);
    if (number != 0) {
        errno = number;
        status = error_set_errno("tutti_host_stream_create: the stream's thread could not be started");
        goto destroy_locks;
    }
    *out = queue;
    return TUTTI_OK;

destroy_locks:
    (void)pthread_cond_destroy(&queue->progress);
    (void)pthread_cond_destroy(&queue->work);
    (void)pthread_mutex_destroy(&queue->mutex);
    free(queue->ring);
free_queue:
    free(queue);
    return status;
}

void queue_retain(struct queue *queue)
{
    (void)atomic_fetch_add_explicit(&queue->references, 1, memory_order_relaxed);
}

void queue_release(struct queue *queue)
{
    if (atomic_fetch_sub_explicit(&queue->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    (void)pthread_cond_destroy(&queue->progress);
    (void)pthread_cond_destroy(&queue->work);
    (void)pthread_mutex_destroy(&queue->mutex);
#ifndef __clang_analyzer__ /* it knows no reference counts and takes every release for the last */
    free(queue->ring);
    free(queue);
#endif
}

void queue_close(struct queue *queue)
{
    if (getpid() != queue->process) {
        return; /* after fork: no worker to join, and the mutex may have been held by a thread that is gone */
    }
    bool inside = frame_inside(queue);
    if (!inside) {
        queue_wait(queue, queue_end(queue));
    }
    (void)pthread_mutex_lock(&queue->mutex);
    queue->closing = true;
    bool claimed = worker_claim(queue);
    pthread_t worker = queue->worker;
    (void)pthread_mutex_unlock(&queue->mutex);
    worker_signal(queue, claimed);
    if (inside) {
        (void)pthread_detach(worker);
    } else {
        (void)pthread_join(worker, NULL);
    }
    queue_release(queue);
}

/* With the mutex held. */
static bool grow(struct queue *queue)
{
    uint64_t capacity = queue->capacity * 2;
    struct task *ring = malloc(capacity * sizeof(*ring));
    if (ring == NULL) {
        return false;
    }
    for (uint64_t position = completed(queue); position < queue->enqueued; position++) {
        ring[position & (capacity - 1)] = queue->ring[position & (queue->capacity - 1)];
    }
    free(queue->ring);
    queue->ring = ring;
    queue->capacity = capacity;
    return true;
}

tutti_status queue_push(struct queue *queue, const struct task *task)
{
    (void)pthread_mutex_lock(&queue->mutex);
    if (queue->enqueued - completed(queue) == queue->capacity && !grow(queue)) {
        unsigned long long pending = queue->capacity;
        (void)pthread_mutex_unlock(&queue->mutex);
        return error_set(TUTTI_ERR_SYSTEM,
                         "no memory to enqueue more than the %llu operations that are pending on the stream", pending);
    }
    queue->ring[queue->enqueued & (queue->capacity - 1)] = *task;
    queue->enqueued++;
    bool claimed = worker_claim(queue);
    (void)pthread_mutex_unlock(&queue->mutex);
    worker_signal(queue, claimed);
    return TUTTI_OK;
}

uint64_t queue_end(struct queue *queue)
{
    (void)pthread_mutex_lock(&queue->mutex);
    uint64_t position = queue->enqueued;
    (void)pthread_mutex_unlock(&queue->mutex);
    return position;
}

bool queue_reached(const struct queue *queue, uint64_t position)
{
    return completed(queue) >= position;
}

/* With the mutex held: runs or sleeps until the position is reached. Says whether it ran anything. */
static void reach(struct queue *queue, uint64_t position)
{
    while (!queue_reached(queue, position)) {
        if (!queue->executing) {
            execute_next(queue);
            continue;
        }
        if (position < queue->wake_at) {
            queue->wake_at = position;
        }
        (void)pthread_cond_wait(&queue->progress, &queue->mutex);
    }
}

void queue_wait(struct queue *queue, uint64_t position)
{
    if (queue_reached(queue, position)) {
        return;
    }
    /* What fails in a task is not this thread's failure: its last sentence must survive the helping. */
    char sentence[ERROR_SENTENCE_BYTES];
    memcpy(sentence, tutti_last_error(), sizeof(sentence));
    queue_retain(queue); /* a task may destroy the stream */
    (void)pthread_mutex_lock(&queue->mutex);
    reach(queue, position);
    bool claimed = worker_claim(queue); /* tasks behind our position are the worker's */
    (void)pthread_mutex_unlock(&queue->mutex);
    worker_signal(queue, claimed);
    queue_release(queue);
    if (strcmp(sentence, tutti_last_error()) != 0) {
        (void)error_set(TUTTI_OK, "%s", sentence);
    }
}
