/* SPDX-License-Identifier: Apache-2.0 */
/*
 * one_shot.cu - P2, sentinel one-shot all_reduce: one hop, no flags, every byte on the wire is payload.
 *
 * Wire format. A half of the arena is cut into `world` slots of half_bytes / world bytes; slot r receives rank r's
 * whole input (of this launch: the host cuts longer messages). A word that has not arrived is SENTINEL. A data word
 * never is: the producer turns the one NaN pattern that equals it into the next NaN.
 *
 *     rank r:  for each peer p:  input -> slot r of p's half
 *              for each peer p:  slot p of my own half -> input of p; the slot becomes SENTINEL again
 *              dst = input_0 op input_1 op .. op input_{world-1}
 *
 * With many ranks one thread a (peer, vector): it stores to one peer and polls for that peer, so that no thread
 * serves seven peers in turn; the inputs meet in shared memory, and the block adds them up word by word. With few
 * ranks the meeting costs more than the turns: one thread a vector, and the sums stay in registers.
 *
 * A world of one is the case without peers: what remains is that NaN becomes canonical.
 *
 * Two halves suffice. A writes epoch e+2 into B after its own call e+1 has completed, which had all of B's data of
 * e+1, which B sent after its call e had completed, and with it had emptied this half. The kernel boundary
 * between B's calls e and e+1 orders the emptying before everything that A can learn from e+1.
 */
#include "kernels/elements.h"
#include "kernels/numbers.h"
#include "kernels/turn.h"

#ifndef LEAN_WORLD_MAX
#define LEAN_WORLD_MAX 3
#endif

struct job {
    struct span src, dst;
    uint32_t vecs;
    uint32_t begin, stride; /* of the block's tiles */
};

template <class Type> PORT_DEVICE struct job job_make(const struct kernel_arguments &arguments)
{
    struct job job;
    job.src = span_make(arguments.src, arguments.units * Type::element_bytes);
    job.dst = span_make(arguments.dst, job.src.bytes);
    job.vecs = (uint32_t)((job.src.bytes + 15) / 16);
    job.begin = port_block() << arguments.tile_shift;
    job.stride = port_blocks() << arguments.tile_shift;
    return job;
}

/* Where `sender`'s vector `vec` arrives at the rank whose lane is at `lane`, but for the half's offset: known before the epoch is. */
template <int world>
PORT_DEVICE uint64_t inbox(const struct kernel_arguments &arguments, uint64_t lane, uint32_t sender, uint32_t vec)
{
    return lane + sender * (arguments.half_bytes / world / 16 * 16) + (uint64_t)vec * 16;
}

PORT_DEVICE struct vec4 *slot_in(const struct turn &turn, uint64_t inbox)
{
    return reinterpret_cast<struct vec4 *>(inbox + turn.half);
}

/* A sum of whole vectors: the path that has to be short. The same bytes cross the wire on either. */
template <class Type> PORT_DEVICE bool is_plain(const struct kernel_arguments &arguments)
{
    uint64_t bytes = arguments.units * Type::element_bytes;
    return arguments.op == OP_SUM && ((arguments.src | arguments.dst | bytes) & 15) == 0;
}

/* -- few ranks: a thread a vector, sums in registers ----------------------------------------------- */

/* To the peers in turn, each rank beginning behind itself. */
template <int world>
PORT_DEVICE void push_lean(const struct kernel_arguments &arguments, const struct turn &turn, uint32_t vec,
                           struct vec4 own)
{
    const struct vec4 value = avoid_sentinel(own);
#pragma unroll
    for (uint32_t offset = 1; offset < world; offset++) {
        uint32_t peer = arguments.rank + offset;
        peer -= peer >= world ? world : 0;
        port_store_system4(slot_in(turn, inbox<world>(arguments, arguments.lanes[peer], arguments.rank, vec)), value);
    }
}

template <class Type, int world, bool plain>
PORT_DEVICE void take_lean(const struct kernel_arguments &arguments, struct turn &turn, const struct span &dst,
                           uint32_t vec, struct vec4 own)
{
    struct vec4 values[world];
#pragma unroll
    for (uint32_t peer = 0; peer < world; peer++) {
        values[peer] = own;
        if (peer != arguments.rank) {
            struct vec4 *slot = slot_in(turn, inbox<world>(arguments, arguments.own, peer, vec));
            values[peer] = receive(arguments, turn, slot, peer, nan_word(Type()));
        }
    }
    span_store<Type::element_bytes, plain>(dst, vec, reduce_vec<Type, world>(plain ? OP_SUM : arguments.op, values));
}

template <class Type, int world, bool plain> PORT_DEVICE void one_shot_lean(const struct kernel_arguments &arguments)
{
    const bool programmatic = (arguments.flags & KERNEL_PROGRAMMATIC) != 0;
    const struct job job = job_make<Type>(arguments);
    const uint32_t vec = job.begin + port_thread();
    struct vec4 own = {0, 0, 0, 0};
    if (vec < job.vecs && !programmatic) {
        own = span_load<Type::element_bytes, plain>(job.src, vec); /* under way while the epoch is asked for */
    }
    struct turn turn = turn_begin(arguments);
    if (vec < job.vecs && programmatic) {
        own = span_load<Type::element_bytes, plain>(job.src, vec);
    }
    if (vec < job.vecs && !turn.failed) {
        push_lean<world>(arguments, turn, vec, own);
        for (uint32_t at = vec + job.stride; at < job.vecs; at += job.stride) {
            push_lean<world>(arguments, turn, at, span_load<Type::element_bytes, plain>(job.src, at));
        }
    }
    turn_announce(arguments, turn);
    if (vec < job.vecs) {
        take_lean<Type, world, plain>(arguments, turn, job.dst, vec, own);
        for (uint32_t at = vec + job.stride; at < job.vecs; at += job.stride) {
            own = span_load<Type::element_bytes, plain>(job.src, at);
            take_lean<Type, world, plain>(arguments, turn, job.dst, at, own);
        }
    }
    turn_end(arguments, turn);
}

