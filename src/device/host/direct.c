/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.c - large all_reduce: nothing is staged where every rank reaches every rank's buffers.
 *
 *     every rank publishes where its src and dst are     line of r:  src | dst | ballot[2]
 *     ---- step ----
 *     rank r reduces shard r of all inputs into shard r of all outputs
 *     ---- step ----                                     nobody leaves while a peer uses its buffers
 *
 * Between threads of one process the addresses do. Between processes the ranks vote: a ballot says in which of tutti_alloc's
 * allocations a buffer lies, and where (0: in none). All ranks have mapped these, so if all ballots are the same they go
 * directly; else, all of them seeing the same ballots, they go on as in two_shot.c.
 *
 * Shard r of every buffer is touched by rank r alone, so dst may be src. What is published is published by each call, eager or
 * replayed: nothing can be stale, and a rank's own pointers never decide.
 */
#include <string.h>

#include "device/host/protocol.h"
#include "device/host/simd/simd.h"

/* One pass keeps the piece in the first-level cache until it has been copied to every output. */
#define PIECE_BYTES ((size_t)16 * 1024)

/* How this rank reaches all ranks' buffers. */
struct reach {
    unsigned char *src[TUTTI_WORLD_MAX], *dst[TUTTI_WORLD_MAX];
};

static void reduce_piece(const struct group *group, const struct reach *reach, const struct operation *operation,
                         size_t first, size_t units)
{
    int world = group->options.world;
    int rank = group->options.rank;
    size_t unit_bytes = choice_unit_bytes(operation);
    const void *sources[TUTTI_WORLD_MAX];
    for (int peer = 0; peer < world; peer++) {
        sources[peer] = reach->src[peer] + first * unit_bytes;
    }
    int next = (rank + 1) % world;
    unsigned char *outputs[2] = {reach->dst[rank] + first * unit_bytes, reach->dst[next] + first * unit_bytes};
    group->simd->reduce(outputs[0], outputs[1], sources, world, units, operation->dtype, operation->op, false);
    for (int offset = 2; offset < world; offset++) {
        int peer = (rank + offset) % world;
        group->simd->copy(reach->dst[peer] + first * unit_bytes, outputs[0], units * unit_bytes, false);
    }
}

#define BALLOT_OFFSET_BITS 40

/* Which allocation, and how far behind its beginning: numbers that are the same on all ranks. */
static uint64_t ballot_of(const struct symmetric_place *place)
{
    bool fits = place->serial >> (64 - BALLOT_OFFSET_BITS) == 0 && place->offset >> BALLOT_OFFSET_BITS == 0;
    return fits ? place->serial << BALLOT_OFFSET_BITS | place->offset : 0;
}

static void announce(const struct group *group, const struct host_lane *lane, const struct operation *operation,
                     const struct symmetric_place *places)
{
    struct lane_line *line = lane->lines[group->options.rank];
    atomic_store_explicit(&line->src, (uintptr_t)operation->src, memory_order_relaxed);
    atomic_store_explicit(&line->dst, (uintptr_t)operation->dst, memory_order_relaxed);
    for (int which = 0; which < 2; which++) {
        uint64_t ballot = places != NULL ? ballot_of(&places[which]) : 0;
        atomic_store_explicit(&line->ballot[which], ballot, memory_order_relaxed);
    }
}

/* After the meeting. False: the ranks' votes differ, or this one has no such memory. */
static bool agreed(const struct group *group, const struct host_lane *lane, const struct symmetric_place *places,
                   struct reach *reach)
{
    for (int peer = 0; peer < group->options.world; peer++) {
        const struct lane_line *line = lane->lines[peer];
        if (group->options.processes == 1) {
            reach->src[peer] = (unsigned char *)atomic_load_explicit(&line->src, memory_order_relaxed);
            reach->dst[peer] = (unsigned char *)atomic_load_explicit(&line->dst, memory_order_relaxed);
            continue;
        }
        for (int which = 0; which < 2; which++) {
            uint64_t mine = places != NULL ? ballot_of(&places[which]) : 0;
            if (mine == 0 || atomic_load_explicit(&line->ballot[which], memory_order_relaxed) != mine) {
                return false;
            }
        }
        reach->src[peer] = (unsigned char *)(uintptr_t)(places[0].parts[peer] + places[0].offset);
        reach->dst[peer] = (unsigned char *)(uintptr_t)(places[1].parts[peer] + places[1].offset);
    }
    return true;
}

static bool go_directly(struct group *group, struct host_lane *lane, const struct operation *operation,
                        const struct reach *reach)
{
    size_t world = (size_t)group->options.world;
    size_t rank = (size_t)group->options.rank;
    size_t align_units = CHOICE_ALIGN_BYTES / choice_unit_bytes(operation);
    size_t shard_units = ((operation->count + world - 1) / world + align_units - 1) / align_units * align_units;
    size_t first = rank * shard_units < operation->count ? rank * shard_units : operation->count;
    size_t end = operation->count - first < shard_units ? operation->count : first + shard_units;
    size_t piece_units = PIECE_BYTES / choice_unit_bytes(operation);
    for (; first < end; first += piece_units) {
        reduce_piece(group, reach, operation, first, end - first < piece_units ? end - first : piece_units);
    }
    lane_publish(group, lane);
    return lane_wait(group, lane);
}

/* The lane's holder is the only writer. */
static void count(_Atomic uint64_t *calls, _Atomic uint64_t *bytes, size_t amount)
{
    atomic_store_explicit(calls, atomic_load_explicit(calls, memory_order_relaxed) + 1, memory_order_relaxed);
    atomic_store_explicit(bytes, atomic_load_explicit(bytes, memory_order_relaxed) + amount, memory_order_relaxed);
}

bool protocol_direct(struct group *group, struct host_lane *lane, const struct operation *operation,
                     const struct choice *choice, const struct symmetric_place *places)
{
    size_t bytes = operation->count * choice_unit_bytes(operation);
    struct reach reach;
    announce(group, lane, operation, places);
    lane_publish(group, lane);
    if (!lane_wait(group, lane) || !lane_agree(group, lane)) {
        return false;
    }
    if (agreed(group, lane, places, &reach)) {
        count(&lane->counts.direct_calls, &lane->counts.direct_bytes, bytes);
        return go_directly(group, lane, operation, &reach);
    }
    count(&lane->counts.staged_calls, &lane->counts.staged_bytes, bytes);
    return protocol_two_shot(group, lane, operation, choice);
}
