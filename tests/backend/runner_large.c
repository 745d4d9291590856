/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner_large.c - as many buckets as there can be, and more captured calls than a communicator keeps book of between two commits: some
 * buckets fail on one rank, before and after that point, and every row count is right. And one thread that drives all ranks:
 * tutti_runner_capture_all, with a rank that cannot capture.
 */
#include <stdbool.h>
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "tutti/host.h"
#include "tutti/runner.h"

#define BUCKETS TUTTI_RUNNER_BUCKETS_MAX
#define CALLS (ON_DEVICES ? 2 : 140) /* of a segment: 512 times as many are more than 65536 */
#define WORLD_MAX 4

struct engine {
    int rank, world, refuse_every;
    uint32_t told;
    tutti_comm *comm;
    tutti_host_stream *stream;
    tutti_runner *runner;
    float rows[BUCKETS + 8];
};

static tutti_status reduces(void *user, size_t rows, tutti_stream stream)
{
    struct engine *engine = user;
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    tutti_host_capture_status state;
    tutti_status status = TUTTI_OK;
    uint64_t id;
    CHECK_OK(tutti_host_capture_info(stream, &state, &id));
    bool refuses =
        state == TUTTI_HOST_CAPTURE_ACTIVE && engine->refuse_every != 0 && rows % (size_t)engine->refuse_every == 0;
    for (int number = 0; number < CALLS && status == TUTTI_OK; number++) {
        if (refuses && number == CALLS / 2) {
            return TUTTI_ERR_UNSUPPORTED;
        }
        /* The largest of all ranks' values, many times: it stays what it is. */
        status = tutti_all_reduce(engine->comm, engine->rows, engine->rows, rows, TUTTI_F32, TUTTI_MAX, &call);
    }
    return status;
}

static void progress(void *user, const tutti_runner_progress_t *progress)
{
    struct engine *engine = user;
    engine->told += progress->phase == TUTTI_RUNNER_CAPTURE;
    CHECK(progress->done < progress->total || progress->phase != TUTTI_RUNNER_CAPTURE, "%zu of %zu", progress->done,
          progress->total);
}

static void engine_open(struct engine *engine, tutti_comm *comm, int rank, int world, const size_t *sizes, size_t count)
{
    const tutti_runner_options options = {
        .struct_bytes = sizeof(options), .buckets = sizes, .bucket_count = count, .progress = progress, .user = engine};
    const tutti_padded padded = {engine->rows, sizeof(float), 0};
    const tutti_segment segment = {.struct_bytes = sizeof(segment),
                                   .name = "reduces",
                                   .fn = reduces,
                                   .user = engine,
                                   .padded = &padded,
                                   .padded_count = 1};
    memset(engine, 0, sizeof(*engine));
    engine->rank = rank;
    engine->world = world;
    engine->comm = comm;
    CHECK_OK(tutti_host_stream_create(&engine->stream));
    CHECK_OK(tutti_runner_create(comm, &options, &engine->runner));
    CHECK_OK(tutti_runner_segment(engine->runner, &segment, NULL));
}

static void engine_close(struct engine *engine)
{
    tutti_host_stream_destroy(engine->stream);
    tutti_runner_destroy(engine->runner);
    tutti_comm_destroy(engine->comm);
}

static void step_enqueue(struct engine *engine, size_t rows)
{
    memset(engine->rows, 0xff, sizeof(engine->rows));
    for (size_t row = 0; row < rows; row++) {
        engine->rows[row] = (float)(row * 10 + rows) + (float)((engine->rank + (int)row) % engine->world);
    }
    CHECK_OK(tutti_runner_run(engine->runner, rows, engine->stream));
}

static void step_check(struct engine *engine, size_t rows)
{
    CHECK_OK(tutti_runner_finish(engine->runner, engine->stream));
    for (size_t row = 0; row < rows; row++) {
        CHECK(engine->rows[row] == (float)(row * 10 + rows) + (float)(engine->world - 1), "rank %d: row %zu of %zu",
              engine->rank, row, rows);
    }
}

