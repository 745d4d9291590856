/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c - the public calls on memory. */
#include "comm/memory.h"

#include <string.h>

#include "api/structs.h"
#include "base/error.h"

/* The first version of the struct ends with this member. */
#define CLASS_LEAST (offsetof(tutti_memory_class_t, reason) + 200u)

tutti_status tutti_alloc(tutti_comm *comm, size_t bytes, void **pointer)
{
    return comm_alloc(comm, bytes, pointer);
}

tutti_status tutti_free(tutti_comm *comm, void *pointer)
{
    return comm_free(comm, pointer);
}

static tutti_status all_check(const char *call, tutti_comm *const *comms, int world, const void *pointers)
{
    if (comms == NULL || pointers == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: %s is NULL", call, comms == NULL ? "comms" : "pointers");
    }
    if (world < 1 || world > TUTTI_WORLD_MAX) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: world %d is not from 1 to %d", call, world, TUTTI_WORLD_MAX);
    }
    return TUTTI_OK;
}

tutti_status tutti_alloc_all(tutti_comm *const *comms, int world, size_t bytes, void **pointers)
{
    tutti_status status = all_check("tutti_alloc_all", comms, world, pointers);
    return status == TUTTI_OK ? comm_alloc_all(comms, world, bytes, pointers) : status;
}

tutti_status tutti_free_all(tutti_comm *const *comms, int world, void *const *pointers)
{
    tutti_status status = all_check("tutti_free_all", comms, world, pointers);
    return status == TUTTI_OK ? comm_free_all(comms, world, pointers) : status;
}

tutti_status tutti_peer_pointer(tutti_comm *comm, const void *pointer, int rank, void **peer)
{
    tutti_status status = comm_check(comm);
    if (status != TUTTI_OK) {
        return status;
    }
    if (peer == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_peer_pointer: peer is NULL");
    }
    if (rank < 0 || rank >= comm->world) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_peer_pointer: rank %d is not from 0 to %d", rank, comm->world - 1);
    }
    return comm_peer_pointer(comm, pointer, rank, peer);
}

tutti_status tutti_memory_class(tutti_comm *comm, const void *pointer, tutti_memory_class_t *out)
{
    tutti_memory_class_t ours;
    memset(&ours, 0, sizeof(ours));
    tutti_status status = comm_check(comm);
    if (status == TUTTI_OK) {
        status = struct_check("tutti_memory_class: out", out, CLASS_LEAST);
    }
    if (status == TUTTI_OK) {
        status = comm_memory_class(comm, pointer, &ours);
    }
    if (status == TUTTI_OK) {
        struct_write(out, &ours, sizeof(ours));
    }
    return status;
}
