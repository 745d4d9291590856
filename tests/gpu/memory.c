/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory on devices: what the driver says of every kind, collectives from and to every kind, eagerly and in graphs, also with
 * another kind on each rank; ranges that cross allocations; freed and foreign pointers; and symmetric memory, which peers see.
 *
 *     memory threads-2 | processes-2 | all-2
 *
 * TUTTI_TEST_GPU is the backend, "cuda" by default.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu.h"
#include "harness/gpu_memory.h"
#include "harness/ranks.h"

#define WORLD_MAX 8
#define COUNT_MAX 300007u /* floats */
#define BYTES_MAX (COUNT_MAX * sizeof(float))
#define ROOM (2 * GPU_PAGE_BYTES)

struct scene {
    const char *backend;
    int world, devices;
    bool threads;
    pthread_barrier_t barrier; /* threads: no driver call may wait for a peer's kernel */
};

struct rank {
    struct scene *scene;
    int rank, device;
    tutti_comm *comm;
    tutti_stream stream;
    unsigned call;
    float *host;
};

/* Simulated devices are slow. */
static size_t elements(void)
{
    return effort() == EFFORT_QUICK ? 3001 : COUNT_MAX;
}

static void step(struct rank *self)
{
    if (self->scene->threads) {
        (void)pthread_barrier_wait(&self->scene->barrier);
    }
}

/* -- one all_reduce ---------------------------------------------------------------------------------------------- */

static float input(unsigned call, int rank, size_t index)
{
    return (float)((call * 7u + (unsigned)rank * 13u + index * 3u) % 1021u);
}

static void fill(struct rank *self, void *src, unsigned call)
{
    for (size_t index = 0; index < elements(); index++) {
        self->host[index] = input(call, self->rank, index);
    }
    gpu_upload(src, self->host, elements() * sizeof(float), self->stream);
    gpu_stream_wait(self->stream);
}

static void verify(struct rank *self, const void *dst, unsigned call, const char *what)
{
    gpu_download(self->host, dst, elements() * sizeof(float), self->stream);
    for (size_t index = 0; index < elements(); index++) {
        float sum = 0;
        for (int rank = 0; rank < self->scene->world; rank++) {
            sum += input(call, rank, index);
        }
        CHECK(self->host[index] == sum, "%s: rank %d, call %u, element %zu: %g instead of %g", what, self->rank, call,
              index, (double)self->host[index], (double)sum);
    }
    CHECK_OK(tutti_comm_status(self->comm));
    step(self);
}

static tutti_status reduce(struct rank *self, const void *src, void *dst)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = self->stream};
    return tutti_all_reduce(self->comm, src, dst, elements(), TUTTI_F32, TUTTI_SUM, &call);
}

static void reduce_and_verify(struct rank *self, void *src, void *dst, const char *what)
{
    fill(self, src, ++self->call);
    step(self);
    CHECK_OK(reduce(self, src, dst));
    verify(self, dst, self->call, what);
}

/* Captured once, replayed with new inputs, with an eager call between. */
static void replay_and_verify(struct rank *self, void *src, void *dst, const char *what)
{
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    CHECK_OK(reduce(self, src, dst));
    gpu_graph graph = gpu_capture_end(self->stream);
    for (int round = 0; round < 3; round++) {
        fill(self, src, ++self->call);
        step(self);
        gpu_graph_launch(graph, self->stream);
        verify(self, dst, self->call, what);
        reduce_and_verify(self, src, dst, what);
    }
    gpu_graph_destroy(graph);
    step(self);
}

static void use(struct rank *self, unsigned char *memory, unsigned char *plain, const char *what)
{
    reduce_and_verify(self, memory, plain, what);
    reduce_and_verify(self, plain, memory, what);
    reduce_and_verify(self, memory, memory, what);
    replay_and_verify(self, memory, plain, what);
    replay_and_verify(self, plain, memory, what);
}

/* -- what the driver says ---------------------------------------------------------------------------------------- */

