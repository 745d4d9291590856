/* SPDX-License-Identifier: Apache-2.0 */
/* run_report.h - figures of the passes, as a table for people. */
#ifndef TUTTI_TOOL_RUN_REPORT_H
#define TUTTI_TOOL_RUN_REPORT_H

#include "run.h"
#include "run_verify.h"

/* Figures of one pass, from rank 0's clock. */
struct figures {
    double tokens_in_per_second, tokens_out_per_second;
    double first_ms_p50, rest_ms_p50; /* to the first token; per token after it */
    double seconds, start_ms;
    uint64_t steps, direct_calls, staged_calls; /* calls: of the collectives that are large enough to be direct */
    struct board_runners runners;
    uint64_t proposed, accepted; /* tokens of a draft model */
};

/* How the trace is served, one way after another. */
struct way {
    enum board_slot slot;
    const char *name; /* static storage */
};
#define WAYS_MAX 4
/* Returns how many this run has. */
int report_ways(const struct run *run, struct way ways[WAYS_MAX]);

struct figures report_figures(const struct run *run, enum board_slot slot);

struct run_verdicts {
    struct verdict of[WAYS_MAX];   /* against the reference, in the order of the ways, */
    struct verdict same[WAYS_MAX]; /* and against the first of them, which is left out; total 0: not compared */
};

void report_header(const struct run *run);
void report_table(const struct run *run);
void report_verdicts(const struct run *run, const struct run_verdicts *verdicts);
void report_storm(const struct storm_outcome *outcome);

#endif
