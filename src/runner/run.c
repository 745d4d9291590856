/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - one pass: from graphs where there are any, and otherwise by calling the segments over the same rows.
 *
 * In the order of the stream: the row word is set, then each segment zeroes the padding of what it reads by that word, then it
 * works. So a run needs nothing but its row count, and the next run may be enqueued while this one is under way.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "runner/runner.h"

#define FINISH_PAUSE_NS 20000

tutti_status runner_stream_check(const tutti_runner *runner, const char *call, tutti_stream stream)
{
    const tutti_comm *comm = runner->comm;
    struct device_stream state = {DEVICE_STREAM_IDLE, 0};
    if (stream == NULL) {
        return TUTTI_OK;
    }
    tutti_status status = comm->ops->group_stream(comm->group, stream, &state);
    if (status == TUTTI_OK && state.state != DEVICE_STREAM_IDLE) {
        status = error_set(TUTTI_ERR_CAPTURE, "%s: stream %p is capturing: end that capture first", call, stream);
    }
    return status;
}

static tutti_status segment_failed(const tutti_runner *runner, const struct runner_segment *segment, size_t rows,
                                   tutti_status status)
{
    char why[ERROR_SENTENCE_BYTES];
    (void)snprintf(why, sizeof(why), "%s", tutti_last_error());
    return error_set(status, "rank %d: %s, segment \"%s\" over %zu rows: %s", runner->comm->rank, runner->name,
                     segment->name, rows, why);
}

/* The callback, which may call this library, but not this runner. */
static tutti_status segment_work(tutti_runner *runner, const struct runner_segment *segment, size_t width,
                                 tutti_stream stream)
{
    uint64_t errors = error_count();
    runner->inside++;
    tutti_status status = segment->fn(segment->user, width, stream);
    runner->inside--;
    if (status != TUTTI_OK && error_count() == errors) {
        bool foreign = status > 0 || status < TUTTI_ERR_ABORTED; /* another library's number, most likely */
        return foreign ? error_set(status, "its callback returned %d", (int)status)
                       : error_set(status, "its callback returned %s", tutti_status_name(status));
    }
    return status;
}

tutti_status segment_enqueue(tutti_runner *runner, const struct runner_segment *segment, size_t width, size_t real,
                             tutti_stream stream)
{
    tutti_status status = TUTTI_OK;
    if (segment->padded_count > 0 && real < width) {
        status = runner->graphs->padding_zero(runner->device, runner->word, width, segment->padded,
                                              segment->padded_count, stream);
    }
    return status == TUTTI_OK ? segment_work(runner, segment, width, stream) : status;
}

/* -- a run ------------------------------------------------------------------------------------------------------- */

static void pass_count(tutti_runner *runner)
{
    const struct runner_pass *pass = &runner->pass;
    tutti_runner_stats_t *stats = &runner->stats;
    stats->runs++;
    stats->rows += pass->rows;
    stats->padding_rows += pass->width - pass->rows;
    if (pass->bucket == NULL) {
        stats->oversize_runs++;
    } else if (pass->replays) {
        stats->replayed_runs++;
        pass->bucket->replayed_runs++;
    } else {
        stats->eager_runs++;
        pass->bucket->eager_runs++;
    }
    if (pass->fixed) {
        bool replayed = runner->fixed.state == TUTTI_BUCKET_CAPTURED;
        runner->fixed.replayed_runs += replayed;
        runner->fixed.eager_runs += !replayed;
    }
}

static tutti_status pass_open(tutti_runner *runner, size_t rows, tutti_stream stream, bool warm_up)
{
    struct runner_pass *pass = &runner->pass;
    size_t multiple = runner->oversize_multiple;
    pass->bucket = bucket_find(runner, rows);
    pass->rows = rows;
    pass->width = pass->bucket != NULL ? pass->bucket->rows : (rows + multiple - 1) / multiple * multiple;
    pass->replays = !warm_up && pass->bucket != NULL && pass->bucket->state == TUTTI_BUCKET_CAPTURED;
    pass->stream = stream;
    pass->counted = !warm_up;
    pass->differs = pass->fixed = false;
    tutti_status status = runner->graphs->word_set(runner->device, runner->word, (uint32_t)rows, stream);
    pass->open = status == TUTTI_OK;
    return status;
}

