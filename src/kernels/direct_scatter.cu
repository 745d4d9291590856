/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct_scatter.cu - P5 for reduce_scatter: by vote (vote.h), each rank reads its block of all ranks' inputs where they are, and
 * sums them into its own result; else they go through the staging (ring.h), in the same launch: large messages.
 */
#include "kernels/ring.h"
#include "kernels/vote.h"

/* The block's vectors, as ring.h has them. (Addresses stay in shared memory: in registers they would take as many as the values.) */
template <class Type, int world>
PORT_DEVICE void sum_directly(const struct kernel_arguments &arguments, const struct direct_route *route,
                              const struct round &round)
{
    constexpr uint32_t ahead = world == 2 ? 4 : world <= 4 ? 2 : 1; /* so that enough loads are under way */
    const uint64_t src_first = arguments.rank * arguments.src_stride + round.first;
    const uint32_t vecs = (uint32_t)(round.bytes / 16);
    for (uint32_t vec = ring_first(); vec < vecs; vec += ahead * ring_stride()) {
        struct vec4 values[ahead][world];
#pragma unroll
        for (uint32_t step = 0; step < ahead; step++) {
#pragma unroll
            for (uint32_t rank = 0; rank < world && vec + step * ring_stride() < vecs; rank++) {
                const struct vec4 *from = reinterpret_cast<const struct vec4 *>(route->src[rank] + src_first);
                values[step][rank] = port_load_system4(from + vec + step * ring_stride());
            }
        }
#pragma unroll
        for (uint32_t step = 0; step < ahead; step++) {
            if (vec + step * ring_stride() < vecs) {
                span_store<Type::element_bytes, true>(span_make(arguments.dst + round.first, round.bytes),
                                                      vec + step * ring_stride(),
                                                      reduce_vec<Type, world>(arguments.op, values[step]));
            }
        }
    }
}

template <class Type, int world, bool plain>
PORT_DEVICE void go_staged(const struct kernel_arguments &arguments, struct turn &turn)
{
    ring_begin<Type, world, plain, RING_SCATTER>(arguments, turn);
    ring_go<Type, world, plain, RING_SCATTER>(arguments, turn, nullptr);
}

template <class Type, int world>
PORT_DEVICE void direct_scatter(const struct kernel_arguments &arguments, struct ballot_box *box)
{
    const uint64_t bytes = arguments.units * Type::element_bytes;
    const uint64_t vecs = (round_make(arguments, 0, Type::element_bytes).bytes + 15) / 16;
    const bool busy = port_block() * port_threads() < vecs;
    struct turn turn = vote_begin<world>(arguments, busy, bytes, box);
    if (busy) {
        vote_cast<world>(arguments, turn, box);
    }
    turn_announce(arguments, turn);
    if (busy && vote_count<world>(arguments, turn, box, bytes)) {
        for (uint32_t number = 0; number < arguments.rounds; number++) {
            sum_directly<Type, world>(arguments, &box->route, round_make(arguments, number, Type::element_bytes));
        }
        const bool failed = part<world>(arguments, turn, true, true, box);
        if (failed) {
            ring_poison<Type, world, RING_SCATTER>(arguments);
        }
        part_end(arguments, failed);
    } else if (busy) {
        if (is_plain<Type>(arguments)) {
            go_staged<Type, world, true>(arguments, turn);
        } else {
            go_staged<Type, world, false>(arguments, turn);
        }
        part_end(arguments, part<world>(arguments, turn, false, arguments.rounds > 1, box));
    }
    turn_end(arguments, turn);
}

#define DIRECT_SCATTER(type, world)                                                                                    \
    PORT_KERNEL_LARGE(tutti_direct_scatter_##type##_##world)                                                           \
    {                                                                                                                  \
        PORT_SHARED(struct ballot_box, box, 1);                                                                        \
        direct_scatter<type_##type, world>(arguments, box);                                                            \
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
