/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Driver calls of a runner's that fail on one rank (SIMGPU_FAULTS): the bucket is eager on all ranks with the call's name as the
 * reason, the rest is captured, results are right, nothing is left behind, and the next attempt works.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/gpu_engine.h"

static const size_t sizes[] = {2, 4, 8};

struct fault {
    const char *cuda, *hip; /* the call, and which time */
    const char *result;
};

/* Segments 0, 2 and 3 are graphable, buckets come in the order 8, 4, 2, and one of fixed rows goes last: so graph 4 is the first of the
 * bucket of 4 rows. */
static const struct fault faults[] = {
    {"cuStreamBeginCapture_v2@4", "hipStreamBeginCapture@4", "1"},
    {"cuStreamEndCapture@4", "hipStreamEndCapture@4", "2"},
    {"cuGraphInstantiateWithFlags@4", "hipGraphInstantiateWithFlags@4", "2"},
    {"cuGraphUpload@4", "hipGraphUpload@4", "2"},
};
#define FAULTS (sizeof(faults) / sizeof(faults[0]))

static const char *backend(void)
{
    const char *named = getenv("TUTTI_TEST_GPU");
    return named != NULL ? named : "cuda";
}

static const char *call_of(const struct fault *fault)
{
    return strcmp(backend(), "cuda") == 0 ? fault->cuda : fault->hip;
}

/* On rank 1 alone, before it has a driver. */
static void prepare(int rank, void *user)
{
    const struct fault *fault = user;
    char text[128];
    (void)snprintf(text, sizeof(text), "%s=%s", call_of(fault), fault->result);
    CHECK(rank != 1 || setenv("SIMGPU_FAULTS", text, 1) == 0, "setenv");
}

static void run_all(struct gpu_engine *engine, const char *what)
{
    for (size_t rows = 1; rows <= 9; rows++) {
        gpu_engine_run(engine, rows);
        gpu_engine_verify(engine, 0, engine->segments, what);
    }
}

static void body(struct gpu_rank *self, void *user)
{
    const struct fault *fault = user;
    struct gpu_engine engine;
    char name[64];
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(call_of(fault), "@"), call_of(fault));
    memset(&engine, 0, sizeof(engine));
    engine.self = self;
    engine.options.buckets = sizes;
    engine.options.bucket_count = 3;
    engine.segments = 5;
    engine.columns = 100;
    engine.rows_max = 12;
    gpu_rank_join(self, 0, 1);
    gpu_engine_open(&engine);
    uint64_t used = gpu_used_bytes();
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    tutti_runner_bucket_t bucket = gpu_engine_bucket(&engine, 4);
    CHECK(bucket.state == TUTTI_BUCKET_EAGER && strstr(bucket.reason, "rank 1") != NULL &&
              strstr(bucket.reason, name) != NULL,
          "rank %d: %s: \"%s\"", self->rank, name, bucket.reason);
    CHECK(gpu_engine_stats(&engine).failed_captures == 1 && gpu_engine_stats(&engine).captures == 3, "rank %d: %s",
          self->rank, name);
    CHECK(gpu_used_bytes() == used + gpu_engine_stats(&engine).graph_memory_bytes, "rank %d: %s: memory is left behind",
          self->rank, name);
    run_all(&engine, name);
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    CHECK(gpu_engine_bucket(&engine, 4).state == TUTTI_BUCKET_CAPTURED, "rank %d: %s: \"%s\"", self->rank, name,
          gpu_engine_bucket(&engine, 4).reason);
    run_all(&engine, name);
    gpu_engine_close(&engine);
    gpu_commit_until_empty(self, name);
    gpu_rank_leave(self);
}

int main(void)
{
    for (size_t index = 0; index < FAULTS; index++) {
        struct gpu_scene *scene = gpu_scene_make("processes-2");
        scene->prepare = prepare;
        scene->user = (void *)(uintptr_t)&faults[index];
        gpu_scene_run(scene, 60, body, scene->user);
    }
    return 0;
}
