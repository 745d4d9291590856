/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that goes away under committed graphs and comes back: a memory saver is imitated, which puts other pages behind the same
 * addresses. tutti_suspend, the remapping, a broadcast of new weights, tutti_resume: the same graph is right and direct again, if
 * its memory can be shared at all. On one rank alone; and without tutti_suspend, which is told.
 *
 *     suspend threads-2     ranks are threads; they share devices if there are fewer of those
 *     suspend processes-2   a process and a device for each rank
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu_scene.h"
#include "harness/values.h"

#define BLOCK_BYTES ((size_t)48000)
#define ROOM (2 * GPU_PAGE_BYTES)
#define WEIGHTS_AT GPU_PAGE_BYTES
#define WEIGHTS_BYTES ((size_t)100000)
#define WORKS 3
#define ROUNDS 3
#define LONG_BYTES ((size_t)640 << 10)
#define UNDER_WAY_ROUNDS (effort() == EFFORT_QUICK ? 5 : 12)

struct model {
    struct gpu_memory memory;
    struct gpu_work works[WORKS];
    gpu_graph graph;
    uint64_t direct; /* of the works, once they are committed */
};

static void model_open(struct gpu_rank *self, struct model *model, enum gpu_memory_kind kind, bool shared)
{
    static const tutti_collective kinds[WORKS] = {TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER, TUTTI_REDUCE_SCATTER};
    gpu_step(self);
    CHECK(gpu_memory_make(self->scene->backend, self->device, kind, ROOM, self->stream, &model->memory), "%s",
          gpu_memory_name(kind));
    unsigned char *at = model->memory.address;
    for (int index = 0; index < WORKS; index++) {
        struct gpu_work *work = &model->works[index];
        *work = (struct gpu_work){
            .kind = kinds[index], .dtype = TUTTI_BF16, .bytes = BLOCK_BYTES / (unsigned)self->scene->world / 16 * 16};
        work->src = at;
        at += (gpu_work_src_bytes(self, work) + 255) / 256 * 256;
        work->dst = at;
        at += (gpu_work_dst_bytes(self, work) + 255) / 256 * 256;
    }
    CHECK(at <= model->memory.address + WEIGHTS_AT, "too small");
    model->direct = shared ? WORKS : 0;
    model->graph = gpu_works_capture(self, model->works, WORKS);
}

static void model_close(struct gpu_rank *self, struct model *model)
{
    gpu_step(self);
    gpu_graph_destroy(model->graph);
    gpu_commit_until_empty(self, "a model's end");
    gpu_step(self);
    gpu_memory_free(&model->memory, self->stream);
    gpu_step(self);
}

static void replay(struct gpu_rank *self, struct model *model, uint64_t direct, const char *what)
{
    tutti_stats stats = gpu_stats(self);
    gpu_works_replay(self, model->graph, model->works, WORKS, what);
    gpu_stats_grew(self, &stats, direct, WORKS - direct, what);
}

/* New weights for everybody, from one rank, into memory that was remapped. */
static void weights_spread(struct gpu_rank *self, struct model *model)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = self->stream};
    unsigned char *weights = model->memory.address + WEIGHTS_AT;
    unsigned char *host = malloc(WEIGHTS_BYTES);
    uint64_t number = ++self->call;
    int root = (int)(number % (uint64_t)self->scene->world);
    CHECK(host != NULL, "memory");
    if (self->rank == root) {
        values_fill_bytes(host, number, root, 0, WEIGHTS_BYTES);
        gpu_upload(weights, host, WEIGHTS_BYTES, self->stream);
        gpu_stream_wait(self->stream);
    }
    CHECK_OK(tutti_broadcast(self->comm, weights, WEIGHTS_BYTES, root, &call));
    memset(host, 0, WEIGHTS_BYTES);
    gpu_download(host, weights, WEIGHTS_BYTES, self->stream);
    CHECK(values_check_bytes(host, number, root, 0, WEIGHTS_BYTES), "rank %d: weights", self->rank);
    free(host);
    gpu_step(self);
}

static void check_states(const struct gpu_rank *self, uint64_t committed, uint64_t suspended, const char *what)
{
    tutti_stats stats = gpu_stats(self);
    CHECK(stats.committed_calls == committed && stats.suspended_calls == suspended,
          "rank %d: %s: %llu calls are committed and %llu suspended, not %llu and %llu", self->rank, what,
          (unsigned long long)stats.committed_calls, (unsigned long long)stats.suspended_calls,
          (unsigned long long)committed, (unsigned long long)suspended);
}

