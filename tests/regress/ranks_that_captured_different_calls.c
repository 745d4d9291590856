/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#27163: ranks whose counts of captured calls differ, because one of them hit a cache, wrote each other's addresses into the wrong
 * slots. Here the commit compares what was captured before any handle is passed: every rank gets the same MISMATCH, which names the
 * first call that differs; nothing is mapped, replays of what the ranks have in common stay right, and what is captured alike
 * afterwards commits.
 */
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/replayed.h"
#include "harness/verdicts.h"

enum difference {
    ONE_MORE,
    OTHER_SIZE,
    OTHER_KIND,
    OTHER_TYPE,
    OTHER_ROOT,
    OTHER_ORDER,
    OTHER_LANE,
    ONE_GRAPH_LESS,
    RESUMES
};

struct scene {
    enum difference difference;
    const char *says;
    struct verdicts *verdicts;
};

static const struct scene scenes[] = {
    {ONE_MORE, "call 3 of graph 2 since the last commit is nothing more on rank 0, barrier on lane 0 on rank 1", NULL},
    {OTHER_SIZE,
     "call 2 of graph 2 since the last commit is broadcast of 4096 bytes from rank 0 on lane 0 on rank 0, broadcast of "
     "4097 "
     "bytes from rank 0 on lane 0 on rank 1",
     NULL},
    {OTHER_KIND,
     "call 2 of graph 2 since the last commit is broadcast of 4096 bytes from rank 0 on lane 0 on rank 0, "
     "all_gather of 4096 bytes on lane 0 on rank 1",
     NULL},
    {OTHER_TYPE,
     "call 1 of graph 2 since the last commit is all_reduce of 64000 bytes (f16 sum) on lane 0 on rank 0, "
     "all_reduce of 64000 bytes (bf16 sum) on lane 0 on rank 1",
     NULL},
    {OTHER_ROOT,
     "broadcast of 4096 bytes from rank 0 on lane 0 on rank 0, broadcast of 4096 bytes from rank 1 on lane 0", NULL},
    {OTHER_ORDER,
     "call 1 of graph 2 since the last commit is all_reduce of 64000 bytes (f16 sum) on lane 0 on rank 0, "
     "broadcast of 4096",
     NULL},
    {OTHER_LANE,
     "call 2 of graph 2 since the last commit is broadcast of 4096 bytes from rank 0 on lane 0 on rank 0, "
     "broadcast of 4096 bytes from rank 0 on lane 1 on rank 1",
     NULL},
    {ONE_GRAPH_LESS,
     "rank 0 has a graph 2 since the last commit (2 calls, the last is broadcast of 4096 bytes from rank 0), "
     "rank 1 has none",
     NULL},
    {RESUMES, "rank 0 calls tutti_commit, rank 1 calls tutti_resume", NULL},
};

static const struct job common_job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F16, .count = 40000};
static const struct job own_jobs[] = {{.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F16, .count = 32000},
                                      {.kind = TUTTI_BROADCAST, .count = 4096}};

static void capture_one(const struct job *job, tutti_comm *comm, tutti_host_stream *stream, uint32_t lane)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream, .lane = lane};
    CHECK_OK(job_issue(job, comm, &call));
}

/* What this rank captures beside the others: never replayed. */
static tutti_host_graph *capture_own(const struct replayed *own, tutti_comm *comm, tutti_host_stream *stream,
                                     enum difference difference, bool odd)
{
    struct job first = own->jobs[0];
    struct job second = own->jobs[1];
    tutti_host_graph *graph = NULL;
    first.dtype = odd && difference == OTHER_TYPE ? TUTTI_BF16 : first.dtype;
    second.count += odd && difference == OTHER_SIZE;
    second.root = odd && difference == OTHER_ROOT ? 1 : 0;
    if (odd && difference == OTHER_KIND) {
        second = (struct job){.kind = TUTTI_ALL_GATHER, .count = 4096, .src = first.src, .dst = first.dst};
    }
    bool swapped = odd && difference == OTHER_ORDER;
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    capture_one(swapped ? &second : &first, comm, stream, 0);
    capture_one(swapped ? &first : &second, comm, stream, odd && difference == OTHER_LANE);
    if (odd && difference == ONE_MORE) {
        const struct job barrier = {.kind = TUTTI_BARRIER};
        capture_one(&barrier, comm, stream, 0);
    }
    CHECK_OK(tutti_host_capture_end(stream, &graph));
    return graph;
}

