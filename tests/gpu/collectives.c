/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every collective x type x operator x size on real devices: eagerly on a stream, captured and replayed with new inputs every
 * time, and in graphs that mix many of them on two lanes and two streams.
 *
 *     collectives threads-4     ranks are threads; they share devices if there are fewer of those
 *     collectives processes-2   a process and a device for each rank
 *     collectives all-3         one thread drives all ranks (tutti_comm_create_all)
 *
 * TUTTI_TEST_GPU: the backend, cuda by default. TUTTI_GPU_VENDOR=always: the vendor's collectives, with numbers whose sums are
 * exact, and a device for each rank. Devices that ranks of one process share bring the rule that nobody allocates,
 * frees or instantiates while another rank's kernel waits for him: the ranks step together there.
 */
#include <pthread.h>
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu.h"
#include "harness/job.h"
#include "harness/ranks.h"

#define WORLD_MAX 8
#define REPLAYS 3
#define MIX_JOBS 20
#define MIX_BYTES 70000

struct scene {
    const char *backend;
    int world, devices;
    bool vendor;  /* the vendor's collectives */
    bool in_step; /* ranks are threads */
    pthread_barrier_t barrier;
};

struct rank {
    struct scene *scene;
    int rank;
    tutti_comm *comm;
    tutti_stream stream, other;
    struct job_buffers buffers;
    unsigned char *device_src, *device_dst;
    uint64_t call;
};

/* Where host memory of the job's areas lies on the device. */
struct mirror {
    struct area *host;
    unsigned char *device;
};

static void step(struct rank *self)
{
    if (self->scene->in_step) {
        (void)pthread_barrier_wait(&self->scene->barrier);
    }
}

/* -- one job on the device --------------------------------------------------------------------------- */

/* With guards. */
static void span_of(const struct area *area, unsigned char **start, size_t *bytes)
{
    *start = area->span - VALUES_GUARD_BYTES;
    *bytes = area->span_bytes + (size_t)2 * VALUES_GUARD_BYTES;
}

static void mirror_up(const struct mirror *mirror, tutti_stream stream)
{
    unsigned char *start;
    size_t bytes;
    span_of(mirror->host, &start, &bytes);
    gpu_upload(mirror->device + (start - mirror->host->memory), start, bytes, stream);
}

static void mirror_down(const struct mirror *mirror, tutti_stream stream)
{
    unsigned char *start;
    size_t bytes;
    span_of(mirror->host, &start, &bytes);
    gpu_download(start, mirror->device + (start - mirror->host->memory), bytes, stream);
}

static void *on_device(const struct mirror *mirrors, const void *host)
{
    for (int index = 0; index < 2; index++) {
        const struct area *area = mirrors[index].host;
        const unsigned char *at = host;
        if (at >= area->memory && at < area->memory + area->memory_bytes) {
            return mirrors[index].device + (at - area->memory);
        }
    }
    CHECK(0, "a job's buffer lies nowhere");
    return NULL;
}

static void job_up(struct job *job, const struct mirror *mirrors, uint64_t call, tutti_stream stream)
{
    job_fill(job, call);
    mirror_up(&mirrors[0], stream);
    mirror_up(&mirrors[1], stream);
}

static void job_down(const struct mirror *mirrors, tutti_stream stream)
{
    mirror_down(&mirrors[0], stream);
    mirror_down(&mirrors[1], stream);
}

static void job_enqueue(struct rank *self, const struct job *job, const struct mirror *mirrors, tutti_stream stream,
                        uint32_t lane)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream, .lane = lane};
    struct job there = *job;
    there.src = on_device(mirrors, job->src);
    there.dst = on_device(mirrors, job->dst);
    CHECK_OK(job_issue(&there, self->comm, &call));
}

/* -- the list of jobs --------------------------------------------------------------------------------- */

static size_t element_counts(size_t element_bytes, size_t *counts)
{
    size_t megabyte = effort() == EFFORT_QUICK ? 1u << 15 : 1u << 20;
    size_t list[] = {0, 1, 8, 257, 4096 / element_bytes, 150001 / element_bytes, megabyte / element_bytes + 3};
    memcpy(counts, list, sizeof(list));
    return sizeof(list) / sizeof(list[0]);
}

