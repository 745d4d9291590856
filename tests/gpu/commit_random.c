/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random programs: graphs on two lanes and two streams, in sessions and not, from memory of every kind, another one on each rank, are
 * captured, committed, replayed, suspended with other pages behind their addresses, resumed, given back and destroyed, with eager
 * calls between, some of it on some ranks only, some of it while replays are under way. Whatever happens, every result is right; and
 * in the end nothing is left.
 *
 *     commit_random threads-2     ranks are threads; they share devices if there are fewer of those
 *     commit_random processes-2   a process and a device for each rank
 */
#include <stdio.h>
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu_scene.h"
#include "harness/ranks.h"

#define MEMORIES 5
#define GRAPHS 5
#define WORKS_MAX 3
#define PLACE_BYTES ((size_t)64 << 10) /* of one buffer of one call */
#define ROOM (2 * GPU_PAGE_BYTES)      /* GRAPHS * WORKS_MAX * 2 places fit */

struct model {
    gpu_graph graph; /* NULL: there is none */
    tutti_capture *session;
    struct gpu_work works[WORKS_MAX];
    int count;
};

struct program {
    struct gpu_rank *self;
    uint64_t random; /* the same draws on all ranks */
    struct gpu_memory memories[MEMORIES];
    bool symmetric; /* the first of them is tutti_alloc's */
    struct model models[GRAPHS];
    tutti_stream beside;
    int step;
};

static unsigned draw(struct program *program, unsigned below)
{
    return (unsigned)(ranks_random(&program->random) % below);
}

/* Whether this rank is one of some. */
static bool drawn(struct program *program)
{
    return (ranks_random(&program->random) >> program->self->rank & 1) != 0;
}

static void say(const struct program *program, const char *what, int which)
{
    if (program->self->rank == 0 && getenv("TUTTI_TEST_SEED") != NULL) {
        printf("%4d %s %d\n", program->step, what, which);
        (void)fflush(stdout);
    }
}

/* -- memory --------------------------------------------------------------------------------------------------- */

static void memories_make(struct program *program)
{
    struct gpu_rank *self = program->self;
    program->symmetric = draw(program, 2) == 0;
    for (int index = 0; index < MEMORIES; index++) {
        enum gpu_memory_kind mine = gpu_shared_kind(self);
        for (int rank = 0; rank < self->scene->world; rank++) {
            enum gpu_memory_kind kind = (enum gpu_memory_kind)draw(program, GPU_KIND_COUNT);
            bool usable = kind != GPU_VMM_HOLE && gpu_memory_exists(self->scene->backend, kind);
            /* The first two can be shared by all; of the second the pages can be changed, where that is possible at all. */
            if (index == 1 && gpu_memory_exists(self->scene->backend, GPU_VMM_FD)) {
                mine = GPU_VMM_FD;
            } else if (index > 1 && rank == self->rank && usable) {
                mine = kind;
            }
        }
        struct gpu_memory *memory = &program->memories[index];
        if (index == 0 && program->symmetric) {
            void *part = NULL;
            CHECK_OK(tutti_alloc(self->comm, ROOM, &part));
            *memory = (struct gpu_memory){.kind = GPU_PLAIN, .address = part, .bytes = ROOM};
        } else {
            CHECK(gpu_memory_make(self->scene->backend, self->device, mine, ROOM, self->stream, memory), "%s",
                  gpu_memory_name(mine));
        }
    }
    gpu_stream_wait(self->stream);
}

static void memories_free(struct program *program)
{
    for (int index = 0; index < MEMORIES; index++) {
        if (index == 0 && program->symmetric) {
            CHECK_OK(tutti_free(program->self->comm, program->memories[0].address));
        } else {
            gpu_memory_free(&program->memories[index], program->self->stream);
        }
    }
    gpu_stream_wait(program->self->stream);
}

/* -- graphs ---------------------------------------------------------------------------------------------------- */

