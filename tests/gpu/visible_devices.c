/* SPDX-License-Identifier: Apache-2.0 */
/*
 * miles#1176: a trainer gives each of its processes other devices to see, in another order, so that a number means another device on each
 * rank. Nothing here is addressed by a peer's number: eager calls, graphs before and after their commit, and memory of tutti_alloc's
 * are right and direct whatever each rank sees.
 *
 *     visible_devices processes-2     a process and a device for each rank
 */
#include <stdio.h>
#include <string.h>

#include "harness/check.h"
#include "harness/gpu_scene.h"

#define BYTES 20000
#define WORKS 3

enum view { OTHER_ORDER, OWN_ONLY, VIEWS };

struct story {
    struct gpu_scene *scene;
    enum view view;
};

/* Rank r's device is number r in a list that begins elsewhere on each rank, or number 0 of its own. */
static void prepare(int rank, void *user)
{
    const struct story *story = user;
    int devices = story->scene->devices;
    char list[64] = "";
    for (int index = 0; index < devices; index++) {
        size_t used = strlen(list);
        int physical = (index + 2 * devices - 2 * rank) % devices;
        (void)snprintf(list + used, sizeof(list) - used, "%s%d", used > 0 ? "," : "", physical);
    }
    if (story->view == OWN_ONLY) {
        (void)snprintf(list, sizeof(list), "%d", devices - 1 - rank);
    }
    const char *name = strcmp(story->scene->backend, "hip") == 0 ? "HIP_VISIBLE_DEVICES" : "CUDA_VISIBLE_DEVICES";
    CHECK(setenv(name, list, 1) == 0, "setenv");
}

static void work_make(struct gpu_rank *self, struct gpu_work *work, tutti_collective kind)
{
    *work = (struct gpu_work){.kind = kind, .dtype = TUTTI_F32, .bytes = BYTES};
    work->src = gpu_alloc(gpu_work_src_bytes(self, work));
    work->dst = gpu_alloc(gpu_work_dst_bytes(self, work));
}

static void symmetric_check(struct gpu_rank *self)
{
    void *memory = NULL;
    CHECK_OK(tutti_alloc(self->comm, 2 * (size_t)BYTES + 16, &memory));
    unsigned char *bytes = memory;
    struct gpu_work work = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F32, .bytes = BYTES, .src = bytes};
    work.dst = bytes + BYTES;
    gpu_work_fill(self, &work);
    CHECK_OK(gpu_work_call(self, &work, NULL));
    gpu_work_verify(self, &work, "in tutti_alloc's memory");
    gpu_meet(self);
    CHECK_OK(tutti_free(self->comm, memory));
}

static void live(struct gpu_rank *self, void *user)
{
    static const tutti_collective kinds[WORKS] = {TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER, TUTTI_REDUCE_SCATTER};
    struct gpu_work works[WORKS];
    (void)user;
    gpu_rank_join(self, 0, 1);
    for (int index = 0; index < WORKS; index++) {
        work_make(self, &works[index], kinds[index]);
        gpu_work_fill(self, &works[index]);
        CHECK_OK(gpu_work_call(self, &works[index], NULL));
        gpu_work_verify(self, &works[index], "eagerly");
    }
    gpu_graph graph = gpu_works_capture(self, works, WORKS);
    gpu_works_replay(self, graph, works, WORKS, "before the commit");
    CHECK_OK(tutti_commit(self->comm));
    tutti_stats stats = gpu_stats(self);
    CHECK(stats.committed_calls == WORKS, "%llu calls are direct", (unsigned long long)stats.committed_calls);
    gpu_works_replay(self, graph, works, WORKS, "committed");
    gpu_stats_grew(self, &stats, WORKS, 0, "committed");
    symmetric_check(self);
    gpu_graph_destroy(graph);
    gpu_commit_until_empty(self, "at the end");
    gpu_rank_leave(self);
    for (int index = 0; index < WORKS; index++) {
        gpu_free(works[index].src);
        gpu_free(works[index].dst);
    }
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "processes-2";
    for (int view = 0; view < VIEWS; view++) {
        struct story story = {gpu_scene_make(how), (enum view)view};
        CHECK(!story.scene->threads, "threads of one process see the same devices");
        story.scene->prepare = prepare;
        story.scene->own_device_only = view == OWN_ONLY;
        gpu_scene_run(story.scene, 60, live, &story);
    }
    return 0;
}
