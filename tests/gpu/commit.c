/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captured calls and tutti_commit: with every kind of memory, alone and another one on some rank, each collective is right before the
 * commit, while one lands, and after it; it is direct if all ranks' buffers can be shared, and else staged with a reason that names the
 * rank and what its memory is.
 *
 *     commit threads-2     ranks are threads; they share devices if there are fewer of those
 *     commit processes-2   a process and a device for each rank
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu_scene.h"

#define BLOCK_BYTES (effort() == EFFORT_QUICK ? (size_t)12000 : (size_t)65520)
#define ROOM (2 * GPU_PAGE_BYTES)
#define WORKS 6
#define LAUNCHES 10

/* -- what must become of a call ------------------------------------------------------------------------------- */

/* Whether all ranks reach this memory of one rank; the words that tutti_plan has to say of it if not. */
static bool shareable(const struct gpu_rank *self, enum gpu_memory_kind kind, uint32_t flags, const char **words)
{
    const struct gpu_scene *scene = self->scene;
    bool hip = strcmp(scene->backend, "hip") == 0;
    *words = "";
    switch (kind) {
    case GPU_PLAIN:
        *words = "other devices";
        return !scene->threads || scene->devices == 1 || hip;
    case GPU_VMM_BARE:
        *words = "without a type of handle";
        return scene->threads;
    case GPU_VMM_FD:
    case GPU_VMM_PAIR:
        *words = "TUTTI_COMM_DIRECT_FD";
        return scene->threads || (flags & TUTTI_COMM_DIRECT_FD) != 0;
    case GPU_POOL:
        *words = "stream-ordered pool";
        return false;
    case GPU_MANAGED:
        *words = "managed memory";
        return false;
    case GPU_PINNED:
        *words = "host memory";
        return false;
    case GPU_VMM_HOLE:
    case GPU_KIND_COUNT:
        break;
    }
    return false;
}

/* -- one scenario: kinds of memory, by rank ------------------------------------------------------------------------ */

struct scenario {
    const char *name;
    enum gpu_memory_kind kinds[2][8]; /* of src and dst, by rank */
    uint32_t flags;
};

/* Each collective, with src and dst apart, and in place. */
static void works_place(const struct gpu_rank *self, const struct gpu_memory memory[2], struct gpu_work works[WORKS],
                        bool uses[WORKS][2])
{
    static const tutti_collective kinds[] = {TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER, TUTTI_REDUCE_SCATTER};
    static const tutti_dtype dtypes[] = {TUTTI_F32, TUTTI_BF16, TUTTI_F16};
    unsigned char *at[2];
    size_t totals[2] = {0, 0};
    for (int index = 0; index < WORKS; index++) {
        struct gpu_work *work = &works[index];
        *work = (struct gpu_work){.kind = kinds[index % 3], .dtype = dtypes[index % 3], .bytes = BLOCK_BYTES};
        totals[0] += gpu_work_src_bytes(self, work);
        totals[1] += gpu_work_dst_bytes(self, work);
    }
    /* Around the border of two pages, which for VMM memory in pieces is one of allocations: src of the all_reduce in place and dst of the
     * all_gather in place span it. */
    at[0] = memory[0].address + (GPU_PAGE_BYTES - totals[0] / 2 - BLOCK_BYTES / 2) / 16 * 16;
    at[1] = memory[1].address + (GPU_PAGE_BYTES - totals[1] / 2 - BLOCK_BYTES * 3 / 2) / 16 * 16;
    for (int index = 0; index < WORKS; index++) {
        struct gpu_work *work = &works[index];
        size_t block = (size_t)self->rank * work->bytes;
        bool in_place = index >= 3;
        work->src = at[0];
        work->dst = at[1];
        if (in_place && work->kind == TUTTI_ALL_GATHER) {
            work->src = work->dst + block;
        } else if (in_place) {
            work->dst = work->src + (work->kind == TUTTI_REDUCE_SCATTER ? block : 0);
        }
        /* Peers read all inputs of sums, and write all outputs that are not a rank's alone. */
        bool only_src = in_place && work->kind != TUTTI_ALL_GATHER;
        uses[index][0] = work->kind != TUTTI_ALL_GATHER;
        uses[index][1] = work->kind != TUTTI_REDUCE_SCATTER && !only_src;
        at[0] += gpu_work_src_bytes(self, work);
        at[1] += gpu_work_dst_bytes(self, work);
    }
    CHECK(at[0] <= memory[0].address + ROOM && at[1] <= memory[1].address + ROOM, "too small");
}

