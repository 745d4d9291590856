/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_random_replay.c - graphs of mixed collectives, replayed in random order between eager calls.
 *
 * Inputs are made and checked by work that is captured with the collectives (storm_replay_call.h).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "run_ranks.h"
#include "storm.h"
#include "storm_replay_call.h"

#define GRAPHS 6
#define CALLS_PER_GRAPH_MAX 4
#define LAUNCHES 400
#define COUNT_MAX 20000

struct replay {
    struct compute *compute;
    struct replay_call calls[GRAPHS][CALLS_PER_GRAPH_MAX]; /* as they were made, */
    struct replay_call *live[GRAPHS][CALLS_PER_GRAPH_MAX]; /* and in the computer's memory, where they count */
    int call_count[GRAPHS];
    void *graphs[GRAPHS];
    tutti_stream stream;
    tutti_comm *comm;
};

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

static tutti_status enqueue_list(struct replay *replay, int graph)
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

static bool call_make(struct replay *replay, int graph, int index)
{
    struct compute *compute = replay->compute;
    struct replay_call *call = &replay->calls[graph][index];
    size_t bytes = call->count * (size_t)call->world * sizeof(float);
    call->src = compute->ops->alloc(compute, bytes);
    call->dst = compute->ops->alloc(compute, bytes);
    struct replay_call *live = compute->ops->alloc(compute, sizeof(*live));
    replay->live[graph][index] = live;
    return call->src != NULL && call->dst != NULL && live != NULL &&
           compute->ops->put(compute, live, call, sizeof(*call));
}

/* The same on every rank: all draw from the same seed. */
static bool lists_make(struct replay *replay, int rank, int world, uint64_t *state)
{
    for (int graph = 0; graph < GRAPHS; graph++) {
        replay->call_count[graph] = 1 + (int)(storm_random(state) % CALLS_PER_GRAPH_MAX);
        for (int i = 0; i < replay->call_count[graph]; i++) {
            struct replay_call *call = &replay->calls[graph][i];
            call->kind = (tutti_collective)(storm_random(state) % TUTTI_BARRIER);
            call->count = 1 + storm_random(state) % (storm_random(state) % 2 != 0 ? COUNT_MAX : 64);
            call->root = (int)(storm_random(state) % (uint64_t)world);
            call->salt = storm_random(state);
            call->rank = rank;
            call->world = world;
            if (!call_make(replay, graph, i)) {
                return false;
            }
        }
    }
    return true;
}

static tutti_status graphs_capture(struct replay *replay)
{
    struct compute *compute = replay->compute;
    for (int graph = 0; graph < GRAPHS; graph++) {
        tutti_status status = compute->ops->capture_begin(compute, replay->stream);
        if (status == TUTTI_OK) {
            status = enqueue_list(replay, graph);
        }
        if (status == TUTTI_OK) {
            status = compute->ops->capture_end(compute, replay->stream, &replay->graphs[graph]);
        }
        if (status != TUTTI_OK) {
            return status;
        }
    }
    return TUTTI_OK;
}

/* Random graphs, every third time the same list eagerly; synchronised now and then, so that queues build up. */
static tutti_status launch_all(struct replay *replay, uint64_t *state)
{
    struct compute *compute = replay->compute;
    tutti_status status = TUTTI_OK;
    for (int launch = 0; launch < LAUNCHES && status == TUTTI_OK; launch++) {
        int graph = (int)(storm_random(state) % GRAPHS);
        if (storm_random(state) % 3 == 0) {
            status = enqueue_list(replay, graph);
        } else {
            status = compute->ops->graph_launch(compute, replay->graphs[graph], replay->stream);
        }
        if (status == TUTTI_OK && storm_random(state) % 8 == 0) {
            status = compute->ops->synchronize(compute, replay->stream);
        }
    }
    if (status == TUTTI_OK) {
        status = compute->ops->synchronize(compute, replay->stream);
    }
    return status == TUTTI_OK ? compute_note(compute, tutti_comm_status(replay->comm)) : status;
}

static void replay_free(struct replay *replay)
{
    struct compute *compute = replay->compute;
    compute->ops->stream_destroy(compute, replay->stream);
    for (int graph = 0; graph < GRAPHS; graph++) {
        compute->ops->graph_destroy(compute, replay->graphs[graph]);
        for (int i = 0; i < CALLS_PER_GRAPH_MAX; i++) {
            compute->ops->release(compute, replay->calls[graph][i].src);
            compute->ops->release(compute, replay->calls[graph][i].dst);
            compute->ops->release(compute, replay->live[graph][i]);
        }
    }
    tutti_comm_destroy(replay->comm);
    compute_close(compute);
}

static bool replay_report(const struct phase_rank *self, const struct replay *replay)
{
    struct compute *compute = replay->compute;
    struct board_pass *pass = board_pass(&self->run->board, BOARD_STORM, self->rank);
    uint64_t wrong = 0;
    for (int graph = 0; graph < GRAPHS; graph++) {
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
    struct compute *compute = run_rank_compute(self, BOARD_STORM);
    if (compute == NULL) {
        return false;
    }
    struct replay replay = {.compute = compute};
    uint64_t state = *(const uint64_t *)self->user;
    replay.comm = run_rank_comm(self, compute, self->rank, self->world, self->meeting, BOARD_STORM);
    bool good = replay.comm != NULL;
    if (good && (!lists_make(&replay, self->rank, self->world, &state) ||
                 compute->ops->stream_create(compute, &replay.stream) != TUTTI_OK ||
                 graphs_capture(&replay) != TUTTI_OK || launch_all(&replay, &state) != TUTTI_OK)) {
        good = run_rank_fail(self, BOARD_STORM, compute->sentence);
    }
    good = good && replay_report(self, &replay);
    replay_free(&replay);
    return good;
}

void storm_random_replay(struct run *run, struct storm_outcome *outcome)
{
    uint64_t seed = run->options.seed + 2;
    board_clear(&run->board, BOARD_STORM);
    outcome->name = "graphs replayed in random order between eager calls";
    const struct phase phase = {
        .world = run->options.ranks, .body = replay_body, .user = &seed, .slot = BOARD_STORM, .slot_last = BOARD_STORM};
    outcome->ok = phase_run(run, &phase, outcome->sentence, sizeof(outcome->sentence));
    if (outcome->ok) {
        (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                       "%d launches of %d graphs, a third of them eager instead, %" PRIu64
                       " collectives whose inputs change with every call: every element right on all ranks",
                       LAUNCHES, GRAPHS, board_pass(&run->board, BOARD_STORM, 0)->steps);
    }
}