static void states_check(const struct engine *engine, size_t count, int refuse_every, int where)
{
    char named[32];
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    (void)snprintf(named, sizeof(named), "rank %d", where);
    for (size_t index = 0; index < count; index++) {
        CHECK_OK(tutti_runner_bucket(engine->runner, index, &bucket));
        bool refused = bucket.rows % (size_t)refuse_every == 0;
        CHECK(bucket.state == (refused ? TUTTI_BUCKET_EAGER : TUTTI_BUCKET_CAPTURED), "bucket %zu: %d (%s)",
              bucket.rows, bucket.state, bucket.reason);
        CHECK(!refused || strstr(bucket.reason, named) != NULL, "bucket %zu: %s", bucket.rows, bucket.reason);
    }
}

static void many_buckets(int rank, int world, const char *rendezvous, void *user)
{
    static struct engine engine;
    static size_t sizes[BUCKETS];
    (void)user;
    for (size_t index = 0; index < BUCKETS; index++) {
        sizes[index] = index + 1;
    }
    engine_open(&engine, ranks_comm(rank, world, rendezvous), rank, world, sizes, BUCKETS);
    engine.refuse_every = rank == world - 1 ? 50 : 0;
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    CHECK(engine.told == BUCKETS, "told of %u captures", engine.told);
    states_check(&engine, BUCKETS, 50, world - 1);
    for (size_t index = 0; index < 60; index++) {
        size_t rows = index * 89 % (BUCKETS + 4) + 1;
        step_enqueue(&engine, rows);
        step_check(&engine, rows);
    }
    engine.refuse_every = 0;
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    states_check(&engine, BUCKETS, BUCKETS + 1, 0);
    step_enqueue(&engine, 100);
    step_check(&engine, 100);
    engine_close(&engine);
}

/* All ranks' work is enqueued before one of them is waited for. */
static void all_step(struct engine *engines, int world, size_t rows)
{
    for (int rank = 0; rank < world; rank++) {
        step_enqueue(&engines[rank], rows);
    }
    for (int rank = 0; rank < world; rank++) {
        step_check(&engines[rank], rows);
    }
}

static void all_open(struct engine *engines, int world)
{
    static const size_t sizes[] = {2, 4, 6, 16};
    const tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host", .world = world};
    int devices[WORLD_MAX] = {0};
    tutti_comm *comms[WORLD_MAX] = {NULL};
    for (int rank = 0; rank < world; rank++) {
        devices[rank] = ON_DEVICES ? rank : 0;
    }
    CHECK_OK(tutti_comm_create_all(&options, devices, world, comms));
    for (int rank = 0; rank < world; rank++) {
        engine_open(&engines[rank], comms[rank], rank, world, sizes, 4);
        engines[rank].refuse_every = rank == world - 1 ? 6 : 0;
    }
}

static void all_close(struct engine *engines, int world)
{
    for (int rank = 0; rank < world; rank++) {
        tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
        states_check(&engines[rank], 4, 6, world - 1);
        CHECK_OK(tutti_runner_stats(engines[rank].runner, &stats));
        CHECK(stats.replayed_runs == 14 && stats.eager_runs == 2 && stats.oversize_runs == 4 && stats.warm_ups == 1 &&
                  stats.commits == 1,
              "rank %d: %d replays", rank, (int)stats.replayed_runs);
    }
    for (int rank = 0; rank < world; rank++) {
        engine_close(&engines[rank]);
    }
}

static void one_thread(int world)
{
    static struct engine engines[WORLD_MAX];
    tutti_runner *runners[WORLD_MAX] = {NULL};
    tutti_stream streams[WORLD_MAX] = {NULL};
    all_open(engines, world);
    for (int rank = 0; rank < world; rank++) {
        runners[rank] = engines[rank].runner;
        streams[rank] = engines[rank].stream;
    }
    CHECK_OK(tutti_runner_capture_all(runners, streams, world));
    for (size_t rows = 1; rows <= 20; rows++) {
        all_step(engines, world, rows);
    }
    all_close(engines, world);
}

int main(void)
{
    ranks_run(RANKS_PROCESSES, 2, 120, many_buckets, NULL);
    for (int world = 1; world <= (ON_DEVICES ? 2 : WORLD_MAX); world++) {
        one_thread(world);
    }
    return 0;
}
