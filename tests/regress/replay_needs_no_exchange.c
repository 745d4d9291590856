/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#14193: captured all-reduces read a table that was filled only after the capture window, so that a replay
 * before that, at certain sizes, read unfilled addresses. Here a captured collective is complete: it is replayed
 * at once, sizes are captured in any order between replays of the others (also 1025 rows, twice, as
 * reported), and every result is right although the inputs change with every replay.
 */
#include "harness/check.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

#define HIDDEN 64
#define BUCKETS 7

static const size_t bucket_rows[BUCKETS] = {1025, 1, 512, 2, 1025, 7, 300};

struct bucket {
    struct job job;
    struct job_buffers buffers;
    tutti_host_graph *graph;
};

static void capture(struct bucket *bucket, tutti_comm *comm, tutti_host_stream *stream)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    CHECK_OK(job_issue(&bucket->job, comm, &call));
    CHECK_OK(tutti_host_capture_end(stream, &bucket->graph));
}

static void replay(struct bucket *bucket, tutti_host_stream *stream, uint64_t number)
{
    job_fill(&bucket->job, number);
    CHECK_OK(tutti_host_graph_launch(bucket->graph, stream));
    CHECK_OK(tutti_host_stream_synchronize(stream));
    job_verify(&bucket->job, "replayed", NULL);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    uint64_t random = *(const uint64_t *)user; /* the same on all ranks */
    uint64_t number = 1;
    struct bucket buckets[BUCKETS] = {0};
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_host_stream *stream = NULL;
    CHECK_OK(tutti_host_stream_create(&stream));
    for (int captured = 0; captured < BUCKETS; captured++) {
        struct bucket *bucket = &buckets[captured];
        bucket->job = (struct job){.kind = TUTTI_ALL_REDUCE,
                                   .dtype = TUTTI_BF16,
                                   .count = bucket_rows[captured] * HIDDEN,
                                   .in_place = captured % 2 == 1};
        job_buffers_create(&bucket->buffers, job_bytes(&bucket->job, world));
        job_place(&bucket->job, rank, world, &bucket->buffers);
        capture(bucket, comm, stream);
        for (int times = 0; times < 5; times++) {
            replay(&buckets[ranks_random(&random) % (uint64_t)(captured + 1)], stream, number++);
        }
        replay(bucket, stream, number++);
    }
    for (int index = 0; index < BUCKETS; index++) {
        tutti_host_graph_destroy(buckets[index].graph);
        job_buffers_destroy(&buckets[index].buffers);
    }
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
}

int main(void)
{
    uint64_t seed = ranks_seed();
    ranks_run(RANKS_PROCESSES, 2, 120, run_rank, &seed);
    ranks_run(RANKS_PROCESSES, 4, 120, run_rank, &seed);
    ranks_run(RANKS_THREADS, 3, 120, run_rank, &seed);
    return 0;
}
