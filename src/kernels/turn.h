/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turn.h - a kernel's turn on its lane: the epoch, the halves, bounded waiting, and the one way out.
 *
 * Epoch. Every block adds EPOCH_UNITS / blocks to `ended` as the last thing it does, so ended / EPOCH_UNITS
 * is this call's epoch for every block of the grid, however many of the others have left already. Nothing is passed
 * by the host: replays, several graphs and eager calls count in the order in which they run.
 *
 * Programmatic launch. Between two of our kernels a user's kernel may stand that was launched programmatically and
 * never waits: then ours can start before the one before it has left, and `ended` would still show the former
 * epoch. So under KERNEL_PROGRAMMATIC a block takes its number from `begun` (all blocks of earlier calls have
 * counted themselves there before they let anybody in) and waits until `ended` has caught up.
 *
 * Waiting. A thread that waits looks at the clock and at the abort word every few polls, and rarely at what the host says. Time is added up in steps
 * of at most STEP_NS_MAX, so that a stopped device or a debugger does not count as waiting.
 *
 * Leaving. A thread whose wait failed goes on to the end with `failed` set: barriers stay matched, what it waited for
 * becomes NaN (reductions) or zero (copies), and the block still advances `ended`. A call that begins after a failure has failed itself and pushes
 * nothing: a peer that is still in an earlier call could take what it pushes for that call's.
 */
#ifndef TUTTI_KERNELS_TURN_H
#define TUTTI_KERNELS_TURN_H

#include "kernels/portable.h"

#define STEP_NS_MAX 10000000u
#ifndef POLLS_PER_LOOK
#define POLLS_PER_LOOK 256
#endif

struct turn {
    uint64_t epoch;
    uint64_t half;  /* offset of this epoch's half in a lane */
    bool failed;    /* this thread's */
    uint64_t claim; /* programmatic launch: what thread 0's addition to `begun` returned */
};

PORT_DEVICE struct arena_head *head_of(const struct kernel_arguments &arguments, uint32_t rank)
{
    return reinterpret_cast<struct arena_head *>(arguments.lanes[rank]);
}

PORT_DEVICE struct arena_head *own_head(const struct kernel_arguments &arguments)
{
    return reinterpret_cast<struct arena_head *>(arguments.own);
}

/* Byte `offset` of this epoch's half in `rank`'s arena. */
PORT_DEVICE struct vec4 *slot_at(const struct kernel_arguments &arguments, const struct turn &turn, uint32_t rank,
                                 uint64_t offset)
{
    return reinterpret_cast<struct vec4 *>(arguments.lanes[rank] + turn.half + offset);
}

/* -- waiting -------------------------------------------------------------------------------------- */

struct patience {
    uint64_t last_ns, waited_ns;
    uint64_t looked_ns; /* of waited_ns, at the last look at the host's words */
};
#define SEEN_LEAVING ((uint64_t)1 << 63) /* in waited_ns */

/* The host's words lie across the bus, one after another for all threads that want them: 30 ns a thread, 2 ms for the largest
 * grid. That has to be far less than the pause between two looks. Else a wait that began with one late rank never heals: the
 * looks make the rank that waited late in its turn, the peer waits and looks, and so on for ever. */
#ifndef HOST_LOOK_NS
#define HOST_LOOK_NS 20000000u
#endif

PORT_DEVICE void note_timeout(const struct kernel_arguments &arguments, uint64_t epoch, uint32_t peer,
                              uint64_t waited_ns)
{
    struct failure_note *note = reinterpret_cast<struct failure_note *>(arguments.note);
    if (!port_claim_system(&note->state)) {
        return; /* another thread was first */
    }
    const struct arena_head *theirs = head_of(arguments, peer);
    uint64_t peer_call = port_load_system8(&theirs->call);
    port_store_system8(&note->peer_call, peer_call);
    port_store_system8(&note->peer_signature, port_load_system8(&theirs->signature[peer_call & 1]));
    port_store_system8(&note->call, epoch);
    port_store_system8(&note->signature, arguments.signature);
    port_store_system8(&note->waited_ns, waited_ns);
    port_store_system(&note->kind, FAILURE_TIMEOUT);
    port_store_system(&note->peer, peer);
    port_store_system(&note->lane, arguments.lane);
    port_store_release_system(&note->state, 2);
}

