/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random programs of collectives: several communicators and splits of splits,
 * lanes on streams of their own, eager calls on and off streams, graphs that
 * are captured at any time and replayed at any later time. All ranks draw the
 * same program from one seed.
 *
 *     random_programs processes | threads
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

#define RANKS_MAX 6
#define GROUPS_MAX 5
#define LANES 3
#define SLOTS 2
#define GRAPHS 4
#define GRAPH_JOBS 4
#define BUFFER_BYTES ((size_t)1 << 20)

struct slot {
    struct job job;
    struct job_buffers buffers;
    bool pending;
};

struct lane {
    tutti_host_stream *stream;
    struct slot slots[SLOTS];
    unsigned turn;
};

/* A communicator as this rank sees it; world 0 where it is no member. The
 * children of one split are one group: each rank is in one of them. */
struct group {
    tutti_comm *comm;
    int rank, world;
    struct lane lanes[LANES];
};

struct recording {
    struct group *group;
    tutti_host_graph *graph;
    size_t jobs;
    uint32_t lanes[GRAPH_JOBS];
    struct slot slots[GRAPH_JOBS];
    tutti_host_stream *launched_on; /* not NULL: pending there */
};

struct program {
    uint64_t draws, seed;
    int rank, world;
    enum ranks_mode mode;
    struct group groups[GROUPS_MAX];
    size_t group_count;
    struct recording recordings[GRAPHS];
    tutti_host_stream *stream, *side;
    tutti_host_event *fork, *join;
    uint64_t calls;
};

/* Every rank makes the same draws, also for steps in which it has no part. */
static uint64_t draw(struct program *program, uint64_t below)
{
    return ranks_random(&program->draws) % below;
}

/* -- jobs
 * ------------------------------------------------------------------------------------------
 */

static void draw_job(struct program *program, struct job *job, int world)
{
    memset(job, 0, sizeof(*job));
    job->kind = (tutti_collective)draw(program, TUTTI_COLLECTIVE_COUNT);
    job->dtype = (tutti_dtype)draw(program, 3);
    job->op = (tutti_op)draw(program, 3);
    job->in_place = draw(program, 2) == 1;
    job->root = (int)(draw(program, 720720) % (uint64_t)(world > 0 ? world : 1));
    job->count = draw(program, (uint64_t)1 << draw(program, 16));
    job->rows = draw(program, 4) == 0 ? 1 + draw(program, 20) : 0;
    job->gap_bytes = draw(program, 3) * 5;
    size_t element = job->kind <= TUTTI_REDUCE_SCATTER ? tutti_dtype_bytes(job->dtype) : 1;
    job->src_offset = draw(program, 16) * element;
    job->dst_offset = draw(program, 16) * element;
    if (job->kind != TUTTI_ALL_GATHER) {
        job->rows = 0;
    }
    if (job->rows > 0) {
        job->in_place = false;
        job->count /= job->rows;
    }
    /* Large ones where they fit. */
    job->count *= draw(program, 8) == 0 ? 4 : 1;
    while (job_bytes(job, RANKS_MAX) > BUFFER_BYTES) {
        job->count /= 2;
    }
}

static void finish(struct group *group, struct slot *slot, const char *how)
{
    if (slot->pending) {
        CHECK_OK(tutti_comm_status(group->comm));
        job_verify(&slot->job, how, NULL);
        slot->pending = false;
    }
}

static void settle_recording(struct recording *recording)
{
    if (recording->launched_on == NULL) {
        return;
    }
    CHECK_OK(tutti_host_stream_synchronize(recording->launched_on));
    recording->launched_on = NULL;
    for (size_t i = 0; i < recording->jobs; i++) {
        finish(recording->group, &recording->slots[i], "replayed in a random program");
    }
}

/* Waits for graphs in flight that use the lane. */
static void settle_graphs(struct program *program, const struct group *group, uint32_t lane)
{
    for (size_t g = 0; g < GRAPHS; g++) {
        struct recording *recording = &program->recordings[g];
        for (size_t i = 0; recording->group == group && i < recording->jobs; i++) {
            if (recording->lanes[i] == lane) {
                settle_recording(recording);
            }
        }
    }
}

static void settle_lane(struct program *program, struct group *group, uint32_t lane)
{
    settle_graphs(program, group, lane);
    CHECK_OK(tutti_host_stream_synchronize(group->lanes[lane].stream));
    for (size_t i = 0; i < SLOTS; i++) {
        finish(group, &group->lanes[lane].slots[i], "on a stream in a random program");
    }
}

/* -- steps
 * -----------------------------------------------------------------------------------------
 */

