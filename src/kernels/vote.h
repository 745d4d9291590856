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
 *     start[b][r] in p's arena:  | call + 1 : part 0 | ... | call + 1 : part 7 |    r's ballot, 16 bits a word
 *     done[b][r]                 | call + 1 |    with release: r's block has finished with p's buffers, and with its own inboxes
 *
 * Each word of a ballot says which call it is of, so nothing has to be waited for between them, and a thread a word asks for them: a ballot
 * behind which the call's number came, with release, took the time of a way there and back longer, and one of the memory's more.
 *
 * One thread of a block finds out what the ballot is, and says it to all others: two that looked for themselves could see a commit
 * come between them, and tell one peer this and the other one that.
 *
 * A block that went directly leaves only when all peers' blocks b have finished with this rank's buffers: so once this rank's
 * device is idle nobody uses them, and they may be unmapped. One flag of a kind suffices: A sets it for the next call only after
 * its own call was complete, which needed something of block b of every rank behind its reading of A's flag. A block without
 * elements would neither wait nor be waited for: it must not vote.
 *
 * A block that goes the staged way in several rounds ends with done flags as well: the rounds use both halves, so the next call may fill
 * again what was filled late in this one, and that a peer has emptied this nothing else would tell. And so does one that has sent
 * data before it counted the votes: its peers could be through, and vote on the next call, before it has looked.
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

/* What the block's threads share. */
struct ballot_box {
    struct turn turn;
    struct direct_route route;
    struct direct_tally tally; /* before this call */
};

/* What the teller looks up before the turn begins, so that it comes while that waits. */
struct first_look {
    uint64_t commit; /* 0: there is no need to look into the slot */
    struct direct_tally tally;
};

PORT_DEVICE struct direct_tally tally_load(const struct kernel_arguments &arguments)
{
    const struct direct_tally *own = &own_head(arguments)->tally;
    struct direct_tally tally;
    tally.direct_calls = port_load_counter(&own->direct_calls);
    tally.direct_bytes = port_load_counter(&own->direct_bytes);
    tally.staged_calls = port_load_counter(&own->staged_calls);
    tally.staged_bytes = port_load_counter(&own->staged_bytes);
    return tally;
}

/* From here until `left`, the block may use what is mapped here for the slot. Counted before the look that decides. */
PORT_DEVICE struct first_look look_first(const struct kernel_arguments &arguments)
{
    const struct direct_entry *entry = reinterpret_cast<const struct direct_entry *>(arguments.entry);
    struct arena_head *head = own_head(arguments);
    struct first_look look = {0, {0, 0, 0, 0}};
    port_add_counter(&head->entered, 1);
    if (entry != nullptr) {
        look.commit = port_load_system8(&entry->commit);
    }
    /* Programmatically launched, the call before may not have counted yet: then it is looked up later. */
    if (port_block() == 0 && (arguments.flags & KERNEL_PROGRAMMATIC) == 0) {
        look.tally = tally_load(arguments);
    }
    return look;
}

/* The teller's decision, for the block. Whole vectors only: a rank whose pointers or length, `bytes`, are others has nothing to
 * offer. What is in the entry before its commit is nothing. */
template <int world>
PORT_DEVICE void ballot_settle(const struct kernel_arguments &arguments, const struct first_look &look, uint64_t bytes,
                               struct ballot_box *box)
{
    const struct direct_entry *entry = reinterpret_cast<const struct direct_entry *>(arguments.entry);
    struct direct_route *route = &box->route;
    const bool whole = ((arguments.src | arguments.dst | bytes) & 15) == 0;
    uint64_t commit = 0, ticket = 0;
    uint64_t src[world] = {}, dst[world] = {};
    if (whole && look.commit != 0) {
        commit = port_load_acquire_system8(&entry->commit);
        ticket = port_load_system8(&entry->ticket); /* and what is behind it, all under way at the same time */
#pragma unroll
        for (uint32_t rank = 0; rank < world; rank++) {
            src[rank] = port_load_system8(&entry->src[rank]);
            dst[rank] = port_load_system8(&entry->dst[rank]);
        }
    }
    const bool committed = commit != 0 && ticket == arguments.ticket;
    const bool any = whole && (committed || (arguments.route.ballot[0] != 0 && arguments.route.ballot[1] != 0));
    route->ballot[0] = !any ? 0 : committed ? commit : arguments.route.ballot[0];
    route->ballot[1] = !any ? 0 : committed ? (uint64_t)BALLOT_COMMITTED : arguments.route.ballot[1];
#pragma unroll
    for (uint32_t rank = 0; rank < world; rank++) {
        route->src[rank] = committed ? src[rank] : arguments.route.src[rank];
        route->dst[rank] = committed ? dst[rank] : arguments.route.dst[rank];
    }
    const bool programmatic = (arguments.flags & KERNEL_PROGRAMMATIC) != 0;
    box->tally = programmatic && port_block() == 0 ? tally_load(arguments) : look.tally;
}

