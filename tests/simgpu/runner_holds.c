/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a runner's graphs hold, they hold without the driver's help: each user object of a graph's costs microseconds in every launch. So
 * none of the graphs that passes launch carries one, whoever's communicators the calls were; graphs of the caller's do, also those that he
 * captures while the runner captures. What was held is given back as soon as the graphs are gone, by a release, by the end of the runner or
 * of its communicator, and where any driver call of a capture fails on one rank.
 */
#include <string.h>

#include "harness/check.h"
#include "harness/gpu_engine.h"
#include "simgpu/tell.h"

static const size_t sizes[] = {2, 4, 8};

static void launches_grew(const struct launches *before, uint64_t all, uint64_t holding, const char *what)
{
    struct launches now = launches();
    CHECK(now.all - before->all == all && now.holding - before->holding == holding,
          "%s: %llu launches, %llu of them of graphs that hold user objects, not %llu and %llu", what,
          (unsigned long long)(now.all - before->all), (unsigned long long)(now.holding - before->holding),
          (unsigned long long)all, (unsigned long long)holding);
}

/* -- an engine ------------------------------------------------------------------------------------------------------------ */

/* `engine` is zero but for what is beyond that. */
static void engine_open(struct gpu_rank *self, struct gpu_engine *engine)
{
    engine->self = self;
    engine->options.buckets = sizes;
    engine->options.bucket_count = 3;
    engine->segments = 5;
    engine->columns = 600; /* so that most calls can be direct */
    engine->rows_max = 12;
    gpu_engine_open(engine);
}

static void run_all(struct gpu_engine *engine, const char *what)
{
    for (size_t rows = 1; rows <= 9; rows++) {
        gpu_engine_run(engine, rows);
        gpu_engine_verify(engine, 0, engine->segments, what);
    }
}

/* Nobody has to wait for a thread of the driver's. */
static void nothing_is_held(struct gpu_rank *self, const char *what)
{
    CHECK_OK(tutti_commit(self->comm));
    tutti_stats stats = gpu_stats(self);
    CHECK(stats.slots_taken == 0 && stats.mappings == 0 && stats.committed_calls == 0 && stats.pending_calls == 0 &&
              stats.staged_for_good_calls == 0,
          "rank %d: %s: %llu slots, %llu committed, %llu staged calls are left", self->rank, what,
          (unsigned long long)stats.slots_taken, (unsigned long long)stats.committed_calls,
          (unsigned long long)stats.staged_for_good_calls);
}

static void engine_holds(struct gpu_rank *self, void *user)
{
    struct gpu_engine engine;
    (void)user;
    gpu_rank_join(self, 0, 1);
    memset(&engine, 0, sizeof(engine));
    engine_open(self, &engine);
    for (int round = 0; round < 2; round++) {
        CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
        CHECK(gpu_stats(self).slots_taken > 0 && gpu_stats(self).committed_calls > 0, "nothing is direct");
        struct launches before = launches();
        uint64_t replayed = gpu_engine_stats(&engine).graph_launches;
        run_all(&engine, "replays");
        replayed = gpu_engine_stats(&engine).graph_launches - replayed;
        CHECK(replayed > 20, "only %llu replays", (unsigned long long)replayed);
        launches_grew(&before, replayed, 0, "passes");
        CHECK_OK(tutti_runner_release(engine.runner, 0));
        nothing_is_held(self, "after a release");
    }
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    run_all(&engine, "captured again");
    gpu_engine_close(&engine);
    nothing_is_held(self, "after a runner");
    gpu_rank_leave(self);
}

/* -- calls of two communicators, and the caller's own graphs -------------------------------------------------------------- */

#define BYTES ((size_t)12000)
enum { FIRST, OTHERS, SECOND, APART, WORKS };

struct pair {
    struct gpu_rank *self;
    struct gpu_rank child; /* the same rank in another communicator */
    struct gpu_work works[WORKS];
    tutti_stream apart;
    bool begun;      /* the caller's own capture there */
    gpu_graph graph; /* that came of it */
};

