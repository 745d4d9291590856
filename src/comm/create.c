/* SPDX-License-Identifier: Apache-2.0 */
/*
 * create.c - creation, step by step.
 *
 *   1  find rank, world and meeting place          local; a failure here cannot be told to anybody
 *   2  prepare: device, own segment, listener      local; a failure travels in the hello
 *   3  meet: every rank gets every rank's hello    rendezvous.h
 *   4  compare                                     pure: all ranks come to the same conclusion
 *   5  join: connections, the peers' segments      mesh.h
 *   6  group, watchdog                             local; a failure is told in the last step
 *   7  a backend that shares memory of its own     share.h; its group, its memory, a trial; perhaps another backend in its
 *                                                  place; from here on failures travel as in a finished communicator
 *   8  everybody has mapped everything
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/process.h"
#include "base/settings.h"
#include "comm/assemble.h"
#include "comm/comm.h"
#include "comm/hello.h"
#include "comm/peers.h"
#include "comm/rendezvous.h"
#include "comm/share.h"
#include "comm/socket.h"
#include "memory/segment.h"

/* What exists only while one rank is being created. */
struct creation {
    tutti_comm *comm;
    struct rendezvous rendezvous;
    struct deadline deadline;
    int listener;
    int reserve[TUTTI_WORLD_MAX]; /* descriptors held back for the meeting; -1: none */
    union hello_frame mine;
    union hello_frame *all; /* [world] */
    struct mesh_address addresses[TUTTI_WORLD_MAX];
};

static void creation_clear(struct creation *creation)
{
    creation->listener = -1;
    memset(creation->reserve, -1, sizeof(creation->reserve)); /* every byte 0xff: every int -1 */
}

static tutti_status options_check(const tutti_comm_options *options)
{
    const uint32_t defined =
        TUTTI_COMM_SHARE_DEVICE | TUTTI_COMM_DIRECT_FD | TUTTI_COMM_ALLOW_VENDOR | TUTTI_COMM_ONLY_COLLECTIVE_STREAM;
    if ((options->flags & ~defined) != 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "options->flags is 0x%x, but only 0x%x is defined", options->flags,
                         defined);
    }
    if ((options->flags & TUTTI_COMM_ONLY_COLLECTIVE_STREAM) != 0 &&
        (options->lanes > 1 || (options->flags & TUTTI_COMM_SHARE_DEVICE) != 0)) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         "options->flags promises that one stream of the device carries collectives "
                         "(TUTTI_COMM_ONLY_COLLECTIVE_STREAM), but %s asks for several",
                         options->lanes > 1 ? "options->lanes" : "TUTTI_COMM_SHARE_DEVICE");
    }
    if (options->lanes < 0 || options->lanes > TUTTI_LANES_MAX) {
        return error_set(TUTTI_ERR_ARGUMENT, "options->lanes is %d, not from 1 to %d (0: 1)", options->lanes,
                         TUTTI_LANES_MAX);
    }
    return TUTTI_OK;
}

/* The meeting needs descriptors: one connection, and on rank 0 the listener and one for every other rank. They are taken
 * before everything else, so that a rank that runs out of them while it prepares can still say so. */
static tutti_status reserve_take(struct creation *creation)
{
    int wanted = creation->comm->rank == 0 ? creation->comm->world : 1;
    for (int index = 0; index < wanted; index++) {
        creation->reserve[index] = eventfd(0, EFD_CLOEXEC);
        if (creation->reserve[index] < 0) {
            return error_set_errno("reserving %d descriptors", wanted);
        }
    }
    return TUTTI_OK;
}

static void reserve_free(struct creation *creation)
{
    for (int index = 0; index < TUTTI_WORLD_MAX; index++) {
        socket_close(&creation->reserve[index]);
    }
}

