/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_recycled.c - a session is committed, replayed and released, and the next capture takes the slots that it had; the
 * graphs of all released sessions go on being replayed.
 */
#include <inttypes.h>
#include <stdio.h>

#include "storm_replay.h"

#define SESSIONS 6
#define CALLS 4
#define COUNT 4096
#define LAUNCHES 30

static tutti_status session_make(struct replay *replay, int graph, tutti_capture **session)
{
    struct compute *compute = replay->compute;
    tutti_status status = compute_note(compute, tutti_capture_begin(replay->comm, replay->stream, session));
    if (status == TUTTI_OK) {
        status = replay_capture(replay, graph);
    }
    return status == TUTTI_OK ? compute_note(compute, tutti_capture_commit(*session)) : status;
}

/* Slots in use must not grow with the sessions that are over. */
static tutti_status check_slots(struct replay *replay, struct board_pass *pass)
{
    struct compute *compute = replay->compute;
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    tutti_status status = compute_note(compute, tutti_comm_stats(replay->comm, &stats));
    if (status == TUTTI_OK && stats.slots_taken > CALLS) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "%" PRIu64 " slots are taken by %d calls",
                       stats.slots_taken, CALLS);
        return TUTTI_ERR_SYSTEM;
    }
    pass->direct_calls = stats.direct_calls;
    pass->runners.captures = stats.slots_taken;
    pass->runners.commits = stats.commits;
    return status;
}

static tutti_status follow(struct replay *replay, uint64_t *state, struct board_pass *pass)
{
    struct compute *compute = replay->compute;
    tutti_status status = TUTTI_OK;
    for (int graph = 0; graph < SESSIONS && status == TUTTI_OK; graph++) {
        tutti_capture *session = NULL;
        for (int i = 0; i < CALLS; i++) {
            tutti_collective kind = i == 1 ? TUTTI_ALL_GATHER : TUTTI_ALL_REDUCE;
            if (!replay_add(replay, graph, kind, COUNT + 4 * (storm_random(state) % COUNT), state)) {
                return TUTTI_ERR_SYSTEM;
            }
        }
        status = session_make(replay, graph, &session);
        if (status == TUTTI_OK) {
            status = replay_shuffle(replay, graph + 1, LAUNCHES, state);
        }
        if (status == TUTTI_OK) {
            status = check_slots(replay, pass);
        }
        if (status == TUTTI_OK && graph + 1 < SESSIONS) {
            status = compute_note(compute, tutti_capture_release(session));
        }
    }
    return status;
}

void storm_recycled(struct run *run, struct storm_outcome *outcome)
{
    outcome->name = "slots recycled under an old graph";
    if (!replay_run(run, outcome, run->options.seed + 5, follow)) {
        return;
    }
    const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, 0);
    char slots[96] = "";
    if (pass->runners.captures > 0) {
        (void)snprintf(slots, sizeof(slots), " (%" PRIu64 " slots served them all, %" PRIu64 " calls were direct)",
                       pass->runners.captures, pass->direct_calls);
    }
    outcome->ok = pass->runners.commits == SESSIONS;
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                   "%" PRIu64 " capture sessions committed one after another, each released before the next one%s; "
                   "their graphs replayed all along: %" PRIu64 " collectives, every element right on all ranks",
                   pass->runners.commits, slots, pass->steps);
}
