/* SPDX-License-Identifier: Apache-2.0 */
/*
 * two_shot.cu - P3, sentinel two-shot: each element is reduced by one rank. Two hops, no flags, no barrier.
 *
 * Wire format. The vectors of the message are dealt to owners: owner j has `shard` = ceil(vecs / world) vectors. A half is
 * cut into two areas of `world` slots of half_bytes / world / 2 bytes:
 *
 *     area 0, slot r:  rank r's input of the shard that I own      (first hop)
 *     area 1, slot r:  rank r's reduced shard                      (second hop)
 *
 * Words are self-validating as in one_shot.cu. In the second hop no word can be SENTINEL by itself: results have
 * canonical NaN only. Tile t of a block is vector range t of every shard, in both hops, so a block depends on the same
 * block of its peers and on nothing else; the sum runs over the same ranks in the same order as in one-shot: same
 * bits.
 *
 * reduce_scatter is the first hop alone, with the caller's blocks as shards.
 */
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

/* The kernel's beginning and its first hop: each thread sends to its peer the vectors of the shard that the peer owns, `theirs`.
 * *first becomes the first of them (for threads of this rank's own shard, that one's). */
template <class Type, bool plain>
PORT_DEVICE struct turn scatter(const struct kernel_arguments &arguments, const struct place &place,
                                uint64_t slot_bytes, const struct span &theirs, struct vec4 *first)
{
    const bool programmatic = (arguments.flags & KERNEL_PROGRAMMATIC) != 0;
    const uint32_t vecs = vecs_of(theirs);
    struct vec4 own = {0, 0, 0, 0};
    if (place.vec < vecs && !programmatic) {
        own = span_load<Type::element_bytes, plain>(theirs, place.vec); /* under way while the epoch is asked for */
    }
    uint64_t outbox = inbox(arguments.lanes[place.peer], slot_bytes, arguments.rank, place.vec);
    port_settle(outbox);
    struct turn turn = turn_begin(arguments);
    if (place.vec < vecs && programmatic) {
        own = span_load<Type::element_bytes, plain>(theirs, place.vec);
    }
    if (!place.mine && place.vec < vecs && !turn.failed) {
        port_store_system4(slot_in(turn, outbox), avoid_sentinel(own));
        for (uint32_t vec = place.vec + place.stride; vec < vecs; vec += place.stride) {
            port_store_system4(slot_in(turn, outbox) + (vec - place.vec),
                               avoid_sentinel(span_load<Type::element_bytes, plain>(theirs, vec)));
        }
    }
    *first = own;
    return turn;
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
 * areas. A failed input is NaN, and with it the sum, on all ranks. `own`: scatter's *first. */
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

template <class Type, int world, bool plain>
PORT_DEVICE void two_shot(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    const struct place place = place_make(arguments);
    const uint64_t bytes = arguments.units * Type::element_bytes;
    const uint64_t shard_bytes = (uint64_t)(((uint32_t)((bytes + 15) / 16) + world - 1) / world) * 16;
    const uint64_t slot_bytes = arguments.half_bytes / (2 * world) / 16 * 16;
    const struct span their_src = shard_of(arguments.src, bytes, shard_bytes, place.peer);
    struct vec4 own;
    struct turn turn = scatter<Type, plain>(arguments, place, slot_bytes, their_src, &own);
    turn_announce(arguments,
                  turn); /* in place: its barrier keeps dst's tiles from being written before they were read */
    reduce_shard<Type, world, plain, true>(arguments, turn, place, slot_bytes,
                                           shard_of(arguments.src, bytes, shard_bytes, arguments.rank),
                                           shard_of(arguments.dst, bytes, shard_bytes, arguments.rank), own, tile);
    if (!place.mine) {
        gather<Type, world, plain>(arguments, turn, place, slot_bytes,
                                   shard_of(arguments.dst, bytes, shard_bytes, place.peer));
    }
    turn_end(arguments, turn);
}

template <class Type, int world, bool plain>
PORT_DEVICE void reduce_scatter(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    const struct place place = place_make(arguments);
    const uint64_t bytes = arguments.units * Type::element_bytes;
    const uint64_t slot_bytes = arguments.half_bytes / world / 16 * 16;
    const struct span their_src = span_make(arguments.src + place.peer * arguments.src_stride, bytes);
    struct vec4 own;
    struct turn turn = scatter<Type, plain>(arguments, place, slot_bytes, their_src, &own);
    turn_announce(arguments, turn);
    reduce_shard<Type, world, plain, false>(arguments, turn, place, slot_bytes,
                                            span_make(arguments.src + arguments.rank * arguments.src_stride, bytes),
                                            span_make(arguments.dst, bytes), own, tile);
    turn_end(arguments, turn);
}

/* A sum of whole vectors: the path that has to be short. Every shard is then whole too. */
template <class Type> PORT_DEVICE bool is_plain(const struct kernel_arguments &arguments)
{
    uint64_t bytes = arguments.units * Type::element_bytes;
    return arguments.op == OP_SUM && ((arguments.src | arguments.dst | bytes | arguments.src_stride) & 15) == 0;
}

#define TWO_SHOT(type, world)                                                                                          \
    PORT_KERNEL(tutti_two_shot_##type##_##world)                                                                       \
    {                                                                                                                  \
        PORT_SHARED(struct vec4, tile, KERNEL_THREADS_MAX);                                                            \
        if (is_plain<type_##type>(arguments)) {                                                                        \
            two_shot<type_##type, world, true>(arguments, tile);                                                       \
        } else {                                                                                                       \
            two_shot<type_##type, world, false>(arguments, tile);                                                      \
        }                                                                                                              \
    }                                                                                                                  \
    PORT_KERNEL(tutti_reduce_scatter_##type##_##world)                                                                 \
    {                                                                                                                  \
        PORT_SHARED(struct vec4, tile, KERNEL_THREADS_MAX);                                                            \
        if (is_plain<type_##type>(arguments)) {                                                                        \
            reduce_scatter<type_##type, world, true>(arguments, tile);                                                 \
        } else {                                                                                                       \
            reduce_scatter<type_##type, world, false>(arguments, tile);                                                \
        }                                                                                                              \
    }
#define TWO_SHOT_WORLDS(type)                                                                                          \
    TWO_SHOT(type, 2)                                                                                                  \
    TWO_SHOT(type, 3)                                                                                                  \
    TWO_SHOT(type, 4)                                                                                                  \
    TWO_SHOT(type, 5)                                                                                                  \
    TWO_SHOT(type, 6)                                                                                                  \
    TWO_SHOT(type, 7)                                                                                                  \
    TWO_SHOT(type, 8)
TWO_SHOT_WORLDS(f32)
TWO_SHOT_WORLDS(f16)
TWO_SHOT_WORLDS(bf16)