static tutti_memory_kind expected_kind(const struct rank *self, enum gpu_memory_kind kind, bool *shareable)
{
    bool one_process = self->scene->threads;
    bool one_device = self->scene->devices == 1 || self->scene->world == 1;
    bool hip = strcmp(self->scene->backend, "hip") == 0;
    *shareable = one_process;
    switch (kind) {
    case GPU_PLAIN:
        *shareable = !one_process || one_device || hip;
        return !one_process ? TUTTI_MEMORY_IPC : *shareable ? TUTTI_MEMORY_SAME_PROCESS : TUTTI_MEMORY_STAGED;
    case GPU_VMM_BARE:
        return one_process ? TUTTI_MEMORY_SAME_PROCESS : TUTTI_MEMORY_STAGED;
    case GPU_VMM_FD:
    case GPU_VMM_PAIR:
    case GPU_VMM_HOLE:
        return one_process ? TUTTI_MEMORY_SAME_PROCESS : TUTTI_MEMORY_FD;
    case GPU_POOL:
        *shareable = false;
        return TUTTI_MEMORY_STAGED;
    case GPU_MANAGED:
        *shareable = false;
        return TUTTI_MEMORY_MANAGED;
    case GPU_PINNED:
        *shareable = false;
        return TUTTI_MEMORY_HOST;
    case GPU_KIND_COUNT:
        break;
    }
    return TUTTI_MEMORY_UNKNOWN;
}

static void check_class(struct rank *self, const struct gpu_memory *memory, size_t offset)
{
    bool shareable = false;
    tutti_memory_kind kind = expected_kind(self, memory->kind, &shareable);
    tutti_memory_class_t class = {.struct_bytes = sizeof(class)};
    CHECK_OK(tutti_memory_class(self->comm, memory->address + offset, &class));
    if (self->rank == 0 && offset != 0) {
        printf("%-34s kind %d, shareable %d, device %d, base -%llu, %llu bytes: %s\n", gpu_memory_name(memory->kind),
               (int)class.kind, class.shareable, class.device, (unsigned long long)class.offset,
               (unsigned long long)class.bytes, class.reason);
    }
    CHECK(class.kind == kind && class.shareable == shareable, "%s: kind %d, shareable %d: %s",
          gpu_memory_name(memory->kind), (int)class.kind, class.shareable, class.reason);
    CHECK(class.base + class.offset == (uint64_t)(uintptr_t)(memory->address + offset) && class.offset < class.bytes,
          "%s: %llu + %llu of %llu", gpu_memory_name(memory->kind), (unsigned long long)class.base,
          (unsigned long long)class.offset, (unsigned long long)class.bytes);
    CHECK(kind == TUTTI_MEMORY_HOST || kind == TUTTI_MEMORY_MANAGED || class.device == self->device, "device %d",
          class.device);
    /* Pieces are allocations of their own. */
    if (memory->piece_count > 1) {
        CHECK(class.bytes == GPU_PAGE_BYTES && class.offset == offset % GPU_PAGE_BYTES, "%s: %llu bytes",
              gpu_memory_name(memory->kind), (unsigned long long)class.bytes);
    }
}

static void every_kind(struct rank *self)
{
    unsigned char *plain = gpu_alloc(ROOM);
    for (int kind = 0; kind < GPU_KIND_COUNT; kind++) {
        struct gpu_memory memory;
        if (kind == GPU_VMM_HOLE || !gpu_memory_make(self->scene->backend, self->device, (enum gpu_memory_kind)kind,
                                                     ROOM, self->stream, &memory)) {
            continue;
        }
        gpu_stream_wait(self->stream);
        check_class(self, &memory, 0);
        check_class(self, &memory, ROOM - 4);
        /* The second time across the border of two pages, which for pieces is one of allocations. */
        use(self, memory.address, plain, gpu_memory_name(memory.kind));
        use(self, memory.address + GPU_PAGE_BYTES - 4096, plain, gpu_memory_name(memory.kind));
        gpu_memory_free(&memory, self->stream);
        gpu_stream_wait(self->stream);
        step(self);
    }
    gpu_free(plain);
    step(self);
}