#define SIZES 7

/* The index-th job, in an order that is the same on all ranks. False past the last. */
static bool job_at(size_t index, int world, struct job *job)
{
    size_t counts[SIZES];
    memset(job, 0, sizeof(*job));
    job->in_place = index % 2 == 1;
    size_t position = index / 2;
    const size_t reductions = (size_t)2 * 9 * SIZES; /* 2 reductions x 3 types x 3 operators */
    if (position < reductions) {
        job->kind = position % 2 == 0 ? TUTTI_ALL_REDUCE : TUTTI_REDUCE_SCATTER;
        job->dtype = (tutti_dtype)(position / 2 % 3);
        job->op = (tutti_op)(position / 6 % 3);
        (void)element_counts(tutti_dtype_bytes(job->dtype), counts);
        job->count = counts[position / 18];
        if (job->kind == TUTTI_REDUCE_SCATTER && job->count > 100000) {
            job->count = job->count / (size_t)world + 3;
        }
        /* Vectors that begin anywhere, and the common case of those that do not. */
        bool aligned = index % 3 != 0;
        job->src_offset = aligned ? 0 : (index * 7 % 13) * tutti_dtype_bytes(job->dtype);
        job->dst_offset = aligned ? 0 : (index * 5 % 11) * tutti_dtype_bytes(job->dtype);
        return true;
    }
    position -= reductions;
    static const tutti_collective copies[] = {TUTTI_ALL_GATHER, TUTTI_ALL_GATHER, TUTTI_BROADCAST, TUTTI_ALL_TO_ALL,
                                              TUTTI_BARRIER};
    if (position >= (size_t)5 * SIZES) {
        return false;
    }
    job->kind = copies[position % 5];
    (void)element_counts(1, counts);
    job->count = job->kind == TUTTI_BARRIER ? 0 : counts[position / 5];
    job->root = (int)(index / 3 % (size_t)world);
    job->src_offset = index * 7 % 61;
    job->dst_offset = index * 5 % 59;
    if (position % 5 == 1) {
        static const size_t rows[] = {1, 3, 8, 33};
        job->rows = rows[index % 4];
        job->count = (job->count + job->rows - 1) / job->rows;
        job->gap_bytes = index % 3 * 17;
        job->in_place = false;
    }
    return true;
}

static size_t bytes_most(int world)
{
    struct job job;
    size_t most = 0;
    for (size_t index = 0; job_at(index, world, &job); index++) {
        most = job_bytes(&job, world) > most ? job_bytes(&job, world) : most;
    }
    return most;
}

/* -- every job, alone ---------------------------------------------------------------------------------- */

static void run_eager(struct rank *self, struct job *job, const struct mirror *mirrors)
{
    job_up(job, mirrors, ++self->call, self->stream);
    job_enqueue(self, job, mirrors, self->stream, 0);
    job_down(mirrors, self->stream);
    CHECK_OK(tutti_comm_status(self->comm));
    job_verify(job, "eager", NULL);
}

static void run_captured(struct rank *self, struct job *job, const struct mirror *mirrors)
{
    step(self);
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    job_enqueue(self, job, mirrors, self->stream, 0);
    gpu_graph graph = gpu_capture_end(self->stream);
    step(self);
    for (int replay = 0; replay < REPLAYS; replay++) {
        job_up(job, mirrors, ++self->call, self->stream);
        gpu_graph_launch(graph, self->stream);
        job_down(mirrors, self->stream);
        CHECK_OK(tutti_comm_status(self->comm));
        job_verify(job, "replayed", NULL);
    }
    step(self);
    gpu_graph_destroy(graph);
    step(self);
}

static void run_alone(struct rank *self)
{
    struct mirror mirrors[2] = {{&self->buffers.src, self->device_src}, {&self->buffers.dst, self->device_dst}};
    struct job job;
    size_t stride = effort() == EFFORT_QUICK ? 5 : 1;
    for (size_t index = 0; job_at(index, self->scene->world, &job); index += stride) {
        job_place(&job, self->rank, self->scene->world, &self->buffers);
        run_eager(self, &job, mirrors);
        run_captured(self, &job, mirrors);
    }
}

