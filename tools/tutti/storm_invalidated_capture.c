/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_invalidated_capture.c - questions asked while one rank captures: another thread's, which the runner's captures do not mind, and
 * one of the capturing thread itself, which invalidates them.
 */
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
static tutti_status invalidate(void *user, struct serve *serve, size_t rows)
{
    struct storm_rank *storm = user;
    pthread_t thread;
    (void)rows;
    if (serve->options.board_rank != storm->victim) {
        return TUTTI_OK;
    }
    if (pthread_create(&thread, NULL, meddle, serve->compute) == 0) {
        (void)pthread_join(thread, NULL);
    }
    if (storm->count < 2) {
        storm->count++;
        serve->compute->ops->meddle(serve->compute);
    }
    return TUTTI_OK;
}

static void look(void *user, struct serve *serve)
{
    (void)user;
    struct board_pass *report = serve->report;
    if (report->sentence[0] == '\0') {
        engine_reason(&serve->target, report->sentence, sizeof(report->sentence));
    }
}

void storm_invalidated_capture(struct run *run, struct storm_outcome *outcome)
{
    uint64_t state = run->options.seed + 1;
    struct storm_rank storm = {.victim = (int)(storm_random(&state) % (uint64_t)run->options.ranks)};
    struct serve_faults faults = {.user = &storm, .before_step = look, .capture_begun = invalidate};
    outcome->name = "a capture invalidated";
    char tokens[256];
    if (!storm_serve(run, &faults, outcome, tokens, sizeof(tokens))) {
        return;
    }
    for (int rank = 0; rank < run->options.ranks; rank++) {
        const struct board_runners *runners = &board_pass(&run->board, BOARD_STORM, rank)->runners;
        outcome->ok = outcome->ok && runners->capture_failures == 2 && runners->captures > 0;
    }
    const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, storm.victim);
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                   "all ranks were told \"%s\", ran eagerly and tried again; %" PRIu64
                   " captures beside which only other threads asked went well: %s",
                   pass->sentence, pass->runners.captures, tokens);
}
