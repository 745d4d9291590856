/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.cu - P5 for all_reduce: each element is summed by one rank, which by vote (vote.h) writes the sums straight to all ranks'
 * results; else they go through the staging, in the same launch: large messages.
 *
 * From three ranks on the inputs are sent through the staging on either way (ring.h): a wire that carries stores alone carries 10% more
 * than one that carries as many bytes in stores and answers to loads. And so the first round is on its way while the votes are. Between two
 * ranks the difference is smaller than what the staging costs beside: the inputs are read where they are.
 */
#include "kernels/ring.h"
#include "kernels/vote.h"

#define READS_INPUTS(world) ((world) == 2)

/* Where vector `vec` of what this rank sums in a round is, behind the beginning of any buffer. False: there is none. */
template <class Type, int world>
PORT_DEVICE bool find_vector(const struct kernel_arguments &arguments, uint32_t number, uint32_t vec, uint64_t &behind)
{
    const struct round round = round_make(arguments, number, Type::element_bytes);
    const struct span own = ring_result<world, RING_DIRECT>(arguments, round, arguments.rank);
    behind = own.base - arguments.dst + (uint64_t)vec * 16;
    return vec < vecs_of(own);
}

/* Vector `vec` of some rounds: so many that enough loads are under way. */
#define ROUNDS_TOGETHER 4
template <class Type, int world, bool plain>
PORT_DEVICE void reduce_vectors(const struct kernel_arguments &arguments, const struct direct_route *route,
                                uint32_t number, uint32_t vec)
{
    struct vec4 values[ROUNDS_TOGETHER][world];
    uint64_t behind[ROUNDS_TOGETHER];
    bool found[ROUNDS_TOGETHER];
#pragma unroll
    for (uint32_t step = 0; step < ROUNDS_TOGETHER; step++) {
        found[step] =
            number + step < arguments.rounds && find_vector<Type, world>(arguments, number + step, vec, behind[step]);
#pragma unroll
        for (uint32_t rank = 0; rank < world && found[step]; rank++) {
            values[step][rank] =
                port_load_system4(reinterpret_cast<const struct vec4 *>(route->src[rank] + behind[step]));
        }
    }
#pragma unroll
    for (uint32_t step = 0; step < ROUNDS_TOGETHER; step++) {
        if (!found[step]) {
            continue;
        }
        const struct vec4 sum = reduce_vec<Type, world>(plain ? OP_SUM : arguments.op, values[step]);
#pragma unroll
        for (uint32_t rank = 0; rank < world; rank++) {
            port_store_system4(reinterpret_cast<struct vec4 *>(route->dst[rank] + behind[step]), sum);
        }
    }
}

/* The block's vectors, as ring.h has them. The first round has no fewer than any other. */
template <class Type, int world, bool plain>
PORT_DEVICE void reduce_directly(const struct kernel_arguments &arguments, const struct direct_route *route)
{
    uint64_t behind;
    for (uint32_t number = 0; number < arguments.rounds; number += ROUNDS_TOGETHER) {
        for (uint32_t vec = ring_first(); find_vector<Type, world>(arguments, 0, vec, behind); vec += ring_stride()) {
            reduce_vectors<Type, world, plain>(arguments, route, number, vec);
        }
    }
}

template <class Type, int world, bool plain>
PORT_DEVICE void direct(const struct kernel_arguments &arguments, struct ballot_box *box)
{
    const uint64_t bytes = arguments.units * Type::element_bytes;
    const uint64_t shard_bytes = shard_bytes_of<world>(round_make(arguments, 0, Type::element_bytes).bytes);
    const bool busy = port_block() * port_threads() < shard_bytes / 16;
    struct turn turn = vote_begin<world>(arguments, busy, bytes, box);
    const bool waits = READS_INPUTS(world) && busy && has_ballot(box); /* with round 0, for the votes */
    if (busy) {
        vote_cast<world>(arguments, turn, box);
    }
    if (busy && !waits) {
        ring_begin<Type, world, plain, RING_STAGED>(arguments, turn);
    }
    turn_announce(arguments, turn);
    if (busy && vote_count<world>(arguments, turn, box, bytes)) {
        if constexpr (READS_INPUTS(world)) {
            reduce_directly<Type, world, plain>(arguments, &box->route);
        } else {
            ring_go<Type, world, plain, RING_DIRECT>(arguments, turn, &box->route);
        }
        const bool failed = part<world>(arguments, turn, true, true, box);
        if (failed) {
            ring_poison<Type, world, RING_DIRECT>(arguments);
        }
        part_end(arguments, failed);
    } else if (busy) {
        if (waits) {
            ring_begin<Type, world, plain, RING_STAGED>(arguments, turn);
        }
        ring_go<Type, world, plain, RING_STAGED>(arguments, turn, nullptr);
        part_end(arguments, part<world>(arguments, turn, false, true, box));
    }
    turn_end(arguments, turn);
}

#define DIRECT(type, world)                                                                                            \
    PORT_KERNEL_LARGE(tutti_direct_##type##_##world)                                                                   \
    {                                                                                                                  \
        PORT_SHARED(struct ballot_box, box, 1);                                                                        \
        if (is_plain<type_##type>(arguments)) {                                                                        \
            direct<type_##type, world, true>(arguments, box);                                                          \
        } else {                                                                                                       \
            direct<type_##type, world, false>(arguments, box);                                                         \
        }                                                                                                              \
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
