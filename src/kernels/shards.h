/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shards.h - what the protocols share in which each element is reduced by one rank: who owns what, and the staged way of it in
 * two hops (two_shot.cu draws the wire format).
 */
#ifndef TUTTI_KERNELS_SHARDS_H
#define TUTTI_KERNELS_SHARDS_H

#include "kernels/elements.h"
#include "kernels/numbers.h"
#include "kernels/turn.h"

/* Shard `owner` of a buffer whose shards follow one another. */
PORT_DEVICE struct span shard_of(uint64_t base, uint64_t bytes, uint64_t shard_bytes, uint32_t owner)
{
    uint64_t first = owner * shard_bytes;
    uint64_t left = bytes > first ? bytes - first : 0;
    return span_make(base + first, left < shard_bytes ? left : shard_bytes);
}

/* Of a message that is dealt to `world` owners. */
template <int world> PORT_DEVICE uint64_t shard_bytes_of(uint64_t bytes)
{
    return (uint64_t)(((uint32_t)((bytes + 15) / 16) + world - 1) / world) * 16;
}

PORT_DEVICE uint32_t vecs_of(const struct span &span)
{
    return (uint32_t)((span.bytes + 15) / 16);
}

/* A thread's place: the peer it serves, and the first of its vectors of every shard. */
struct place {
    uint32_t peer, column;
    uint32_t vec;           /* the first tile's */
    uint32_t begin, stride; /* of the block's tiles */
    bool mine;
};

PORT_DEVICE struct place place_make(const struct kernel_arguments &arguments)
{
    struct place place;
    place.peer = port_thread() >> arguments.tile_shift;
    place.column = port_thread() & ((1u << arguments.tile_shift) - 1);
    place.begin = port_block() << arguments.tile_shift;
    place.stride = port_blocks() << arguments.tile_shift;
    place.vec = place.begin + place.column;
    place.mine = place.peer == arguments.rank;
    return place;
}

/* Slot `slot` (of slot_bytes each) of a half of the lane at address `lane`, vector `vec`, but for the half's offset: known before
 * the epoch is. */
PORT_DEVICE uint64_t inbox(uint64_t lane, uint64_t slot_bytes, uint32_t slot, uint32_t vec)
{
    return lane + slot * slot_bytes + (uint64_t)vec * 16;
}

PORT_DEVICE struct vec4 *slot_in(const struct turn &turn, uint64_t inbox)
{
    return reinterpret_cast<struct vec4 *>(inbox + turn.half);
}

/* The block's words of one tile of my shard, summed over the ranks, back into the tile's first row. */
template <class Type, int world, bool plain>
PORT_DEVICE void reduce_in_place(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    uint32_t *words = reinterpret_cast<uint32_t *>(tile);
    uint32_t tile_words = 4u << arguments.tile_shift;
    for (uint32_t word = port_thread(); word < tile_words; word += port_threads()) {
        uint32_t sum = reduce_word<Type, world>(plain ? OP_SUM : arguments.op, words + word, tile_words);
        words[word] = sum; /* row 0: only this thread touches this column */
    }
}

/* Waits for my shard's inputs, tile by tile, and leaves the sums in dst and, where `sends`, at the peers' second
 * areas. A failed input is NaN, and with it the sum, on all ranks. `own`: what scatter had for first. */
template <class Type, int world, bool plain, bool sends>
PORT_DEVICE void reduce_shard(const struct kernel_arguments &arguments, struct turn &turn, const struct place &place,
                              uint64_t slot_bytes, const struct span &src, const struct span &dst, struct vec4 own,
                              struct vec4 *tile)
{
    const uint64_t outbox = inbox(arguments.lanes[place.peer], slot_bytes, world + arguments.rank, 0);
    const uint32_t vecs = vecs_of(src);
    for (uint32_t first = place.begin; first < vecs; first += place.stride) {
        const uint32_t vec = first + place.column;
        if (first != place.begin) {
            port_sync(); /* the tile has been read */
            if (place.mine && vec < vecs) {
                own = span_load<Type::element_bytes, plain>(src, vec);
            }
        }
        if (vec < vecs) {
            struct vec4 *slot = slot_in(turn, inbox(arguments.own, slot_bytes, place.peer, vec));
            tile[port_thread()] = place.mine ? own : receive(arguments, turn, slot, place.peer, nan_word(Type()));
        }
        port_sync();
        reduce_in_place<Type, world, plain>(arguments, tile);
        port_sync();
        if (vec < vecs) {
            const struct vec4 sum = tile[place.column];
            if (place.mine) {
                span_store<Type::element_bytes, plain>(dst, vec, sum);
            } else if (sends && !turn.failed) {
                port_store_system4(slot_in(turn, outbox) + vec, sum);
            }
        }
    }
}

/* Second hop: each thread takes its peer's shard of the result. */
template <class Type, int world, bool plain>
PORT_DEVICE void gather(const struct kernel_arguments &arguments, struct turn &turn, const struct place &place,
                        uint64_t slot_bytes, const struct span &theirs)
{
    for (uint32_t vec = place.vec; vec < vecs_of(theirs); vec += place.stride) {
        struct vec4 *slot = slot_in(turn, inbox(arguments.own, slot_bytes, world + place.peer, vec));
        const struct vec4 sum = receive(arguments, turn, slot, place.peer, nan_word(Type()));
        span_store<Type::element_bytes, plain>(theirs, vec, sum);
    }
}

/* A sum of whole vectors: the path that has to be short. Every shard is then whole too. */
template <class Type> PORT_DEVICE bool is_plain(const struct kernel_arguments &arguments)
{
    uint64_t bytes = arguments.units * Type::element_bytes;
    return arguments.op == OP_SUM && ((arguments.src | arguments.dst | bytes | arguments.src_stride) & 15) == 0;
}

#endif
