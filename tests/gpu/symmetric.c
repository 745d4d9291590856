/* SPDX-License-Identifier: Apache-2.0 */
/*
 * all_reduce, all_gather and reduce_scatter of buffers that tutti_alloc made, which peers read and write directly; of ordinary ones;
 * and of both, different on different ranks, in one call: always right, whatever a rank's share in it. Eagerly and replayed, with
 * and without a commit, in place and not, with new inputs for every call.
 *
 *     symmetric threads-4     ranks are threads; they share devices if there are fewer of those
 *     symmetric processes-2   a process and a device for each rank
 */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu.h"
#include "harness/ranks.h"

#define AREA_BYTES ((size_t)3 << 20)
#define REPLAYS 3
#define SURE_BYTES 65536 /* from here on nothing is too small for the direct way */
/* Where a buffer lies. OTHER: on one rank only. */
enum place { SYMMETRIC, ORDINARY, ORDINARY_ON_OTHER, ELSEWHERE_ON_OTHER, ODD, PLACES };

struct scene {
    const char *backend;
    int world, devices;
    bool
        in_step; /* ranks are threads: nobody allocates, frees or instantiates while another one's kernel waits for him */
    uint64_t seed;
    pthread_barrier_t barrier;
};

struct rank {
    struct scene *scene;
    int rank;
    tutti_comm *comm;
    tutti_stream stream;
    unsigned char *symmetric[2], *ordinary[2]; /* for src, for dst */
    float *host;
    uint64_t call, sure; /* calls that must have gone directly */
};

struct buffers {
    tutti_collective kind;
    unsigned char *src, *dst;
    size_t src_count, dst_count; /* elements */
    size_t block;                /* elements of a rank's part, of gathers and scatters */
    bool sure;                   /* goes directly */
};

static void step(struct rank *self)
{
    if (self->scene->in_step) {
        (void)pthread_barrier_wait(&self->scene->barrier);
    }
}

/* A small whole number: sums are exact. */
static float value_of(uint64_t call, int rank, size_t index)
{
    uint64_t state = call * 1000003u + (uint64_t)rank * 7919u + index;
    return (float)(ranks_random(&state) % 2001) - 1000.0f;
}

static void upload(struct rank *self, const struct buffers *buffers)
{
    self->call++;
    for (size_t index = 0; index < buffers->src_count; index++) {
        self->host[index] = value_of(self->call, self->rank, index);
    }
    gpu_upload(buffers->src, self->host, buffers->src_count * sizeof(float), self->stream);
    gpu_stream_wait(self->stream); /* the host's copy may be written again */
}

static float wanted_at(const struct rank *self, const struct buffers *buffers, size_t index)
{
    if (buffers->kind == TUTTI_ALL_GATHER) {
        return value_of(self->call, (int)(index / buffers->block), index % buffers->block);
    }
    float sum = 0;
    size_t first = buffers->kind == TUTTI_REDUCE_SCATTER ? (size_t)self->rank * buffers->block : 0;
    for (int rank = 0; rank < self->scene->world; rank++) {
        sum += value_of(self->call, rank, first + index);
    }
    return sum;
}

static void verify(struct rank *self, const struct buffers *buffers, const char *how)
{
    self->sure += buffers->sure;
    gpu_download(self->host, buffers->dst, buffers->dst_count * sizeof(float), self->stream);
    CHECK_OK(tutti_comm_status(self->comm));
    for (size_t index = 0; index < buffers->dst_count; index++) {
        float wanted = wanted_at(self, buffers, index);
        CHECK(self->host[index] == wanted, "rank %d, call %llu, kind %d, %s, %zu elements: element %zu is %g, not %g",
              self->rank, (unsigned long long)self->call, (int)buffers->kind, how, buffers->dst_count, index,
              (double)self->host[index], (double)wanted);
    }
}

/* offset: bytes, the same on all ranks but where the place says otherwise. */
static unsigned char *place_at(struct rank *self, int which, enum place place, int other, size_t offset)
{
    bool differs = self->rank == other;
    if (place == ORDINARY || (place == ORDINARY_ON_OTHER && differs)) {
        return self->ordinary[which] + offset;
    }
    size_t shift = place == ELSEWHERE_ON_OTHER && differs ? 4096 : place == ODD ? 4 : 0;
    return self->symmetric[which] + offset + shift;
}

