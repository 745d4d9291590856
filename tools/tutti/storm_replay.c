/* SPDX-License-Identifier: Apache-2.0 */
#include "storm_replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "run_ranks.h"

/* -- lists ------------------------------------------------------------------------------------------ */

static tutti_status enqueue_collective(const struct replay *replay, const struct replay_call *call)
{
    const tutti_call how = {.struct_bytes = sizeof(how), .stream = replay->stream};
    size_t bytes = call->count * sizeof(float);
    switch (call->kind) {
    case TUTTI_ALL_REDUCE:
        return tutti_all_reduce(replay->comm, call->src, call->dst, call->count, TUTTI_F32, TUTTI_SUM, &how);
    case TUTTI_REDUCE_SCATTER:
        return tutti_reduce_scatter(replay->comm, call->src, call->dst, call->count, TUTTI_F32, TUTTI_SUM, &how);
    case TUTTI_BROADCAST:
        return tutti_broadcast(replay->comm, call->dst, bytes, call->root, &how);
    case TUTTI_ALL_GATHER:
        return tutti_all_gather(replay->comm, call->src, call->dst, bytes, &how);
    default:
        return tutti_all_to_all(replay->comm, call->src, call->dst, bytes, &how);
    }
}

bool replay_add(struct replay *replay, int graph, tutti_collective kind, size_t count, uint64_t *state)
{
    struct compute *compute = replay->compute;
    int index = replay->call_count[graph];
    struct replay_call *call = &replay->calls[graph][index];
    size_t bytes = count * (size_t)replay->world * sizeof(float);
    *call = (struct replay_call){.kind = kind, .count = count, .rank = replay->rank, .world = replay->world};
    call->root = (int)(storm_random(state) % (uint64_t)replay->world);
    call->salt = storm_random(state);
    call->src = compute->ops->alloc(compute, bytes);
    call->dst = compute->ops->alloc(compute, bytes);
    struct replay_call *live = compute->ops->alloc(compute, sizeof(*live));
    replay->live[graph][index] = live;
    replay->call_count[graph]++;
    return call->src != NULL && call->dst != NULL && live != NULL &&
           compute->ops->put(compute, live, call, sizeof(*call));
}

tutti_status replay_enqueue(struct replay *replay, int graph)
{
    struct compute *compute = replay->compute;
    tutti_status status = TUTTI_OK;
    for (int i = 0; i < replay->call_count[graph] && status == TUTTI_OK; i++) {
        status = compute->ops->replay_fill(compute, replay->live[graph][i], replay->stream);
        if (status == TUTTI_OK) {
            status = compute_note(compute, enqueue_collective(replay, &replay->calls[graph][i]));
        }
        if (status == TUTTI_OK) {
            status = compute->ops->replay_check(compute, replay->live[graph][i], replay->stream);
        }
    }
    return status;
}

tutti_status replay_capture(struct replay *replay, int graph)
{
    struct compute *compute = replay->compute;
    tutti_status status = compute->ops->capture_begin(compute, replay->stream);
    if (status == TUTTI_OK) {
        status = replay_enqueue(replay, graph);
    }
    return status == TUTTI_OK ? compute->ops->capture_end(compute, replay->stream, &replay->graphs[graph]) : status;
}

tutti_status replay_launch(struct replay *replay, int graph)
{
    return replay->compute->ops->graph_launch(replay->compute, replay->graphs[graph], replay->stream);
}

tutti_status replay_shuffle(struct replay *replay, int graphs, int launches, uint64_t *state)
{
    struct compute *compute = replay->compute;
    tutti_status status = TUTTI_OK;
    for (int launch = 0; launch < launches && status == TUTTI_OK; launch++) {
        int graph = (int)(storm_random(state) % (uint64_t)graphs);
        bool eager = storm_random(state) % 3 == 0;
        status = eager ? replay_enqueue(replay, graph) : replay_launch(replay, graph);
        if (status == TUTTI_OK && storm_random(state) % 8 == 0) {
            status = compute->ops->synchronize(compute, replay->stream);
        }
    }
    if (status == TUTTI_OK) {
        status = compute->ops->synchronize(compute, replay->stream);
    }
    return status == TUTTI_OK ? compute_note(compute, tutti_comm_status(replay->comm)) : status;
}

/* -- a rank ----------------------------------------------------------------------------------------- */

struct script {
    replay_script follow;
    uint64_t seed;
};

static void replay_free(struct replay *replay)
{
    struct compute *compute = replay->compute;
    compute->ops->stream_destroy(compute, replay->stream);
    for (int graph = 0; graph < REPLAY_GRAPHS_MAX; graph++) {
        compute->ops->graph_destroy(compute, replay->graphs[graph]);
    }
    tutti_comm_destroy(replay->comm); /* which has committed the buffers */
    for (int graph = 0; graph < REPLAY_GRAPHS_MAX; graph++) {
        for (int i = 0; i < replay->call_count[graph]; i++) {
            compute->ops->release(compute, replay->calls[graph][i].src);
            compute->ops->release(compute, replay->calls[graph][i].dst);
            compute->ops->release(compute, replay->live[graph][i]);
        }
    }
    compute_close(compute);
    free(replay);
}

static bool replay_report(const struct phase_rank *self, const struct replay *replay)
{
    struct compute *compute = replay->compute;
    struct board_pass *pass = board_pass(&self->run->board, BOARD_STORM, self->rank);
    uint64_t wrong = 0;
    for (int graph = 0; graph < REPLAY_GRAPHS_MAX; graph++) {
        for (int i = 0; i < replay->call_count[graph]; i++) {
            struct replay_call call;
            if (!compute->ops->get(compute, &call, replay->live[graph][i], sizeof(call))) {
                return run_rank_fail(self, BOARD_STORM, compute->sentence);
            }
            wrong += call.wrong;
            pass->steps += call.calls;
        }
    }
    pass->done = wrong == 0;
    if (wrong > 0) {
        (void)snprintf(pass->sentence, sizeof(pass->sentence), "%" PRIu64 " elements were wrong", wrong);
    }
    return wrong == 0;
}

static bool replay_body(const struct phase_rank *self)
{
    const struct script *script = self->user;
    uint64_t state = script->seed;
    run_rank_direct_early();
    struct compute *compute = run_rank_compute(self, BOARD_STORM);
    struct replay *replay = compute != NULL ? calloc(1, sizeof(*replay)) : NULL;
    if (replay == NULL) {
        compute_close(compute);
        return false;
    }
    replay->compute = compute;
    replay->rank = self->rank;
    replay->world = self->world;
    replay->comm = run_rank_comm(self, compute, self->rank, self->world, self->meeting, BOARD_STORM);
    bool good = replay->comm != NULL;
    struct board_pass *pass = board_pass(&self->run->board, BOARD_STORM, self->rank);
    if (good && (compute->ops->stream_create(compute, &replay->stream) != TUTTI_OK ||
                 script->follow(replay, &state, pass) != TUTTI_OK)) {
        good = run_rank_fail(self, BOARD_STORM, compute->sentence);
    }
    good = good && replay_report(self, replay);
    replay_free(replay);
    return good;
}

bool replay_run(struct run *run, struct storm_outcome *outcome, uint64_t seed, replay_script script)
{
    struct script user = {script, seed};
    board_clear(&run->board, BOARD_STORM);
    const struct phase phase = {
        .world = run->options.ranks, .body = replay_body, .user = &user, .slot = BOARD_STORM, .slot_last = BOARD_STORM};
    outcome->ok = phase_run(run, &phase, outcome->sentence, sizeof(outcome->sentence));
    return outcome->ok;
}
