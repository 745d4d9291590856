/* SPDX-License-Identifier: Apache-2.0 */
#include "device/host/frame.h"

#include <stddef.h>

static _Thread_local const struct frame *innermost;

void frame_push(struct frame *frame, const void *object)
{
    frame->object = object;
    frame->outer = innermost;
    innermost = frame;
}

void frame_pop(const struct frame *frame)
{
    innermost = frame->outer;
}

bool frame_inside(const void *object)
{
    for (const struct frame *frame = innermost; frame != NULL; frame = frame->outer) {
        if (frame->object == object) {
            return true;
        }
    }
    return false;
}
