/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#23580, further on: what one rank did with its session reaches all ranks, whatever came between: a begin that was refused on one
 * rank, a peer that called something else, a resume, sessions given up one after another by one thread. And a session that begins in
 * the middle of a capture has the graph of that capture.
 */
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/replayed.h"

#define WORLD 2

struct scene {
    tutti_comm *comm;
    tutti_host_stream *stream;
    struct replayed work;
    int rank;
};

static const struct job work_job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F16, .count = 20000};

static void expect_pending(tutti_comm *comm, uint64_t pending, const char *when)
{
    tutti_stats stats = replayed_stats(comm);
    CHECK(stats.pending_calls == pending, "%s: %llu calls wait", when, (unsigned long long)stats.pending_calls);
}

/* The stream's capture is invalid: no session can begin. */
static void begin_refused(struct scene *scene)
{
    tutti_capture *session = NULL;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(scene->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_synchronize(scene->stream));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_capture_begin(scene->comm, scene->stream, &session));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(scene->stream, &graph));
}

/* Rank 1 gives up, rank 0 would commit, and can begin another one afterwards. */
static void rank_1_gives_up(struct scene *scene)
{
    tutti_capture *session = NULL;
    CHECK_OK(tutti_capture_begin(scene->comm, scene->stream, &session));
    replayed_capture(&scene->work, scene->comm, scene->stream);
    if (scene->rank == 1) {
        CHECK_OK(tutti_capture_abort(session));
    } else {
        CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_capture_commit(session));
        CHECK(strstr(tutti_last_error(), "rank 1 has given up") != NULL, "%s", tutti_last_error());
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_capture_commit(session)); /* it is closed */
        CHECK_OK(tutti_capture_release(session));
    }
    expect_pending(scene->comm, 0, "given up");
    replayed_drop(&scene->work);
}

static void refused_on_one_rank(struct scene *scene, bool commits)
{
    tutti_capture *session = NULL;
    if (scene->rank == 1) {
        begin_refused(scene);
        CHECK_STATUS(commits ? TUTTI_OK : TUTTI_ERR_CAPTURE, tutti_commit(scene->comm));
    } else {
        CHECK_OK(tutti_capture_begin(scene->comm, scene->stream, &session));
        CHECK_OK(commits ? tutti_capture_commit(session) : tutti_capture_abort(session));
    }
    rank_1_gives_up(scene);
    if (commits && scene->rank == 0) {
        CHECK_OK(tutti_capture_release(session));
    }
}

/* Rank 0 gives up while rank 1 resumes: nobody has heard of it, so the next commit says it, or the end of the next session. */
static void resumed_by_a_peer(struct scene *scene, bool next_one)
{
    tutti_capture *session = NULL;
    CHECK_OK(tutti_capture_begin(scene->comm, scene->stream, &session));
    replayed_capture(&scene->work, scene->comm, scene->stream);
    if (scene->rank == 0) {
        CHECK_STATUS(TUTTI_ERR_MISMATCH, tutti_capture_abort(session));
        if (next_one) {
            CHECK_OK(tutti_capture_begin(scene->comm, scene->stream, &session));
            CHECK_OK(tutti_capture_abort(session));
        } else {
            CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_commit(scene->comm));
        }
    } else {
        CHECK_STATUS(TUTTI_ERR_MISMATCH, tutti_resume(scene->comm));
        CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_capture_commit(session));
    }
    CHECK(strstr(tutti_last_error(), "rank 0 has given up") != NULL, "%s", tutti_last_error());
    if (scene->rank == 1) {
        CHECK_OK(tutti_capture_release(session));
    }
    expect_pending(scene->comm, 0, "given up beside a resume");
    replayed_drop(&scene->work);
    rank_1_gives_up(scene);
}

/* The session begins when its stream captures already: what it gives up is the whole graph. */
static void begun_in_a_capture(struct scene *scene)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = scene->stream};
    tutti_capture *session = NULL;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(scene->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    replayed_issue(&scene->work, scene->comm, &call);
    CHECK_OK(tutti_capture_begin(scene->comm, scene->stream, &session));
    replayed_issue(&scene->work, scene->comm, &call);
    CHECK_OK(tutti_host_capture_end(scene->stream, &graph));
    CHECK_OK(tutti_capture_abort(session));
    expect_pending(scene->comm, 0, "begun in a capture, given up");
    tutti_host_graph_destroy(graph);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct scene scene = {.comm = ranks_comm(rank, world, rendezvous), .stream = replayed_stream(), .rank = rank};
    replayed_add(&scene.work, &work_job, rank, world);
    refused_on_one_rank(&scene, false);
    refused_on_one_rank(&scene, true);
    resumed_by_a_peer(&scene, false);
    resumed_by_a_peer(&scene, true);
    begun_in_a_capture(&scene);
    CHECK_OK(tutti_barrier(scene.comm, NULL));
    replayed_destroy(&scene.work);
    tutti_host_stream_destroy(scene.stream);
    tutti_comm_destroy(scene.comm);
}

/* -- one thread drives all ranks ------------------------------------------------------------------------------------- */

static void all_give_up(struct scene *scenes, int world)
{
    for (int rank = 0; rank < world; rank++) {
        tutti_capture *session = NULL;
        CHECK_OK(tutti_capture_begin(scenes[rank].comm, scenes[rank].stream, &session));
        replayed_capture(&scenes[rank].work, scenes[rank].comm, scenes[rank].stream);
        CHECK_OK(tutti_capture_abort(session));
        replayed_drop(&scenes[rank].work);
    }
}

static void one_thread(int world)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host"};
    tutti_comm *comms[WORLD];
    struct scene scenes[WORLD] = {{.rank = 0}};
    CHECK_OK(tutti_comm_create_all(&options, NULL, world, comms));
    for (int rank = 0; rank < world; rank++) {
        scenes[rank] = (struct scene){.comm = comms[rank], .stream = replayed_stream(), .rank = rank};
        replayed_add(&scenes[rank].work, &work_job, rank, world);
    }
    all_give_up(scenes, world);
    CHECK_OK(tutti_commit_all(comms, world));
    all_give_up(scenes, world);
    all_give_up(scenes, world); /* the last one as well as the one before */
    CHECK_OK(tutti_commit_all(comms, world));
    all_give_up(scenes, world);
    CHECK_OK(tutti_resume_all(comms, world)); /* has nothing to do with it */
    CHECK_OK(tutti_commit_all(comms, world));
    for (int rank = 0; rank < world; rank++) {
        expect_pending(comms[rank], 0, "given up by all");
        replayed_destroy(&scenes[rank].work);
        tutti_host_stream_destroy(scenes[rank].stream);
    }
    for (int rank = 0; rank < world; rank++) {
        tutti_comm_destroy(comms[rank]);
    }
}

int main(int argc, char **argv)
{
    if (argc == 1 || strcmp(argv[1], "threads") == 0) {
        ranks_run(RANKS_THREADS, WORLD, 60, run_rank, NULL);
    }
    if (argc == 1 || strcmp(argv[1], "one") == 0) {
        one_thread(1);
    }
    if (argc == 1 || strcmp(argv[1], "all") == 0) {
        one_thread(WORLD);
    }
    return 0;
}
