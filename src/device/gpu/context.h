/* SPDX-License-Identifier: Apache-2.0 */
/*
 * context.h - a stretch of driver calls on one device, after which the calling thread's state is what it was.
 *
 *     struct context_scope scope;
 *     tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
 *     if (status == TUTTI_OK) {
 *         ... driver calls ...
 *         context_leave(&scope);
 *     }
 */
#ifndef TUTTI_DEVICE_GPU_CONTEXT_H
#define TUTTI_DEVICE_GPU_CONTEXT_H

#include "device/gpu/gpu_device.h"

enum context_purpose {
    CONTEXT_ENQUEUES, /* calls that are legal in any capture, on the caller's stream */
    CONTEXT_MANAGES,  /* allocations, own streams, waiting: the thread's capture mode is relaxed meanwhile, so that none
                         of it invalidates a capture that is open on this or another thread */
};

struct context_scope {
    const struct driver *driver;
    int former_ordinal; /* HIP */
    int former_mode;
    bool relaxed;
};

/* DRIVER if the context cannot be entered; then there is nothing to leave. */
tutti_status context_enter(const struct device *device, enum context_purpose purpose, struct context_scope *scope);

/* Cannot fail in a way that anybody could mend; the thread's last error stays. */
void context_leave(const struct context_scope *scope);

#endif
