/* SPDX-License-Identifier: Apache-2.0 */
#include "run_ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool run_rank_fail(const struct phase_rank *self, enum board_slot slot, const char *sentence)
{
    struct board_pass *pass = board_pass(&self->run->board, slot, self->rank);
    (void)snprintf(pass->sentence, sizeof(pass->sentence), "%s", sentence);
    return false;
}

void run_rank_direct_early(void)
{
    (void)setenv("TUTTI_GPU_DIRECT_BYTES_MIN", "6K", 0);
    (void)setenv("TUTTI_GPU_ONE_SHOT_BYTES_MAX", "2K", 0);
}

/* Ranks take the devices in turn. The reference may be computed elsewhere. */
struct compute *run_rank_compute(const struct phase_rank *self, enum board_slot slot)
{
    const struct run_options *options = &self->run->options;
    const char *backend = slot == BOARD_REFERENCE ? options->reference : options->backend;
    char why[600];
    struct compute *compute = compute_open(backend, self->rank % self->run->devices, why, sizeof(why));
    if (compute == NULL) {
        (void)run_rank_fail(self, slot, why);
    }
    return compute;
}

tutti_comm *run_rank_comm(const struct phase_rank *self, const struct compute *compute, int rank, int world,
                          const char *meeting, enum board_slot slot)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options)};
    options.backend = compute->ops->backend;
    options.device = compute->device;
    options.rank = rank;
    options.world = world;
    options.rendezvous = meeting;
    options.flags = TUTTI_COMM_DIRECT_FD; /* whoever replaces pages here suspends first (storm_remapped.c) */
    options.flags |= self->run->options.share_device ? TUTTI_COMM_SHARE_DEVICE : 0;
    tutti_comm *comm = NULL;
    if (tutti_comm_create(&options, &comm) != TUTTI_OK) {
        (void)run_rank_fail(self, slot, tutti_last_error());
        return NULL;
    }
    return comm;
}

static struct model *model_of(const struct phase_rank *self, struct compute *compute, const struct model_shape *shape,
                              int rank, int world, enum board_slot slot)
{
    const struct run *run = self->run;
    struct model *model = model_create(compute, shape, run->options.numerics, rank, world, run->trace.length_max);
    if (model == NULL) {
        (void)run_rank_fail(self, slot, compute->sentence);
    }
    return model;
}

struct model *run_rank_model(const struct phase_rank *self, struct compute *compute, int rank, int world,
                             enum board_slot slot)
{
    return model_of(self, compute, &self->run->shape, rank, world, slot);
}

struct model *run_rank_draft(const struct phase_rank *self, struct compute *compute, enum board_slot slot)
{
    return model_of(self, compute, &self->run->draft, self->rank, self->world, slot);
}

bool run_rank_open(struct run_rank *rank, const struct phase_rank *self, enum board_slot slot)
{
    const char *meeting = self->world > 1 ? self->meeting : NULL;
    *rank = (struct run_rank){.compute = run_rank_compute(self, slot)};
    if (rank->compute != NULL) {
        rank->comm = run_rank_comm(self, rank->compute, self->rank, self->world, meeting, slot);
    }
    if (rank->comm != NULL) {
        rank->model = run_rank_model(self, rank->compute, self->rank, self->world, slot);
    }
    return rank->model != NULL;
}

void run_rank_close(struct run_rank *rank)
{
    model_destroy(rank->draft);
    model_destroy(rank->model);
    tutti_comm_destroy(rank->comm);
    compute_close(rank->compute);
}

const struct board_token *run_rank_forced(const struct run *run)
{
    return run->options.numerics == NUMERICS_REAL ? board_tokens(&run->board, BOARD_REFERENCE, 0) : NULL;
}

struct serve_options run_rank_options(const struct phase_rank *self, enum board_slot slot)
{
    const struct run *run = self->run;
    return (struct serve_options){.trace = slot == BOARD_STORM ? &run->storm_trace : &run->trace,
                                  .board = &run->board,
                                  .slot = slot,
                                  .board_rank = self->rank,
                                  .routes = board_routes(&run->board)};
}

/* One pass: opens the engine, serves, closes it. */
static bool serve_pass(const struct phase_rank *self, const struct serve_options *options, const struct run_rank *rank)
{
    struct serve serve;
    if (!serve_open(&serve, options, rank->comm, rank->model)) {
        return run_rank_fail(self, options->slot, serve.sentence);
    }
    bool good = serve_run(&serve) == TUTTI_OK;
    if (good) {
        serve.report->done = 1;
    } else {
        (void)run_rank_fail(self, options->slot, serve.sentence);
    }
    serve_close(&serve);
    return good;
}

bool run_rank_reference(const struct phase_rank *self)
{
    struct run_rank rank;
    struct serve_options options = run_rank_options(self, BOARD_REFERENCE);
    bool good = run_rank_open(&rank, self, BOARD_REFERENCE) && serve_pass(self, &options, &rank);
    run_rank_close(&rank);
    return good;
}

bool run_rank_serve(const struct phase_rank *self)
{
    struct run_rank rank;
    struct serve_options eager = run_rank_options(self, BOARD_EAGER);
    eager.way = ENGINE_EAGER;
    eager.forced = run_rank_forced(self->run);
    bool good = run_rank_open(&rank, self, BOARD_EAGER) && serve_pass(self, &eager, &rank);
    struct serve_options graphs = eager;
    graphs.slot = BOARD_GRAPH;
    graphs.way = ENGINE_WHOLE;
    graphs.lazy = self->run->options.lazy;
    good = good && serve_pass(self, &graphs, &rank);
    graphs.slot = BOARD_PIECEWISE;
    graphs.way = ENGINE_PIECEWISE;
    good = good && serve_pass(self, &graphs, &rank);
    if (good && self->run->speculates) {
        rank.draft = run_rank_draft(self, rank.compute, BOARD_SPECULATIVE);
        graphs.slot = BOARD_SPECULATIVE;
        graphs.draft = rank.draft;
        graphs.speculate = self->run->options.speculate;
        good = rank.draft != NULL && serve_pass(self, &graphs, &rank);
    }
    run_rank_close(&rank);
    return good;
}

bool run_rank_storm(const struct phase_rank *self)
{
    struct run_rank rank;
    const struct serve_faults *faults = self->user;
    struct serve_options options = run_rank_options(self, BOARD_STORM);
    options.way = ENGINE_PIECEWISE;
    options.lazy = !faults->at_start;
    options.small = faults->small;
    options.forced = run_rank_forced(self->run);
    options.faults = faults;
    options.commits_late = faults->commits_late;
    options.exchange = (faults->secret_ranks >> self->rank & 1u) != 0 ? EXCHANGE_SECRET : faults->exchange;
    if (faults->direct_early) {
        run_rank_direct_early();
    }
    bool good = run_rank_open(&rank, self, BOARD_STORM) && serve_pass(self, &options, &rank);
    run_rank_close(&rank);
    return good;
}
