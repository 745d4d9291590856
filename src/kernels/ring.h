/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - reductions of long messages within one launch: in rounds, through a ring of segments of the inboxes.
 *
 * Both halves together are cut into segments, this call's own half first, and round n uses segment n % segments. A segment has an area of
 * `world` slots for the inputs of what I sum, slot r of rank r's, and where sums go through the staging another one for them.
 *
 * A thread has the same vectors of all ranks' parts: it sends them to their owners, sums those of its own rank, and takes the
 * sums of the others. No barrier, so that each warp is where it is, and the wire is never idle. What a thread waits for was sent a step or
 * two earlier; a step is one round, or several where sums go through the staging: as many as make four steps of all segments.
 *
 *     step n of a thread:  perhaps a fence | send inputs n + ahead | take sums n - 1 | take inputs n, send their sums
 *
 * No credits are sent: data are. (Here n, ahead, pause and segments count steps; tests/simgpu/ring_schedule.cpp goes through all of it.)
 * Slots of one peer's that a thread empties are filled by one thread of that peer, the one that this thread sends to. Inputs emptied
 * in step n are so before the thread's next fence, in step f <= n + pause, hence before inputs f + ahead, which are sent behind it. The
 * peer takes those in its step f + ahead, passes its next fence in a step g, and then may fill the same slots again: with inputs
 * n + segments, which it sends in its step n + segments - ahead. Ahead and pause are such that g is no later. Through the staging there
 * are 4 segments of one step each, and both are 1: f = n + 1 and g = n + 3. Straight to the results there are 8, 16 or 32, ahead is 2
 * and pause 3, 7 or 15: f <= n + pause and g = f + pause, which is n + segments - 2 at most. Sums are emptied a step later than the
 * inputs, but filled again a step later than those. A fence takes the time of a way there and back on a full wire: the more segments, the
 * fewer fences.
 *
 * For all this each thread must hear from all peers in each round but the last: parts are alike in all of those, on all ranks.
 * What is up to `ahead` is sent before anything was heard, and so lies in the half that is empty; what lies in the other half is sent when
 * the thread has heard from each peer in this call and passed a fence, so that peer's call before is complete and has emptied it, and is
 * looked at behind that fence, too: the first fence is the one before the first inputs for the other half, and from there one comes every
 * `pause` steps, if there are more rounds than segments.
 *
 * The last round may leave threads out, which then know nothing of their slots: behind several rounds the blocks wait for one another
 * (vote.h), and whoever ends his call knows that all inboxes are empty.
 */
#ifndef TUTTI_KERNELS_RING_H
#define TUTTI_KERNELS_RING_H

#include "kernels/shards.h"

/* Where the parts of a round begin and what becomes of the sums: of reduce_scatter, in the caller's blocks, they stay here; of all_reduce,
 * in shards of the round, they go to all ranks, through the staging or straight to their results. */
enum ring_way { RING_SCATTER, RING_STAGED, RING_DIRECT };
#define RING_SEGMENTS(way, world) ((way) == RING_STAGED ? RING_AREAS(world) : 2 * RING_AREAS(world))
#define RING_STEP(way, world) ((way) == RING_STAGED ? RING_AREAS(world) / 4 : 1)
#define RING_AHEAD(way, world) ((way) == RING_STAGED ? RING_STEP(way, world) : 2)
#define RING_PAUSE(way, world) ((way) == RING_STAGED ? RING_STEP(way, world) : RING_AREAS(world) - 1)

/* Whether loads are asked for early: where there are registers for them. */
#define RING_EARLY(plain, world) ((plain) && (world) <= 4)

template <int world> PORT_DEVICE uint64_t ring_slot_bytes(const struct kernel_arguments &arguments)
{
    return arguments.half_bytes / (RING_AREAS(world) * world) / 16 * 16;
}

/* Slot `slot` of round `number` in the lane at address `lane`; from `world` on those of the sums. */
template <int world, enum ring_way way>
PORT_DEVICE struct vec4 *ring_slot(const struct kernel_arguments &arguments, const struct turn &turn, uint32_t number,
                                   uint64_t lane, uint32_t slot)
{
    constexpr uint32_t segments = RING_SEGMENTS(way, world);
    const uint32_t area = number % (segments / 2) * (2 * RING_AREAS(world) / segments);
    const uint64_t other = 2 * (uint64_t)ARENA_HEAD_BYTES + arguments.half_bytes - turn.half;
    const uint64_t half = number % segments < segments / 2 ? turn.half : other;
    return reinterpret_cast<struct vec4 *>(lane + half + (area * world + slot) * ring_slot_bytes<world>(arguments));
}

