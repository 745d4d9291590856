/* SPDX-License-Identifier: Apache-2.0 */
/* storm_delayed_capture.c - one rank is late in every capture; its peers already replay theirs and wait. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "storm.h"

static void dawdle(void *user, struct serve *serve)
{
    struct storm_rank *storm = user;
    if (serve->options.board_rank != storm->victim) {
        return;
    }
    uint64_t ms = 5 + storm_random(&storm->seed) % 60;
    (void)nanosleep(&(struct timespec){0, (long)ms * 1000000L}, NULL);
    storm->count++;
    storm->amount += ms;
    (void)snprintf(serve->report->sentence, sizeof(serve->report->sentence),
                   "rank %d slept %" PRIu64 " ms inside its %" PRIu64 " captures", storm->victim, storm->amount,
                   storm->count);
}

void storm_delayed_capture(struct run *run, struct storm_outcome *outcome)
{
    uint64_t state = run->options.seed;
    struct storm_rank storm = {.victim = (int)(storm_random(&state) % (uint64_t)run->options.ranks)};
    storm.seed = storm_random(&state);
    struct serve_faults faults = {.user = &storm, .capture_ending = dawdle};
    outcome->name = "captures of one rank delayed";
    char tokens[256];
    if (storm_serve(run, &faults, outcome, tokens, sizeof(tokens))) {
        const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, storm.victim);
        outcome->ok = outcome->ok && pass->runners.captures > 0;
        (void)snprintf(outcome->sentence, sizeof(outcome->sentence), "%s; its peers waited: %s", pass->sentence,
                       tokens);
    }
}
