/* SPDX-License-Identifier: Apache-2.0 */
/* runner.c - the public calls of runner.h: what their arguments must be. */
#include "runner/runner.h"

#include <string.h>

#include "api/structs.h"
#include "base/error.h"
#include "base/process.h"

#define OVERSIZE_MULTIPLE_MAX 65536u

static tutti_status check(const char *call, const tutti_runner *runner)
{
    if (runner == NULL || runner->comm == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         runner == NULL ? "%s: runner is NULL" : "%s: the runner's communicator has been destroyed",
                         call);
    }
    if (runner->inside > 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: called by a callback of %s's, which may not use it", call,
                         runner->name);
    }
    return comm_check(runner->comm);
}

tutti_status tutti_runner_create(tutti_comm *comm, const tutti_runner_options *options, tutti_runner **runner)
{
    tutti_runner_options ours = {.struct_bytes = sizeof(ours)};
    const uint32_t known = TUTTI_RUNNER_LAZY | TUTTI_RUNNER_NO_COMMIT;
    tutti_status status = comm_check(comm);
    if (status == TUTTI_OK && options != NULL) {
        status = struct_read("tutti_runner_create: options", options, &ours, sizeof(ours), sizeof(ours));
    }
    if (status != TUTTI_OK) {
        return status;
    }
    if (runner == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_create: runner is NULL");
    }
    if ((ours.flags & ~known) != 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_create: flags has bits that mean nothing: 0x%x",
                         ours.flags & ~known);
    }
    if (ours.oversize_multiple > OVERSIZE_MULTIPLE_MAX) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_create: oversize_multiple is %zu, above %u",
                         ours.oversize_multiple, OVERSIZE_MULTIPLE_MAX);
    }
    if (comm->ops->graphs == NULL) {
        return error_set(TUTTI_ERR_UNSUPPORTED, "tutti_runner_create: the backend of this communicator has no graphs");
    }
    if ((ours.flags & TUTTI_RUNNER_LAZY) != 0 && comm->one_thread_drives_all) {
        return error_set(
            TUTTI_ERR_UNSUPPORTED,
            "tutti_runner_create: a lazy runner waits for the other ranks in its runs, and this thread has "
            "yet to call them: use tutti_runner_capture_all");
    }
    return runner_create(comm, &ours, runner);
}

void tutti_runner_destroy(tutti_runner *runner)
{
    if (runner != NULL && runner->inside == 0) {
        runner_destroy(runner);
    }
}

static tutti_status check_padded(const tutti_segment *segment)
{
    bool sees_none = (segment->flags & TUTTI_SEGMENT_EAGER) != 0 || segment->fixed_rows != 0;
    if (segment->padded_count > 0 && sees_none) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_segment: %s sees no padding: leave `padded` out",
                         segment->fixed_rows != 0 ? "a segment with fixed_rows" : "an eager segment");
    }
    if (segment->padded_count > 0 && segment->padded == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_segment: padded is NULL, and padded_count %zu",
                         segment->padded_count);
    }
    for (size_t index = 0; index < segment->padded_count; index++) {
        const tutti_padded *padded = &segment->padded[index];
        if (padded->data == NULL || padded->row_bytes == 0 ||
            (padded->stride_bytes != 0 && padded->stride_bytes < padded->row_bytes)) {
            return error_set(TUTTI_ERR_ARGUMENT,
                             "tutti_runner_segment: padded[%zu]: rows of %zu bytes, %zu apart, at %p are no matrix",
                             index, padded->row_bytes, padded->stride_bytes, padded->data);
        }
        if (padded->row_bytes > UINT32_MAX ||
            padded->stride_bytes > UINT32_MAX) { /* so no run's rows overflow a size */
            return error_set(TUTTI_ERR_ARGUMENT,
                             "tutti_runner_segment: padded[%zu]: rows of %zu bytes, %zu apart, are not below 4 GiB",
                             index, padded->row_bytes, padded->stride_bytes);
        }
    }
    return TUTTI_OK;
}

