/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hundred thousand replays of graphs with mixed collectives, between eager calls: inputs are made on the device from a count of
 * replays that it keeps itself, and every element of every result is checked there (replays.cu). A stale, early or misplaced
 * word in any of them is seen.
 *
 *     replays threads-4     ranks are threads; they share devices if there are fewer of those
 *     replays processes-2   a process and a device for each rank
 *
 *     replays early-2       processes, with TUTTI_COMM_ONLY_COLLECTIVE_STREAM: one lane, on one stream, launched
 *                           programmatically, and between two collectives sometimes a kernel that never waits
 *
 * TUTTI_TEST_REPLAYS: how many in all.
 */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/replays.h"
#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu.h"
#include "harness/ranks.h"

#define GRAPHS 4
#define JOBS 10 /* of a graph */
#define EAGER_JOBS 6
#define JOB_BYTES 300000 /* of one buffer, at most */
#define BATCH 250        /* replays between two looks at the status */

struct scene {
    const char *backend;
    int world, devices;
    uint64_t replays, seed;
    bool early;
    bool in_step; /* ranks are threads: nobody allocates or frees while another one's kernel waits for him */
    pthread_barrier_t barrier;
};

struct rank {
    struct scene *scene;
    int rank;
    tutti_comm *comm;
    tutti_stream stream, other;
    gpu_kernel count, fill, check, pass;
    unsigned char *memory; /* report, then the count of replays */
    struct replay_job graphs[GRAPHS][JOBS], eager[EAGER_JOBS];
    gpu_graph captured[GRAPHS];
};

static void step(struct rank *self)
{
    if (self->scene->in_step) {
        (void)pthread_barrier_wait(&self->scene->barrier);
    }
}

/* -- jobs -------------------------------------------------------------------------------------------- */

/* Mostly small, as in decoding; some that take two hops, some that take several launches. */
static uint32_t draw_count(uint64_t *random, uint32_t most)
{
    static const uint32_t scales[] = {16, 200, 2000, 2000, 20000, 150000};
    uint32_t scale = scales[ranks_random(random) % (sizeof(scales) / sizeof(scales[0]))];
    uint32_t count = 1 + (uint32_t)(ranks_random(random) % scale);
    if (ranks_random(random) % 2 == 0) {
        count = (count + 7) / 8 * 8; /* whole vectors: the short path */
    }
    return count < most ? count : most;
}

/* The same on all ranks but for addresses. */
static struct replay_job job_draw(struct rank *self, uint64_t *random, uint32_t call)
{
    struct replay_job job;
    uint32_t world = (uint32_t)self->scene->world;
    memset(&job, 0, sizeof(job));
    job.kind = (uint32_t)(ranks_random(random) % 8);
    job.kind = job.kind >= REPLAY_KINDS ? REPLAY_ALL_REDUCE : job.kind; /* as engines do: mostly that */
    job.dtype = (uint32_t)(ranks_random(random) % 3);
    bool reduces = job.kind == REPLAY_ALL_REDUCE || job.kind == REPLAY_REDUCE_SCATTER;
    job.width = !reduces ? 1 : job.dtype == TUTTI_F32 ? 4 : 2;
    bool shares = job.kind != REPLAY_ALL_REDUCE && job.kind != REPLAY_BROADCAST;
    job.count = draw_count(random, JOB_BYTES / job.width / (shares ? world : 1));
    bool src_shares = job.kind == REPLAY_REDUCE_SCATTER || job.kind == REPLAY_ALL_TO_ALL;
    bool dst_shares = job.kind == REPLAY_ALL_GATHER || job.kind == REPLAY_ALL_TO_ALL;
    job.src_count = job.count * (src_shares ? world : 1);
    job.dst_count = job.count * (dst_shares ? world : 1);
    job.root = (uint32_t)(ranks_random(random) % world);
    job.call = call;
    job.rank = (uint32_t)self->rank;
    job.world = world;
    job.src = (uint64_t)(uintptr_t)gpu_alloc((size_t)job.src_count * job.width);
    job.dst = job.src; /* in place, where that is allowed */
    if (job.kind != REPLAY_BROADCAST && (job.kind != REPLAY_ALL_REDUCE || ranks_random(random) % 3 != 0)) {
        job.dst = (uint64_t)(uintptr_t)gpu_alloc((size_t)job.dst_count * job.width);
    }
    job.report = (uint64_t)(uintptr_t)self->memory;
    job.replay = job.report + sizeof(struct replay_report);
    return job;
}

static void job_free(const struct replay_job *job)
{
    gpu_free((void *)(uintptr_t)job->src);
    if (job->dst != job->src) {
        gpu_free((void *)(uintptr_t)job->dst);
    }
}

