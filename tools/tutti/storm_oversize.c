/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_oversize.c - the largest buckets are smaller than many steps, buckets are captured in the middle of serving, and all that is
 * padding is poisoned.
 */
#include <inttypes.h>
#include <stdio.h>

#include "storm.h"

static void poison(void *user, struct serve *serve)
{
    (void)user;
    forward_poison(&serve->target.forward);
}

void storm_oversize(struct run *run, struct storm_outcome *outcome)
{
    struct serve_faults faults = {.before_step = poison, .small = true};
    outcome->name = "batches above the largest bucket";
    char tokens[256];
    if (!storm_serve(run, &faults, outcome, tokens, sizeof(tokens))) {
        return;
    }
    const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, 0);
    const struct board_runners *runners = &pass->runners;
    outcome->ok = outcome->ok && runners->oversize_steps > 0 && runners->captures > 0;
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                   "%" PRIu64 " of %" PRIu64 " steps had more rows than any bucket and ran eagerly; %" PRIu64
                   " buckets were captured in the middle of serving, and %" PRIu64 " steps replayed: %s",
                   runners->oversize_steps, pass->steps, runners->captures, runners->graph_replays, tokens);
}