/* -- many ranks: a thread a (peer, vector), sums through shared memory -------------------------------- */

/* Adds up the block's tile word by word; rank r's vectors begin at tile[r << tile_shift]. */
template <class Type, int world, bool plain>
PORT_DEVICE void reduce_tile(const struct kernel_arguments &arguments, const struct vec4 *tile, const struct span &dst,
                             uint64_t first_byte)
{
    const uint32_t *words = reinterpret_cast<const uint32_t *>(tile);
    uint32_t tile_words = 4u << arguments.tile_shift;
    for (uint32_t word = port_thread(); word < tile_words; word += port_threads()) {
        uint64_t offset = first_byte + (uint64_t)word * 4;
        if (offset < dst.bytes) {
            span_store_word<Type::element_bytes, plain>(
                dst, offset, reduce_word<Type, world>(plain ? OP_SUM : arguments.op, words + word, tile_words));
        }
    }
}

template <class Type, int world, bool plain>
PORT_DEVICE void one_shot_spread(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    const uint32_t peer = port_thread() >> arguments.tile_shift;
    const uint32_t column = port_thread() & ((1u << arguments.tile_shift) - 1);
    const bool mine = peer == arguments.rank;
    const struct job job = job_make<Type>(arguments);
    const uint32_t vec = job.begin + column;
    const bool programmatic = (arguments.flags & KERNEL_PROGRAMMATIC) != 0;
    struct vec4 own = {0, 0, 0, 0};
    if (vec < job.vecs && !programmatic) {
        own = span_load<Type::element_bytes, plain>(job.src, vec); /* under way while the epoch is asked for */
    }
    uint64_t outbox = inbox<world>(arguments, arguments.lanes[peer], arguments.rank, vec);
    port_settle(outbox);
    struct turn turn = turn_begin(arguments);
    if (vec < job.vecs && programmatic) {
        own = span_load<Type::element_bytes, plain>(job.src, vec);
    }
    if (!mine && vec < job.vecs && !turn.failed) {
        port_store_system4(slot_in(turn, outbox), avoid_sentinel(own));
        for (uint32_t at = vec + job.stride; at < job.vecs; at += job.stride) {
            port_store_system4(slot_in(turn, outbox) + (at - vec),
                               avoid_sentinel(span_load<Type::element_bytes, plain>(job.src, at)));
        }
    }
    turn_announce(arguments, turn);
    for (uint32_t first = job.begin; first < job.vecs; first += job.stride) {
        const uint32_t at = first + column;
        if (first != job.begin) {
            port_sync(); /* the tile has been read */
            if (mine && at < job.vecs) {
                own = span_load<Type::element_bytes, plain>(job.src, at);
            }
        }
        if (at < job.vecs) {
            struct vec4 *slot = slot_in(turn, inbox<world>(arguments, arguments.own, peer, at));
            tile[port_thread()] = mine ? own : receive(arguments, turn, slot, peer, nan_word(Type()));
        }
        port_sync_stored();
        if (first + job.stride >= job.vecs) {
            turn_polled(arguments, turn);
        }
        reduce_tile<Type, world, plain>(arguments, tile, job.dst, (uint64_t)first * 16);
    }
    turn_leave(arguments);
}

template <class Type, int world, bool plain>
PORT_DEVICE void one_shot(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    if (world <= LEAN_WORLD_MAX) {
        one_shot_lean<Type, world, plain>(arguments);
    } else {
        one_shot_spread<Type, world, plain>(arguments, tile);
    }
}

#define ONE_SHOT(type, world)                                                                                          \
    PORT_KERNEL(tutti_one_shot_##type##_##world)                                                                       \
    {                                                                                                                  \
        PORT_SHARED(struct vec4, tile, KERNEL_THREADS_MAX);                                                            \
        if (is_plain<type_##type>(arguments)) {                                                                        \
            one_shot<type_##type, world, true>(arguments, tile);                                                       \
        } else {                                                                                                       \
            one_shot<type_##type, world, false>(arguments, tile);                                                      \
        }                                                                                                              \
    }
/* One rank: its NaN become canonical. */
#define ONE_SHOT_WORLDS(type)                                                                                          \
    ONE_SHOT(type, 1)                                                                                                  \
    ONE_SHOT(type, 2)                                                                                                  \
    ONE_SHOT(type, 3)                                                                                                  \
    ONE_SHOT(type, 4)                                                                                                  \
    ONE_SHOT(type, 5)                                                                                                  \
    ONE_SHOT(type, 6)                                                                                                  \
    ONE_SHOT(type, 7)                                                                                                  \
    ONE_SHOT(type, 8)
ONE_SHOT_WORLDS(f32)
ONE_SHOT_WORLDS(f16)
ONE_SHOT_WORLDS(bf16)
