/* SPDX-License-Identifier: Apache-2.0 */
/* exchange.c - allgather of small messages over the control pages, for what ranks must agree on. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "comm/comm.h"
#include "comm/deadline.h"

/* Not the private kind: the word is in memory that processes share. */
static void word_sleep(const _Atomic uint32_t *word, uint32_t value)
{
    struct timespec step = {0, CLOCK_STEP_NS_MAX};
    (void)syscall(SYS_futex, word, FUTEX_WAIT, value, &step, NULL, 0);
}

static void word_wake(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

tutti_status comm_exchange_post(tutti_comm *comm, const void *mine, size_t bytes)
{
    tutti_status status = comm_check(comm);
    if (status != TUTTI_OK) {
        return status;
    }
    if (bytes > CONTROL_MAIL_BYTES) {
        return error_set(TUTTI_ERR_ARGUMENT, "an exchange of %zu bytes is above %u", bytes, CONTROL_MAIL_BYTES);
    }
    uint32_t round = ++comm->exchange_round;
    struct control_mail *mail = &comm->controls[comm->rank]->mail[round & 1];
    mail->bytes = (uint32_t)bytes;
    memcpy(mail->data, mine, bytes);
    atomic_store_explicit(&mail->round, round, memory_order_release);
    word_wake(&mail->round);
    return TUTTI_OK;
}

static void peer_left(tutti_comm *comm, int rank)
{
    struct failure failure = {TUTTI_ERR_PEER_LOST, comm->rank, rank, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence),
                   "rank %d has destroyed the communicator while rank %d waited for it", rank, comm->rank);
    comm_fail(comm, &failure);
}

static void peer_late(tutti_comm *comm, int rank)
{
    struct failure failure = {TUTTI_ERR_TIMEOUT, comm->rank, rank, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence),
                   "rank %d waited %u ms for rank %d to make the same call (tutti_comm_create or _split, tutti_alloc, "
                   "tutti_free, tutti_commit, a runner's capture, ..)",
                   comm->rank, comm->exchange_limit_ms, rank);
    comm_fail(comm, &failure);
}

/* Waits until a peer's mail holds this round. */
static tutti_status mail_await(tutti_comm *comm, int rank, const struct control_mail *mail, uint32_t round)
{
    struct deadline deadline = deadline_in(comm->exchange_limit_ms, &comm->controls[comm->rank]->failure_state);
    for (;;) {
        /* Departure is looked at before the mail: who leaves has posted first. */
        bool departed = comm_departed(comm, rank);
        uint32_t found = atomic_load_explicit(&mail->round, memory_order_acquire);
        if (found == round) {
            return TUTTI_OK;
        }
        if (departed) {
            peer_left(comm, rank);
        }
        if (deadline_cut(&deadline)) {
            return comm_check(comm);
        }
        uint32_t extension_ms = atomic_load_explicit(&comm->controls[rank]->extension_ms, memory_order_relaxed);
        deadline.limit_ms =
            extension_ms < UINT32_MAX - comm->exchange_limit_ms ? comm->exchange_limit_ms + extension_ms : UINT32_MAX;
        if (deadline_expired(&deadline)) {
            peer_late(comm, rank);
            return comm_check(comm);
        }
        word_sleep(&mail->round, found);
    }
}

tutti_status comm_exchange_collect(tutti_comm *comm, void *all, size_t bytes)
{
    uint32_t round = comm->exchange_round;
    for (int rank = 0; rank < comm->world; rank++) {
        const struct control_mail *mail = &comm->controls[rank]->mail[round & 1];
        tutti_status status = mail_await(comm, rank, mail, round);
        if (status != TUTTI_OK) {
            return status;
        }
        if (mail->bytes != bytes) {
            struct failure failure = {TUTTI_ERR_MISMATCH, comm->rank, rank, ""};
            (void)snprintf(failure.sentence, sizeof(failure.sentence),
                           "rank %d exchanges %u bytes where rank %d exchanges %zu: they made different calls", rank,
                           mail->bytes, comm->rank, bytes);
            comm_fail(comm, &failure);
            return comm_check(comm);
        }
        memcpy((unsigned char *)all + (size_t)rank * bytes, mail->data, bytes);
    }
    atomic_store_explicit(&comm->controls[comm->rank]->extension_ms, 0, memory_order_relaxed);
    return TUTTI_OK;
}

