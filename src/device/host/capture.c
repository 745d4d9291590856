/* SPDX-License-Identifier: Apache-2.0 */
#include "device/host/capture.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/room.h"
#include "device/host/graph.h"

enum state { ACTIVE, INVALIDATED, OVER };

struct node {
    uint64_t edges_end; /* its edges end here in the capture's list, and begin where those of the node before end */
    const char *name;
    bool joined; /* the stream on which the capture began ends behind it */
};

struct chain {
    const void *key;
    struct dependency last;
};

struct capture {
    struct capture *older, *newer; /* among the open ones; the list holds a reference */
    uint32_t references;
    enum state state;
    tutti_host_capture_mode mode;
    uint64_t id;
    uint64_t thread; /* that began it, by thread_number() */
    pid_t thread_id; /* the same for sentences */

    struct capture_part **parts; /* by track, [0] is where it began; NULL: the stream was destroyed */
    uint32_t part_count;
    size_t part_capacity;

    tutti_host_graph *graph;
    struct node *nodes;
    uint64_t node_count;
    size_t node_capacity;
    uint32_t *edges; /* the earlier node of each */
    uint64_t edge_count;
    size_t edge_capacity;
    struct chain *chains;
    uint64_t chain_count;
    size_t chain_capacity;

    char reason[256];  /* what invalidated it */
    char refused[128]; /* the first operation refused afterwards; "" if there was none */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct capture *oldest, *newest;
static _Atomic uint32_t open_count; /* of the list; lets calls beside no capture pass without the lock */
static uint64_t last_id;

static _Thread_local tutti_host_capture_mode thread_mode = TUTTI_HOST_CAPTURE_GLOBAL;

static const char *const mode_names[] = {"global", "thread-local", "relaxed"};

/* pthread_t and thread ids are used again after a thread has ended; this number is not. */
static uint64_t thread_number(void)
{
    static _Atomic uint64_t last;
    static _Thread_local uint64_t number;
    if (number == 0) {
        number = 1 + atomic_fetch_add_explicit(&last, 1, memory_order_relaxed);
    }
    return number;
}

static struct capture *capture_of(struct capture_part *part)
{
    return part == NULL ? NULL : atomic_load_explicit(&part->capture, memory_order_relaxed);
}

static struct capture *marked_capture(struct capture_mark *mark)
{
    return mark == NULL ? NULL : atomic_load_explicit(&mark->capture, memory_order_relaxed);
}

/* -- life ------------------------------------------------------------------------------------ */

static void release(struct capture *capture)
{
    if (--capture->references == 0) {
        free(capture);
    }
}

static void join_track(struct capture *capture, struct capture_part *part)
{
    part->track = capture->part_count;
    capture->parts[capture->part_count++] = part;
    atomic_store_explicit(&part->capture, capture, memory_order_release);
}

static bool reserve_track(struct capture *capture)
{
    return room_for(&capture->parts, &capture->part_capacity, (size_t)capture->part_count + 1,
                    sizeof(struct capture_part *));
}

/* The streams leave, and what is left is a name for captured events. Returns the graph, for the caller to hand out, or to
 * release once the lock is free: a payload's drop may call anything. */
static tutti_host_graph *finish(struct capture *capture)
{
    for (uint32_t track = 0; track < capture->part_count; track++) {
        if (capture->parts[track] != NULL) {
            capture->parts[track]->dependencies.count = 0;
            atomic_store_explicit(&capture->parts[track]->capture, NULL, memory_order_release);
        }
    }
    *(capture->older != NULL ? &capture->older->newer : &oldest) = capture->newer;
    *(capture->newer != NULL ? &capture->newer->older : &newest) = capture->older;
    (void)atomic_fetch_sub_explicit(&open_count, 1, memory_order_relaxed);
    free(capture->parts);
    free(capture->nodes);
    free(capture->edges);
    free(capture->chains);
    tutti_host_graph *graph = capture->graph;
    capture->state = OVER;
    release(capture);
    return graph;
}

static void opened(struct capture *capture, struct capture_part *part)
{
    capture->id = ++last_id;
    capture->older = newest;
    *(newest != NULL ? &newest->newer : &oldest) = capture;
    newest = capture;
    (void)atomic_fetch_add_explicit(&open_count, 1, memory_order_relaxed);
    part->dependencies.count = 0;
    join_track(capture, part);
}

/* -- refusing -------------------------------------------------------------------------------- */

/* Invalidates an active capture: `why` completes "capture 7 was invalidated by <call> of thread 12, ". An
 * invalidated one only remembers the first call that it refuses afterwards. */
static void invalidate(struct capture *capture, const char *call, const char *why)
{
    if (capture->state == ACTIVE) {
        capture->state = INVALIDATED;
        (void)snprintf(capture->reason, sizeof(capture->reason), "%s of thread %d, %s", call, (int)gettid(), why);
    } else if (capture->state == INVALIDATED && capture->refused[0] == '\0') {
        (void)snprintf(capture->refused, sizeof(capture->refused), "%s of thread %d", call, (int)gettid());
    }
}

/* A use of an invalidated capture. */
static tutti_status refuse_invalidated(struct capture *capture, const char *call)
{
    invalidate(capture, call, "");
    return error_set(TUTTI_ERR_CAPTURE,
                     "%s: capture %llu was invalidated by %s; end it with tutti_host_capture_end, then capture again",
                     call, (unsigned long long)capture->id, capture->reason);
}

static tutti_status no_memory(const char *call)
{
    return error_set(TUTTI_ERR_SYSTEM, "%s: no memory to record it; the capture goes on without it", call);
}

/* CUDA's rule (cuThreadExchangeStreamCaptureMode). A thread in mode global is kept from unsafe calls by its own captures
 * unless they were begun relaxed, and by the global captures of other threads; a thread in mode thread-local by its own
 * alone; a relaxed thread by none. */
static bool forbids(const struct capture *capture)
{
    if (thread_mode == TUTTI_HOST_CAPTURE_RELAXED) {
        return false;
    }
    if (capture->thread == thread_number()) {
        return capture->mode != TUTTI_HOST_CAPTURE_RELAXED;
    }
    return thread_mode == TUTTI_HOST_CAPTURE_GLOBAL && capture->mode == TUTTI_HOST_CAPTURE_GLOBAL;
}

/* The call waits for recorded work, or asks about it: whatever the modes, it cannot be answered (CUDA:
 * STREAM_CAPTURE_UNSUPPORTED for streams, CAPTURED_EVENT for events). */
static tutti_status refuse_recorded(const char *call, struct capture *capture, bool stream)
{
    unsigned long long id = capture->id;
    if (capture->state == OVER) {
        return error_set(TUTTI_ERR_CAPTURE,
                         "%s: the event was last recorded in capture %llu, which is over; record it "
                         "again first",
                         call, id);
    }
    if (capture->state == INVALIDATED) {
        return refuse_invalidated(capture, call);
    }
    invalidate(capture, call,
               stream ? "which cannot wait for a stream that is capturing or ask about it"
                      : "which cannot wait for a captured event or ask about it");
    return error_set(TUTTI_ERR_CAPTURE,
                     "%s: the %s belongs to capture %llu, where work is recorded and does not run; this "
                     "call has invalidated the capture",
                     call, stream ? "stream" : "event", id);
}

static tutti_status refuse_unsafe(const char *call, struct capture *capture)
{
    char why[160];
    bool own = capture->thread == thread_number();
    (void)snprintf(why, sizeof(why), "which a capture in mode %s forbids to %s", mode_names[capture->mode],
                   own ? "the thread that began it" : "every thread");
    invalidate(capture, call, why);
    return error_set(
        TUTTI_ERR_CAPTURE,
        "%s: forbidden while capture %llu is open (mode %s, begun by %s), which is now invalid; a thread that "
        "must wait or ask meanwhile sets itself to relaxed with tutti_host_capture_mode_exchange",
        call, (unsigned long long)capture->id, mode_names[capture->mode], own ? "this thread" : "another thread");
}

tutti_status capture_permit(const char *call, struct capture_part *part, struct capture_mark *mark)
{
    bool touched = capture_part_open(part) || (mark != NULL && capture_mark_open(mark));
    if (!touched && atomic_load_explicit(&open_count, memory_order_acquire) == 0) {
        return TUTTI_OK;
    }
    tutti_status status = TUTTI_OK;
    (void)pthread_mutex_lock(&lock);
    struct capture *about = part != NULL ? capture_of(part) : marked_capture(mark);
    for (struct capture *capture = oldest; capture != NULL; capture = capture->newer) {
        if (capture != about && forbids(capture)) {
            status = refuse_unsafe(call, capture);
        }
    }
    if (about != NULL) {
        status = refuse_recorded(call, about, part != NULL); /* last: its sentence says more */
    }
    (void)pthread_mutex_unlock(&lock);
    return status;
}

/* -- recording ------------------------------------------------------------------------------- */

/* The chain with this key, or a new one for which room is reserved. It moves to the front: few are in use at a time. */
static struct chain *chain_find(struct capture *capture, const void *key, bool *found)
{
    for (uint64_t i = 0; i < capture->chain_count; i++) {
        if (capture->chains[i].key == key) {
            struct chain chain = capture->chains[i];
            memmove(&capture->chains[1], &capture->chains[0], i * sizeof(chain));
            capture->chains[0] = chain;
            *found = true;
            return &capture->chains[0];
        }
    }
    *found = false;
    return &capture->chains[capture->chain_count];
}

static bool reserve_node(struct capture *capture, struct capture_part *part)
{
    return room_for(&capture->nodes, &capture->node_capacity, capture->node_count + 1, sizeof(struct node)) &&
           room_for(&capture->edges, &capture->edge_capacity, capture->edge_count + part->dependencies.count + 1,
                    sizeof(uint32_t)) &&
           room_for(&capture->chains, &capture->chain_capacity, capture->chain_count + 1, sizeof(struct chain)) &&
           dependencies_reserve(&part->dependencies, 1) && graph_reserve(capture->graph);
}

static void add_node(struct capture *capture, struct capture_part *part, const struct task *task,
                     const struct task_label *label)
{
    uint64_t edges_begin = capture->edge_count;
    for (uint32_t i = 0; i < part->dependencies.count; i++) {
        capture->edges[capture->edge_count++] = part->dependencies.items[i].node;
    }
    struct dependency self = {part->track, (uint32_t)capture->node_count};
    if (label->chain != NULL) {
        bool found = false;
        struct chain *chain = chain_find(capture, label->chain, &found);
        if (!found) {
            chain->key = label->chain;
            capture->chain_count++;
        } else if (!dependencies_cover(&part->dependencies, chain->last)) {
            capture->edges[capture->edge_count++] = chain->last.node;
        }
        chain->last = self;
    }
    capture->nodes[capture->node_count++] = (struct node){capture->edge_count, label->name, false};
    (void)graph_append(capture->graph, task, label->kind, (uint32_t)(capture->edge_count - edges_begin));
    dependencies_set(&part->dependencies, self);
}

tutti_status capture_submit(struct capture_part *part, const struct task *task, const struct task_label *label,
                            bool *captured)
{
    tutti_status status = TUTTI_OK;
    (void)pthread_mutex_lock(&lock);
    struct capture *capture = capture_of(part);
    *captured = false;
    if (capture == NULL) {
        goto unlock;
    }
    if (capture->state == INVALIDATED) {
        status = refuse_invalidated(capture, label->name);
    } else if (capture->node_count == UINT32_MAX) {
        status = error_set(TUTTI_ERR_UNSUPPORTED, "%s: the capture is full, it holds %llu nodes", label->name,
                           (unsigned long long)capture->node_count);
    } else if (!reserve_node(capture, part)) {
        status = no_memory(label->name);
    } else {
        add_node(capture, part, task, label);
        if (label->recorded != NULL) {
            label->recorded(task->payload); /* before the lock is free, and another thread can end the capture */
        }
        *captured = true;
    }
unlock:
    (void)pthread_mutex_unlock(&lock);
    return status;
}

/* -- events ---------------------------------------------------------------------------------- */

static void mark_set(struct capture_mark *mark, struct capture *capture)
{
    struct capture *before = marked_capture(mark);
    if (capture != NULL) {
        capture->references++;
    }
    atomic_store_explicit(&mark->capture, capture, memory_order_release);
    if (before != NULL) {
        release(before);
    }
}

void capture_mark_clear(struct capture_mark *mark)
{
    if (!capture_mark_open(mark)) {
        dependencies_free(&mark->dependencies); /* nobody reads it: only marks that are open are read */
        return;
    }
    (void)pthread_mutex_lock(&lock);
    dependencies_free(&mark->dependencies);
    mark_set(mark, NULL);
    (void)pthread_mutex_unlock(&lock);
}

tutti_status capture_record(struct capture_part *part, struct capture_mark *mark, bool *captured)
{
    const char *call = "tutti_host_event_record";
    tutti_status status = TUTTI_OK;
    (void)pthread_mutex_lock(&lock);
    struct capture *capture = capture_of(part);
    *captured = false;
    if (capture == NULL) {
        goto unlock;
    }
    if (capture->state == INVALIDATED) {
        status = refuse_invalidated(capture, call);
    } else if (!dependencies_reserve(&mark->dependencies, part->dependencies.count)) {
        status = no_memory(call);
    } else {
        mark->dependencies.count = 0;
        dependencies_merge(&mark->dependencies, &part->dependencies);
        mark_set(mark, capture);
        *captured = true;
    }
unlock:
    (void)pthread_mutex_unlock(&lock);
    return status;
}

/* A fork if the stream is in no capture, else a join within the same one. */
static tutti_status wait_within(struct capture_part *part, struct capture_mark *mark, struct capture *target,
                                const char *call)
{
    bool fork = capture_of(part) == NULL;
    uint32_t count = mark->dependencies.count + (fork ? 0 : part->dependencies.count);
    if (!dependencies_reserve(&part->dependencies, count) || (fork && !reserve_track(target))) {
        return no_memory(call);
    }
    if (fork) {
        part->dependencies.count = 0;
        join_track(target, part);
    }
    dependencies_merge(&part->dependencies, &mark->dependencies);
    return TUTTI_OK;
}

/* The stream captures, and the event is none of its capture's (CUDA: STREAM_CAPTURE_MERGE for an event of another open
 * capture, STREAM_CAPTURE_ISOLATION for any other). `other` is the event's capture or NULL. */
static tutti_status refuse_foreign(struct capture *capture, struct capture *other, const char *call)
{
    unsigned long long id = capture->id;
    if (other != NULL && other->state != OVER) {
        unsigned long long other_id = other->id;
        char why[96];
        (void)snprintf(why, sizeof(why), "which would have merged it with capture %llu", other_id);
        invalidate(capture, call, why);
        (void)snprintf(why, sizeof(why), "which would have merged it with capture %llu", id);
        invalidate(other, call, why);
        return error_set(TUTTI_ERR_CAPTURE,
                         "%s: the stream is in capture %llu and the event in capture %llu, which cannot be "
                         "merged; both are now invalid",
                         call, id, other_id);
    }
    if (capture->state == INVALIDATED) {
        return refuse_invalidated(capture, call);
    }
    invalidate(capture, call, "which would have made the graph wait for an event from outside the capture");
    return error_set(TUTTI_ERR_CAPTURE,
                     "%s: the stream is in capture %llu, and the event was not recorded in it; a graph cannot "
                     "wait for what is outside of it; the capture is now invalid",
                     call, id);
}

tutti_status capture_wait(struct capture_part *part, struct capture_mark *mark, bool *captured)
{
    const char *call = "tutti_host_stream_wait_event";
    tutti_status status = TUTTI_OK;
    (void)pthread_mutex_lock(&lock);
    struct capture *capture = capture_of(part);
    struct capture *marked = marked_capture(mark);
    *captured = false;
    if (capture == NULL && marked == NULL) {
        goto unlock;
    }
    if (capture != NULL && capture != marked) {
        status = refuse_foreign(capture, marked, call);
    } else if (part == NULL || marked->state == OVER) {
        /* The NULL stream is the calling thread: it cannot become part of a graph. */
        status = refuse_recorded(call, marked, false);
    } else if (marked->state == INVALIDATED) {
        status = refuse_invalidated(marked, call);
    } else {
        status = wait_within(part, mark, marked, call);
        *captured = status == TUTTI_OK;
    }
unlock:
    (void)pthread_mutex_unlock(&lock);
    return status;
}

/* -- begin, end ------------------------------------------------------------------------------ */

tutti_status capture_begin(struct capture_part *part, tutti_host_capture_mode mode)
{
    const char *call = "tutti_host_capture_begin";
    tutti_status status = TUTTI_OK;
    if ((int)mode < TUTTI_HOST_CAPTURE_GLOBAL || (int)mode > TUTTI_HOST_CAPTURE_RELAXED) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: mode %d is none of global (0), thread-local (1), relaxed (2)", call,
                         (int)mode);
    }
    struct capture *capture = calloc(1, sizeof(*capture));
    tutti_host_graph *graph = graph_create();
    if (capture == NULL || graph == NULL || !reserve_track(capture)) {
        status = error_set(TUTTI_ERR_SYSTEM, "%s: no memory for a capture", call);
        goto free_capture;
    }
    *capture = (struct capture){.references = 1,
                                .state = ACTIVE,
                                .mode = mode,
                                .thread = thread_number(),
                                .thread_id = gettid(),
                                .parts = capture->parts,
                                .part_capacity = capture->part_capacity,
                                .graph = graph};
    (void)pthread_mutex_lock(&lock);
    struct capture *present = capture_of(part);
    if (present == NULL) {
        opened(capture, part);
    } else if (present->state == INVALIDATED) {
        status = refuse_invalidated(present, call);
    } else {
        status = error_set(TUTTI_ERR_CAPTURE, "%s: the stream takes part in capture %llu already; end that first", call,
                           (unsigned long long)present->id);
    }
    (void)pthread_mutex_unlock(&lock);
    if (present == NULL) {
        return TUTTI_OK;
    }

