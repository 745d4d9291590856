/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/replayed.h"

#include <string.h>
#include <time.h>

#include "harness/check.h"

void replayed_add(struct replayed *replayed, const struct job *job, int rank, int world)
{
    CHECK(replayed->count < REPLAYED_JOBS_MAX, "too many jobs");
    int index = replayed->count++;
    replayed->jobs[index] = *job;
    job_buffers_create(&replayed->buffers[index], job_bytes(job, world));
    job_place(&replayed->jobs[index], rank, world, &replayed->buffers[index]);
}

void replayed_issue(const struct replayed *replayed, tutti_comm *comm, const tutti_call *call)
{
    for (int index = 0; index < replayed->count; index++) {
        CHECK_OK(job_issue(&replayed->jobs[index], comm, call));
    }
}

void replayed_capture(struct replayed *replayed, tutti_comm *comm, tutti_host_stream *stream)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    replayed_issue(replayed, comm, &call);
    CHECK_OK(tutti_host_capture_end(stream, &replayed->graph));
}

void replayed_fill(struct replayed *replayed, uint64_t number)
{
    for (int index = 0; index < replayed->count; index++) {
        job_fill(&replayed->jobs[index], number * REPLAYED_JOBS_MAX + (uint64_t)index);
    }
}

void replayed_verify(const struct replayed *replayed, const char *how, uint64_t *hashes)
{
    for (int index = 0; index < replayed->count; index++) {
        job_verify(&replayed->jobs[index], how, hashes != NULL ? &hashes[index] : NULL);
    }
}

void replayed_run(struct replayed *replayed, tutti_host_stream *stream, uint64_t number, const char *how,
                  uint64_t *hashes)
{
    replayed_fill(replayed, number);
    CHECK_OK(tutti_host_graph_launch(replayed->graph, stream));
    CHECK_OK(tutti_host_stream_synchronize(stream));
    replayed_verify(replayed, how, hashes);
}

void replayed_drop(struct replayed *replayed)
{
    if (replayed->graph != NULL) {
        tutti_host_graph_destroy(replayed->graph);
        replayed->graph = NULL;
    }
}

void replayed_destroy(struct replayed *replayed)
{
    replayed_drop(replayed);
    for (int index = 0; index < replayed->count; index++) {
        job_buffers_destroy(&replayed->buffers[index]);
    }
    replayed->count = 0;
}

tutti_host_stream *replayed_stream(void)
{
    tutti_host_stream *stream = NULL;
    CHECK_OK(tutti_host_stream_create(&stream));
    return stream;
}

void replayed_settle(tutti_comm *comm)
{
    const struct timespec pause = {0, 20000000};
    for (int tries = 0; tries < 10; tries++) { /* as often on all ranks */
        (void)nanosleep(&pause, NULL);
        CHECK_OK(tutti_commit(comm));
    }
}

tutti_stats replayed_stats(tutti_comm *comm)
{
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_comm_stats(comm, &stats));
    return stats;
}

bool replayed_has_slot(tutti_comm *comm, const struct job *job)
{
    tutti_plan_t plan = {.struct_bytes = sizeof(plan)};
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_comm_info(comm, &info));
    CHECK_OK(tutti_plan(comm, job->kind, job->count, job->dtype, &plan));
    return strcmp(info.backend, "host") != 0 && strcmp(plan.protocol, "direct") == 0;
}

bool replayed_direct(tutti_comm *comm, const struct job *job)
{
    tutti_memory_class_t class = {.struct_bytes = sizeof(class)};
    size_t bytes = job->kind <= TUTTI_REDUCE_SCATTER ? job->count * tutti_dtype_bytes(job->dtype) : job->count;
    CHECK_OK(tutti_memory_class(comm, job->src, &class));
    return replayed_has_slot(comm, job) && class.shareable != 0 && bytes % 16 == 0 && (uintptr_t)job->src % 16 == 0 &&
           (uintptr_t)job->dst % 16 == 0;
}
