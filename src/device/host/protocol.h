/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol.h - the protocols of the host backend, one a file. docs/protocols.md compares them.
 *
 * Each runs the whole operation on the calling thread, which holds the lane and the float environment, and
 * returns false once the communicator has failed; the outputs are then undefined (group.c poisons them).
 */
#ifndef TUTTI_DEVICE_HOST_PROTOCOL_H
#define TUTTI_DEVICE_HOST_PROTOCOL_H

#include "device/host/group.h"

struct round {
    size_t first, units; /* of the result, or of each block */
};

/* The part of an operation that round `index` handles; may be empty. */
static inline struct round round_at(const struct operation *operation, const struct choice *choice, uint64_t index)
{
    size_t first = (size_t)index * choice->round_units;
    size_t left = operation->count > first ? operation->count - first : 0;
    return (struct round){first, left < choice->round_units ? left : choice->round_units};
}

/* Results beyond this many bytes are written past the caches: they would only push out what comes next. */
#define STREAMING_BYTES_MIN ((size_t)8 * 1024 * 1024)

/* What a rank stages is written past the caches from this many bytes on. A line of the staging that a peer has read is shared:
 * writing it in place takes the line back first, 6 to 30 ns a line (two cores of an AMD EPYC), where a non-temporal store takes 1
 * to 2 and the peer's read 5 instead of 2. Below, the store buffer hides the taking back. */
#define STAGING_STREAMING_BYTES_MIN ((size_t)8 * 1024)

static inline bool stages_streaming(const struct group *group, size_t bytes)
{
    return !group->crowded && bytes >= STAGING_STREAMING_BYTES_MIN;
}

bool protocol_local(struct group *group, const struct operation *operation);
bool protocol_one_shot(struct group *group, struct host_lane *lane, const struct operation *operation,
                       const struct choice *choice);
bool protocol_two_shot(struct group *group, struct host_lane *lane, const struct operation *operation,
                       const struct choice *choice);
bool protocol_exchange(struct group *group, struct host_lane *lane, const struct operation *operation,
                       const struct choice *choice);
/* places: of src and dst in tutti_alloc's memory, as all ranks have mapped it; NULL if one of them is not there. */
bool protocol_direct(struct group *group, struct host_lane *lane, const struct operation *operation,
                     const struct choice *choice, const struct symmetric_place *places);

/* What protocol_exchange takes from the peers for one round of a copying collective (copies.c). `block_bytes`: distance
 * of the peers' blocks in a half. */
void copies_take(const struct group *group, const struct host_lane *lane, const struct operation *operation,
                 struct round round, size_t block_bytes);

#endif