/* For the host, which may ask as soon as the grid has ended. */
PORT_COLD void note_poisoned(const struct kernel_arguments &arguments)
{
    port_store_system(&reinterpret_cast<struct failure_note *>(arguments.note)->poisoned, 1);
}

/* Called every POLLS_PER_LOOK unsuccessful polls. True when waiting for `peer` is over for good. */
PORT_COLD bool lost_patience(const struct kernel_arguments &arguments, uint64_t epoch, struct patience &patience,
                             uint32_t peer)
{
    uint64_t now_ns = port_clock_ns();
    if (patience.last_ns != 0) {
        uint64_t step_ns = now_ns - patience.last_ns;
        patience.waited_ns += step_ns < STEP_NS_MAX ? step_ns : STEP_NS_MAX;
    }
    patience.last_ns = now_ns;
    if (port_load_system(&own_head(arguments)->abort) != 0) {
        note_poisoned(arguments);
        return true;
    }
    const uint64_t pause_ns = arguments.timeout_ns / 16 < HOST_LOOK_NS ? arguments.timeout_ns / 16 : HOST_LOOK_NS;
    if (patience.waited_ns < patience.looked_ns + pause_ns) {
        return false;
    }
    patience.looked_ns = patience.waited_ns;
    const struct failure_note *note = reinterpret_cast<const struct failure_note *>(arguments.note);
    uint64_t given_up = port_load_system8(&note->given_up);
    if (given_up == ~(uint64_t)0) {
        port_store_system(&own_head(arguments)->abort, 1); /* the calls behind this one fail at once */
        note_poisoned(arguments);
        return true;
    }
    uint64_t waited_ns = patience.waited_ns & ~SEEN_LEAVING;
    bool leaving = (given_up >> peer & 1) != 0;
    if (!leaving && waited_ns < arguments.timeout_ns + port_load_system8(&note->extra_ns)) {
        return false;
    }
    /* Who leaves has completed its calls: what is waited for may have come after the last poll and before this look. */
    if (leaving && (patience.waited_ns & SEEN_LEAVING) == 0) {
        patience.waited_ns |= SEEN_LEAVING;
        return false;
    }
    note_timeout(arguments, epoch, peer, waited_ns);
    note_poisoned(arguments);
    /* Also if another lane was the first to fail and has taken the note: this one's later calls must not push. */
    for (uint32_t rank = 0; rank < arguments.world; rank++) {
        port_store_system(&head_of(arguments, rank)->abort, 1);
    }
    return true;
}

/* -- begin and end -------------------------------------------------------------------------------- */

/* Lets the successor's blocks take their places, if now is the time that `flags` ask for: by default behind the block's last
 * poll, because a successor that fills the device while we still wait for a peer could keep that peer's kernel from
 * starting; at once (KERNEL_EARLY) where the caller has promised that nobody else's collectives wait on this device. Thread 0
 * alone, which has waited for the block's claim: whoever says it first says it for the block. */
PORT_DEVICE void turn_let_successor_in(const struct kernel_arguments &arguments, const struct turn &turn, uint32_t when)
{
    const uint32_t wanted = KERNEL_PROGRAMMATIC | when;
    if ((arguments.flags & (KERNEL_PROGRAMMATIC | KERNEL_EARLY)) == wanted && turn.claim != ~(uint64_t)0) {
        port_let_successor_in();
    }
}

