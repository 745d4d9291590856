/* SPDX-License-Identifier: Apache-2.0 */
/* storm_random_replay.c - graphs of mixed collectives, replayed in random order between eager calls. */
#include <inttypes.h>
#include <stdio.h>

#include "storm_replay.h"

#define GRAPHS 6
#define CALLS_PER_GRAPH_MAX 4
#define LAUNCHES 400
#define COUNT_MAX 20000

static tutti_status follow(struct replay *replay, uint64_t *state, struct board_pass *pass)
{
    (void)pass;
    tutti_status status = TUTTI_OK;
    for (int graph = 0; graph < GRAPHS && status == TUTTI_OK; graph++) {
        int calls = 1 + (int)(storm_random(state) % CALLS_PER_GRAPH_MAX);
        for (int i = 0; i < calls; i++) {
            tutti_collective kind = (tutti_collective)(storm_random(state) % TUTTI_BARRIER);
            size_t count = 1 + storm_random(state) % (storm_random(state) % 2 != 0 ? COUNT_MAX : 64);
            if (!replay_add(replay, graph, kind, count, state)) {
                return TUTTI_ERR_SYSTEM;
            }
        }
        status = replay_capture(replay, graph);
    }
    return status == TUTTI_OK ? replay_shuffle(replay, GRAPHS, LAUNCHES, state) : status;
}

void storm_random_replay(struct run *run, struct storm_outcome *outcome)
{
    outcome->name = "graphs replayed in random order between eager calls";
    if (replay_run(run, outcome, run->options.seed + 2, follow)) {
        (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                       "%d launches of %d graphs, a third of them eager instead, %" PRIu64
                       " collectives whose inputs change with every call: every element right on all ranks",
                       LAUNCHES, GRAPHS, board_pass(&run->board, BOARD_STORM, 0)->steps);
    }
}
