/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "comm/mesh.h"
#include "comm/socket.h"

#define TRIAL_MS_MAX 10000u /* ranks begin it together: far more than a machine that works needs */

/* What goes over the control pages. */
struct share_word {
    int32_t has_descriptor;
    unsigned char bytes[DEVICE_EXPORT_BYTES];
};
_Static_assert(sizeof(struct share_word) <= CONTROL_MAIL_BYTES, "a word fits the mail");

static struct memory_export export_none(void)
{
    struct memory_export none;
    memset(&none, 0, sizeof(none));
    none.fd = -1;
    return none;
}

/* This rank's trouble is everybody's. */
static tutti_status share_failed(tutti_comm *comm, tutti_status status)
{
    tutti_status told = comm_check(comm); /* keeps the first failure, which ours may follow from */
    if (told != TUTTI_OK) {
        return told;
    }
    struct failure failure = {status, comm->rank, comm->rank, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d: %s", comm->rank, tutti_last_error());
    comm_fail(comm, &failure);
    return comm_check(comm);
}

/* Sends every process its copy of our descriptor, then takes theirs. */
static tutti_status descriptors_pass(tutti_comm *comm, const int *sockets, const struct memory_export *mine,
                                     const struct share_word *words, struct memory_export *all)
{
    struct deadline deadline = deadline_in(comm->exchange_limit_ms, &comm->controls[comm->rank]->failure_state);
    tutti_status status = TUTTI_OK;
    for (int rank = 0; rank < comm->world && status == TUTTI_OK && mine->fd >= 0; rank++) {
        if (sockets[rank] >= 0) {
            status = mesh_pass(sockets[rank], comm->rank, rank, mine->fd);
        }
    }
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        if (sockets[rank] >= 0 && words[rank].has_descriptor != 0) {
            status = mesh_take(sockets[rank], rank, comm->rank, &deadline, &all[rank].fd);
        }
    }
    return status;
}

/* Fills all[world]; descriptors in it are the caller's to close. */
static tutti_status exports_exchange(tutti_comm *comm, const int *sockets, const struct memory_export *mine,
                                     struct memory_export *all)
{
    struct share_word word;
    memset(&word, 0, sizeof(word));
    word.has_descriptor = mine->fd >= 0;
    memcpy(word.bytes, mine->bytes, sizeof(word.bytes));
    struct share_word *words = calloc((size_t)comm->world, sizeof(*words));
    if (words == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the other ranks' words");
    }
    tutti_status status = comm_exchange(comm, &word, words, sizeof(word));
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        memcpy(all[rank].bytes, words[rank].bytes, sizeof(all[rank].bytes));
    }
    if (status == TUTTI_OK) {
        status = descriptors_pass(comm, sockets, mine, words, all);
    }
    free(words);
    return status;
}

static tutti_status imports_make(tutti_comm *comm, const struct memory_export *all)
{
    tutti_status status = TUTTI_OK;
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        status = comm->ops->group_import(comm->group, rank, &all[rank]);
    }
    return status;
}

static uint32_t trial_limit_ms(const tutti_comm *comm)
{
    return comm->exchange_limit_ms < TRIAL_MS_MAX ? comm->exchange_limit_ms : TRIAL_MS_MAX;
}

static tutti_status share_steps(tutti_comm *comm, const int *sockets, struct memory_export *mine,
                                struct memory_export *all)
{
    unsigned char so_far = 1;
    unsigned char others[TUTTI_WORLD_MAX];
    tutti_status status = comm->ops->group_export(comm->group, mine);
    if (status == TUTTI_OK) {
        status = exports_exchange(comm, sockets, mine, all);
    }
    if (status == TUTTI_OK) {
        status = imports_make(comm, all);
    }
    if (status == TUTTI_OK) {
        status = comm_exchange(comm, &so_far, others, sizeof(so_far));
    }
    if (status == TUTTI_OK) {
        status = comm->ops->group_probe_begin(comm->group, trial_limit_ms(comm));
    }
    return status == TUTTI_OK ? comm->ops->group_probe_end(comm->group) : status;
}

tutti_status share_memory(tutti_comm *comm, const int *sockets)
{
    if (!device_shares(comm->ops)) {
        return TUTTI_OK;
    }
    struct memory_export mine = export_none();
    struct memory_export *all = calloc((size_t)comm->world, sizeof(*all));
    if (all == NULL) {
        return share_failed(comm, error_set(TUTTI_ERR_SYSTEM, "out of memory for the other ranks' memory"));
    }
    for (int rank = 0; rank < comm->world; rank++) {
        all[rank] = export_none();
    }
    tutti_status status = share_steps(comm, sockets, &mine, all);
    if (status != TUTTI_OK) {
        status = share_failed(comm, status);
    }
    socket_close(&mine.fd);
    for (int rank = 0; rank < comm->world; rank++) {
        socket_close(&all[rank].fd);
    }
    free(all);
    return status;
}

/* Each step for all ranks before the next: no step waits for a rank that has not had its turn. */
static tutti_status share_steps_all(tutti_comm *const *comms, int world, struct memory_export *all)
{
    tutti_status status = TUTTI_OK;
    int rank = 0;
    for (rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = comms[rank]->ops->group_export(comms[rank]->group, &all[rank]);
        socket_close(&all[rank].fd); /* ranks of one process need none */
    }
    for (rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = imports_make(comms[rank], all);
    }
    for (rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = comms[rank]->ops->group_probe_begin(comms[rank]->group, trial_limit_ms(comms[rank]));
    }
    for (rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = comms[rank]->ops->group_probe_end(comms[rank]->group);
    }
    return status;
}

tutti_status share_memory_all(tutti_comm *const *comms, int world)
{
    if (!device_shares(comms[0]->ops)) {
        return TUTTI_OK;
    }
    struct memory_export *all = calloc((size_t)world, sizeof(*all));
    if (all == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the ranks' memory");
    }
    for (int rank = 0; rank < world; rank++) {
        all[rank] = export_none();
    }
    tutti_status status = share_steps_all(comms, world, all);
    free(all);
    return status == TUTTI_OK ? TUTTI_OK : share_failed(comms[0], status);
}