tutti_status tutti_runner_segment(tutti_runner *runner, const tutti_segment *segment, int *index)
{
    tutti_segment ours;
    tutti_status status = check("tutti_runner_segment", runner);
    if (status == TUTTI_OK && runner->pass.open) {
        status = error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_segment: a run is open: tutti_runner_end first");
    }
    if (status == TUTTI_OK) {
        status = struct_read("tutti_runner_segment: segment", segment, &ours, sizeof(ours), sizeof(ours));
    }
    if (status != TUTTI_OK) {
        return status;
    }
    if (ours.fn == NULL || (ours.flags & ~TUTTI_SEGMENT_EAGER) != 0) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         ours.fn == NULL ? "tutti_runner_segment: fn is NULL"
                                         : "tutti_runner_segment: flags has bits that mean nothing: 0x%x",
                         ours.flags & ~TUTTI_SEGMENT_EAGER);
    }
    status = check_padded(&ours);
    return status == TUTTI_OK ? runner_segment_add(runner, &ours, index) : status;
}

/* -- captures ------------------------------------------------------------------------------------------------------ */

/* What the other ranks must hear of, if it is wrong here: they wait for this one. */
static tutti_status check_capture(const char *call, const tutti_runner *runner, tutti_stream stream)
{
    if (stream == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: stream is NULL, and the NULL stream cannot be captured", call);
    }
    if (runner->pass.open) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: a run is open: tutti_runner_end first", call);
    }
    if (runner->segment_count == 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: %s has no segments yet", call, runner->name);
    }
    return TUTTI_OK;
}

static tutti_status check_alone(const char *call, const tutti_runner *runner)
{
    tutti_status status = check(call, runner);
    if (status == TUTTI_OK && runner->comm->one_thread_drives_all) {
        status =
            error_set(TUTTI_ERR_UNSUPPORTED,
                      "%s would wait for ranks that this thread has yet to call: use tutti_runner_capture_all", call);
    }
    return status;
}

tutti_status tutti_runner_capture(tutti_runner *runner, tutti_stream stream)
{
    static const char call[] = "tutti_runner_capture";
    tutti_status status = check_alone(call, runner);
    if (status != TUTTI_OK) {
        return status;
    }
    const struct capture_order order = {BUCKET_ALL, true, runner->attempts, false, check_capture(call, runner, stream)};
    return runner_capture(&runner, &stream, 1, &order);
}

static tutti_status check_bucket(const char *call, const tutti_runner *runner, size_t rows, size_t *index)
{
    const struct runner_bucket *bucket = bucket_find(runner, rows);
    if (rows == 0 || bucket == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: no bucket holds %zu rows: the largest has %zu", call, rows,
                         runner->buckets[runner->bucket_count - 1].rows);
    }
    *index = (size_t)(bucket - runner->buckets) + (runner->fixed_count > 0);
    return TUTTI_OK;
}

tutti_status tutti_runner_capture_rows(tutti_runner *runner, size_t rows, tutti_stream stream)
{
    static const char call[] = "tutti_runner_capture_rows";
    tutti_status status = check_alone(call, runner);
    if (status != TUTTI_OK) {
        return status;
    }
    struct capture_order order = {BUCKET_NONE, false, runner->attempts, false, check_capture(call, runner, stream)};
    if (order.given == TUTTI_OK) {
        order.given = check_bucket(call, runner, rows, &order.only);
        order.fixed = order.given == TUTTI_OK; /* its runs need those, too */
    }
    return runner_capture(&runner, &stream, 1, &order);
}

tutti_status tutti_runner_capture_all(tutti_runner *const *runners, const tutti_stream *streams, int world)
{
    static const char call[] = "tutti_runner_capture_all";
    if (runners == NULL || streams == NULL || world < 1 || world > TUTTI_WORLD_MAX) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: runners, streams and world (1 to %d) must be given", call,
                         TUTTI_WORLD_MAX);
    }
    for (int rank = 0; rank < world; rank++) {
        tutti_status status = check(call, runners[rank]);
        if (status == TUTTI_OK) {
            status = check_capture(call, runners[rank], streams[rank]);
        }
        if (status != TUTTI_OK) {
            return status;
        }
        if (!comm_is_of_family(runners[rank]->comm, runners[0]->comm, rank, world)) {
            return error_set(TUTTI_ERR_ARGUMENT,
                             "%s: runners[%d] is not of rank %d of %d that one tutti_comm_create_all made", call, rank,
                             rank, world);
        }
    }
    const struct capture_order order = {BUCKET_ALL, true, runners[0]->attempts, false, TUTTI_OK};
    return runner_capture(runners, streams, world, &order);
}

