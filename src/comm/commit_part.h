/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit_part.h - one rank's part of a commit, while it is under way.
 *
 *   commit_ledger.c  step 1: what this rank has to say         commit.c  the ranks together, and the end
 *   commit_table.c   steps 3 and 5: what the peers have to say, mapped and written into the device's table
 */
#ifndef TUTTI_COMM_COMMIT_PART_H
#define TUTTI_COMM_COMMIT_PART_H

#include "capture/ledger.h"
#include "capture/share.h"
#include "comm/comm.h"

/* How a step went on one rank. */
struct commit_word {
    int32_t status;
    char sentence[LEDGER_SENTENCE_BYTES];
};

/* One of this rank's allocations, under its index in the ledger. */
struct offered {
    struct share_part part; /* exported NULL: not shareable */
    int fd;                 /* -1: none */
    bool reached;           /* from the allocation that lies before it: a buffer goes on here */
};

/* One rank's part of one call. */
struct commit {
    tutti_comm *comm;
    struct ledger ledger;
    struct recorded **graphs; /* [ledger graphs] */
    struct ticket **tickets;  /* [ledger calls]; NULL: missing */
    struct offered *offered;  /* [ledger allocations] */
    size_t graph_room, ticket_room, offered_room;
    unsigned char *packed;
    size_t packed_bytes;
    unsigned char *received; /* all ledgers; NULL: they lie with the other ranks' commits */
    struct ledger_view views[TUTTI_WORLD_MAX];
    struct verdict verdict;
    struct share *
        *shares[KERNEL_WORLD_MAX]; /* [rank][that rank's allocations]; NULL: not used, or not the first of a run */
    struct {
        struct mapping *mapping; /* of a rank's run that comes in; NULL: none does */
        uint32_t first;
    } runs[KERNEL_WORLD_MAX];
    struct commit_word word;
};

/* Remembers the first step that failed, with its sentence. */
void commit_note(struct commit *commit, tutti_status status);
tutti_status commit_no_memory(void);

/* -- commit_ledger.c -- */

/* What was captured since the last commit; or the calls that have these names, in this order, which is ascending. Whatever goes wrong stands in the
 * ledger's head. */
void commit_collect_pending(struct commit *commit);
void commit_collect_named(struct commit *commit, const uint64_t *names, size_t count);

/* Whether only its own rank touches the buffer. */
bool commit_is_private(const struct operation *operation, enum ticket_buffer which);

/* -- commit_table.c -- */

/* Takes over what the peers offer and the verdict wants. Fails only with the communicator; all else is noted. */
tutti_status commit_take_allocations(struct commit *commit);

/* Gives an allocation back that nobody took over. */
void offered_drop(struct offered *offered);

/* Moves the calls that the verdict calls direct to their new entries. */
tutti_status commit_write_table(struct commit *commit);

/* The number that this commit has on all ranks. */
uint64_t commit_number(const struct commit *commit);

#endif