/* -- many of them in one graph -------------------------------------------------------------------------- */

struct mix {
    struct job jobs[MIX_JOBS];
    struct job_buffers buffers[MIX_JOBS];
    struct mirror mirrors[MIX_JOBS][2];
};

static void mix_create(struct rank *self, struct mix *mix, uint64_t *random)
{
    size_t count = 0;
    struct job job;
    while (job_at(count, self->scene->world, &job)) {
        count++;
    }
    for (int made = 0; made < MIX_JOBS;) {
        (void)job_at(ranks_random(random) % count, self->scene->world, &job);
        if (job_bytes(&job, self->scene->world) > MIX_BYTES) {
            continue;
        }
        mix->jobs[made] = job;
        job_buffers_create(&mix->buffers[made], MIX_BYTES);
        mix->mirrors[made][0] =
            (struct mirror){&mix->buffers[made].src, gpu_alloc(mix->buffers[made].src.memory_bytes)};
        mix->mirrors[made][1] =
            (struct mirror){&mix->buffers[made].dst, gpu_alloc(mix->buffers[made].dst.memory_bytes)};
        job_place(&mix->jobs[made], self->rank, self->scene->world, &mix->buffers[made]);
        made++;
    }
}

static void mix_destroy(struct mix *mix)
{
    for (int index = 0; index < MIX_JOBS; index++) {
        gpu_free(mix->mirrors[index][0].device);
        gpu_free(mix->mirrors[index][1].device);
        job_buffers_destroy(&mix->buffers[index]);
    }
}

/* Lane 0 on one stream, lane 1 on another beside it; every fifth call of lane 0 on the other stream, too, so that it must be
 * chained to the lane's call before. */
static gpu_graph mix_capture(struct rank *self, struct mix *mix)
{
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    gpu_stream_follow(self->other, self->stream);
    for (int index = 0; index < MIX_JOBS; index++) {
        bool second_lane = index % 3 == 2;
        tutti_stream stream = second_lane || index % 5 == 4 ? self->other : self->stream;
        job_enqueue(self, &mix->jobs[index], mix->mirrors[index], stream, second_lane ? 1 : 0);
    }
    gpu_stream_follow(self->stream, self->other);
    return gpu_capture_end(self->stream);
}

static void run_mixed(struct rank *self, uint64_t seed)
{
    static const int rounds = 2;
    uint64_t random = seed;
    for (int round = 0; round < rounds; round++) {
        struct mix mix;
        memset(&mix, 0, sizeof(mix));
        step(self);
        mix_create(self, &mix, &random);
        gpu_graph graph = mix_capture(self, &mix);
        step(self);
        for (int replay = 0; replay < 2 * REPLAYS; replay++) {
            for (int index = 0; index < MIX_JOBS; index++) {
                job_up(&mix.jobs[index], mix.mirrors[index], ++self->call, self->stream);
            }
            gpu_graph_launch(graph, self->stream);
            gpu_stream_wait(self->stream);
            for (int index = 0; index < MIX_JOBS; index++) {
                job_down(mix.mirrors[index], self->stream);
                job_verify(&mix.jobs[index], "in a graph of many", NULL);
            }
            CHECK_OK(tutti_comm_status(self->comm));
        }
        step(self);
        gpu_graph_destroy(graph);
        mix_destroy(&mix);
        step(self);
    }
}

/* -- bad input ------------------------------------------------------------------------------------------ */

static void refused(struct rank *self, const void *src, void *dst, const char *expected)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = self->stream};
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_all_reduce(self->comm, src, dst, 64, TUTTI_F32, TUTTI_SUM, &call));
    CHECK(strstr(tutti_last_error(), expected) != NULL, "\"%s\" does not say \"%s\"", tutti_last_error(), expected);
}

