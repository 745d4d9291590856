/* SPDX-License-Identifier: Apache-2.0 */
/* storm_refused_capture.c - one rank cannot capture one bucket, ever: it stays eager on all ranks, with the reason. */
#include <inttypes.h>
#include <stdio.h>

#include "storm.h"

/* Decode steps of most requests. */
static size_t bucket_of(const struct serve *serve)
{
    const struct engine_runner *decode = &serve->target.runners[ENGINE_DECODE];
    return (size_t)decode->plans[decode->bucket_count - 1]->rows;
}

static tutti_status refuse(void *user, struct serve *serve, size_t rows)
{
    const struct storm_rank *storm = user;
    bool here = serve->options.board_rank == storm->victim && rows == bucket_of(serve);
    return here ? TUTTI_ERR_UNSUPPORTED : TUTTI_OK;
}

static void look(void *user, struct serve *serve)
{
    (void)user;
    engine_reason(&serve->target, serve->report->sentence, sizeof(serve->report->sentence));
}

/* Whether one bucket is eager on all ranks, in how many runs, and they know why. */
static bool eager_everywhere(const struct run *run, uint64_t *eager)
{
    for (int rank = 0; rank < run->options.ranks; rank++) {
        const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, rank);
        uint64_t here = 0;
        for (int i = 0; i < pass->bucket_count; i++) {
            here += pass->buckets[i].state == TUTTI_BUCKET_EAGER ? pass->buckets[i].eager : 0;
        }
        if (here == 0 || pass->sentence[0] == '\0') {
            return false;
        }
        *eager = here;
    }
    return true;
}

void storm_refused_capture(struct run *run, struct storm_outcome *outcome)
{
    uint64_t state = run->options.seed + 9;
    struct storm_rank storm = {.victim = (int)(storm_random(&state) % (uint64_t)run->options.ranks)};
    struct serve_faults faults = {.user = &storm, .before_step = look, .capture_begun = refuse};
    outcome->name = "a capture that fails on one rank";
    char tokens[256];
    uint64_t eager = 0;
    if (!storm_serve(run, &faults, outcome, tokens, sizeof(tokens))) {
        return;
    }
    int witness = (storm.victim + 1) % run->options.ranks;
    const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, witness);
    outcome->ok = eager_everywhere(run, &eager) && outcome->ok;
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                   "rank %d was told \"%s\"; that bucket was eager on all ranks, %" PRIu64 " times, and %" PRIu64
                   " steps of others were replayed: %s",
                   witness, pass->sentence, eager, pass->runners.graph_replays, tokens);
}