/* Which kind a rank has is nobody else's business. */
static void other_kind_on_each_rank(struct rank *self)
{
    for (int shift = 0; shift < GPU_KIND_COUNT; shift++) {
        int kind = (self->rank * 3 + shift) % GPU_KIND_COUNT;
        struct gpu_memory src, dst;
        if (kind == GPU_VMM_HOLE || !gpu_memory_make(self->scene->backend, self->device, (enum gpu_memory_kind)kind,
                                                     ROOM, self->stream, &src)) {
            kind = GPU_PLAIN;
            CHECK(gpu_memory_make(self->scene->backend, self->device, GPU_PLAIN, ROOM, self->stream, &src), "plain");
        }
        CHECK(gpu_memory_make(self->scene->backend, self->device, GPU_PINNED, ROOM, self->stream, &dst), "pinned");
        gpu_stream_wait(self->stream);
        step(self);
        use(self, src.address, dst.address, "mixed kinds");
        gpu_memory_free(&src, self->stream);
        gpu_memory_free(&dst, self->stream);
        gpu_stream_wait(self->stream);
        step(self);
    }
}

/* -- memory of graphs ------------------------------------------------------------------------------------------------ */

static tutti_status reduce_with(struct rank *self, const void *src, void *dst, tutti_op op)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = self->stream};
    return tutti_all_reduce(self->comm, src, dst, elements(), TUTTI_F32, op, &call);
}

static void refused(struct rank *self, const void *src, void *dst, const char *expected)
{
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, reduce(self, src, dst));
    CHECK(strstr(tutti_last_error(), expected) != NULL, "\"%s\" does not say \"%s\"", tutti_last_error(), expected);
}

/* From `plain` to memory of the graph's own and back: of equal values the largest is any of them. With `left` the memory stays
 * when the graph has run. */
static gpu_graph graph_with_memory(struct rank *self, unsigned char *plain, bool left, struct gpu_memory *memory)
{
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    CHECK(gpu_memory_make(self->scene->backend, self->device, GPU_POOL, elements() * sizeof(float) + 16, self->stream,
                          memory),
          "a pool's memory");
    CHECK_OK(reduce(self, plain, memory->address + 16));
    CHECK_OK(reduce_with(self, memory->address + 16, plain, TUTTI_MAX));
    refused(self, memory->address + 20, plain, "its allocation ends after");
    refused(self, self->host, plain, "ordinary host pointer");
    unsigned char *inside = memory->address;
    if (!left) {
        gpu_memory_free(memory, self->stream);
    }
    gpu_graph graph = gpu_capture_end(self->stream);
    step(self);
    refused(self, inside, plain, "never launched");
    return graph;
}

/* Its first call uses memory that only the lost graph knew: it is the capture that is complained of, now and in the commit. */
static void lost_capture(struct rank *self, unsigned char *plain)
{
    struct gpu_memory memory;
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    CHECK(gpu_memory_make(self->scene->backend, self->device, GPU_POOL, ROOM, self->stream, &memory),
          "a pool's memory");
    if (self->rank == 0) {
        gpu_capture_spoil(self->stream);
        CHECK_STATUS(TUTTI_ERR_CAPTURE, reduce(self, memory.address, plain));
        CHECK(strstr(tutti_last_error(), "tutti_all_reduce on stream") != NULL, "%s", tutti_last_error());
        gpu_capture_drop(self->stream);
    } else {
        CHECK_OK(reduce(self, memory.address, plain));
        gpu_graph_destroy(gpu_capture_end(self->stream));
    }
    step(self);
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_commit(self->comm));
    step(self);
}

static void memory_of_graphs(struct rank *self)
{
    struct gpu_memory memory;
    tutti_memory_class_t class = {.struct_bytes = sizeof(class)};
    unsigned char *plain = gpu_alloc(ROOM);
    if (gpu_memory_make(self->scene->backend, self->device, GPU_POOL, ROOM, self->stream, &memory)) {
        gpu_memory_free(&memory, self->stream);
        gpu_stream_wait(self->stream);
        step(self);
        gpu_graph graph = graph_with_memory(self, plain, false, &memory);
        for (int round = 0; round < 3; round++) {
            fill(self, plain, ++self->call);
            step(self);
            gpu_graph_launch(graph, self->stream);
            verify(self, plain, self->call, "memory that comes and goes with the graph");
        }
        gpu_graph_destroy(graph);
        step(self);
        graph = graph_with_memory(self, plain, true, &memory);
        fill(self, plain, ++self->call);
        step(self);
        gpu_graph_launch(graph, self->stream);
        verify(self, plain, self->call, "memory that the graph leaves");
        verify(self, memory.address + 16, self->call, "what the graph left");
        CHECK_OK(tutti_memory_class(self->comm, memory.address, &class));
        CHECK(class.kind == TUTTI_MEMORY_STAGED && class.shareable == 0, "kind %d: %s", (int)class.kind, class.reason);
        use(self, memory.address, plain, "a launched graph's memory");
        gpu_memory_free(&memory, self->stream);
        gpu_stream_wait(self->stream);
        gpu_graph_destroy(graph);
        lost_capture(self, plain);
    }
    gpu_free(plain);
    step(self);
}

