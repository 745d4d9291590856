/* SPDX-License-Identifier: Apache-2.0 */
/* Every wait ends: with a timeout that names who waited for whom in which call,
 * with an abort, with a peer that left. Nothing here measures time: whoever
 * must be late waits until the others have given up. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

static _Thread_local float vector[5000]; /* ranks may be threads */

static tutti_comm *comm_with_timeout(int rank, int world, const char *rendezvous, uint32_t timeout_ms)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options),
                                  .backend = "host",
                                  .rank = rank,
                                  .world = world,
                                  .rendezvous = rendezvous,
                                  .timeout_ms = timeout_ms};
    tutti_comm *comm = NULL;
    CHECK_OK(tutti_comm_create(&options, &comm));
    return comm;
}

/* Sleeps until this rank learns that the communicator has failed. */
static tutti_status failure_of(tutti_comm *comm)
{
    tutti_status status = TUTTI_OK;
    while (status == TUTTI_OK) {
        (void)usleep(1000);
        status = tutti_comm_status(comm);
    }
    return status;
}

/* A call before the failure. On a device it is the communicator that is asked afterwards, and may have failed since. */
static void before_failure(tutti_status status, tutti_status failure)
{
    CHECK(status == TUTTI_OK || (ON_DEVICES && status == failure), "%s: %s", tutti_status_name(status),
          tutti_last_error());
}

static void says(const char *word)
{
    CHECK(strstr(tutti_last_error(), word) != NULL, "\"%s\" does not say \"%s\"", tutti_last_error(), word);
}

static void works(int rank, int world, const char *rendezvous, uint64_t number)
{
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    struct job job = {.kind = TUTTI_ALL_REDUCE, .count = 300};
    struct job_buffers buffers;
    job_buffers_create(&buffers, 1200);
    job_place(&job, rank, world, &buffers);
    job_fill(&job, number);
    CHECK_OK(job_issue(&job, comm, NULL));
    job_verify(&job, "on a new communicator", NULL);
    job_buffers_destroy(&buffers);
    tutti_comm_destroy(comm);
}

/* The last rank comes too late. */
static void a_late_peer(int rank, int world, const char *rendezvous, void *user)
{
    bool on_a_stream = *(const bool *)user;
    int late = world - 1;
    tutti_comm *comm = comm_with_timeout(rank, world, rendezvous, 300);
    tutti_status status = TUTTI_OK;
    if (rank == late) {
        status = failure_of(comm);
    } else if (on_a_stream) {
        tutti_host_stream *stream = NULL;
        CHECK_OK(tutti_host_stream_create(&stream));
        tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
        CHECK_OK(tutti_all_reduce(comm, vector, vector, 1000, TUTTI_F32, TUTTI_SUM, &call));
        CHECK_OK(tutti_host_stream_synchronize(stream));
        status = tutti_comm_status(comm);
        tutti_host_stream_destroy(stream);
    } else {
        status = tutti_all_reduce(comm, vector, vector, 1000, TUTTI_F32, TUTTI_SUM, NULL);
    }
    CHECK(status == TUTTI_ERR_TIMEOUT, "rank %d: %s (%s)", rank, tutti_status_name(status), tutti_last_error());
    char name[24];
    (void)snprintf(name, sizeof(name), "rank %d", late);
    says(name);
    says("all_reduce");
    says("call 1");
    CHECK_STATUS(TUTTI_ERR_TIMEOUT, tutti_barrier(comm, NULL));
    tutti_comm_destroy(comm);
    works(rank, world, rendezvous, 1);
}

/* A rank that says so may be late, once. */
static void an_extended_deadline(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = comm_with_timeout(rank, world, rendezvous, 800);
    if (rank == 0) {
        CHECK_OK(tutti_comm_extend_deadline(comm, 60000));
        CHECK_OK(tutti_barrier(comm, NULL)); /* it ends with the next collective, so
                                            that one must be the late one */
        CHECK_OK(tutti_comm_extend_deadline(comm, 60000));
        (void)usleep(2000000);
    } else {
        CHECK_OK(tutti_comm_extend_deadline(comm, 60000));
        CHECK_OK(tutti_barrier(comm, NULL));
    }
    CHECK_OK(tutti_all_reduce(comm, vector, vector, 10, TUTTI_F32, TUTTI_SUM, NULL));
    if (rank == 0) {
        CHECK(failure_of(comm) == TUTTI_ERR_TIMEOUT, "%s", tutti_last_error());
    } else {
        CHECK_STATUS(TUTTI_ERR_TIMEOUT, tutti_barrier(comm, NULL));
    }
    tutti_comm_destroy(comm);
}

