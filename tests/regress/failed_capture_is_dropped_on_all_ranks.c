/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#23580: a capture was invalidated by something else, and what one saw was a dead device at the first replay. Here the commit
 * names, on every rank, which rank's capture failed and between which calls; that graph is dropped on all ranks without a hang, the
 * others' replays of it stay right beside eager calls, graphs captured before it are not concerned, and the next capture on the
 * same stream commits. Wherever the capture failed: before its first call, between two, or after the last.
 */
#include <string.h>
#include <time.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/replayed.h"
#include "harness/verdicts.h"

enum moment { BEFORE_FIRST, BETWEEN, AFTER_LAST };

struct scene {
    enum moment moment;
    bool session;
    const char *says;
    struct verdicts *verdicts;
};

static const struct job whole_job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = 40000};
static const struct job first_job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = 36000};
static const struct job last_job = {.kind = TUTTI_ALL_GATHER, .count = 5000};

/* What a library's watchdog might do: a question that no capture in this mode can stand. */
static void invalidate(void)
{
    int done = 0;
    tutti_host_stream *beside = replayed_stream();
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_query(beside, &done));
    tutti_host_stream_destroy(beside);
}

static void issue(const struct replayed *replayed, int index, tutti_comm *comm, tutti_host_stream *stream, bool broken)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    CHECK_STATUS(broken ? TUTTI_ERR_CAPTURE : TUTTI_OK, job_issue(&replayed->jobs[index], comm, &call));
}

/* The last rank's capture fails; the others' does not. */
static void capture_some(struct replayed *some, tutti_comm *comm, tutti_host_stream *stream, const struct scene *scene,
                         bool fails)
{
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    if (fails && scene->moment == BEFORE_FIRST) {
        invalidate();
    }
    issue(some, 0, comm, stream, fails && scene->moment == BEFORE_FIRST);
    if (fails && scene->moment == BETWEEN) {
        invalidate();
    }
    issue(some, 1, comm, stream, fails && scene->moment != AFTER_LAST);
    issue(some, 1, comm, stream, fails && scene->moment != AFTER_LAST); /* refused again: still one capture */
    if (fails && scene->moment == AFTER_LAST) {
        invalidate();
    }
    tutti_host_graph *graph = NULL;
    CHECK_STATUS(fails ? TUTTI_ERR_CAPTURE : TUTTI_OK, tutti_host_capture_end(stream, &graph));
    CHECK((graph == NULL) == fails, "a graph of an invalid capture");
    some->graph = graph;
}

/* The failed capture's calls, replayed where there is a graph, made one by one where there is none. */
static void run_some(struct replayed *some, tutti_comm *comm, tutti_host_stream *stream, uint64_t number)
{
    if (some->graph != NULL) {
        replayed_run(some, stream, number, "replayed beside eager calls", NULL);
        return;
    }
    replayed_fill(some, number);
    issue(some, 0, comm, stream, false);
    issue(some, 1, comm, stream, false);
    issue(some, 1, comm, stream, false);
    CHECK_OK(tutti_host_stream_synchronize(stream));
    replayed_verify(some, "eager beside replays", NULL);
}

static tutti_status commit(tutti_comm *comm, tutti_capture *session)
{
    return session != NULL ? tutti_capture_commit(session) : tutti_commit(comm);
}

/* What the commit has left: one graph, whole, whose call waits for the next one or is done. */
static void stats_check(tutti_comm *comm, const struct replayed *whole, uint64_t pending, uint64_t committed)
{
    tutti_stats stats = replayed_stats(comm);
    bool direct = replayed_direct(comm, &whole->jobs[0]);
    CHECK(stats.pending_calls == pending, "%llu calls wait, not %llu", (unsigned long long)stats.pending_calls,
          (unsigned long long)pending);
    CHECK(stats.committed_calls == (direct ? committed : 0), "%llu calls are direct",
          (unsigned long long)stats.committed_calls);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    bool fails = rank == world - 1;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_host_stream *stream = replayed_stream();
    tutti_capture *session = NULL;
    struct replayed whole = {0};
    struct replayed some = {0};
    replayed_add(&whole, &whole_job, rank, world);
    replayed_add(&some, &first_job, rank, world);
    replayed_add(&some, &last_job, rank, world);
    if (scene->session) {
        CHECK_OK(tutti_capture_begin(comm, stream, &session));
    }
    replayed_capture(&whole, comm, stream);
    capture_some(&some, comm, stream, scene, fails);
    if (ON_DEVICES &&
        scene->moment == AFTER_LAST) { /* a driver destroys graphs on a thread of its own, and nothing else tells */
        const struct timespec pause = {0, 300000000};
        (void)nanosleep(&pause, NULL);
    }
    verdict_give(scene->verdicts, rank, commit(comm, session));
    CHECK_OK(tutti_comm_status(comm));
    stats_check(comm, &whole, 1, 0);
    replayed_run(&whole, stream, 1, "after the failed commit", NULL);
    run_some(&some, comm, stream, 2);
    CHECK_OK(commit(comm, session)); /* what was not concerned */
    stats_check(comm, &whole, 0, 1);
    replayed_run(&whole, stream, 3, "committed", NULL);
    replayed_drop(&some);
    replayed_capture(&some, comm, stream); /* again, on the same stream */
    CHECK_OK(tutti_commit(comm));
    stats_check(comm, &whole, 0, 2);
    replayed_run(&some, stream, 4, "captured again and committed", NULL);
    replayed_run(&whole, stream, 5, "committed before", NULL);
    replayed_destroy(&whole);
    replayed_destroy(&some);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
}

int main(void)
{
    static const struct scene scenes[] = {
        {BEFORE_FIRST, false, "was invalidated between its begin and its first call", NULL},
        {BETWEEN, false, "was invalidated between all_reduce of 72000 bytes (bf16 sum) (call 1 of the graph) and",
         NULL},
        {AFTER_LAST, false, "its capture was invalidated after all_gather of 5000 bytes (call 3 of it)", NULL},
        {BEFORE_FIRST, true, "was invalidated between its begin and its first call", NULL},
        {BETWEEN, true, "was invalidated between all_reduce of 72000 bytes (bf16 sum) (call 1 of the graph) and", NULL},
    };
    for (size_t index = 0; index < sizeof(scenes) / sizeof(scenes[0]); index++) {
        struct scene scene = scenes[index];
        char rank_named[16];
        int world = index % 2 == 0 ? 3 : 2;
        scene.verdicts = verdicts_create();
        ranks_run(index % 3 == 2 ? RANKS_THREADS : RANKS_PROCESSES, world, 60, run_rank, &scene);
        (void)snprintf(rank_named, sizeof(rank_named), "rank %d", world - 1);
        verdicts_check(scene.verdicts, world, TUTTI_ERR_CAPTURE, scene.says);
        verdicts_check(scene.verdicts, world, TUTTI_ERR_CAPTURE, rank_named);
    }
    return 0;
}