/* How many of the calls go directly once they are committed. blame: a rank with memory that keeps one from it. */
static uint64_t direct_expected(const struct gpu_rank *self, const struct scenario *scenario, bool uses[WORKS][2])
{
    uint64_t direct = 0;
    for (int index = 0; index < WORKS; index++) {
        bool can = true;
        for (int rank = 0; rank < self->scene->world; rank++) {
            for (int which = 0; which < 2; which++) {
                const char *words = NULL;
                can = can &&
                      (!uses[index][which] || shareable(self, scenario->kinds[which][rank], scenario->flags, &words));
            }
        }
        direct += can;
    }
    return direct;
}

/* The reason begins with a rank, and says what memory of that rank's is in the way. */
static void check_reason(const struct gpu_rank *self, const struct scenario *scenario, uint64_t staged)
{
    tutti_plan_t plan = {.struct_bytes = sizeof(plan)};
    char part[32];
    bool named = false;
    CHECK_OK(tutti_plan(self->comm, TUTTI_ALL_REDUCE, (size_t)1 << 20, TUTTI_F32, &plan));
    CHECK(strcmp(plan.protocol, "direct") == 0, "a large call would be '%s'", plan.protocol);
    const char *told = strstr(plan.reason, "the last commit left");
    CHECK((told != NULL) == (staged > 0), "%llu calls were staged: %s", (unsigned long long)staged, plan.reason);
    for (int rank = 0; rank < self->scene->world && staged > 0; rank++) {
        for (int which = 0; which < 2; which++) {
            const char *words = NULL;
            (void)snprintf(part, sizeof(part), "rank %d: ", rank);
            bool can = shareable(self, scenario->kinds[which][rank], scenario->flags, &words);
            named = named || (!can && strstr(told, part) != NULL && strstr(told, words) != NULL);
        }
    }
    CHECK(staged == 0 || named, "%s: no rank with its kind of memory in: %s", scenario->name, plan.reason);
}

static void memories_make(struct gpu_rank *self, struct scenario *scenario, struct gpu_memory memory[2])
{
    gpu_step(self);
    for (int which = 0; which < 2; which++) {
        CHECK(gpu_memory_make(self->scene->backend, self->device, scenario->kinds[which][self->rank], ROOM,
                              self->stream, &memory[which]),
              "%s", gpu_memory_name(scenario->kinds[which][self->rank]));
    }
    gpu_stream_wait(self->stream);
    gpu_step(self);
}

static void memories_free(struct gpu_rank *self, struct gpu_memory memory[2])
{
    gpu_step(self);
    for (int which = 0; which < 2; which++) {
        gpu_memory_free(&memory[which], self->stream);
    }
    gpu_stream_wait(self->stream);
    gpu_step(self);
}

static void eager(struct gpu_rank *self, struct gpu_work works[WORKS], const char *what)
{
    for (int index = 0; index < WORKS; index++) {
        gpu_work_fill(self, &works[index]);
        CHECK_OK(gpu_work_call(self, &works[index], NULL));
        gpu_work_verify(self, &works[index], what);
    }
    gpu_step(self);
}

