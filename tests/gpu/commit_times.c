/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a commit takes: 50 graphs of 72 all-reduces, as an engine captures them, over few allocations and over many. Prints the
 * times; fails if not all of the calls become direct, or if a result is wrong.
 *
 *     commit_times processes-8
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu_scene.h"

#define CALLS 72
#define BYTES ((size_t)16 << 10)
#define ALLOCATIONS_MAX 100

static double now_ms(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

/* A call of graph `graph`: where its buffers lie changes from call to call. */
static struct gpu_work work_of(const struct gpu_memory *memories, int allocations, int graph, int call)
{
    int number = graph * CALLS + call;
    size_t at = (size_t)(number % 32) * 2 * BYTES;
    unsigned char *memory = memories[number % allocations].address;
    return (struct gpu_work){
        .kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .bytes = BYTES, .src = memory + at, .dst = memory + at + BYTES};
}

static void measure(struct gpu_rank *self, int graphs_count, int allocations)
{
    struct gpu_memory *memories = calloc((size_t)allocations, sizeof(*memories));
    gpu_graph *graphs = calloc((size_t)graphs_count, sizeof(*graphs));
    CHECK(memories != NULL && graphs != NULL, "memory");
    gpu_step(self);
    for (int index = 0; index < allocations; index++) {
        CHECK(gpu_memory_make(self->scene->backend, self->device, gpu_shared_kind(self), GPU_PAGE_BYTES, self->stream,
                              &memories[index]),
              "memory");
    }
    for (int graph = 0; graph < graphs_count; graph++) {
        struct gpu_work works[CALLS];
        for (int call = 0; call < CALLS; call++) {
            works[call] = work_of(memories, allocations, graph, call);
        }
        graphs[graph] = gpu_works_capture(self, works, CALLS);
    }
    gpu_meet(self);
    double begin = now_ms();
    CHECK_OK(tutti_commit(self->comm));
    double committed = now_ms();
    uint64_t calls = (uint64_t)graphs_count * CALLS;
    CHECK(gpu_stats(self).committed_calls == calls, "%llu of %llu calls are direct",
          (unsigned long long)gpu_stats(self).committed_calls, (unsigned long long)calls);
    gpu_meet(self);
    double again = now_ms();
    for (int index = 0; index < allocations; index++) {
        CHECK_OK(tutti_suspend(self->comm, memories[index].address, memories[index].bytes));
    }
    double suspended = now_ms();
    gpu_meet(self);
    double resumes = now_ms();
    CHECK_OK(tutti_resume(self->comm));
    double resumed = now_ms();
    CHECK(gpu_stats(self).committed_calls == calls, "not all calls were resumed");
    if (self->rank == 0) {
        printf(
            "%d ranks, %d graphs x %d calls over %d allocations: commit %.1f ms, %d suspends %.1f ms, resume %.1f ms\n",
            self->scene->world, graphs_count, CALLS, allocations, committed - begin, allocations, suspended - again,
            resumed - resumes);
        (void)fflush(stdout);
    }
    struct gpu_work last = work_of(memories, allocations, graphs_count - 1, CALLS - 1);
    tutti_stats stats = gpu_stats(self);
    gpu_works_replay(self, graphs[graphs_count - 1], &last, 1, "the last call of the last graph");
    gpu_stats_grew(self, &stats, CALLS, 0, "the last graph");
    gpu_step(self);
    for (int graph = 0; graph < graphs_count; graph++) {
        gpu_graph_destroy(graphs[graph]);
    }
    gpu_commit_until_empty(self, "graphs of an engine");
    gpu_step(self);
    for (int index = 0; index < allocations; index++) {
        gpu_memory_free(&memories[index], self->stream);
    }
    free(memories);
    free(graphs);
    gpu_step(self);
}

static void body(struct gpu_rank *self, void *user)
{
    int graphs = effort() == EFFORT_QUICK ? 3 : 50;
    (void)user;
    gpu_rank_join(self, 0, 1);
    measure(self, graphs, 1);
    measure(self, graphs, 8);
    measure(self, graphs, effort() == EFFORT_QUICK ? 20 : ALLOCATIONS_MAX);
    gpu_rank_leave(self);
}

int main(int count, char **arguments)
{
    struct gpu_scene *scene = gpu_scene_make(count == 2 ? arguments[1] : "processes-2");
    gpu_scene_run(scene, 280, body, NULL);
    return 0;
}