/* The kernel's beginning, for all threads of the block. The teller alone asks which call this is, since the others wait for its ballot
 * anyway. */
template <int world>
PORT_DEVICE struct turn vote_begin(const struct kernel_arguments &arguments, bool busy, uint64_t bytes,
                                   struct ballot_box *box)
{
    const bool programmatic = (arguments.flags & KERNEL_PROGRAMMATIC) != 0;
    const bool speaks = port_thread() < world * BALLOT_WORDS;
    if (is_teller()) {
        struct first_look look = {0, {0, 0, 0, 0}};
        if (busy) {
            look = look_first(arguments);
        }
        box->turn = turn_begin(arguments);
        if (busy) {
            ballot_settle<world>(arguments, look, bytes, box);
        }
    } else {
        if (programmatic) {
            port_wait_for_predecessor();
        }
        if (speaks) {
            port_fence_system(); /* what was stored before this grid, before the ballot: no longer than what the teller does */
        }
    }
    port_sync();
    if (speaks && is_teller()) {
        port_fence_system();
    }
    return box->turn;
}

/* -- the vote ------------------------------------------------------------------------------------------ */

/* A flag whose value is `wanted`, in the bits of `mask`. */
struct awaited {
    const uint64_t *flag;
    uint64_t wanted, mask;
    uint32_t peer;
};

PORT_DEVICE bool has_come(const struct awaited &awaited, uint64_t found)
{
    return ((found ^ awaited.wanted) & awaited.mask) == 0;
}

PORT_COLD bool flag_is_late(const struct kernel_arguments &arguments, uint64_t epoch, const struct awaited awaited)
{
    struct patience patience = {0, 0, 0};
    for (uint32_t polls = 0; !has_come(awaited, port_load_acquire_system8(awaited.flag)); polls++) {
        if (polls % POLLS_PER_LOOK == 0 && lost_patience(arguments, epoch, patience, awaited.peer)) {
            return true;
        }
    }
    return false;
}

/* What was found. */
PORT_DEVICE uint64_t await_flag(const struct kernel_arguments &arguments, struct turn &turn,
                                const struct awaited &awaited)
{
    uint64_t found = port_load_acquire_system8(awaited.flag);
    for (uint32_t polls = 1; !has_come(awaited, found) && polls < POLLS_PER_LOOK; polls++) {
        found = port_load_acquire_system8(awaited.flag);
    }
    if (!has_come(awaited, found) && !turn.failed) {
        turn.failed = flag_is_late(arguments, turn.epoch, awaited);
        found = port_load_system8(awaited.flag);
    }
    return found;
}

/* A word as this block sends it: 0 in all parts for who has no ballot. */
PORT_DEVICE uint64_t ballot_word(const struct ballot_box *box, const struct turn &turn, uint32_t word)
{
    constexpr uint32_t parts = 64 / BALLOT_PART_BITS;
    const uint64_t part = box->route.ballot[word / parts] >> (word % parts * BALLOT_PART_BITS);
    return (turn.epoch + 1) << BALLOT_PART_BITS | (part & (((uint64_t)1 << BALLOT_PART_BITS) - 1));
}

/* All threads of the block: its ballot, on its way to all peers. */
template <int world>
PORT_DEVICE void vote_cast(const struct kernel_arguments &arguments, const struct turn &turn,
                           const struct ballot_box *box)
{
    for (uint32_t at = port_thread(); at < world * BALLOT_WORDS && !turn.failed; at += port_threads()) {
        const uint32_t peer = at / BALLOT_WORDS, word = at % BALLOT_WORDS;
        if (peer != arguments.rank) {
            port_store_system8(&flags_in(arguments.lanes[peer])->start[port_block()][arguments.rank][word],
                               ballot_word(box, turn, word));
        }
    }
}

