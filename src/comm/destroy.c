/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/process.h"
#include "comm/assemble.h"
#include "comm/comm.h"
#include "comm/peers.h"
#include "comm/session.h"
#include "memory/segment.h"
#include "memory/symmetric.h"

/* In this process; in a forked child the backend's threads are missing, so that nothing of it can be waited for. */
static void leave(tutti_comm *comm)
{
    comm->leaving = true;
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
    }
    sessions_free(comm);
    peers_release(comm->peers);
    for (int rank = 0; rank < comm->world; rank++) {
        segment_release(comm->segments[rank]);
    }
    free(comm);
}