/* Step 2. */
static tutti_status prepare(struct creation *creation, const tutti_comm_options *options, int ordinal)
{
    tutti_comm *comm = creation->comm;
    tutti_status status = reserve_take(creation);
    if (status == TUTTI_OK) {
        status = settings_check();
    }
    if (status == TUTTI_OK) {
        status = options_check(options);
    }
    if (status == TUTTI_OK) {
        status = device_choose(options->backend, &comm->ops, comm->backend_reason, sizeof(comm->backend_reason));
    }
    if (status != TUTTI_OK) {
        return status;
    }
    status = share_choose(comm);
    if (status != TUTTI_OK) {
        return status;
    }
    comm->lanes = options->lanes == 0 ? 1 : options->lanes;
    comm->message_bytes_max = options->message_bytes_max;
    comm->flags = options->flags;
    comm->timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : (uint32_t)settings_number(SETTING_TIMEOUT_MS);
    status = assemble_own(comm, ordinal);
    if (status == TUTTI_OK) {
        status = peers_create(comm->rank, comm->world, &comm->peers);
    }
    if (status == TUTTI_OK) {
        status = mesh_listen(comm->segments[comm->rank], &creation->mine.hello.address, &creation->listener);
    }
    return status;
}

/* The rest of the hello; `status`: how the preparation ended. */
static void introduce(struct creation *creation, tutti_status status)
{
    tutti_comm *comm = creation->comm;
    struct hello *hello = &creation->mine.hello;
    hello->rank = comm->rank;
    hello->world = comm->world;
    hello->status = status;
    if (status != TUTTI_OK) {
        (void)snprintf(hello->sentence, sizeof(hello->sentence), "%s", tutti_last_error());
        return;
    }
    struct device_description description;
    memset(&description, 0, sizeof(description));
    comm->ops->describe(comm->device, &description);
    (void)snprintf(hello->backend, sizeof(hello->backend), "%s", comm->ops->name);
    memcpy(hello->device_name, description.name, sizeof(hello->device_name));
    hello->device_identity = description.identity;
    hello->driver_version = description.version;
    if (description.caution != NULL) {
        size_t used = strlen(comm->backend_reason);
        (void)snprintf(comm->backend_reason + used, sizeof(comm->backend_reason) - used, "; %s", description.caution);
    }
    hello->lanes = comm->lanes;
    hello->flags = comm->flags;
    hello->timeout_ms = comm->timeout_ms;
    hello->message_bytes_max = comm->message_bytes_max;
}

/* Everything that a rank can do alone. Returns a status only if the rank cannot even be introduced. */
static tutti_status creation_begin(const tutti_comm_options *options, int rank, int world, int ordinal, bool one_thread,
                                   struct creation *creation)
{
    creation->all = calloc((size_t)world, sizeof(*creation->all));
    if (creation->all == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "rank %d: out of memory for the other ranks' words", rank);
    }
    tutti_status status = assemble_new(rank, world, &creation->comm);
    if (status != TUTTI_OK) {
        return status;
    }
    for (int peer = 0; peer < world; peer++) {
        creation->comm->root_rank[peer] = peer;
    }
    hello_fill(&creation->mine.hello);
    creation->comm->one_thread_drives_all = one_thread;
    introduce(creation, prepare(creation, options, ordinal));
    reserve_free(creation);
    uint32_t limit_ms = (uint32_t)settings_number(SETTING_CREATE_TIMEOUT_MS);
    if (limit_ms == 0) {
        limit_ms = options->timeout_ms != 0 ? options->timeout_ms : (uint32_t)settings_number(SETTING_TIMEOUT_MS);
    }
    creation->comm->exchange_limit_ms = limit_ms;
    creation->deadline = deadline_in(limit_ms, NULL);
    return TUTTI_OK;
}

