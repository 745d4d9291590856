/* SPDX-License-Identifier: Apache-2.0 */
/* runner.c - the piecewise runner: every row count, captured and not, early and late, by itself and by hand. */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/engine.h"
#include "harness/ranks.h"

#define OVERSIZE 40
#define PATIENCE_MS 400
static const size_t sizes[] = {1, 2, 4, 8, 16, 31};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static tutti_runner_options options_of(uint32_t flags)
{
    tutti_runner_options options = {.struct_bytes = sizeof(options), .name = "test", .flags = flags};
    options.buckets = sizes;
    options.bucket_count = SIZES;
    return options;
}

static tutti_runner_stats_t stats_of(const struct engine *engine)
{
    tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_runner_stats(engine->runner, &stats));
    return stats;
}

static tutti_runner_bucket_t bucket_of(const struct engine *engine, size_t rows)
{
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    size_t index = 0;
    do {
        CHECK_OK(tutti_runner_bucket(engine->runner, index++, &bucket));
    } while (bucket.rows != rows);
    return bucket;
}

/* Every count up to one above the largest bucket, in an order that goes up and down. */
static void all_rows(struct engine *engine, int step)
{
    for (int index = 0; index < OVERSIZE; index++) {
        int rows = (index * 17 + step) % OVERSIZE + 1;
        CHECK(engine_step(engine, rows, step + index) == 0, "rank %d", engine->rank);
        CHECK(engine_step_by_hand(engine, rows, step + index) == 0, "rank %d", engine->rank);
    }
}

static void buckets_come_and_go(struct engine *engine)
{
    CHECK_OK(tutti_runner_release(engine->runner, 20));
    CHECK(bucket_of(engine, 31).state == TUTTI_BUCKET_EMPTY && bucket_of(engine, 16).state == TUTTI_BUCKET_CAPTURED,
          "rank %d", engine->rank);
    CHECK(engine_step(engine, 20, 1) == 0, "rank %d", engine->rank);
    CHECK_OK(tutti_runner_capture_rows(engine->runner, 17, engine->stream));
    CHECK(bucket_of(engine, 31).state == TUTTI_BUCKET_CAPTURED && bucket_of(engine, 31).captures == 2, "rank %d",
          engine->rank);
    all_rows(engine, 2000);
    CHECK_OK(tutti_runner_release(engine->runner, 0));
    all_rows(engine, 3000);
}

static void captures_are_counted(struct engine *engine)
{
    int calls = engine->mix_calls;
    CHECK_OK(tutti_runner_capture(engine->runner, engine->stream));
    CHECK(engine->mix_calls - calls == (int)SIZES, "rank %d", engine->rank); /* the runs before were the warm-up */
    CHECK_OK(tutti_runner_capture(engine->runner, engine->stream));
    CHECK(engine->mix_calls - calls == (int)SIZES, "rank %d", engine->rank);
}

/* The NULL stream of the host is the calling thread: graphs are launched there, too. */
static void without_stream(struct engine *engine)
{
    tutti_host_stream *stream = engine->stream;
    uint64_t replayed = stats_of(engine).replayed_runs;
    engine->stream = NULL;
    for (int rows = 1; rows < OVERSIZE && !ON_DEVICES; rows += 4) {
        CHECK(engine_step(engine, rows, rows) == 0, "rank %d", engine->rank);
    }
    engine->stream = stream;
    CHECK(stats_of(engine).replayed_runs == replayed + (ON_DEVICES ? 0 : 8), "rank %d", engine->rank);
}

static void captured(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct engine engine;
    tutti_runner_options options = options_of(0);
    engine_open(&engine, rank, world, rendezvous, &options, true);
    all_rows(&engine, rank * 0); /* nothing is captured yet */
    tutti_runner_stats_t before = stats_of(&engine);
    CHECK(before.replayed_runs == 0 && before.oversize_runs == 2 * (OVERSIZE - 31) && before.eager_runs == 62,
          "rank %d", engine.rank);

    captures_are_counted(&engine);
    all_rows(&engine, 1000);
    tutti_runner_stats_t after = stats_of(&engine);
    CHECK(after.replayed_runs == 62 && after.eager_runs == 62 && after.warm_ups == 0 && after.commits == 2, "rank %d",
          engine.rank);
    CHECK(after.captures == SIZES + 1 && after.failed_captures == 0 && after.graph_memory_bytes > 0, "rank %d",
          engine.rank);
    CHECK(bucket_of(&engine, 31).replayed_runs == 30 && bucket_of(&engine, 1).replayed_runs == 2, "rank %d",
          engine.rank);

    without_stream(&engine);
    buckets_come_and_go(&engine);
    engine_close(&engine);
}

static void warmed(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct engine engine;
    tutti_runner_options options = options_of(0);
    engine_open(&engine, rank, world, rendezvous, &options, false);
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    CHECK(engine.mix_calls == (int)SIZES + 1, "rank %d", engine.rank);
    CHECK(stats_of(&engine).warm_ups == 1 && stats_of(&engine).runs == 0, "rank %d", engine.rank);
    all_rows(&engine, 0);
    engine_close(&engine);
}

