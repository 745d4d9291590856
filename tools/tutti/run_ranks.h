/* SPDX-License-Identifier: Apache-2.0 */
/* run_ranks.h - what the rank processes of the three passes do. */
#ifndef TUTTI_TOOL_RUN_RANKS_H
#define TUTTI_TOOL_RUN_RANKS_H

#include "run_phase.h"

/* phase_body: one rank serves the trace eagerly, with rows as they come; its tokens are the reference. */
bool run_rank_reference(const struct phase_rank *self);

/* phase_body: serves the trace eagerly, then once more from graphs. */
bool run_rank_serve(const struct phase_rank *self);

/* phase_body: serves the storm's trace from graphs, with `user` (struct serve_faults) interfering. */
bool run_rank_storm(const struct phase_rank *self);

/* A communicator of the phase's ranks. NULL, with the sentence on the board's `slot`. */
tutti_comm *run_rank_comm(const struct phase_rank *self, int rank, int world, const char *meeting,
                          enum board_slot slot);

/* Leaves `sentence` on the board and returns false. */
bool run_rank_fail(const struct phase_rank *self, enum board_slot slot, const char *sentence);

/* The options every pass shares. */
struct serve_options run_rank_options(const struct phase_rank *self, enum board_slot slot);

/* In real numerics a rank is fed the reference's tokens, so that one rounding does not change all that follows. */
const struct board_token *run_rank_forced(const struct run *run);

#endif
