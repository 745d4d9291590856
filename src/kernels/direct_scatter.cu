/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct_scatter.cu - P5 for reduce_scatter: by vote (vote.h), each rank reads its block of all ranks' inputs where they are, and
 * sums them into its own result; else they go through the staging, in the same launch: large messages.
 *
 * The staged way is that of reduce_scatter in two_shot.cu, in rounds as in direct.cu.
 */
#include "kernels/shards.h"
#include "kernels/vote.h"

template <class Type, int world>
PORT_DEVICE void go_directly(const struct kernel_arguments &arguments, const struct place &place,
                             const struct direct_route *route)
{
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct round round = round_make(arguments, number, Type::element_bytes);
        const uint64_t src_first = arguments.rank * arguments.src_stride + round.first;
        reduce_directly<Type, world, false>(arguments, place, route, src_first, round.first,
                                            (uint32_t)(round.bytes / 16));
    }
}

template <class Type> PORT_DEVICE void poison(const struct kernel_arguments &arguments, const struct place &place)
{
    for (uint32_t number = 0; number < arguments.rounds && place.mine; number++) {
        const struct round round = round_make(arguments, number, Type::element_bytes);
        poison_shard<Type>(place, span_make(arguments.dst + round.first, round.bytes));
    }
}

template <class Type, int world, bool plain>
PORT_DEVICE void go_staged(const struct kernel_arguments &arguments, struct turn &turn, const struct place &place,
                           struct vec4 *tile)
{
    const uint64_t slot_bytes = arguments.half_bytes / world / 16 * 16;
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct round round = round_make(arguments, number, Type::element_bytes);
        const uint64_t src = arguments.src + round.first;
        const struct vec4 own = push_shard<Type, plain>(
            arguments, turn, place, slot_bytes, span_make(src + place.peer * arguments.src_stride, round.bytes));
        port_sync(); /* the tile of the round before has been read */
        reduce_shard<Type, world, plain, false>(arguments, turn, place, slot_bytes,
                                                span_make(src + arguments.rank * arguments.src_stride, round.bytes),
                                                span_make(arguments.dst + round.first, round.bytes), own, tile);
        round_end(arguments, turn, number);
    }
}

template <class Type, int world>
PORT_DEVICE void direct_scatter(const struct kernel_arguments &arguments, struct vec4 *tile, struct ballot_box *box)
{
    const struct place place = place_make(arguments);
    const uint64_t bytes = arguments.units * Type::element_bytes;
    const bool busy = place.begin < (round_make(arguments, 0, Type::element_bytes).bytes + 15) / 16;
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
            poison<Type>(arguments, place);
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

#define DIRECT_SCATTER(type, world)                                                                                    \
    PORT_KERNEL_LARGE(tutti_direct_scatter_##type##_##world)                                                           \
    {                                                                                                                  \
        PORT_SHARED(struct vec4, tile, KERNEL_THREADS_MAX);                                                            \
        PORT_SHARED(struct ballot_box, box, 1);                                                                        \
        direct_scatter<type_##type, world>(arguments, tile, box);                                                      \
    }
#define DIRECT_SCATTER_WORLDS(type)                                                                                    \
    DIRECT_SCATTER(type, 2)                                                                                            \
    DIRECT_SCATTER(type, 3)                                                                                            \
    DIRECT_SCATTER(type, 4)                                                                                            \
    DIRECT_SCATTER(type, 5)                                                                                            \
    DIRECT_SCATTER(type, 6)                                                                                            \
    DIRECT_SCATTER(type, 7)                                                                                            \
    DIRECT_SCATTER(type, 8)
DIRECT_SCATTER_WORLDS(f32)
DIRECT_SCATTER_WORLDS(f16)
DIRECT_SCATTER_WORLDS(bf16)