/* Waits until all calls before `epoch` have left. True if it failed. */
PORT_COLD bool await_former(const struct kernel_arguments &arguments, uint64_t epoch)
{
    const struct arena_head *head = own_head(arguments);
    struct patience patience = {0, 0, 0};
    for (uint32_t polls = 1; port_load_counter(&head->ended) / EPOCH_UNITS < epoch; polls++) {
        if (polls % POLLS_PER_LOOK == 0 && lost_patience(arguments, epoch, patience, arguments.rank)) {
            return true;
        }
    }
    return port_load_system(&head->abort) != 0; /* the call before may have been the first to fail */
}

PORT_DEVICE struct turn turn_begin(const struct kernel_arguments &arguments)
{
    const struct arena_head *head = own_head(arguments);
    const bool programmatic = (arguments.flags & KERNEL_PROGRAMMATIC) != 0;
    struct turn turn;
    turn.claim = 0;
    if (programmatic) {
        port_wait_for_predecessor();
    }
    /* All under way at the same time. */
    uint64_t ended = port_load_counter(&head->ended);
    uint64_t begun = programmatic ? port_load_counter(&head->begun) : 0;
    turn.failed = port_load_system(&head->abort) != 0;
    turn.epoch = (programmatic ? begun : ended) / EPOCH_UNITS;
    if (programmatic && ended / EPOCH_UNITS < turn.epoch) {
        turn.failed = await_former(arguments, turn.epoch);
    }
    turn.half = ARENA_HEAD_BYTES + ((turn.epoch & 1) != 0 ? arguments.half_bytes : 0);
    return turn;
}

/* After the block's first stores to its peers, while they travel: what nobody is in a hurry for. All threads of the block; all of
 * them have read the epoch behind it, so that from here on the block may count itself. Under programmatic launch it does,
 * in `begun`: the addition returns a value, which letting the successor in waits for. It has then been performed, and the
 * successor counts it. */
PORT_DEVICE void turn_announce(const struct kernel_arguments &arguments, struct turn &turn)
{
    port_sync();
    if (port_thread() != 0) {
        return;
    }
    struct arena_head *head = own_head(arguments);
    if ((arguments.flags & KERNEL_PROGRAMMATIC) != 0) {
        turn.claim = port_fetch_add_counter(&head->begun, arguments.share);
        turn_let_successor_in(arguments, turn, KERNEL_EARLY);
    }
    if (turn.failed) {
        note_poisoned(arguments);
    }
    if (port_block() == 0) {
        port_store_system8(&head->signature[turn.epoch & 1], arguments.signature);
        port_store_system8(&head->call, turn.epoch);
    }
}

/* All threads of the block have polled for the last time, and passed port_sync_stored since. */
PORT_DEVICE void turn_polled(const struct kernel_arguments &arguments, const struct turn &turn)
{
    if (port_thread() == 0) {
        turn_let_successor_in(arguments, turn, 0);
    }
}

/* The block's last act, after turn_polled. What the block wrote is ordered by the end of the grid, not by this. */
PORT_DEVICE void turn_leave(const struct kernel_arguments &arguments)
{
    if (port_thread() == 0) {
        struct arena_head *head = own_head(arguments);
        if ((arguments.flags & KERNEL_EAGER) != 0) {
            port_add_counter(&head->eager, arguments.share);
        }
        port_add_counter(&head->ended, arguments.share);
    }
}

/* Both, for a block whose threads come from their last poll each for itself. They wait for one another only where the grid's
 * end does not order their stores, or somebody looks at the counters before it: the host waits for eager calls' before it
 * frees the arena, and programmatic successors run early. */
PORT_DEVICE void turn_end(const struct kernel_arguments &arguments, const struct turn &turn)
{
    if (!PORT_GRID_END_ORDERS || (arguments.flags & (KERNEL_PROGRAMMATIC | KERNEL_EAGER)) != 0) {
        port_sync_stored();
    }
    turn_polled(arguments, turn);
    turn_leave(arguments);
}

/* -- rounds: a launch that takes its message a part at a time --------------------------------------------- */