free_capture:
    if (graph != NULL) {
        graph_release(graph);
    }
    if (capture != NULL) {
        free(capture->parts);
        free(capture);
    }
    return status;
}

/* CUDA's STREAM_CAPTURE_UNJOINED: work that the capture's first stream does not wait for would have no place behind it
 * in the stream on which the graph is launched. Backwards from that stream's dependencies, every node must be met. */
static tutti_status check_joined(struct capture *capture)
{
    const struct dependencies *last = &capture->parts[0]->dependencies;
    for (uint32_t i = 0; i < last->count; i++) {
        capture->nodes[last->items[i].node].joined = true;
    }
    uint64_t left_out = 0;
    const struct node *first = NULL;
    for (uint64_t i = capture->node_count; i-- > 0;) {
        const struct node *node = &capture->nodes[i];
        if (!node->joined) {
            left_out++;
            first = node;
            continue;
        }
        for (uint64_t edge = i == 0 ? 0 : capture->nodes[i - 1].edges_end; edge < node->edges_end; edge++) {
            capture->nodes[capture->edges[edge]].joined = true;
        }
    }
    if (first == NULL) {
        return TUTTI_OK;
    }
    return error_set(
        TUTTI_ERR_CAPTURE,
        "tutti_host_capture_end: %llu of the capture's %llu operations, the first of them %s, were recorded on a "
        "forked stream that was not joined; before the end, the stream on which the capture began must wait "
        "for an event recorded behind them",
        (unsigned long long)left_out, (unsigned long long)capture->node_count, first->name);
}

