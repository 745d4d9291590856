/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#27163: an index predicted from running counts while capturing, and written in another order afterwards, gave calls each other's
 * addresses. Here random programs capture all collectives into several graphs, in sessions and without, on two lanes; commit, release,
 * suspend on one rank, resume, destroy, capture again; run out of slots; and replay in between with new inputs every time. Every replay is
 * right on every rank, the statistics add up, and nothing is left when all graphs are gone.
 */
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/ranks.h"
#include "harness/replayed.h"

#define GRAPHS 5
#define CALLS_MAX 5
#define SESSIONS 4

struct program {
    tutti_comm *comm;
    tutti_host_stream *stream;
    struct replayed graphs[GRAPHS];
    tutti_capture *open;
    tutti_capture *committed[SESSIONS];
    int committed_count;
    uint64_t random, number;
    int rank, world;
};

static uint64_t dice(struct program *program, uint64_t sides)
{
    return ranks_random(&program->random) % sides;
}

/* The same on all ranks. Half of them large enough to go directly. */
static struct job job_draw(struct program *program)
{
    static const tutti_collective kinds[] = {TUTTI_ALL_REDUCE, TUTTI_ALL_REDUCE, TUTTI_ALL_REDUCE, TUTTI_REDUCE_SCATTER,
                                             TUTTI_ALL_GATHER, TUTTI_ALL_TO_ALL, TUTTI_BROADCAST,  TUTTI_ALL_GATHER};
    struct job job = {.kind = kinds[dice(program, 8)], .dtype = (tutti_dtype)dice(program, 3)};
    size_t large = dice(program, 2) == 0 ? 1 : 20;
    job.count = (1 + dice(program, 120)) * large * 8;
    job.count += dice(program, 4) == 0; /* odd: never direct */
    job.in_place = dice(program, 2) == 0;
    job.root = (int)dice(program, (uint64_t)program->world);
    if (job.kind == TUTTI_ALL_GATHER && dice(program, 3) == 0) {
        job.rows = 1 + dice(program, 4);
        job.in_place = false;
    }
    return job;
}

