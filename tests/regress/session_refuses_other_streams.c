/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#23580: a collective went to a stream that was not the one being captured, and nobody said so. Here, while a session is open, a
 * call on any other stream (idle, or in a capture of its own) is refused with the call and both streams named, and enqueues
 * nothing; the session's stream may be used, capturing or not, and so may streams that its capture has been forked to.
 */
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/replayed.h"

struct scene {
    tutti_comm *comm;
    tutti_host_stream *own, *other;
    struct replayed first, second; /* of the same calls */
    uint64_t number;
};

static void streams_named(const struct scene *scene, const char *state)
{
    char own[32];
    char other[32];
    (void)snprintf(own, sizeof(own), "%p", (void *)scene->own);
    (void)snprintf(other, sizeof(other), "%p", (void *)scene->other);
    const char *text = tutti_last_error();
    CHECK(strstr(text, own) != NULL && strstr(text, other) != NULL, "\"%s\" does not name %s and %s", text, own, other);
    CHECK(strstr(text, "all_reduce of 12000 bytes (f32 sum)") != NULL, "\"%s\" does not name the call", text);
    CHECK(strstr(text, state) != NULL, "\"%s\" lacks \"%s\"", text, state);
}

/* On the other stream; nothing comes of it, neither executed nor captured. */
static void refused(struct scene *scene, const char *state)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = scene->other};
    tutti_stats before = replayed_stats(scene->comm);
    uint64_t hash = values_hash(scene->second.jobs[0].dst, scene->second.jobs[0].dst_bytes);
    CHECK_STATUS(TUTTI_ERR_CAPTURE, job_issue(&scene->second.jobs[0], scene->comm, &call));
    streams_named(scene, state);
    tutti_stats after = replayed_stats(scene->comm);
    CHECK(after.captured == before.captured && after.pending_calls == before.pending_calls &&
              memcmp(after.calls, before.calls, sizeof(after.calls)) == 0,
          "a refused call was counted");
    CHECK(values_hash(scene->second.jobs[0].dst, scene->second.jobs[0].dst_bytes) == hash, "a refused call ran");
}

static void eager(struct scene *scene, tutti_host_stream *stream)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    replayed_fill(&scene->second, ++scene->number);
    replayed_issue(&scene->second, scene->comm, &call);
    CHECK_OK(tutti_host_stream_synchronize(stream));
    replayed_verify(&scene->second, "eager", NULL);
}

/* The other stream captures, too: another capture than the session's, whose stream may be idle or capture. */
static void other_capture(struct scene *scene)
{
    tutti_host_graph *graph = NULL;
    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_host_capture_begin(scene->other, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    refused(scene, "in another capture");
    CHECK_OK(tutti_host_capture_end(scene->other, &graph));
    CHECK_OK(tutti_host_graph_info(graph, &info));
    CHECK(info.nodes == 0, "%zu nodes came of refused calls", info.nodes);
    tutti_host_graph_destroy(graph);
}

/* A fork and a join, with a call on either stream. */
static void forked_capture(struct scene *scene)
{
    tutti_host_event *fork = NULL;
    tutti_host_event *join = NULL;
    CHECK_OK(tutti_host_event_create(&fork));
    CHECK_OK(tutti_host_event_create(&join));
    const tutti_call own = {.struct_bytes = sizeof(own), .stream = scene->own};
    const tutti_call other = {.struct_bytes = sizeof(other), .stream = scene->other};
    CHECK_OK(tutti_host_capture_begin(scene->own, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    refused(scene, "not capturing");
    replayed_issue(&scene->first, scene->comm, &own);
    CHECK_OK(tutti_host_event_record(fork, scene->own));
    CHECK_OK(tutti_host_stream_wait_event(scene->other, fork));
    replayed_issue(&scene->second, scene->comm, &other); /* takes part now */
    CHECK_OK(tutti_host_event_record(join, scene->other));
    CHECK_OK(tutti_host_stream_wait_event(scene->own, join));
    CHECK_OK(tutti_host_capture_end(scene->own, &scene->first.graph));
    refused(scene, "not capturing"); /* and no more */
    tutti_host_event_destroy(fork);
    tutti_host_event_destroy(join);
}

static void replay_both(struct scene *scene, const char *how)
{
    replayed_fill(&scene->second, ++scene->number);
    replayed_run(&scene->first, scene->own, ++scene->number, how, NULL);
    replayed_verify(&scene->second, how, NULL);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    static const struct job job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F32, .count = 3000};
    struct scene scene = {.comm = ranks_comm(rank, world, rendezvous)};
    tutti_capture *capture = NULL;
    tutti_capture *second = NULL;
    scene.own = replayed_stream();
    scene.other = replayed_stream();
    replayed_add(&scene.first, &job, rank, world);
    replayed_add(&scene.second, &job, rank, world);
    eager(&scene, scene.other); /* no session: any stream will do */
    CHECK_OK(tutti_capture_begin(scene.comm, scene.own, &capture));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_capture_begin(scene.comm, scene.other, &second));
    CHECK(second == NULL, "a second session");
    refused(&scene, "not capturing");
    eager(&scene, scene.own); /* the warm-up */
    other_capture(&scene);
    forked_capture(&scene);
    replay_both(&scene, "before the commit");
    CHECK_OK(tutti_capture_commit(capture));
    replay_both(&scene, "after the commit");
    eager(&scene, scene.other); /* the session is over */
    CHECK_OK(tutti_capture_release(capture));
    replay_both(&scene, "released");
    replayed_destroy(&scene.first);
    replayed_destroy(&scene.second);
    tutti_host_stream_destroy(scene.own);
    tutti_host_stream_destroy(scene.other);
    tutti_comm_destroy(scene.comm);
}

int main(void)
{
    ranks_run(RANKS_PROCESSES, 2, 60, run_rank, NULL);
    ranks_run(RANKS_THREADS, 3, 60, run_rank, NULL);
    ranks_run(RANKS_PROCESSES, 1, 60, run_rank, NULL);
    return 0;
}