static tutti_comm *comm_with_lanes(int rank, int world, const char *rendezvous)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host", .rank = rank, .world = world};
    options.rendezvous = rendezvous;
    options.lanes = 2;
    tutti_comm *comm = NULL;
    CHECK_OK(tutti_comm_create(&options, &comm));
    return comm;
}

/* Afterwards nothing is mapped for anybody, and no slot is lost. */
static void stats_check(tutti_comm *comm, enum difference difference)
{
    tutti_stats stats = replayed_stats(comm);
    CHECK(stats.committed_calls == 0 && stats.mappings == 0 && stats.commits == 0, "%llu committed, %llu mapped",
          (unsigned long long)stats.committed_calls, (unsigned long long)stats.mappings);
    if (difference == RESUMES) { /* two calls that do not belong together say nothing about what was captured */
        CHECK(stats.staged_for_good_calls == 0, "%llu given up", (unsigned long long)stats.staged_for_good_calls);
    } else {
        CHECK(stats.pending_calls == 0 && stats.slots_taken == 0, "%llu wait, %llu slots are taken",
              (unsigned long long)stats.pending_calls, (unsigned long long)stats.slots_taken);
    }
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    bool odd = rank == 1;
    tutti_comm *comm = comm_with_lanes(rank, world, rendezvous);
    tutti_host_stream *stream = replayed_stream();
    tutti_host_graph *graph = NULL;
    struct replayed common = {0};
    struct replayed own = {0};
    replayed_add(&common, &common_job, rank, world);
    replayed_add(&own, &own_jobs[0], rank, world);
    replayed_add(&own, &own_jobs[1], rank, world);
    replayed_capture(&common, comm, stream);
    if (!(odd && scene->difference == ONE_GRAPH_LESS)) {
        graph = capture_own(&own, comm, stream, scene->difference, odd);
    }
    replayed_run(&common, stream, 1, "before the commit", NULL);
    verdict_give(scene->verdicts, rank, odd && scene->difference == RESUMES ? tutti_resume(comm) : tutti_commit(comm));
    CHECK_OK(tutti_comm_status(comm));
    stats_check(comm, scene->difference);
    replayed_run(&common, stream, 2, "after the mismatch", NULL);
    if (graph != NULL) {
        tutti_host_graph_destroy(graph);
    }
    replayed_drop(&common);
    if (ON_DEVICES) {
        replayed_settle(comm);
    }
    replayed_capture(&common, comm, stream);
    CHECK_OK(tutti_commit(comm)); /* the ranks agree again */
    tutti_stats stats = replayed_stats(comm);
    CHECK(stats.committed_calls == (replayed_direct(comm, &common.jobs[0]) ? 1 : 0), "%llu committed",
          (unsigned long long)stats.committed_calls);
    replayed_run(&common, stream, 3, "committed", NULL);
    replayed_destroy(&common);
    replayed_destroy(&own);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
}

int main(void)
{
    for (size_t index = 0; index < sizeof(scenes) / sizeof(scenes[0]); index++) {
        struct scene scene = scenes[index];
        int world = 2 + (int)index % 2;
        scene.verdicts = verdicts_create();
        ranks_run(index % 4 == 3 ? RANKS_THREADS : RANKS_PROCESSES, world, 60, run_rank, &scene);
        verdicts_check(scene.verdicts, world, TUTTI_ERR_MISMATCH, scene.says);
    }
    return 0;
}
