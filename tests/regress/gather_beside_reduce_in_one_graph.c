/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#27163: an all-gather captured among all-reduces shifted the slots that the all-reduces' addresses were
 * written to, and decoding read its neighbour's buffers. Here random interleavings of all collectives in one
 * graph, for every world from 2 to 8, give each call its own result at every replay.
 */
#include "harness/check.h"
#include "harness/effort.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

#define CALLS 40
#define BYTES_MAX 65536

struct program {
    struct job jobs[CALLS];
    struct job_buffers buffers[CALLS];
};

static void write_program(struct program *program, int rank, int world, uint64_t random)
{
    for (int index = 0; index < CALLS; index++) {
        struct job *job = &program->jobs[index];
        *job = (struct job){.kind = (tutti_collective)(ranks_random(&random) % TUTTI_BARRIER),
                            .dtype = (tutti_dtype)(ranks_random(&random) % 3),
                            .count = 1 + ranks_random(&random) % 1500,
                            .root = (int)(ranks_random(&random) % (uint64_t)world),
                            .in_place = ranks_random(&random) % 2 == 0};
        job_buffers_create(&program->buffers[index], BYTES_MAX);
        job_place(job, rank, world, &program->buffers[index]);
    }
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    static _Thread_local struct program program;
    write_program(&program, rank, world, *(const uint64_t *)user);
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_host_stream *stream = NULL;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_stream_create(&stream));
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    for (int index = 0; index < CALLS; index++) {
        CHECK_OK(job_issue(&program.jobs[index], comm, &call));
    }
    CHECK_OK(tutti_host_capture_end(stream, &graph));
    for (uint64_t times = 0; times < 4; times++) {
        for (int index = 0; index < CALLS; index++) {
            job_fill(&program.jobs[index], 1 + times * CALLS + (uint64_t)index);
        }
        CHECK_OK(tutti_host_graph_launch(graph, NULL));
        for (int index = 0; index < CALLS; index++) {
            job_verify(&program.jobs[index], "replayed among others", NULL);
        }
    }
    tutti_host_graph_destroy(graph);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
    for (int index = 0; index < CALLS; index++) {
        job_buffers_destroy(&program.buffers[index]);
    }
}

int main(void)
{
    uint64_t seed = ranks_seed();
    int step = effort() == EFFORT_QUICK ? 3 : 1;
    for (int world = 2; world <= ranks_most(8); world += step) {
        seed++;
        ranks_run(RANKS_PROCESSES, world, 120, run_rank, &seed);
    }
    return 0;
}