tutti_status tutti_runner_release(tutti_runner *runner, size_t rows)
{
    size_t index = BUCKET_ALL;
    tutti_status status = check("tutti_runner_release", runner);
    if (status == TUTTI_OK && rows != 0) {
        status = check_bucket("tutti_runner_release", runner, rows, &index);
    }
    if (status == TUTTI_OK && runner->pass.open) {
        status = error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_release: a run is open: tutti_runner_end first");
    }
    for (size_t at = 0; status == TUTTI_OK && at < bucket_total(runner); at++) {
        struct runner_bucket *bucket = bucket_at(runner, at);
        if (index == BUCKET_ALL || index == at) {
            runner->stats.released += bucket->state == TUTTI_BUCKET_CAPTURED;
            bucket_clear(runner, bucket);
            bucket->tries = 0;
        }
    }
    return status;
}

/* -- runs ------------------------------------------------------------------------------------------------------------ */

tutti_status tutti_runner_run(tutti_runner *runner, size_t rows, tutti_stream stream)
{
    tutti_status status = check("tutti_runner_run", runner);
    return status == TUTTI_OK ? runner_run(runner, rows, stream) : status;
}

tutti_status tutti_runner_begin(tutti_runner *runner, size_t rows, tutti_stream stream)
{
    tutti_status status = check("tutti_runner_begin", runner);
    return status == TUTTI_OK ? runner_begin(runner, "tutti_runner_begin", rows, stream) : status;
}

tutti_status tutti_runner_enter(tutti_runner *runner, int segment)
{
    tutti_status status = check("tutti_runner_enter", runner);
    return status == TUTTI_OK ? runner_enter(runner, segment) : status;
}

tutti_status tutti_runner_end(tutti_runner *runner)
{
    tutti_status status = check("tutti_runner_end", runner);
    return status == TUTTI_OK ? runner_end(runner) : status;
}

tutti_status tutti_runner_finish(tutti_runner *runner, tutti_stream stream)
{
    bool usable = runner != NULL && runner->comm != NULL && runner->inside == 0;
    if (!usable || runner->comm->generation != process_generation()) {
        return check("tutti_runner_finish", runner);
    }
    return runner_finish(runner, stream); /* also of a communicator that has failed: its work is waited for */
}

const uint32_t *tutti_runner_rows(const tutti_runner *runner)
{
    return runner != NULL ? runner->word : NULL;
}

/* -- what is counted ------------------------------------------------------------------------------------------------- */

tutti_status tutti_runner_stats(const tutti_runner *runner, tutti_runner_stats_t *stats)
{
    tutti_runner_stats_t ours;
    if (runner == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_stats: runner is NULL");
    }
    tutti_status status = struct_check("tutti_runner_stats: stats", stats, sizeof(ours));
    if (status == TUTTI_OK) {
        runner_stats(runner, &ours);
        struct_write(stats, &ours, sizeof(ours));
    }
    return status;
}

tutti_status tutti_runner_bucket(const tutti_runner *runner, size_t index, tutti_runner_bucket_t *bucket)
{
    tutti_runner_bucket_t ours;
    if (runner == NULL || bucket_at(runner, index) == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_bucket: there is no %s %zu",
                         runner == NULL ? "runner for bucket" : "bucket", index);
    }
    tutti_status status = struct_check("tutti_runner_bucket: bucket", bucket, sizeof(ours));
    if (status == TUTTI_OK) {
        bucket_stats(bucket_at(runner, index), &ours);
        struct_write(bucket, &ours, sizeof(ours));
    }
    return status;
}
