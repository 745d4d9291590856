/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vote.h - P5: whether a call may use the ranks' buffers directly, found out within its launch; and how such a call ends.
 *
 * Directly, a rank reads its peers' buffers or writes to them: nothing is staged. That needs buffers that every rank reaches, and
 * a rank knows this of itself only: what it captured has been committed, and not been taken back; or the buffers lie in symmetric memory,
 * at the same place as its peers'. So block b of every rank sends its rank's ballot, which stands for the buffers that are meant
 * (0: none), to block b of all peers, and goes directly only if all ballots are the same, and not 0. All blocks b see the same
 * ballots, so they decide alike; and block b covers the same elements on either way, so it does not matter what others decide, or
 * that a commit came while some of them had begun.
 *
 *     start[b][r] in p's arena:  | ballot | ballot | call + 1 |    the last with release: r's input is complete
 *     done[b][r]                 | call + 1 |                      with release: r's block has finished with p's buffers, and
 *                                                                  with its own inboxes
 *
 * One thread of a block finds out what the ballot is, and says it to all others: two that looked for themselves could see a commit
 * come between them, and tell one peer this and the other one that.
 *
 * A block that went directly leaves only when all peers' blocks b have finished with this rank's buffers: so once this rank's
 * device is idle nobody uses them, and they may be unmapped. One flag of a kind suffices: A sets it for the next call only after
 * its own call was complete, which needed something of block b of every rank behind its reading of A's flag. A block without
 * elements would neither wait nor be waited for: it must not vote.
 *
 * A block that goes the staged way in several rounds ends with done flags as well: the rounds take the halves in turns, so the next
 * call may fill again what was filled in the last round but one, and that a peer has emptied this nothing else would tell.
 */
#ifndef TUTTI_KERNELS_VOTE_H
#define TUTTI_KERNELS_VOTE_H

#include "kernels/turn.h"

PORT_DEVICE struct arena_flags *flags_in(uint64_t lane)
{
    return reinterpret_cast<struct arena_flags *>(lane + ARENA_FLAGS_AT);
}

/* -- the ballot --------------------------------------------------------------------------------------- */

/* The one that speaks for the block: away from those that send flags, if there are that many. */
PORT_DEVICE bool is_teller()
{
    return port_thread() + 1 == port_threads();
}

/* The call's slot as the teller found it. */
template <int world> struct seen_entry {
    uint64_t commit, ticket;
    uint64_t src[world], dst[world];
};

/* Before the turn begins, so that all of it comes while that waits. What is there before the commit is nothing. */
template <int world> PORT_DEVICE struct seen_entry<world> entry_see(const struct kernel_arguments &arguments) {
    const struct direct_entry *entry = reinterpret_cast<const struct direct_entry *>(arguments.entry);
    struct seen_entry<world> seen = {
    };
    if (is_teller() && entry != nullptr) {
        seen.commit = port_load_acquire_system8(&entry->commit);
        seen.ticket = port_load_system8(&entry->ticket);
#pragma unroll
        for (uint32_t rank = 0; rank < world; rank++) {
            seen.src[rank] = port_load_system8(&entry->src[rank]);
            seen.dst[rank] = port_load_system8(&entry->dst[rank]);
        }
    }
    return seen;
}

/* The teller's decision, for the block: *route, which its threads share. Whole vectors only: a rank whose pointers or length, `bytes`,
 * are others has nothing to offer. */
template <int world>
PORT_DEVICE void route_settle(const struct kernel_arguments &arguments, const struct seen_entry<world> &seen,
                              uint64_t bytes, struct direct_route *route)
{
    if (!is_teller()) {
        return;
    }
    const bool whole = ((arguments.src | arguments.dst | bytes) & 15) == 0;
    const bool committed = seen.commit != 0 && seen.ticket == arguments.ticket;
    route->ballot[0] = !whole ? 0 : committed ? seen.commit : arguments.route.ballot[0];
    route->ballot[1] = committed ? BALLOT_COMMITTED : arguments.route.ballot[1];
#pragma unroll
    for (uint32_t rank = 0; rank < world; rank++) {
        route->src[rank] = committed ? seen.src[rank] : arguments.route.src[rank];
        route->dst[rank] = committed ? seen.dst[rank] : arguments.route.dst[rank];
    }
}

/* -- the vote ------------------------------------------------------------------------------------------ */

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

