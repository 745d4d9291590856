/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes: collectives that run at the same time, in an order across lanes that
 * differs from rank to rank. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

#define LANES 4
#define JOBS 24
#define OTHERS 20
#define BYTES_MAX 200000

struct rank {
    tutti_comm *comm;
    int rank, world;
    tutti_host_stream *streams[LANES];
    struct job jobs[LANES][JOBS];
    struct job_buffers buffers[LANES][JOBS];
};

static tutti_comm *open_comm(int rank, int world, const char *rendezvous)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options),
                                  .backend = "host",
                                  .rank = rank,
                                  .world = world,
                                  .rendezvous = rendezvous,
                                  .lanes = LANES};
    tutti_comm *comm = NULL;
    CHECK_OK(tutti_comm_create(&options, &comm));
    return comm;
}

static struct rank *open_rank(int rank, int world, const char *rendezvous)
{
    struct rank *self = calloc(1, sizeof(*self));
    CHECK(self != NULL, "no memory");
    self->rank = rank;
    self->world = world;
    self->comm = open_comm(rank, world, rendezvous);
    for (int lane = 0; lane < LANES; lane++) {
        CHECK_OK(tutti_host_stream_create(&self->streams[lane]));
        for (int i = 0; i < JOBS; i++) {
            /* The same on all ranks: a function of lane and number. */
            struct job *job = &self->jobs[lane][i];
            job->kind = (tutti_collective)((lane + i) % TUTTI_BARRIER);
            job->dtype = (tutti_dtype)(i % 3);
            job->op = (tutti_op)(i / 3 % 3);
            job->count = (size_t)(1 + (i * 7919 + lane * 104729) % (i % 4 == 0 ? 8000 : 300));
            job->root = i % world;
            job->in_place = i % 2 == 0;
            job_buffers_create(&self->buffers[lane][i], BYTES_MAX);
            job_place(job, rank, world, &self->buffers[lane][i]);
        }
    }
    return self;
}

static void close_rank(struct rank *self)
{
    for (int lane = 0; lane < LANES; lane++) {
        tutti_host_stream_destroy(self->streams[lane]);
        for (int i = 0; i < JOBS; i++) {
            job_buffers_destroy(&self->buffers[lane][i]);
        }
    }
    tutti_comm_destroy(self->comm);
    free(self);
}

static uint64_t number_of(int round, int lane, int i)
{
    return (uint64_t)((round * LANES + lane) * JOBS + i + 1);
}

static void fill_all(struct rank *self, int round)
{
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < JOBS; i++) {
            job_fill(&self->jobs[lane][i], number_of(round, lane, i));
        }
    }
}

static void verify_all(struct rank *self, const char *how)
{
    CHECK_OK(tutti_comm_status(self->comm));
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < JOBS; i++) {
            job_verify(&self->jobs[lane][i], how, NULL);
        }
    }
}

/* Issues every job, lane by lane in order, and across lanes in an order of this
 * rank's own. */
static void issue_all(struct rank *self, uint64_t *random)
{
    int next[LANES] = {0};
    for (int left = LANES * JOBS; left > 0;) {
        int lane = (int)(ranks_random(random) % LANES);
        if (next[lane] < JOBS) {
            tutti_call call = {.struct_bytes = sizeof(call), .lane = (uint32_t)lane, .stream = self->streams[lane]};
            CHECK_OK(job_issue(&self->jobs[lane][next[lane]++], self->comm, &call));
            left--;
        }
    }
}

static void eager_lanes(int rank, int world, const char *rendezvous, void *user)
{
    struct rank *self = open_rank(rank, world, rendezvous);
    uint64_t random = *(const uint64_t *)user + (uint64_t)rank;
    for (int round = 0; round < 4; round++) {
        fill_all(self, round);
        issue_all(self, &random);
        for (int lane = 0; lane < LANES; lane++) {
            CHECK_OK(tutti_host_stream_synchronize(self->streams[(lane + rank) % LANES]));
        }
        verify_all(self, "lanes at the same time");
    }
    close_rank(self);
}

/* The same as one graph: the lanes' streams are forked from the first and
 * joined again. */
static void captured_lanes(int rank, int world, const char *rendezvous, void *user)
{
    struct rank *self = open_rank(rank, world, rendezvous);
    uint64_t random = *(const uint64_t *)user;
    tutti_host_event *event = NULL;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_event_create(&event));
    CHECK_OK(tutti_host_capture_begin(self->streams[0], TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    CHECK_OK(tutti_host_event_record(event, self->streams[0]));
    for (int lane = 1; lane < LANES; lane++) {
        CHECK_OK(tutti_host_stream_wait_event(self->streams[lane], event));
    }
    issue_all(self, &random);
    for (int lane = 1; lane < LANES; lane++) {
        CHECK_OK(tutti_host_event_record(event, self->streams[lane]));
        CHECK_OK(tutti_host_stream_wait_event(self->streams[0], event));
    }
    CHECK_OK(tutti_host_capture_end(self->streams[0], &graph));
    for (int round = 0; round < 4; round++) {
        fill_all(self, round);
        CHECK_OK(tutti_host_graph_launch(graph, round % 2 == 0 ? self->streams[0] : NULL));
        CHECK_OK(tutti_host_stream_synchronize(self->streams[0]));
        verify_all(self, "lanes in one graph");
    }
    tutti_host_graph_destroy(graph);
    tutti_host_event_destroy(event);
    close_rank(self);
}

/* Graphs that nobody launches, while another capture is open. */
static void capture_others(struct rank *self)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .lane = 2, .stream = self->streams[3]};
    for (int other = 0; other < OTHERS; other++) {
        tutti_host_graph *graph = NULL;
        CHECK_OK(tutti_host_capture_begin(self->streams[3], TUTTI_HOST_CAPTURE_THREAD_LOCAL));
        CHECK_OK(job_issue(&self->jobs[2][other], self->comm, &call));
        CHECK_OK(tutti_host_capture_end(self->streams[3], &graph));
        tutti_host_graph_destroy(graph);
    }
}

