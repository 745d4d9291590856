/* SPDX-License-Identifier: Apache-2.0 */
#include "device/host/graph.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/room.h"
#include "device/host/capture.h"
#include "device/host/frame.h"
#include "device/host/queue.h"
#include "device/host/stream.h"

/* A launch that has its ticket and has not begun. */
struct launch {
    tutti_host_graph *graph;
    struct queue *queue; /* where it is enqueued, for comparison only; NULL: on the NULL stream */
    uint64_t ticket;
    struct launch *next;
};

struct tutti_host_graph {
    /* Fixed once the capture has ended; a launch reads them without a lock. */
    struct task *nodes;
    uint64_t count;
    size_t capacity;
    uint64_t functions, collectives, children, edges;

    _Atomic uint32_t references; /* the user, launches, parents */
    pthread_mutex_t mutex;       /* everything below */
    pthread_cond_t turn;
    uint64_t ticket_next;    /* for the next launch */
    uint64_t ticket_serving; /* the launch whose turn it is */
    bool running;            /* a launch, or a parent */
    struct launch *first;    /* the waiting launches, by ticket */
    struct launch **last_next;
};

tutti_host_graph *graph_create(void)
{
    tutti_host_graph *graph = calloc(1, sizeof(*graph));
    if (graph == NULL) {
        return NULL;
    }
    atomic_init(&graph->references, 1);
    graph->last_next = &graph->first;
    (void)pthread_mutex_init(&graph->mutex, NULL);
    (void)pthread_cond_init(&graph->turn, NULL);
    return graph;
}

bool graph_reserve(tutti_host_graph *graph)
{
    return room_for(&graph->nodes, &graph->capacity, graph->count + 1, sizeof(*graph->nodes));
}

uint32_t graph_append(tutti_host_graph *graph, const struct task *task, enum task_kind kind, uint32_t edges)
{
    graph->nodes[graph->count] = *task;
    graph->edges += edges;
    graph->functions += kind == TASK_FUNCTION;
    graph->collectives += kind == TASK_COLLECTIVE;
    graph->children += kind == TASK_CHILD;
    return (uint32_t)graph->count++;
}

void graph_complete(tutti_host_graph *graph)
{
    if (graph->count == 0 || graph->count == graph->capacity) {
        return;
    }
    struct task *nodes = realloc(graph->nodes, graph->count * sizeof(*nodes));
    if (nodes != NULL) {
        graph->nodes = nodes;
        graph->capacity = graph->count;
    }
}

static void graph_retain(tutti_host_graph *graph)
{
    (void)atomic_fetch_add_explicit(&graph->references, 1, memory_order_relaxed);
}

