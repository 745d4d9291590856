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

/* First hop, without haste: each thread sends to its peer the vectors of the shard that the peer owns, `theirs`. The first of
 * them (for threads of this rank's own shard, that one's). */
template <class Type, bool plain>
PORT_DEVICE struct vec4 push_shard(const struct kernel_arguments &arguments, const struct turn &turn,
                                   const struct place &place, uint64_t slot_bytes, const struct span &theirs)
{
    const uint64_t outbox = inbox(arguments.lanes[place.peer], slot_bytes, arguments.rank, 0);
    struct vec4 first = {0, 0, 0, 0};
    for (uint32_t vec = place.vec; vec < vecs_of(theirs); vec += place.stride) {
        const struct vec4 value = span_load<Type::element_bytes, plain>(theirs, vec);
        if (vec == place.vec) {
            first = value;
        }
        if (!place.mine && !turn.failed) {
            port_store_system4(slot_in(turn, outbox) + vec, avoid_sentinel(value));
        }
    }
    return first;
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
 * areas. A failed input is NaN, and with it the sum, on all ranks. `own`: what scatter or push_shard had for first. */
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

/* A sum, to all ranks, or to this one alone. */
template <class Type, int world, bool all>
PORT_DEVICE void deal_directly(const struct kernel_arguments &arguments, const struct direct_route *route,
                               uint64_t dst_first, uint32_t vecs, uint32_t vec, const struct vec4 &sum)
{
    if (!all) {
        span_store<Type::element_bytes, true>(span_make(arguments.dst + dst_first, (uint64_t)vecs * 16), vec, sum);
        return;
    }
#pragma unroll
    for (uint32_t offset = 0; offset < world; offset++) {
        uint32_t rank = arguments.rank + offset; /* so that not all write to the same rank first */
        rank -= rank >= world ? world : 0;
        port_store_system4(reinterpret_cast<struct vec4 *>(route->dst[rank] + dst_first) + vec, sum);
    }
}

/* Without any staging: the sums of the ranks' vectors, which begin src_first behind route->src[rank], to what begins dst_first
 * behind route->dst[rank], on all ranks, or else behind this rank's dst. The block's tiles, as reduce_shard has them. (Addresses stay
 * in shared memory: in registers they would take as many as the values.) */
template <class Type, int world, bool all>
PORT_DEVICE void reduce_directly(const struct kernel_arguments &arguments, const struct place &place,
                                 const struct direct_route *route, uint64_t src_first, uint64_t dst_first,
                                 uint32_t vecs)
{
    constexpr uint32_t ahead = world == 2 ? 4 : world <= 4 ? 2 : 1; /* so that enough loads are under way */
    const uint32_t mask = (1u << arguments.tile_shift) - 1;
    for (uint32_t index = port_thread();; index += ahead * port_threads()) {
        uint32_t at[ahead];
        struct vec4 values[ahead][world];
#pragma unroll
        for (uint32_t step = 0; step < ahead; step++) {
            const uint32_t here = index + step * port_threads();
            at[step] = place.begin + (here >> arguments.tile_shift) * place.stride + (here & mask);
#pragma unroll
            for (uint32_t rank = 0; rank < world && at[step] < vecs; rank++) {
                const struct vec4 *from = reinterpret_cast<const struct vec4 *>(route->src[rank] + src_first);
                values[step][rank] = port_load_system4(from + at[step]);
            }
        }
#pragma unroll
        for (uint32_t step = 0; step < ahead; step++) {
            if (at[step] < vecs) {
                const struct vec4 sum = reduce_vec<Type, world>(arguments.op, values[step]);
                deal_directly<Type, world, all>(arguments, route, dst_first, vecs, at[step], sum);
            }
        }
        const uint32_t next = index + ahead * port_threads();
        if (place.begin + (next >> arguments.tile_shift) * place.stride >= vecs) {
            return;
        }
    }
}

/* What a failed call leaves of a shard, in this rank's own result. */
template <class Type> PORT_DEVICE void poison_shard(const struct place &place, const struct span &dst)
{
    const uint32_t nan = nan_word(Type());
    const struct vec4 value = {nan, nan, nan, nan};
    for (uint32_t vec = place.vec; vec < vecs_of(dst); vec += place.stride) {
        span_store<Type::element_bytes, false>(dst, vec, value);
    }
}

/* A sum of whole vectors: the path that has to be short. Every shard is then whole too. */
template <class Type> PORT_DEVICE bool is_plain(const struct kernel_arguments &arguments)
{
    uint64_t bytes = arguments.units * Type::element_bytes;
    return arguments.op == OP_SUM && ((arguments.src | arguments.dst | bytes | arguments.src_stride) & 15) == 0;
}

#endif