/* Elements of each buffer, from those of the longer one. */
static void draw_counts(struct rank *self, uint64_t *random, struct buffers *buffers)
{
    static const tutti_collective kinds[] = {TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER, TUTTI_REDUCE_SCATTER};
    size_t world = (size_t)self->scene->world;
    size_t most = (AREA_BYTES / 2 - 8192) / sizeof(float);
    size_t count = 1 + ranks_random(random) % (effort() == EFFORT_QUICK ? most / 40 : most);
    buffers->kind = kinds[ranks_random(random) % 3];
    buffers->block = count / world + 1;
    if (ranks_random(random) % 4 != 0) {
        count = (count + 3) / 4 * 4;
        buffers->block = (buffers->block + 3) / 4 * 4;
    }
    size_t all = buffers->kind == TUTTI_ALL_REDUCE ? count : buffers->block * world;
    buffers->src_count = buffers->kind == TUTTI_ALL_GATHER ? buffers->block : all;
    buffers->dst_count = buffers->kind == TUTTI_REDUCE_SCATTER ? buffers->block : all;
}

/* The same draws on all ranks. */
static struct buffers draw(struct rank *self, uint64_t *random)
{
    struct buffers buffers;
    enum place src = (enum place)(ranks_random(random) % PLACES);
    enum place dst = (enum place)(ranks_random(random) % PLACES);
    if (ranks_random(random) % 2 == 0) {
        src = dst = SYMMETRIC;
    }
    int other = (int)(ranks_random(random) % (uint64_t)self->scene->world);
    draw_counts(self, random, &buffers);
    bool in_place = ranks_random(random) % 3 == 0;
    size_t offset = ranks_random(random) % (AREA_BYTES / 2 / 16) * 16;
    size_t behind = (size_t)self->rank * buffers.block * sizeof(float);
    buffers.src = place_at(self, 0, src, other, offset);
    buffers.dst = place_at(self, 1, dst, other, offset / 32 * 16);
    if (in_place && buffers.kind == TUTTI_ALL_GATHER) {
        buffers.src = buffers.dst + behind;
        src = dst;
    } else if (in_place) {
        buffers.dst = buffers.src + (buffers.kind == TUTTI_REDUCE_SCATTER ? behind : 0);
        dst = src;
    }
    size_t longer = buffers.src_count > buffers.dst_count ? buffers.src_count : buffers.dst_count;
    buffers.sure = src == SYMMETRIC && dst == SYMMETRIC && longer * sizeof(float) >= SURE_BYTES && longer % 4 == 0 &&
                   buffers.src_count % 4 == 0 && buffers.dst_count % 4 == 0;
    return buffers;
}

static void start(struct rank *self, const struct buffers *buffers)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = self->stream};
    if (buffers->kind == TUTTI_ALL_REDUCE) {
        CHECK_OK(
            tutti_all_reduce(self->comm, buffers->src, buffers->dst, buffers->src_count, TUTTI_F32, TUTTI_SUM, &call));
    } else if (buffers->kind == TUTTI_ALL_GATHER) {
        CHECK_OK(tutti_all_gather(self->comm, buffers->src, buffers->dst, buffers->block * sizeof(float), &call));
    } else {
        CHECK_OK(
            tutti_reduce_scatter(self->comm, buffers->src, buffers->dst, buffers->block, TUTTI_F32, TUTTI_SUM, &call));
    }
}

static void run_eager(struct rank *self, uint64_t *random)
{
    struct buffers buffers = draw(self, random);
    upload(self, &buffers);
    start(self, &buffers);
    verify(self, &buffers, "eager");
}

