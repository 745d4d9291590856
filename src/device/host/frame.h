/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - what the calling thread is executing at this moment: queues and graphs, innermost first.
 *
 * A function that runs on a stream and waits for that stream would wait for itself. The frames tell the waiting
 * functions, which then refuse with a sentence instead.
 */
#ifndef TUTTI_DEVICE_HOST_FRAME_H
#define TUTTI_DEVICE_HOST_FRAME_H

#include <stdbool.h>

struct frame {
    const void *object;
    const struct frame *outer;
};

/* `frame` lives on the caller's stack until frame_pop, which takes the frame pushed last. */
void frame_push(struct frame *frame, const void *object);
void frame_pop(const struct frame *frame);

/* Whether the calling thread is inside `object`. */
bool frame_inside(const void *object);

#endif