/* A round's part of what `owner` sums, in this rank's input. */
template <int world, enum ring_way way>
PORT_DEVICE struct span ring_input(const struct kernel_arguments &arguments, const struct round &round, uint32_t owner)
{
    const uint64_t base = arguments.src + round.first;
    return way == RING_SCATTER ? span_make(base + owner * arguments.src_stride, round.bytes)
                               : shard_of(base, round.bytes, shard_bytes_of<world>(round.bytes), owner);
}

/* Where its sums belong in this rank's result. */
template <int world, enum ring_way way>
PORT_DEVICE struct span ring_result(const struct kernel_arguments &arguments, const struct round &round, uint32_t owner)
{
    const uint64_t base = arguments.dst + round.first;
    return way == RING_SCATTER ? span_make(base, round.bytes)
                               : shard_of(base, round.bytes, shard_bytes_of<world>(round.bytes), owner);
}

PORT_DEVICE uint32_t ring_first()
{
    return port_block() * port_threads() + port_thread();
}

PORT_DEVICE uint32_t ring_stride()
{
    return port_blocks() * port_threads();
}

/* Rank `offset` behind this one: so that not all send to the same rank first. */
template <int world> PORT_DEVICE uint32_t ring_peer(const struct kernel_arguments &arguments, uint32_t offset)
{
    const uint32_t rank = arguments.rank + offset;
    return rank >= world ? rank - world : rank;
}

/* One vector of each rank's part. */
template <int world> struct ring_vecs {
    struct vec4 of[world];
};

/* What this thread sends first in a round, on its way into registers: asked for a round early. */
template <class Type, int world, bool plain, enum ring_way way>
PORT_DEVICE struct ring_vecs<world> ring_fetch(const struct kernel_arguments &arguments, uint32_t number, uint32_t vec)
{
    const struct round round = round_make(arguments, number, Type::element_bytes);
    struct ring_vecs<world> fetched = {
    };
#pragma unroll
    for (uint32_t offset = 1; offset < world; offset++) {
        const struct span theirs = ring_input<world, way>(arguments, round, ring_peer<world>(arguments, offset));
        if (vec < vecs_of(theirs)) {
            fetched.of[offset] = span_load<Type::element_bytes, plain>(theirs, vec);
        }
    }
    return fetched;
}

template <class Type, int world, bool plain, enum ring_way way>
PORT_DEVICE struct ring_vecs<world> ring_early(const struct kernel_arguments &arguments, uint32_t number)
{
    struct ring_vecs<world> nothing = {
    };
    return RING_EARLY(plain, world) && number < arguments.rounds
               ? ring_fetch<Type, world, plain, way>(arguments, number, ring_first())
               : nothing;
}

/* This thread's inputs of a round, to their owners. */
template <class Type, int world, bool plain, enum ring_way way>
PORT_DEVICE void ring_send(const struct kernel_arguments &arguments, const struct turn &turn, uint32_t number,
                           struct ring_vecs<world> fetched)
{
    const struct round round = round_make(arguments, number, Type::element_bytes);
    const uint32_t most = vecs_of(ring_input<world, way>(arguments, round, 0));
#pragma unroll 1
    for (uint32_t vec = ring_first(); vec < most && !turn.failed; vec += ring_stride()) {
        if (vec != ring_first() || !RING_EARLY(plain, world)) {
            fetched = ring_fetch<Type, world, plain, way>(arguments, number, vec);
        }
#pragma unroll
        for (uint32_t offset = 1; offset < world; offset++) {
            const uint32_t peer = ring_peer<world>(arguments, offset);
            if (vec < vecs_of(ring_input<world, way>(arguments, round, peer))) {
                struct vec4 *slot =
                    ring_slot<world, way>(arguments, turn, number, arguments.lanes[peer], arguments.rank);
                port_store_system4(slot + vec, avoid_sentinel(fetched.of[offset]));
            }
        }
    }
}

