/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each driver call of tutti_commit, tutti_suspend and tutti_resume failing once, on rank 1. What cannot be exported is staged, and says so. Of
 * any other failure all ranks hear by one sentence; everything stays right and staged, and the next attempt succeeds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/gpu_scene.h"
#include "harness/verdicts.h"

#define BYTES ((size_t)12000)
#define WORKS 3

enum stage { COMMIT, SUSPEND, RESUME, RESUME_OTHERS, STAGES };
static const char *const stage_names[STAGES] = {"tutti_commit", "tutti_suspend", "tutti_resume", "tutti_resume"};

struct story {
    const char *call; /* that fails */
    int which, result;
    enum gpu_memory_kind kind;
    const char *arena; /* how the communicator's own memory is shared: by other calls than those that fail */
    struct verdicts *verdicts[STAGES];
};

static void prepare(int rank, void *user)
{
    const struct story *story = user;
    char fault[80];
    (void)snprintf(fault, sizeof(fault), "%s@%d=%d", story->call, story->which, story->result);
    CHECK(setenv("TUTTI_GPU_ARENA", story->arena, 1) == 0, "setenv");
    CHECK(rank != 1 || setenv("SIMGPU_FAULTS", fault, 1) == 0, "setenv");
}

static void replay(struct gpu_rank *self, gpu_graph graph, struct gpu_work *works, uint64_t direct, const char *what)
{
    tutti_stats stats = gpu_stats(self);
    gpu_works_replay(self, graph, works, WORKS, what);
    gpu_stats_grew(self, &stats, direct, WORKS - direct, what);
}

/* A step that all ranks take: it fails on all of them, and then once more, or on none. */
static void take(struct gpu_rank *self, const struct story *story, enum stage stage, gpu_graph graph,
                 struct gpu_work *works)
{
    tutti_status (*step)(tutti_comm *) = stage == COMMIT ? tutti_commit : tutti_resume;
    tutti_status status = step(self->comm);
    verdict_give(story->verdicts[stage], self->rank, status);
    if (status != TUTTI_OK) {
        CHECK(gpu_stats(self).committed_calls == 0 || stage == RESUME_OTHERS, "some calls are committed");
        replay(self, graph, works, 0, "after a failure");
        CHECK_OK(step(self->comm));
        CHECK(gpu_stats(self).committed_calls == WORKS, "the next attempt has committed %llu calls",
              (unsigned long long)gpu_stats(self).committed_calls);
    }
}

static void live(struct gpu_rank *self, void *user)
{
    struct story *story = user;
    struct gpu_memory memory;
    struct gpu_work works[WORKS];
    static const tutti_collective kinds[WORKS] = {TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER, TUTTI_REDUCE_SCATTER};
    if (gpu_rank_try_join(self, TUTTI_COMM_DIRECT_FD, 1) != TUTTI_OK) {
        return; /* the fault came too early */
    }
    bool pieces = story->kind == GPU_VMM_PAIR; /* the first buffer spans two of them */
    CHECK(gpu_memory_make(self->scene->backend, self->device, story->kind, (pieces ? 2 : 1) * GPU_PAGE_BYTES,
                          self->stream, &memory),
          "memory");
    unsigned char *first = memory.address + (pieces ? GPU_PAGE_BYTES - BYTES / 2 : 0);
    for (int index = 0; index < WORKS; index++) {
        works[index] = (struct gpu_work){.kind = kinds[index], .dtype = TUTTI_F32, .bytes = BYTES};
        works[index].src = first + (size_t)index * 8 * BYTES;
        works[index].dst = works[index].src + 4 * BYTES;
    }
    gpu_graph graph = gpu_works_capture(self, works, WORKS);
    take(self, story, COMMIT, graph, works);
    if (gpu_stats(self).committed_calls == 0) { /* not to be exported on this occasion */
        tutti_plan_t plan = {.struct_bytes = sizeof(plan)};
        CHECK_OK(tutti_plan(self->comm, TUTTI_ALL_REDUCE, (size_t)1 << 20, TUTTI_F32, &plan));
        CHECK(strstr(plan.reason, "rank 1: ") != NULL && strstr(plan.reason, story->call) != NULL, "%s", plan.reason);
        (void)snprintf(story->verdicts[COMMIT]->ranks[self->rank].sentence, 512, "staged: %s",
                       strstr(plan.reason, "rank 1: "));
        replay(self, graph, works, 0, "not exported");
        gpu_graph_destroy(graph);
        graph = gpu_works_capture(self, works, WORKS);
        CHECK_OK(tutti_commit(self->comm));
    }
    replay(self, graph, works, WORKS, "committed");
    tutti_status status = tutti_suspend(self->comm, memory.address, memory.bytes);
    verdict_give(story->verdicts[SUSPEND], self->rank, status);
    if (status != TUTTI_OK) {
        CHECK(gpu_stats(self).committed_calls == WORKS, "a suspend that failed has changed something");
        CHECK_OK(tutti_suspend(self->comm, memory.address, memory.bytes));
    }
    gpu_meet(self);
    take(self, story, RESUME, graph, works);
    /* Whose memory could not be exported then is staged for good. */
    replay(self, graph, works, gpu_stats(self).committed_calls, "resumed");
    status = self->rank == 0 ? tutti_suspend(self->comm, memory.address, memory.bytes) : TUTTI_OK;
    CHECK_OK(status);
    gpu_meet(self);
    take(self, story, RESUME_OTHERS, graph, works); /* the others withdraw theirs first */
    replay(self, graph, works, gpu_stats(self).committed_calls, "resumed by one, and by others");
    gpu_graph_destroy(graph);
    gpu_commit_until_empty(self, "a story's end");
    gpu_memory_free(&memory, self->stream);
    gpu_rank_leave(self);
}