static void lazy(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct engine engine;
    tutti_runner_options options = options_of(TUTTI_RUNNER_LAZY);
    engine_open(&engine, rank, world, rendezvous, &options, true);
    for (int step = 0; step < 3; step++) {
        all_rows(&engine, step * 100);
    }
    tutti_runner_stats_t stats = stats_of(&engine);
    CHECK(stats.captures == SIZES + 1 && stats.eager_runs == SIZES && stats.warm_ups == 0, "rank %d", engine.rank);
    CHECK(stats.replayed_runs == 3 * 62 - SIZES, "rank %d", engine.rank);
    CHECK_OK(tutti_runner_release(engine.runner, 8));
    all_rows(&engine, 500);
    CHECK(bucket_of(&engine, 8).captures == 2 && bucket_of(&engine, 8).eager_runs == 2, "rank %d", engine.rank);
    engine_close(&engine);
}

/* Segments with fixed_rows do not wait for a bucket of their own to be asked for. */
static void fixed_segments_come_along(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct engine engine;
    tutti_runner_options options = options_of(0);
    engine_open(&engine, rank, world, rendezvous, &options, true);
    CHECK_OK(tutti_runner_capture_rows(engine.runner, 8, engine.stream));
    CHECK(bucket_of(&engine, 0).state == TUTTI_BUCKET_CAPTURED && bucket_of(&engine, 8).state == TUTTI_BUCKET_CAPTURED,
          "rank %d: %d", rank, bucket_of(&engine, 0).state);
    CHECK(engine_step(&engine, 7, 1) == 0, "rank %d", rank);
    CHECK(stats_of(&engine).graph_launches == 2 && stats_of(&engine).commits == 1, "rank %d", rank);
    CHECK_OK(tutti_runner_capture_rows(engine.runner, 4, engine.stream));
    CHECK(bucket_of(&engine, 0).captures == 1 && stats_of(&engine).captures == 3, "rank %d", rank);
    engine_close(&engine);
}

/* Nor for a run that a bucket holds. */
static void fixed_segments_are_lazy(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct engine engine;
    tutti_runner_options options = options_of(TUTTI_RUNNER_LAZY);
    engine_open(&engine, rank, world, rendezvous, &options, true);
    for (int step = 0; step < 3; step++) {
        CHECK(engine_step(&engine, OVERSIZE, step) == 0, "rank %d", rank);
    }
    CHECK(stats_of(&engine).graph_launches == 2 && stats_of(&engine).captures == 1, "rank %d", rank);
    engine_close(&engine);
}

static void refusals_are_told(const struct engine *engine, bool quarrel)
{
    char named[64];
    tutti_runner_stats_t stats = stats_of(engine);
    tutti_runner_bucket_t first = bucket_of(engine, 31);
    (void)snprintf(named, sizeof(named), "rank %d", engine->world - 1);
    CHECK(stats.failed_captures == 2 && stats.captures == SIZES - 1 && stats.commits == 1 && stats.refused_commits == 0,
          "rank %d", engine->rank);
    CHECK(strstr(first.reason, named) != NULL && strstr(first.reason, "mix") != NULL, "%s", first.reason);
    CHECK(!quarrel || strstr(first.reason, "all_reduce") != NULL, "%s", first.reason);
    (void)snprintf(named, sizeof(named), "rank %d, bucket of 16 rows, mix: ", engine->world - 1);
    CHECK(bucket_of(engine, 16).state == TUTTI_BUCKET_EAGER &&
              strncmp(bucket_of(engine, 16).reason, named, strlen(named)) == 0,
          "rank %d: \"%s\"", engine->rank, bucket_of(engine, 16).reason);
    CHECK(bucket_of(engine, 8).state == TUTTI_BUCKET_CAPTURED && bucket_of(engine, 8).reason[0] == 0, "rank %d",
          engine->rank);
}

/* The last rank cannot capture two buckets: because its segment says no, or because the capture is invalidated. */
static void refused(int rank, int world, const char *rendezvous, void *user)
{
    const bool *quarrel = user;
    struct engine engine;
    tutti_runner_options options = options_of(0);
    engine_open(&engine, rank, world, rendezvous, &options, true);
    engine.fault = *quarrel ? ENGINE_QUARRELS : ENGINE_REFUSES;
    engine.fail_captures = rank == world - 1 ? 2 : 0;
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    refusals_are_told(&engine, *quarrel);
    all_rows(&engine, 0);
    CHECK(bucket_of(&engine, 31).eager_runs == 30 && bucket_of(&engine, 31).replayed_runs == 0, "rank %d", rank);
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream)); /* a second chance, which it takes */
    all_rows(&engine, 100);
    CHECK(bucket_of(&engine, 31).replayed_runs == 30 && stats_of(&engine).captures == SIZES + 1, "rank %d", rank);
    engine_close(&engine);
}

/* -- a rank that is late and has said so ------------------------------------------------------------------------------- */

