/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner_memory.c - a runner where there is no memory: every allocation that the library makes on one rank while a runner is created, while
 * it is captured, and in a run, fails once, wherever it is. Creation says so and leaves nothing. A capture ends in one of two ways,
 * on all ranks the same: buckets that are eager, with the reason, and rows that are right; or the communicator has failed, because
 * that rank could not even hear its peers, and all are told. The callbacks of a careless engine take no notice of calls that fail: no
 * graph without them is ever replayed.
 */
#include "harness/check.h"
#include "harness/failing_malloc.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"
#include "tutti/host.h"
#include "tutti/runner.h"

#define WORLD 2
#define WIDTH 16
static const size_t sizes[] = {2, 4};

enum place { IN_CREATE, IN_CAPTURE, IN_RUN };

struct scene {
    enum place place;
    int allocation;
    bool careless;
    struct verdicts *verdicts, *counts; /* counts: `given` is how many allocations there were */
};

static void arm(const struct scene *scene, enum place place, int rank)
{
    bool here = scene != NULL && scene->place == place && rank == WORLD - 1;
    atomic_store(&countdown, here ? scene->allocation : 0);
}

static void disarm(void)
{
    atomic_store(&countdown, 0);
}

/* `got` is what a call has just returned. */
static void good(tutti_status got)
{
    CHECK(got == TUTTI_OK, "%s: %s", tutti_status_name(got), tutti_last_error());
}

/* -- one rank's engine ------------------------------------------------------------------------------------------- */

struct engine {
    int rank;
    bool careless;
    tutti_comm *comm;
    tutti_host_stream *stream;
    tutti_runner *runner;
    float rows[8][WIDTH];
};

static tutti_status layer(void *user, size_t rows, tutti_stream stream)
{
    struct engine *engine = user;
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    tutti_status status =
        tutti_all_reduce(engine->comm, engine->rows, engine->rows, rows * WIDTH, TUTTI_F32, TUTTI_SUM, &call);
    return engine->careless ? TUTTI_OK : status;
}

static tutti_status engine_make(struct engine *engine, const struct scene *scene)
{
    const tutti_runner_options options = {.struct_bytes = sizeof(options), .buckets = sizes, .bucket_count = 2};
    const tutti_padded padded = {engine->rows, sizeof(engine->rows[0]), 0};
    const tutti_segment segment = {
        .struct_bytes = sizeof(segment), .fn = layer, .user = engine, .padded = &padded, .padded_count = 1};
    arm(scene, IN_CREATE, engine->rank);
    tutti_status status = tutti_runner_create(engine->comm, &options, &engine->runner);
    if (status == TUTTI_OK) {
        status = tutti_runner_segment(engine->runner, &segment, NULL);
    }
    disarm();
    CHECK(status == TUTTI_OK || status == TUTTI_ERR_SYSTEM, "%s", tutti_last_error());
    return status;
}

/* Whether the rows came out right, if the run did. */
static tutti_status step(struct engine *engine, const struct scene *scene, size_t rows)
{
    for (size_t row = 0; row < 8; row++) {
        for (size_t column = 0; column < WIDTH; column++) {
            engine->rows[row][column] = (float)(row + column + rows) * (float)(engine->rank + 1);
        }
    }
    arm(scene, IN_RUN, engine->rank);
    tutti_status status = tutti_runner_run(engine->runner, rows, engine->stream);
    disarm();
    if (status == TUTTI_OK) {
        status = tutti_runner_finish(engine->runner, engine->stream);
    }
    for (size_t row = 0; row < rows && status == TUTTI_OK; row++) {
        for (size_t column = 0; column < WIDTH; column++) {
            CHECK(engine->rows[row][column] == 3.0f * (float)(row + column + rows), "rank %d, row %zu of %zu",
                  engine->rank, row, rows);
        }
    }
    return status;
}

