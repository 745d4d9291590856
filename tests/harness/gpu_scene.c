/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/gpu_scene.h"

#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/values.h"

#define WORLD_MAX 8
#define TIMEOUT_MS 60000u

/* -- ranks -------------------------------------------------------------------------------------------------- */

/* Who it was that gave up: a device machine shows what a program printed, and no core. */
static void trace_abort(int signal_number)
{
    void *frames[64];
    (void)signal_number;
    backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
    (void)signal(SIGABRT, SIG_DFL);
}

struct gpu_scene *gpu_scene_make(const char *how)
{
    const char *dash = strchr(how, '-');
    const char *backend = getenv("TUTTI_TEST_GPU");
    char why[256];
    struct gpu_scene *scene =
        mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); /* the program's */
    CHECK(scene != MAP_FAILED, "mmap");
    void *first[1];
    (void)backtrace(first, 1); /* loads what it needs, which it must not do while it traces */
    CHECK(signal(SIGABRT, trace_abort) != SIG_ERR, "signal");
    CHECK(dash != NULL && dash[1] >= '2' && dash[1] <= '0' + WORLD_MAX, "'%s' is not threads-N or processes-N", how);
    scene->backend = backend != NULL ? backend : "cuda";
    scene->world = dash[1] - '0';
    scene->threads = how[0] == 't';
    /* Streams that share a hardware queue wait for each other, and ranks on one device must not. */
    CHECK(setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0 && setenv("GPU_MAX_HW_QUEUES", "32", 0) == 0 &&
              setenv("TUTTI_GPU_DIRECT_BYTES_MIN", "1", 0) == 0 &&
              setenv("TUTTI_GPU_ONE_SHOT_BYTES_MAX", "4096", 0) == 0,
          "setenv");
    scene->devices = gpu_count(scene->backend, why, sizeof(why));
    if (scene->devices == 0) {
        SKIP("no %s device: %s", scene->backend, why);
    }
    if (!scene->threads && scene->devices < scene->world) {
        SKIP("%d devices, and %d processes want one each", scene->devices, scene->world);
    }
    pthread_barrierattr_t shared;
    CHECK(pthread_barrierattr_init(&shared) == 0 &&
              pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED) == 0 &&
              pthread_barrier_init(&scene->barrier, &shared, (unsigned)scene->world) == 0,
          "barrier");
    return scene;
}

static void rank_run(int rank, int world, const char *rendezvous, void *user)
{
    struct gpu_scene *scene = user;
    struct gpu_rank self = {.scene = scene,
                            .rank = rank,
                            .device = scene->own_device_only ? 0 : rank % scene->devices,
                            .rendezvous = rendezvous,
                            .host_bytes = 1 << 16};
    (void)world;
    if (scene->prepare != NULL) {
        scene->prepare(rank, scene->user);
    }
    gpu_use(scene->backend, self.device);
    self.stream = gpu_stream_create();
    self.host = malloc(self.host_bytes);
    CHECK(self.host != NULL, "memory");
    gpu_meet(&self);
    scene->body(&self, scene->user);
    gpu_meet(&self);
    gpu_stream_destroy(self.stream);
    free(self.host);
}

void gpu_scene_run(struct gpu_scene *scene, int seconds, gpu_body body, void *user)
{
    scene->body = body;
    scene->user = user;
    ranks_run(scene->threads ? RANKS_THREADS : RANKS_PROCESSES, scene->world, seconds, rank_run, scene);
}

tutti_status gpu_rank_try_join(struct gpu_rank *self, uint32_t flags, int lanes)
{
    const struct gpu_scene *scene = self->scene;
    tutti_comm_options options;
    memset(&options, 0, sizeof(options));
    options.struct_bytes = sizeof(options);
    options.backend = scene->backend;
    options.rank = self->rank;
    options.world = scene->world;
    options.device = self->device;
    options.rendezvous = self->rendezvous;
    options.timeout_ms = TIMEOUT_MS;
    options.lanes = lanes;
    options.flags = flags | (scene->world > scene->devices ? TUTTI_COMM_SHARE_DEVICE : 0);
    gpu_step(self);
    tutti_status status = tutti_comm_create(&options, &self->comm);
    gpu_step(self);
    return status;
}

