/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/job.h"

#include <stdio.h>
#include <string.h>

#include "harness/check.h"

static const char *const kind_names[] = {"all_reduce", "reduce_scatter", "all_gather",
                                         "broadcast",  "all_to_all",     "barrier"};
static const char *const dtype_names[] = {"f32", "f16", "bf16"};
static const char *const op_names[] = {"sum", "max", "min"};

static bool reduces(const struct job *job)
{
    return job->kind == TUTTI_ALL_REDUCE || job->kind == TUTTI_REDUCE_SCATTER;
}

/* Bytes of one rank's part. */
static size_t part_bytes(const struct job *job)
{
    return reduces(job) ? job->count * tutti_dtype_bytes(job->dtype) : job->count;
}

static size_t row_stride(const struct job *job, int world)
{
    return (size_t)world * job->count + job->gap_bytes;
}

static void job_sizes(const struct job *job, int world, size_t *src_bytes, size_t *dst_bytes)
{
    size_t part = part_bytes(job);
    size_t all = (size_t)world * part;
    *src_bytes = part;
    *dst_bytes = part;
    if (job->kind == TUTTI_REDUCE_SCATTER || job->kind == TUTTI_ALL_TO_ALL) {
        *src_bytes = all;
    }
    if (job->kind == TUTTI_ALL_GATHER || job->kind == TUTTI_ALL_TO_ALL) {
        *dst_bytes = all;
    }
    if (job->rows > 0) {
        *src_bytes = job->rows * part;
        *dst_bytes = job->rows * row_stride(job, world) - job->gap_bytes; /* none behind the last row */
    }
    if (job->kind == TUTTI_BARRIER) {
        *src_bytes = *dst_bytes = 0;
    }
}

void job_buffers_create(struct job_buffers *buffers, size_t bytes)
{
    area_create(&buffers->src, bytes);
    area_create(&buffers->dst, bytes);
}

void job_buffers_destroy(struct job_buffers *buffers)
{
    area_destroy(&buffers->src);
    area_destroy(&buffers->dst);
}

size_t job_bytes(const struct job *job, int world)
{
    size_t src_bytes;
    size_t dst_bytes;
    job_sizes(job, world, &src_bytes, &dst_bytes);
    return src_bytes > dst_bytes ? src_bytes : dst_bytes;
}

/* Takes the buffers afresh: same places, patterns in them. */
static void take(struct job *job)
{
    struct job_buffers *buffers = job->buffers;
    size_t mine = (size_t)job->rank * part_bytes(job);
    if (!job->in_place) {
        job->src = area_take(&buffers->src, job->src_bytes, job->src_offset);
        job->dst = area_take(&buffers->dst, job->dst_bytes, job->dst_offset);
        return;
    }
    unsigned char *whole = area_take(&buffers->dst, job_bytes(job, job->world), job->dst_offset);
    (void)area_take(&buffers->src, 0, 0);
    job->src = job->kind == TUTTI_ALL_GATHER ? whole + mine : whole;
    job->dst = job->kind == TUTTI_REDUCE_SCATTER ? whole + mine : whole;
}

void job_place(struct job *job, int rank, int world, struct job_buffers *buffers)
{
    job->buffers = buffers;
    job->rank = rank;
    job->world = world;
    job->in_place = job->in_place || job->kind == TUTTI_BROADCAST;
    job_sizes(job, world, &job->src_bytes, &job->dst_bytes);
    take(job);
}

void job_fill(struct job *job, uint64_t call)
{
    take(job);
    job->call = call;
    if (reduces(job)) {
        values_fill(job->src, job->dtype, call, job->rank, 0, job->src_bytes / tutti_dtype_bytes(job->dtype));
    } else if (job->kind != TUTTI_BROADCAST || job->rank == job->root) {
        values_fill_bytes(job->src, call, job->rank, 0, job->src_bytes);
    }
    job->src_hash = job->in_place ? 0 : values_hash(job->src, job->src_bytes);
}

tutti_status job_issue(const struct job *job, tutti_comm *comm, const tutti_call *call)
{
    switch (job->kind) {
    case TUTTI_ALL_REDUCE:
        return tutti_all_reduce(comm, job->src, job->dst, job->count, job->dtype, job->op, call);
    case TUTTI_REDUCE_SCATTER:
        return tutti_reduce_scatter(comm, job->src, job->dst, job->count, job->dtype, job->op, call);
    case TUTTI_ALL_GATHER:
        if (job->rows > 0) {
            return tutti_all_gather_rows(comm, job->src, job->dst, job->rows, job->count, row_stride(job, job->world),
                                         call);
        }
        return tutti_all_gather(comm, job->src, job->dst, job->count, call);
    case TUTTI_BROADCAST:
        return tutti_broadcast(comm, job->dst, job->count, job->root, call);
    case TUTTI_ALL_TO_ALL:
        return tutti_all_to_all(comm, job->src, job->dst, job->count, call);
    case TUTTI_BARRIER:
        return tutti_barrier(comm, call);
    }
    return TUTTI_ERR_ARGUMENT;
}