static void play(struct gpu_rank *self, struct scenario *scenario)
{
    struct gpu_memory memory[2];
    struct gpu_work works[WORKS];
    bool uses[WORKS][2];
    memories_make(self, scenario, memory);
    works_place(self, memory, works, uses);
    const uint64_t direct = direct_expected(self, scenario, uses);
    gpu_graph graph = gpu_works_capture(self, works, WORKS);

    tutti_stats stats = gpu_stats(self);
    CHECK(stats.pending_calls == WORKS, "%llu calls are pending", (unsigned long long)stats.pending_calls);
    eager(self, works, scenario->name);
    gpu_works_replay(self, graph, works, WORKS, scenario->name);
    gpu_stats_grew(self, &stats, 0, 2 * WORKS, scenario->name);

    CHECK_OK(tutti_commit(self->comm));
    stats = gpu_stats(self);
    CHECK(stats.committed_calls == direct && stats.staged_for_good_calls == WORKS - direct && stats.pending_calls == 0,
          "%s: %llu calls are committed instead of %llu, and %llu staged for good", scenario->name,
          (unsigned long long)stats.committed_calls, (unsigned long long)direct,
          (unsigned long long)stats.staged_for_good_calls);
    check_reason(self, scenario, WORKS - direct);
    gpu_step(self);
    gpu_works_replay(self, graph, works, WORKS, scenario->name);
    gpu_stats_grew(self, &stats, direct, WORKS - direct, scenario->name);
    eager(self, works, scenario->name);
    gpu_stats_grew(self, &stats, direct, 2 * WORKS - direct, scenario->name);

    gpu_graph_destroy(graph);
    gpu_commit_until_empty(self, scenario->name);
    memories_free(self, memory);
}

static void alike(struct gpu_rank *self, struct scenario *scenario, enum gpu_memory_kind src, enum gpu_memory_kind dst)
{
    for (int rank = 0; rank < self->scene->world; rank++) {
        scenario->kinds[0][rank] = src;
        scenario->kinds[1][rank] = dst;
    }
    scenario->name = gpu_memory_name(src == GPU_PLAIN ? dst : src);
    play(self, scenario);
}

/* Simulated devices are slow, and with many ranks on few cores too slow for all of it. */
static bool is_played(const struct gpu_rank *self, int kind)
{
    bool quick = effort() == EFFORT_QUICK && self->scene->world > 2;
    return kind != GPU_VMM_HOLE && gpu_memory_exists(self->scene->backend, (enum gpu_memory_kind)kind) &&
           (!quick || kind == GPU_PLAIN || kind == GPU_MANAGED);
}

static void every_kind(struct gpu_rank *self, uint32_t flags)
{
    struct scenario scenario = {.flags = flags};
    bool all = effort() != EFFORT_QUICK;
    for (int kind = 0; kind < GPU_KIND_COUNT; kind++) {
        if (!is_played(self, kind)) {
            continue;
        }
        alike(self, &scenario, (enum gpu_memory_kind)kind, (enum gpu_memory_kind)kind);
        if (kind != GPU_PLAIN && all) {
            alike(self, &scenario, (enum gpu_memory_kind)kind, GPU_PLAIN);
            alike(self, &scenario, GPU_PLAIN, (enum gpu_memory_kind)kind);
        }
        /* One rank has this kind, of dst alone, the others what can be shared. */
        for (int rank = 0; rank < self->scene->world; rank++) {
            scenario.kinds[0][rank] = GPU_PLAIN;
            scenario.kinds[1][rank] = rank == kind % self->scene->world ? (enum gpu_memory_kind)kind : GPU_PLAIN;
        }
        scenario.name = "one rank's is another kind";
        play(self, &scenario);
    }
}

static void other_kind_on_each_rank(struct gpu_rank *self, uint32_t flags)
{
    struct scenario scenario = {.name = "each rank's is another kind", .flags = flags};
    for (int shift = 0; shift < (effort() == EFFORT_QUICK ? 2 : GPU_KIND_COUNT); shift++) {
        for (int rank = 0; rank < self->scene->world; rank++) {
            for (int which = 0; which < 2; which++) {
                int kind = (rank * 3 + shift + which * 2) % GPU_KIND_COUNT;
                bool there =
                    kind != GPU_VMM_HOLE && gpu_memory_exists(self->scene->backend, (enum gpu_memory_kind)kind);
                scenario.kinds[which][rank] = there ? (enum gpu_memory_kind)kind : GPU_PLAIN;
            }
        }
        play(self, &scenario);
    }
}

/* -- when a commit comes ---------------------------------------------------------------------------------------------- */

static void pause_ms(int ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000L};
    (void)nanosleep(&pause, NULL);
}

/* The same inputs for all launches: what comes out must not depend on which of them were direct. */
static void in_flight(struct gpu_rank *self, struct gpu_work *works, gpu_graph graph, bool late, const char *what)
{
    for (int index = 0; index < 3; index++) {
        gpu_work_fill(self, &works[index]);
    }
    for (int launch = 0; launch < LAUNCHES; launch++) {
        gpu_graph_launch(graph, self->stream);
    }
    gpu_step(self);
    if (late) {
        pause_ms(50);
    }
    CHECK_OK(tutti_commit(self->comm));
    for (int index = 0; index < 3; index++) {
        gpu_work_verify(self, &works[index], what);
    }
    gpu_step(self);
}

