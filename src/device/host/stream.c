/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - a stream is a queue that runs and a part in a capture that records; each call picks one of the two.
 */
#include "device/host/stream.h"

#include <stdlib.h>

#include "base/error.h"
#include "device/host/capture.h"
#include "device/host/frame.h"
#include "device/host/queue.h"

struct tutti_host_stream {
    struct queue *queue;
    struct capture_part part;
};

struct queue *stream_queue(tutti_host_stream *stream)
{
    return stream->queue;
}

struct capture_part *stream_part(tutti_host_stream *stream)
{
    return stream == NULL ? NULL : &stream->part;
}

tutti_status tutti_host_stream_create(tutti_host_stream **out)
{
    if (out == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_stream_create: stream is NULL");
    }
    tutti_host_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "tutti_host_stream_create: no memory for a stream");
    }
    tutti_status status = queue_create(&stream->queue);
    if (status != TUTTI_OK) {
        free(stream);
        return status;
    }
    *out = stream;
    return TUTTI_OK;
}

void tutti_host_stream_destroy(tutti_host_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    capture_part_destroy(&stream->part);
    queue_close(stream->queue);
    free(stream);
}

static tutti_status submit(tutti_host_stream *stream, const struct task *task, const struct task_label *label)
{
    if (capture_part_open(&stream->part)) {
        bool captured = false;
        tutti_status status = capture_submit(&stream->part, task, label, &captured);
        if (status != TUTTI_OK || captured) {
            return status;
        }
    }
    return queue_push(stream->queue, task);
}

tutti_status stream_submit(tutti_host_stream *stream, const struct work *work)
{
    const struct task task = {work->run, NULL, work->drop, work->payload};
    const struct task_label label = {work->name, work->chain, work->recorded,
                                     work->collective ? TASK_COLLECTIVE : TASK_WORK};
    return submit(stream, &task, &label);
}

tutti_status tutti_host_enqueue(tutti_host_stream *stream, tutti_host_function function, void *argument)
{
    if (function == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_enqueue: function is NULL");
    }
    if (stream == NULL) {
        function(argument);
        return TUTTI_OK;
    }
    const struct task task = {NULL, function, NULL, argument};
    const struct task_label label = {"tutti_host_enqueue", NULL, NULL, TASK_FUNCTION};
    return submit(stream, &task, &label);
}

tutti_status tutti_host_stream_synchronize(tutti_host_stream *stream)
{
    if (stream != NULL && frame_inside(stream->queue)) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_stream_synchronize: a function that runs on a stream cannot "
                                             "wait for that stream: it would wait for itself");
    }
    tutti_status status = capture_permit("tutti_host_stream_synchronize", stream_part(stream), NULL);
    if (status == TUTTI_OK && stream != NULL) {
        queue_wait(stream->queue, queue_end(stream->queue));
    }
    return status;
}

tutti_status tutti_host_stream_query(tutti_host_stream *stream, int *done)
{
    if (done == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_stream_query: done is NULL");
    }
    tutti_status status = capture_permit("tutti_host_stream_query", stream_part(stream), NULL);
    if (status == TUTTI_OK) {
        *done = stream == NULL || queue_reached(stream->queue, queue_end(stream->queue));
    }
    return status;
}

tutti_status tutti_host_capture_begin(tutti_host_stream *stream, tutti_host_capture_mode mode)
{
    if (stream == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         "tutti_host_capture_begin: the NULL stream runs its work at once and cannot "
                         "capture; create a stream");
    }
    return capture_begin(&stream->part, mode);
}

tutti_status tutti_host_capture_end(tutti_host_stream *stream, tutti_host_graph **graph)
{
    if (stream == NULL || graph == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_capture_end: %s is NULL", stream == NULL ? "stream" : "graph");
    }
    return capture_end(&stream->part, graph);
}

tutti_status tutti_host_capture_info(tutti_host_stream *stream, tutti_host_capture_status *status, uint64_t *id)
{
    if (status == NULL || id == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_host_capture_info: %s is NULL", status == NULL ? "status" : "id");
    }
    capture_ask(stream_part(stream), status, id);
    return TUTTI_OK;
}
