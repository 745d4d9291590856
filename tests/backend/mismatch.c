/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that make different calls: TUTTI_ERR_MISMATCH on every rank, with both
 * calls in the sentence; the outputs are poisoned, the communicator stays
 * failed, and a new one works. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/check.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

static const struct pair {
    const char *what;
    struct job odd, others; /* what the last rank calls, and what all others call */
    const char *words[2];   /* what the sentence must say */
} pairs[] = {
    {"another collective",
     {.kind = TUTTI_ALL_GATHER, .count = 4096},
     {.kind = TUTTI_ALL_REDUCE, .count = 1024},
     {"all_gather", "all_reduce"}},
    {"another small count",
     {.kind = TUTTI_ALL_REDUCE, .count = 100},
     {.kind = TUTTI_ALL_REDUCE, .count = 101},
     {"400 bytes", "404 bytes"}},
    {"counts of different protocols",
     {.kind = TUTTI_ALL_REDUCE, .count = 100000},
     {.kind = TUTTI_ALL_REDUCE, .count = 10},
     {"400000 bytes", "40 bytes"}},
    {"another type of the same bytes",
     {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F16, .count = 64},
     {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = 64},
     {"f16", "bf16"}},
    {"another operator",
     {.kind = TUTTI_REDUCE_SCATTER, .op = TUTTI_MAX, .count = 64},
     {.kind = TUTTI_REDUCE_SCATTER, .op = TUTTI_SUM, .count = 64},
     {"max", "sum"}},
    {"another root",
     {.kind = TUTTI_BROADCAST, .root = 0, .count = 64},
     {.kind = TUTTI_BROADCAST, .root = 1, .count = 64},
     {"rank 0", "rank 1"}},
    {"a barrier beside a copy",
     {.kind = TUTTI_BARRIER},
     {.kind = TUTTI_ALL_TO_ALL, .count = 500},
     {"barrier", "all_to_all"}},
    {"nothing beside something",
     {.kind = TUTTI_ALL_REDUCE, .count = 0},
     {.kind = TUTTI_ALL_REDUCE, .count = 5000},
     {"0 bytes", "20000 bytes"}},
};

enum how { EAGER, ON_A_STREAM, REPLAYED, HOW_COUNT };

struct trial {
    const struct pair *pair;
    enum how how;
};

static void check_poisoned(const struct job *job)
{
    const unsigned char *bytes = job->dst;
    if (job->kind == TUTTI_ALL_REDUCE || job->kind == TUTTI_REDUCE_SCATTER) {
        for (size_t i = 0; i < job->count; i++) {
            uint32_t bits = 0;
            size_t width = tutti_dtype_bytes(job->dtype);
            memcpy(&bits, bytes + i * width, width);
            CHECK(isnan(values_to_float(job->dtype, bits)), "element %zu of a failed reduction is %#x, not NaN", i,
                  bits);
        }
        return;
    }
    bool source = job->kind == TUTTI_BROADCAST && job->rank == job->root; /* its buffer is an input */
    for (size_t i = 0; !source && i < job->dst_bytes; i++) {
        CHECK(bytes[i] == 0, "byte %zu of a failed copy is %#x, not 0", i, bytes[i]);
    }
}

static tutti_status run_call(const struct job *job, tutti_comm *comm, enum how how, tutti_host_stream *stream)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    if (how == EAGER) {
        return job_issue(job, comm, NULL);
    }
    if (how == ON_A_STREAM) {
        CHECK_OK(job_issue(job, comm, &call));
        CHECK_OK(tutti_host_stream_synchronize(stream));
        return tutti_comm_status(comm);
    }
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    CHECK_OK(job_issue(job, comm, &call));
    CHECK_OK(tutti_host_capture_end(stream, &graph));
    tutti_status status = tutti_host_graph_launch(graph, NULL);
    tutti_host_graph_destroy(graph);
    return status;
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const struct trial *trial = user;
    struct job job = rank == world - 1 ? trial->pair->odd : trial->pair->others;
    struct job_buffers buffers;
    tutti_host_stream *stream = NULL;
    CHECK_OK(tutti_host_stream_create(&stream));
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    job_buffers_create(&buffers, job_bytes(&job, world));

    /* A correct call before, so that the ranks are not in their first. */
    CHECK_OK(tutti_barrier(comm, NULL));
    job_place(&job, rank, world, &buffers);
    job_fill(&job, 1);
    tutti_status status = run_call(&job, comm, trial->how, stream);
    char sentence[512];
    (void)snprintf(sentence, sizeof(sentence), "%s", tutti_last_error());
    CHECK(status == TUTTI_ERR_MISMATCH, "%s: got %s (%s)", trial->pair->what, tutti_status_name(status), sentence);
    for (int i = 0; i < 2; i++) {
        CHECK(strstr(sentence, trial->pair->words[i]) != NULL, "%s: \"%s\" does not say \"%s\"", trial->pair->what,
              sentence, trial->pair->words[i]);
    }
    check_poisoned(&job);

    /* The failure is final, and nothing more is enqueued. */
    CHECK_STATUS(TUTTI_ERR_MISMATCH, tutti_barrier(comm, NULL));
    CHECK_STATUS(TUTTI_ERR_MISMATCH, tutti_comm_status(comm));
    CHECK(strcmp(sentence, tutti_last_error()) == 0, "\"%s\" became \"%s\"", sentence, tutti_last_error());
    tutti_comm_destroy(comm);

    comm = ranks_comm(rank, world, rendezvous);
    struct job next = {.kind = TUTTI_ALL_REDUCE, .count = 100};
    struct job_buffers next_buffers;
    job_buffers_create(&next_buffers, 400);
    job_place(&next, rank, world, &next_buffers);
    job_fill(&next, 2);
    CHECK_OK(job_issue(&next, comm, NULL));
    job_verify(&next, "on a new communicator", NULL);
    tutti_comm_destroy(comm);
    job_buffers_destroy(&next_buffers);
    job_buffers_destroy(&buffers);
    tutti_host_stream_destroy(stream);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        for (int how = EAGER; how < HOW_COUNT; how++) {
            struct trial trial = {&pairs[i], (enum how)how};
            ranks_run(RANKS_PROCESSES, 2, 60, run_rank, &trial);
            ranks_run(RANKS_PROCESSES, 4, 60, run_rank, &trial);
            ranks_run(RANKS_THREADS, 3, 60, run_rank, &trial);
        }
    }
    return 0;
}
