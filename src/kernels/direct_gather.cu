/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct_gather.cu - P5 for all_gather: by vote (vote.h), each rank writes its block to all ranks' results; else it goes through the
 * staging, in the same launch: large messages.
 *
 * The staged way is that of copies.cu, in rounds as in direct.cu. A tile of 1 << tile_shift threads there takes lines whose payload
 * is 15 << tile_shift bytes: 15 << (tile_shift - 4) whole vectors, which are a block's tile here.
 */
#include "kernels/lines.h"
#include "kernels/vote.h"

/* One round, for routes.h. */
struct gather_message {
    static constexpr uint32_t kind = KIND_ALL_GATHER, root = 0;
    static constexpr uint64_t src_stride = 0, row_stride = 0, row_first = 0;
    uint64_t row_bytes; /* 0 */
    uint32_t rank;
    uint64_t units, src, dst, dst_stride;
};

PORT_DEVICE struct gather_message message_make(const struct kernel_arguments &arguments, uint32_t number)
{
    const struct round round = round_make(arguments, number, 1);
    struct gather_message message;
    message.row_bytes = 0;
    message.rank = arguments.rank;
    message.units = round.bytes;
    message.src = arguments.src + round.first;
    message.dst = arguments.dst + round.first;
    message.dst_stride = arguments.dst_stride;
    return message;
}

template <int world>
PORT_DEVICE void push_everywhere(const struct kernel_arguments &arguments, const struct direct_route *route,
                                 uint64_t behind, uint32_t vec, const struct vec4 &value, bool in_place)
{
#pragma unroll
    for (uint32_t offset = 0; offset < world; offset++) {
        uint32_t rank = arguments.rank + offset; /* so that not all write to the same rank first */
        rank -= rank >= world ? world : 0;
        if (offset != 0 || !in_place) {
            port_store_system4(reinterpret_cast<struct vec4 *>(route->dst[rank] + behind) + vec, value);
        }
    }
}

/* Some of this thread's vectors of a round, on their way into registers: so many that enough loads are under way. */
#define FETCHED 4
struct fetched {
    uint32_t at[FETCHED];
    struct vec4 values[FETCHED];
};

/* A block's tile in whole vectors. */
PORT_DEVICE uint32_t tile_vecs_of(const struct kernel_arguments &arguments)
{
    return 15u << (arguments.tile_shift - 4);
}

/* From the `index`-th vector of the block's tiles on, every one that is a block's threads further. */
PORT_DEVICE struct fetched fetch(const struct kernel_arguments &arguments, const struct gather_message &message,
                                 uint32_t index)
{
    const uint32_t tile_vecs = tile_vecs_of(arguments), vecs = (uint32_t)(message.units / 16);
    struct fetched fetched;
#pragma unroll
    for (uint32_t step = 0; step < FETCHED; step++) {
        const uint32_t here = index + step * port_threads();
        const uint32_t tile = here / tile_vecs;
        fetched.at[step] = (port_block() + tile * port_blocks()) * tile_vecs + (here - tile * tile_vecs);
        fetched.values[step] = {0, 0, 0, 0};
        if (fetched.at[step] < vecs) {
            fetched.values[step] = reinterpret_cast<const struct vec4 *>(message.src)[fetched.at[step]];
        }
    }
    return fetched;
}

/* The block's tiles of a round: this rank's vectors, to everybody. `fetched`: the first ones. */
template <int world>
PORT_DEVICE void push_directly(const struct kernel_arguments &arguments, const struct gather_message &message,
                               const struct direct_route *route, struct fetched fetched)
{
    const uint32_t vecs = (uint32_t)(message.units / 16);
    const uint64_t behind = message.dst - arguments.dst + arguments.rank * arguments.dst_stride; /* a result's begin */
    const bool in_place = message.src == arguments.dst + behind;
    for (uint32_t index = port_thread();; fetched = fetch(arguments, message, index)) {
#pragma unroll
        for (uint32_t step = 0; step < FETCHED; step++) {
            if (fetched.at[step] < vecs) {
                push_everywhere<world>(arguments, route, behind, fetched.at[step], fetched.values[step], in_place);
            }
        }
        index += FETCHED * port_threads();
        if ((port_block() + index / tile_vecs_of(arguments) * port_blocks()) * tile_vecs_of(arguments) >= vecs) {
            return;
        }
    }
}

PORT_DEVICE void go_staged(const struct kernel_arguments &arguments, struct turn &turn)
{
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct gather_message message = message_make(arguments, number);
        const struct lines_place place = lines_place_make(arguments, message);
        exchange_lines(arguments, message, turn, place, false);
        round_end(arguments, turn, number);
    }
}

PORT_DEVICE void poison(const struct kernel_arguments &arguments)
{
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct gather_message message = message_make(arguments, number);
        poison_lines(message, lines_place_make(arguments, message));
    }
}

template <int world> PORT_DEVICE void direct_gather(const struct kernel_arguments &arguments, struct ballot_box *box)
{
    const uint64_t vecs = vecs_of_message(round_make(arguments, 0, 1).bytes);
    const bool busy = (uint64_t)port_block() << arguments.tile_shift < vecs;
    struct turn turn = vote_begin<world>(arguments, busy, arguments.units, box);
    struct fetched fetched = {};
    if (busy) {
        vote_cast<world>(arguments, turn, box);
        if (has_ballot(box)) {
            fetched = fetch(arguments, message_make(arguments, 0), port_thread());
        }
    }
    turn_announce(arguments, turn);
    bool failed = false;
    if (busy && vote_count<world>(arguments, turn, box, arguments.units)) {
        push_directly<world>(arguments, message_make(arguments, 0), &box->route, fetched);
        for (uint32_t number = 1; number < arguments.rounds; number++) {
            const struct gather_message message = message_make(arguments, number);
            push_directly<world>(arguments, message, &box->route, fetch(arguments, message, port_thread()));
        }
        failed = part<world>(arguments, turn, true, true, box);
    } else if (busy) {
        go_staged(arguments, turn);
        failed = part<world>(arguments, turn, false, arguments.rounds > 1, box);
    }
    if (failed) {
        poison(arguments);
    }
    if (busy) {
        part_end(arguments, failed);
    }
    turn_end(arguments, turn);
}

#define DIRECT_GATHER(world)                                                                                           \
    PORT_KERNEL_LARGE(tutti_direct_gather_##world)                                                                     \
    {                                                                                                                  \
        PORT_SHARED(struct ballot_box, box, 1);                                                                        \
        direct_gather<world>(arguments, box);                                                                          \
    }
DIRECT_GATHER(2)
DIRECT_GATHER(3)
DIRECT_GATHER(4)
DIRECT_GATHER(5)
DIRECT_GATHER(6)
DIRECT_GATHER(7)
DIRECT_GATHER(8)