/* -- what calls refuse --------------------------------------------------------------------------------------------- */

static void refusals(struct rank *self)
{
    tutti_memory_class_t class = {.struct_bytes = sizeof(class)};
    struct gpu_memory hole;
    unsigned char *plain = gpu_alloc(ROOM);
    unsigned char *freed = gpu_alloc((size_t)64 << 20);
    gpu_free(freed);
    CHECK_OK(tutti_memory_class(self->comm, freed, &class));
    CHECK(class.kind == TUTTI_MEMORY_UNKNOWN || class.kind == TUTTI_MEMORY_HOST, "kind %d: %s", (int)class.kind,
          class.reason);
    if (class.kind == TUTTI_MEMORY_UNKNOWN) {
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, reduce(self, freed, plain));
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, reduce(self, plain, freed));
        CHECK_OK(tutti_memory_class(self->comm, self->host, &class));
        CHECK(class.kind == TUTTI_MEMORY_UNKNOWN && class.shareable == 0, "kind %d", (int)class.kind);
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, reduce(self, self->host, plain));
    }
    if (gpu_memory_make(self->scene->backend, self->device, GPU_VMM_HOLE, 3 * GPU_PAGE_BYTES, self->stream, &hole)) {
        tutti_call call = {.struct_bytes = sizeof(call), .stream = self->stream};
        check_class(self, &hole, 0);
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_broadcast(self->comm, hole.address, 3 * GPU_PAGE_BYTES, 0, &call));
        CHECK(strstr(tutti_last_error(), "ends after 2097152") != NULL, "%s", tutti_last_error());
        gpu_memory_free(&hole, self->stream);
    }
    step(self);
    reduce_and_verify(self, plain, plain, "after refusals");
    gpu_free(plain);
    step(self);
}

/* -- symmetric memory ----------------------------------------------------------------------------------------------- */

static void pattern_write(struct rank *self, void *part, size_t bytes, unsigned version)
{
    unsigned char *pattern = malloc(bytes);
    CHECK(pattern != NULL, "%zu bytes", bytes);
    for (size_t index = 0; index < bytes; index++) {
        pattern[index] = (unsigned char)(index * 7 + (index >> 9) + version * 31 + (unsigned)self->rank * 101);
    }
    gpu_upload(part, pattern, bytes, self->stream);
    gpu_stream_wait(self->stream);
    free(pattern);
}

static void pattern_check(struct rank *self, const void *part, size_t bytes, unsigned version, int writer)
{
    unsigned char *found = malloc(bytes);
    CHECK(found != NULL, "%zu bytes", bytes);
    gpu_download(found, part, bytes, self->stream);
    for (size_t index = 0; index < bytes; index++) {
        CHECK(found[index] == (unsigned char)(index * 7 + (index >> 9) + version * 31 + (unsigned)writer * 101),
              "rank %d sees in rank %d's part, version %u, at %zu: %d", self->rank, writer, version, index,
              found[index]);
    }
    free(found);
}

static void meet(struct rank *self)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = self->stream};
    step(self);
    CHECK_OK(tutti_barrier(self->comm, &call));
    gpu_stream_wait(self->stream);
    CHECK_OK(tutti_comm_status(self->comm));
    step(self);
}

static void peers_see(struct rank *self, void *mine, size_t bytes)
{
    for (unsigned version = 1; version < 4; version++) {
        pattern_write(self, mine, bytes, version);
        meet(self);
        for (int rank = 0; rank < self->scene->world; rank++) {
            void *peer = NULL;
            CHECK_OK(tutti_peer_pointer(self->comm, mine, rank, &peer));
            pattern_check(self, peer, bytes, version, rank);
        }
        meet(self);
    }
}

