/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/assemble.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/process.h"
#include "base/settings.h"
#include "capture/registry.h"
#include "comm/memory.h"
#include "memory/segment.h"

tutti_status assemble_new(int rank, int world, tutti_comm **comm)
{
    tutti_comm *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "rank %d: out of memory for a communicator", rank);
    }
    made->rank = rank;
    made->world = world;
    made->generation = process_generation();
    (void)pthread_mutex_init(&made->wake_lock, NULL);
    *comm = made;
    return TUTTI_OK;
}

static void segment_enter(tutti_comm *comm, int rank)
{
    comm->controls[rank] = comm->segments[rank]->base;
    comm->shared[rank] = (unsigned char *)comm->segments[rank]->base + CONTROL_BYTES;
}

tutti_status assemble_own(tutti_comm *comm, int ordinal)
{
    tutti_status status = comm->ops->open(ordinal, &comm->device);
    if (status != TUTTI_OK) {
        return status;
    }
    comm->ordinal = ordinal;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t shared = comm->ops->shared_bytes(comm->world, comm->lanes, comm->message_bytes_max);
    if (shared > SIZE_MAX / 2) {
        return error_set(TUTTI_ERR_ARGUMENT, "message_bytes_max %zu with %d lanes is more than memory can hold",
                         comm->message_bytes_max, comm->lanes);
    }
    comm->segment_bytes = (CONTROL_BYTES + shared + page - 1) / page * page;
    status = segment_create(comm->segment_bytes, &comm->segments[comm->rank]);
    if (status == TUTTI_OK) {
        segment_enter(comm, comm->rank);
    }
    return status;
}

static int processes_count(const struct mesh_address *addresses, int world)
{
    int processes = 0;
    for (int rank = 0; rank < world; rank++) {
        int first = 0;
        while (memcmp(addresses[first].process, addresses[rank].process, sizeof(addresses[rank].process)) != 0) {
            first++;
        }
        processes += first == rank;
    }
    return processes;
}

/* -- what a group asks of its communicator; `user` is the communicator ---------------------------------- */

static void group_fail(void *user, const struct failure *failure)
{
    comm_fail(user, failure);
}

static tutti_status group_status(void *user)
{
    return comm_check(user);
}

static uint32_t group_extension_ms(void *user, int rank)
{
    tutti_comm *comm = user;
    return atomic_load_explicit(&comm->controls[rank]->extension_ms, memory_order_relaxed);
}

static bool group_departed(void *user, int rank)
{
    return comm_departed(user, rank);
}

static void group_leave(void *user)
{
    tutti_comm *comm = user;
    if (comm->leaving) { /* else another backend's group follows this one */
        atomic_store_explicit(&comm->controls[comm->rank]->departed, 1, memory_order_release);
    }
}

static uint64_t group_lost(void *user)
{
    tutti_comm *comm = user;
    return atomic_load(&comm->lost_ranks);
}

static void group_call_completed(void *user)
{
    tutti_comm *comm = user;
    _Atomic uint32_t *extension_ms = &comm->controls[comm->rank]->extension_ms;
    /* Nearly always zero already; then the line is not written, which peers may be polling. */
    if (atomic_load_explicit(extension_ms, memory_order_relaxed) != 0) {
        atomic_store_explicit(extension_ms, 0, memory_order_relaxed);
    }
}

static bool group_symmetric(void *user, const void *pointer, size_t bytes, struct symmetric_place *place)
{
    return memory_place(user, pointer, bytes, place);
}

void assemble_joined(tutti_comm *comm, const struct mesh_address *addresses)
{
    comm->processes = processes_count(addresses, comm->world);
    for (int rank = 0; rank < comm->world; rank++) {
        segment_enter(comm, rank);
        comm->mapped_bytes += comm->segments[rank]->bytes;
    }
}

static void tick_poll(void *user)
{
    tutti_comm *comm = user;
    (void)device_poll(comm->ops, comm->group);
}

static void awake_set(tutti_comm *comm, bool awake)
{
    (void)pthread_mutex_lock(&comm->wake_lock);
    comm->awake = awake;
    (void)pthread_mutex_unlock(&comm->wake_lock);
}

tutti_status assemble_group(tutti_comm *comm)
{
    bool has_table = comm->ops->group_entries_write != NULL;
    comm->registry = registry_create(has_table ? (uint32_t)settings_number(SETTING_SLOTS) : 0);
    if (comm->registry == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "rank %d: out of memory to keep book of captures", comm->rank);
    }
    struct group_options options = {
        .device = comm->device,
        .rank = comm->rank,
        .world = comm->world,
        .lanes = comm->lanes,
        .processes = comm->processes,
        .flags = comm->flags,
        .timeout_ms = comm->timeout_ms,
        .message_bytes_max = comm->message_bytes_max,
        .shared = comm->shared,
        .segments = comm->segments,
        .failed = &comm->controls[comm->rank]->failure_state,
        .fail = group_fail,
        .status = group_status,
        .extension_ms = group_extension_ms,
        .departed = group_departed,
        .lost = group_lost,
        .leave = group_leave,
        .call_completed = group_call_completed,
        .symmetric = group_symmetric,
        .registry = comm->registry,
        .user = comm,
        .reason = comm->backend_reason,
    };
    tutti_status status = comm->ops->group_create(&options, &comm->group);
    if (status != TUTTI_OK) {
        registry_free(comm->registry);
        comm->registry = NULL;
        return status;
    }
    awake_set(comm, true);
    if (device_polls(comm->ops)) {
        comm->tick = (struct tick){.call = tick_poll, .user = comm};
        status = watchdog_tick_add(&comm->tick);
    }
    if (status != TUTTI_OK) {
        assemble_group_undo(comm);
    }
    return status;
}

void assemble_group_undo(tutti_comm *comm)
{
    awake_set(comm, false);
    watchdog_tick_remove(&comm->tick);
    if (comm->group != NULL) {
        memory_leave(comm);
        comm->ops->group_destroy(comm->group); /* failures still end its waits: they look at the mark by themselves */
        comm->group = NULL;
        comm->registry = NULL; /* gone with it, or with the last graph */
    }
}
