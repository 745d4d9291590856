/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots of committed graphs: given back with a session, or with the graph itself, taken again by later graphs while older ones are
 * still replayed, and never lost. There are few of them here, so that a lost one shows.
 *
 *     commit_slots threads-2     ranks are threads; they share devices if there are fewer of those
 *     commit_slots processes-2   a process and a device for each rank
 */
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/footprint.h"
#include "harness/gpu_scene.h"

#define BLOCK_BYTES ((size_t)24000)
#define WORKS 3
#define SLOTS 4 /* one more than a graph has calls */
#define GRAPHS 3
#define ROUNDS 200

struct model {
    struct gpu_memory memory;
    struct gpu_work works[GRAPHS][WORKS];
};

static void model_open(struct gpu_rank *self, struct model *model)
{
    static const tutti_collective kinds[WORKS] = {TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER, TUTTI_REDUCE_SCATTER};
    gpu_step(self);
    CHECK(gpu_memory_make(self->scene->backend, self->device, gpu_shared_kind(self), 2 * GPU_PAGE_BYTES, self->stream,
                          &model->memory),
          "memory");
    unsigned char *at = model->memory.address;
    for (int index = 0; index < GRAPHS * WORKS; index++) {
        struct gpu_work *work = &model->works[index / WORKS][index % WORKS];
        *work = (struct gpu_work){.kind = kinds[index % WORKS], .dtype = TUTTI_F32};
        work->bytes = BLOCK_BYTES / (unsigned)self->scene->world / 16 * 16 + (size_t)index * 16;
        work->bytes = work->kind == TUTTI_ALL_REDUCE ? BLOCK_BYTES : work->bytes;
        work->src = at;
        at += (gpu_work_src_bytes(self, work) + 255) / 256 * 256;
        work->dst = at;
        at += (gpu_work_dst_bytes(self, work) + 255) / 256 * 256;
    }
    CHECK(at <= model->memory.address + model->memory.bytes, "too small");
    gpu_step(self);
}

static void model_close(struct gpu_rank *self, struct model *model)
{
    gpu_commit_until_empty(self, "a model's end");
    gpu_step(self);
    gpu_memory_free(&model->memory, self->stream);
    gpu_step(self);
}

static void replay(struct gpu_rank *self, gpu_graph graph, struct gpu_work *works, uint64_t direct, const char *what)
{
    tutti_stats stats = gpu_stats(self);
    gpu_works_replay(self, graph, works, WORKS, what);
    gpu_stats_grew(self, &stats, direct, WORKS - direct, what);
}

static gpu_graph capture_in_session(struct gpu_rank *self, struct gpu_work *works, tutti_capture **session)
{
    gpu_step(self);
    CHECK_OK(tutti_capture_begin(self->comm, self->stream, session));
    gpu_graph graph = gpu_works_capture(self, works, WORKS);
    CHECK_OK(tutti_capture_commit(*session));
    CHECK(gpu_stats(self).slots_taken == WORKS, "%llu slots are taken",
          (unsigned long long)gpu_stats(self).slots_taken);
    gpu_step(self);
    return graph;
}

static void slots_are(const struct gpu_rank *self, uint64_t taken, const char *what)
{
    tutti_stats stats = gpu_stats(self);
    CHECK(stats.slots_taken == taken && (taken > 0 || stats.mappings == 0),
          "rank %d: %s: %llu slots are taken instead of %llu, %llu mappings", self->rank, what,
          (unsigned long long)stats.slots_taken, (unsigned long long)taken, (unsigned long long)stats.mappings);
}

/* The graphs of released sessions go on, beside the one that has their slots now. */
static void recycled(struct gpu_rank *self)
{
    struct model model;
    gpu_graph graphs[GRAPHS];
    model_open(self, &model);
    for (int index = 0; index < GRAPHS; index++) {
        tutti_capture *session = NULL;
        graphs[index] = capture_in_session(self, model.works[index], &session);
        for (int turn = 0; turn < 4 * (index + 1); turn++) {
            int which = turn % (index + 1);
            replay(self, graphs[which], model.works[which], which == index ? WORKS : 0,
                   which == index ? "a graph with its slots" : "a graph whose slots were recycled");
        }
        gpu_step(self);
        CHECK_OK(tutti_capture_release(session));
        slots_are(self, 0, "released");
        gpu_step(self);
        replay(self, graphs[index], model.works[index], 0, "a graph whose session was released");
    }
    gpu_step(self);
    for (int index = 0; index < GRAPHS; index++) {
        gpu_graph_destroy(graphs[index]);
    }
    model_close(self, &model);
}

/* Back to back on the stream, so that one graph's calls begin while the other's have hardly ended, and none of them sees the host. */
static void recycled_in_flight(struct gpu_rank *self)
{
    struct model model;
    tutti_capture *sessions[2];
    gpu_graph graphs[2];
    model_open(self, &model);
    graphs[0] = capture_in_session(self, model.works[0], &sessions[0]);
    gpu_step(self);
    CHECK_OK(tutti_capture_release(sessions[0]));
    gpu_step(self);
    graphs[1] = capture_in_session(self, model.works[1], &sessions[1]);
    for (int round = 0; round < 3; round++) {
        for (int which = 0; which < 2; which++) {
            for (int index = 0; index < WORKS; index++) {
                gpu_work_fill(self, &model.works[which][index]);
            }
        }
        for (int launch = 0; launch < 6; launch++) {
            gpu_graph_launch(graphs[launch % 2], self->stream);
        }
        gpu_step(self);
        if (round == 1) {
            CHECK_OK(tutti_suspend(self->comm, model.memory.address, model.memory.bytes)); /* waits for all of it */
        }
        for (int which = 0; which < 2; which++) {
            for (int index = 0; index < WORKS; index++) {
                gpu_work_verify(self, &model.works[which][index], "two graphs by turns");
            }
        }
        gpu_step(self);
        CHECK_OK(tutti_resume(self->comm));
    }
    replay(self, graphs[1], model.works[1], WORKS, "resumed");
    gpu_step(self);
    gpu_graph_destroy(graphs[0]);
    gpu_graph_destroy(graphs[1]);
    model_close(self, &model);
    CHECK_OK(tutti_capture_release(sessions[1]));
}

