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
#include "kernels/shards.h"

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

template <class Type, int world, bool plain>
PORT_DEVICE void two_shot(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    const struct place place = place_make(arguments);
    const uint64_t bytes = arguments.units * Type::element_bytes;
    const uint64_t shard_bytes = shard_bytes_of<world>(bytes);
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