void gpu_rank_join(struct gpu_rank *self, uint32_t flags, int lanes)
{
    CHECK_OK(gpu_rank_try_join(self, flags, lanes));
}

void gpu_rank_leave(struct gpu_rank *self)
{
    gpu_step(self);
    CHECK_OK(tutti_comm_status(self->comm));
    gpu_meet(self); /* nobody leaves before all have looked */
    tutti_comm_destroy(self->comm);
    self->comm = NULL;
    gpu_step(self);
}

enum gpu_memory_kind gpu_shared_kind(const struct gpu_rank *self)
{
    return self->scene->threads && strcmp(self->scene->backend, "cuda") == 0 ? GPU_VMM_FD : GPU_PLAIN;
}

void gpu_meet(struct gpu_rank *self)
{
    (void)pthread_barrier_wait(&self->scene->barrier);
}

void gpu_step(struct gpu_rank *self)
{
    if (self->scene->threads) {
        gpu_meet(self);
    }
}

/* -- collectives -------------------------------------------------------------------------------------------- */

static size_t world_of(const struct gpu_rank *self)
{
    return (size_t)self->scene->world;
}

size_t gpu_work_src_bytes(const struct gpu_rank *self, const struct gpu_work *work)
{
    return work->kind == TUTTI_REDUCE_SCATTER ? work->bytes * world_of(self) : work->bytes;
}

size_t gpu_work_dst_bytes(const struct gpu_rank *self, const struct gpu_work *work)
{
    return work->kind == TUTTI_ALL_GATHER ? work->bytes * world_of(self) : work->bytes;
}

static void host_room(struct gpu_rank *self, size_t bytes)
{
    if (bytes > self->host_bytes) {
        free(self->host);
        self->host = malloc(bytes);
        self->host_bytes = bytes;
        CHECK(self->host != NULL, "%zu bytes", bytes);
    }
}

void gpu_work_fill(struct gpu_rank *self, struct gpu_work *work)
{
    size_t bytes = gpu_work_src_bytes(self, work);
    work->call = ++self->call;
    host_room(self, bytes);
    if (work->kind == TUTTI_ALL_GATHER) {
        values_fill_bytes(self->host, work->call, self->rank, 0, bytes);
    } else {
        values_fill(self->host, work->dtype, work->call, self->rank, 0, bytes / tutti_dtype_bytes(work->dtype));
    }
    gpu_upload(work->src, self->host, bytes, self->stream);
    gpu_stream_wait(self->stream); /* the host's copy may be written again */
}

tutti_status gpu_work_call(struct gpu_rank *self, const struct gpu_work *work, tutti_stream stream)
{
    const tutti_call call = {
        .struct_bytes = sizeof(call), .stream = stream != NULL ? stream : self->stream, .lane = work->lane};
    size_t count = work->bytes / tutti_dtype_bytes(work->dtype);
    switch (work->kind) {
    case TUTTI_ALL_REDUCE:
        return tutti_all_reduce(self->comm, work->src, work->dst, count, work->dtype, TUTTI_SUM, &call);
    case TUTTI_REDUCE_SCATTER:
        return tutti_reduce_scatter(self->comm, work->src, work->dst, count, work->dtype, TUTTI_SUM, &call);
    case TUTTI_ALL_GATHER:
        return tutti_all_gather(self->comm, work->src, work->dst, work->bytes, &call);
    default:
        CHECK(false, "kind %d", (int)work->kind);
        return TUTTI_ERR_ARGUMENT;
    }
}