tutti_status runner_begin(tutti_runner *runner, const char *call, size_t rows, tutti_stream stream)
{
    if (runner->pass.open) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: a run of %zu rows is open: tutti_runner_end first", call,
                         runner->pass.rows);
    }
    if (runner->segment_count == 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: %s has no segments yet", call, runner->name);
    }
    if (rows == 0 || rows > UINT32_MAX - runner->oversize_multiple) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: a run has 1 row or more, and fewer than 2^32: not %zu", call, rows);
    }
    tutti_status status = runner_stream_check(runner, call, stream);
    return status == TUTTI_OK ? pass_open(runner, rows, stream, false) : status;
}

/* NULL: it is called. */
static struct device_graph *graph_for(const tutti_runner *runner, int index)
{
    const struct runner_segment *segment = &runner->segments[index];
    const struct runner_pass *pass = &runner->pass;
    if ((segment->flags & TUTTI_SEGMENT_EAGER) != 0 || !pass->counted) {
        return NULL;
    }
    if (segment->fixed_rows != 0) {
        return runner->fixed.state == TUTTI_BUCKET_CAPTURED ? runner->fixed.graphs[index] : NULL;
    }
    return pass->replays ? pass->bucket->graphs[index] : NULL;
}

static tutti_status segment_call(tutti_runner *runner, const struct runner_segment *segment)
{
    const struct runner_pass *pass = &runner->pass;
    size_t width = (segment->flags & TUTTI_SEGMENT_EAGER) != 0 ? pass->rows : pass->width;
    runner->stats.segment_calls += pass->counted;
    return segment->fixed_rows != 0
               ? segment_enqueue(runner, segment, segment->fixed_rows, segment->fixed_rows, pass->stream)
               : segment_enqueue(runner, segment, width, pass->rows, pass->stream);
}

tutti_status runner_enter(tutti_runner *runner, int index)
{
    struct runner_pass *pass = &runner->pass;
    if (!pass->open || index < 0 || index >= runner->segment_count) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         !pass->open ? "tutti_runner_enter: segment %d of %d: no run is open"
                                     : "tutti_runner_enter: there is no segment %d: there are %d, counted from 0",
                         index, runner->segment_count);
    }
    struct device_graph *graph = graph_for(runner, index);
    tutti_status status = TUTTI_OK;
    pass->fixed = pass->fixed || bucket_has(&runner->fixed, &runner->segments[index]);
    if (graph == NULL) {
        status = segment_call(runner, &runner->segments[index]);
    } else {
        status = runner->graphs->launch(runner->device, graph, pass->stream);
        runner->stats.graph_launches++;
    }
    pass->open = status == TUTTI_OK;
    return pass->open ? TUTTI_OK : segment_failed(runner, &runner->segments[index], pass->width, status);
}

static bool is_late(const tutti_runner *runner, const struct runner_bucket *bucket)
{
    return bucket->state != TUTTI_BUCKET_CAPTURED && bucket->tries < runner->attempts;
}

/* Why the ranks could not even begin to capture what is in question. An open session ends: then they try again. What differs between their
 * runners will differ the next time, and for other buckets: none of them is tried any more, lest one rank tries it alone. */
static void late_refused(tutti_runner *runner, const struct capture_order *order, tutti_status status)
{
    for (size_t index = 0; index < bucket_total(runner); index++) {
        struct runner_bucket *bucket = bucket_at(runner, index);
        if (index == order->only || (order->fixed && bucket == &runner->fixed)) {
            (void)snprintf(bucket->reason, sizeof(bucket->reason), "%.511s", tutti_last_error());
            bucket->tries += status != TUTTI_ERR_CAPTURE;
        }
        if (status == TUTTI_ERR_MISMATCH && bucket->tries < runner->attempts) {
            bucket->tries = runner->attempts;
        }
    }
}

