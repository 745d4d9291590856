/* SPDX-License-Identifier: Apache-2.0 */
#include "run_ranks.h"

#include <stdio.h>
#include <string.h>

bool run_rank_fail(const struct phase_rank *self, enum board_slot slot, const char *sentence)
{
    struct board_pass *pass = board_pass(&self->run->board, slot, self->rank);
    (void)snprintf(pass->sentence, sizeof(pass->sentence), "%s", sentence);
    return false;
}

tutti_comm *run_rank_comm(const struct phase_rank *self, int rank, int world, const char *meeting, enum board_slot slot)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options)};
    options.backend = self->run->options.backend;
    options.rank = rank;
    options.world = world;
    options.rendezvous = meeting;
    tutti_comm *comm = NULL;
    if (tutti_comm_create(&options, &comm) != TUTTI_OK) {
        (void)run_rank_fail(self, slot, tutti_last_error());
        return NULL;
    }
    return comm;
}

const struct board_token *run_rank_forced(const struct run *run)
{
    return run->options.numerics == NUMERICS_REAL ? board_tokens(&run->board, BOARD_REFERENCE, 0) : NULL;
}

struct serve_options run_rank_options(const struct phase_rank *self, enum board_slot slot)
{
    const struct run *run = self->run;
    return (struct serve_options){.trace = slot == BOARD_STORM ? &run->storm_trace : &run->trace,
                                  .shape = &run->shape,
                                  .numerics = run->options.numerics,
                                  .board = &run->board,
                                  .slot = slot,
                                  .board_rank = self->rank};
}

/* One pass: opens the engine, serves, closes it. */
static bool serve_pass(const struct phase_rank *self, const struct serve_options *options, tutti_comm *comm,
                       struct model *model)
{
    struct serve serve;
    if (!serve_open(&serve, options, comm, model)) {
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

static struct model *make_model(const struct phase_rank *self, int rank, int world, enum board_slot slot)
{
    const struct run *run = self->run;
    struct model *model = model_create(&run->shape, run->options.numerics, rank, world, run->trace.length_max);
    if (model == NULL) {
        (void)run_rank_fail(self, slot, "out of memory for the weights");
    }
    return model;
}

bool run_rank_reference(const struct phase_rank *self)
{
    tutti_comm *comm = run_rank_comm(self, 0, 1, NULL, BOARD_REFERENCE);
    if (comm == NULL) {
        return false;
    }
    struct model *model = make_model(self, 0, 1, BOARD_REFERENCE);
    struct serve_options options = run_rank_options(self, BOARD_REFERENCE);
    bool good = model != NULL && serve_pass(self, &options, comm, model);
    model_destroy(model);
    tutti_comm_destroy(comm);
    return good;
}

bool run_rank_serve(const struct phase_rank *self)
{
    tutti_comm *comm = run_rank_comm(self, self->rank, self->world, self->meeting, BOARD_EAGER);
    if (comm == NULL) {
        return false;
    }
    struct model *model = make_model(self, self->rank, self->world, BOARD_EAGER);
    struct serve_options eager = run_rank_options(self, BOARD_EAGER);
    eager.padded = true; /* the same rows as the graphs, so that the two can be compared bit for bit */
    eager.forced = run_rank_forced(self->run);
    bool good = model != NULL && serve_pass(self, &eager, comm, model);
    struct serve_options graphs = eager;
    graphs.slot = BOARD_GRAPH;
    graphs.graphs = true;
    good = good && serve_pass(self, &graphs, comm, model);
    model_destroy(model);
    tutti_comm_destroy(comm);
    return good;
}

bool run_rank_storm(const struct phase_rank *self)
{
    tutti_comm *comm = run_rank_comm(self, self->rank, self->world, self->meeting, BOARD_STORM);
    if (comm == NULL) {
        return false;
    }
    struct model *model = make_model(self, self->rank, self->world, BOARD_STORM);
    struct serve_options options = run_rank_options(self, BOARD_STORM);
    options.graphs = true;
    options.padded = true;
    options.forced = run_rank_forced(self->run);
    options.faults = self->user;
    bool good = model != NULL && serve_pass(self, &options, comm, model);
    model_destroy(model);
    tutti_comm_destroy(comm);
    return good;
}