tutti_status comm_exchange(tutti_comm *comm, const void *mine, void *all, size_t bytes)
{
    tutti_status status = comm_exchange_post(comm, mine, bytes);
    return status == TUTTI_OK ? comm_exchange_collect(comm, all, bytes) : status;
}

/* -- more than the mail holds ---------------------------------------------------------------------------- */

/* What this rank sends in the round that carries bytes from `from` on; ranks that have no more send nothing of weight. */
static void part_copy(unsigned char *to, const unsigned char *bytes, size_t size, size_t from)
{
    size_t left = from < size ? size - from : 0;
    size_t part = left < CONTROL_MAIL_BYTES ? left : CONTROL_MAIL_BYTES;
    memset(to, 0, CONTROL_MAIL_BYTES);
    if (part > 0) {
        memcpy(to, bytes + from, part);
    }
}

static tutti_status parts_exchange(tutti_comm *comm, const void *mine, const uint64_t *sizes, unsigned char *const *all,
                                   unsigned char *room)
{
    uint64_t most = 0;
    for (int rank = 0; rank < comm->world; rank++) {
        most = sizes[rank] > most ? sizes[rank] : most;
    }
    unsigned char part[CONTROL_MAIL_BYTES];
    tutti_status status = TUTTI_OK;
    for (size_t from = 0; from < most && status == TUTTI_OK; from += CONTROL_MAIL_BYTES) {
        part_copy(part, mine, sizes[comm->rank], from);
        status = comm_exchange(comm, part, room, sizeof(part));
        for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
            size_t left = from < sizes[rank] ? sizes[rank] - from : 0;
            if (left > 0) {
                memcpy(all[rank] + from, room + (size_t)rank * sizeof(part), left < sizeof(part) ? left : sizeof(part));
            }
        }
    }
    return status;
}

static tutti_status sizes_check(tutti_comm *comm, const uint64_t *sizes)
{
    for (int rank = 0; rank < comm->world; rank++) {
        if (sizes[rank] > EXCHANGE_LONG_MAX) {
            struct failure failure = {TUTTI_ERR_SYSTEM, comm->rank, rank, ""};
            (void)snprintf(failure.sentence, sizeof(failure.sentence),
                           "rank %d announces %llu bytes to the other ranks, more than the %u that can be meant", rank,
                           (unsigned long long)sizes[rank], EXCHANGE_LONG_MAX);
            comm_fail(comm, &failure);
            return comm_check(comm);
        }
    }
    return TUTTI_OK;
}

/* All ranks' room in one piece, which all[0] begins. */
static bool room_make(int world, const uint64_t *sizes, unsigned char **all)
{
    size_t total = 0;
    for (int rank = 0; rank < world; rank++) {
        total += (sizes[rank] + 15) / 16 * 16;
    }
    unsigned char *at = calloc(total + 1, 1);
    all[0] = at;
    for (int rank = 0; rank < world && at != NULL; rank++) {
        all[rank] = at;
        at += (sizes[rank] + 15) / 16 * 16;
    }
    return all[0] != NULL;
}

tutti_status comm_exchange_long(tutti_comm *comm, const void *mine, size_t bytes, unsigned char **all, uint64_t *sizes)
{
    uint64_t own = bytes;
    tutti_status status = comm_exchange(comm, &own, sizes, sizeof(own));
    if (status == TUTTI_OK) {
        status = sizes_check(comm, sizes);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    unsigned char *room = malloc((size_t)comm->world * CONTROL_MAIL_BYTES);
    if (room == NULL || !room_make(comm->world, sizes, all)) {
        struct failure failure = {TUTTI_ERR_SYSTEM, comm->rank, comm->rank, ""};
        (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d is out of memory for what its peers send",
                       comm->rank);
        comm_fail(comm, &failure);
        free(room);
        return comm_check(comm);
    }
    status = parts_exchange(comm, mine, sizes, all, room);
    free(room);
    if (status != TUTTI_OK) {
        free(all[0]);
    }
    return status;
}
