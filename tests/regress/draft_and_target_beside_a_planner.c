/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#22299 and #14193, with speculative decoding: a draft and a target model on one communicator, each with a runner, a stream and a lane
 * of its own, entered in turn, while another thread plans the next step on a third stream: it enqueues, asks and waits all the time, also
 * while the runners capture, and invalidates nothing. Inputs come as token ids or as embeddings, segments are entered from several places,
 * hold several collectives or none; a layer has two attentions, and both are known. One runner captures at start-up, the other lazily.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "harness/check.h"
#include "harness/layers.h"
#include "harness/ranks.h"

#define ROWS 40
#define STEPS (ON_DEVICES ? 12 : 60)
static const size_t draft_sizes[] = {1, 2, 4, 8};
static const size_t target_sizes[] = {4, 16, 32};

struct planner {
    _Atomic int stop;
    int plans, made;
};

static void plan(void *user)
{
    ((struct planner *)user)->plans++;
}

static void plan_once(struct planner *planner, tutti_host_stream *stream, tutti_host_event *event)
{
    int done = 0;
    CHECK_OK(tutti_host_enqueue(stream, plan, planner));
    CHECK_OK(tutti_host_event_record(event, stream));
    CHECK_OK(tutti_host_event_query(event, &done));
    CHECK_OK(tutti_host_stream_query(stream, &done));
    CHECK_OK(tutti_host_stream_synchronize(stream));
    planner->made++;
}

static void *planner_main(void *user)
{
    struct planner *planner = user;
    tutti_host_stream *stream = NULL;
    tutti_host_event *event = NULL;
    CHECK_OK(tutti_host_stream_create(&stream));
    CHECK_OK(tutti_host_event_create(&event));
    while (atomic_load(&planner->stop) == 0) {
        plan_once(planner, stream, event);
    }
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(stream);
    return NULL;
}

static tutti_comm *comm_make(int rank, int world, const char *rendezvous)
{
    tutti_comm *comm = NULL;
    const tutti_comm_options options = {.struct_bytes = sizeof(options),
                                        .backend = "host",
                                        .rank = rank,
                                        .world = world,
                                        .rendezvous = rendezvous,
                                        .lanes = 2};
    CHECK_OK(tutti_comm_create(&options, &comm));
    return comm;
}

/* The draft model proposes row by row, the target model checks them all at once. */
static void speculate(struct layers *draft, struct layers *target, struct layers *plain, int step)
{
    size_t proposed = (size_t)step % 5 + 1;
    draft->poison = target->poison = (enum layers_poison)(step % LAYERS_POISONS);
    for (size_t row = 1; row <= proposed; row++) {
        CHECK(layers_differ(draft, plain, row, step * 10 + (int)row) == 0, "rank %d, draft, step %d", draft->rank,
              step);
    }
    size_t rows = proposed * (size_t)(step % 7 + 1);
    CHECK(layers_differ(target, plain, rows, step * 10) == 0, "rank %d, target, step %d", target->rank, step);
    CHECK(*tutti_runner_rows(draft->runner) == proposed && *tutti_runner_rows(target->runner) == rows,
          "rank %d, step %d: the words", target->rank, step);
}

struct models {
    struct layers draft, target, plain;
};

static void captures_check(const struct models *models, int captures)
{
    tutti_runner_stats_t draft = layers_stats(&models->draft);
    tutti_runner_stats_t target = layers_stats(&models->target);
    CHECK(draft.captures == 5 && draft.failed_captures == 0, "draft: %d", (int)draft.captures);
    CHECK(target.captures == 4 * (uint64_t)captures && target.failed_captures == 0, "target: %d, %d failed",
          (int)target.captures, (int)target.failed_captures);
    CHECK(models->target.calls[LAYERS_ATTENTION] >= 2 * STEPS, "%d attentions", models->target.calls[LAYERS_ATTENTION]);
}

static void serve(struct models *models)
{
    int captures = 0;
    for (int step = 0; step < STEPS; step++) {
        if (step % 3 == 0) { /* again and again, while plans are made */
            CHECK_OK(tutti_runner_release(models->target.runner, 0));
            CHECK_OK(tutti_runner_capture(models->target.runner, models->target.stream));
            captures++;
        }
        speculate(&models->draft, &models->target, &models->plain, step);
    }
    captures_check(models, captures);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const tutti_runner_options lazy = {.struct_bytes = sizeof(lazy),
                                       .name = "draft",
                                       .flags = TUTTI_RUNNER_LAZY,
                                       .buckets = draft_sizes,
                                       .bucket_count = 4};
    const tutti_runner_options early = {
        .struct_bytes = sizeof(early), .name = "target", .buckets = target_sizes, .bucket_count = 3};
    struct models models;
    struct planner planner = {0};
    pthread_t thread;
    (void)user;
    tutti_comm *comm = comm_make(rank, world, rendezvous);
    layers_open(&models.draft, comm, rank, world, 0, ROWS, &lazy);
    layers_open(&models.target, comm, rank, world, 1, ROWS, &early);
    layers_open_plain(&models.plain, comm, rank, world, 0, ROWS);
    CHECK(pthread_create(&thread, NULL, planner_main, &planner) == 0, "no thread");
    serve(&models);
    atomic_store(&planner.stop, 1);
    (void)pthread_join(thread, NULL);
    CHECK(planner.made > 0 && planner.plans == planner.made, "%d of %d plans", planner.plans, planner.made);
    layers_close(&models.draft);
    layers_close(&models.target);
    layers_close(&models.plain);
    tutti_comm_destroy(comm);
}

int main(void)
{
    ranks_run(RANKS_PROCESSES, 2, 120, run_rank, NULL);
    return 0;
}
