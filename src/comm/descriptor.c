/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/descriptor.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "comm/parcels.h"

bool descriptor_reaches(const tutti_comm *comm, int rank)
{
    return comm->peers->sockets[comm->root_rank[rank]] >= 0;
}

/* Which communicator of the family, which of its exchanges, and which descriptor: the same on all ranks. */
static void label_make(const tutti_comm *comm, uint32_t index, uint8_t label[MESH_LABEL_BYTES])
{
    uint64_t words[MESH_LABEL_BYTES / sizeof(uint64_t)] = {comm->segments[0]->inode,
                                                           (uint64_t)(index + 1) << 32 | comm->exchange_round};
    memcpy(label, words, sizeof(words));
}

tutti_status descriptor_send(tutti_comm *comm, uint32_t index, int fd, const char *call)
{
    uint8_t label[MESH_LABEL_BYTES];
    tutti_status status = TUTTI_OK;
    label_make(comm, index, label);
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        if (descriptor_reaches(comm, rank)) {
            status = parcels_send(comm->peers, comm->root_rank[rank], label, fd);
        }
    }
    if (status != TUTTI_OK) {
        struct failure failure = {status, comm->rank, comm->rank, ""};
        (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d: %s: %.200s", comm->rank, call,
                       tutti_last_error());
        comm_fail(comm, &failure);
        status = comm_check(comm);
    }
    return status;
}

tutti_status descriptor_take(tutti_comm *comm, int rank, uint32_t index, struct deadline *deadline, int *fd)
{
    uint8_t label[MESH_LABEL_BYTES];
    label_make(comm, index, label);
    return parcels_take(comm->peers, comm->root_rank[rank], label, deadline, fd);
}
