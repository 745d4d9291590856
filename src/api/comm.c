/* SPDX-License-Identifier: Apache-2.0 */
/* comm.c - the public calls on communicators. */
#include "comm/comm.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/structs.h"
#include "base/error.h"
#include "base/process.h"
#include "capture/registry.h"

/* The first versions of the structs end with these members. */
#define OPTIONS_LEAST (offsetof(tutti_comm_options, flags) + sizeof(uint32_t))
#define INFO_LEAST (offsetof(tutti_comm_info_t, backend_reason) + 256u)
#define STATS_LEAST (offsetof(tutti_stats, waits_slept) + sizeof(uint64_t))

#define REASON_PAUSE_NS 500000
#define REASON_NS ((uint64_t)10000000000u)

tutti_status tutti_comm_create(const tutti_comm_options *options, tutti_comm **comm)
{
    tutti_comm_options ours;
    if (comm == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_comm_create: comm is NULL");
    }
    tutti_status status = struct_read("tutti_comm_create: options", options, &ours, sizeof(ours), OPTIONS_LEAST);
    return status == TUTTI_OK ? comm_create(&ours, comm) : status;
}

tutti_status tutti_comm_create_all(const tutti_comm_options *options, const int *devices, int world, tutti_comm **comms)
{
    tutti_comm_options ours;
    if (comms == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_comm_create_all: comms is NULL");
    }
    if (world < 1 || world > TUTTI_WORLD_MAX) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_comm_create_all: world %d is not from 1 to %d", world,
                         TUTTI_WORLD_MAX);
    }
    tutti_status status = struct_read("tutti_comm_create_all: options", options, &ours, sizeof(ours), OPTIONS_LEAST);
    return status == TUTTI_OK ? comm_create_all(&ours, devices, world, comms) : status;
}

tutti_status tutti_comm_split(tutti_comm *parent, int color, int key, tutti_comm **child)
{
    /* Without a place for the result the ranks would still have to be told: the parent fails, as after any call that
     * only some ranks make. */
    if (child == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_comm_split: child is NULL");
    }
    return comm_split(parent, color, key, child);
}

/* A call has failed on the device because a peer's has, and that peer's host is about to say why: within a tick of its
 * watchdog, unless nobody lets it run. */
static tutti_status failure_await(tutti_comm *comm)
{
    const struct timespec pause = {0, REASON_PAUSE_NS};
    for (uint64_t waited_ns = 0; waited_ns < REASON_NS; waited_ns += REASON_PAUSE_NS) {
        tutti_status status = comm_check(comm);
        if (status != TUTTI_OK) {
            return status;
        }
        (void)nanosleep(&pause, NULL);
    }
    struct failure failure = {TUTTI_ERR_ABORTED, comm->rank, -1, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence),
                   "a collective of rank %d failed because a peer's had failed, and no peer has said why", comm->rank);
    comm_fail(comm, &failure);
    return comm_check(comm);
}

tutti_status tutti_comm_status(tutti_comm *comm)
{
    tutti_status status = comm_check(comm);
    if (status == TUTTI_OK) {
        /* What the device has written down since the watchdog looked. */
        bool failed = device_poll(comm->ops, comm->group);
        status = failed ? failure_await(comm) : comm_check(comm);
    }
    if (status != TUTTI_OK && comm != NULL && comm->generation == process_generation()) {
        device_abandon(comm->ops, comm->group);
        status = comm_check(comm); /* for the sentence */
    }
    return status;
}

tutti_status tutti_comm_abort(tutti_comm *comm)
{
    /* Aborting what has failed already is no error: all waits have ended. */
    if (comm == NULL || comm->generation != process_generation()) {
        return comm_check(comm);
    }
    struct failure failure = {TUTTI_ERR_ABORTED, comm->rank, comm->rank, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d of %d called tutti_comm_abort", comm->rank,
                   comm->world);
    comm_fail(comm, &failure);
    device_abandon(comm->ops, comm->group);
    return TUTTI_OK;
}

