/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that are driven by one thread (tutti_comm_create_all), and what is
 * particular to ranks in one process. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "harness/check.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

#define WORLD_MAX 8
#define BYTES_MAX 1200000
#define CALLS (ON_DEVICES ? 18 : 60) /* simulated ones are slow */

struct fleet {
    int world;
    tutti_comm *comms[WORLD_MAX];
    tutti_host_stream *streams[WORLD_MAX];
    struct job jobs[WORLD_MAX];
    struct job_buffers buffers[WORLD_MAX];
};

static void open_fleet(struct fleet *fleet, int world)
{
    memset(fleet, 0, sizeof(*fleet));
    fleet->world = world;
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host", .lanes = 2};
    static const int devices[WORLD_MAX] = {0};
    CHECK_OK(tutti_comm_create_all(&options, world % 2 == 0 ? devices : NULL, world, fleet->comms));
    for (int rank = 0; rank < world; rank++) {
        tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
        CHECK_OK(tutti_comm_info(fleet->comms[rank], &info));
        CHECK(info.rank == rank && info.world == world && info.processes == 1 && info.lanes == 2 &&
                  info.deterministic == 1,
              "rank %d of %d in %d processes", info.rank, info.world, info.processes);
        CHECK_OK(tutti_host_stream_create(&fleet->streams[rank]));
        job_buffers_create(&fleet->buffers[rank], BYTES_MAX);
    }
}

static void close_fleet(struct fleet *fleet)
{
    for (int rank = 0; rank < fleet->world; rank++) {
        tutti_host_stream_destroy(fleet->streams[rank]);
        tutti_comm_destroy(fleet->comms[rank]);
        job_buffers_destroy(&fleet->buffers[rank]);
    }
}

static void place(struct fleet *fleet, const struct job *job)
{
    for (int rank = 0; rank < fleet->world; rank++) {
        fleet->jobs[rank] = *job;
        job_place(&fleet->jobs[rank], rank, fleet->world, &fleet->buffers[rank]);
    }
}

static void fill(struct fleet *fleet, uint64_t number)
{
    for (int rank = 0; rank < fleet->world; rank++) {
        job_fill(&fleet->jobs[rank], number);
    }
}

static void finish(struct fleet *fleet, const char *how)
{
    uint64_t first = 0;
    for (int rank = 0; rank < fleet->world; rank++) {
        CHECK_OK(tutti_host_stream_synchronize(fleet->streams[rank]));
        CHECK_OK(tutti_comm_status(fleet->comms[rank]));
        uint64_t hash = 0;
        job_verify(&fleet->jobs[rank], how, &hash);
        first = rank == 0 ? hash : first;
        CHECK(!job_common(&fleet->jobs[rank]) || hash == first, "rank %d has other bits than 0", rank);
    }
}

/* One thread issues for all ranks, one after another, and only then waits. */
static void issue(struct fleet *fleet, uint32_t lane)
{
    for (int i = 0; i < fleet->world; i++) {
        int rank = (i * 5 + 3) % fleet->world;
        rank = fleet->world % 5 == 0 ? i : rank; /* a permutation only where 5 and world share no factor */
        tutti_call call = {.struct_bytes = sizeof(call), .stream = fleet->streams[rank], .lane = lane};
        CHECK_OK(job_issue(&fleet->jobs[rank], fleet->comms[rank], &call));
    }
}

static void run_captured(struct fleet *fleet, uint64_t number)
{
    tutti_host_graph *graphs[WORLD_MAX];
    for (int rank = 0; rank < fleet->world; rank++) {
        tutti_call call = {.struct_bytes = sizeof(call), .stream = fleet->streams[rank]};
        CHECK_OK(tutti_host_capture_begin(fleet->streams[rank], TUTTI_HOST_CAPTURE_GLOBAL));
        CHECK_OK(job_issue(&fleet->jobs[rank], fleet->comms[rank], &call));
        CHECK_OK(tutti_host_capture_end(fleet->streams[rank], &graphs[rank]));
    }
    for (uint64_t replay = 0; replay < 3; replay++) {
        fill(fleet, number + replay);
        for (int rank = 0; rank < fleet->world; rank++) {
            CHECK_OK(tutti_host_graph_launch(graphs[rank], fleet->streams[rank]));
        }
        finish(fleet, "replayed, one thread for all ranks");
    }
    for (int rank = 0; rank < fleet->world; rank++) {
        tutti_host_graph_destroy(graphs[rank]);
    }
}

static void one_thread_drives_all(int world)
{
    static struct fleet fleet;
    open_fleet(&fleet, world);
    uint64_t number = (uint64_t)world * 1000;
    for (int kind = TUTTI_ALL_REDUCE; kind < TUTTI_BARRIER; kind++) {
        for (int size = 0; size < 3; size++) {
            const size_t counts[] = {1, 777, ON_DEVICES ? 9999 : 33333};
            struct job job = {.kind = (tutti_collective)kind,
                              .dtype = (tutti_dtype)((kind + size) % 3),
                              .op = (tutti_op)(size % 3),
                              .count = counts[size],
                              .root = world - 1,
                              .in_place = size == 1};
            place(&fleet, &job);
            fill(&fleet, ++number);
            issue(&fleet, (uint32_t)size % 2);
            finish(&fleet, "one thread for all ranks");
            run_captured(&fleet, number + 1);
            number += 3;
        }
    }
    close_fleet(&fleet);
}

/* On the NULL stream the call would wait for ranks that the same thread has yet
 * to drive. */
static void null_stream_is_refused(void)
{
    static struct fleet fleet;
    open_fleet(&fleet, 2);
    float value = 1.0f;
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_all_reduce(fleet.comms[0], &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL));
    CHECK(strlen(tutti_last_error()) > 0, "no sentence");
    CHECK_OK(tutti_comm_status(fleet.comms[0]));
    struct job job = {.kind = TUTTI_ALL_REDUCE, .count = 100};
    place(&fleet, &job);
    fill(&fleet, 1);
    issue(&fleet, 0);
    finish(&fleet, "after a refused call");
    close_fleet(&fleet);
}

/* The direct protocol reads peers' buffers: a rank may change or free its own
 * as soon as its call is done. */
static void buffers_are_free_after_the_call(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    for (uint64_t number = 1; number <= CALLS; number++) {
        struct job job = {.kind = number % 2 == 0 ? TUTTI_ALL_REDUCE : TUTTI_ALL_GATHER,
                          .count = number % 3 == 0 ? 60000 : 5000};
        struct job_buffers buffers;
        job_buffers_create(&buffers, job_bytes(&job, world));
        job_place(&job, rank, world, &buffers);
        job_fill(&job, number);
        CHECK_OK(job_issue(&job, comm, NULL));
        job_verify(&job, "with buffers that are freed at once", NULL);
        memset(job.src, 0xee, job.src_bytes);
        job_buffers_destroy(&buffers);
    }
    tutti_comm_destroy(comm);
}

int main(void)
{
    int most = ON_DEVICES ? 3 : WORLD_MAX; /* the same */
    for (int world = 1; world <= most; world += world < 3 ? 1 : 2) {
        one_thread_drives_all(world);
    }
    if (!ON_DEVICES) { /* where it is another stream */
        null_stream_is_refused();
    }
    ranks_run(RANKS_THREADS, 4, 60, buffers_are_free_after_the_call, NULL);
    ranks_run(RANKS_PROCESSES, 4, 60, buffers_are_free_after_the_call, NULL);
    return 0;
}