/* One rank gives its session back, the others do not know. */
static void released_on_one_rank(struct gpu_rank *self)
{
    struct model model;
    model_open(self, &model);
    for (int one = 0; one < self->scene->world; one++) {
        tutti_capture *session = NULL;
        gpu_graph graph = capture_in_session(self, model.works[0], &session);
        replay(self, graph, model.works[0], WORKS, "committed");
        gpu_step(self);
        if (self->rank == one) {
            CHECK_OK(tutti_capture_release(session));
        }
        gpu_step(self);
        slots_are(self, self->rank == one ? 0 : WORKS, "one rank has released");
        replay(self, graph, model.works[0], 0, "one rank has released");
        CHECK_OK(tutti_resume(self->comm)); /* nothing is suspended: it stays staged */
        replay(self, graph, model.works[0], 0, "one rank has released");
        gpu_step(self);
        if (self->rank != one) {
            CHECK_OK(tutti_capture_release(session));
        }
        gpu_graph_destroy(graph);
        gpu_commit_until_empty(self, "one rank has released");
    }
    model_close(self, &model);
}

/* One rank gives its session up, the others would commit theirs: it is over for all of them. */
static void aborted_on_one_rank(struct gpu_rank *self)
{
    struct model model;
    model_open(self, &model);
    for (int one = 0; one < self->scene->world; one++) {
        tutti_capture *session = NULL;
        gpu_step(self);
        CHECK_OK(tutti_capture_begin(self->comm, self->stream, &session));
        gpu_graph graph = gpu_works_capture(self, model.works[0], WORKS);
        if (self->rank == one) {
            CHECK_OK(tutti_capture_abort(session));
        } else {
            char part[64];
            (void)snprintf(part, sizeof(part), "rank %d has given up its capture session", one);
            CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_capture_commit(session));
            CHECK(strstr(tutti_last_error(), part) != NULL, "%s", tutti_last_error());
            CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_capture_commit(session));
            CHECK_OK(tutti_capture_release(session));
        }
        slots_are(self, 0, "one rank has aborted");
        gpu_step(self);
        replay(self, graph, model.works[0], 0, "one rank has aborted");
        gpu_step(self);
        gpu_graph_destroy(graph);
        gpu_step(self);
        graph = capture_in_session(self, model.works[1], &session);
        replay(self, graph, model.works[1], WORKS, "the next session");
        gpu_step(self);
        CHECK_OK(tutti_capture_release(session));
        gpu_graph_destroy(graph);
        gpu_commit_until_empty(self, "one rank has aborted");
    }
    model_close(self, &model);
}

/* Nobody calls anything when a graph goes. */
static void destroyed(struct gpu_rank *self)
{
    struct model model;
    int rounds = effort() == EFFORT_QUICK ? ROUNDS / 5 : ROUNDS;
    struct footprint before = {0};
    for (int round = 0; round < rounds; round++) {
        if (round == 10) {
            gpu_meet(self);
            before = footprint_take(self->comm); /* what a driver keeps from the first time on is there */
            gpu_meet(self);
        }
        if (round % 10 == 0) {
            model_open(self, &model);
        }
        gpu_graph graph = gpu_works_capture(self, model.works[round % GRAPHS], WORKS);
        CHECK_OK(tutti_commit(self->comm));
        CHECK(gpu_stats(self).committed_calls == WORKS, "round %d: %llu calls are committed", round,
              (unsigned long long)gpu_stats(self).committed_calls);
        gpu_step(self);
        if (round % 5 == 0) {
            replay(self, graph, model.works[round % GRAPHS], WORKS, "captured, committed, destroyed");
        }
        gpu_step(self);
        gpu_graph_destroy(graph);
        gpu_commit_until_empty(self, "captured, committed, destroyed");
        if (round % 10 == 9) {
            model_close(self, &model);
        }
    }
    gpu_meet(self);
    struct footprint after = footprint_take(self->comm);
    footprint_same(&before, &after, "captured, committed, destroyed");
    gpu_meet(self);
}

/* Graphs that are destroyed before any commit take nothing with them. */
static void destroyed_uncommitted(struct gpu_rank *self)
{
    struct model model;
    model_open(self, &model);
    for (int round = 0; round < 20; round++) {
        gpu_graph graph = gpu_works_capture(self, model.works[round % GRAPHS], WORKS);
        gpu_works_replay(self, graph, model.works[round % GRAPHS], WORKS, "never committed");
        gpu_graph_destroy(graph);
    }
    model_close(self, &model);
}

static void body(struct gpu_rank *self, void *user)
{
    (void)user;
    gpu_rank_join(self, 0, 1);
    recycled(self);
    recycled_in_flight(self);
    released_on_one_rank(self);
    aborted_on_one_rank(self);
    destroyed_uncommitted(self);
    destroyed(self);
    gpu_rank_leave(self);
}

int main(int count, char **arguments)
{
    char slots[16];
    struct gpu_scene *scene = gpu_scene_make(count == 2 ? arguments[1] : "threads-2");
    (void)snprintf(slots, sizeof(slots), "%d", SLOTS);
    CHECK(setenv("TUTTI_SLOTS", slots, 1) == 0, "setenv");
    gpu_scene_run(scene, 280, body, NULL);
    return 0;
}