static uint64_t capture_count(const tutti_runner *runner)
{
    return runner->stats.captures + runner->stats.failed_captures;
}

/* This run was eager because something is not captured yet: all ranks come here with the same buckets in the same state. The run itself is
 * complete: that they cannot capture is a reason to stay eager, and no error of the run's. That it was another run than the peers' is one. */
static tutti_status capture_lazily(tutti_runner *runner)
{
    const struct runner_pass *pass = &runner->pass;
    struct capture_order order = {.only = BUCKET_NONE, .rounds = 1, .serving = true, .given = TUTTI_OK};
    if ((runner->flags & TUTTI_RUNNER_LAZY) == 0 || pass->stream == NULL) {
        return TUTTI_OK;
    }
    order.fixed = runner->fixed_count > 0 && is_late(runner, &runner->fixed);
    if (pass->bucket != NULL && is_late(runner, pass->bucket)) {
        order.only = (size_t)(pass->bucket - runner->buckets) + (runner->fixed_count > 0);
    }
    if (!order.fixed && order.only == BUCKET_NONE) {
        return TUTTI_OK;
    }
    uint64_t before = capture_count(runner);
    tutti_status status = runner_capture(&runner, &pass->stream, 1, &order);
    tutti_status failure = comm_check(runner->comm);
    if (status == TUTTI_OK || failure != TUTTI_OK || capture_count(runner) != before) {
        return failure;
    }
    if (pass->differs) {
        return status;
    }
    late_refused(runner, &order, status);
    return TUTTI_OK;
}

tutti_status runner_end(tutti_runner *runner)
{
    struct runner_pass *pass = &runner->pass;
    if (!pass->open) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_end: no run is open");
    }
    pass->open = false;
    if (!pass->counted) {
        return TUTTI_OK;
    }
    pass_count(runner);
    runner->warm = true;
    return capture_lazily(runner);
}

static tutti_status enter_all(tutti_runner *runner)
{
    tutti_status status = TUTTI_OK;
    for (int segment = 0; segment < runner->segment_count && status == TUTTI_OK; segment++) {
        status = runner_enter(runner, segment);
    }
    return status;
}

tutti_status runner_run(tutti_runner *runner, size_t rows, tutti_stream stream)
{
    tutti_status status = runner_begin(runner, "tutti_runner_run", rows, stream);
    if (status == TUTTI_OK) {
        status = enter_all(runner);
    }
    return status == TUTTI_OK ? runner_end(runner) : status;
}

tutti_status runner_warm_up(tutti_runner *runner, size_t rows, tutti_stream stream)
{
    tutti_status status = pass_open(runner, rows, stream, true);
    if (status == TUTTI_OK) {
        status = enter_all(runner);
    }
    return status == TUTTI_OK ? runner_end(runner) : status;
}

/* Not with one call that waits: after a failure the device waits too, until a thread of the caller's asks for the status. */
static tutti_status await_with_help(const tutti_runner *runner, tutti_stream stream)
{
    const struct timespec pause = {0, FINISH_PAUSE_NS};
    bool done = false;
    tutti_status status = runner->graphs->query(runner->device, stream, &done);
    while (status == TUTTI_OK && !done) {
        (void)nanosleep(&pause, NULL);
        (void)tutti_comm_status(runner->comm);
        status = runner->graphs->query(runner->device, stream, &done);
    }
    return status;
}

tutti_status runner_finish(tutti_runner *runner, tutti_stream stream)
{
    tutti_status status = runner_stream_check(runner, "tutti_runner_finish", stream);
    if (status == TUTTI_OK) {
        status = runner->comm->ops->group_abandon != NULL ? await_with_help(runner, stream)
                                                          : runner->graphs->synchronize(runner->device, stream);
    }
    /* Rows are handed out only if no collective has failed, which the stream does not tell. */
    tutti_status failure = tutti_comm_status(runner->comm);
    return failure != TUTTI_OK ? failure : status;
}