static void collective(struct rank *self, const struct replay_job *job, tutti_stream stream, uint32_t lane)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream, .lane = lane};
    const void *src = (const void *)(uintptr_t)job->src;
    void *dst = (void *)(uintptr_t)job->dst;
    tutti_dtype dtype = (tutti_dtype)job->dtype;
    switch (job->kind) {
    case REPLAY_ALL_REDUCE:
        CHECK_OK(tutti_all_reduce(self->comm, src, dst, job->count, dtype, TUTTI_SUM, &call));
        break;
    case REPLAY_REDUCE_SCATTER:
        CHECK_OK(tutti_reduce_scatter(self->comm, src, dst, job->count, dtype, TUTTI_SUM, &call));
        break;
    case REPLAY_ALL_GATHER:
        CHECK_OK(tutti_all_gather(self->comm, src, dst, job->count, &call));
        break;
    case REPLAY_BROADCAST:
        CHECK_OK(tutti_broadcast(self->comm, dst, job->count, (int)job->root, &call));
        break;
    default:
        CHECK_OK(tutti_all_to_all(self->comm, src, dst, job->count, &call));
        break;
    }
}

static unsigned blocks_for(uint32_t count)
{
    unsigned blocks = (count + 1023) / 1024;
    return blocks < 64 ? blocks : 64;
}

static void fill(struct rank *self, struct replay_job *job, tutti_stream stream)
{
    void *parameters[] = {job};
    gpu_launch(self->fill, blocks_for(job->src_count), 256, stream, parameters);
}

static void check(struct rank *self, struct replay_job *job, tutti_stream stream)
{
    void *parameters[] = {job};
    gpu_launch(self->check, blocks_for(job->dst_count), 256, stream, parameters);
}

static void job_enqueue(struct rank *self, struct replay_job *job, tutti_stream stream, uint32_t lane)
{
    fill(self, job, stream);
    collective(self, job, stream, lane);
    check(self, job, stream);
}

/* One behind the other, every other time with a kernel between them that waits for nothing. */
static void pair_enqueue(struct rank *self, struct replay_job *jobs, bool passes)
{
    uint64_t nowhere = 0;
    void *parameters[] = {&nowhere};
    fill(self, &jobs[0], self->stream);
    fill(self, &jobs[1], self->stream);
    collective(self, &jobs[0], self->stream, 0);
    if (passes) {
        gpu_launch_programmatic(self->pass, self->stream, parameters);
    }
    collective(self, &jobs[1], self->stream, 0);
    check(self, &jobs[0], self->stream);
    check(self, &jobs[1], self->stream);
}

/* -- graphs ------------------------------------------------------------------------------------------ */

static void count_replay(struct rank *self)
{
    uint64_t address = (uint64_t)(uintptr_t)(self->memory + sizeof(struct replay_report));
    void *parameters[] = {&address};
    gpu_launch(self->count, 1, 1, self->stream, parameters);
}

/* Lane 1 in a parallel branch, in every other graph. */
static gpu_graph capture(struct rank *self, struct replay_job *jobs, bool branches)
{
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    count_replay(self);
    if (branches) {
        gpu_stream_follow(self->other, self->stream);
    }
    for (int index = 0; self->scene->early && index < JOBS; index += 2) {
        pair_enqueue(self, &jobs[index], index % 4 == 0);
    }
    for (int index = 0; !self->scene->early && index < JOBS; index++) {
        bool second = branches && index % 3 == 2;
        job_enqueue(self, &jobs[index], second ? self->other : self->stream, second ? 1 : 0);
    }
    if (branches) {
        gpu_stream_follow(self->stream, self->other);
    }
    return gpu_capture_end(self->stream);
}

static void prepare(struct rank *self, uint64_t *random)
{
    const struct replay_report nothing = {0};
    const uint32_t zero = 0;
    char why[256];
    self->memory = gpu_alloc(4096);
    self->stream = gpu_stream_create();
    self->other = gpu_stream_create();
    gpu_upload(self->memory, &nothing, sizeof(nothing), self->stream);
    gpu_upload(self->memory + sizeof(nothing), &zero, sizeof(zero), self->stream);
    gpu_stream_wait(self->stream);
    gpu_module module = gpu_module_load(TUTTI_TEST_REPLAY_KERNELS, why, sizeof(why));
    CHECK(module != NULL, "%s: %s", TUTTI_TEST_REPLAY_KERNELS, why);
    self->count = gpu_kernel_find(module, "replay_count");
    self->fill = gpu_kernel_find(module, "replay_fill");
    self->check = gpu_kernel_find(module, "replay_check");
    self->pass = gpu_kernel_find(module, "replay_pass");
    for (uint32_t index = 0; index < GRAPHS * JOBS; index++) {
        self->graphs[index / JOBS][index % JOBS] = job_draw(self, random, index);
    }
    for (uint32_t index = 0; index < EAGER_JOBS; index++) {
        self->eager[index] = job_draw(self, random, GRAPHS * JOBS + index);
    }
    /* Once outside of a capture: a kernel's first launch may load it. */
    void *parameters[] = {&self->eager[0]};
    gpu_launch(self->fill, 1, 32, self->stream, parameters);
    gpu_stream_wait(self->stream);
}