static void work_draw(struct program *program, int graph, int index, struct gpu_work *work)
{
    static const tutti_collective kinds[] = {TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER, TUTTI_REDUCE_SCATTER};
    const struct gpu_rank *self = program->self;
    bool common = draw(program, 2) == 0;
    unsigned from = common ? draw(program, 2) : draw(program, MEMORIES);
    unsigned to = common ? draw(program, 2) : draw(program, MEMORIES);
    size_t at = (size_t)(graph * WORKS_MAX + index) * 2 * PLACE_BYTES;
    size_t block = PLACE_BYTES / (size_t)self->scene->world - 16;
    *work = (struct gpu_work){.kind = kinds[draw(program, 3)], .dtype = (tutti_dtype)draw(program, 3)};
    work->lane = draw(program, 2);
    work->bytes = 4 + draw(program, (unsigned)(work->kind == TUTTI_ALL_REDUCE ? PLACE_BYTES - 32 : block)) / 4 * 4;
    work->bytes = draw(program, 4) != 0 ? (work->bytes + 15) / 16 * 16 : work->bytes;
    size_t shift = draw(program, 8) == 0 ? 4 : 0;
    work->src = program->memories[from].address + at + shift;
    work->dst = program->memories[to].address + at + PLACE_BYTES;
    if (draw(program, 3) == 0 && work->kind == TUTTI_ALL_GATHER) {
        work->src = work->dst + (size_t)self->rank * work->bytes;
    } else if (draw(program, 3) == 0 && work->kind != TUTTI_ALL_GATHER) {
        work->dst = work->src + (work->kind == TUTTI_REDUCE_SCATTER ? (size_t)self->rank * work->bytes : 0);
    }
}

/* Lane 1 on a stream beside, within the same capture. */
static gpu_graph record(struct program *program, struct model *model)
{
    struct gpu_rank *self = program->self;
    bool forks = draw(program, 2) == 0;
    gpu_capture_begin(self->stream, GPU_CAPTURE_THREAD_LOCAL);
    if (forks) {
        gpu_stream_follow(program->beside, self->stream);
    }
    for (int index = 0; index < model->count; index++) {
        bool beside = forks && model->works[index].lane == 1;
        CHECK_OK(gpu_work_call(self, &model->works[index], beside ? program->beside : NULL));
    }
    if (forks) {
        gpu_stream_follow(self->stream, program->beside);
    }
    return gpu_capture_end(self->stream);
}

/* A destroyed graph that was never committed may still be there on some rank: then all drop it, and the next commit has the rest. */
static void committed(struct program *program, tutti_status status)
{
    for (int attempt = 0; status == TUTTI_ERR_CAPTURE && attempt < 50; attempt++) {
        status = tutti_commit(program->self->comm);
    }
    CHECK(status == TUTTI_OK, "step %d: %s", program->step, tutti_last_error());
}

static void capture(struct program *program, int which)
{
    struct gpu_rank *self = program->self;
    struct model *model = &program->models[which];
    unsigned session = draw(program, 6); /* 0, 1: committed; 2: aborted; else none */
    model->count = 1 + (int)draw(program, WORKS_MAX);
    for (int index = 0; index < model->count; index++) {
        work_draw(program, which, index, &model->works[index]);
    }
    say(program, "capture", which);
    model->session = NULL;
    gpu_step(self);
    if (session < 3) {
        CHECK_OK(tutti_capture_begin(self->comm, self->stream, &model->session));
    }
    model->graph = record(program, model);
    gpu_step(self);
    if (session < 2) {
        tutti_status status = tutti_capture_commit(model->session);
        for (int attempt = 0; status == TUTTI_ERR_CAPTURE && attempt < 50; attempt++) {
            status = tutti_capture_commit(model->session);
        }
        CHECK_OK(status);
    } else if (session == 2) {
        CHECK_OK(tutti_capture_abort(model->session));
        model->session = NULL;
    }
    gpu_step(self);
}

static void release(struct model *model)
{
    if (model->session != NULL) {
        CHECK_OK(tutti_capture_release(model->session));
        model->session = NULL;
    }
}

static void destroy(struct program *program, int which)
{
    struct model *model = &program->models[which];
    bool early = draw(program, 2) == 0;
    say(program, "destroy", which);
    gpu_step(program->self);
    if (early) {
        release(model);
    }
    gpu_graph_destroy(model->graph);
    model->graph = NULL;
    release(model);
    gpu_step(program->self);
}

/* -- what happens meanwhile -------------------------------------------------------------------------------------- */

static void suspend(struct program *program, bool remaps)
{
    struct gpu_rank *self = program->self;
    int which = (int)draw(program, MEMORIES);
    struct gpu_memory *memory = &program->memories[which];
    bool mine = drawn(program);
    bool can = memory->kind == GPU_VMM_FD || memory->kind == GPU_VMM_BARE;
    say(program, remaps ? "suspend and remap" : "suspend", which);
    gpu_step(self);
    if (mine) {
        CHECK_OK(tutti_suspend(self->comm, memory->address, memory->bytes));
    }
    if (mine && remaps && can) {
        gpu_memory_remap(self->device, memory);
    }
    gpu_step(self);
}