static tutti_status pair_enqueue(void *user, size_t rows, tutti_stream stream)
{
    struct pair *pair = user;
    (void)rows;
    CHECK_OK(gpu_work_call(pair->self, &pair->works[FIRST], stream));
    CHECK_OK(gpu_work_call(&pair->child, &pair->works[OTHERS], stream));
    if (!pair->begun && gpu_stream_captures(stream)) {
        gpu_capture_begin(pair->apart, GPU_CAPTURE_THREAD_LOCAL);
        CHECK_OK(gpu_work_call(&pair->child, &pair->works[APART], pair->apart));
        pair->begun = true;
    }
    return gpu_work_call(pair->self, &pair->works[SECOND], stream);
}

/* The caller's capture begins within the runner's and ends after it. */
static void pair_capture(struct pair *pair, tutti_runner *runner)
{
    CHECK_OK(tutti_runner_capture(runner, pair->self->stream));
    pair->graph = gpu_capture_end(pair->apart);
}

static void pair_run(struct pair *pair, tutti_runner *runner)
{
    struct launches before = launches();
    gpu_work_fill(pair->self, &pair->works[FIRST]);
    gpu_work_fill(&pair->child, &pair->works[OTHERS]);
    gpu_work_fill(pair->self, &pair->works[SECOND]);
    CHECK_OK(tutti_runner_run(runner, 1, pair->self->stream));
    CHECK_OK(tutti_runner_finish(runner, pair->self->stream));
    gpu_work_verify(pair->self, &pair->works[FIRST], "the runner's");
    gpu_work_verify(&pair->child, &pair->works[OTHERS], "another communicator's");
    gpu_work_verify(pair->self, &pair->works[SECOND], "the runner's");
    launches_grew(&before, 1, 0, "a pass with two communicators' calls");
}

static void caller_run(struct pair *pair)
{
    struct launches before = launches();
    gpu_works_replay(&pair->child, pair->graph, &pair->works[APART], 1, "the caller's graph");
    launches_grew(&before, 1, 1, "the caller's graph");
}

static tutti_runner *pair_open(struct pair *pair, struct gpu_rank *self, struct gpu_memory *memory)
{
    const tutti_runner_options options = {.struct_bytes = sizeof(options), .buckets = sizes, .bucket_count = 1};
    const tutti_segment segment = {.struct_bytes = sizeof(segment), .fn = pair_enqueue, .user = pair};
    tutti_runner *runner = NULL;
    *pair = (struct pair){.self = self, .child = *self, .apart = gpu_stream_create()};
    CHECK_OK(tutti_comm_split(self->comm, 0, self->rank, &pair->child.comm));
    CHECK(gpu_memory_make(self->scene->backend, self->device, gpu_shared_kind(self), GPU_PAGE_BYTES, self->stream,
                          memory),
          "memory");
    for (int index = 0; index < WORKS; index++) {
        pair->works[index] = (struct gpu_work){.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F32, .bytes = BYTES};
        pair->works[index].src = memory->address + (size_t)index * 4 * BYTES;
        pair->works[index].dst = pair->works[index].src + 2 * BYTES;
    }
    CHECK_OK(tutti_runner_create(self->comm, &options, &runner));
    CHECK_OK(tutti_runner_segment(runner, &segment, NULL));
    return runner;
}

static void two_communicators(struct gpu_rank *self, void *user)
{
    struct pair pair;
    struct gpu_memory memory;
    (void)user;
    gpu_rank_join(self, 0, 1);
    tutti_runner *runner = pair_open(&pair, self, &memory);
    pair_capture(&pair, runner);
    CHECK_OK(tutti_commit(pair.child.comm));
    CHECK(gpu_stats(self).committed_calls == 2 && gpu_stats(&pair.child).committed_calls == 2,
          "%llu and %llu calls are committed", (unsigned long long)gpu_stats(self).committed_calls,
          (unsigned long long)gpu_stats(&pair.child).committed_calls);
    for (int round = 0; round < 3; round++) {
        pair_run(&pair, runner);
        caller_run(&pair);
    }
    tutti_runner_destroy(runner);
    nothing_is_held(self, "the runner's communicator");
    CHECK_OK(tutti_commit(pair.child.comm));
    CHECK(gpu_stats(&pair.child).committed_calls == 1, "the caller's graph, and nothing of the runner's: %llu",
          (unsigned long long)gpu_stats(&pair.child).committed_calls);
    caller_run(&pair);
    gpu_graph_destroy(pair.graph);
    gpu_commit_until_empty(&pair.child, "the caller's graph");
    gpu_stream_destroy(pair.apart);
    gpu_memory_free(&memory, self->stream);
    gpu_rank_leave(&pair.child);
    gpu_rank_leave(self);
}