static void check_report(struct rank *self, uint64_t done, bool last)
{
    struct replay_report report;
    gpu_stream_wait(self->stream);
    CHECK_OK(tutti_comm_status(self->comm));
    gpu_download(&report, self->memory, sizeof(report), self->stream);
    CHECK(
        report.wrong == 0,
        "rank %d after %llu replays: %u elements are wrong; the first that was seen: replay %u, call %u, element %u is "
        "0x%x, not 0x%x",
        self->rank, (unsigned long long)done, report.wrong, report.replay, report.call, report.index, report.got,
        report.wanted);
    CHECK(report.checked > 0, "nothing was checked");
    if (last && self->rank == 0) {
        printf("%llu replays of %d graphs, %llu elements checked\n", (unsigned long long)done, GRAPHS,
               (unsigned long long)report.checked);
    }
}

static void replay_all(struct rank *self, uint64_t *random)
{
    const uint64_t replays = self->scene->replays;
    for (uint64_t done = 0; done < replays; done++) {
        uint64_t draw = ranks_random(random);
        gpu_graph_launch(self->captured[draw % GRAPHS], self->stream);
        if (draw >> 8 & 1) {
            count_replay(self);
            job_enqueue(self, &self->eager[(draw >> 16) % EAGER_JOBS], self->stream, 0);
        }
        if (done % BATCH == BATCH - 1 || done + 1 == replays) {
            check_report(self, done + 1, done + 1 == replays);
        }
    }
}

/* -- ranks -------------------------------------------------------------------------------------------- */

static tutti_comm_options options_for(const struct scene *scene)
{
    tutti_comm_options options;
    memset(&options, 0, sizeof(options));
    options.struct_bytes = sizeof(options);
    options.backend = scene->backend;
    options.world = scene->world;
    options.lanes = scene->early ? 1 : 2;
    options.timeout_ms = 30000;
    options.flags = scene->early                    ? TUTTI_COMM_ONLY_COLLECTIVE_STREAM
                    : scene->world > scene->devices ? TUTTI_COMM_SHARE_DEVICE
                                                    : 0;
    return options;
}

static void rank_run(int rank, int world, const char *rendezvous, void *user)
{
    struct scene *scene = user;
    struct rank self = {.scene = scene, .rank = rank};
    uint64_t random = scene->seed;
    tutti_comm_options options = options_for(scene);
    gpu_use(scene->backend, rank % scene->devices);
    prepare(&self, &random);
    step(&self);
    options.rank = rank;
    options.device = rank % scene->devices;
    options.rendezvous = rendezvous;
    (void)world;
    CHECK_OK(tutti_comm_create(&options, &self.comm));
    for (int index = 0; index < GRAPHS; index++) {
        self.captured[index] = capture(&self, self.graphs[index], options.lanes > 1 && index % 2 == 1);
    }
    step(&self);
    replay_all(&self, &random);
    step(&self);
    for (int index = 0; index < GRAPHS; index++) {
        gpu_graph_destroy(self.captured[index]);
    }
    tutti_comm_destroy(self.comm);
    step(&self);
    for (int index = 0; index < GRAPHS * JOBS; index++) {
        job_free(&self.graphs[index / JOBS][index % JOBS]);
    }
    for (int index = 0; index < EAGER_JOBS; index++) {
        job_free(&self.eager[index]);
    }
    gpu_free(self.memory);
    gpu_stream_destroy(self.other);
    gpu_stream_destroy(self.stream);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != 0 ? strtoull(text, NULL, 0) : otherwise;
}

int main(int count, char **arguments)
{
    const char *how = count == 2 ? arguments[1] : "threads-2";
    const char *dash = strchr(how, '-');
    char why[256];
    CHECK(dash != NULL && dash[1] >= '2' && dash[1] <= '8', "'%s' is not threads-N, processes-N or early-N", how);
    struct scene scene = {.backend = "cuda", .world = dash[1] - '0', .in_step = how[0] == 't'};
    scene.early = how[0] == 'e';
    scene.replays = number_from("TUTTI_TEST_REPLAYS", effort() == EFFORT_QUICK ? 2000 : 100000);
    CHECK(setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0, "setenv");
    scene.devices = gpu_count(scene.backend, why, sizeof(why));
    if (scene.devices == 0) {
        SKIP("no %s device: %s", scene.backend, why);
    }
    if (TUTTI_TEST_REPLAY_KERNELS[0] == 0) {
        SKIP("built without nvcc: the kernels that make and check the inputs are missing");
    }
    if (!scene.in_step && scene.devices < scene.world) {
        SKIP("%d devices, and %d processes want one each", scene.devices, scene.world);
    }
    scene.seed = ranks_seed();
    CHECK(pthread_barrier_init(&scene.barrier, NULL, (unsigned)scene.world) == 0, "barrier");
    ranks_run(scene.in_step ? RANKS_THREADS : RANKS_PROCESSES, scene.world, 280, rank_run, &scene);
    (void)pthread_barrier_destroy(&scene.barrier);
    return 0;
}
