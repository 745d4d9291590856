/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h - how the backend itself puts work into host streams, captures and graphs. */
#ifndef TUTTI_DEVICE_HOST_STREAM_H
#define TUTTI_DEVICE_HOST_STREAM_H

#include <stdbool.h>

#include "tutti/host.h"

/* One piece of work. A stream runs it once and drops it; a graph runs it at every launch and drops it
 * when the graph dies. */
struct work {
    tutti_status (*run)(void *payload);
    void (*drop)(void *payload); /* frees the payload; may be NULL */
    /* Called if the work becomes a node of a capture, before it can run or be dropped; may be NULL. Under the lock of
     * all captures: it must not use streams, events or graphs. */
    void (*recorded)(void *payload);
    void *payload;
    const char *name;  /* for sentences: "all_reduce"; static storage */
    const void *chain; /* NULL, or: within one capture, work of one chain (a lane) runs in capture order, also
                          from different streams: an edge is added */
    bool collective;
};

/* Enqueues or records. On success the stream or graph owns the payload; on failure the caller still does.
 * `stream` is not NULL: work for the NULL stream is run by its caller. CAPTURE: the stream's capture is
 * invalidated (the sentence says why). */
tutti_status stream_submit(tutti_host_stream *stream, const struct work *work);

/* For events and graphs: what runs the stream's work (stream not NULL), and its part in a capture (NULL for NULL). */
struct queue *stream_queue(tutti_host_stream *stream);
struct capture_part *stream_part(tutti_host_stream *stream);

#endif
