/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choice.h - which protocol a collective takes on the host backend, and in which pieces.
 *
 * Pure functions of the operation and of terms that are equal on all ranks: never of a pointer, an
 * alignment, a memory class or anything else that one rank sees differently. docs/protocols.md describes the
 * protocols and how the thresholds were measured.
 */
#ifndef TUTTI_COLLECTIVE_CHOICE_H
#define TUTTI_COLLECTIVE_CHOICE_H

#include "device/device.h"

enum protocol {
    PROTOCOL_LOCAL,    /* one rank */
    PROTOCOL_ONE_SHOT, /* everybody stages all, everybody reduces all */
    PROTOCOL_TWO_SHOT, /* everybody stages all but its shard, reduces its shard, stages the result */
    PROTOCOL_EXCHANGE, /* copies and reduce_scatter: stage, then take what is mine */
    PROTOCOL_DIRECT,   /* read the peers' inputs, write the peers' outputs, where all ranks reach them; else two-shot */
    PROTOCOL_COUNT
};

/* What all ranks agree on besides the operation. */
struct choice_terms {
    int world;
    int processes;             /* that the ranks live in */
    size_t half_bytes;         /* staging of one step, a multiple of CHOICE_ALIGN_BYTES */
    size_t one_shot_bytes_max; /* all_reduce up to here takes one-shot */
};

/* Shards and blocks in the staging start on cache lines. */
#define CHOICE_ALIGN_BYTES 64

/* An all_reduce between processes of so many bytes may be direct: one more meeting, to find out what buffers the others have, is then
 * little beside two copies of the message. */
#define CHOICE_VOTE_BYTES_MIN ((size_t)128 * 1024)

struct choice {
    enum protocol protocol;
    /* One round handles this many units (elements of a reduction, bytes of a copy) of the result, or of each block
     * where there is one block a peer. At least 1. */
    size_t round_units;
    uint64_t rounds; /* at least 1, also for an empty message: every call meets all ranks */
    const char *reason;
};

/* Elements of a reduction are this long; units of a copy are bytes. */
size_t choice_unit_bytes(const struct operation *operation);

void choice_make(struct choice *choice, const struct operation *operation, const struct choice_terms *terms);

/* Staging of one step for a communicator, from the setting TUTTI_HOST_CHUNK_BYTES and message_bytes_max. */
size_t choice_half_bytes(int world, size_t message_bytes_max);

/* The one-shot threshold for a world: the setting TUTTI_HOST_ONE_SHOT_BYTES_MAX, else the measured table. */
size_t choice_one_shot_bytes_max(int world, int processes);

const char *choice_protocol_name(enum protocol protocol);

#endif