/* Whether this rank's ballot offers anything. */
PORT_DEVICE bool has_ballot(const struct ballot_box *box)
{
    return box->route.ballot[0] != 0;
}

/* Block 0 counts the call, for the lane and for the host. Calls of a lane follow one another: nobody else counts at the same time. Early,
 * so that the way to the host is over when the kernel ends; what fails later is taken back. */
PORT_DEVICE void tally_store(const struct kernel_arguments &arguments, const struct direct_tally &now)
{
    struct direct_tally *own = &own_head(arguments)->tally;
    struct direct_tally *copy = reinterpret_cast<struct direct_tally *>(arguments.tally);
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

PORT_DEVICE bool is_counter()
{
    return port_block() == 0 && is_teller();
}

PORT_DEVICE void tally_count(const struct kernel_arguments &arguments, const struct ballot_box *box, bool directly,
                             uint64_t bytes)
{
    if (is_counter()) {
        struct direct_tally now = box->tally;
        now.direct_calls += directly ? 1 : 0;
        now.direct_bytes += directly ? bytes : 0;
        now.staged_calls += directly ? 0 : 1;
        now.staged_bytes += directly ? 0 : bytes;
        tally_store(arguments, now);
    }
}

/* All threads of the block: true if all ranks' blocks go directly. Who offers nothing need not hear what the others do. */
template <int world>
PORT_DEVICE bool vote_count(const struct kernel_arguments &arguments, struct turn &turn, const struct ballot_box *box,
                            uint64_t bytes)
{
    bool differs = !has_ballot(box);
    for (uint32_t at = port_thread(); at < world * BALLOT_WORDS && !turn.failed && !differs; at += port_threads()) {
        const uint32_t peer = at / BALLOT_WORDS, word = at % BALLOT_WORDS;
        if (peer != arguments.rank) {
            const uint64_t mine = ballot_word(box, turn, word);
            const uint64_t *theirs = &flags_in(arguments.own)->start[port_block()][peer][word];
            const struct awaited awaited = {theirs, mine, ~(uint64_t)0 << BALLOT_PART_BITS, peer};
            differs = await_flag(arguments, turn, awaited) != mine;
        }
    }
    const bool directly = !port_sync_or(differs || turn.failed);
    tally_count(arguments, box, directly, bytes);
    return directly;
}

/* -- the end -------------------------------------------------------------------------------------------- */

/* The end of a block's call, for all its threads. Where it `waits`, it does until its peers have come here, too: where it went directly,
 * took several rounds, or sent data before it had counted the votes. True: the call has failed; then the peers, whose results this block may not have written, hear nothing from it. */
template <int world>
PORT_DEVICE bool part(const struct kernel_arguments &arguments, struct turn &turn, bool directly, bool waits,
                      const struct ballot_box *box)
{
    turn.failed = port_sync_or(turn.failed);
    port_sync_stored();
    const uint32_t peer = port_thread();
    if (waits && peer < world && peer != arguments.rank && !turn.failed) {
        const uint64_t wanted = turn.epoch + 1;
        port_store_release_system8(&flags_in(arguments.lanes[peer])->done[port_block()][arguments.rank], wanted);
        const uint64_t *theirs = &flags_in(arguments.own)->done[port_block()][peer];
        (void)await_flag(arguments, turn, {theirs, wanted, ~(uint64_t)0, peer});
    }
    if (directly && is_teller()) {
        port_fence_system(); /* the block's stores to its peers, before its count below */
    }
    const bool failed = port_sync_or(turn.failed);
    if (failed && is_counter()) {
        tally_store(arguments, box->tally);
    }
    return failed;
}

/* The last of a block that has looked for a way: it uses no buffer any more. */
PORT_DEVICE void part_end(const struct kernel_arguments &arguments, bool failed)
{
    if (failed) {
        port_sync_stored(); /* what it poisoned */
    }
    if (is_teller()) {
        port_add_counter(&own_head(arguments)->left, 1);
    }
}

#endif