/* Which stages failed, or left everything staged, in any of the stories. */
static void tell(struct gpu_scene *scene, struct story *story, int first, int last, int failures[STAGES], int *refused)
{
    for (story->which = first; story->which <= last; story->which++) {
        for (int stage = 0; stage < STAGES; stage++) {
            verdicts_clear(story->verdicts[stage]);
        }
        gpu_scene_run(scene, 60, live, story);
        for (int stage = 0; stage < STAGES; stage++) {
            const struct verdict *heard = &story->verdicts[stage]->ranks[1];
            if (heard->given && heard->status != TUTTI_OK) {
                printf("%s@%d: %s: %s\n", story->call, story->which, stage_names[stage], heard->sentence);
                failures[stage]++;
            }
            if (heard->given && heard->status != TUTTI_OK && stage != SUSPEND) {
                verdicts_check(story->verdicts[stage], scene->world, TUTTI_ERR_DRIVER, stage_names[stage]);
                verdict_check(story->verdicts[stage], 0, TUTTI_ERR_DRIVER, "rank 1: ");
            }
            *refused += heard->given && heard->status == TUTTI_OK && strncmp(heard->sentence, "staged", 6) == 0;
        }
    }
}

/* expected: bit for each stage that fails with one of these calls, and bit STAGES if the memory is staged. */
static void calls_fail(struct gpu_scene *scene, const char *call, int first, int last, enum gpu_memory_kind kind,
                       const char *arena, unsigned expected)
{
    int failures[STAGES] = {0};
    int refused = 0;
    struct story story = {.call = call, .result = 2, .kind = kind, .arena = arena};
    for (int stage = 0; stage < STAGES; stage++) {
        story.verdicts[stage] = verdicts_create();
    }
    tell(scene, &story, first, last, failures, &refused);
    unsigned found = refused > 0 ? 1u << STAGES : 0;
    for (int stage = 0; stage < STAGES; stage++) {
        found |= failures[stage] > 0 ? 1u << stage : 0;
    }
    CHECK(found == expected, "%s: stages 0x%x instead of 0x%x", call, found, expected);
}

