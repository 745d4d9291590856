/* SPDX-License-Identifier: Apache-2.0 */
/* names_tools.cpp - what the tools call, under both vendors' names; and what only tests ask. */
#include "simgpu/driver/names.h"

#define MEMORY_BYTES ((size_t)8 << 30) /* of a device */

static int elapsed(float *ms, void *from, void *to)
{
    simgpu::guard held(simgpu::driver_lock);
    const struct simgpu::event *first = simgpu::event_find(from);
    const struct simgpu::event *second = simgpu::event_find(to);
    if (first == nullptr || second == nullptr || first->recorded == nullptr || second->recorded == nullptr) {
        return simgpu::INVALID_HANDLE;
    }
    if (!first->recorded->done || !second->recorded->done) {
        return simgpu::NOT_READY;
    }
    *ms = (float)(*second->completed_ms - *first->completed_ms);
    return simgpu::SUCCESS;
}

static int memory(size_t *free_bytes, size_t *all_bytes)
{
    simgpu::guard held(simgpu::driver_lock);
    const struct simgpu::device *device = simgpu::device_current();
    if (device == nullptr) {
        return simgpu::INVALID_CONTEXT;
    }
    size_t used = simgpu::allocation_bytes(device->ordinal) + device->graph_bytes;
    *free_bytes = used < MEMORY_BYTES ? MEMORY_BYTES - used : 0;
    *all_bytes = MEMORY_BYTES;
    return simgpu::SUCCESS;
}

EXPORT int cuEventElapsedTime(float *ms, void *from, void *to)
{
    ENTER();
    return elapsed(ms, from, to);
}

EXPORT int hipEventElapsedTime(float *ms, void *from, void *to)
{
    ENTER();
    return elapsed(ms, from, to);
}

EXPORT int cuMemGetInfo_v2(size_t *free_bytes, size_t *all_bytes)
{
    ENTER();
    return memory(free_bytes, all_bytes);
}

EXPORT int hipMemGetInfo(size_t *free_bytes, size_t *all_bytes)
{
    ENTER();
    return memory(free_bytes, all_bytes);
}

/* -- for tests: what fails, what graphs carry, which threads call --------------------------------------- */

EXPORT uint64_t simgpu_fault(const char *text)
{
    return simgpu::driver_fault(text);
}

EXPORT void simgpu_launches(uint64_t *all, uint64_t *holding)
{
    simgpu::guard held(simgpu::driver_lock);
    *all = simgpu::launch_counts.all;
    *holding = simgpu::launch_counts.holding;
}

EXPORT void simgpu_watch(int on)
{
    simgpu::driver_watch(on != 0);
}

EXPORT uint64_t simgpu_strangers(const char **first)
{
    return simgpu::driver_strangers(first);
}
