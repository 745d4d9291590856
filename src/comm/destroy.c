/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/process.h"
#include "comm/assemble.h"
#include "comm/comm.h"
#include "comm/peers.h"
#include "comm/session.h"
#include "memory/segment.h"
#include "memory/symmetric.h"

void comm_follow(tutti_comm *comm, struct comm_follower *follower, void (*leave)(void *user), void *user)
{
    *follower = (struct comm_follower){leave, user, comm->followers};
    comm->followers = follower;
}

void comm_unfollow(tutti_comm *comm, const struct comm_follower *follower)
{
    struct comm_follower **link = &comm->followers;
    while (*link != NULL && *link != follower) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = follower->next;
    }
}

static void followers_leave(tutti_comm *comm)
{
    while (comm->followers != NULL) {
        struct comm_follower *follower = comm->followers;
        comm->followers = follower->next;
        follower->leave(follower->user);
    }
}

/* In this process; in a forked child the backend's threads are missing, so that nothing of it can be waited for. */
static void leave(tutti_comm *comm)
{
    comm->leaving = true;
    followers_leave(comm);
    assemble_group_undo(comm);
    if (comm->peers != NULL) {
        peers_detach(comm->peers, comm);
    }
    /* Before the connections close: a rank that took its leave is not lost. */
    if (comm->controls[comm->rank] != NULL) {
        atomic_store_explicit(&comm->controls[comm->rank]->departed, 1, memory_order_release);
    }
    if (comm->device != NULL) {
        comm->ops->close(comm->device);
    }
    (void)pthread_mutex_destroy(&comm->wake_lock);
}

void comm_destroy(tutti_comm *comm)
{
    if (comm->generation == process_generation()) {
        leave(comm);
    } else {
        followers_leave(comm);
    }
    sessions_free(comm);
    peers_release(comm->peers);
    for (int rank = 0; rank < comm->world; rank++) {
        segment_release(comm->segments[rank]);
    }
    free(comm);
}