/* Rank 0 takes longer to capture than its peers wait. */
static tutti_status slow(void *user, size_t rows, tutti_stream stream)
{
    const int *rank = user;
    tutti_host_capture_status state;
    uint64_t id;
    (void)rows;
    CHECK_OK(tutti_host_capture_info(stream, &state, &id));
    if (state == TUTTI_HOST_CAPTURE_ACTIVE && *rank == 0) {
        (void)usleep(3 * PATIENCE_MS * 1000);
    }
    return TUTTI_OK;
}

static void an_extended_deadline(int rank, int world, const char *rendezvous, void *user)
{
    static const size_t one = 4;
    tutti_runner *runner = NULL;
    tutti_comm *comm = NULL;
    tutti_host_stream *stream = NULL;
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host"};
    const tutti_runner_options buckets = {.struct_bytes = sizeof(buckets), .buckets = &one, .bucket_count = 1};
    const tutti_segment segment = {.struct_bytes = sizeof(segment), .fn = slow, .user = &rank};
    (void)user;
    options.rank = rank;
    options.world = world;
    options.rendezvous = rendezvous;
    options.timeout_ms = PATIENCE_MS;
    CHECK_OK(tutti_comm_create(&options, &comm));
    CHECK_OK(tutti_host_stream_create(&stream));
    CHECK_OK(tutti_runner_create(comm, &buckets, &runner));
    CHECK_OK(tutti_runner_segment(runner, &segment, NULL));
    if (rank == 0) {
        CHECK_OK(tutti_comm_extend_deadline(comm, 60000));
    }
    CHECK_OK(tutti_runner_capture(runner, stream));
    tutti_runner_destroy(runner);
    tutti_comm_destroy(comm);
    tutti_host_stream_destroy(stream);
}

/* -- what is enqueued outlives runner and communicator ---------------------------------------------------------------- */

static void wait_for_flag(void *argument)
{
    const _Atomic int *flag = argument;
    while (atomic_load(flag) == 0) {
        (void)sched_yield();
    }
}

static tutti_status nothing(void *user, size_t rows, tutti_stream stream)
{
    (void)user;
    (void)rows;
    (void)stream;
    return TUTTI_OK;
}

/* Captured, with one padded matrix and no collectives. */
static tutti_runner *runner_of(tutti_comm *comm, tutti_host_stream *stream, const tutti_padded *padded)
{
    tutti_runner *runner = NULL;
    const tutti_segment segment = {.struct_bytes = sizeof(segment), .fn = nothing, .padded = padded, .padded_count = 1};
    const tutti_runner_options options = {.struct_bytes = sizeof(options), .rows_max = 8};
    CHECK_OK(tutti_runner_create(comm, &options, &runner));
    CHECK_OK(tutti_runner_segment(runner, &segment, NULL));
    CHECK_OK(tutti_runner_capture(runner, stream));
    return runner;
}

static void destroyed_beneath_its_work(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    static float rows[8][4];
    _Atomic int flag = 0;
    tutti_host_stream *stream = NULL;
    const tutti_padded padded = {rows, sizeof(rows[0]), 0};
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    CHECK_OK(tutti_host_stream_create(&stream));
    tutti_runner *runner = runner_of(comm, stream, &padded);
    memset(rows, 0xff, sizeof(rows));
    CHECK_OK(tutti_host_enqueue(stream, wait_for_flag, &flag));
    CHECK_OK(tutti_runner_run(runner, 5, stream));
    tutti_comm_destroy(comm);
    tutti_runner_destroy(runner);
    atomic_store(&flag, 1);
    CHECK_OK(tutti_host_stream_synchronize(stream));
    CHECK(rows[4][3] != 0.0f && rows[5][0] == 0.0f && rows[7][3] == 0.0f, "the padding was not zeroed");
    tutti_host_stream_destroy(stream);
}

int main(int argc, char **argv)
{
    bool threads = argc > 1 && strncmp(argv[1], "threads", 7) == 0;
    int world = argc > 1 ? (int)strtol(strchr(argv[1], '-') + 1, NULL, 10) : 2;
    enum ranks_mode mode = threads ? RANKS_THREADS : RANKS_PROCESSES;
    bool quarrel = false;
    ranks_run(mode, world, 120, captured, NULL);
    ranks_run(mode, world, 120, warmed, NULL);
    ranks_run(mode, world, 120, an_extended_deadline, NULL);
    ranks_run(mode, world, 120, lazy, NULL);
    ranks_run(mode, world, 120, fixed_segments_come_along, NULL);
    ranks_run(mode, world, 120, fixed_segments_are_lazy, NULL);
    ranks_run(mode, world, 120, refused, &quarrel);
    quarrel = true;
    ranks_run(mode, world, 120, refused, &quarrel);
    if (!ON_DEVICES) { /* a device's memory is freed when it has nothing left to do */
        ranks_run(mode, 1, 120, destroyed_beneath_its_work, NULL);
    }
    printf("%d ranks\n", world);
    return 0;
}