/* Bytes of the message, or of each block, from `first` on. */
struct round {
    uint64_t first, bytes;
};

/* The last one may be shorter than all others. */
PORT_DEVICE struct round round_make(const struct kernel_arguments &arguments, uint32_t number, uint32_t unit_bytes)
{
    const uint64_t left = arguments.units - number * arguments.round_units;
    struct round round;
    round.first = number * arguments.round_units * unit_bytes;
    round.bytes = (left < arguments.round_units ? left : arguments.round_units) * unit_bytes;
    return round;
}

/* Behind each round: what this thread has emptied is so for the peers' threads before what it pushes next is there. */
PORT_DEVICE void round_end(const struct kernel_arguments &arguments, struct turn &turn, uint32_t number)
{
    if (number + 1 < arguments.rounds) {
        port_fence_system(); /* behind the last one comes the end of the grid */
    }
    turn.half = 2 * (uint64_t)ARENA_HEAD_BYTES + arguments.half_bytes - turn.half;
}

/* -- self-validating words ------------------------------------------------------------------------ */

PORT_DEVICE bool is_complete(const struct vec4 &value)
{
    return value.x != SENTINEL && value.y != SENTINEL && value.z != SENTINEL && value.w != SENTINEL;
}

/* For reductions: the one NaN pattern that looks like an empty slot becomes its neighbour, also a NaN. Both 16-bit
 * types and fp32 read 0xffff.. as NaN, and every NaN result is canonical, so no result changes. */
PORT_DEVICE struct vec4 avoid_sentinel(struct vec4 value)
{
    value.x = value.x == SENTINEL ? SENTINEL - 1 : value.x;
    value.y = value.y == SENTINEL ? SENTINEL - 1 : value.y;
    value.z = value.z == SENTINEL ? SENTINEL - 1 : value.z;
    value.w = value.w == SENTINEL ? SENTINEL - 1 : value.w;
    return value;
}

struct late {
    struct vec4 value;
    bool failed;
};

/* Waits on, after POLLS_PER_LOOK polls in vain. Out of line, with everything by value: the state of its patience would
 * otherwise cost the first poll a tenth of a microsecond. */
PORT_COLD struct late receive_late(const struct kernel_arguments &arguments, uint64_t epoch, const struct vec4 *slot,
                                   uint32_t peer)
{
    struct patience patience = {0, 0, 0};
    struct late late = {port_load_system4(slot), false};
    for (uint32_t polls = 0; !is_complete(late.value); polls++) {
        if (polls % POLLS_PER_LOOK == 0 && lost_patience(arguments, epoch, patience, peer)) {
            late.failed = true;
            return late;
        }
        late.value = port_load_system4(slot);
    }
    return late;
}

/* Waits for 16 bytes from `peer` in this rank's own arena and empties the slot for epoch + 2. After a failure every word is
 * `poison`. `value`: what a first look found there. */
PORT_DEVICE struct vec4 receive_begun(const struct kernel_arguments &arguments, struct turn &turn, struct vec4 *slot,
                                      uint32_t peer, uint32_t poison, struct vec4 value)
{
    const struct vec4 empty = {SENTINEL, SENTINEL, SENTINEL, SENTINEL};
    for (uint32_t polls = 1; !is_complete(value) && polls < POLLS_PER_LOOK; polls++) {
        value = port_load_system4(slot);
    }
    if (!is_complete(value) && !turn.failed) {
        struct late late = receive_late(arguments, turn.epoch, slot, peer);
        value = late.value;
        turn.failed = late.failed;
    }
    port_store_system4(slot, empty);
    if (turn.failed) {
        value.x = value.y = value.z = value.w = poison;
    }
    return value;
}

PORT_DEVICE struct vec4 receive(const struct kernel_arguments &arguments, struct turn &turn, struct vec4 *slot,
                                uint32_t peer, uint32_t poison)
{
    return receive_begun(arguments, turn, slot, peer, poison, port_load_system4(slot));
}

#endif
