/* SPDX-License-Identifier: Apache-2.0 */
/* storm_invalidated_capture.c - another thread asks about a stream while one rank captures in global mode. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "storm.h"

static void *meddle(void *argument)
{
    struct compute *compute = argument;
    compute->ops->meddle(compute);
    return NULL;
}

/* The first two captures of the victim: the first bucket fails twice and is captured at the third try. */
static void invalidate(void *user, struct serve *serve)
{
    struct storm_rank *storm = user;
    if (serve->options.board_rank != storm->victim || storm->count >= 2) {
        return;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, meddle, serve->compute) == 0) {
        (void)pthread_join(thread, NULL);
        storm->count++;
    }
}

void storm_invalidated_capture(struct run *run, struct storm_outcome *outcome)
{
    uint64_t state = run->options.seed + 1;
    struct storm_rank storm = {.victim = (int)(storm_random(&state) % (uint64_t)run->options.ranks)};
    struct serve_faults faults = {.user = &storm, .capture_begun = invalidate};
    outcome->name = "a capture invalidated from another thread";
    char tokens[256];
    if (!storm_serve(run, &faults, outcome, tokens, sizeof(tokens))) {
        return;
    }
    const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, storm.victim);
    outcome->ok = outcome->ok && pass->capture_failures == 2 && pass->captures > 0;
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                   "rank %d was told \"%s\"; it ran %" PRIu64 " steps eagerly beside its peers' replays, captured "
                   "again: %s",
                   storm.victim, pass->sentence, pass->capture_failures, tokens);
}
