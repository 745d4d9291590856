/* SPDX-License-Identifier: Apache-2.0 */
/* storm_garbage.c - before every step, NaN in everything that nobody may read. */
#include <inttypes.h>
#include <stdio.h>

#include "storm.h"

static void poison(void *user, struct serve *serve)
{
    struct storm_rank *storm = user;
    forward_poison(&serve->target.forward);
    storm->count += serve->step.prefill;
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
                       "NaN in all scratch before each of %" PRIu64 " steps, %s of them prefill, in %" PRIu64
                       " padding rows and in the unwritten KV cache: %s",
                       pass->steps, pass->sentence, pass->runners.padding_rows, tokens);
    }
}
