/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#23580: a query from another thread (a collective library's watchdog) invalidated a capture, and the only
 * sign was a dead device at the first replay. Here ending such a capture names the call and the first
 * operation that was refused, makes no graph, and leaves stream and communicator usable: the rank runs eagerly
 * beside its peers' replays, and captures again. A relaxed thread's query disturbs nobody.
 */
#include <pthread.h>
#include <string.h>

#include "harness/check.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

static void *query(void *argument)
{
    int done = 0;
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_query(argument, &done));
    return NULL;
}

static void *query_relaxed(void *argument)
{
    int done = 0;
    tutti_host_capture_mode mode = TUTTI_HOST_CAPTURE_RELAXED;
    CHECK_OK(tutti_host_capture_mode_exchange(&mode));
    CHECK_OK(tutti_host_stream_query(argument, &done));
    return NULL;
}

static void in_another_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, argument) == 0, "no thread");
    (void)pthread_join(thread, NULL);
}

static tutti_status capture(const struct job *job, tutti_comm *comm, tutti_host_stream *stream, void *(*body)(void *),
                            tutti_host_graph **graph)
{
    tutti_host_stream *beside = NULL;
    CHECK_OK(tutti_host_stream_create(&beside));
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(job_issue(job, comm, &call));
    in_another_thread(body, beside);
    tutti_status second = job_issue(job, comm, &call);
    tutti_status status = tutti_host_capture_end(stream, graph);
    CHECK(second == status, "the call after the query: %s, the end: %s", tutti_status_name(second),
          tutti_status_name(status));
    tutti_host_stream_destroy(beside);
    return status;
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct job job = {.kind = TUTTI_ALL_REDUCE, .count = 3000};
    struct job_buffers buffers;
    job_buffers_create(&buffers, job_bytes(&job, world));
    job_place(&job, rank, world, &buffers);
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_host_stream *stream = NULL;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_stream_create(&stream));

    tutti_status status = capture(&job, comm, stream, rank == 1 ? query : query_relaxed, &graph);
    if (rank == 1) {
        CHECK(status == TUTTI_ERR_CAPTURE && graph == NULL, "%s", tutti_status_name(status));
        CHECK(strstr(tutti_last_error(), "tutti_host_stream_query") != NULL &&
                  strstr(tutti_last_error(), "all_reduce") != NULL,
              "\"%s\" names neither the query nor the refused call", tutti_last_error());
    } else {
        CHECK_OK(status);
    }
    /* The graph holds the call twice: rank 1 makes both eagerly. */
    for (uint64_t number = 1; number < 4; number++) {
        job_fill(&job, number);
        if (rank == 1) {
            CHECK_OK(job_issue(&job, comm, NULL));
            CHECK_OK(job_issue(&job, comm, NULL));
        } else {
            CHECK_OK(tutti_host_graph_launch(graph, stream));
            CHECK_OK(tutti_host_stream_synchronize(stream));
        }
        job_verify(&job, "eager beside replays", NULL);
    }
    if (rank == 1) {
        CHECK_OK(capture(&job, comm, stream, query_relaxed, &graph));
    }
    job_fill(&job, 9);
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    job_verify(&job, "captured again", NULL);
    tutti_host_graph_destroy(graph);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
    job_buffers_destroy(&buffers);
}

int main(void)
{
    ranks_run(RANKS_PROCESSES, 3, 120, run_rank, NULL);
    return 0;
}
