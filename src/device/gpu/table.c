/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - the table that captured calls look into, in this rank's device memory: which of them may go directly, and where to.
 *
 * Kernels read it while the host writes. Nobody minds when a change is seen: each block reads once, and all ranks' blocks vote on
 * what they have read. What must hold is the order: the copies of two calls of gpu_group_entries_write are performed one after the
 * other, because the first is waited for.
 */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "capture/registry.h"
#include "device/gpu/context.h"
#include "device/gpu/group.h"

/* From a block's count of itself to the count's being there, and from a block's last access to that: far more than it takes. */
#define SETTLE_NS 1000000

tutti_status table_make(struct group *group)
{
    size_t bytes = group->options.registry->slot_count * sizeof(struct direct_entry);
    if (bytes == 0 || group->terms.direct_gather_bytes_min == 0 || group->options.world == 1) {
        group->options.registry->slot_count = 0;
        atomic_store(&group->options.registry->counts.slots, 0);
        return TUTTI_OK;
    }
    tutti_status status = arena_create(group->device, bytes, ARENA_POLLED, &group->table);
    return status == TUTTI_OK ? arena_fill(group->device, &group->table, 0, bytes, 0) : status;
}

void table_free(struct group *group)
{
    arena_release(group->device, &group->table);
}

tutti_status gpu_group_entries_write(struct group *group, const struct direct_entry *entries, uint32_t first,
                                     uint32_t count)
{
    const struct driver *driver = group->device->driver;
    driver_address to = group->table.address + first * sizeof(*entries);
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = group_stream_open(group);
    if (status == TUTTI_OK) {
        status = DRIVER(driver, copy_to_device, to, entries, count * sizeof(*entries), group->stream);
    }
    if (status == TUTTI_OK) {
        status = DRIVER(driver, stream_synchronize, group->stream);
    }
    group_stream_close(group);
    context_leave(&scope);
    return status;
}

/* Those that left first: if as many had entered a moment later, nobody was in between. */
static tutti_status blocks_look(struct group *group, bool *quiet)
{
    uint64_t left[TUTTI_LANES_MAX] = {0};
    uint64_t entered[TUTTI_LANES_MAX] = {0};
    tutti_status status = group_counters_fetch(group, offsetof(struct arena_head, left), left);
    if (status == TUTTI_OK) {
        status = group_counters_fetch(group, offsetof(struct arena_head, entered), entered);
    }
    *quiet = memcmp(left, entered, sizeof(left)) == 0;
    return status;
}

static tutti_status blocks_await(struct group *group)
{
    const struct timespec settle = {0, SETTLE_NS};
    bool quiet = false;
    tutti_status status = group_stream_open(group);
    (void)nanosleep(&settle, NULL); /* who has read the entry as it was has counted himself by now */
    while (status == TUTTI_OK && !quiet) {
        (void)gpu_group_poll(group); /* a failure ends the waits of our kernels */
        status = blocks_look(group, &quiet);
        if (status == TUTTI_OK && !quiet) {
            (void)nanosleep(&settle, NULL);
        }
    }
    (void)nanosleep(&settle, NULL); /* and who has counted himself out is through with his last store */
    group_stream_close(group);
    return status;
}

/* By counters that blocks keep, and not by waiting for the context: that would invalidate any capture that is open in it, in every
 * mode (CUDA driver 580), and would wait for what is not ours. */
tutti_status gpu_group_quiesce(struct group *group)
{
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    if (status == TUTTI_OK) {
        status = blocks_await(group);
        context_leave(&scope);
    }
    return status;
}