/* -- the memory saver ----------------------------------------------------------------------------------------------- */

static void suspend_all(struct gpu_rank *self, const struct model *model)
{
    gpu_step(self);
    CHECK_OK(tutti_suspend(self->comm, model->memory.address, model->memory.bytes));
    check_states(self, 0, model->direct, "suspended");
    if (model->direct > 0) {
        CHECK(gpu_stats(self).mappings == 0, "mappings are left");
    }
}

static void saver(struct gpu_rank *self, enum gpu_memory_kind kind, bool shared)
{
    struct model model;
    model_open(self, &model, kind, shared);
    replay(self, &model, 0, "before the commit");
    CHECK_OK(tutti_commit(self->comm));
    for (int round = 0; round < ROUNDS; round++) {
        replay(self, &model, model.direct, "committed");
        suspend_all(self, &model);
        gpu_step(self);
        gpu_memory_remap(self->device, &model.memory);
        gpu_step(self);
        weights_spread(self, &model);
        if (round != 1) {
            replay(self, &model, 0, "suspended");
        }
        CHECK_OK(tutti_resume(self->comm));
        check_states(self, model.direct, 0, "resumed");
        replay(self, &model, model.direct, "resumed");
    }
    model_close(self, &model);
}

/* -- on one rank alone ------------------------------------------------------------------------------------------------ */

static void one_rank(struct gpu_rank *self, enum gpu_memory_kind kind)
{
    struct model model;
    model_open(self, &model, kind, true);
    CHECK_OK(tutti_commit(self->comm));
    for (int one = 0; one < self->scene->world; one++) {
        bool mine = self->rank == one;
        replay(self, &model, WORKS, "all ranks committed");
        gpu_step(self);
        if (mine) {
            CHECK_OK(tutti_suspend(self->comm, model.memory.address, model.memory.bytes));
        }
        if (mine && kind == GPU_VMM_FD) {
            gpu_memory_remap(self->device, &model.memory);
        }
        gpu_step(self);
        check_states(self, mine ? 0 : WORKS, mine ? WORKS : 0, "one rank suspended");
        replay(self, &model, 0, "one rank suspended");
        weights_spread(self, &model);
        replay(self, &model, 0, "one rank suspended");
        CHECK_OK(tutti_resume(self->comm));
        check_states(self, WORKS, 0, "one rank suspended, and all resumed");
        replay(self, &model, WORKS, "one rank suspended, and all resumed");
    }
    model_close(self, &model);
}

/* While launches are under way, at one time or another: what they use may not go before they have ended. All ranks have launched, so that
 * nobody waits for a rank that waits here. */
static void under_way(struct gpu_rank *self, enum gpu_memory_kind kind)
{
    struct model model;
    model_open(self, &model, kind, true);
    for (int index = 0; index < WORKS; index++) {
        struct gpu_work *work = &model.works[index]; /* the graph that was captured has shorter ones */
        work->src = model.memory.address + (size_t)index * 2 * LONG_BYTES;
        work->dst = work->src + LONG_BYTES;
        work->bytes = work->kind == TUTTI_ALL_REDUCE ? LONG_BYTES : LONG_BYTES / (unsigned)self->scene->world / 16 * 16;
    }
    CHECK_OK(tutti_commit(self->comm));
    gpu_step(self);
    gpu_graph_destroy(model.graph);
    model.graph = gpu_works_capture(self, model.works, WORKS);
    CHECK_OK(tutti_commit(self->comm));
    for (int round = 0; round < UNDER_WAY_ROUNDS; round++) {
        const struct timespec pause = {0, (long)round * 300000};
        for (int index = 0; index < WORKS; index++) {
            gpu_work_fill(self, &model.works[index]);
        }
        gpu_meet(self);
        gpu_graph_launch(model.graph, self->stream);
        gpu_graph_launch(model.graph, self->stream);
        gpu_meet(self);
        (void)nanosleep(&pause, NULL);
        if (self->rank != round % self->scene->world) {
            CHECK_OK(tutti_suspend(self->comm, model.memory.address, model.memory.bytes));
        }
        for (int index = 0; index < WORKS; index++) {
            gpu_work_verify(self, &model.works[index], "suspended while replays were under way");
        }
        gpu_step(self);
        CHECK_OK(tutti_resume(self->comm));
        gpu_step(self);
    }
    replay(self, &model, WORKS, "resumed");
    model_close(self, &model);
}