/* Nothing of it is enqueued: the collectives before and after it work. */
static void run_refusals(struct rank *self)
{
    static float on_host[64];
    refused(self, on_host, self->device_dst, "src");
    refused(self, self->device_src, on_host, "dst");
    step(self);
    unsigned char *gone = gpu_alloc(1 << 22);
    gpu_free(gone);
    step(self);
    if (strcmp(self->scene->backend, "cuda") == 0) {
        refused(self, gone, self->device_dst, "freed");
    }
    CHECK_OK(tutti_comm_status(self->comm));
}

/* -- ranks ---------------------------------------------------------------------------------------------- */

static tutti_comm_options options_for(const struct scene *scene)
{
    tutti_comm_options options;
    memset(&options, 0, sizeof(options));
    options.struct_bytes = sizeof(options);
    options.backend = scene->backend;
    options.world = scene->world;
    options.lanes = 2;
    options.timeout_ms = 30000;
    options.flags = scene->world > scene->devices ? TUTTI_COMM_SHARE_DEVICE : 0;
    options.message_bytes_max = scene->world % 2 == 1 ? 1 : 0; /* small inboxes: everything larger goes in parts */
    return options;
}

static void rank_open(struct rank *self)
{
    gpu_use(self->scene->backend, self->rank % self->scene->devices);
    size_t bytes = bytes_most(self->scene->world);
    job_buffers_create(&self->buffers, bytes);
    self->device_src = gpu_alloc(self->buffers.src.memory_bytes);
    self->device_dst = gpu_alloc(self->buffers.dst.memory_bytes);
    self->stream = gpu_stream_create();
    self->other = gpu_stream_create();
}

static void rank_close(struct rank *self)
{
    gpu_use(self->scene->backend, self->rank % self->scene->devices);
    gpu_stream_destroy(self->other);
    gpu_stream_destroy(self->stream);
    gpu_free(self->device_src);
    gpu_free(self->device_dst);
    job_buffers_destroy(&self->buffers);
}

struct start {
    struct scene *scene;
    uint64_t seed;
};

static void rank_run(int rank, int world, const char *rendezvous, void *user)
{
    struct start *start = user;
    struct rank self = {.scene = start->scene, .rank = rank};
    tutti_comm_options options = options_for(start->scene);
    rank_open(&self);
    step(&self);
    options.rank = rank;
    options.device = rank % start->scene->devices;
    options.rendezvous = rendezvous;
    (void)world;
    CHECK_OK(tutti_comm_create(&options, &self.comm));
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_comm_info(self.comm, &info));
    CHECK(info.deterministic == !self.scene->vendor, "deterministic is %d: %s", info.deterministic,
          info.backend_reason);
    run_refusals(&self);
    run_alone(&self);
    run_mixed(&self, start->seed);
    step(&self);
    tutti_comm_destroy(self.comm);
    step(&self);
    rank_close(&self);
}

/* -- one thread for all ranks ----------------------------------------------------------------------------- */

static void all_eager(struct scene *scene, struct rank *ranks, size_t index)
{
    struct job jobs[WORLD_MAX];
    struct mirror mirrors[WORLD_MAX][2];
    for (int rank = 0; rank < scene->world; rank++) {
        struct rank *self = &ranks[rank];
        gpu_use(scene->backend, rank % scene->devices);
        (void)job_at(index, scene->world, &jobs[rank]);
        mirrors[rank][0] = (struct mirror){&self->buffers.src, self->device_src};
        mirrors[rank][1] = (struct mirror){&self->buffers.dst, self->device_dst};
        job_place(&jobs[rank], rank, scene->world, &self->buffers);
        job_up(&jobs[rank], mirrors[rank], index + 1, self->stream);
    }
    for (int rank = 0; rank < scene->world; rank++) {
        job_enqueue(&ranks[rank], &jobs[rank], mirrors[rank], ranks[rank].stream, 0);
    }
    for (int rank = 0; rank < scene->world; rank++) {
        gpu_use(scene->backend, rank % scene->devices);
        job_down(mirrors[rank], ranks[rank].stream);
        CHECK_OK(tutti_comm_status(ranks[rank].comm));
        job_verify(&jobs[rank], "driven by one thread", NULL);
    }
}

