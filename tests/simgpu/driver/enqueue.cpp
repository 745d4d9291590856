/* SPDX-License-Identifier: Apache-2.0 */
#include "simgpu/driver/enqueue.h"

#include "simgpu/driver/names.h"

int simgpu_enqueue(void *stream, int (*body)(void *argument), void *argument)
{
    ENTER_STREAM(stream);
    return simgpu::queue_submit(
        *queue, held, [body, argument](struct simgpu::queue &) { return body(argument); }, true);
}
