/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tutti_plan of a large call: which buffers go directly, and what became of the calls captured so far, on whose account.
 *
 *     plan threads-2     ranks are threads; they share devices if there are fewer of those
 *     plan processes-2   a process and a device for each rank
 */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "harness/check.h"
#include "harness/gpu.h"
#include "harness/gpu_memory.h"
#include "harness/ranks.h"

#define BYTES ((size_t)64 << 10)
#define COUNT (BYTES / sizeof(float))

struct scene {
    const char *backend;
    int devices;
    bool
        in_step; /* ranks are threads: nobody allocates, frees or instantiates while another one's kernel waits for him */
    pthread_barrier_t barrier;
};

struct rank {
    struct scene *scene;
    int rank, world;
    tutti_comm *comm;
    tutti_stream stream;
};

static void step(struct rank *self)
{
    if (self->scene->in_step) {
        (void)pthread_barrier_wait(&self->scene->barrier);
    }
}

static gpu_graph capture(struct rank *self, unsigned char *buffer, int calls)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = self->stream};
    step(self);
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    for (int each = 0; each < calls; each++) {
        CHECK_OK(tutti_all_reduce(self->comm, buffer, buffer, COUNT, TUTTI_F32, TUTTI_SUM, &call));
    }
    gpu_graph graph = gpu_capture_end(self->stream);
    step(self);
    return graph;
}

static void plan(const struct rank *self, size_t count, tutti_plan_t *plan)
{
    *plan = (tutti_plan_t){.struct_bytes = sizeof(*plan)};
    CHECK_OK(tutti_plan(self->comm, TUTTI_ALL_REDUCE, count, TUTTI_F32, plan));
}

/* `says` NULL: nothing of captured calls. */
static void check_plan(const struct rank *self, const char *says)
{
    tutti_plan_t large;
    tutti_plan_t small;
    plan(self, COUNT, &large);
    plan(self, 16, &small);
    CHECK(strcmp(large.protocol, "direct") == 0 && strncmp(large.reason, "from 8 KiB on: the ranks ", 25) == 0 &&
              strstr(large.reason, "tutti_alloc's") != NULL,
          "%s: %s", large.protocol, large.reason);
    CHECK(strcmp(small.protocol, "one-shot") == 0 && strstr(small.reason, "commit") == NULL, "%s: %s", small.protocol,
          small.reason);
    if (says == NULL) {
        CHECK(strstr(large.reason, "for tutti_commit") == NULL && strstr(large.reason, "last commit") == NULL &&
                  strstr(large.reason, "suspended") == NULL,
              "%s", large.reason);
    } else {
        CHECK(strstr(large.reason, says) != NULL, "'%s' is not in: %s", says, large.reason);
    }
}

/* Memory of rank 1 that no other process can be given. */
static void bare_memory(struct rank *self)
{
    struct gpu_memory memory;
    enum gpu_memory_kind kind = self->rank == 1 ? GPU_VMM_BARE : GPU_VMM_FD;
    CHECK(gpu_memory_make(self->scene->backend, self->rank % self->scene->devices, kind, BYTES, self->stream, &memory),
          "no VMM memory");
    gpu_graph graph = capture(self, memory.address, 1);
    CHECK_OK(tutti_commit(self->comm));
    check_plan(self, "; the last commit left 1 call staged: rank 1: VMM memory made without a type of handle");
    gpu_graph_destroy(graph);
    gpu_memory_free(&memory, self->stream);
}

static void rank_plans(struct rank *self)
{
    struct gpu_memory memory;
    CHECK(gpu_memory_make(self->scene->backend, self->rank % self->scene->devices, GPU_VMM_FD, 2 * BYTES, self->stream,
                          &memory),
          "no VMM memory");
    check_plan(self, NULL);
    gpu_graph good = capture(self, memory.address, 1);
    check_plan(self, "; 1 captured call waits for tutti_commit");
    CHECK_OK(tutti_commit(self->comm));
    check_plan(self, NULL);
    CHECK_OK(tutti_suspend(self->comm, memory.address, BYTES));
    check_plan(self, "; 1 call is suspended until tutti_resume");
    CHECK_OK(tutti_resume(self->comm));
    check_plan(self, NULL);
    /* Rank 1's buffer is aligned to its elements alone. */
    gpu_graph odd = capture(self, memory.address + (self->rank == 1 ? 4 : 0), 3);
    check_plan(self, "; 3 captured calls wait for tutti_commit");
    CHECK_OK(tutti_commit(self->comm));
    check_plan(self,
               "; the last commit left 3 calls staged: rank 1: has a buffer that does not begin at a multiple of");
    if (!self->scene->in_step) {
        bare_memory(self);
    }
    step(self);
    gpu_graph_destroy(good);
    gpu_graph_destroy(odd);
    step(self);
    tutti_comm_destroy(self->comm);
    step(self);
    gpu_memory_free(&memory, self->stream);
}

static void rank_run(int rank, int world, const char *rendezvous, void *user)
{
    struct scene *scene = user;
    struct rank self = {.scene = scene, .rank = rank, .world = world};
    gpu_use(scene->backend, rank % scene->devices);
    self.stream = gpu_stream_create();
    const tutti_comm_options options = {.struct_bytes = sizeof(options),
                                        .backend = scene->backend,
                                        .rank = rank,
                                        .world = world,
                                        .device = rank % scene->devices,
                                        .rendezvous = rendezvous,
                                        .timeout_ms = 30000,
                                        .flags = TUTTI_COMM_DIRECT_FD |
                                                 (world > scene->devices ? TUTTI_COMM_SHARE_DEVICE : 0)};
    CHECK_OK(tutti_comm_create(&options, &self.comm));
    step(&self);
    rank_plans(&self);
    gpu_stream_destroy(self.stream);
}

int main(int count, char **arguments)
{
    const char *how = count == 2 ? arguments[1] : "threads-2";
    const char *backend = getenv("TUTTI_TEST_GPU");
    char why[256];
    struct scene scene = {.backend = backend != NULL ? backend : "cuda", .in_step = how[0] == 't'};
    CHECK(strcmp(how, "threads-2") == 0 || strcmp(how, "processes-2") == 0, "'%s' is not threads-2 or processes-2",
          how);
    CHECK(setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0 && setenv("TUTTI_GPU_DIRECT_BYTES_MIN", "8K", 1) == 0 &&
              setenv("TUTTI_GPU_ONE_SHOT_BYTES_MAX", "4096", 1) == 0,
          "setenv");
    scene.devices = gpu_count(scene.backend, why, sizeof(why));
    if (scene.devices == 0) {
        SKIP("no %s device: %s", scene.backend, why);
    }
    if (!scene.in_step && scene.devices < 2) {
        SKIP("%d devices, and 2 processes want one each", scene.devices);
    }
    CHECK(pthread_barrier_init(&scene.barrier, NULL, 2) == 0, "barrier");
    ranks_run(scene.in_step ? RANKS_THREADS : RANKS_PROCESSES, 2, 120, rank_run, &scene);
    (void)pthread_barrier_destroy(&scene.barrier);
    return 0;
}
