/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_replay.h - lists of collectives that are captured, replayed and called eagerly, and that check themselves.
 *
 * Inputs are made and checked by work that is captured with the collectives (storm_replay_call.h). A storm of this kind is a
 * script that every rank follows in a process of its own; what it draws from `state` is the same on all ranks.
 */
#ifndef TUTTI_TOOL_STORM_REPLAY_H
#define TUTTI_TOOL_STORM_REPLAY_H

#include "run_phase.h"
#include "storm.h"
#include "storm_replay_call.h"

#define REPLAY_GRAPHS_MAX 8
#define REPLAY_CALLS_MAX 24

struct replay {
    struct compute *compute;
    struct replay_call calls[REPLAY_GRAPHS_MAX][REPLAY_CALLS_MAX]; /* as they were made, */
    struct replay_call *live[REPLAY_GRAPHS_MAX][REPLAY_CALLS_MAX]; /* and in the computer's memory, where they count */
    int call_count[REPLAY_GRAPHS_MAX];
    void *graphs[REPLAY_GRAPHS_MAX]; /* NULL: not captured */
    tutti_stream stream;
    tutti_comm *comm;
    int rank, world;
};

/* What a rank does. Not TUTTI_OK: compute->sentence says why. May leave a sentence in `pass`. */
typedef tutti_status (*replay_script)(struct replay *replay, uint64_t *state, struct board_pass *pass);

/* Runs a script on all ranks, with a communicator on which collectives of a few KB and more can be direct. False, with
 * outcome->sentence, if a rank failed or an element was wrong; outcome->ok says the same. The board's `steps` count collectives. */
bool replay_run(struct run *run, struct storm_outcome *outcome, uint64_t seed, replay_script script);

/* Adds a call to a list. False, with the sentence, if memory ran out. */
bool replay_add(struct replay *replay, int graph, tutti_collective kind, size_t count, uint64_t *state);

/* Calls a list eagerly; captures it; launches its graph. */
tutti_status replay_enqueue(struct replay *replay, int graph);
tutti_status replay_capture(struct replay *replay, int graph);
tutti_status replay_launch(struct replay *replay, int graph);

/* Random ones of the first `graphs` lists, a third of the times eagerly; synchronised now and then, so that queues build up. */
tutti_status replay_shuffle(struct replay *replay, int graphs, int launches, uint64_t *state);

#endif