/* All threads of the block: its ballot, on its way to all peers. */
template <int world>
PORT_DEVICE void vote_cast(const struct kernel_arguments &arguments, const struct turn &turn,
                           const struct seen_entry<world> &seen, uint64_t bytes, struct direct_route *route)
{
    route_settle<world>(arguments, seen, bytes, route);
    port_sync();
    const uint32_t peer = port_thread();
    if (peer < world && peer != arguments.rank && !turn.failed) {
        struct arena_flags *theirs = flags_in(arguments.lanes[peer]);
        port_store_system8(&theirs->start[port_block()][arguments.rank].ballot[0], route->ballot[0]);
        port_store_system8(&theirs->start[port_block()][arguments.rank].ballot[1], route->ballot[1]);
        port_store_release_system8(&theirs->start[port_block()][arguments.rank].call, turn.epoch + 1);
    }
}

/* All threads of the block: true if all ranks' blocks go directly. Who offers nothing need not hear what the others do. */
template <int world>
PORT_DEVICE bool vote_count(const struct kernel_arguments &arguments, struct turn &turn,
                            const struct direct_route *route)
{
    const uint32_t peer = port_thread();
    bool differs = route->ballot[0] == 0 || route->ballot[1] == 0;
    if (peer < world && peer != arguments.rank && !turn.failed && !differs) {
        const struct arena_flags *own = flags_in(arguments.own);
        await_flag(arguments, turn, &own->start[port_block()][peer].call, peer);
        differs = port_load_system8(&own->start[port_block()][peer].ballot[0]) != route->ballot[0] ||
                  port_load_system8(&own->start[port_block()][peer].ballot[1]) != route->ballot[1];
    }
    return !port_sync_or(differs || turn.failed);
}

/* -- the end -------------------------------------------------------------------------------------------- */

/* Block 0 counts the call, for the lane and for the host, or takes that back. Calls of a lane follow one another: nobody else
 * counts at the same time. */
PORT_DEVICE void tally_add(const struct kernel_arguments &arguments, bool directly, uint64_t calls, uint64_t bytes)
{
    if (port_block() != 0 || !is_teller()) {
        return;
    }
    struct direct_tally *own = &own_head(arguments)->tally;
    struct direct_tally *copy = reinterpret_cast<struct direct_tally *>(arguments.tally);
    struct direct_tally now = {port_load_counter(&own->direct_calls), port_load_counter(&own->direct_bytes),
                               port_load_counter(&own->staged_calls), port_load_counter(&own->staged_bytes)};
    now.direct_calls += directly ? calls : 0;
    now.direct_bytes += directly ? bytes : 0;
    now.staged_calls += directly ? 0 : calls;
    now.staged_bytes += directly ? 0 : bytes;
    port_store_system8(&own->direct_calls, now.direct_calls);
    port_store_system8(&own->direct_bytes, now.direct_bytes);
    port_store_system8(&own->staged_calls, now.staged_calls);
    port_store_system8(&own->staged_bytes, now.staged_bytes);
    if (copy != nullptr) {
        port_store_system8(&copy->direct_calls, now.direct_calls);
        port_store_system8(&copy->direct_bytes, now.direct_bytes);
        port_store_system8(&copy->staged_calls, now.staged_calls);
        port_store_system8(&copy->staged_bytes, now.staged_bytes);
    }
}

/* The end of a block's call, for all its threads. Where it went directly, and where it took several rounds, it waits until its peers
 * have come here, too. True: the call has failed. (A direct call is counted while the flags travel.) */
template <int world>
PORT_DEVICE bool part(const struct kernel_arguments &arguments, struct turn &turn, bool directly, uint64_t bytes)
{
    port_sync_stored();
    const uint32_t peer = port_thread();
    const bool waits = (directly || arguments.rounds > 1) && peer < world && peer != arguments.rank;
    if (waits) {
        port_store_release_system8(&flags_in(arguments.lanes[peer])->done[port_block()][arguments.rank],
                                   turn.epoch + 1);
    }
    if (directly) {
        tally_add(arguments, true, 1, bytes);
    }
    if (waits) {
        await_flag(arguments, turn, &flags_in(arguments.own)->done[port_block()][peer], peer);
    }
    const bool failed = port_sync_or(turn.failed);
    if (directly == failed) {
        tally_add(arguments, directly, failed ? ~(uint64_t)0 : 1, failed ? ~bytes + 1 : bytes);
    }
    return failed;
}

#endif
