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

/* What a rank serves with. */
struct run_rank {
    struct compute *compute;
    tutti_comm *comm;
    struct model *model;
    struct model *draft; /* NULL: none */
};

/* Opens all three for the phase's rank. False, with the sentence on the board's `slot`; run_rank_close is needed all the
 * same. */
bool run_rank_open(struct run_rank *rank, const struct phase_rank *self, enum board_slot slot);
void run_rank_close(struct run_rank *rank);

/* One by one, as some other rank of another world. NULL, with the sentence on the board's `slot`. */
struct compute *run_rank_compute(const struct phase_rank *self, enum board_slot slot);
tutti_comm *run_rank_comm(const struct phase_rank *self, const struct compute *compute, int rank, int world,
                          const char *meeting, enum board_slot slot);
struct model *run_rank_model(const struct phase_rank *self, struct compute *compute, int rank, int world,
                             enum board_slot slot);
/* The draft's, for the phase's rank. */
struct model *run_rank_draft(const struct phase_rank *self, struct compute *compute, enum board_slot slot);

/* Before a rank opens anything: lets collectives of a few KB be direct on GPUs, which otherwise begins at megabytes. For storms, whose
 * collectives are small. What the user has set stays. */
void run_rank_direct_early(void);

/* Leaves `sentence` on the board and returns false. */
bool run_rank_fail(const struct phase_rank *self, enum board_slot slot, const char *sentence);

/* The options every pass shares. */
struct serve_options run_rank_options(const struct phase_rank *self, enum board_slot slot);

/* In real numerics a rank is fed the reference's tokens, so that one rounding does not change all that follows. */
const struct board_token *run_rank_forced(const struct run *run);

#endif
