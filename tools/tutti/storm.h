/* SPDX-License-Identifier: Apache-2.0 */
/* storm.h - things that go wrong on purpose, one file each. */
#ifndef TUTTI_TOOL_STORM_H
#define TUTTI_TOOL_STORM_H

#include "run_phase.h"

/* Runs all of them, prints each as it ends, and keeps the outcomes in the run. False if one was not survived. */
bool storm_run(struct run *run);

/* Each fills outcome->name, ok and sentence. Reproducible from run->options.seed. */
void storm_delayed_capture(struct run *run, struct storm_outcome *outcome);
void storm_random_replay(struct run *run, struct storm_outcome *outcome);
void storm_invalidated_capture(struct run *run, struct storm_outcome *outcome);
void storm_refused_capture(struct run *run, struct storm_outcome *outcome);
void storm_oversize(struct run *run, struct storm_outcome *outcome);
void storm_garbage(struct run *run, struct storm_outcome *outcome);
void storm_interleaved(struct run *run, struct storm_outcome *outcome);
void storm_recycled(struct run *run, struct storm_outcome *outcome);
void storm_late_commit(struct run *run, struct storm_outcome *outcome);
void storm_remapped(struct run *run, struct storm_outcome *outcome);
void storm_unshareable(struct run *run, struct storm_outcome *outcome);
void storm_lost_rank(struct run *run, struct storm_outcome *outcome);

/* Serves the storm's trace on all ranks while `faults` interfere (in the rank processes), and compares the tokens
 * with the one-rank run's. False, with outcome->sentence, if a rank failed; outcome->ok and `tokens` ("same tokens (96
 * of 96)") otherwise. */
bool storm_serve(struct run *run, struct serve_faults *faults, struct storm_outcome *outcome, char *tokens,
                 size_t tokens_bytes);

/* The verdict in a few words. */
bool storm_tokens(const struct run *run, uint64_t ranks, char *text, size_t text_bytes);

/* The next number of a storm's generator. */
uint64_t storm_random(uint64_t *state);

/* What the faults of a storm know; every rank process has its own copy. */
struct storm_rank {
    uint64_t seed;
    int victim;      /* the rank that suffers */
    uint64_t count;  /* how often it happened here */
    uint64_t amount; /* milliseconds slept */
};

#endif
