/* SPDX-License-Identifier: Apache-2.0 */
/* storm_garbage.c - before every step, NaN in everything that nobody may read. */
#include <inttypes.h>
#include <stdio.h>

#include "storm.h"

static void poison(void *user, struct serve *serve)
{
    struct storm_rank *storm = user;
    forward_poison(&serve->forward);
    int rows = serve->step.rows;
    storm->count += serve->step.prefill ? 0 : (uint64_t)((1 << serve_bucket(rows)) - rows);
    (void)snprintf(serve->report->sentence, sizeof(serve->report->sentence), "%" PRIu64, storm->count);
}

void storm_garbage(struct run *run, struct storm_outcome *outcome)
{
    struct storm_rank storm = {0};
    struct serve_faults faults = {.user = &storm, .before_step = poison};
    outcome->name = "garbage in every buffer that nobody should read";
    char tokens[256];
    if (storm_serve(run, &faults, outcome, tokens, sizeof(tokens))) {
        const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, 0);
        (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                       "NaN in all scratch before each of %" PRIu64
                       " steps, in %s padding rows and in the unwritten KV cache: %s",
                       pass->steps, pass->sentence, tokens);
    }
}