/* Half of the ranks have launched when they commit, the others launch only behind that: the former's kernels wait for the latter's
 * while memory is mapped and tables are written. */
static void launch_on_either_side(struct gpu_rank *self, struct gpu_work *works, gpu_graph graph)
{
    bool before = self->rank % 2 == 0;
    for (int index = 0; index < 3; index++) {
        gpu_work_fill(self, &works[index]);
    }
    if (before) {
        gpu_graph_launch(graph, self->stream);
    }
    CHECK_OK(tutti_commit(self->comm));
    if (!before) {
        gpu_graph_launch(graph, self->stream);
    }
    for (int index = 0; index < 3; index++) {
        gpu_work_verify(self, &works[index], "launched on either side of the commit");
    }
}

static bool set_to_one(const char *variable)
{
    const char *text = getenv(variable);
    return text != NULL && strcmp(text, "1") == 0;
}

/* A commit stands behind a launch that waits for its peers: launches return only when their kernels have ended, or all streams share one
 * hardware queue. Then no rank comes to a commit while a peer has yet to launch (docs/capture.md). */
static bool launches_block(void)
{
    return set_to_one("CUDA_LAUNCH_BLOCKING") || set_to_one("CUDA_DEVICE_MAX_CONNECTIONS");
}

static void when_a_commit_comes(struct gpu_rank *self)
{
    enum gpu_memory_kind kind = gpu_shared_kind(self);
    struct scenario scenario = {.name = "commits at odd times"};
    struct gpu_memory memory[2];
    struct gpu_work works[WORKS];
    bool uses[WORKS][2];
    gpu_graph graphs[4];
    for (int rank = 0; rank < self->scene->world; rank++) {
        scenario.kinds[0][rank] = scenario.kinds[1][rank] = kind;
    }
    memories_make(self, &scenario, memory);
    works_place(self, memory, works, uses);
    tutti_stats stats = gpu_stats(self);
    for (int round = 0; round < 3; round++) {
        /* A second commit is for what came later, and leaves the former as it is. */
        graphs[round] = gpu_works_capture(self, works, 3);
        bool late = round == 2 && self->rank == self->scene->world - 1;
        in_flight(self, works, graphs[round], late, late ? "this rank commits later" : "a commit among replays");
        CHECK(gpu_stats(self).committed_calls == 3u * (unsigned)(round + 1), "committed calls");
        for (int each = 0; each <= round; each++) {
            stats = gpu_stats(self);
            gpu_works_replay(self, graphs[each], works, 3, "graphs of several commits");
            gpu_stats_grew(self, &stats, 3, 0, "graphs of several commits");
        }
    }
    graphs[3] = gpu_works_capture(self, works, 3);
    if (self->scene->threads || launches_block()) {
        CHECK_OK(
            tutti_commit(self->comm)); /* which maps memory: not while a peer on the same device waits for this rank */
    } else {
        launch_on_either_side(self, works, graphs[3]);
    }
    gpu_step(self);
    for (int each = 0; each < 4; each++) {
        gpu_graph_destroy(graphs[each]);
    }
    gpu_commit_until_empty(self, "commits at odd times");
    memories_free(self, memory);
}

static void body(struct gpu_rank *self, void *user)
{
    (void)user;
    gpu_rank_join(self, 0, 1);
    every_kind(self, 0);
    when_a_commit_comes(self);
    gpu_rank_leave(self);
    gpu_rank_join(self, TUTTI_COMM_DIRECT_FD, 1);
    every_kind(self, TUTTI_COMM_DIRECT_FD);
    other_kind_on_each_rank(self, TUTTI_COMM_DIRECT_FD);
    gpu_rank_leave(self);
}

int main(int count, char **arguments)
{
    struct gpu_scene *scene = gpu_scene_make(count == 2 ? arguments[1] : "threads-2");
    gpu_scene_run(scene, 280, body, NULL);
    return 0;
}
