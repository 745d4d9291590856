/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#23580: one rank's capture fails, the others' does not, and they wait for it for ever. Here a rank gives up its session at any
 * time (before it captured anything, in the middle, after the end) while the others commit theirs: they learn it at once, all drop what
 * the session captured, and what was captured before it, or is captured later, commits as if nothing had been.
 */
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/replayed.h"

enum moment { AT_ONCE, IN_THE_MIDDLE, AT_THE_END, MOMENTS };

struct scene {
    tutti_comm *comm;
    tutti_host_stream *stream;
    struct replayed before, within, after;
    uint64_t number;
    int rank, world;
};

static const struct job before_job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F16, .count = 20000};
static const struct job within_jobs[] = {
    {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F16, .count = 24000},
    {.kind = TUTTI_REDUCE_SCATTER, .dtype = TUTTI_F32, .count = 999},
};
static const struct job after_job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F16, .count = 28000, .in_place = true};

/* Captures the session's calls, or as much of it as this rank comes to; ends what it began. */
static void capture_within(struct scene *scene, enum moment moment, bool gives_up)
{
    if (!gives_up || moment == AT_THE_END) {
        replayed_capture(&scene->within, scene->comm, scene->stream);
        return;
    }
    if (moment == IN_THE_MIDDLE) {
        tutti_host_graph *graph = NULL;
        const tutti_call call = {.struct_bytes = sizeof(call), .stream = scene->stream};
        CHECK_OK(tutti_host_capture_begin(scene->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
        CHECK_OK(job_issue(&scene->within.jobs[0], scene->comm, &call));
        CHECK_OK(tutti_host_capture_end(scene->stream, &graph));
        tutti_host_graph_destroy(graph);
    }
}

/* Replayed or made one by one: the ranks need not do the same. */
static void run_within(struct scene *scene)
{
    uint64_t number = ++scene->number;
    if (scene->within.graph != NULL) {
        replayed_run(&scene->within, scene->stream, number, "of a session that was given up", NULL);
        return;
    }
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = scene->stream};
    replayed_fill(&scene->within, number);
    replayed_issue(&scene->within, scene->comm, &call);
    CHECK_OK(tutti_host_stream_synchronize(scene->stream));
    replayed_verify(&scene->within, "eager beside replays", NULL);
}

static void stats_check(const struct scene *scene, uint64_t pending, uint64_t committed, const char *when)
{
    tutti_stats stats = replayed_stats(scene->comm);
    bool direct = replayed_direct(scene->comm, &scene->before.jobs[0]);
    CHECK(stats.pending_calls == pending && stats.committed_calls == (direct ? committed : 0),
          "%s: %llu calls wait, %llu are direct", when, (unsigned long long)stats.pending_calls,
          (unsigned long long)stats.committed_calls);
    uint64_t slots = (direct ? committed : 0) + (replayed_has_slot(scene->comm, &scene->before.jobs[0]) ? pending : 0);
    CHECK(stats.slots_taken == slots, "%s: %llu slots taken", when, (unsigned long long)stats.slots_taken);
}

static void one_rank_gives_up(struct scene *scene, enum moment moment, int who)
{
    tutti_capture *session = NULL;
    replayed_capture(&scene->before, scene->comm, scene->stream);
    CHECK_OK(tutti_capture_begin(scene->comm, scene->stream, &session));
    capture_within(scene, moment, scene->rank == who);
    if (scene->rank == who) {
        CHECK_OK(tutti_capture_abort(session));
    } else {
        char says[64];
        (void)snprintf(says, sizeof(says), "rank %d has given up its capture session", who);
        CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_capture_commit(session));
        CHECK(strstr(tutti_last_error(), says) != NULL, "\"%s\" lacks \"%s\"", tutti_last_error(), says);
        CHECK_OK(tutti_comm_status(scene->comm));
    }
    stats_check(scene, 1, 0, "given up");
    run_within(scene);
    replayed_run(&scene->before, scene->stream, ++scene->number, "captured before the session", NULL);
    if (scene->rank != who) {
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_capture_commit(session)); /* it is over on all ranks */
        CHECK_OK(tutti_capture_release(session));
    }
    CHECK_OK(tutti_commit(scene->comm));
    stats_check(scene, 0, 1, "the others committed");
    replayed_run(&scene->before, scene->stream, ++scene->number, "committed later", NULL);
    replayed_capture(&scene->after, scene->comm, scene->stream);
    CHECK_OK(tutti_commit(scene->comm));
    stats_check(scene, 0, 2, "the next one committed");
    replayed_run(&scene->after, scene->stream, ++scene->number, "captured afterwards", NULL);
    run_within(scene);
    replayed_drop(&scene->before);
    replayed_drop(&scene->within);
    replayed_drop(&scene->after);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct scene scene = {.comm = ranks_comm(rank, world, rendezvous), .rank = rank, .world = world};
    scene.stream = replayed_stream();
    replayed_add(&scene.before, &before_job, rank, world);
    replayed_add(&scene.within, &within_jobs[0], rank, world);
    replayed_add(&scene.within, &within_jobs[1], rank, world);
    replayed_add(&scene.after, &after_job, rank, world);
    for (int moment = 0; moment < MOMENTS; moment++) {
        one_rank_gives_up(&scene, (enum moment)moment, moment % world);
        CHECK_OK(tutti_barrier(scene.comm, NULL)); /* before buffers are filled anew */
        replayed_settle(scene.comm);
    }
    replayed_destroy(&scene.before);
    replayed_destroy(&scene.within);
    replayed_destroy(&scene.after);
    tutti_host_stream_destroy(scene.stream);
    tutti_comm_destroy(scene.comm);
}

int main(void)
{
    ranks_run(RANKS_PROCESSES, 2, 60, run_rank, NULL);
    ranks_run(RANKS_THREADS, 3, 60, run_rank, NULL);
    return 0;
}
