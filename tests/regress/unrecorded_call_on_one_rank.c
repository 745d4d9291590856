/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#23580, one rank's capture failed, in its quietest form: there was no memory to record one call, the caller took no notice, and
 * the capture made a graph without it. That call said so; and the commit tells all ranks, which drop the graph. Every allocation of a
 * captured call fails once here. The other ranks' replays are right beside this one's eager calls, and the next capture commits.
 */
#include "harness/check.h"
#include "harness/failing_malloc.h"
#include "harness/ranks.h"
#include "harness/replayed.h"
#include "harness/verdicts.h"

#define CALLS 3
#define ATTEMPTS 8 /* more than a call allocates times */

struct scene {
    int call, allocation; /* which allocation fails, of which call, on the last rank */
    struct verdicts *commits, *calls;
};

/* -- ranks ------------------------------------------------------------------------------------------------------- */

static tutti_status issue(const struct replayed *graph, int index, tutti_comm *comm, tutti_host_stream *stream)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    return job_issue(&graph->jobs[index], comm, &call);
}

/* False if one of the calls could not be recorded. */
static bool capture(struct replayed *graph, tutti_comm *comm, tutti_host_stream *stream, const struct scene *scene)
{
    bool whole = true;
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    for (int index = 0; index < CALLS; index++) {
        atomic_store(&countdown, scene != NULL && index == scene->call ? scene->allocation : 0);
        tutti_status status = issue(graph, index, comm, stream);
        atomic_store(&countdown, 0);
        CHECK(status == TUTTI_OK || (scene != NULL && index == scene->call && status == TUTTI_ERR_SYSTEM),
              "call %d: %s", index, tutti_last_error());
        whole = whole && status == TUTTI_OK;
    }
    CHECK_OK(tutti_host_capture_end(stream, &graph->graph));
    return whole;
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    library_find();
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_host_stream *stream = replayed_stream();
    struct replayed graph = {0};
    for (int index = 0; index < CALLS; index++) {
        const struct job job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = 3000 + (size_t)index};
        replayed_add(&graph, &job, rank, world);
    }
    bool whole = capture(&graph, comm, stream, rank == world - 1 ? scene : NULL);
    verdict_give(scene->calls, rank, whole ? TUTTI_OK : TUTTI_ERR_SYSTEM);
    verdict_give(scene->commits, rank, tutti_commit(comm));
    if (whole) {
        replayed_run(&graph, stream, 1, "replayed", NULL);
    } else {
        replayed_fill(&graph, 1);
        for (int index = 0; index < CALLS; index++) {
            CHECK_OK(issue(&graph, index, comm, stream));
        }
        CHECK_OK(tutti_host_stream_synchronize(stream));
        replayed_verify(&graph, "eager beside replays", NULL);
    }
    replayed_drop(&graph);
    CHECK(capture(&graph, comm, stream, NULL), "the next capture");
    CHECK_OK(tutti_commit(comm));
    replayed_run(&graph, stream, 2, "captured again", NULL);
    replayed_destroy(&graph);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
}

int main(void)
{
    int failures = 0;
    struct scene scene = {.commits = verdicts_create(), .calls = verdicts_create()};
    if (!TRAPS) {
        SKIP("sanitizers have put themselves in the places where this test stands");
    }
    for (scene.call = 0; scene.call < CALLS; scene.call++) {
        for (scene.allocation = 1; scene.allocation <= ATTEMPTS; scene.allocation++) {
            ranks_run(RANKS_PROCESSES, 2, 60, run_rank, &scene);
            if (scene.calls->ranks[1].status == TUTTI_OK) {
                verdicts_check(scene.commits, 2, TUTTI_OK, "");
                continue;
            }
            failures++;
            verdicts_check(scene.commits, 2, TUTTI_ERR_CAPTURE, "rank 1: all_reduce: no memory");
        }
    }
    CHECK(failures >= CALLS, "only %d allocations failed", failures);
    return 0;
}
