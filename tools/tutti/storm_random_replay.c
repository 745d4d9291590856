/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_random_replay.c - graphs of mixed collectives, replayed in random order between eager calls.
 *
 * Inputs are a function of (call, rank, index), made and checked by functions that are captured with the
 * collectives: a stale or swapped buffer cannot pass.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "model_weights.h"
#include "run_ranks.h"
#include "storm.h"

#define GRAPHS 6
#define CALLS_PER_GRAPH_MAX 4
#define LAUNCHES 400
#define COUNT_MAX 20000

/* One collective with its buffers; `calls` numbers its executions, eager and replayed alike. */
struct replay_call {
    tutti_collective kind;
    size_t count; /* elements per rank */
    int rank, world, root;
    uint64_t salt, calls, wrong;
    float *src, *dst;
};

struct replay {
    struct replay_call calls[GRAPHS][CALLS_PER_GRAPH_MAX];
    int call_count[GRAPHS];
    tutti_host_graph *graphs[GRAPHS];
    tutti_host_stream *stream;
    tutti_comm *comm;
};

/* A small integer, so that sums are exact in any order. */
static float input_of(const struct replay_call *call, int rank, size_t index)
{
    return (float)(weights_mix(call->salt + call->calls * 0x9e3779b97f4a7c15u + (uint64_t)rank * 77777u + index) %
                   1024);
}

static void fill(void *argument)
{
    struct replay_call *call = argument;
    call->calls++;
    size_t blocks = call->kind == TUTTI_ALL_TO_ALL || call->kind == TUTTI_REDUCE_SCATTER ? (size_t)call->world : 1;
    float *into = call->kind == TUTTI_BROADCAST ? call->dst : call->src;
    for (size_t i = 0; i < blocks * call->count; i++) {
        into[i] = input_of(call, call->rank, i);
    }
}

static float sum_of(const struct replay_call *call, size_t index)
{
    float sum = 0.0f;
    for (int rank = 0; rank < call->world; rank++) {
        sum += input_of(call, rank, index);
    }
    return sum;
}

static float expected(const struct replay_call *call, size_t index)
{
    size_t own = (size_t)call->rank * call->count;
    switch (call->kind) {
    case TUTTI_ALL_REDUCE:
        return sum_of(call, index);
    case TUTTI_REDUCE_SCATTER:
        return sum_of(call, own + index);
    case TUTTI_BROADCAST:
        return input_of(call, call->root, index);
    case TUTTI_ALL_GATHER:
        return input_of(call, (int)(index / call->count), index % call->count);
    default:
        return input_of(call, (int)(index / call->count), own + index % call->count);
    }
}

static void check(void *argument)
{
    struct replay_call *call = argument;
    bool many = call->kind == TUTTI_ALL_GATHER || call->kind == TUTTI_ALL_TO_ALL;
    size_t count = many ? call->count * (size_t)call->world : call->count;
    for (size_t i = 0; i < count; i++) {
        float want = expected(call, i);
        call->wrong += !(call->dst[i] >= want && call->dst[i] <= want);
    }
}

static tutti_status enqueue_collective(const struct replay *replay, struct replay_call *call)
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
    tutti_status status = TUTTI_OK;
    for (int i = 0; i < replay->call_count[graph] && status == TUTTI_OK; i++) {
        struct replay_call *call = &replay->calls[graph][i];
        status = tutti_host_enqueue(replay->stream, fill, call);
        if (status == TUTTI_OK) {
            status = enqueue_collective(replay, call);
        }
        if (status == TUTTI_OK) {
            status = tutti_host_enqueue(replay->stream, check, call);
        }
    }
    return status;
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
            call->src = matrix_floats(call->count * (size_t)world);
            call->dst = matrix_floats(call->count * (size_t)world);
            if (call->src == NULL || call->dst == NULL) {
                return false;
            }
        }
    }
    return true;
}

static tutti_status graphs_capture(struct replay *replay)
{
    for (int graph = 0; graph < GRAPHS; graph++) {
        tutti_status status = tutti_host_capture_begin(replay->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL);
        if (status == TUTTI_OK) {
            status = enqueue_list(replay, graph);
        }
        if (status == TUTTI_OK) {
            status = tutti_host_capture_end(replay->stream, &replay->graphs[graph]);
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
    tutti_status status = TUTTI_OK;
    for (int launch = 0; launch < LAUNCHES && status == TUTTI_OK; launch++) {
        int graph = (int)(storm_random(state) % GRAPHS);
        if (storm_random(state) % 3 == 0) {
            status = enqueue_list(replay, graph);
        } else {
            status = tutti_host_graph_launch(replay->graphs[graph], replay->stream);
        }
        if (status == TUTTI_OK && storm_random(state) % 8 == 0) {
            status = tutti_host_stream_synchronize(replay->stream);
        }
    }
    if (status == TUTTI_OK) {
        status = tutti_host_stream_synchronize(replay->stream);
    }
    return status == TUTTI_OK ? tutti_comm_status(replay->comm) : status;
}

static void replay_free(struct replay *replay)
{
    tutti_host_stream_destroy(replay->stream);
    for (int graph = 0; graph < GRAPHS; graph++) {
        tutti_host_graph_destroy(replay->graphs[graph]);
        for (int i = 0; i < CALLS_PER_GRAPH_MAX; i++) {
            free(replay->calls[graph][i].src);
            free(replay->calls[graph][i].dst);
        }
    }
    tutti_comm_destroy(replay->comm);
}

static bool replay_report(const struct phase_rank *self, const struct replay *replay)
{
    struct board_pass *pass = board_pass(&self->run->board, BOARD_STORM, self->rank);
    uint64_t wrong = 0;
    for (int graph = 0; graph < GRAPHS; graph++) {
        for (int i = 0; i < replay->call_count[graph]; i++) {
            wrong += replay->calls[graph][i].wrong;
            pass->steps += replay->calls[graph][i].calls;
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
    struct replay replay = {0};
    uint64_t state = *(const uint64_t *)self->user;
    replay.comm = run_rank_comm(self, self->rank, self->world, self->meeting, BOARD_STORM);
    bool good = replay.comm != NULL;
    if (good && !lists_make(&replay, self->rank, self->world, &state)) {
        good = run_rank_fail(self, BOARD_STORM, "out of memory");
    }
    if (good && (tutti_host_stream_create(&replay.stream) != TUTTI_OK || graphs_capture(&replay) != TUTTI_OK ||
                 launch_all(&replay, &state) != TUTTI_OK)) {
        good = run_rank_fail(self, BOARD_STORM, tutti_last_error());
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
