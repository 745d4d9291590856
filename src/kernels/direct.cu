/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.cu - P5 for all_reduce: each element is summed by one rank, which by vote (vote.h) writes the sums straight to all ranks'
 * results; else they go through the staging, in the same launch: large messages.
 *
 * The inputs are sent through the staging on either way (ring.h): a wire that carries stores alone carries 10% more than one that carries
 * as many bytes in stores and answers to loads. And so the first round is on its way while the votes are.
 */
#include "kernels/ring.h"
#include "kernels/vote.h"

template <class Type, int world, bool plain>
PORT_DEVICE void direct(const struct kernel_arguments &arguments, struct ballot_box *box)
{
    const uint64_t bytes = arguments.units * Type::element_bytes;
    const uint64_t shard_bytes = shard_bytes_of<world>(round_make(arguments, 0, Type::element_bytes).bytes);
    const bool busy = port_block() * port_threads() < shard_bytes / 16;
    const struct first_look look = look_first(arguments, busy);
    struct turn turn = turn_begin(arguments);
    if (busy) {
        vote_cast<world>(arguments, turn, look, bytes, box);
        ring_begin<Type, world, plain, RING_STAGED>(arguments, turn);
    }
    turn_announce(arguments, turn);
    if (busy && vote_count<world>(arguments, turn, box, bytes)) {
        ring_go<Type, world, plain, RING_DIRECT>(arguments, turn, &box->route);
        const bool failed = part<world>(arguments, turn, true, true, box);
        if (failed) {
            ring_poison<Type, world, RING_DIRECT>(arguments);
        }
        part_end(arguments, failed);
    } else if (busy) {
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
