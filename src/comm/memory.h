/* SPDX-License-Identifier: Apache-2.0 */
/* memory.h - the calls behind tutti_alloc and its kin (src/api/memory.c checks what a rank can check alone). */
#ifndef TUTTI_COMM_MEMORY_H
#define TUTTI_COMM_MEMORY_H

#include "comm/comm.h"

/* [collective] A rank that cannot take part (pointer NULL, bytes 0) says so here: the others are told. */
tutti_status comm_alloc(tutti_comm *comm, size_t bytes, void **pointer);
tutti_status comm_free(tutti_comm *comm, void *pointer);

/* All ranks at once, by the one thread that drives them. */
tutti_status comm_alloc_all(tutti_comm *const *comms, int world, size_t bytes, void **pointers);
tutti_status comm_free_all(tutti_comm *const *comms, int world, void *const *pointers);

/* Local. Hands what is left to the group, before that is destroyed. */
void memory_leave(tutti_comm *comm);

/* Local. Whether the range lies in this rank's part of an allocation; then *place. */
bool memory_place(const tutti_comm *comm, const void *pointer, size_t bytes, struct symmetric_place *place);

/* Local. Byte `offset` of `rank`'s part of allocation `serial`, as this rank's device reaches it; 0 if it has none, or not so many bytes. */
uint64_t memory_part(const tutti_comm *comm, uint64_t serial, int rank, uint64_t offset);

/* Local. */
tutti_status comm_peer_pointer(tutti_comm *comm, const void *pointer, int rank, void **peer);
tutti_status comm_memory_class(tutti_comm *comm, const void *pointer, tutti_memory_class_t *out);

#endif