/* Step 4. Keeps the addresses. */
static tutti_status creation_compare(struct creation *creation)
{
    tutti_comm *comm = creation->comm;
    tutti_status status = hello_compare(creation->all, comm->world);
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        creation->addresses[rank] = creation->all[rank].hello.address;
        comm->peers->pids[rank] = creation->addresses[rank].pid;
        if (creation->addresses[rank].segment_bytes != comm->segment_bytes) {
            status =
                error_set(TUTTI_ERR_MISMATCH, "rank %d shares %llu bytes, rank %d %zu", rank,
                          (unsigned long long)creation->addresses[rank].segment_bytes, comm->rank, comm->segment_bytes);
        }
    }
    return status;
}

/* Tells every rank that can be reached that this one gives up. */
static void creation_tell(struct creation *creation, const struct mesh *mesh, tutti_status status)
{
    tutti_comm *comm = creation->comm;
    struct failure failure = {status, comm->rank, comm->rank, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence), "%s", tutti_last_error());
    segment_fd_close(comm->segments[comm->rank]); /* telling may need the descriptor that the trouble was about */
    for (int rank = 0; rank < comm->world; rank++) {
        const struct mesh_address *address = &creation->addresses[rank];
        if (comm->segments[rank] == NULL) { /* a rank of this process is reached through its page */
            comm->segments[rank] =
                segment_find(address->segment_device, address->segment_inode, address->segment_bytes);
        }
        /* Into the own page too: whoever has mapped it already finds there why this rank departs. */
        if (comm->segments[rank] != NULL) {
            (void)control_fail(comm->segments[rank]->base, &failure);
        }
    }
    mesh_tell(mesh, status, failure.sentence);
}