static void step_eager(struct program *program)
{
    struct group *group = &program->groups[draw(program, program->group_count)];
    uint32_t lane = (uint32_t)draw(program, LANES);
    bool wait = draw(program, 3) == 0;
    struct job job;
    draw_job(program, &job, group->world);
    uint64_t number = ++program->calls;
    if (group->world == 0) {
        return;
    }
    struct lane *at = &group->lanes[lane];
    struct slot *slot = &at->slots[at->turn++ % SLOTS];
    settle_graphs(program, group, lane);
    if (wait || slot->pending) {
        settle_lane(program, group, lane);
    }
    slot->job = job;
    job_place(&slot->job, group->rank, group->world, &slot->buffers);
    job_fill(&slot->job, number);
    tutti_call call = {.struct_bytes = sizeof(call), .lane = lane, .stream = wait ? NULL : at->stream};
    CHECK_OK(job_issue(&slot->job, group->comm, &call));
    slot->pending = true;
    if (wait) {
        finish(group, slot, "eagerly in a random program");
    }
}

/* Some of the jobs go to a stream that is forked from the capture and joined
 * again. */
static void step_capture(struct program *program)
{
    struct group *group = &program->groups[draw(program, program->group_count)];
    struct recording *recording = &program->recordings[draw(program, GRAPHS)];
    struct job jobs[GRAPH_JOBS];
    uint32_t lanes[GRAPH_JOBS];
    bool aside[GRAPH_JOBS];
    size_t count = 1 + draw(program, GRAPH_JOBS);
    for (size_t i = 0; i < count; i++) {
        draw_job(program, &jobs[i], group->world);
        lanes[i] = (uint32_t)draw(program, LANES);
        aside[i] = draw(program, 3) == 0;
    }
    settle_recording(recording);
    tutti_host_graph_destroy(recording->graph);
    recording->graph = NULL;
    recording->jobs = count;
    recording->group = group;
    if (group->world == 0) {
        return;
    }
    tutti_host_capture_mode mode =
        program->mode == RANKS_THREADS ? TUTTI_HOST_CAPTURE_THREAD_LOCAL : TUTTI_HOST_CAPTURE_GLOBAL;
    CHECK_OK(tutti_host_capture_begin(program->stream, mode));
    CHECK_OK(tutti_host_event_record(program->fork, program->stream));
    CHECK_OK(tutti_host_stream_wait_event(program->side, program->fork));
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = &recording->slots[i];
        slot->job = jobs[i];
        job_place(&slot->job, group->rank, group->world, &slot->buffers);
        tutti_call call = {.struct_bytes = sizeof(call), .lane = lanes[i]};
        call.stream = aside[i] ? program->side : program->stream;
        CHECK_OK(job_issue(&slot->job, group->comm, &call));
        recording->lanes[i] = lanes[i];
    }
    CHECK_OK(tutti_host_event_record(program->join, program->side));
    CHECK_OK(tutti_host_stream_wait_event(program->stream, program->join));
    CHECK_OK(tutti_host_capture_end(program->stream, &recording->graph));
}

static void step_replay(struct program *program)
{
    struct recording *recording = &program->recordings[draw(program, GRAPHS)];
    struct group *group = recording->group;
    uint64_t where = draw(program, 3);
    uint64_t number = program->calls + 1;
    program->calls += recording->jobs;
    if (recording->graph == NULL) {
        return;
    }
    for (size_t i = 0; i < recording->jobs; i++) {
        settle_lane(program, group, recording->lanes[i]);
    }
    for (size_t i = 0; i < recording->jobs; i++) {
        job_fill(&recording->slots[i].job, number + i);
        recording->slots[i].pending = true;
    }
    tutti_host_stream *streams[] = {program->stream, group->lanes[0].stream, NULL};
    CHECK_OK(tutti_host_graph_launch(recording->graph, streams[where]));
    recording->launched_on = streams[where];
    if (streams[where] == NULL) {
        for (size_t i = 0; i < recording->jobs; i++) {
            finish(group, &recording->slots[i], "replayed eagerly in a random program");
        }
    }
}

/* -- groups
 * ----------------------------------------------------------------------------------------
 */

static void open_group(struct group *group, int rank, int world)
{
    group->rank = rank;
    group->world = world;
    for (size_t lane = 0; lane < LANES; lane++) {
        CHECK_OK(tutti_host_stream_create(&group->lanes[lane].stream));
        for (size_t i = 0; i < SLOTS; i++) {
            job_buffers_create(&group->lanes[lane].slots[i].buffers, BUFFER_BYTES);
        }
    }
}

static void step_create(struct program *program, const char *rendezvous)
{
    struct group *group = &program->groups[program->group_count++];
    tutti_comm_options options = {.struct_bytes = sizeof(options),
                                  .backend = "host",
                                  .rank = program->rank,
                                  .world = program->world,
                                  .rendezvous = rendezvous,
                                  .message_bytes_max = draw(program, 2) * 100000,
                                  .lanes = LANES};
    CHECK_OK(tutti_comm_create(&options, &group->comm));
    open_group(group, program->rank, program->world);
}

