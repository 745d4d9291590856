/* SPDX-License-Identifier: Apache-2.0 */
#include "simgpu/driver/enqueue.h"

#include "simgpu/driver/names.h"

int simgpu_enqueue(void *stream, int (*body)(void *argument), void *argument)
{
    ENTER_STREAM(stream);
    return simgpu::queue_submit(*queue, held, simgpu::NODE_KERNEL,
                                [body, argument](struct simgpu::queue &) { return body(argument); });
}

int simgpu_alloc(uint64_t *address, size_t bytes)
{
    ENTER();
    return simgpu::allocation_make(address, bytes, simgpu::memory_class::plain);
}

int simgpu_free(uint64_t address)
{
    ENTER();
    return simgpu::allocation_free(address, simgpu::memory_class::plain);
}
