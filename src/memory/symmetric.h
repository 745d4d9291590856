/* SPDX-License-Identifier: Apache-2.0 */
/* symmetric.h - one allocation of tutti_alloc, as one rank sees it: its own memory, and all peers' mapped. How the ranks come to
 * have it at the same time is src/comm/memory.c's business. */
#ifndef TUTTI_MEMORY_SYMMETRIC_H
#define TUTTI_MEMORY_SYMMETRIC_H

#include "memory/exports.h"
#include "memory/mapping.h"

struct symmetric {
    const struct device_ops *ops;
    struct device *device;
    uint64_t serial; /* counts a communicator's allocations: the same on all ranks */
    uint64_t bytes;  /* as asked for; own.bytes may be more */
    struct memory_block own;
    struct exported *exported;
    struct mapping *peers[TUTTI_WORLD_MAX]; /* [rank]; NULL at the own one */
    struct symmetric *next;
};

/* This rank's part, not known to any peer yet. *fd: to be passed to ranks of other processes and closed; -1: none. */
tutti_status symmetric_create(const struct device_ops *ops, struct device *device, size_t bytes,
                              struct symmetric **symmetric, struct memory_name *name, int *fd);

/* Unmaps the peers' memory. Local. */
void symmetric_close(struct symmetric *symmetric);

/* Closes, and frees this rank's memory, which no peer uses any more. NULL is allowed. */
void symmetric_free(struct symmetric *symmetric);

/* The same for a list. */
void symmetric_close_all(struct symmetric *list);
void symmetric_free_all(struct symmetric *list);

/* The allocation that `address` lies in, as mapped here; *rank: whose part. NULL if it is in none. */
const struct symmetric *symmetric_find(const struct symmetric *list, uint64_t address, int own_rank, int *rank);

/* What is mapped here of all ranks' parts. */
uint64_t symmetric_mapped_bytes(const struct symmetric *symmetric);

#endif