static void step_split(struct program *program)
{
    struct group *parent = &program->groups[draw(program, program->group_count)];
    int colors[RANKS_MAX];
    int keys[RANKS_MAX];
    for (int rank = 0; rank < RANKS_MAX; rank++) {
        colors[rank] = (int)draw(program, 5) / 2 - (draw(program, 6) == 0 ? 3 : 0);
        keys[rank] = (int)draw(program, 3) - 1;
    }
    if (program->group_count == GROUPS_MAX) {
        return;
    }
    struct group *child = &program->groups[program->group_count++];
    if (parent->world == 0) {
        return;
    }
    int mine = parent->rank;
    CHECK_OK(tutti_comm_split(parent->comm, colors[mine], keys[mine], &child->comm));
    CHECK((child->comm != NULL) == (colors[mine] >= 0), "color %d", colors[mine]);
    if (child->comm == NULL) {
        return;
    }
    int rank = 0;
    int world = 0;
    for (int other = 0; other < parent->world; other++) {
        bool before = keys[other] < keys[mine] || (keys[other] == keys[mine] && other < mine);
        world += colors[other] == colors[mine];
        rank += colors[other] == colors[mine] && before;
    }
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_comm_info(child->comm, &info));
    CHECK(info.rank == rank && info.world == world && info.lanes == LANES, "child: rank %d of %d, not %d of %d",
          info.rank, info.world, rank, world);
    open_group(child, rank, world);
}

static void close_group(struct program *program, struct group *group)
{
    if (group->world == 0) {
        return;
    }
    /* All lanes before any stream: a graph may be in flight on another lane's stream. */
    for (uint32_t lane = 0; lane < LANES; lane++) {
        settle_lane(program, group, lane);
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        tutti_host_stream_destroy(group->lanes[lane].stream);
        for (size_t i = 0; i < SLOTS; i++) {
            job_buffers_destroy(&group->lanes[lane].slots[i].buffers);
        }
    }
    tutti_comm_destroy(group->comm);
}

/* -- programs
 * --------------------------------------------------------------------------------------
 */

static void open_program(struct program *program, const char *rendezvous)
{
    CHECK_OK(tutti_host_stream_create(&program->stream));
    CHECK_OK(tutti_host_stream_create(&program->side));
    CHECK_OK(tutti_host_event_create(&program->fork));
    CHECK_OK(tutti_host_event_create(&program->join));
    for (size_t g = 0; g < GRAPHS; g++) {
        for (size_t i = 0; i < GRAPH_JOBS; i++) {
            job_buffers_create(&program->recordings[g].slots[i].buffers, BUFFER_BYTES);
        }
    }
    for (uint64_t left = 1 + draw(program, 2); left > 0; left--) {
        step_create(program, rendezvous);
    }
}

/* Communicators go first, oldest first, then their graphs: both may outlive
 * what they came from. */
static void close_program(struct program *program)
{
    for (size_t i = 0; i < program->group_count; i++) {
        close_group(program, &program->groups[i]);
    }
    for (size_t g = 0; g < GRAPHS; g++) {
        tutti_host_graph_destroy(program->recordings[g].graph);
        for (size_t i = 0; i < GRAPH_JOBS; i++) {
            job_buffers_destroy(&program->recordings[g].slots[i].buffers);
        }
    }
    tutti_host_event_destroy(program->join);
    tutti_host_event_destroy(program->fork);
    tutti_host_stream_destroy(program->side);
    tutti_host_stream_destroy(program->stream);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    struct program *program = calloc(1, sizeof(*program));
    CHECK(program != NULL, "no memory");
    *program = *(const struct program *)user;
    program->draws = program->seed;
    program->rank = rank;
    program->world = world;
    open_program(program, rendezvous);
    for (uint64_t left = 30 + draw(program, 60); left > 0; left--) {
        uint64_t what = draw(program, 20);
        if (what == 0) {
            step_split(program);
        } else if (what <= 3) {
            step_capture(program);
        } else if (what <= 9) {
            step_replay(program);
        } else {
            step_eager(program);
        }
    }
    close_program(program);
    free(program);
}

int main(int count, char **arguments)
{
    static const int programs[] = {[EFFORT_QUICK] = ON_DEVICES ? 6 : 20, [EFFORT_NORMAL] = 200, [EFFORT_LONG] = 10000};
    uint64_t seed = ranks_seed();
    struct program program = {.mode = count == 2 && arguments[1][0] == 't' ? RANKS_THREADS : RANKS_PROCESSES};
    for (int i = 0; i < programs[effort()]; i++) {
        program.seed = seed + (uint64_t)i;
        int world = 1 + (int)(program.seed % RANKS_MAX);
        printf("program %d: seed %" PRIu64 ", %d ranks\n", i, program.seed, world);
        ranks_run(program.mode, world, 120, run_rank, &program);
    }
    return 0;
}
