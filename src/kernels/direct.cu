/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.cu - P5 for all_reduce: direct two-shot by vote, with the staged way in the same launch: large messages.
 *
 * Ownership is that of two_shot.cu. Directly (vote.h), the owner of a shard reads the ranks' inputs where they are and writes the sums
 * to the ranks' outputs. The message is taken in rounds of what an inbox holds, so that a block's elements are the same on both ways.
 *
 * The staged way does each round as two_shot.cu would, with the halves in turns. Between two launches the end of a grid orders the
 * emptying of a half before its next use; between rounds a fence does, of each thread for itself: the slots that a thread empties
 * are filled again by the one thread of the peer that this one sends to, two rounds later, after what this one sends in the round
 * between. The last round is shorter, and some threads have no part in it: so behind several rounds the blocks wait for one another
 * (vote.h), and whoever ends his call knows that all inboxes are empty.
 */
#include "kernels/shards.h"
#include "kernels/vote.h"

template <class Type, int world>
PORT_DEVICE void go_directly(const struct kernel_arguments &arguments, const struct place &place,
                             const struct direct_route *route)
{
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct round round = round_make(arguments, number, Type::element_bytes);
        const uint64_t shard_bytes = shard_bytes_of<world>(round.bytes);
        const struct span mine = shard_of(round.first, round.bytes, shard_bytes, arguments.rank);
        reduce_directly<Type, world, true>(arguments, place, route, mine.base, mine.base, vecs_of(mine));
    }
}

/* Each thread its peer's shard. */
template <class Type, int world>
PORT_DEVICE void poison(const struct kernel_arguments &arguments, const struct place &place)
{
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct round round = round_make(arguments, number, Type::element_bytes);
        poison_shard<Type>(
            place, shard_of(arguments.dst + round.first, round.bytes, shard_bytes_of<world>(round.bytes), place.peer));
    }
}

template <class Type, int world, bool plain>
PORT_DEVICE void go_staged(const struct kernel_arguments &arguments, struct turn &turn, const struct place &place,
                           struct vec4 *tile)
{
    const uint64_t slot_bytes = arguments.half_bytes / (2 * world) / 16 * 16;
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct round round = round_make(arguments, number, Type::element_bytes);
        const uint64_t shard_bytes = shard_bytes_of<world>(round.bytes);
        const uint64_t src = arguments.src + round.first, dst = arguments.dst + round.first;
        const struct vec4 own = push_shard<Type, plain>(arguments, turn, place, slot_bytes,
                                                        shard_of(src, round.bytes, shard_bytes, place.peer));
        port_sync(); /* in place: all of the block's input of this round has been read; and the tile of the former */
        reduce_shard<Type, world, plain, true>(arguments, turn, place, slot_bytes,
                                               shard_of(src, round.bytes, shard_bytes, arguments.rank),
                                               shard_of(dst, round.bytes, shard_bytes, arguments.rank), own, tile);
        if (!place.mine) {
            gather<Type, world, plain>(arguments, turn, place, slot_bytes,
                                       shard_of(dst, round.bytes, shard_bytes, place.peer));
        }
        round_end(arguments, turn, number);
    }
}

template <class Type, int world>
PORT_DEVICE void direct(const struct kernel_arguments &arguments, struct vec4 *tile, struct ballot_box *box)
{
    const struct place place = place_make(arguments);
    const uint64_t bytes = arguments.units * Type::element_bytes;
    const bool busy = place.begin < shard_bytes_of<world>(round_make(arguments, 0, Type::element_bytes).bytes) / 16;
    const struct first_look look = look_first(arguments, busy);
    struct turn turn = turn_begin(arguments);
    if (busy) {
        vote_cast<world>(arguments, turn, look, bytes, box);
    }
    turn_announce(arguments, turn);
    if (busy && vote_count<world>(arguments, turn, box, bytes)) {
        go_directly<Type, world>(arguments, place, &box->route);
        const bool failed = part<world>(arguments, turn, true, box);
        if (failed) {
            poison<Type, world>(arguments, place);
        }
        part_end(arguments, failed);
    } else if (busy) {
        if (is_plain<Type>(arguments)) {
            go_staged<Type, world, true>(arguments, turn, place, tile);
        } else {
            go_staged<Type, world, false>(arguments, turn, place, tile);
        }
        part_end(arguments, part<world>(arguments, turn, false, box));
    }
    turn_end(arguments, turn);
}

#define DIRECT(type, world)                                                                                            \
    PORT_KERNEL_LARGE(tutti_direct_##type##_##world)                                                                   \
    {                                                                                                                  \
        PORT_SHARED(struct vec4, tile, KERNEL_THREADS_MAX);                                                            \
        PORT_SHARED(struct ballot_box, box, 1);                                                                        \
        direct<type_##type, world>(arguments, tile, box);                                                              \
    }
#define DIRECT_WORLDS(type)                                                                                            \
    DIRECT(type, 2)                                                                                                    \
    DIRECT(type, 3)                                                                                                    \
    DIRECT(type, 4)                                                                                                    \
    DIRECT(type, 5)                                                                                                    \
    DIRECT(type, 6)                                                                                                    \
    DIRECT(type, 7)                                                                                                    \
    DIRECT(type, 8)
DIRECT_WORLDS(f32)
DIRECT_WORLDS(f16)
DIRECT_WORLDS(bf16)
