/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture.h - captures: streams that record instead of running, and the rules that keep a recording honest.
 *
 * A capture takes in the stream that it began on and every stream that waits for one of its events. All of them
 * record into one graph, in the order of the calls. One lock guards all captures of the process, the capture
 * state of all streams, and is taken before any event's lock; a stream that does not capture never takes it.
 *
 * A capture is *active*, or *invalidated* (it records nothing more, refuses every use of its streams and events, and waits
 * to be ended), or *over*. A captured event keeps its capture's remains in memory, so that it can be told from an
 * event that was never recorded.
 *
 * What is refused, and whom it invalidates, follows the CUDA driver API (cuThreadExchangeStreamCaptureMode,
 * cuStreamBeginCapture, cuStreamEndCapture, and the errors CUDA_ERROR_STREAM_CAPTURE_* and
 * CUDA_ERROR_CAPTURED_EVENT); capture.c says each rule where it is applied.
 */
#ifndef TUTTI_DEVICE_HOST_CAPTURE_H
#define TUTTI_DEVICE_HOST_CAPTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "device/host/dependencies.h"
#include "device/host/task.h"

struct capture;

/* A stream's part in a capture, embedded in the stream. All zero: the stream runs its work. Written under the lock. */
struct capture_part {
    _Atomic(struct capture *) capture;
    uint32_t track;                   /* index of the stream within the capture */
    struct dependencies dependencies; /* what the next node depends on */
};

/* What a captured event stands for, embedded in the event. All zero: not captured. Written under the lock. */
struct capture_mark {
    _Atomic(struct capture *) capture; /* a reference */
    struct dependencies dependencies;
};

/* Whether the stream captures, and whether the event is a captured one, at this moment. NULL has no part. */
static inline bool capture_part_open(struct capture_part *part)
{
    return part != NULL && atomic_load_explicit(&part->capture, memory_order_acquire) != NULL;
}
static inline bool capture_mark_open(struct capture_mark *mark)
{
    return atomic_load_explicit(&mark->capture, memory_order_acquire) != NULL;
}

/* The next three are for streams and events that the two functions above say to be captured. `*captured` false with
 * TUTTI_OK: they left their capture in the meantime, nothing was done, and the caller goes on as if they had
 * never been captured. `call` is the name for sentences, with static storage. */

/* Records a node and owns the payload from then on. CAPTURE, SYSTEM: nothing was recorded. */
tutti_status capture_submit(struct capture_part *part, const struct task *task, const struct task_label *label,
                            bool *captured);

/* The event marks the stream's work so far. */
tutti_status capture_record(struct capture_part *part, struct capture_mark *mark, bool *captured);

/* The stream waits for the event: a fork, a join, or a refusal. `part` is NULL for the NULL stream. */
tutti_status capture_wait(struct capture_part *part, struct capture_mark *mark, bool *captured);

/* The event was recorded outside of any capture, or is destroyed. */
void capture_mark_clear(struct capture_mark *mark);

/* Before a call that waits or asks: TUTTI_OK if no capture forbids it, else CAPTURE, and the captures that forbid it
 * are invalidated. `part` or `mark` is what the call is about; both may be NULL. */
tutti_status capture_permit(const char *call, struct capture_part *part, struct capture_mark *mark);

/* The stream goes away. A capture that it takes part in is invalidated, and over if it began on this stream. */
void capture_part_destroy(struct capture_part *part);

tutti_status capture_begin(struct capture_part *part, tutti_host_capture_mode mode);
tutti_status capture_end(struct capture_part *part, tutti_host_graph **graph);
void capture_ask(struct capture_part *part, tutti_host_capture_status *status, uint64_t *id);

#endif
