/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_remapped.c - what memory savers do in training loops: between two steps the pages under the captured buffers are given
 * back and other ones come to the same addresses, with new weights. tutti_suspend before it, tutti_resume after it, and the
 * graphs that are there go on.
 */
#include <inttypes.h>
#include <stdio.h>

#include "storm.h"

struct remapped {
    uint64_t every; /* so many replays */
    uint64_t next, times, failures;
    uint64_t suspended; /* calls, in all */
};

/* Rank 0 has the weights; the others' are gone. */
static tutti_status weights_receive(struct serve *serve, float *gains, int count)
{
    struct compute *compute = serve->compute;
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = serve->target.stream};
    size_t bytes = (size_t)count * sizeof(*gains);
    if (serve->target.model->rank != 0 && !compute->ops->spoil(compute, gains, bytes)) {
        return TUTTI_ERR_SYSTEM;
    }
    return compute_note(compute, tutti_broadcast(serve->comm, gains, bytes, 0, &call));
}

/* Those that all ranks have alike. */
static tutti_status weights_receive_all(struct serve *serve)
{
    const struct model *model = serve->target.model;
    int hidden = model->shape.hidden;
    tutti_status status = weights_receive(serve, model->norm_final, hidden);
    for (int layer = 0; layer < model->shape.layers && status == TUTTI_OK; layer++) {
        status = weights_receive(serve, model->layers[layer].norm_attention, hidden);
        if (status == TUTTI_OK) {
            status = weights_receive(serve, model->layers[layer].norm_mlp, hidden);
        }
    }
    return status == TUTTI_OK ? serve->compute->ops->synchronize(serve->compute, serve->target.stream) : status;
}

static tutti_status remap(struct remapped *remapped, struct serve *serve)
{
    struct compute *compute = serve->compute;
    struct compute_pages *pages = &serve->target.forward.pages;
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    tutti_status status = compute_note(compute, tutti_suspend(serve->comm, pages->address, pages->bytes));
    if (status == TUTTI_OK) {
        status = compute_note(compute, tutti_comm_stats(serve->comm, &stats));
    }
    remapped->suspended += stats.suspended_calls;
    if (status == TUTTI_OK && !compute->ops->pages_replace(compute, pages)) {
        status = TUTTI_ERR_SYSTEM;
    }
    if (status == TUTTI_OK) {
        status = weights_receive_all(serve);
    }
    if (status == TUTTI_OK) {
        status = compute_note(compute, tutti_resume(serve->comm));
    }
    if (status == TUTTI_OK) {
        status = compute_note(compute, tutti_comm_stats(serve->comm, &stats));
    }
    if (status == TUTTI_OK && stats.suspended_calls > 0) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence),
                       "%" PRIu64 " calls are suspended after tutti_resume", stats.suspended_calls);
        status = TUTTI_ERR_SYSTEM;
    }
    return status;
}

static void before_step(void *user, struct serve *serve)
{
    struct remapped *remapped = user;
    struct board_pass *report = serve->report;
    if (serve->report->runners.graph_replays < remapped->next || remapped->failures > 0) {
        return;
    }
    remapped->next += remapped->every;
    if (remap(remapped, serve) != TUTTI_OK) {
        remapped->failures++;
        (void)snprintf(report->sentence, sizeof(report->sentence), "%s", serve->compute->sentence);
        return;
    }
    remapped->times++;
    char calls[64] = "";
    if (remapped->suspended > 0) {
        (void)snprintf(calls, sizeof(calls), " (%" PRIu64 " direct calls suspended, resumed)", remapped->suspended);
    }
    report->remaps = remapped->times;
    (void)snprintf(report->sentence, sizeof(report->sentence),
                   "%" PRIu64 " times, between two replays, other pages were mapped under the buffers that %" PRIu64
                   " graph%s%s, and weights broadcast anew",
                   remapped->times, report->runners.captures, report->runners.captures == 1 ? " reduces" : "s reduce",
                   calls);
}

void storm_remapped(struct run *run, struct storm_outcome *outcome)
{
    uint64_t state = run->options.seed + 7;
    struct remapped remapped = {.every = 2 + storm_random(&state) % 3};
    remapped.next = remapped.every;
    struct serve_faults faults = {.user = &remapped,
                                  .before_step = before_step,
                                  .at_start = true,
                                  .direct_early = true,
                                  .exchange = EXCHANGE_PAGES};
    outcome->name = "memory remapped under captured graphs";
    char tokens[256];
    if (!storm_serve(run, &faults, outcome, tokens, sizeof(tokens))) {
        return;
    }
    for (int rank = 0; rank < run->options.ranks; rank++) {
        outcome->ok =
            outcome->ok && board_pass(&run->board, BOARD_STORM, rank)->remaps > 0; /* a short trace has few replays */
    }
    const struct board_pass *pass = board_pass(&run->board, BOARD_STORM, 0);
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence), "%s; the same graphs replayed on: %s", pass->sentence,
                   tokens);
}