/* -- communicators that go first -------------------------------------------------------------------------------------------- */

/* A new communicator looks at what former ones have left; memory goes once the peers have done so. */
static void left_is_freed(struct gpu_rank *self)
{
    gpu_meet(self);
    gpu_rank_join(self, 0, 1);
    gpu_rank_leave(self);
    gpu_meet(self);
}

/* Those of both kinds: the runner's, whose end is the end of its graphs; and another one, whose memory stays as long as they do. */
static void communicators_go_first(struct gpu_rank *self, void *user)
{
    struct gpu_rank keeper = *self; /* what the device has for runners stays */
    tutti_runner *kept = NULL;
    uint64_t used[3];
    (void)user;
    gpu_rank_join(&keeper, 0, 1);
    CHECK_OK(tutti_runner_create(keeper.comm, NULL, &kept));
    for (int round = 0; round < 3; round++) {
        struct pair pair;
        struct gpu_memory memory;
        left_is_freed(self);
        gpu_rank_join(self, 0, 1);
        used[round] = gpu_used_bytes();
        tutti_runner *runner = pair_open(&pair, self, &memory);
        pair.begun = true; /* no graph of the caller's */
        CHECK_OK(tutti_runner_capture(runner, self->stream));
        pair_run(&pair, runner);
        uint64_t before = gpu_used_bytes();
        gpu_rank_leave(&pair.child);
        CHECK(before - gpu_used_bytes() < (uint64_t)1 << 16, "memory went that a graph still uses");
        gpu_rank_leave(self);
        tutti_runner_destroy(runner);
        gpu_memory_free(&memory, self->stream);
        gpu_stream_destroy(pair.apart);
    }
    CHECK(used[1] == used[0] && used[2] == used[0], "rank %d: %llu bytes became %llu and %llu", self->rank,
          (unsigned long long)used[0], (unsigned long long)used[1], (unsigned long long)used[2]);
    tutti_runner_destroy(kept);
    gpu_rank_leave(&keeper);
}

/* -- calls that fail ------------------------------------------------------------------------------------------------------ */

struct point {
    const char *cuda, *hip;
    const char *result;
    int most; /* a capture of the bucket makes fewer such calls */
};

static const struct point points[] = {
    {"cuStreamGetCaptureInfo_v3", "hipStreamGetCaptureInfo_v2", "1", 60},
    {"cuStreamGetCaptureInfo_v3", "hipStreamGetCaptureInfo_v2", "invalidate", 60},
    {"cuStreamBeginCapture_v2", "hipStreamBeginCapture", "1", 4},
    {"cuStreamEndCapture", "hipStreamEndCapture", "1", 4},
    {"cuStreamEndCapture", "hipStreamEndCapture", "invalidate", 4},
    {"cuGraphInstantiateWithFlags", "hipGraphInstantiateWithFlags", "2", 4},
    {"cuGraphUpload", "hipGraphUpload", "2", 4},
    {"cuLaunchKernel", "hipModuleLaunchKernel", "1", 20},
    {"cuLaunchKernel", "hipModuleLaunchKernel", "invalidate", 20},
};

struct failing {
    struct gpu_engine engine;
    const char *text;
    uint64_t struck;
};

/* While the bucket of 4 rows is captured, on rank 1. */
static void arm(void *user, const tutti_runner_progress_t *progress)
{
    struct failing *failing = user;
    bool here = progress->phase == TUTTI_RUNNER_CAPTURE && progress->rows == 4;
    if (failing->engine.self->rank == 1 && failing->text != NULL) {
        failing->struck += fault_set(here ? failing->text : "");
    }
}