tutti_status tutti_comm_extend_deadline(tutti_comm *comm, uint32_t more_ms)
{
    tutti_status status = comm_check(comm);
    if (status != TUTTI_OK) {
        return status;
    }
    /* Only this rank's thread writes it; it adds up until the rank's next collective. */
    _Atomic uint32_t *extension_ms = &comm->controls[comm->rank]->extension_ms;
    uint32_t before_ms = atomic_load_explicit(extension_ms, memory_order_relaxed);
    atomic_store_explicit(extension_ms, more_ms < UINT32_MAX - before_ms ? before_ms + more_ms : UINT32_MAX,
                          memory_order_relaxed);
    return TUTTI_OK;
}

/* NULL and forked children; unlike comm_check it lets a failed communicator pass. */
static tutti_status asked_here(const tutti_comm *comm)
{
    return comm == NULL || comm->generation != process_generation() ? comm_check(comm) : TUTTI_OK;
}

/* Another rank may have noticed a death and told this one before this one's own connection closed. */
static uint64_t lost_ranks(const tutti_comm *comm)
{
    uint64_t lost = atomic_load(&comm->lost_ranks);
    struct failure failure;
    if (control_failure(comm->controls[comm->rank], comm->world, &failure) && failure.status == TUTTI_ERR_PEER_LOST &&
        failure.culprit >= 0 && failure.culprit < comm->world &&
        atomic_load(&comm->controls[failure.culprit]->departed) == 0) {
        lost |= (uint64_t)1 << failure.culprit;
    }
    return lost;
}

tutti_status tutti_comm_info(const tutti_comm *comm, tutti_comm_info_t *info)
{
    tutti_status status = asked_here(comm);
    if (status == TUTTI_OK) {
        status = struct_check("tutti_comm_info: info", info, INFO_LEAST);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    struct device_description description;
    memset(&description, 0, sizeof(description));
    comm->ops->describe(comm->device, &description);
    tutti_comm_info_t ours;
    memset(&ours, 0, sizeof(ours));
    ours.rank = comm->rank;
    ours.world = comm->world;
    ours.device = comm->ordinal;
    ours.lanes = comm->lanes;
    ours.timeout_ms = comm->timeout_ms;
    ours.deterministic = comm->ops->deterministic ? 1 : 0;
    ours.processes = comm->processes;
    ours.lost_ranks = lost_ranks(comm);
    ours.arena_bytes = comm->segment_bytes;
    ours.mapped_bytes = comm->mapped_bytes;
    device_memory(comm->ops, comm->group, &ours.arena_bytes, &ours.mapped_bytes);
    ours.symmetric_count = atomic_load(&comm->symmetric_count);
    ours.symmetric_bytes = atomic_load(&comm->symmetric_bytes);
    ours.arena_bytes += ours.symmetric_bytes;
    ours.mapped_bytes += atomic_load(&comm->symmetric_mapped_bytes);
    ours.create_us = comm->create_us;
    (void)snprintf(ours.backend, sizeof(ours.backend), "%s", comm->ops->name);
    memcpy(ours.device_name, description.name, sizeof(ours.device_name));
    memcpy(ours.backend_reason, comm->backend_reason, sizeof(ours.backend_reason));
    struct_write(info, &ours, sizeof(ours));
    return TUTTI_OK;
}

tutti_status tutti_comm_stats(tutti_comm *comm, tutti_stats *stats)
{
    tutti_status status = asked_here(comm);
    if (status == TUTTI_OK) {
        status = struct_check("tutti_comm_stats: stats", stats, STATS_LEAST);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    tutti_stats ours;
    memset(&ours, 0, sizeof(ours));
    comm->ops->group_stats(comm->group, &ours);
    ours.allocs = atomic_load(&comm->allocs);
    ours.frees = atomic_load(&comm->frees);
    registry_stats(comm->registry, &ours);
    struct_write(stats, &ours, sizeof(ours));
    return TUTTI_OK;
}

void tutti_comm_destroy(tutti_comm *comm)
{
    if (comm != NULL) {
        comm_destroy(comm);
    }
}