/* A sum, to where it belongs. */
template <class Type, int world, bool plain, enum ring_way way>
PORT_DEVICE void ring_deal(const struct kernel_arguments &arguments, const struct turn &turn, uint32_t number,
                           const struct direct_route *route, const struct span &result, uint32_t vec,
                           const struct vec4 &sum)
{
    span_store<Type::element_bytes, plain>(result, vec, sum);
    if (way == RING_SCATTER || turn.failed) {
        return;
    }
#pragma unroll
    for (uint32_t offset = 1; offset < world; offset++) {
        const uint32_t peer = ring_peer<world>(arguments, offset);
        struct vec4 *to =
            way == RING_DIRECT
                ? reinterpret_cast<struct vec4 *>(route->dst[peer] + (result.base - arguments.dst))
                : ring_slot<world, way>(arguments, turn, number, arguments.lanes[peer], world + arguments.rank);
        port_store_system4(to + vec, sum);
    }
}

/* A first look at the inputs of one sum. */
template <class Type, int world, bool plain, enum ring_way way>
PORT_DEVICE struct ring_vecs<world> ring_look(const struct kernel_arguments &arguments, const struct turn &turn,
                                              uint32_t number, uint32_t vec)
{
    const struct round round = round_make(arguments, number, Type::element_bytes);
    const struct span own = ring_input<world, way>(arguments, round, arguments.rank);
    struct ring_vecs<world> seen = {
    };
#pragma unroll
    for (uint32_t rank = 0; rank < world && vec < vecs_of(own); rank++) {
        const struct vec4 *slot = ring_slot<world, way>(arguments, turn, number, arguments.own, rank);
        seen.of[rank] =
            rank == arguments.rank ? span_load<Type::element_bytes, plain>(own, vec) : port_load_system4(slot + vec);
    }
    return seen;
}

/* This thread's part of what this rank sums in a round, in rank order, and on to all who want it. `seen`: of its first sum. */
template <class Type, int world, bool plain, enum ring_way way>
PORT_DEVICE void ring_sum(const struct kernel_arguments &arguments, struct turn &turn, uint32_t number,
                          struct ring_vecs<world> seen, const struct direct_route *route)
{
    const struct round round = round_make(arguments, number, Type::element_bytes);
    const struct span result = ring_result<world, way>(arguments, round, arguments.rank);
#pragma unroll 1
    for (uint32_t vec = ring_first(); vec < vecs_of(result); vec += ring_stride()) {
        if (vec != ring_first() || !RING_EARLY(plain, world)) {
            seen = ring_look<Type, world, plain, way>(arguments, turn, number, vec);
        }
#pragma unroll
        for (uint32_t rank = 0; rank < world; rank++) {
            if (rank != arguments.rank) {
                struct vec4 *slot = ring_slot<world, way>(arguments, turn, number, arguments.own, rank);
                seen.of[rank] = receive_begun(arguments, turn, slot + vec, rank, nan_word(Type()), seen.of[rank]);
            }
        }
        const struct vec4 sum = reduce_vec<Type, world>(plain ? OP_SUM : arguments.op, seen.of);
        ring_deal<Type, world, plain, way>(arguments, turn, number, route, result, vec, sum);
    }
}

/* This thread's part of the peers' sums, where they came through the staging. */
template <class Type, int world, bool plain, enum ring_way way>
PORT_DEVICE void ring_take(const struct kernel_arguments &arguments, struct turn &turn, uint32_t number)
{
    const struct round round = round_make(arguments, number, Type::element_bytes);
    const uint32_t most = vecs_of(ring_result<world, way>(arguments, round, 0));
#pragma unroll 1
    for (uint32_t vec = ring_first(); vec < most; vec += ring_stride()) {
        struct ring_vecs<world> sums = {
        };
#pragma unroll
        for (uint32_t rank = 0; rank < world; rank++) {
            if (rank != arguments.rank && vec < vecs_of(ring_result<world, way>(arguments, round, rank))) {
                sums.of[rank] = port_load_system4(
                    ring_slot<world, way>(arguments, turn, number, arguments.own, world + rank) + vec);
            }
        }
#pragma unroll
        for (uint32_t rank = 0; rank < world; rank++) {
            const struct span theirs = ring_result<world, way>(arguments, round, rank);
            if (rank != arguments.rank && vec < vecs_of(theirs)) {
                struct vec4 *slot = ring_slot<world, way>(arguments, turn, number, arguments.own, world + rank);
                const struct vec4 sum =
                    receive_begun(arguments, turn, slot + vec, rank, nan_word(Type()), sums.of[rank]);
                span_store<Type::element_bytes, plain>(theirs, vec, sum);
            }
        }
    }
}