/* True if there is such a call. Rank 0 cannot tell. */
static bool fails_at(struct failing *failing, const char *call, const char *result, int which)
{
    struct gpu_engine *engine = &failing->engine;
    char text[128];
    (void)snprintf(text, sizeof(text), "%s@%d=%s", call, which, result);
    failing->text = text;
    failing->struck = 0;
    CHECK_OK(tutti_runner_capture(engine->runner, engine->stream));
    failing->text = NULL;
    tutti_runner_bucket_t bucket = gpu_engine_bucket(engine, 4);
    CHECK(bucket.state == TUTTI_BUCKET_CAPTURED || strstr(bucket.reason, "rank 1, bucket of 4 rows") != NULL,
          "rank %d: %s: \"%s\"", engine->self->rank, text, bucket.reason);
    CHECK(bucket.state == TUTTI_BUCKET_CAPTURED || engine->self->rank == 0 || failing->struck == 1, "%s: \"%s\"", text,
          bucket.reason);
    struct launches before = launches();
    uint64_t replayed = gpu_engine_stats(engine).graph_launches;
    for (size_t rows = 2; rows <= 8; rows += 3) {
        gpu_engine_run(engine, rows);
        gpu_engine_verify(engine, 0, engine->segments, text);
    }
    launches_grew(&before, gpu_engine_stats(engine).graph_launches - replayed, 0, text);
    CHECK_OK(tutti_runner_capture(engine->runner, engine->stream));
    bucket = gpu_engine_bucket(engine, 4);
    CHECK(bucket.state == TUTTI_BUCKET_CAPTURED, "rank %d: after %s: \"%s\"", engine->self->rank, text, bucket.reason);
    gpu_engine_run(engine, 3);
    gpu_engine_verify(engine, 0, engine->segments, text);
    CHECK_OK(tutti_runner_release(engine->runner, 0));
    nothing_is_held(engine->self, text);
    return failing->struck > 0;
}

static void calls_fail(struct gpu_rank *self, void *user)
{
    struct failing failing;
    (void)user;
    gpu_rank_join(self, 0, 1);
    memset(&failing, 0, sizeof(failing));
    failing.engine.options.progress = arm;
    failing.engine.options.user = &failing;
    engine_open(self, &failing.engine);
    uint64_t used = gpu_used_bytes();
    for (size_t index = 0; index < sizeof(points) / sizeof(points[0]); index++) {
        const struct point *point = &points[index];
        const char *call = is_cuda() ? point->cuda : point->hip;
        bool struck = true;
        int which = 1;
        for (; which <= point->most && struck; which++) {
            struck = fails_at(&failing, call, point->result, which);
            self->scene->says[self->rank] = struck;
            gpu_meet(self);
            struck = self->scene->says[1];
            gpu_meet(self);
        }
        CHECK(!struck && which > 2, "%s: %d calls", call, which);
    }
    CHECK(gpu_used_bytes() == used, "rank %d: memory is left behind", self->rank);
    gpu_engine_close(&failing.engine);
    gpu_rank_leave(self);
}

/* What the driver does not destroy may still be at work. */
static void destroy_fails(struct gpu_rank *self, void *user)
{
    struct gpu_engine engine;
    (void)user;
    gpu_rank_join(self, 0, 1);
    memset(&engine, 0, sizeof(engine));
    engine_open(self, &engine);
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    if (self->rank == 1) {
        (void)fault_set(is_cuda() ? "cuGraphExecDestroy@1=1" : "hipGraphExecDestroy@1=1");
    }
    CHECK_OK(tutti_runner_release(engine.runner, 0));
    CHECK(fault_set("") == (self->rank == 1), "rank %d: no such call", self->rank);
    CHECK_OK(tutti_commit(self->comm));
    CHECK((gpu_stats(self).committed_calls > 0) == (self->rank == 1), "rank %d: %llu calls are committed", self->rank,
          (unsigned long long)gpu_stats(self).committed_calls);
    gpu_engine_close(&engine);
    gpu_rank_leave(self);
}

int main(void)
{
    static const gpu_body bodies[] = {engine_holds, two_communicators, communicators_go_first, calls_fail,
                                      destroy_fails};
    for (size_t index = 0; index < sizeof(bodies) / sizeof(bodies[0]); index++) {
        gpu_scene_run(gpu_scene_make("processes-2"), 120, bodies[index], NULL);
    }
    return 0;
}