void graph_release(tutti_host_graph *graph)
{
    if (atomic_fetch_sub_explicit(&graph->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (uint64_t i = 0; i < graph->count; i++) {
        task_drop(&graph->nodes[i]);
    }
    (void)pthread_cond_destroy(&graph->turn);
    (void)pthread_mutex_destroy(&graph->mutex);
#ifndef __clang_analyzer__ /* it knows no reference counts and takes every release for the last */
    free(graph->nodes);
    free(graph);
#endif
}

void tutti_host_graph_destroy(tutti_host_graph *graph)
{
    if (graph != NULL) {
        graph_release(graph);
    }
}

/* -- running --------------------------------------------------------------------------------- */

/* All nodes run whatever fails: work behind a failed collective runs on a stream, too. Returns the first failure,
 * with its sentence as the thread's last. */
static tutti_status run_nodes(const tutti_host_graph *graph)
{
    tutti_status first = TUTTI_OK;
    char sentence[ERROR_SENTENCE_BYTES];
    struct frame frame;
    frame_push(&frame, graph);
    const struct task *end = graph->nodes + graph->count;
    for (const struct task *node = graph->nodes; node < end; node++) {
        tutti_status status = task_run(node);
        if (status != TUTTI_OK && first == TUTTI_OK) {
            first = status;
            memcpy(sentence, tutti_last_error(), sizeof(sentence));
        }
    }
    frame_pop(&frame);
    return first == TUTTI_OK ? TUTTI_OK : error_set(first, "%s", sentence);
}

static tutti_status run_launch(struct launch *launch)
{
    tutti_host_graph *graph = launch->graph;
    (void)pthread_mutex_lock(&graph->mutex);
    while (graph->running || graph->ticket_serving != launch->ticket) {
        (void)pthread_cond_wait(&graph->turn, &graph->mutex);
    }
    graph->running = true;
    graph->first = launch->next; /* tickets are served in order: this launch is the first */
    if (graph->first == NULL) {
        graph->last_next = &graph->first;
    }
    (void)pthread_mutex_unlock(&graph->mutex);

    tutti_status status = run_nodes(graph);

    (void)pthread_mutex_lock(&graph->mutex);
    graph->running = false;
    graph->ticket_serving++;
    (void)pthread_cond_broadcast(&graph->turn);
    (void)pthread_mutex_unlock(&graph->mutex);
    return status;
}

static tutti_status run_on_stream(void *payload)
{
    return run_launch(payload);
}

static void drop_on_stream(void *payload)
{
    struct launch *launch = payload;
    graph_release(launch->graph);
    free(launch);
}

static tutti_status run_child(void *payload)
{
    tutti_host_graph *graph = payload;
    if (frame_inside(graph)) {
        return error_set(TUTTI_ERR_ARGUMENT, "a function of a graph launched, on the NULL stream, a graph that "
                                             "contains its own; it would wait for itself and was left out");
    }
    (void)pthread_mutex_lock(&graph->mutex);
    while (graph->running) {
        (void)pthread_cond_wait(&graph->turn, &graph->mutex);
    }
    graph->running = true;
    (void)pthread_mutex_unlock(&graph->mutex);

    tutti_status status = run_nodes(graph);

    (void)pthread_mutex_lock(&graph->mutex);
    graph->running = false;
    (void)pthread_cond_broadcast(&graph->turn);
    (void)pthread_mutex_unlock(&graph->mutex);
    return status;
}

static void drop_child(void *payload)
{
    graph_release(payload);
}

/* -- launching ------------------------------------------------------------------------------- */

/* With the mutex held. */
static void take_ticket(struct launch *launch)
{
    tutti_host_graph *graph = launch->graph;
    launch->ticket = graph->ticket_next++;
    launch->next = NULL;
    *graph->last_next = launch;
    graph->last_next = &launch->next;
}

/* With the mutex held: whether a launch by this thread, here and now, would wait for the thread itself. */
static bool waits_for_itself(const tutti_host_graph *graph)
{
    if (frame_inside(graph)) {
        return true;
    }
    for (const struct launch *launch = graph->first; launch != NULL; launch = launch->next) {
        if (launch->queue != NULL && frame_inside(launch->queue)) {
            return true;
        }
    }
    return false;
}

static tutti_status launch_here(tutti_host_graph *graph)
{
    struct launch launch = {graph, NULL, 0, NULL};
    (void)pthread_mutex_lock(&graph->mutex);
    if (waits_for_itself(graph)) {
        (void)pthread_mutex_unlock(&graph->mutex);
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_graph_launch: on the NULL stream it would wait for an earlier "
                                             "launch of the graph, which waits for the function that makes this call; "
                                             "launch on a stream");
    }
    graph_retain(graph); /* a node may destroy the graph */
    take_ticket(&launch);
    (void)pthread_mutex_unlock(&graph->mutex);
    tutti_status status = run_launch(&launch);
    graph_release(graph);
    return status;
}

static tutti_status launch_into_capture(tutti_host_graph *graph, struct capture_part *part, bool *captured)
{
    const struct task task = {run_child, NULL, drop_child, graph};
    const struct task_label label = {"tutti_host_graph_launch", NULL, NULL, TASK_CHILD};
    graph_retain(graph);
    tutti_status status = capture_submit(part, &task, &label, captured);
    if (!*captured) {
        graph_release(graph);
    }
    return status;
}

tutti_status tutti_host_graph_launch(tutti_host_graph *graph, tutti_host_stream *stream)
{
    if (graph == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_graph_launch: graph is NULL");
    }
    if (stream == NULL) {
        return launch_here(graph);
    }
    struct capture_part *part = stream_part(stream);
    if (capture_part_open(part)) {
        bool captured = false;
        tutti_status status = launch_into_capture(graph, part, &captured);
        if (status != TUTTI_OK || captured) {
            return status;
        }
    }
    struct launch *launch = malloc(sizeof(*launch));
    if (launch == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "tutti_host_graph_launch: no memory for a launch");
    }
    *launch = (struct launch){graph, stream_queue(stream), 0, NULL};
    const struct task task = {run_on_stream, NULL, drop_on_stream, launch};
    graph_retain(graph);
    /* Ticket and place in the queue are taken together, or two launches could wait for each other. The task cannot get
     * past its turn before the mutex is free. */
    (void)pthread_mutex_lock(&graph->mutex);
    tutti_status status = queue_push(launch->queue, &task);
    if (status == TUTTI_OK) {
        take_ticket(launch);
    }
    (void)pthread_mutex_unlock(&graph->mutex);
    if (status != TUTTI_OK) {
        drop_on_stream(launch);
    }
    return status;
}

tutti_status tutti_host_graph_info(const tutti_host_graph *graph, tutti_host_graph_info_t *info)
{
    if (graph == NULL || info == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_graph_info: %s is NULL", graph == NULL ? "graph" : "info");
    }
    if (info->struct_bytes < sizeof(*info)) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         "tutti_host_graph_info: info->struct_bytes is %zu; set it to sizeof(*info), %zu",
                         info->struct_bytes, sizeof(*info));
    }
    info->nodes = graph->count;
    info->functions = graph->functions;
    info->collectives = graph->collectives;
    info->children = graph->children;
    info->edges = graph->edges;
    info->memory_bytes = sizeof(*graph) + graph->capacity * sizeof(*graph->nodes);
    pthread_mutex_t *mutex = (pthread_mutex_t *)(uintptr_t)&graph->mutex; /* const to the caller; the count changes */
    (void)pthread_mutex_lock(mutex);
    info->launches = graph->ticket_serving;
    (void)pthread_mutex_unlock(mutex);
    return TUTTI_OK;
}