static void check_zero(struct rank *self, const void *part, size_t bytes)
{
    unsigned char *found = malloc(bytes);
    CHECK(found != NULL, "%zu bytes", bytes);
    gpu_download(found, part, bytes, self->stream);
    CHECK(found[0] == 0 && memcmp(found, found + 1, bytes - 1) == 0, "it is not zero at birth");
    free(found);
}

static void symmetric(struct rank *self)
{
    tutti_comm_info_t before = {.struct_bytes = sizeof(before)};
    tutti_comm_info_t after = {.struct_bytes = sizeof(after)};
    tutti_memory_class_t class = {.struct_bytes = sizeof(class)};
    void *first = NULL;
    void *second = NULL;
    CHECK_OK(tutti_comm_info(self->comm, &before));
    int rounds = effort() == EFFORT_QUICK ? 1 : 3;
    for (int round = 0; round < rounds; round++) {
        CHECK_OK(tutti_alloc(self->comm, 1000000u + (size_t)round * 3000000u, &first));
        CHECK_OK(tutti_alloc(self->comm, ROOM, &second));
        check_zero(self, first, 1000000);
        check_zero(self, second, ROOM);
        peers_see(self, first, 1000000);
        CHECK_OK(tutti_memory_class(self->comm, (char *)second + 5, &class));
        CHECK(class.kind == TUTTI_MEMORY_SYMMETRIC && class.shareable == 1 && class.offset == 5, "kind %d: %s",
              (int)class.kind, class.reason);
        use(self, second, (unsigned char *)second + GPU_PAGE_BYTES, "symmetric memory");
        CHECK_OK(tutti_free(self->comm, first));
        meet(self);
        peers_see(self, second, 4096);
        CHECK_OK(tutti_free(self->comm, second));
        meet(self);
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_peer_pointer(self->comm, second, 0, &first));
    }
    CHECK_STATUS(self->scene->world > 1 ? TUTTI_ERR_MISMATCH : TUTTI_ERR_ARGUMENT,
                 tutti_alloc(self->comm, self->scene->world > 1 ? (size_t)(4096 * (self->rank + 1)) : 0, &first));
    CHECK_OK(tutti_comm_info(self->comm, &after));
    CHECK(before.arena_bytes == after.arena_bytes && before.mapped_bytes == after.mapped_bytes &&
              after.symmetric_count == 0,
          "%llu bytes mapped instead of %llu", (unsigned long long)after.mapped_bytes,
          (unsigned long long)before.mapped_bytes);
    meet(self);
}

/* It neither disturbs the capture nor becomes a part of it. */
static void while_capturing(struct rank *self)
{
    unsigned char *plain = gpu_alloc(ROOM);
    /* While a thread captures in the global mode, other threads may not even make a graph. */
    int strictest = self->scene->threads && self->scene->world > 1 ? GPU_CAPTURE_THREAD_LOCAL : GPU_CAPTURE_GLOBAL;
    for (int mode = strictest; mode <= GPU_CAPTURE_RELAXED; mode++) {
        void *memory = NULL;
        void *dropped = NULL;
        step(self);
        gpu_capture_begin(self->stream, (enum gpu_capture_mode)mode);
        CHECK_OK(tutti_alloc(self->comm, ROOM, &memory));
        CHECK_OK(reduce(self, memory, plain));
        CHECK_OK(tutti_alloc(self->comm, 4096, &dropped));
        CHECK_OK(tutti_free(self->comm, dropped));
        CHECK_OK(reduce(self, plain, memory));
        gpu_graph graph = gpu_capture_end(self->stream);
        fill(self, memory, ++self->call);
        step(self);
        gpu_graph_launch(graph, self->stream);
        verify(self, plain, self->call, "captured with its allocation");
        gpu_graph_destroy(graph);
        CHECK_OK(tutti_free(self->comm, memory));
        meet(self);
    }
    gpu_free(plain);
    step(self);
}

/* -- ranks ----------------------------------------------------------------------------------------------------------- */