/* A session of which one half is suspended already; its release fails on rank 1. */
static void release_half(struct gpu_rank *self, void *user)
{
    struct story *story = user;
    struct gpu_memory memory;
    struct gpu_work works[WORKS];
    tutti_capture *session = NULL;
    if (gpu_rank_try_join(self, TUTTI_COMM_DIRECT_FD, 1) != TUTTI_OK) {
        return; /* the fault came too early */
    }
    CHECK(gpu_memory_make(self->scene->backend, self->device, story->kind, GPU_PAGE_BYTES, self->stream, &memory),
          "memory");
    for (int index = 0; index < WORKS; index++) {
        works[index] = (struct gpu_work){.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F32, .bytes = BYTES};
        works[index].src = memory.address + (size_t)index * 2 * BYTES;
        works[index].dst = works[index].src + BYTES;
    }
    CHECK_OK(tutti_capture_begin(self->comm, self->stream, &session));
    gpu_graph graph = gpu_works_capture(self, works, WORKS);
    tutti_status status = tutti_capture_commit(session);
    CHECK_OK(status == TUTTI_ERR_DRIVER ? tutti_capture_commit(session) : status);
    gpu_meet(self);
    if (tutti_suspend(self->comm, memory.address, BYTES) != TUTTI_OK) {
        CHECK_OK(tutti_suspend(self->comm, memory.address, BYTES));
    }
    gpu_meet(self);
    status = tutti_capture_release(session);
    verdict_give(story->verdicts[SUSPEND], self->rank, status);
    if (status != TUTTI_OK) {
        tutti_stats stats = gpu_stats(self);
        CHECK(stats.suspended_calls == 1 && stats.committed_calls == WORKS - 1 && stats.slots_taken == WORKS,
              "a release that failed has given back something: %llu suspended, %llu committed, %llu slots",
              (unsigned long long)stats.suspended_calls, (unsigned long long)stats.committed_calls,
              (unsigned long long)stats.slots_taken);
        CHECK_OK(tutti_capture_release(session));
    }
    CHECK(gpu_stats(self).slots_taken == 0, "slots are left");
    gpu_meet(self);
    replay(self, graph, works, 0, "released");
    gpu_graph_destroy(graph);
    gpu_commit_until_empty(self, "a release's end");
    gpu_memory_free(&memory, self->stream);
    gpu_rank_leave(self);
}

static void releases_fail(struct gpu_scene *scene, const char *call, int first, int last)
{
    struct story story = {.call = call, .result = 2, .kind = GPU_PLAIN, .arena = "vmm"};
    int failures = 0;
    story.verdicts[SUSPEND] = verdicts_create();
    for (story.which = first; story.which <= last; story.which++) {
        verdicts_clear(story.verdicts[SUSPEND]);
        gpu_scene_run(scene, 60, release_half, &story);
        const struct verdict *heard = &story.verdicts[SUSPEND]->ranks[1];
        failures += heard->given && heard->status == TUTTI_ERR_DRIVER;
    }
    CHECK(failures > 0, "%s: no release has failed", call);
}

int main(void)
{
    const unsigned table = 1u << COMMIT | 1u << RESUME | 1u << RESUME_OTHERS;
    const unsigned waits = 1u << SUSPEND | 1u << RESUME_OTHERS;
    const unsigned refused = 1u << STAGES;
    struct gpu_scene *scene = gpu_scene_make("processes-3");
    scene->prepare = prepare;
    if (strcmp(scene->backend, "cuda") == 0) {
        calls_fail(scene, "cuIpcGetMemHandle", 1, 3, GPU_PLAIN, "vmm", refused);
        calls_fail(scene, "cuIpcOpenMemHandle_v2", 1, 6, GPU_PLAIN, "vmm", table);
        calls_fail(scene, "cuMemRetainAllocationHandle", 1, 2, GPU_VMM_FD, "ipc", refused);
        calls_fail(scene, "cuMemExportToShareableHandle", 1, 2, GPU_VMM_FD, "ipc", refused);
        calls_fail(scene, "cuMemImportFromShareableHandle", 1, 6, GPU_VMM_FD, "ipc", table);
        calls_fail(scene, "cuMemMap", 2, 7, GPU_VMM_FD, "ipc", table);
        calls_fail(scene, "cuMemAddressReserve", 3, 6, GPU_VMM_PAIR, "ipc", table);
        calls_fail(scene, "cuMemMap", 6, 11, GPU_VMM_PAIR, "ipc", table);
        calls_fail(scene, "cuStreamCreate", 6, 17, GPU_PLAIN, "vmm", table | waits);
        releases_fail(scene, "cuStreamCreate", 9, 14);
        return 0;
    }
    calls_fail(scene, "hipIpcGetMemHandle", 2, 3, GPU_PLAIN, "auto", refused);
    calls_fail(scene, "hipIpcOpenMemHandle", 3, 8, GPU_PLAIN, "auto", table);
    return 0;
}
