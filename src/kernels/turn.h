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
 * begun and counted themselves before they let anybody in) and waits until `ended` has caught up.
 *
 * Waiting. A thread that waits looks at the clock and at the abort word every few polls. Time is added up in steps
 * of at most STEP_NS_MAX, so that a stopped device or a debugger does not count as waiting.
 *
 * Leaving. A thread whose wait failed goes on to the end with `failed` set: barriers stay matched, the block
 * poisons its outputs and still advances `ended`. A call that begins after a failure has failed itself and pushes
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

/* Byte `offset` of this epoch's half in `rank`'s arena. */
PORT_DEVICE struct vec4 *slot_at(const struct kernel_arguments &arguments, const struct turn &turn, uint32_t rank,
                                 uint64_t offset)
{
    return reinterpret_cast<struct vec4 *>(arguments.lanes[rank] + turn.half + offset);
}

/* -- waiting -------------------------------------------------------------------------------------- */

struct patience {
    uint64_t last_ns, waited_ns;
};

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
    if (port_load_system(&head_of(arguments, arguments.rank)->abort) != 0) {
        return true;
    }
    const struct failure_note *note = reinterpret_cast<const struct failure_note *>(arguments.note);
    uint64_t given_up = port_load_system8(&note->given_up);
    if (given_up == ~(uint64_t)0) {
        port_store_system(&head_of(arguments, arguments.rank)->abort, 1); /* the calls behind this one fail at once */
        return true;
    }
    if ((given_up >> peer & 1) == 0 && patience.waited_ns < arguments.timeout_ns + port_load_system8(&note->extra_ns)) {
        return false;
    }
    note_timeout(arguments, epoch, peer, patience.waited_ns);
    /* Also if another lane was the first to fail and has taken the note: this one's later calls must not push. */
    for (uint32_t rank = 0; rank < arguments.world; rank++) {
        port_store_system(&head_of(arguments, rank)->abort, 1);
    }
    return true;
}

/* -- begin and end -------------------------------------------------------------------------------- */

/* What a block adds to a counter. */
PORT_DEVICE uint64_t turn_share()
{
    return EPOCH_UNITS / port_blocks();
}

/* Programmatic launch only; see the top. Every thread reads `begun` before the block adds to it, so that what it sees is
 * below the next epoch's number whatever the other blocks have added. The block's own addition returns a value, which
 * turn_let_successor_in waits for: it has then been performed, and a successor counts it. */
PORT_DEVICE void turn_claim_epoch(const struct kernel_arguments &arguments, struct turn &turn)
{
    struct arena_head *head = head_of(arguments, arguments.rank);
    uint64_t begun = port_load_counter(&head->begun);
    uint64_t ended = port_load_counter(&head->ended);
    turn.failed = port_load_system(&head->abort) != 0;
    struct patience patience = {0, 0};
    turn.epoch = begun / EPOCH_UNITS;
    for (uint32_t polls = 1; ended / EPOCH_UNITS < turn.epoch; polls++) {
        if (polls % POLLS_PER_LOOK == 0 && lost_patience(arguments, turn.epoch, patience, arguments.rank)) {
            turn.failed = true;
            break;
        }
        ended = port_load_counter(&head->ended);
        turn.failed = port_load_system(&head->abort) != 0; /* the call before may have been the first to fail */
    }
    port_sync();
    if (port_thread() == 0) {
        turn.claim = port_fetch_add_counter(&head->begun, turn_share());
    }
}

PORT_DEVICE struct turn turn_begin(const struct kernel_arguments &arguments)
{
    struct turn turn;
    turn.claim = 0;
    if ((arguments.flags & KERNEL_PROGRAMMATIC) != 0) {
        port_wait_for_predecessor();
        turn_claim_epoch(arguments, turn);
    } else {
        struct arena_head *head = head_of(arguments, arguments.rank);
        uint64_t ended = port_load_counter(&head->ended);
        turn.failed = port_load_system(&head->abort) != 0; /* travels at the same time */
        turn.epoch = ended / EPOCH_UNITS;
    }
    turn.half = ARENA_HEAD_BYTES + (turn.epoch & 1) * arguments.half_bytes;
    return turn;
}

/* Says what this rank is doing, for peers that lose patience. After the call's first stores to the peers: nobody is in a
 * hurry to read it. */
PORT_DEVICE void turn_announce(const struct kernel_arguments &arguments, const struct turn &turn)
{
    if (port_block() == 0 && port_thread() == 0) {
        struct arena_head *head = head_of(arguments, arguments.rank);
        port_store_system8(&head->signature[turn.epoch & 1], arguments.signature);
        port_store_system8(&head->call, turn.epoch);
    }
}

/* Only after a barrier behind the block's last poll: the first thread of a block that says so says it for the block, and a
 * successor that fills the device while we still wait for a peer could keep that peer's kernel from starting. */
PORT_DEVICE void turn_let_successor_in(const struct kernel_arguments &arguments, const struct turn &turn)
{
    /* Only thread 0 has a claim that had to be waited for; the others must not speak for the block before it. */
    if ((arguments.flags & KERNEL_PROGRAMMATIC) != 0 && port_thread() == 0 && turn.claim != ~(uint64_t)0) {
        port_let_successor_in();
    }
}

/* All threads of the block have polled for the last time. True if one of them failed: the caller then poisons what
 * the block wrote before it leaves. */
PORT_DEVICE bool turn_finish(const struct kernel_arguments &arguments, const struct turn &turn)
{
    bool failed = port_sync_or(turn.failed);
    turn_let_successor_in(arguments, turn);
    return failed;
}

/* The block's last act, after turn_finish. What the block wrote is ordered by the end of the grid, not by this. */
PORT_DEVICE void turn_leave(const struct kernel_arguments &arguments)
{
    if (port_thread() == 0) {
        struct arena_head *head = head_of(arguments, arguments.rank);
        if ((arguments.flags & KERNEL_PROGRAMMATIC) == 0) {
            port_add_counter(&head->begun, turn_share()); /* nobody looks before we have left */
        }
        if ((arguments.flags & KERNEL_EAGER) != 0) {
            port_add_counter(&head->eager, turn_share());
        }
        port_add_counter(&head->ended, turn_share());
    }
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

/* Waits on, after a first look that found the slot incomplete. */
PORT_DEVICE struct vec4 receive_late(const struct kernel_arguments &arguments, struct turn &turn, struct vec4 *slot,
                                     uint32_t peer)
{
    struct patience patience = {0, 0};
    struct vec4 value = port_load_system4(slot);
    for (uint32_t polls = 1; !is_complete(value); polls++) {
        if (turn.failed || (polls % POLLS_PER_LOOK == 0 && lost_patience(arguments, turn.epoch, patience, peer))) {
            turn.failed = true;
            return value;
        }
        value = port_load_system4(slot);
    }
    return value;
}

/* Waits for 16 bytes from `peer` in this rank's own arena and empties the slot for epoch + 2. */
PORT_DEVICE struct vec4 receive(const struct kernel_arguments &arguments, struct turn &turn, struct vec4 *slot,
                                uint32_t peer)
{
    const struct vec4 empty = {SENTINEL, SENTINEL, SENTINEL, SENTINEL};
    struct vec4 value = receive_late(arguments, turn, slot, peer);
    port_store_system4(slot, empty);
    return value;
}

#endif