/* A part of what a graph uses: the other calls stay as they are. */
static void one_buffer(struct gpu_rank *self, enum gpu_memory_kind kind)
{
    struct model model;
    model_open(self, &model, kind, true);
    CHECK_OK(tutti_commit(self->comm));
    for (int index = 0; index < WORKS; index++) {
        gpu_step(self);
        CHECK_OK(tutti_suspend(self->comm, model.works[index].dst, 16));
        check_states(self, WORKS - 1, 1, "one buffer suspended");
        gpu_step(self);
        replay(self, &model, WORKS - 1, "one buffer suspended");
        CHECK_OK(tutti_resume(self->comm));
        replay(self, &model, WORKS, "one buffer suspended, and resumed");
    }
    model_close(self, &model);
}

/* -- without ------------------------------------------------------------------------------------------------------------ */

static void remapped_unasked(struct gpu_rank *self, enum gpu_memory_kind kind, bool by_release)
{
    struct model model;
    tutti_capture *session = NULL;
    tutti_status status;
    CHECK_OK(tutti_capture_begin(self->comm, self->stream, &session));
    model_open(self, &model, kind, true);
    CHECK_OK(tutti_capture_commit(session));
    replay(self, &model, WORKS, "committed");
    gpu_step(self);
    gpu_memory_remap(self->device, &model.memory);
    status = by_release ? tutti_capture_release(session)
                        : tutti_suspend(self->comm, model.memory.address, model.memory.bytes);
    CHECK(status == TUTTI_ERR_ARGUMENT && strstr(tutti_last_error(), "freed or mapped anew") != NULL,
          "memory was remapped without tutti_suspend, and nobody says so: %s (%s)", tutti_status_name(status),
          tutti_last_error());
    check_states(self, 0, by_release ? 0 : WORKS, "remapped unasked");
    gpu_step(self);
    replay(self, &model, 0, "remapped unasked");
    CHECK_OK(tutti_resume(self->comm));
    replay(self, &model, by_release ? 0 : WORKS, "remapped unasked, and resumed");
    /* It is asked anew every time. */
    if (!by_release) {
        gpu_step(self);
        CHECK_OK(tutti_suspend(self->comm, model.works[0].src, 16));
        gpu_memory_remap(self->device, &model.memory);
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_suspend(self->comm, model.memory.address, model.memory.bytes));
        gpu_step(self);
    }
    model_close(self, &model);
    if (!by_release) {
        CHECK_OK(tutti_capture_release(session));
    }
}

/* -- memory in pieces ----------------------------------------------------------------------------------------------------- */

/* Four pieces of one page each. Calls use the first two, and the last two, as one: */
#define PIECE(model, number) ((model)->memory.address + (size_t)(number)*GPU_PAGE_BYTES)

static void pieces_open(struct gpu_rank *self, struct model *model)
{
    const size_t bytes = BLOCK_BYTES / (unsigned)self->scene->world / 16 * 16;
    gpu_step(self);
    CHECK(gpu_memory_make(self->scene->backend, self->device, GPU_VMM_PAIR, 4 * GPU_PAGE_BYTES, self->stream,
                          &model->memory),
          "memory");
    unsigned char *first = PIECE(model, 1) - bytes / 2 / 16 * 16;
    unsigned char *second = PIECE(model, 3) - bytes / 2 / 16 * 16;
    model->works[0] = (struct gpu_work){
        .kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .bytes = bytes, .src = first, .dst = first + 2 * BLOCK_BYTES};
    model->works[1] = (struct gpu_work){
        .kind = TUTTI_ALL_GATHER, .dtype = TUTTI_BF16, .bytes = bytes, .src = first + 4 * BLOCK_BYTES, .dst = second};
    model->works[2] = (struct gpu_work){.kind = TUTTI_REDUCE_SCATTER,
                                        .dtype = TUTTI_BF16,
                                        .bytes = bytes,
                                        .src = second + 2 * BLOCK_BYTES,
                                        .dst = second + 4 * BLOCK_BYTES};
    model->direct = WORKS;
    model->graph = gpu_works_capture(self, model->works, WORKS);
}