/* Allocations as an engine makes them for a whole model: their length does not fit 32 bits, or would be 0 there. */
static void large(struct rank *self)
{
    const size_t used = (elements() * sizeof(float) + 255) / 256 * 256;
    const size_t sizes[] = {(size_t)4 << 30, ((size_t)4 << 30) + 2 * used};
    for (int index = 0; index < 2; index++) {
        step(self);
        unsigned char *memory = gpu_alloc(sizes[index]);
        step(self);
        reduce_and_verify(self, memory, memory + sizes[index] - used, "an allocation of 4 GiB");
        step(self);
        gpu_free(memory);
        step(self);
    }
}

static void rank_open(struct rank *self)
{
    self->device = self->rank % self->scene->devices;
    gpu_use(self->scene->backend, self->device);
    self->stream = gpu_stream_create();
    self->host = malloc(BYTES_MAX);
    CHECK(self->host != NULL, "%zu bytes", BYTES_MAX);
}

static void rank_close(struct rank *self)
{
    gpu_use(self->scene->backend, self->device);
    gpu_stream_destroy(self->stream);
    free(self->host);
}

static tutti_comm_options options_for(const struct scene *scene)
{
    return (tutti_comm_options){.struct_bytes = sizeof(tutti_comm_options),
                                .backend = scene->backend,
                                .world = scene->world,
                                .flags = scene->devices < scene->world ? TUTTI_COMM_SHARE_DEVICE : 0};
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    struct rank self = {.scene = user, .rank = rank};
    tutti_comm_options options = options_for(self.scene);
    void *left = NULL;
    rank_open(&self);
    options.rank = rank;
    options.world = world;
    options.device = self.device;
    options.rendezvous = rendezvous;
    CHECK_OK(tutti_comm_create(&options, &self.comm));
    step(&self);
    symmetric(&self);
    while_capturing(&self);
    large(&self);
    every_kind(&self);
    other_kind_on_each_rank(&self);
    memory_of_graphs(&self);
    refusals(&self);
    CHECK_OK(tutti_alloc(self.comm, 4096, &left));
    meet(&self);
    tutti_comm_destroy(self.comm);
    rank_close(&self);
}

static void run_all(struct scene *scene)
{
    struct rank ranks[WORLD_MAX] = {{0}};
    tutti_comm *comms[WORLD_MAX];
    int devices[WORLD_MAX];
    void *memory[WORLD_MAX];
    for (int rank = 0; rank < scene->world; rank++) {
        ranks[rank] = (struct rank){.scene = scene, .rank = rank, .call = 9};
        devices[rank] = rank % scene->devices;
        rank_open(&ranks[rank]);
    }
    tutti_comm_options options = options_for(scene);
    CHECK_OK(tutti_comm_create_all(&options, devices, scene->world, comms));
    CHECK_OK(tutti_alloc_all(comms, scene->world, BYTES_MAX, memory));
    for (int rank = 0; rank < scene->world; rank++) {
        ranks[rank].comm = comms[rank];
        gpu_use(scene->backend, ranks[rank].device);
        fill(&ranks[rank], memory[rank], 9);
    }
    for (int rank = 0; rank < scene->world; rank++) {
        CHECK_OK(reduce(&ranks[rank], memory[rank], memory[rank]));
    }
    for (int rank = 0; rank < scene->world; rank++) {
        gpu_use(scene->backend, ranks[rank].device);
        for (int other = 0; other < scene->world; other++) {
            void *peer = NULL;
            CHECK_OK(tutti_peer_pointer(comms[rank], memory[rank], other, &peer));
            gpu_stream_wait(ranks[other].stream);
            verify(&ranks[rank], peer, 9, "a peer's part, driven by one thread");
        }
    }
    CHECK_OK(tutti_free_all(comms, scene->world, memory));
    for (int rank = 0; rank < scene->world; rank++) {
        tutti_comm_destroy(comms[rank]);
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
    scene.threads = how[0] == 't';
    if (how[0] == 'a') {
        run_all(&scene);
        return 0;
    }
    CHECK(pthread_barrier_init(&scene.barrier, NULL, (unsigned)scene.world) == 0, "barrier");
    ranks_run(scene.threads ? RANKS_THREADS : RANKS_PROCESSES, scene.world, 280, run_rank, &scene);
    (void)pthread_barrier_destroy(&scene.barrier);
    return 0;
}
