/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.c - all_reduce between threads of one process: nothing is staged.
 *
 *     every rank publishes where its src and dst are     line of r:  src | dst
 *     ---- step ----
 *     rank r reduces shard r of all inputs into shard r of all outputs
 *     ---- step ----                                     nobody leaves while a peer uses its buffers
 *
 * Shard r of every buffer is touched by rank r alone, so dst may be src. The addresses are published by each
 * call, eager or replayed: nothing is registered and nothing can be stale. Taken only if all ranks live in one
 * process, which creation knows; a rank's own pointers never decide.
 */
#include <string.h>

#include "device/host/protocol.h"
#include "device/host/simd/simd.h"

/* One pass keeps the piece in the first-level cache until it has been copied to every output. */
#define PIECE_BYTES ((size_t)16 * 1024)

static void reduce_piece(const struct group *group, const struct host_lane *lane, const struct operation *operation,
                         size_t first, size_t units)
{
    int world = group->options.world;
    int rank = group->options.rank;
    size_t unit_bytes = choice_unit_bytes(operation);
    const void *sources[TUTTI_WORLD_MAX];
    for (int peer = 0; peer < world; peer++) {
        sources[peer] = (const unsigned char *)atomic_load_explicit(&lane->lines[peer]->src, memory_order_relaxed) +
                        first * unit_bytes;
    }
    int next = (rank + 1) % world;
    unsigned char *outputs[2] = {
        (unsigned char *)operation->dst + first * unit_bytes,
        (unsigned char *)atomic_load_explicit(&lane->lines[next]->dst, memory_order_relaxed) + first * unit_bytes,
    };
    group->simd->reduce(outputs[0], outputs[1], sources, world, units, operation->dtype, operation->op, false);
    for (int offset = 2; offset < world; offset++) {
        int peer = (rank + offset) % world;
        unsigned char *output = (unsigned char *)atomic_load_explicit(&lane->lines[peer]->dst, memory_order_relaxed);
        group->simd->copy(output + first * unit_bytes, outputs[0], units * unit_bytes, false);
    }
}

bool protocol_direct(struct group *group, struct host_lane *lane, const struct operation *operation)
{
    size_t world = (size_t)group->options.world;
    size_t rank = (size_t)group->options.rank;
    struct lane_line *line = lane->lines[rank];
    atomic_store_explicit(&line->src, (uintptr_t)operation->src, memory_order_relaxed);
    atomic_store_explicit(&line->dst, (uintptr_t)operation->dst, memory_order_relaxed);
    lane_publish(group, lane);
    if (!lane_wait(group, lane) || !lane_agree(group, lane)) {
        return false;
    }
    size_t align_units = CHOICE_ALIGN_BYTES / choice_unit_bytes(operation);
    size_t shard_units = ((operation->count + world - 1) / world + align_units - 1) / align_units * align_units;
    size_t first = rank * shard_units < operation->count ? rank * shard_units : operation->count;
    size_t end = operation->count - first < shard_units ? operation->count : first + shard_units;
    size_t piece_units = PIECE_BYTES / choice_unit_bytes(operation);
    for (; first < end; first += piece_units) {
        reduce_piece(group, lane, operation, first, end - first < piece_units ? end - first : piece_units);
    }
    lane_publish(group, lane);
    return lane_wait(group, lane);
}