/* Two calls, so that a rank may be done with the first one while a peer still reads its buffers. */
static void run_captured(struct rank *self, uint64_t *random)
{
    struct buffers first = draw(self, random), second = draw(self, random);
    second.dst = self->ordinary[1] + AREA_BYTES;
    second.src = self->ordinary[0] + AREA_BYTES;
    second.sure = false; /* whether a commit makes it so depends on whose memory that is */
    step(self);
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    start(self, &first);
    start(self, &second);
    gpu_graph graph = gpu_capture_end(self->stream);
    step(self);
    int commit_before = (int)(ranks_random(random) % (REPLAYS + 1));
    for (int replay = 0; replay <= REPLAYS; replay++) {
        if (replay == commit_before) {
            step(self);
            CHECK_OK(tutti_commit(self->comm));
            step(self);
        }
        if (replay == REPLAYS) {
            break;
        }
        upload(self, &second);
        uint64_t call_second = self->call;
        upload(self, &first);
        gpu_graph_launch(graph, self->stream);
        verify(self, &first, "replayed");
        self->call = call_second;
        verify(self, &second, "replayed second");
        self->call = call_second + 1;
    }
    step(self);
    gpu_graph_destroy(graph);
    step(self);
}

static void rank_run(int rank, int world, const char *rendezvous, void *user)
{
    struct scene *scene = user;
    struct rank self = {.scene = scene, .rank = rank};
    tutti_comm_options options;
    uint64_t random = scene->seed;
    gpu_use(scene->backend, rank % scene->devices);
    self.stream = gpu_stream_create();
    self.host = malloc(AREA_BYTES);
    CHECK(self.host != NULL, "memory");
    for (int which = 0; which < 2; which++) {
        self.ordinary[which] = gpu_alloc(3 * AREA_BYTES);
    }
    memset(&options, 0, sizeof(options));
    options = (tutti_comm_options){.struct_bytes = sizeof(options),
                                   .backend = scene->backend,
                                   .rank = rank,
                                   .world = world,
                                   .device = rank % scene->devices,
                                   .rendezvous = rendezvous,
                                   .timeout_ms = 30000,
                                   .flags = world > scene->devices ? TUTTI_COMM_SHARE_DEVICE : 0};
    step(&self);
    CHECK_OK(tutti_comm_create(&options, &self.comm));
    for (int which = 0; which < 2; which++) {
        void *memory = NULL;
        CHECK_OK(tutti_alloc(self.comm, AREA_BYTES, &memory));
        self.symmetric[which] = memory;
    }
    for (int round = 0; round < (effort() == EFFORT_QUICK ? 4 : 25); round++) {
        run_eager(&self, &random);
        run_captured(&self, &random);
    }
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_comm_stats(self.comm, &stats));
    CHECK(stats.direct_calls >= self.sure, "%llu calls went directly, and at least %llu could",
          (unsigned long long)stats.direct_calls, (unsigned long long)self.sure);
    CHECK(stats.staged_calls > 0, "no call was staged");
    step(&self);
    CHECK_OK(tutti_free(self.comm, self.symmetric[0]));
    tutti_comm_destroy(self.comm);
    step(&self);
    for (int which = 0; which < 2; which++) {
        gpu_free(self.ordinary[which]);
    }
    gpu_stream_destroy(self.stream);
    free(self.host);
}

int main(int count, char **arguments)
{
    const char *how = count == 2 ? arguments[1] : "threads-2";
    const char *dash = strchr(how, '-');
    const char *backend = getenv("TUTTI_TEST_GPU");
    char why[256];
    CHECK(dash != NULL && dash[1] >= '2' && dash[1] <= '8', "'%s' is not threads-N or processes-N", how);
    struct scene scene = {
        .backend = backend != NULL ? backend : "cuda", .world = dash[1] - '0', .in_step = how[0] == 't'};
    CHECK(setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0 && setenv("GPU_MAX_HW_QUEUES", "32", 0) == 0 &&
              setenv("TUTTI_GPU_DIRECT_BYTES_MIN", "1", 0) == 0 &&
              setenv("TUTTI_GPU_ONE_SHOT_BYTES_MAX", "4096", 0) == 0,
          "setenv");
    scene.devices = gpu_count(scene.backend, why, sizeof(why));
    if (scene.devices == 0) {
        SKIP("no %s device: %s", scene.backend, why);
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
