/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event.c - events: marks in queues, and in captures.
 *
 * What an event marks outside of a capture is a small counted object, so that a wait keeps what was marked when the wait
 * was enqueued, whatever becomes of the event.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/error.h"
#include "device/host/capture.h"
#include "device/host/frame.h"
#include "device/host/queue.h"
#include "device/host/stream.h"

struct mark {
    _Atomic uint32_t references; /* the event, enqueued waits, callers that look at it */
    struct queue *queue;         /* a reference */
    uint64_t position;
};

struct tutti_host_event {
    struct capture_mark captured; /* outweighs `mark` */
    pthread_mutex_t mutex;        /* mark */
    struct mark *mark;            /* a reference; NULL: nothing to wait for */
};

static void mark_release(struct mark *mark)
{
    if (mark != NULL && atomic_fetch_sub_explicit(&mark->references, 1, memory_order_acq_rel) == 1) {
        queue_release(mark->queue);
        free(mark);
    }
}

/* The event's mark with a reference for the caller, or NULL if what it marks has completed. */
static struct mark *mark_pending(tutti_host_event *event)
{
    (void)pthread_mutex_lock(&event->mutex);
    struct mark *mark = event->mark;
    if (mark != NULL && queue_reached(mark->queue, mark->position)) {
        mark = NULL;
    }
    if (mark != NULL) {
        (void)atomic_fetch_add_explicit(&mark->references, 1, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&event->mutex);
    return mark;
}

/* Waits on the calling thread; `mark` is consumed. A thread inside a task of the marked stream would wait for itself. */
static tutti_status mark_wait(struct mark *mark, const char *call)
{
    tutti_status status = TUTTI_OK;
    if (frame_inside(mark->queue) && !queue_reached(mark->queue, mark->position)) {
        status = error_set(TUTTI_ERR_ARGUMENT,
                           "%s: a function that runs on a stream cannot wait for an event behind "
                           "itself on that stream",
                           call);
    } else {
        queue_wait(mark->queue, mark->position);
    }
    mark_release(mark);
    return status;
}

tutti_status tutti_host_event_create(tutti_host_event **out)
{
    if (out == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_event_create: event is NULL");
    }
    tutti_host_event *event = calloc(1, sizeof(*event));
    if (event == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "tutti_host_event_create: no memory for an event");
    }
    (void)pthread_mutex_init(&event->mutex, NULL);
    *out = event;
    return TUTTI_OK;
}

void tutti_host_event_destroy(tutti_host_event *event)
{
    if (event == NULL) {
        return;
    }
    capture_mark_clear(&event->captured);
    mark_release(event->mark);
    (void)pthread_mutex_destroy(&event->mutex);
    free(event);
}

/* A mark of the stream's present end, in the event's own object if no wait refers to it. NULL without memory. With the
 * event's mutex held. */
static struct mark *mark_make(tutti_host_event *event, struct queue *queue)
{
    struct mark *mark = event->mark;
    if (mark != NULL && atomic_load_explicit(&mark->references, memory_order_acquire) == 1) {
        if (mark->queue != queue) {
            queue_retain(queue);
            queue_release(mark->queue);
            mark->queue = queue;
        }
    } else {
        mark = malloc(sizeof(*mark));
        if (mark == NULL) {
            return NULL;
        }
        atomic_init(&mark->references, 1);
        queue_retain(queue);
        mark->queue = queue;
        mark_release(event->mark);
    }
    mark->position = queue_end(queue);
    return mark;
}

static tutti_status record(tutti_host_event *event, tutti_host_stream *stream)
{
    tutti_status status = TUTTI_OK;
    (void)pthread_mutex_lock(&event->mutex);
    if (stream == NULL) {
        mark_release(event->mark);
        event->mark = NULL; /* work of the NULL stream is done when its call returns */
    } else {
        struct mark *mark = mark_make(event, stream_queue(stream));
        if (mark == NULL) {
            status = error_set(TUTTI_ERR_SYSTEM, "tutti_host_event_record: no memory to mark the stream");
        } else {
            event->mark = mark;
        }
    }
    (void)pthread_mutex_unlock(&event->mutex);
    return status;
}

tutti_status tutti_host_event_record(tutti_host_event *event, tutti_host_stream *stream)
{
    if (event == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_event_record: event is NULL");
    }
    struct capture_part *part = stream_part(stream);
    if (capture_part_open(part)) {
        bool captured = false;
        tutti_status status = capture_record(part, &event->captured, &captured);
        if (status != TUTTI_OK || captured) {
            return status;
        }
    }
    tutti_status status = record(event, stream);
    if (status == TUTTI_OK && capture_mark_open(&event->captured)) {
        capture_mark_clear(&event->captured);
    }
    return status;
}

static tutti_status run_wait(void *payload)
{
    struct mark *mark = payload;
    queue_wait(mark->queue, mark->position);
    return TUTTI_OK;
}

static void drop_wait(void *payload)
{
    mark_release(payload);
}

tutti_status tutti_host_stream_wait_event(tutti_host_stream *stream, tutti_host_event *event)
{
    if (event == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_stream_wait_event: event is NULL");
    }
    struct capture_part *part = stream_part(stream);
    if (capture_part_open(part) || capture_mark_open(&event->captured)) {
        bool captured = false;
        tutti_status status = capture_wait(part, &event->captured, &captured);
        if (status != TUTTI_OK || captured) {
            return status;
        }
    }
    struct mark *mark = mark_pending(event);
    if (mark == NULL) {
        return TUTTI_OK;
    }
    if (stream == NULL) {
        return mark_wait(mark, "tutti_host_stream_wait_event");
    }
    struct queue *queue = stream_queue(stream);
    if (mark->queue == queue) {
        mark_release(mark); /* a stream runs in order anyway */
        return TUTTI_OK;
    }
    const struct task task = {run_wait, NULL, drop_wait, mark};
    tutti_status status = queue_push(queue, &task);
    if (status != TUTTI_OK) {
        mark_release(mark);
    }
    return status;
}

tutti_status tutti_host_event_synchronize(tutti_host_event *event)
{
    if (event == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_event_synchronize: event is NULL");
    }
    tutti_status status = capture_permit("tutti_host_event_synchronize", NULL, &event->captured);
    if (status != TUTTI_OK) {
        return status;
    }
    struct mark *mark = mark_pending(event);
    return mark == NULL ? TUTTI_OK : mark_wait(mark, "tutti_host_event_synchronize");
}

tutti_status tutti_host_event_query(tutti_host_event *event, int *done)
{
    if (event == NULL || done == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_event_query: %s is NULL", event == NULL ? "event" : "done");
    }
    tutti_status status = capture_permit("tutti_host_event_query", NULL, &event->captured);
    if (status != TUTTI_OK) {
        return status;
    }
    struct mark *mark = mark_pending(event);
    *done = mark == NULL;
    mark_release(mark);
    return TUTTI_OK;
}
