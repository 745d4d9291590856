/* SPDX-License-Identifier: Apache-2.0 */
/* storm_unshareable.c - on one rank the activations lie in memory that no peer can be given: calls are staged, and counted. */
#include <inttypes.h>
#include <stdio.h>

#include "storm.h"

static void look(void *user, struct serve *serve)
{
    const struct storm_rank *storm = user;
    struct board_pass *report = serve->report;
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    tutti_memory_class_t memory = {.struct_bytes = sizeof(memory)};
    if (tutti_comm_stats(serve->comm, &stats) != TUTTI_OK ||
        tutti_memory_class(serve->comm, serve->target.forward.partial, &memory) != TUTTI_OK) {
        (void)snprintf(report->sentence, sizeof(report->sentence), "%s", tutti_last_error());
        return;
    }
    report->staged_for_good = stats.pending_calls == 0 ? stats.staged_for_good_calls : 0;
    if (serve->options.board_rank == storm->victim && memory.shareable == 0) {
        (void)snprintf(report->sentence, sizeof(report->sentence), "rank %d's activations cannot be shared (%s)",
                       storm->victim, memory.reason);
    }
}

void storm_unshareable(struct run *run, struct storm_outcome *outcome)
{
    uint64_t state = run->options.seed + 8;
    struct storm_rank storm = {.victim = (int)(storm_random(&state) % (uint64_t)run->options.ranks)};
    struct serve_faults faults = {.user = &storm,
                                  .before_step = look,
                                  .direct_early = true,
                                  .exchange = EXCHANGE_PAGES,
                                  .secret_ranks = (uint64_t)1 << storm.victim};
    outcome->name = "one rank's memory cannot be shared";
    char tokens[256];
    if (!storm_serve(run, &faults, outcome, tokens, sizeof(tokens))) {
        return;
    }
    uint64_t staged = UINT64_MAX;
    for (int rank = 0; rank < run->options.ranks; rank++) {
        uint64_t here = board_pass(&run->board, BOARD_STORM, rank)->staged_for_good;
        staged = here < staged ? here : staged;
    }
    const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, storm.victim);
    outcome->ok = outcome->ok && staged > 0 && pass->sentence[0] != '\0';
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                   "%s: the commit left %" PRIu64 " captured calls staged on every rank, %" PRIu64
                   " steps replayed: %s",
                   pass->sentence, staged, pass->runners.graph_replays, tokens);
}
