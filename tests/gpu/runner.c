/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The piecewise runner on devices: an engine's worth of graphs captured in one go, with what that takes; replays whose row count
 * changes, over padding of NaN; two runners in flight on one communicator; captures that fail on one rank; captures while serving.
 *
 *     runner processes-4
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu_engine.h"
#include "harness/ranks.h"
#include "harness/values.h"

#define BUCKETS_MAX 50
#define ROWS_MOST 400

static bool quick;

static double now_ms(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

/* 1, 2, 4, then steps of 8. */
static size_t sizes_make(size_t *sizes)
{
    size_t count = quick ? 5 : BUCKETS_MAX;
    for (size_t index = 0; index < count; index++) {
        sizes[index] = index < 3 ? (size_t)1 << index : 8 * (index - 2);
    }
    return count;
}

static void engine_prepare(struct gpu_rank *self, struct gpu_engine *engine, const size_t *sizes, size_t count,
                           int segments)
{
    memset(engine, 0, sizeof(*engine));
    engine->self = self;
    engine->options.name = "engine";
    engine->options.buckets = sizes;
    engine->options.bucket_count = count;
    engine->segments = segments;
    engine->columns = quick ? 100 : 256;
    engine->rows_max = sizes[count - 1] + 10;
}

/* -- the captures of an engine ------------------------------------------------------------------------------------------ */

static void say(const struct gpu_engine *engine, const char *what, double ms, uint64_t grown, uint64_t later)
{
    tutti_runner_stats_t stats = gpu_engine_stats(engine);
    tutti_stats comm = gpu_stats(engine->self);
    double kib = (double)stats.graph_memory_bytes / 1024.0;
    if (engine->self->rank != 0) {
        return;
    }
    printf("%d ranks, %llu buckets x %d segments, %s: %.0f ms (warm-up %.0f, captures %.0f, commit %.0f; %llu calls "
           "direct, %llu staged for good)\n",
           engine->self->scene->world, (unsigned long long)stats.captures, engine->segments, what, ms, stats.warm_up_ms,
           stats.capture_ms, stats.commit_ms, (unsigned long long)comm.committed_calls,
           (unsigned long long)comm.staged_for_good_calls);
    printf("    device memory: %.0f KiB, %.1f a bucket; %llu bytes besides in the whole call, %llu more "
           "after replays\n",
           kib, kib / (double)stats.captures, (unsigned long long)(grown - stats.graph_memory_bytes),
           (unsigned long long)later);
    (void)fflush(stdout);
}

/* Passes over few rows, `together` of them behind one another before they are waited for: of several batches the middle one, and the
 * slowest. */
struct pass_times {
    double median_us, most_us;
};

static int compare_times(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

static struct pass_times pass_times(struct gpu_engine *engine, size_t rows, int together)
{
    enum { BATCHES = 7 };
    double us[BATCHES];
    for (int batch = -1; batch < BATCHES; batch++) {
        gpu_meet(engine->self);
        double begin = now_ms();
        for (int pass = 0; pass < together; pass++) {
            CHECK_OK(tutti_runner_run(engine->runner, rows, engine->stream));
        }
        CHECK_OK(tutti_runner_finish(engine->runner, engine->stream));
        us[batch < 0 ? 0 : batch] = (now_ms() - begin) * 1e3 / together;
    }
    qsort(us, BATCHES, sizeof(us[0]), compare_times);
    return (struct pass_times){us[BATCHES / 2], us[BATCHES - 1]};
}

static void captured_in_one_go(struct gpu_rank *self, bool silent)
{
    size_t sizes[BUCKETS_MAX];
    size_t count = sizes_make(sizes);
    struct gpu_engine engine;
    engine_prepare(self, &engine, sizes, count, quick ? 4 : 36);
    engine.silent = silent;
    gpu_engine_open(&engine);
    gpu_engine_run(&engine, 2); /* what the driver does once for a kernel is no graph's */
    gpu_engine_verify(&engine, 0, engine.segments, "before any capture");
    const int many = quick ? 2 : 20;
    struct pass_times eager = pass_times(&engine, 2, many);
    gpu_meet(self);
    uint64_t used = gpu_used_bytes();
    double begin = now_ms();
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    double ms = now_ms() - begin;
    uint64_t captured = gpu_used_bytes();
    gpu_meet(self);
    tutti_runner_stats_t stats = gpu_engine_stats(&engine);
    uint64_t fixed = engine.segments >= 4 ? 1 : 0;
    CHECK(stats.captures == count + fixed && stats.failed_captures == 0 && stats.refused_commits == 0,
          "rank %d: %llu captures, %llu failed: %s", self->rank, (unsigned long long)stats.captures,
          (unsigned long long)stats.failed_captures, gpu_engine_bucket(&engine, sizes[0]).reason);
    for (size_t index = 0; index < count; index++) {
        gpu_engine_run(&engine, sizes[index]);
        gpu_engine_verify(&engine, (int)index, 2, "the first replay of a bucket");
    }
    CHECK(gpu_engine_stats(&engine).replayed_runs == count, "rank %d: not all of that was replayed", self->rank);
    uint64_t later = gpu_used_bytes();
    CHECK(later <= captured, "rank %d: first launches took %llu bytes of the device", self->rank,
          (unsigned long long)(later - captured));
    struct pass_times replayed = pass_times(&engine, 2, many);
    struct pass_times alone = pass_times(&engine, 2, 1);
    say(&engine, silent ? "only padding" : "collectives", ms, captured - used, later - captured);
    if (self->rank == 0) {
        printf("    a pass over 2 rows: %.1f us eagerly (%.1f in the slowest batch), %.1f us replayed (%.1f), %.1f us "
               "replayed and waited for (%.1f)\n",
               eager.median_us, eager.most_us, replayed.median_us, replayed.most_us, alone.median_us, alone.most_us);
        (void)fflush(stdout);
    }
    gpu_engine_close(&engine);
}

/* -- counts that change --------------------------------------------------------------------------------------------------- */

static const size_t few[] = {1, 4, 8, 16};
#define FEW (sizeof(few) / sizeof(few[0]))

/* Up, down, above the largest bucket, and the same bucket with every count. */
static void counts_change(struct gpu_rank *self, uint64_t seed)
{
    struct gpu_engine engine;
    engine_prepare(self, &engine, few, FEW, 6);
    gpu_engine_open(&engine);
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    CHECK(gpu_engine_stats(&engine).warm_ups == 1, "rank %d", self->rank);
    uint64_t callbacks = engine.callbacks;
    for (size_t rows = 16; rows > 0; rows--) {
        gpu_engine_run(&engine, rows);
        gpu_engine_verify(&engine, 0, engine.segments, "every count");
    }
    CHECK(engine.callbacks - callbacks == 16, "rank %d: %llu callbacks for one eager segment", self->rank,
          (unsigned long long)(engine.callbacks - callbacks));
    for (int round = 0; round < (quick ? 10 : 60); round++) {
        size_t rows = 1 + ranks_random(&seed) % 20; /* the same on all ranks */
        gpu_engine_run(&engine, rows);
        gpu_engine_verify(&engine, round, 3, "some counts");
    }
    CHECK_OK(tutti_runner_release(engine.runner, 8));
    gpu_engine_run(&engine, 7);
    gpu_engine_verify(&engine, 0, engine.segments, "a released bucket");
    CHECK_OK(tutti_runner_capture_rows(engine.runner, 5, engine.stream));
    gpu_engine_run(&engine, 6);
    gpu_engine_verify(&engine, 0, engine.segments, "a bucket that was captured again");
    tutti_runner_bucket_t bucket = gpu_engine_bucket(&engine, 5);
    CHECK(bucket.captures == 2 && bucket.state == TUTTI_BUCKET_CAPTURED && bucket.eager_runs == 1, "rank %d",
          self->rank);
    gpu_engine_close(&engine);
}

/* -- two runners ---------------------------------------------------------------------------------------------------------- */

/* Draft and target on one communicator, each with its stream and its lane, entered in turns: both are in flight. */
static void two_runners(struct gpu_rank *self, uint64_t seed)
{
    struct gpu_engine target;
    struct gpu_engine draft;
    engine_prepare(self, &target, few, FEW, 6);
    engine_prepare(self, &draft, few + 1, 2, 4);
    draft.lane = 1;
    draft.options.name = "draft";
    gpu_engine_open(&target);
    gpu_engine_open(&draft);
    CHECK_OK(tutti_runner_capture(draft.runner, draft.stream));
    CHECK_OK(tutti_runner_capture(target.runner, target.stream));
    for (int round = 0; round < (quick ? 6 : 40); round++) {
        size_t rows = 1 + ranks_random(&seed) % 18;
        tutti_plan_t plan = {.struct_bytes = sizeof(plan)};
        gpu_engine_fill(&target, rows);
        gpu_engine_fill(&draft, rows % 9 + 1);
        CHECK_OK(tutti_runner_begin(target.runner, rows, target.stream));
        CHECK_OK(tutti_runner_begin(draft.runner, rows % 9 + 1, draft.stream));
        for (int index = 0; index < target.segments; index++) {
            if (index < draft.segments) {
                CHECK_OK(tutti_runner_enter(draft.runner, index));
            }
            CHECK_OK(tutti_plan(self->comm, TUTTI_ALL_REDUCE, rows * 1000, TUTTI_F32, &plan));
            CHECK_OK(tutti_runner_enter(target.runner, index));
        }
        CHECK_OK(tutti_runner_end(target.runner));
        CHECK_OK(tutti_runner_end(draft.runner));
        gpu_engine_verify(&draft, 0, draft.segments, "the draft");
        gpu_engine_verify(&target, 0, target.segments, "the target");
    }
    gpu_engine_close(&draft);
    gpu_engine_run(&target, 3);
    gpu_engine_verify(&target, 0, target.segments, "the target alone");
    gpu_engine_close(&target);
}

/* -- captures that fail, and captures while serving ------------------------------------------------------------------------ */

static void one_rank_fails(struct gpu_rank *self, bool quietly)
{
    struct gpu_engine engine;
    char named[32];
    engine_prepare(self, &engine, few, FEW, 6);
    engine.fails_at = self->rank == self->scene->world - 1 ? 8 : 0;
    engine.fails_quietly = quietly;
    gpu_engine_open(&engine);
    CHECK_OK(tutti_runner_capture(engine.runner, engine.stream));
    tutti_runner_bucket_t bucket = gpu_engine_bucket(&engine, 8);
    (void)snprintf(named, sizeof(named), "rank %d", self->scene->world - 1);
    CHECK(bucket.state == TUTTI_BUCKET_EAGER && strstr(bucket.reason, named) != NULL, "rank %d: \"%s\"", self->rank,
          bucket.reason);
    CHECK(gpu_engine_stats(&engine).failed_captures == 1 && gpu_engine_stats(&engine).refused_commits == 0, "rank %d",
          self->rank);
    for (size_t rows = 1; rows <= 17; rows++) {
        gpu_engine_run(&engine, rows);
        gpu_engine_verify(&engine, (int)rows, 2, quietly ? "after an invalidated capture" : "after a refused capture");
    }
    CHECK(gpu_engine_bucket(&engine, 8).eager_runs == 4 && gpu_engine_bucket(&engine, 16).replayed_runs == 8, "rank %d",
          self->rank);
    engine.fails_at = 0;
    CHECK_OK(tutti_runner_capture_rows(engine.runner, 8, engine.stream));
    gpu_engine_run(&engine, 6);
    gpu_engine_verify(&engine, 0, engine.segments, "captured at last");
    CHECK(gpu_engine_bucket(&engine, 8).replayed_runs == 1, "rank %d", self->rank);
    gpu_engine_close(&engine);
}

static void while_serving(struct gpu_rank *self, uint64_t seed)
{
    struct gpu_engine engine;
    engine_prepare(self, &engine, few, FEW, 6);
    engine.options.flags = TUTTI_RUNNER_LAZY;
    engine.fails_at = self->rank == 0 ? 4 : 0;
    gpu_engine_open(&engine);
    for (int round = 0; round < (quick ? 12 : 40); round++) {
        size_t rows = round < 8 ? few[FEW - 1 - (size_t)round % FEW] : 1 + ranks_random(&seed) % 20;
        gpu_engine_run(&engine, rows);
        gpu_engine_verify(&engine, round, 3, "while serving");
    }
    tutti_runner_stats_t stats = gpu_engine_stats(&engine);
    CHECK(stats.captures == FEW && stats.failed_captures == 1 && stats.warm_ups == 0,
          "rank %d: %llu captures, %llu failed", self->rank, (unsigned long long)stats.captures,
          (unsigned long long)stats.failed_captures); /* that of the fixed segment, too */
    CHECK(gpu_engine_bucket(&engine, 4).state == TUTTI_BUCKET_EAGER && gpu_engine_bucket(&engine, 8).replayed_runs > 0,
          "rank %d: %s", self->rank, gpu_engine_bucket(&engine, 4).reason);
    gpu_engine_close(&engine);
}

static void body(struct gpu_rank *self, void *user)
{
    const uint64_t *seed = user;
    gpu_rank_join(self, 0, 2);
    captured_in_one_go(self, true);
    captured_in_one_go(self, false);
    counts_change(self, *seed);
    two_runners(self, *seed);
    one_rank_fails(self, false);
    one_rank_fails(self, true);
    while_serving(self, *seed);
    gpu_commit_until_empty(self, "runners that are gone");
    gpu_rank_leave(self);
}

int main(int count, char **arguments)
{
    uint64_t seed = ranks_seed();
    struct gpu_scene *scene = gpu_scene_make(count == 2 ? arguments[1] : "processes-2");
    quick = effort() == EFFORT_QUICK;
    const char *vendor = getenv("TUTTI_GPU_VENDOR");
    if (vendor != NULL && strcmp(vendor, "always") == 0) {
        values_integers(); /* whose sums do not depend on the vendor's order */
    }
    gpu_scene_run(scene, 280, body, &seed);
    return 0;
}