/* Who may end it: CUDA's STREAM_CAPTURE_UNMATCHED and STREAM_CAPTURE_WRONG_THREAD. The capture stays open for
 * whoever began it: if it ended here, that thread would go on and run what it means to record. */
static tutti_status check_ender(struct capture *capture, const struct capture_part *part)
{
    const char *call = "tutti_host_capture_end";
    unsigned long long id = capture->id;
    if (part != capture->parts[0]) {
        invalidate(capture, call, "which named a forked stream and not the one on which the capture began");
        return error_set(TUTTI_ERR_CAPTURE,
                         "%s: capture %llu began on another stream; it is now invalid and must be ended there", call,
                         id);
    }
    if (capture->mode != TUTTI_HOST_CAPTURE_RELAXED && capture->thread != thread_number()) {
        invalidate(capture, call, "which did not begin it and ended it without mode relaxed");
        return error_set(TUTTI_ERR_CAPTURE,
                         "%s: capture %llu (mode %s) was begun by thread %d and cannot be ended by thread %d; it "
                         "is now invalid and must be ended by the thread that began it",
                         call, id, mode_names[capture->mode], (int)capture->thread_id, (int)gettid());
    }
    return TUTTI_OK;
}

static tutti_status describe_invalidated(const struct capture *capture)
{
    bool refused = capture->refused[0] != '\0';
    return error_set(TUTTI_ERR_CAPTURE, "tutti_host_capture_end: capture %llu was invalidated by %s; %s%s",
                     (unsigned long long)capture->id, capture->reason,
                     refused ? "the first operation refused afterwards was " : "no operation was refused afterwards",
                     refused ? capture->refused : "");
}

