/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_interleaved.c - gathers and reductions take turns in one capture, large ones and small ones, and other sizes are called
 * eagerly on the way. First replayed as it is, then committed.
 */
#include <inttypes.h>
#include <stdio.h>

#include "storm_replay.h"

#define CALLS 18
#define ROUNDS 24
#define LARGE 4096 /* elements; multiples of four, so that the calls can be direct on GPUs */

/* Reduces and gathers in turns; every sixth call scatters. */
static tutti_collective kind_of(int index)
{
    return index % 6 == 5 ? TUTTI_REDUCE_SCATTER : index % 2 == 0 ? TUTTI_ALL_REDUCE : TUTTI_ALL_GATHER;
}

static bool lists_make(struct replay *replay, uint64_t *state)
{
    bool room = true;
    for (int i = 0; i < CALLS && room; i++) {
        bool large = storm_random(state) % 3 != 0;
        size_t count = large ? LARGE + 4 * (storm_random(state) % LARGE) : 1 + storm_random(state) % 200;
        room = replay_add(replay, 0, kind_of(i), count, state);
    }
    for (int i = 0; i < 4 && room; i++) {
        room = replay_add(replay, 1, kind_of(i), 1 + storm_random(state) % (2 * (size_t)LARGE), state);
    }
    return room;
}

static tutti_status replay_rounds(struct replay *replay)
{
    tutti_status status = TUTTI_OK;
    for (int round = 0; round < ROUNDS && status == TUTTI_OK; round++) {
        status = replay_launch(replay, 0);
        if (status == TUTTI_OK && round % 3 == 0) {
            status = replay_enqueue(replay, 1); /* other sizes */
        }
    }
    return status == TUTTI_OK ? replay->compute->ops->synchronize(replay->compute, replay->stream) : status;
}

static tutti_status follow(struct replay *replay, uint64_t *state, struct board_pass *pass)
{
    struct compute *compute = replay->compute;
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    tutti_status status = lists_make(replay, state) ? replay_capture(replay, 0) : TUTTI_ERR_SYSTEM;
    if (status == TUTTI_OK) {
        status = replay_rounds(replay);
    }
    if (status == TUTTI_OK) {
        status = compute_note(compute, tutti_commit(replay->comm));
    }
    if (status == TUTTI_OK) {
        status = replay_rounds(replay);
    }
    if (status == TUTTI_OK) {
        status = compute_note(compute, tutti_comm_stats(replay->comm, &stats));
    }
    pass->runners.captures = CALLS;
    pass->direct_calls = stats.direct_calls;
    return status;
}

void storm_interleaved(struct run *run, struct storm_outcome *outcome)
{
    outcome->name = "gathers and reductions interleaved in one capture";
    if (!replay_run(run, outcome, run->options.seed + 4, follow)) {
        return;
    }
    const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, 0);
    char direct[64] = "";
    if (pass->direct_calls > 0) {
        (void)snprintf(direct, sizeof(direct), ", %" PRIu64 " of them directly", pass->direct_calls);
    }
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                   "one graph of %" PRIu64
                   " all-reduces, all-gathers and reduce-scatters, replayed %d times before and "
                   "%d times after its commit, with other sizes called on the way: %" PRIu64
                   " collectives%s, every element right on all ranks",
                   pass->runners.captures, ROUNDS, ROUNDS, pass->steps, direct);
}