void gpu_work_verify(struct gpu_rank *self, const struct gpu_work *work, const char *what)
{
    size_t bytes = gpu_work_dst_bytes(self, work);
    size_t count = work->bytes / tutti_dtype_bytes(work->dtype);
    bool right = true;
    host_room(self, bytes);
    gpu_download(self->host, work->dst, bytes, self->stream);
    CHECK_OK(tutti_comm_status(self->comm));
    if (work->kind == TUTTI_ALL_GATHER) {
        for (int rank = 0; rank < self->scene->world && right; rank++) {
            right = values_check_bytes(self->host + (size_t)rank * work->bytes, work->call, rank, 0, work->bytes);
        }
    } else {
        size_t first = work->kind == TUTTI_REDUCE_SCATTER ? (size_t)self->rank * count : 0;
        right = values_check(self->host, work->dtype, TUTTI_SUM, work->call, self->scene->world, first, count);
    }
    CHECK(right, "rank %d: %s: collective %d of %zu bytes, call %llu", self->rank, what, (int)work->kind, work->bytes,
          (unsigned long long)work->call);
}

gpu_graph gpu_works_capture(struct gpu_rank *self, const struct gpu_work *works, int count)
{
    gpu_step(self);
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    for (int index = 0; index < count; index++) {
        CHECK_OK(gpu_work_call(self, &works[index], NULL));
    }
    gpu_graph graph = gpu_capture_end(self->stream);
    gpu_step(self);
    return graph;
}

void gpu_works_replay(struct gpu_rank *self, gpu_graph graph, struct gpu_work *works, int count, const char *what)
{
    for (int index = 0; index < count; index++) {
        gpu_work_fill(self, &works[index]);
    }
    gpu_graph_launch(graph, self->stream);
    for (int index = 0; index < count; index++) {
        gpu_work_verify(self, &works[index], what);
    }
    gpu_step(self);
}

/* -- counts ------------------------------------------------------------------------------------------------- */

tutti_stats gpu_stats(const struct gpu_rank *self)
{
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_comm_stats(self->comm, &stats));
    return stats;
}

void gpu_stats_grew(const struct gpu_rank *self, const tutti_stats *before, uint64_t direct, uint64_t staged,
                    const char *what)
{
    tutti_stats now = gpu_stats(self);
    CHECK(now.direct_calls - before->direct_calls == direct && now.staged_calls - before->staged_calls == staged,
          "rank %d: %s: %llu calls went directly and %llu staged, not %llu and %llu", self->rank, what,
          (unsigned long long)(now.direct_calls - before->direct_calls),
          (unsigned long long)(now.staged_calls - before->staged_calls), (unsigned long long)direct,
          (unsigned long long)staged);
}

/* Whether any rank says so. */
static bool anybody(struct gpu_rank *self, bool mine)
{
    struct gpu_scene *scene = self->scene;
    bool found = false;
    scene->says[self->rank] = mine;
    gpu_meet(self);
    for (int rank = 0; rank < scene->world; rank++) {
        found = found || scene->says[rank];
    }
    gpu_meet(self);
    return found;
}

static bool is_empty(const tutti_stats *stats)
{
    return stats->slots_taken == 0 && stats->mappings == 0 && stats->committed_calls == 0 &&
           stats->pending_calls == 0 && stats->suspended_calls == 0 && stats->staged_for_good_calls == 0;
}

void gpu_commit_until_empty(struct gpu_rank *self, const char *what)
{
    const struct timespec pause = {0, 10000000};
    tutti_stats stats = gpu_stats(self);
    for (int attempt = 0; attempt < 300 && anybody(self, attempt == 0 || !is_empty(&stats)); attempt++) {
        tutti_status status = tutti_commit(self->comm);
        CHECK(status == TUTTI_OK || status == TUTTI_ERR_CAPTURE, "%s: %s", what, tutti_last_error());
        stats = gpu_stats(self);
        (void)nanosleep(&pause, NULL);
    }
    CHECK(is_empty(&stats),
          "rank %d: %s: %llu slots, %llu mappings, %llu committed, %llu pending and %llu staged calls are left",
          self->rank, what, (unsigned long long)stats.slots_taken, (unsigned long long)stats.mappings,
          (unsigned long long)stats.committed_calls, (unsigned long long)stats.pending_calls,
          (unsigned long long)stats.staged_for_good_calls);
}