static void graph_capture(struct program *program, struct replayed *graph)
{
    uint64_t calls = 1 + dice(program, CALLS_MAX);
    replayed_destroy(graph);
    for (uint64_t call = 0; call < calls; call++) {
        struct job job = job_draw(program);
        replayed_add(graph, &job, program->rank, program->world);
    }
    CHECK_OK(tutti_host_capture_begin(program->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    for (int index = 0; index < graph->count; index++) {
        tutti_call call = {.struct_bytes = sizeof(call), .stream = program->stream, .lane = (uint32_t)dice(program, 2)};
        CHECK_OK(job_issue(&graph->jobs[index], program->comm, &call));
    }
    CHECK_OK(tutti_host_capture_end(program->stream, &graph->graph));
}

static struct replayed *graph_draw(struct program *program)
{
    struct replayed *graph = &program->graphs[dice(program, GRAPHS)];
    return graph->graph != NULL ? graph : NULL;
}

static void graph_run(struct program *program, struct replayed *graph)
{
    replayed_run(graph, program->stream, ++program->number, "among others", NULL);
}

static void commit(struct program *program)
{
    if (program->open != NULL && program->committed_count < SESSIONS) {
        CHECK_OK(tutti_capture_commit(program->open));
        program->committed[program->committed_count++] = program->open;
        program->open = NULL;
    } else if (program->open == NULL) {
        CHECK_OK(tutti_commit(program->comm));
    }
}

static void session(struct program *program)
{
    bool release = program->committed_count > 0 && dice(program, 2) == 0;
    if (!release && program->open == NULL && program->committed_count < SESSIONS) {
        CHECK_OK(tutti_capture_begin(program->comm, program->stream, &program->open));
    } else if (program->committed_count > 0) {
        CHECK_OK(tutti_capture_release(program->committed[--program->committed_count]));
    }
}

/* On one rank alone, or on all: part of a buffer is enough. */
static void suspend(struct program *program)
{
    struct replayed *graph = graph_draw(program);
    uint64_t who = dice(program, (uint64_t)program->world + 1);
    uint64_t which = dice(program, CALLS_MAX);
    if (graph == NULL || (who < (uint64_t)program->world && (int)who != program->rank)) {
        return;
    }
    const struct job *job = &graph->jobs[which % (uint64_t)graph->count];
    CHECK_OK(tutti_suspend(program->comm, job->dst, 1));
}

static void stats_check(const struct program *program, const char *when)
{
    tutti_stats stats = replayed_stats(program->comm);
    uint64_t living = 0;
    for (int index = 0; index < GRAPHS; index++) {
        living += program->graphs[index].graph != NULL ? (uint64_t)program->graphs[index].count : 0;
    }
    uint64_t known = stats.pending_calls + stats.committed_calls + stats.suspended_calls + stats.staged_for_good_calls;
    CHECK(known >= living, "%s: %llu calls of living graphs, and %llu are known", when, (unsigned long long)living,
          (unsigned long long)known);
    CHECK(stats.slots_taken <= stats.slots && stats.committed_calls + stats.suspended_calls <= stats.slots_taken,
          "%s: %llu of %llu slots, %llu direct, %llu suspended", when, (unsigned long long)stats.slots_taken,
          (unsigned long long)stats.slots, (unsigned long long)stats.committed_calls,
          (unsigned long long)stats.suspended_calls);
}

static void step(struct program *program)
{
    uint64_t choice = dice(program, 16);
    struct replayed *graph = &program->graphs[dice(program, GRAPHS)];
    if (choice < 4 || graph->graph == NULL) {
        graph_capture(program, graph);
    } else if (choice < 9) {
        graph_run(program, graph);
    } else if (choice < 11) {
        commit(program);
    } else if (choice < 13) {
        session(program);
    } else if (choice == 13) {
        suspend(program);
    } else if (choice == 14) {
        CHECK_OK(tutti_resume(program->comm));
    } else {
        replayed_drop(graph);
    }
    stats_check(program, "between two steps");
}

/* All graphs go: a driver says so when it pleases, and the next commit takes note. */
static void nothing_left(struct program *program)
{
    for (int index = 0; index < GRAPHS; index++) {
        replayed_destroy(&program->graphs[index]);
    }
    if (program->open != NULL) {
        CHECK_OK(tutti_capture_abort(program->open));
    }
    replayed_settle(program->comm);
    tutti_stats stats = replayed_stats(program->comm);
    CHECK(stats.slots_taken == 0 && stats.mappings == 0 && stats.pending_calls == 0 && stats.committed_calls == 0 &&
              stats.suspended_calls == 0 && stats.staged_for_good_calls == 0,
          "left behind: %llu slots, %llu mappings, calls: %llu wait, %llu direct, %llu suspended, %llu staged",
          (unsigned long long)stats.slots_taken, (unsigned long long)stats.mappings,
          (unsigned long long)stats.pending_calls, (unsigned long long)stats.committed_calls,
          (unsigned long long)stats.suspended_calls, (unsigned long long)stats.staged_for_good_calls);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    static _Thread_local struct program program;
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host", .rank = rank, .world = world};
    options.rendezvous = rendezvous;
    options.lanes = 2;
    program = (struct program){.random = *(const uint64_t *)user, .rank = rank, .world = world};
    CHECK_OK(tutti_comm_create(&options, &program.comm));
    program.stream = replayed_stream();
    int steps = effort() == EFFORT_QUICK ? 90 : effort() == EFFORT_NORMAL ? 200 : 2000;
    for (int count = 0; count < steps; count++) {
        step(&program);
    }
    nothing_left(&program);
    tutti_host_stream_destroy(program.stream);
    tutti_comm_destroy(program.comm);
}

int main(void)
{
    uint64_t seed = ranks_seed();
    int step_of_worlds = effort() == EFFORT_QUICK ? 3 : 1;
    for (int world = 2; world <= ranks_most(8); world += step_of_worlds) {
        seed++;
        /* Few slots, now and then: the rest is staged. */
        CHECK(setenv("TUTTI_SLOTS", world % 2 == 0 ? "4096" : "6", 1) == 0, "setenv");
        ranks_run(RANKS_PROCESSES, world, 100, run_rank, &seed);
    }
    ranks_run(RANKS_THREADS, 3, 100, run_rank, &seed);
    return 0;
}
