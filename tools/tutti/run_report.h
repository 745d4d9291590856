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
    double seconds, capture_ms, commit_ms;
    uint64_t steps, graph_replays, eager_steps, captures, commits;
    uint64_t direct_calls, staged_calls; /* of the collectives that are large enough to be direct */
};

struct figures report_figures(const struct run *run, enum board_slot slot);

struct run_verdicts {
    struct verdict eager, graphs, same_bits;
};

void report_header(const struct run *run);
void report_table(const struct run *run);
void report_verdicts(const struct run *run, const struct run_verdicts *verdicts);
void report_storm(const struct storm_outcome *outcome);

#endif
