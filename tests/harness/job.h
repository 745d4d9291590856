/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job.h - one collective of a test, with its buffers: prepare, issue (any number of times), verify.
 *
 *     struct job job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = 1000};
 *     job_place(&job, rank, world, &buffers);      // where its buffers are: fixed from here on
 *     job_fill(&job, call);                        // new inputs; the outputs hold a pattern
 *     job_issue(&job, comm, &options);             // eager, or recorded into a graph that is launched later
 *     job_verify(&job, &hash);                     // against the reference
 */
#ifndef TESTS_HARNESS_JOB_H
#define TESTS_HARNESS_JOB_H

#include "harness/values.h"

/* What a job needs for as long as it lives; no two jobs that live at the same time share them. */
struct job_buffers {
    struct area src, dst;
};

struct job {
    /* The caller's choice. */
    tutti_collective kind;
    tutti_dtype dtype; /* reductions */
    tutti_op op;       /* reductions */
    size_t count;      /* elements of the result, or bytes a rank contributes (per peer for all_to_all) */
    size_t rows;       /* all_gather: if not 0, all_gather_rows of rows x count bytes */
    size_t gap_bytes;  /* all_gather_rows: between the rows of dst */
    bool in_place;
    int root;
    size_t src_offset, dst_offset; /* < 64; multiples of the element */
    bool share_check;              /* all_reduce: this rank checks its share of the result only; peers compare hashes */

    /* Set by job_place and job_fill. */
    struct job_buffers *buffers;
    int rank, world;
    void *src, *dst;
    size_t src_bytes, dst_bytes;
    uint64_t call;
    uint64_t src_hash;
};

/* Room for jobs of up to `bytes` at a rank's largest buffer. Fails the test if there is no memory. */
void job_buffers_create(struct job_buffers *buffers, size_t bytes);
void job_buffers_destroy(struct job_buffers *buffers);

/* Bytes of the larger of the job's two buffers. */
size_t job_bytes(const struct job *job, int world);

void job_place(struct job *job, int rank, int world, struct job_buffers *buffers);
void job_fill(struct job *job, uint64_t call);
tutti_status job_issue(const struct job *job, tutti_comm *comm, const tutti_call *call);

/* Checks result, guards and untouched inputs; fails the test with a line that names the job. *hash (may be
 * NULL) tells results apart and is the same on all ranks where job_common says so. */
void job_verify(const struct job *job, const char *how, uint64_t *hash);

/* All ranks have the same result. */
bool job_common(const struct job *job);

/* "all_reduce bf16 sum of 1000, in place"; for messages. */
void job_describe(const struct job *job, char *text, size_t text_bytes);

#endif