static bool verify_rows(const struct job *job)
{
    size_t stride = row_stride(job, job->world);
    for (size_t row = 0; row < job->rows; row++) {
        const unsigned char *start = (const unsigned char *)job->dst + row * stride;
        for (int rank = 0; rank < job->world; rank++) {
            if (!values_check_bytes(start + (size_t)rank * job->count, job->call, rank, row * job->count, job->count)) {
                printf("in row %zu\n", row);
                return false;
            }
        }
        for (size_t i = stride - job->gap_bytes; row + 1 < job->rows && i < stride; i++) {
            if (start[i] != VALUES_UNTOUCHED) {
                printf("the gap behind row %zu was written\n", row);
                return false;
            }
        }
    }
    return true;
}

/* The ranks' parts side by side; `first` is where in each rank's source its part starts. */
static bool verify_parts(const struct job *job, size_t first)
{
    for (int rank = 0; rank < job->world; rank++) {
        const unsigned char *part = (const unsigned char *)job->dst + (size_t)rank * job->count;
        if (!values_check_bytes(part, job->call, rank, first, job->count)) {
            return false;
        }
    }
    return true;
}

/* In place, the other ranks' parts of src are inputs: not touched. */
static bool verify_reduce_scatter(const struct job *job)
{
    size_t first = (size_t)job->rank * job->count;
    if (!values_check(job->dst, job->dtype, job->op, job->call, job->world, first, job->count)) {
        return false;
    }
    if (!job->in_place) {
        return true;
    }
    unsigned char *copy = malloc(job->src_bytes + 1);
    CHECK(copy != NULL, "no memory");
    values_fill(copy, job->dtype, job->call, job->rank, 0, job->src_bytes / tutti_dtype_bytes(job->dtype));
    size_t before = (size_t)job->rank * part_bytes(job);
    size_t behind = before + part_bytes(job);
    bool same = memcmp(copy, job->src, before) == 0 &&
                memcmp(copy + behind, (const unsigned char *)job->src + behind, job->src_bytes - behind) == 0;
    free(copy);
    if (!same) {
        printf("a part of src that is not dst was written\n");
    }
    return same;
}

static bool verify_result(const struct job *job)
{
    size_t first = 0;
    size_t end = job->count;
    switch (job->kind) {
    case TUTTI_ALL_REDUCE:
        if (job->share_check && job->count >= 4096) {
            first = job->count * (size_t)job->rank / (size_t)job->world;
            end = job->count * (size_t)(job->rank + 1) / (size_t)job->world;
        }
        return values_check((const unsigned char *)job->dst + first * tutti_dtype_bytes(job->dtype), job->dtype,
                            job->op, job->call, job->world, first, end - first);
    case TUTTI_REDUCE_SCATTER:
        return verify_reduce_scatter(job);
    case TUTTI_ALL_GATHER:
        return job->rows > 0 ? verify_rows(job) : verify_parts(job, 0);
    case TUTTI_BROADCAST:
        return values_check_bytes(job->dst, job->call, job->root, 0, job->count);
    case TUTTI_ALL_TO_ALL:
        return verify_parts(job, (size_t)job->rank * job->count);
    case TUTTI_BARRIER:
        return true;
    }
    return false;
}

void job_verify(const struct job *job, const char *how, uint64_t *hash)
{
    bool right = verify_result(job);
    if (!area_guarded(&job->buffers->dst) || !area_guarded(&job->buffers->src)) {
        right = false;
    }
    if (!job->in_place && values_hash(job->src, job->src_bytes) != job->src_hash) {
        printf("src was written\n");
        right = false;
    }
    if (!right) {
        char text[128];
        job_describe(job, text, sizeof(text));
        (void)fflush(stdout);
        CHECK(right, "%s, %s, call %llu on rank %d of %d", text, how, (unsigned long long)job->call, job->rank,
              job->world);
    }
    if (hash != NULL) {
        *hash = values_hash(job->dst, job->dst_bytes);
    }
}

bool job_common(const struct job *job)
{
    return job->kind == TUTTI_ALL_REDUCE || job->kind == TUTTI_ALL_GATHER || job->kind == TUTTI_BROADCAST;
}

void job_describe(const struct job *job, char *text, size_t text_bytes)
{
    const char *place = job->in_place ? ", in place" : "";
    if (reduces(job)) {
        (void)snprintf(text, text_bytes, "%s %s %s of %zu%s", kind_names[job->kind], dtype_names[job->dtype],
                       op_names[job->op], job->count, place);
    } else if (job->rows > 0) {
        (void)snprintf(text, text_bytes, "all_gather_rows of %zu x %zu bytes, gap %zu", job->rows, job->count,
                       job->gap_bytes);
    } else {
        (void)snprintf(text, text_bytes, "%s of %zu bytes, root %d%s", kind_names[job->kind], job->count, job->root,
                       place);
    }
}
