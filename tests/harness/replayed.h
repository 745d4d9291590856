/* SPDX-License-Identifier: Apache-2.0 */
/* replayed.h - graphs of collectives for tests: captured once, replayed with other inputs each time, every result checked. */
#ifndef TESTS_HARNESS_REPLAYED_H
#define TESTS_HARNESS_REPLAYED_H

#include "harness/job.h"
#include "tutti/host.h"

#define REPLAYED_JOBS_MAX 48

struct replayed {
    int count;
    struct job jobs[REPLAYED_JOBS_MAX];
    struct job_buffers buffers[REPLAYED_JOBS_MAX];
    tutti_host_graph *graph; /* NULL: not captured */
};

/* With room of its own for each job, which has the caller's choices filled in. */
void replayed_add(struct replayed *replayed, const struct job *job, int rank, int world);

/* Between begin and end of a capture of the stream; or eagerly. */
void replayed_issue(const struct replayed *replayed, tutti_comm *comm, const tutti_call *call);

/* Captures all of it on the stream, lane 0. */
void replayed_capture(struct replayed *replayed, tutti_comm *comm, tutti_host_stream *stream);

/* New inputs, the same on no two calls; afterwards checks all results. hashes [count], or NULL: of the results (job_verify). */
void replayed_fill(struct replayed *replayed, uint64_t number);
void replayed_verify(const struct replayed *replayed, const char *how, uint64_t *hashes);

/* fill, launch, wait, verify. */
void replayed_run(struct replayed *replayed, tutti_host_stream *stream, uint64_t number, const char *how,
                  uint64_t *hashes);

/* The graph, not the buffers: it can be captured again. */
void replayed_drop(struct replayed *replayed);
void replayed_destroy(struct replayed *replayed);

/* A stream with no work. Fails the test if it cannot be made. */
tutti_host_stream *replayed_stream(void);

/* [collective] A driver says when it pleases that graphs are gone, and a commit takes note of it: some commits, with pauses. */
void replayed_settle(tutti_comm *comm);

tutti_stats replayed_stats(tutti_comm *comm);

/* Whether a captured call of this size gets a slot; it keeps it only if it is direct once committed. */
bool replayed_has_slot(tutti_comm *comm, const struct job *job);

/* Whether captured calls of this size go directly once they are committed: what the device can do, and memory that can be shared. */
bool replayed_direct(tutti_comm *comm, const struct job *job);

#endif