/* What is captured is no call yet: the peers go on granting what they were asked for, until the call that they wait for. */
static void an_extended_deadline_for_captures(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_host_stream *stream = NULL;
    tutti_host_graph *graph = NULL;
    tutti_comm *comm = comm_with_timeout(rank, world, rendezvous, 800);
    CHECK_OK(tutti_host_stream_create(&stream));
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    if (rank == 0) {
        CHECK_OK(tutti_comm_extend_deadline(comm, 60000));
    }
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    CHECK_OK(tutti_barrier(comm, &call));
    CHECK_OK(tutti_host_capture_end(stream, &graph));
    if (rank == 0) {
        (void)usleep(2000000);
    }
    CHECK_OK(tutti_barrier(comm, &call));
    CHECK_OK(tutti_host_stream_synchronize(stream));
    CHECK_OK(tutti_comm_status(comm));
    tutti_host_graph_destroy(graph);
    tutti_comm_destroy(comm);
    tutti_host_stream_destroy(stream);
}

static void an_abort(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    before_failure(tutti_barrier(comm, NULL), TUTTI_ERR_ABORTED);
    if (rank == 0) {
        CHECK_OK(tutti_comm_abort(comm));
        CHECK_STATUS(TUTTI_ERR_ABORTED, tutti_comm_status(comm));
    } else {
        CHECK_STATUS(TUTTI_ERR_ABORTED, tutti_all_reduce(comm, vector, vector, 5000, TUTTI_F32, TUTTI_SUM, NULL));
    }
    CHECK(strlen(tutti_last_error()) > 0, "no sentence");
    CHECK_STATUS(TUTTI_ERR_ABORTED, tutti_barrier(comm, NULL));
    tutti_comm_destroy(comm);
    works(rank, world, rendezvous, 2);
}

/* Rank 0 destroys its communicator while the others still call. */
static void a_peer_that_leaves(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    before_failure(tutti_barrier(comm, NULL), TUTTI_ERR_PEER_LOST);
    if (rank != 0) {
        CHECK_STATUS(TUTTI_ERR_PEER_LOST, tutti_broadcast(comm, vector, 100, 1, NULL));
        says("rank 0");
    }
    tutti_comm_destroy(comm);
}

/* The last rank's process ends without a word; the survivors go on as a smaller
 * world. */
static void a_peer_that_dies(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    before_failure(tutti_barrier(comm, NULL), TUTTI_ERR_PEER_LOST);
    if (rank == world - 1) {
        _exit(0);
    }
    CHECK_STATUS(TUTTI_ERR_PEER_LOST, tutti_all_gather(comm, vector, vector + 1000, 100, NULL));
    char name[24];
    (void)snprintf(name, sizeof(name), "rank %d", world - 1);
    says(name);
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_comm_info(comm, &info));
    CHECK(info.lost_ranks == (uint64_t)1 << (world - 1), "lost ranks %#llx", (unsigned long long)info.lost_ranks);
    tutti_comm_destroy(comm);
    works(rank, world - 1, rendezvous, 3);
}

int main(void)
{
    bool on_a_stream = false;
    for (int mode = RANKS_PROCESSES; mode <= RANKS_THREADS; mode++) {
        for (int world = 2; world <= 4; world++) {
            ranks_run((enum ranks_mode)mode, world, 60, a_late_peer, &on_a_stream);
            on_a_stream = !on_a_stream;
        }
        ranks_run((enum ranks_mode)mode, 2, 60, an_extended_deadline, NULL);
        ranks_run((enum ranks_mode)mode, 2, 60, an_extended_deadline_for_captures, NULL);
        ranks_run((enum ranks_mode)mode, 3, 60, an_abort, NULL);
        ranks_run((enum ranks_mode)mode, 3, 60, a_peer_that_leaves, NULL);
    }
    ranks_run(RANKS_PROCESSES, 2, 60, a_peer_that_dies, NULL);
    ranks_run(RANKS_PROCESSES, 5, 60, a_peer_that_dies, NULL);
    return 0;
}
