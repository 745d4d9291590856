/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failure.c - the first failure of a communicator, and how every rank learns of it.
 *
 * Whoever notices writes it into every rank's control page, its own last: once a rank can see the failure and
 * react, by exiting perhaps, all others have been told the cause and do not take the exit for it.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/process.h"
#include "comm/comm.h"
#include "comm/peers.h"

static void wake(tutti_comm *comm)
{
    (void)pthread_mutex_lock(&comm->wake_lock);
    if (comm->awake) {
        comm->ops->group_wake(comm->group);
    }
    (void)pthread_mutex_unlock(&comm->wake_lock);
}

void comm_fail(tutti_comm *comm, const struct failure *failure)
{
    struct control *own = comm->controls[comm->rank];
    if (atomic_load_explicit(&own->failure_state, memory_order_acquire) == CONTROL_SOUND) {
        for (int rank = 0; rank < comm->world; rank++) {
            if (rank != comm->rank && comm->controls[rank] != NULL) {
                (void)control_fail(comm->controls[rank], failure);
            }
        }
        if (control_fail(own, failure)) {
            log_line(LOG_WARN, "rank %d of %d: %s: %s", comm->rank, comm->world, tutti_status_name(failure->status),
                     failure->sentence);
        }
    }
    wake(comm);
}

tutti_status comm_give_up(tutti_comm *comm, const char *call)
{
    struct failure failure = {TUTTI_ERR_SYSTEM, comm->rank, comm->rank, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d is out of memory for %s", comm->rank, call);
    comm_fail(comm, &failure);
    return comm_check(comm);
}

tutti_status comm_check(const tutti_comm *comm)
{
    if (comm == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "the communicator is NULL");
    }
    if (comm->generation != process_generation()) {
        return error_set(TUTTI_ERR_ARGUMENT, "this communicator belongs to the process that forked this one: create "
                                             "communicators after the fork, in the process that uses them");
    }
    struct failure failure;
    const struct control *own = comm->controls[comm->rank];
    if (atomic_load_explicit(&own->failure_state, memory_order_acquire) == CONTROL_SOUND ||
        !control_failure(own, comm->world, &failure)) {
        return TUTTI_OK;
    }
    return error_set(failure.status, "%s", failure.sentence);
}

/* Takes over the failure that a peer knew of when it left. False if it knew of none. */
static bool failure_adopt(tutti_comm *comm, int rank)
{
    struct failure failure;
    if (!control_failure(comm->controls[rank], comm->world, &failure)) {
        return false;
    }
    comm_fail(comm, &failure);
    return true;
}

bool comm_departed(tutti_comm *comm, int rank)
{
    if (atomic_load_explicit(&comm->controls[rank]->departed, memory_order_acquire) == 0) {
        return false;
    }
    (void)failure_adopt(comm, rank);
    return true;
}

void comm_peer_gone(tutti_comm *comm, int root_rank, const struct failure *words)
{
    int rank = 0;
    while (rank < comm->world && comm->root_rank[rank] != root_rank) {
        rank++;
    }
    if (rank == comm->world || comm_departed(comm, rank)) {
        return; /* not one of this communicator's, or it took its leave */
    }
    (void)atomic_fetch_or(&comm->lost_ranks, (uint64_t)1 << rank);
    /* A rank that went because of an earlier failure is not its cause. */
    if (failure_adopt(comm, rank)) {
        return;
    }
    struct failure failure = {TUTTI_ERR_PEER_LOST, comm->rank, rank, ""};
    if (words != NULL) {
        failure.status = words->status;
        memcpy(failure.sentence, words->sentence, sizeof(failure.sentence));
    } else {
        (void)snprintf(
            failure.sentence, sizeof(failure.sentence),
            "the process of rank %d (pid %ld) is gone: destroy this communicator and let the ranks that are left "
            "create a new one",
            rank, peers_pid(comm->peers, root_rank));
    }
    comm_fail(comm, &failure);
}