/* A piece of which no call uses a byte is suspended, and then lies elsewhere: what has it mapped for its neighbour must go, too. */
static void piece_lent(struct gpu_rank *self, struct model *model, int piece, uint64_t calls)
{
    gpu_step(self);
    CHECK_OK(tutti_suspend(self->comm, PIECE(model, piece) + GPU_PAGE_BYTES / 4, 16));
    check_states(self, WORKS - calls, calls, "a piece suspended");
    gpu_step(self);
    gpu_memory_remap_piece(self->device, &model->memory, piece);
    gpu_step(self);
    replay(self, model, WORKS - calls, "a piece suspended, and mapped anew");
    CHECK_OK(tutti_resume(self->comm));
    check_states(self, WORKS, 0, "a piece resumed");
    replay(self, model, WORKS, "a piece resumed");
}

static void pieces(struct gpu_rank *self)
{
    struct model model;
    pieces_open(self, &model);
    CHECK_OK(tutti_commit(self->comm));
    check_states(self, WORKS, 0, "pieces");
    CHECK(gpu_stats(self).mappings == 2u * (unsigned)(self->scene->world - 1), "%llu mappings of two runs a rank",
          (unsigned long long)gpu_stats(self).mappings);
    replay(self, &model, WORKS, "pieces");
    piece_lent(self, &model, 0, 1);
    piece_lent(self, &model, 2, 2);
    piece_lent(self, &model, 1, 1);
    gpu_step(self);
    gpu_memory_remap_piece(self->device, &model.memory, 3);
    tutti_status status = tutti_suspend(self->comm, PIECE(&model, 2), 16);
    CHECK(status == TUTTI_ERR_ARGUMENT && strstr(tutti_last_error(), "freed or mapped anew") != NULL,
          "a piece was remapped without tutti_suspend, and nobody says so: %s (%s)", tutti_status_name(status),
          tutti_last_error());
    gpu_step(self);
    CHECK_OK(tutti_resume(self->comm));
    replay(self, &model, WORKS, "a piece remapped unasked, and resumed");
    suspend_all(self, &model);
    gpu_step(self);
    gpu_memory_remap(self->device, &model.memory);
    gpu_step(self);
    CHECK_OK(tutti_resume(self->comm));
    replay(self, &model, WORKS, "all pieces mapped anew, and resumed");
    model_close(self, &model);
}

static void arguments(struct gpu_rank *self)
{
    unsigned char *memory = gpu_alloc(4096);
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_suspend(self->comm, NULL, 16));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_suspend(self->comm, memory, 0));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_suspend(self->comm, memory, SIZE_MAX));
    CHECK_OK(tutti_suspend(self->comm, memory, 4096)); /* nothing uses it */
    CHECK_OK(tutti_resume(self->comm));
    gpu_step(self);
    gpu_free(memory);
    gpu_step(self);
}

/* So that who reads how it ended knows where. */
static void begin(const struct gpu_rank *self, const char *part)
{
    if (self->rank == 0) {
        printf("%s\n", part);
        (void)fflush(stdout);
    }
}

static void body(struct gpu_rank *self, void *user)
{
    bool threads = self->scene->threads;
    (void)user;
    gpu_rank_join(self, 0, 1);
    arguments(self);
    begin(self, "one rank alone");
    one_rank(self, gpu_shared_kind(self));
    begin(self, "one buffer alone");
    one_buffer(self, gpu_shared_kind(self));
    begin(self, "replays under way");
    under_way(self, gpu_shared_kind(self));
    if (!gpu_memory_exists(self->scene->backend, GPU_VMM_FD)) {
        gpu_rank_leave(self); /* nothing can be put behind an address here */
        return;
    }
    begin(self, "a memory saver's memory, without a handle type");
    saver(self, GPU_VMM_BARE, threads);
    begin(self, "a memory saver's memory");
    saver(self, GPU_VMM_FD, threads);
    gpu_rank_leave(self);
    gpu_rank_join(self, TUTTI_COMM_DIRECT_FD, 1);
    begin(self, "a memory saver's memory, shared");
    saver(self, GPU_VMM_FD, true);
    one_rank(self, GPU_VMM_FD);
    begin(self, "remapped unasked");
    remapped_unasked(self, GPU_VMM_FD, false);
    remapped_unasked(self, GPU_VMM_FD, true);
    begin(self, "in pieces");
    pieces(self);
    gpu_rank_leave(self);
}

int main(int count, char **arguments_given)
{
    struct gpu_scene *scene = gpu_scene_make(count == 2 ? arguments_given[1] : "threads-2");
    gpu_scene_run(scene, 280, body, NULL);
    return 0;
}
