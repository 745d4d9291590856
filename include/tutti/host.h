/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.h - streams, events, captures and graphs of the host backend.
 *
 * A CPU engine gets what GPU engines have: asynchronous streams, and a forward pass that is recorded once
 * and replayed as one object. The rules are CUDA's (CUDA C++ Programming Guide, "CUDA Graphs", and the
 * driver API's "Stream Management"), so that an engine's capture code is the same on both. Where the host
 * differs, the declaration says so.
 *
 * Everything here is local. Every function is thread-safe; destroying an object that another thread is
 * using is the caller's mistake.
 */
#ifndef TUTTI_HOST_H
#define TUTTI_HOST_H

#include "tutti/tutti.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- streams --------------------------------------------------------------------------------- */

/* A queue of work that runs in order, on a thread of its own, or on the thread that waits for it. The NULL
 * stream is the calling thread: work on it is done when the call returns, and it has no implicit order
 * with other streams (CUDA's legacy stream would; here no work waits that did not ask to). */
typedef struct tutti_host_stream tutti_host_stream;

TUTTI_API tutti_status tutti_host_stream_create(tutti_host_stream **stream);

/* Waits for the stream's work. Ends a capture in which the stream takes part: the capture is
 * invalidated. NULL is allowed. */
TUTTI_API void tutti_host_stream_destroy(tutti_host_stream *stream);

typedef void (*tutti_host_function)(void *argument);

/* [capture] Runs function(argument) in stream order. The caller keeps the argument alive until it has
 * run; if captured, as long as the graph may be launched. The function may call anything but this
 * header's waiting functions on its own stream. */
TUTTI_API tutti_status tutti_host_enqueue(tutti_host_stream *stream, tutti_host_function function, void *argument);

/* Waits until all work enqueued before has completed, and helps doing it. CAPTURE if the stream is capturing
 * (which invalidates that capture) or if a capture in a strict mode forbids it (see below). Returns
 * TUTTI_OK also if a collective of the stream failed: ask tutti_comm_status. */
TUTTI_API tutti_status tutti_host_stream_synchronize(tutti_host_stream *stream);

/* *done = 1 if all work enqueued before has completed, else 0. Capture rules as for synchronize. */
TUTTI_API tutti_status tutti_host_stream_query(tutti_host_stream *stream, int *done);

/* -- events ---------------------------------------------------------------------------------- */

typedef struct tutti_host_event tutti_host_event;

TUTTI_API tutti_status tutti_host_event_create(tutti_host_event **event);
TUTTI_API void tutti_host_event_destroy(tutti_host_event *event); /* NULL is allowed; pending work keeps it alive */

/* [capture] Marks the stream's work so far. Recorded into a capturing stream, the event becomes a captured
 * event: it stands for nodes of that graph until it is recorded again. stream may be NULL. */
TUTTI_API tutti_status tutti_host_event_record(tutti_host_event *event, tutti_host_stream *stream);

/* [capture] Later work on the stream waits for what the event marks at the time of this call; nothing if it was
 * never recorded. Waiting for a captured event takes the stream into that capture (fork), or back
 * (join). Waiting for an event of another capture, or from a capturing stream for an event that was not
 * captured, is CAPTURE and invalidates the captures concerned. stream may be NULL: the calling thread
 * waits. */
TUTTI_API tutti_status tutti_host_stream_wait_event(tutti_host_stream *stream, tutti_host_event *event);

/* An event that was never recorded counts as completed. CAPTURE for a captured event (which invalidates
 * its capture), or if a capture in a strict mode forbids it. */
TUTTI_API tutti_status tutti_host_event_synchronize(tutti_host_event *event);
TUTTI_API tutti_status tutti_host_event_query(tutti_host_event *event, int *done);

/* -- capture --------------------------------------------------------------------------------- */

/*
 * Waiting for work or asking about it (synchronize and query of streams and events, also of ones that have
 * nothing to do with the capture) is potentially unsafe while a capture is open. Such a call is refused
 * with TUTTI_ERR_CAPTURE and invalidates the captures that forbid it:
 *   GLOBAL        forbidden to every thread while this capture is open
 *   THREAD_LOCAL  forbidden to the thread that began it
 *   RELAXED       allowed
 * Work on streams that do not capture is always allowed. A thread may change its own strictness with
 * tutti_host_capture_mode_exchange.
 */
typedef enum tutti_host_capture_mode {
    TUTTI_HOST_CAPTURE_GLOBAL = 0,
    TUTTI_HOST_CAPTURE_THREAD_LOCAL = 1,
    TUTTI_HOST_CAPTURE_RELAXED = 2
} tutti_host_capture_mode;

typedef enum tutti_host_capture_status {
    TUTTI_HOST_CAPTURE_NONE = 0,
    TUTTI_HOST_CAPTURE_ACTIVE = 1,
    TUTTI_HOST_CAPTURE_INVALIDATED = 2 /* the capture must still be ended */
} tutti_host_capture_status;

typedef struct tutti_host_graph tutti_host_graph;

/* Puts the stream into capture: work on it is recorded, not run. ARGUMENT for the NULL stream; CAPTURE if it
 * captures already. */
TUTTI_API tutti_status tutti_host_capture_begin(tutti_host_stream *stream, tutti_host_capture_mode mode);

/* Ends the capture that was begun on this stream and makes the graph, ready to launch. The stream and all
 * streams that were forked from it leave the capture, also on failure. CAPTURE, and *graph untouched, if the capture
 * was invalidated (the sentence says by what, and names the first operation that was refused), if a
 * forked stream was not joined, if the stream was not the one the capture began on, or, unless RELAXED,
 * if another thread began it. In the last two cases the capture is invalidated and stays open: whoever began it must
 * still end it, or destroy the stream it began on. */
TUTTI_API tutti_status tutti_host_capture_end(tutti_host_stream *stream, tutti_host_graph **graph);

/* *status of the stream; *id of its capture, unique in the process and never reused (0 if none). */
TUTTI_API tutti_status tutti_host_capture_info(tutti_host_stream *stream, tutti_host_capture_status *status,
                                               uint64_t *id);

/* Sets the calling thread's strictness and returns its former one in *mode. A thread set to RELAXED may
 * make unsafe calls beside any capture (as cudaThreadExchangeStreamCaptureMode). Initially GLOBAL. */
TUTTI_API tutti_status tutti_host_capture_mode_exchange(tutti_host_capture_mode *mode);

/* -- graphs ---------------------------------------------------------------------------------- */

/* [capture] Runs the graph's work in stream order, any number of times, on any stream, NULL too. Launches
 * of one graph run one after another. Into a capturing stream it becomes a child of that graph and
 * is kept alive by it. On the NULL stream a failed collective fails the launch with its status. */
TUTTI_API tutti_status tutti_host_graph_launch(tutti_host_graph *graph, tutti_host_stream *stream);

typedef struct tutti_host_graph_info_t {
    size_t struct_bytes;
    uint64_t nodes, functions, collectives, children, edges;
    uint64_t launches; /* completed */
    uint64_t memory_bytes;
} tutti_host_graph_info_t;
TUTTI_API tutti_status tutti_host_graph_info(const tutti_host_graph *graph, tutti_host_graph_info_t *info);

/* Launches that are under way keep the graph alive. NULL is allowed. */
TUTTI_API void tutti_host_graph_destroy(tutti_host_graph *graph);

#ifdef __cplusplus
}
#endif

#endif