/* One lane on two streams of a capture, without any order between them: the
 * capture chains them, whatever else is captured meanwhile. */
static void chained_lane(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct rank *self = open_rank(rank, world, rendezvous);
    tutti_host_event *event = NULL;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_event_create(&event));
    CHECK_OK(tutti_host_capture_begin(self->streams[0], TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    CHECK_OK(tutti_host_event_record(event, self->streams[0]));
    CHECK_OK(tutti_host_stream_wait_event(self->streams[1], event));
    for (int i = 0; i < JOBS; i++) {
        tutti_call call = {.struct_bytes = sizeof(call), .lane = 2, .stream = self->streams[i / 2 % 2]};
        if (i == JOBS / 2) { /* the stream is another one than the last call's */
            capture_others(self);
        }
        CHECK_OK(job_issue(&self->jobs[2][i], self->comm, &call));
    }
    CHECK_OK(tutti_host_event_record(event, self->streams[1]));
    CHECK_OK(tutti_host_stream_wait_event(self->streams[0], event));
    CHECK_OK(tutti_host_capture_end(self->streams[0], &graph));
    for (int round = 0; round < 3; round++) {
        fill_all(self, round);
        CHECK_OK(tutti_host_graph_launch(graph, self->streams[3]));
        CHECK_OK(tutti_host_stream_synchronize(self->streams[3]));
        CHECK_OK(tutti_comm_status(self->comm));
        for (int i = 0; i < JOBS; i++) {
            job_verify(&self->jobs[2][i], "one lane on two streams of a graph", NULL);
        }
    }
    tutti_host_graph_destroy(graph);
    tutti_host_event_destroy(event);
    close_rank(self);
}

/* Eagerly a lane may move to another stream, if an event orders the two. */
static void moved_lane(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct rank *self = open_rank(rank, world, rendezvous);
    tutti_host_event *event = NULL;
    CHECK_OK(tutti_host_event_create(&event));
    fill_all(self, 0);
    for (int i = 0; i < JOBS; i++) {
        tutti_host_stream *stream = self->streams[i % LANES];
        tutti_call call = {.struct_bytes = sizeof(call), .lane = 1, .stream = stream};
        CHECK_OK(tutti_host_stream_wait_event(stream, event));
        CHECK_OK(job_issue(&self->jobs[1][i], self->comm, &call));
        CHECK_OK(tutti_host_event_record(event, stream));
    }
    CHECK_OK(tutti_host_event_synchronize(event));
    CHECK_OK(tutti_comm_status(self->comm));
    for (int i = 0; i < JOBS; i++) {
        job_verify(&self->jobs[1][i], "a lane that moves", NULL);
    }
    tutti_host_event_destroy(event);
    close_rank(self);
}

/* Rank 0 uses lane 0 on a second stream while the first still waits there for
 * rank 1. */
static void busy_lane(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct rank *self = open_rank(rank, world, rendezvous);
    fill_all(self, 0);
    if (rank == 0) {
        for (int i = 0; i < 2; i++) {
            tutti_call call = {.struct_bytes = sizeof(call), .lane = 0, .stream = self->streams[i]};
            tutti_status status = job_issue(&self->jobs[0][i], self->comm, &call);
            CHECK(status == TUTTI_OK || (i == 1 && status == TUTTI_ERR_ARGUMENT), "%s: %s", tutti_status_name(status),
                  tutti_last_error());
        }
        CHECK_OK(tutti_host_stream_synchronize(self->streams[0]));
        CHECK_OK(tutti_host_stream_synchronize(self->streams[1]));
    }
    /* All ranks learn it, also those that were not in a call. */
    tutti_status status = TUTTI_OK;
    while (status == TUTTI_OK) {
        status = tutti_comm_status(self->comm);
    }
    CHECK(status == TUTTI_ERR_ARGUMENT && strstr(tutti_last_error(), "lane 0") != NULL, "%s: %s",
          tutti_status_name(status), tutti_last_error());
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_barrier(self->comm, NULL));
    close_rank(self);
}

int main(void)
{
    uint64_t seed = ranks_seed();
    int most = effort() == EFFORT_QUICK ? 3 : 5;
    for (int world = 1; world <= most; world++) {
        seed += (uint64_t)world;
        ranks_run(RANKS_PROCESSES, world, 60, eager_lanes, &seed);
        ranks_run(RANKS_PROCESSES, world, 60, captured_lanes, &seed);
        ranks_run(RANKS_PROCESSES, world, 60, chained_lane, &seed);
        ranks_run(RANKS_PROCESSES, world, 60, moved_lane, &seed);
    }
    ranks_run(RANKS_THREADS, 3, 60, eager_lanes, &seed);
    ranks_run(RANKS_THREADS, 3, 60, captured_lanes, &seed);
    if (!ON_DEVICES) { /* which do not notice it: tutti.h */
        ranks_run(RANKS_PROCESSES, 3, 60, busy_lane, &seed);
        ranks_run(RANKS_THREADS, 2, 60, busy_lane, &seed);
    }
    return 0;
}
