/* SPDX-License-Identifier: Apache-2.0 */
/* run_phase.h - rank processes: started together, watched, and never left behind. */
#ifndef TUTTI_TOOL_RUN_PHASE_H
#define TUTTI_TOOL_RUN_PHASE_H

#include "run.h"

struct phase_rank {
    const struct run *run;
    int rank, world;
    char meeting[96];   /* rendezvous of this phase */
    char survivors[96]; /* another, for those who are left */
    void *user;
};

/* What one rank does, in its own process. True if it did it; otherwise the reason stands in the rank's
 * board_pass()->sentence of the slot that the phase uses. */
typedef bool (*phase_body)(const struct phase_rank *self);

struct phase {
    const char *label; /* beside the progress bar; NULL: no bar */
    int world;
    phase_body body;
    void *user;                      /* as the parent left it: each rank has its own copy */
    enum board_slot slot, slot_last; /* the passes it makes: where progress and reasons are read */
    size_t outputs;                  /* how many tokens are 100 %, over all its passes */
    uint64_t spared;                 /* bit r: rank r may die without failing the phase */
};

/* Runs the phase to its end. False, with one sentence in `why`, if a rank failed, died, or the user interrupted;
 * no rank process is left in any case. */
bool phase_run(struct run *run, const struct phase *phase, char *why, size_t why_bytes);

/* Makes the directory under which ranks meet, and lets SIGINT, SIGTERM, SIGHUP and SIGPIPE end phases instead of this
 * process. False with a sentence. */
bool phase_prepare(struct run *run, char *why, size_t why_bytes);
void phase_cleanup(struct run *run);

#endif
