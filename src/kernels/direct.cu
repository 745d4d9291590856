/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.cu - P5, direct two-shot all_reduce by vote, with the staged way in the same launch: large messages.
 *
 * Ownership is that of two_shot.cu. Directly, the owner of a shard reads the ranks' inputs where they are and writes the sums to the
 * ranks' outputs: nothing is copied. That needs memory that every rank has mapped, at the same place of the same allocation; a
 * rank knows this of itself only, so each launch finds out.
 *
 * Vote. Block b of every rank sends its rank's ballot, where src and dst lie (0: nowhere that peers can reach), to block b of all
 * peers. It goes directly only if all ballots are the same, and not 0. All blocks b see the same ballots, so they decide
 * alike; and block b covers the same elements on either way, so it does not matter what others decide.
 *
 *     start[b][r] in p's arena:  | ballot | ballot | call + 1 |    the last with release: r's input is complete
 *     done[b][r]                 | call + 1 |                      with release: r's block has finished with p's buffers
 *
 * A block that went directly leaves only when all peers' blocks b have finished with this rank's buffers: so once this rank's
 * device is idle nobody uses them, and they may be unmapped. One flag of a kind suffices: A sets it for the next call only
 * after its own call was complete, which needed something of block b of every rank behind its reading of A's flag.
 *
 * The staged way takes the message in rounds of what an inbox holds, each as two_shot.cu would, with the halves in turns. Their number
 * is odd: the last round's half is then the first one's, and the next launch begins with the other. Between two launches
 * the end of a grid orders the emptying of a half before its next use; between rounds a fence does, of each thread for itself: the
 * slots that a thread empties are filled again by the one thread of the peer that this one sends to, two rounds later.
 */
#include "kernels/shards.h"

PORT_DEVICE struct arena_flags *flags_in(uint64_t lane)
{
    return reinterpret_cast<struct arena_flags *>(lane + ARENA_FLAGS_AT);
}

/* -- the vote ---------------------------------------------------------------------------------------- */

PORT_COLD bool flag_is_late(const struct kernel_arguments &arguments, uint64_t epoch, const uint64_t *flag,
                            uint64_t wanted, uint32_t peer)
{
    struct patience patience = {0, 0, 0};
    for (uint32_t polls = 0; port_load_acquire_system8(flag) != wanted; polls++) {
        if (polls % POLLS_PER_LOOK == 0 && lost_patience(arguments, epoch, patience, peer)) {
            return true;
        }
    }
    return false;
}

PORT_DEVICE void await_flag(const struct kernel_arguments &arguments, struct turn &turn, const uint64_t *flag,
                            uint32_t peer)
{
    const uint64_t wanted = turn.epoch + 1;
    uint64_t found = port_load_acquire_system8(flag);
    for (uint32_t polls = 1; found != wanted && polls < POLLS_PER_LOOK; polls++) {
        found = port_load_acquire_system8(flag);
    }
    if (found != wanted && !turn.failed) {
        turn.failed = flag_is_late(arguments, turn.epoch, flag, wanted, peer);
    }
}

/* All threads of the block. */
template <int world> PORT_DEVICE bool vote(const struct kernel_arguments &arguments, struct turn &turn)
{
    const uint32_t peer = port_thread();
    const uint64_t *mine = arguments.route.ballot;
    bool differs = mine[0] == 0 || mine[1] == 0;
    if (peer < world && peer != arguments.rank && !turn.failed) {
        struct arena_flags *theirs = flags_in(arguments.lanes[peer]);
        port_store_system8(&theirs->start[port_block()][arguments.rank].ballot[0], mine[0]);
        port_store_system8(&theirs->start[port_block()][arguments.rank].ballot[1], mine[1]);
        port_store_release_system8(&theirs->start[port_block()][arguments.rank].call, turn.epoch + 1);
        if (!differs) {
            const struct arena_flags *own = flags_in(arguments.own);
            await_flag(arguments, turn, &own->start[port_block()][peer].call, peer);
            differs = port_load_system8(&own->start[port_block()][peer].ballot[0]) != mine[0] ||
                      port_load_system8(&own->start[port_block()][peer].ballot[1]) != mine[1];
        }
    }
    return !port_sync_or(differs || turn.failed);
}

/* -- directly ---------------------------------------------------------------------------------------- */

/* A launch's message, or one round of it: bytes from `first` on. */
struct round {
    uint64_t first, bytes, shard_bytes;
};

template <class Type, int world>
PORT_DEVICE struct round round_make(const struct kernel_arguments &arguments, uint32_t number)
{
    const uint64_t units_left = arguments.units - number * arguments.round_units;
    const uint64_t units = units_left < arguments.round_units ? units_left : arguments.round_units;
    struct round round;
    round.first = number * arguments.round_units * Type::element_bytes;
    round.bytes = units * Type::element_bytes;
    round.shard_bytes = (uint64_t)(((uint32_t)((round.bytes + 15) / 16) + world - 1) / world) * 16;
    return round;
}

