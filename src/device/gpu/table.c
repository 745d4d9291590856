/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - the table that captured calls look into, in this rank's device memory: which of them may go directly, and where to.
 *
 * Kernels read it while the host writes. Nobody minds when a change is seen: each block reads once, and all ranks' blocks vote on
 * what they have read. What must hold is the order: the copies of two calls of gpu_group_entries_write are performed one after the
 * other, because the first is waited for.
 */
#include "base/error.h"
#include "capture/registry.h"
#include "device/gpu/context.h"
#include "device/gpu/group.h"

tutti_status table_make(struct group *group)
{
    size_t bytes = group->options.registry->slot_count * sizeof(struct direct_entry);
    if (bytes == 0 || group->terms.direct_bytes_min == 0 || group->options.world == 1) {
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

tutti_status gpu_group_quiesce(struct group *group)
{
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    if (status == TUTTI_OK) {
        const struct driver *driver = group->device->driver;
        status = driver_check(driver, offsetof(struct driver, context_synchronize), driver->context_synchronize());
        context_leave(&scope);
    }
    return status;
}