/* All graphs, new inputs, back to back; something happens; the results. */
static void replay(struct program *program)
{
    struct gpu_rank *self = program->self;
    unsigned mask = draw(program, 1u << GRAPHS);
    unsigned event = draw(program, 6);
    say(program, "replay", (int)mask);
    for (int which = 0; which < GRAPHS; which++) {
        struct model *model = &program->models[which];
        for (int index = 0; index < model->count && (mask >> which & 1) != 0 && model->graph != NULL; index++) {
            gpu_work_fill(self, &model->works[index]);
        }
    }
    for (int which = 0; which < GRAPHS; which++) {
        if ((mask >> which & 1) != 0 && program->models[which].graph != NULL) {
            gpu_graph_launch(program->models[which].graph, self->stream);
        }
    }
    gpu_step(self);
    if (event == 0) {
        say(program, "meanwhile commit", 0);
        committed(program, tutti_commit(self->comm));
    } else if (event == 1) {
        suspend(program, false);
    } else if (event == 2) {
        say(program, "meanwhile resume", 0);
        CHECK_OK(tutti_resume(self->comm));
    }
    for (int which = 0; which < GRAPHS; which++) {
        struct model *model = &program->models[which];
        for (int index = 0; index < model->count && (mask >> which & 1) != 0 && model->graph != NULL; index++) {
            char what[48];
            (void)snprintf(what, sizeof(what), "step %d, graph %d, its call %d", program->step, which, index);
            gpu_work_verify(self, &model->works[index], what);
        }
    }
    gpu_step(self);
}

static void eager(struct program *program)
{
    struct gpu_work work;
    work_draw(program, (int)draw(program, GRAPHS), 0, &work);
    say(program, "eager", (int)work.kind);
    gpu_work_fill(program->self, &work);
    CHECK_OK(gpu_work_call(program->self, &work, NULL));
    gpu_work_verify(program->self, &work, "eager");
    gpu_step(program->self);
}

static void one_step(struct program *program)
{
    struct gpu_rank *self = program->self;
    int which = (int)draw(program, GRAPHS);
    struct model *model = &program->models[which];
    unsigned choice = draw(program, 16);
    bool mine = false;
    switch (choice) {
    case 0:
    case 1:
    case 2:
        if (model->graph != NULL) {
            destroy(program, which);
        }
        capture(program, which);
        break;
    case 3:
        if (model->graph != NULL) {
            destroy(program, which);
        }
        break;
    case 4:
    case 5:
        say(program, "commit", 0);
        committed(program, tutti_commit(self->comm));
        gpu_step(self);
        break;
    case 6:
        suspend(program, true);
        break;
    case 7:
        say(program, "resume", 0);
        CHECK_OK(tutti_resume(self->comm));
        gpu_step(self);
        break;
    case 8:
        mine = drawn(program);
        say(program, "release", which);
        gpu_step(self);
        if (mine) {
            release(model);
        }
        gpu_step(self);
        break;
    case 9:
        eager(program);
        break;
    default:
        replay(program);
        break;
    }
}

static void body(struct gpu_rank *self, void *user)
{
    struct program program = {.self = self, .random = *(const uint64_t *)user};
    program.beside = gpu_stream_create();
    gpu_rank_join(self, TUTTI_COMM_DIRECT_FD, 2);
    memories_make(&program);
    gpu_step(self);
    for (program.step = 0; program.step < (effort() == EFFORT_QUICK ? 250 : 1500); program.step++) {
        one_step(&program);
    }
    tutti_stats stats = gpu_stats(self);
    CHECK(stats.direct_calls > 0 && stats.staged_calls > 0, "%llu calls went directly, %llu were staged",
          (unsigned long long)stats.direct_calls, (unsigned long long)stats.staged_calls);
    if (self->rank == 0) {
        printf("%llu calls went directly, %llu were staged, %llu commits\n", (unsigned long long)stats.direct_calls,
               (unsigned long long)stats.staged_calls, (unsigned long long)stats.commits);
    }
    for (int which = 0; which < GRAPHS; which++) {
        if (program.models[which].graph != NULL) {
            destroy(&program, which);
        }
    }
    gpu_commit_until_empty(self, "a random program's end");
    gpu_step(self);
    memories_free(&program);
    gpu_rank_leave(self);
    gpu_stream_destroy(program.beside);
}

int main(int count, char **arguments)
{
    struct gpu_scene *scene = gpu_scene_make(count == 2 ? arguments[1] : "threads-2");
    uint64_t seed = ranks_seed();
    gpu_scene_run(scene, 280, body, &seed);
    return 0;
}