/* Steps 5 and 6. */
static tutti_status creation_join(struct creation *creation)
{
    tutti_comm *comm = creation->comm;
    struct mesh mesh = {comm->rank,           comm->world,   creation->addresses, &comm->segments[comm->rank],
                        comm->peers->sockets, comm->segments};
    creation->deadline.failed = &comm->controls[comm->rank]->failure_state;
    tutti_status status = mesh_join(&mesh, creation->listener, &creation->deadline);
    if (status != TUTTI_OK) {
        /* What another rank wrote into our page is the cause; ours may be its consequence. */
        tutti_status told = comm_check(comm);
        status = told != TUTTI_OK ? told : status;
        creation_tell(creation, &mesh, status);
        return status;
    }
    socket_close(&creation->listener);
    segment_fd_close(comm->segments[comm->rank]);
    assemble_joined(comm, creation->addresses);
    if (!device_shares(comm->ops)) { /* else in step 7, where ranks tell each other how it went */
        status = assemble_group(comm);
    }
    if (status == TUTTI_OK) {
        status = peers_watch(comm->peers);
    }
    if (status != TUTTI_OK) {
        struct failure failure = {status, comm->rank, comm->rank, ""};
        (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d: %s", comm->rank, tutti_last_error());
        comm_fail(comm, &failure);
        return error_set(status, "%s", failure.sentence);
    }
    peers_attach(comm->peers, comm);
    return TUTTI_OK;
}

/* Step 8. */
static tutti_status creation_finish(struct creation *creation)
{
    tutti_comm *comm = creation->comm;
    unsigned char mine = 1;
    unsigned char all[TUTTI_WORLD_MAX];
    tutti_status status = comm_exchange(comm, &mine, all, sizeof(mine));
    if (status == TUTTI_OK) {
        comm->exchange_limit_ms = comm->timeout_ms;
    }
    return status;
}

/* Frees what creation needed; the communicator too unless it is complete. */
static void creation_end(struct creation *creation, bool complete)
{
    socket_close(&creation->listener);
    if (!complete && creation->comm != NULL) {
        comm_destroy(creation->comm);
    }
    free(creation->all);
}

static void creation_log(const tutti_comm *comm)
{
    log_line(LOG_INFO, "rank %d of %d (%d process%s): %s, %zu bytes shared, made in %llu us", comm->rank, comm->world,
             comm->processes, comm->processes == 1 ? "" : "es", comm->backend_reason, comm->segment_bytes,
             (unsigned long long)comm->create_us);
}

tutti_status comm_create(const tutti_comm_options *options, tutti_comm **comm)
{
    uint64_t begun_ns = clock_now_ns();
    struct creation *creation = calloc(1, sizeof(*creation));
    if (creation == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for a communicator");
    }
    creation_clear(creation);
    struct rendezvous *rendezvous = &creation->rendezvous;
    tutti_status status = rendezvous_resolve(options, rendezvous);
    if (status == TUTTI_OK) {
        status = creation_begin(options, rendezvous->rank, rendezvous->world, options->device, false, creation);
    }
    if (status == TUTTI_OK) {
        status = rendezvous_meet(rendezvous, &creation->mine, creation->all, &creation->deadline);
        if (status != TUTTI_OK && creation->mine.hello.status != TUTTI_OK) {
            /* Nobody to tell it to; but the caller should hear the cause and not that nobody listened. */
            status = error_set((tutti_status)creation->mine.hello.status, "rank %d: %s", rendezvous->rank,
                               creation->mine.hello.sentence);
        }
    }
    if (status == TUTTI_OK) {
        status = creation_compare(creation);
    }
    if (status == TUTTI_OK) {
        status = creation_join(creation);
    }
    if (status == TUTTI_OK) {
        status = share_memory(creation->comm, creation->comm->peers->sockets);
    }
    if (status == TUTTI_OK) {
        status = creation_finish(creation);
    }
    tutti_comm *made = creation->comm;
    creation_end(creation, status == TUTTI_OK);
    free(creation);
    if (status == TUTTI_OK) {
        made->create_us = (clock_now_ns() - begun_ns) / 1000;
        creation_log(made);
        *comm = made;
    }
    return status;
}

/* All ranks are this thread: it is the rendezvous, and every segment is in the process's cache. */
static tutti_status create_all_join(struct creation *creations, int world)
{
    tutti_status status = TUTTI_OK;
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        for (int other = 0; other < world; other++) {
            creations[rank].all[other] = creations[other].mine;
        }
        status = creation_compare(&creations[rank]);
    }
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = creation_join(&creations[rank]);
    }
    if (status == TUTTI_OK) {
        tutti_comm *comms[TUTTI_WORLD_MAX] = {NULL};
        for (int rank = 0; rank < world; rank++) {
            comms[rank] = creations[rank].comm;
        }
        status = share_memory_all(comms, world);
    }
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        creations[rank].comm->exchange_limit_ms = creations[rank].comm->timeout_ms;
    }
    return status;
}

tutti_status comm_create_all(const tutti_comm_options *options, const int *devices, int world, tutti_comm **comms)
{
    uint64_t begun_ns = clock_now_ns();
    struct creation *creations = calloc((size_t)world, sizeof(*creations));
    if (creations == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for %d communicators", world);
    }
    tutti_status status = TUTTI_OK;
    for (int rank = 0; rank < world; rank++) {
        creation_clear(&creations[rank]);
        if (status == TUTTI_OK) {
            status = creation_begin(options, rank, world, devices != NULL ? devices[rank] : options->device, true,
                                    &creations[rank]);
        }
    }
    if (status == TUTTI_OK) {
        status = create_all_join(creations, world);
    }
    for (int rank = 0; rank < world; rank++) {
        tutti_comm *made = creations[rank].comm;
        creation_end(&creations[rank], status == TUTTI_OK);
        if (status == TUTTI_OK) {
            made->create_us = (clock_now_ns() - begun_ns) / 1000;
            creation_log(made);
            comms[rank] = made;
        }
    }
    free(creations);
    return status;
}

bool comm_is_of_family(const tutti_comm *comm, const tutti_comm *first, int rank, int world)
{
    return comm->one_thread_drives_all && comm->world == world && comm->rank == rank &&
           comm->segments[0] == first->segments[0];
}