template <class Type, int world>
PORT_DEVICE void reduce_directly(const struct kernel_arguments &arguments, uint64_t first, uint32_t vecs,
                                 const struct place &place)
{
    const uint32_t mask = (1u << arguments.tile_shift) - 1;
    for (uint32_t index = port_thread();; index += port_threads()) {
        const uint32_t tile = place.begin + (index >> arguments.tile_shift) * place.stride;
        if (tile >= vecs) {
            return;
        }
        const uint32_t vec = tile + (index & mask);
        if (vec >= vecs) {
            continue;
        }
        struct vec4 values[world];
#pragma unroll
        for (uint32_t rank = 0; rank < world; rank++) {
            values[rank] =
                port_load_system4(reinterpret_cast<const struct vec4 *>(arguments.route.src[rank] + first) + vec);
        }
        const struct vec4 sum = reduce_vec<Type, world>(arguments.op, values);
#pragma unroll
        for (uint32_t offset = 0; offset < world; offset++) {
            uint32_t rank = arguments.rank + offset;
            rank -= rank >= world ? world : 0;
            port_store_system4(reinterpret_cast<struct vec4 *>(arguments.route.dst[rank] + first) + vec, sum);
        }
    }
}

template <class Type, int world>
PORT_DEVICE void poison_directly(const struct kernel_arguments &arguments, const struct place &place)
{
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct round round = round_make<Type, world>(arguments, number);
        const struct span dst = shard_of(arguments.dst + round.first, round.bytes, round.shard_bytes, place.peer);
        const uint32_t nan = nan_word(Type());
        const struct vec4 value = {nan, nan, nan, nan};
        for (uint32_t vec = place.vec; vec < vecs_of(dst); vec += place.stride) {
            span_store<Type::element_bytes, false>(dst, vec, value);
        }
    }
}

template <class Type, int world>
PORT_DEVICE void go_directly(const struct kernel_arguments &arguments, struct turn &turn, const struct place &place)
{
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct round round = round_make<Type, world>(arguments, number);
        const struct span mine = shard_of(0, round.bytes, round.shard_bytes, arguments.rank);
        reduce_directly<Type, world>(arguments, round.first + mine.base, vecs_of(mine), place);
    }
    port_sync();
    const uint32_t peer = port_thread();
    if (peer < world && peer != arguments.rank) {
        port_store_release_system8(&flags_in(arguments.lanes[peer])->done[port_block()][arguments.rank],
                                   turn.epoch + 1);
        await_flag(arguments, turn, &flags_in(arguments.own)->done[port_block()][peer], peer);
    }
    if (port_sync_or(turn.failed)) {
        poison_directly<Type, world>(arguments, place);
    }
}

/* -- by way of the staging ------------------------------------------------------------------------------ */

template <class Type, bool plain>
PORT_DEVICE struct vec4 push_shard(const struct kernel_arguments &arguments, const struct turn &turn,
                                   const struct place &place, uint64_t slot_bytes, const struct span &theirs)
{
    const uint64_t outbox = inbox(arguments.lanes[place.peer], slot_bytes, arguments.rank, 0);
    struct vec4 first = {0, 0, 0, 0};
    for (uint32_t vec = place.vec; vec < vecs_of(theirs); vec += place.stride) {
        const struct vec4 value = span_load<Type::element_bytes, plain>(theirs, vec);
        first = vec == place.vec ? value : first;
        if (!place.mine && !turn.failed) {
            port_store_system4(slot_in(turn, outbox) + vec, avoid_sentinel(value));
        }
    }
    return first;
}

template <class Type, int world, bool plain>
PORT_DEVICE void go_staged(const struct kernel_arguments &arguments, struct turn &turn, const struct place &place,
                           struct vec4 *tile)
{
    const uint64_t slot_bytes = arguments.half_bytes / (2 * world) / 16 * 16;
    for (uint32_t number = 0; number < arguments.rounds; number++) {
        const struct round round = round_make<Type, world>(arguments, number);
        const uint64_t src = arguments.src + round.first, dst = arguments.dst + round.first;
        const struct vec4 own = push_shard<Type, plain>(arguments, turn, place, slot_bytes,
                                                        shard_of(src, round.bytes, round.shard_bytes, place.peer));
        port_sync(); /* in place: all of the block's input of this round has been read; and the tile of the former */
        reduce_shard<Type, world, plain, true>(
            arguments, turn, place, slot_bytes, shard_of(src, round.bytes, round.shard_bytes, arguments.rank),
            shard_of(dst, round.bytes, round.shard_bytes, arguments.rank), own, tile);
        if (!place.mine) {
            gather<Type, world, plain>(arguments, turn, place, slot_bytes,
                                       shard_of(dst, round.bytes, round.shard_bytes, place.peer));
        }
        port_fence_system();
        turn_swap_halves(arguments, turn);
    }
}

template <class Type, int world> PORT_DEVICE void direct(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    const struct place place = place_make(arguments);
    struct turn turn = turn_begin(arguments);
    /* A block without elements would neither wait for its peers' nor be waited for: it must not leave flags about. */
    const bool busy = place.begin < round_make<Type, world>(arguments, 0).shard_bytes / 16;
    const bool directly = busy && vote<world>(arguments, turn);
    turn_announce(arguments, turn);
    if (directly) {
        go_directly<Type, world>(arguments, turn, place);
    } else if (busy && is_plain<Type>(arguments)) {
        go_staged<Type, world, true>(arguments, turn, place, tile);
    } else if (busy) {
        go_staged<Type, world, false>(arguments, turn, place, tile);
    }
    turn_end(arguments, turn);
}

#define DIRECT(type, world)                                                                                            \
    PORT_KERNEL(tutti_direct_##type##_##world)                                                                         \
    {                                                                                                                  \
        PORT_SHARED(struct vec4, tile, KERNEL_THREADS_MAX);                                                            \
        direct<type_##type, world>(arguments, tile);                                                                   \
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