/* Streams that two ranks on one device have in common, under all their names: the second rank's part would never begin. */
static void common_streams_are_refused(const struct scene *scene, const struct rank *rank)
{
    for (uintptr_t handle = 0; handle <= 2 && scene->devices < scene->world; handle++) {
        tutti_call call = {.struct_bytes = sizeof(call), .stream = (tutti_stream)handle};
        CHECK_STATUS(TUTTI_ERR_ARGUMENT,
                     tutti_all_reduce(rank->comm, rank->device_src, rank->device_dst, 1, TUTTI_F32, TUTTI_SUM, &call));
        CHECK(strstr(tutti_last_error(), "default stream") != NULL || strstr(tutti_last_error(), "NULL") != NULL, "%s",
              tutti_last_error());
        CHECK_OK(tutti_comm_status(rank->comm));
    }
}

static void run_all(struct scene *scene)
{
    struct rank ranks[WORLD_MAX];
    tutti_comm *comms[WORLD_MAX];
    int devices[WORLD_MAX];
    memset(ranks, 0, sizeof(ranks));
    for (int rank = 0; rank < scene->world; rank++) {
        ranks[rank].scene = scene;
        ranks[rank].rank = rank;
        devices[rank] = rank % scene->devices;
        rank_open(&ranks[rank]);
    }
    tutti_comm_options options = options_for(scene);
    CHECK_OK(tutti_comm_create_all(&options, devices, scene->world, comms));
    for (int rank = 0; rank < scene->world; rank++) {
        ranks[rank].comm = comms[rank];
        common_streams_are_refused(scene, &ranks[rank]);
    }
    struct job job;
    for (size_t index = 0; job_at(index, scene->world, &job); index += effort() == EFFORT_QUICK ? 7 : 1) {
        all_eager(scene, ranks, index);
    }
    for (int rank = 0; rank < scene->world; rank++) {
        tutti_comm_destroy(comms[rank]);
    }
    for (int rank = 0; rank < scene->world; rank++) {
        rank_close(&ranks[rank]);
    }
}

int main(int count, char **arguments)
{
    const char *how = count == 2 ? arguments[1] : "threads-2";
    const char *dash = strchr(how, '-');
    const char *backend = getenv("TUTTI_TEST_GPU");
    char why[256];
    CHECK(dash != NULL && dash[1] >= '1' && dash[1] <= '8', "'%s' is not threads-N, processes-N or all-N", how);
    struct scene scene = {.backend = backend != NULL ? backend : "cuda", .world = dash[1] - '0'};
    /* Streams that share a hardware queue wait for each other, and ranks on one device must not. */
    CHECK(setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0 && setenv("GPU_MAX_HW_QUEUES", "32", 0) == 0, "setenv");
    scene.devices = gpu_count(scene.backend, why, sizeof(why));
    if (scene.devices == 0) {
        SKIP("no %s device: %s", scene.backend, why);
    }
    if (how[0] == 'p' && scene.devices < scene.world) {
        SKIP("%d devices, and %d processes want one each", scene.devices, scene.world);
    }
    const char *vendor = getenv("TUTTI_GPU_VENDOR");
    scene.vendor = vendor != NULL && strcmp(vendor, "always") == 0;
    if (scene.vendor && (scene.devices < scene.world || how[0] == 'a')) {
        SKIP("the vendor's collectives want a thread and a device for each rank, %d devices are here", scene.devices);
    }
    if (scene.vendor) {
        values_integers();
    }
    if (how[0] == 'a') {
        run_all(&scene);
        return 0;
    }
    struct start start = {&scene, ranks_seed()};
    scene.in_step = how[0] == 't';
    CHECK(pthread_barrier_init(&scene.barrier, NULL, (unsigned)scene.world) == 0, "barrier");
    ranks_run(scene.in_step ? RANKS_THREADS : RANKS_PROCESSES, scene.world, 280, rank_run, &start);
    (void)pthread_barrier_destroy(&scene.barrier);
    return 0;
}