/* Whether a fence belongs in front of the step that begins with round `first`. The first is the one before the first inputs for the other
 * half; where no slot is filled twice in this call, it is the only one. */
template <int world, enum ring_way way> PORT_DEVICE bool ring_fences(uint32_t rounds, uint32_t first)
{
    constexpr uint32_t segments = RING_SEGMENTS(way, world), pause = RING_PAUSE(way, world);
    constexpr uint32_t begin = segments / 2 - RING_AHEAD(way, world);
    const bool refills = rounds > segments && first % pause == begin % pause;
    return first != 0 && rounds > segments / 2 && (first == begin || refills);
}

/* All rounds; ring_begin has sent round 0. Loads are asked for before the stores that they do not depend on. */
template <class Type, int world, bool plain, enum ring_way way>
PORT_DEVICE void ring_go(const struct kernel_arguments &arguments, struct turn &turn, const struct direct_route *route)
{
    constexpr uint32_t ahead = RING_AHEAD(way, world), step = RING_STEP(way, world);
    const uint32_t rounds = arguments.rounds;
    struct ring_vecs<world> seen = {
    };
#pragma unroll 1
    for (uint32_t number = 1; number < ahead && number < rounds; number++) {
        ring_send<Type, world, plain, way>(arguments, turn, number,
                                           ring_early<Type, world, plain, way>(arguments, number));
    }
    struct ring_vecs<world> fetched = ring_early<Type, world, plain, way>(arguments, ahead);
#pragma unroll 1
    for (uint32_t first = 0; first < rounds; first += step) {
        if (ring_fences<world, way>(rounds, first)) {
            port_fence_system();
        }
        if (way != RING_STAGED && RING_EARLY(plain, world)) {
            seen = ring_look<Type, world, plain, way>(arguments, turn, first, ring_first());
        }
#pragma unroll 1
        for (uint32_t number = first + ahead; number < first + ahead + step && number < rounds; number++) {
            ring_send<Type, world, plain, way>(arguments, turn, number, fetched);
            fetched = ring_early<Type, world, plain, way>(arguments, number + 1);
        }
#pragma unroll 1
        for (uint32_t number = first; way == RING_STAGED && first != 0 && number < first + step; number++) {
            ring_take<Type, world, plain, way>(arguments, turn, number - step);
        }
#pragma unroll 1
        for (uint32_t number = first; number < first + step && number < rounds; number++) {
            if (way == RING_STAGED && RING_EARLY(plain, world)) {
                seen = ring_look<Type, world, plain, way>(arguments, turn, number, ring_first());
            }
            ring_sum<Type, world, plain, way>(arguments, turn, number, seen, route);
        }
    }
#pragma unroll 1
    for (uint32_t number = (rounds - 1) / step * step; way == RING_STAGED && number < rounds; number++) {
        ring_take<Type, world, plain, way>(arguments, turn, number);
    }
}

/* Round 0, for which nobody has to be heard. */
template <class Type, int world, bool plain, enum ring_way way>
PORT_DEVICE void ring_begin(const struct kernel_arguments &arguments, const struct turn &turn)
{
    ring_send<Type, world, plain, way>(arguments, turn, 0, ring_early<Type, world, plain, way>(arguments, 0));
}

/* What a failed call leaves of the parts that this thread has, in this rank's own result. */
template <class Type, int world, enum ring_way way>
PORT_DEVICE void ring_poison(const struct kernel_arguments &arguments)
{
    const uint32_t nan = nan_word(Type());
    const struct vec4 value = {nan, nan, nan, nan};
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct round round = round_make(arguments, number, Type::element_bytes);
        for (uint32_t rank = 0; rank < (way == RING_SCATTER ? 1 : world); rank++) {
            const struct span result = ring_result<world, way>(arguments, round, rank);
            for (uint32_t vec = ring_first(); vec < vecs_of(result); vec += ring_stride()) {
                span_store<Type::element_bytes, false>(result, vec, value);
            }
        }
    }
}

#endif
