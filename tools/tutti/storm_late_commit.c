/* SPDX-License-Identifier: Apache-2.0 */
/* storm_late_commit.c - all buckets are captured at the start and served from for a while; the commit comes in the middle. */
#include <inttypes.h>
#include <stdio.h>

#include "storm.h"

struct late_commit {
    uint64_t replays; /* before it */
    bool committed;
};

static void commit(struct late_commit *late, struct serve *serve)
{
    struct board_pass *report = serve->report;
    tutti_stats before = {.struct_bytes = sizeof(before)};
    (void)tutti_comm_stats(serve->comm, &before);
    late->committed = true;
    if (serve_commit(serve) != TUTTI_OK) {
        (void)snprintf(report->sentence, sizeof(report->sentence), "%s", serve->compute->sentence);
        return;
    }
    (void)snprintf(report->sentence, sizeof(report->sentence),
                   "%" PRIu64 " buckets, captured at the start, served %" PRIu64
                   " steps before tutti_commit took in their %" PRIu64 " calls (%.1f ms)",
                   report->runners.captures, report->runners.graph_replays, before.pending_calls,
                   report->late_commit_ms);
}

static void before_step(void *user, struct serve *serve)
{
    struct late_commit *late = user;
    if (!late->committed && serve->report->runners.graph_replays == late->replays) {
        commit(late, serve);
    }
}

void storm_late_commit(struct run *run, struct storm_outcome *outcome)
{
    uint64_t state = run->options.seed + 6;
    struct late_commit late = {.replays = 5 + storm_random(&state) % 5};
    struct serve_faults faults = {.user = &late,
                                  .before_step = before_step,
                                  .at_start = true,
                                  .commits_late = true,
                                  .direct_early = true,
                                  .exchange = EXCHANGE_PLAIN};
    outcome->name = "a commit in the middle of serving";
    char tokens[256];
    if (!storm_serve(run, &faults, outcome, tokens, sizeof(tokens))) {
        return;
    }
    const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, 0);
    char direct[96] = "";
    if (pass->direct_calls > 0) {
        (void)snprintf(direct, sizeof(direct), ", %" PRIu64 " calls of them directly", pass->direct_calls);
    }
    outcome->ok = outcome->ok && pass->late_commits == 1 && pass->runners.graph_replays > late.replays;
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence), "%s, and %" PRIu64 " steps after it%s: %s",
                   pass->sentence, pass->runners.graph_replays - late.replays, direct, tokens);
}