tutti_status capture_end(struct capture_part *part, tutti_host_graph **out)
{
    tutti_host_graph *graph = NULL;
    (void)pthread_mutex_lock(&lock);
    struct capture *capture = capture_of(part);
    tutti_status status = TUTTI_OK;
    if (capture == NULL) {
        status = error_set(TUTTI_ERR_CAPTURE, "tutti_host_capture_end: the stream is not capturing");
        goto unlock;
    }
    status = check_ender(capture, part);
    if (status != TUTTI_OK) {
        goto unlock;
    }
    status = capture->state == INVALIDATED ? describe_invalidated(capture) : check_joined(capture);
    graph = finish(capture);
unlock:
    (void)pthread_mutex_unlock(&lock);
    if (status == TUTTI_OK) {
        graph_complete(graph);
        *out = graph;
    } else if (graph != NULL) {
        graph_release(graph);
    }
    return status;
}

void capture_ask(struct capture_part *part, tutti_host_capture_status *status, uint64_t *id)
{
    *status = TUTTI_HOST_CAPTURE_NONE;
    *id = 0;
    if (!capture_part_open(part)) {
        return;
    }
    (void)pthread_mutex_lock(&lock);
    struct capture *capture = capture_of(part);
    if (capture != NULL) {
        *status = capture->state == ACTIVE ? TUTTI_HOST_CAPTURE_ACTIVE : TUTTI_HOST_CAPTURE_INVALIDATED;
        *id = capture->id;
    }
    (void)pthread_mutex_unlock(&lock);
}

void capture_part_destroy(struct capture_part *part)
{
    tutti_host_graph *graph = NULL;
    (void)pthread_mutex_lock(&lock);
    struct capture *capture = capture_of(part);
    if (capture != NULL) {
        invalidate(capture, "tutti_host_stream_destroy", "which destroyed a stream of the capture");
        capture->parts[part->track] = NULL;
        if (part->track == 0) {
            graph = finish(capture); /* nobody can end it any more */
        }
        atomic_store_explicit(&part->capture, NULL, memory_order_release);
    }
    dependencies_free(&part->dependencies);
    (void)pthread_mutex_unlock(&lock);
    if (graph != NULL) {
        graph_release(graph);
    }
}

tutti_status tutti_host_capture_mode_exchange(tutti_host_capture_mode *mode)
{
    const char *call = "tutti_host_capture_mode_exchange";
    if (mode == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: mode is NULL", call);
    }
    if ((int)*mode < TUTTI_HOST_CAPTURE_GLOBAL || (int)*mode > TUTTI_HOST_CAPTURE_RELAXED) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: mode %d is none of global (0), thread-local (1), relaxed (2)", call,
                         (int)*mode);
    }
    tutti_host_capture_mode before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return TUTTI_OK;
}