static void reasons_check(const struct engine *engine)
{
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    for (size_t index = 0; index < 2; index++) {
        good(tutti_runner_bucket(engine->runner, index, &bucket));
        CHECK(bucket.state != TUTTI_BUCKET_EAGER || strstr(bucket.reason, "rank 1") != NULL, "\"%s\"", bucket.reason);
    }
}

/* A warm-up that fails on one rank leaves the others waiting, as any run does: here it has been. The other rank may be told in the end of
 * its own step already. */
static tutti_status served(struct engine *engine, const struct scene *scene)
{
    tutti_status status = step(engine, NULL, 4);
    if (status == TUTTI_OK) {
        arm(scene, IN_CAPTURE, engine->rank);
        status = tutti_runner_capture(engine->runner, engine->stream);
        disarm();
    }
    if (status != TUTTI_OK) {
        CHECK(tutti_comm_status(engine->comm) == status, "it failed, and the communicator goes on: %s",
              tutti_last_error());
        return status;
    }
    reasons_check(engine);
    for (size_t rows = 1; rows <= 6; rows++) {
        good(step(engine, scene, rows));
    }
    return TUTTI_OK;
}

/* A run that ended half-way on one rank leaves the others waiting: somebody has to abort. */
static tutti_status interrupted(struct engine *engine, const struct scene *scene)
{
    good(tutti_runner_capture(engine->runner, engine->stream));
    tutti_status status = step(engine, NULL, 5); /* the other rank has captured as well */
    if (status == TUTTI_OK) {
        status = step(engine, scene, 5);
    }
    if (status != TUTTI_OK && tutti_comm_status(engine->comm) == TUTTI_OK) {
        good(tutti_comm_abort(engine->comm));
    }
    return status;
}

static void engine_open(struct engine *engine, int rank, const char *rendezvous, const struct scene *scene)
{
    engine->rank = rank;
    engine->careless = scene->careless;
    engine->comm = ranks_comm(rank, WORLD, rendezvous);
    good(tutti_host_stream_create(&engine->stream));
    if (engine_make(engine, scene) != TUTTI_OK) { /* the second time there is memory */
        tutti_runner_destroy(engine->runner);
        engine->runner = NULL;
        good(engine_make(engine, NULL));
    }
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    static struct engine engine;
    (void)world;
    library_find();
    engine_open(&engine, rank, rendezvous, scene);
    tutti_status status = scene->place == IN_RUN ? interrupted(&engine, scene) : served(&engine, scene);
    verdict_give(scene->verdicts, rank, status);
    scene->counts->ranks[rank].given = atomic_load(&counted);
    tutti_host_stream_destroy(engine.stream);
    tutti_runner_destroy(engine.runner);
    tutti_comm_destroy(engine.comm);
}

/* Until a scene is over before its allocation is reached. */
static void sweep(enum place place, bool careless)
{
    struct scene scene = {.place = place, .careless = careless};
    int told = 0;
    scene.verdicts = verdicts_create();
    scene.counts = verdicts_create();
    for (scene.allocation = 1; scene.counts->ranks[WORLD - 1].given == scene.allocation - 1; scene.allocation++) {
        CHECK(scene.allocation < 1000, "there is no end to it");
        ranks_run(RANKS_PROCESSES, WORLD, 60, run_rank, &scene);
        told += scene.verdicts->ranks[0].status != TUTTI_OK;
    }
    printf("place %d, %s: %d allocations, %d of them told to the other rank\n", place,
           careless ? "careless" : "careful", scene.allocation - 2, told);
    CHECK(scene.allocation > 3, "nothing was allocated");
}

int main(void)
{
    if (!TRAPS) {
        SKIP("sanitizers have put themselves in the places that this test watches");
    }
    sweep(IN_CREATE, false);
    sweep(IN_CAPTURE, false);
    sweep(IN_CAPTURE, true);
    sweep(IN_RUN, false);
    return 0;
}
