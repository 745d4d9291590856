/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "runner/runner.h"

static tutti_status no_memory(void)
{
    return error_set(TUTTI_ERR_SYSTEM, "out of memory for a runner");
}

void bucket_clear(tutti_runner *runner, struct runner_bucket *bucket)
{
    for (int segment = 0; bucket->graphs != NULL && segment < runner->segment_count; segment++) {
        if (bucket->graphs[segment] != NULL && runner->device != NULL) {
            runner->graphs->destroy(runner->device, bucket->graphs[segment]);
        }
    }
    free(bucket->graphs);
    bucket->graphs = NULL;
    bucket->state = TUTTI_BUCKET_EMPTY;
    bucket->graph_bytes = 0;
}

/* While the communicator's device is still open: it is destroyed, or the runner is. In a forked child what is the device's stays
 * where it is: the threads that it belongs to are missing there. */
static void device_leave(void *user)
{
    tutti_runner *runner = user;
    if (runner->comm->generation != process_generation()) {
        runner->device = NULL;
    }
    for (size_t index = 0; index < bucket_total(runner); index++) {
        bucket_clear(runner, bucket_at(runner, index));
    }
    if (runner->device != NULL) {
        runner->graphs->word_destroy(runner->device, runner->word);
    }
    runner->word = NULL;
    runner->comm = NULL;
    runner->device = NULL;
}

static tutti_status buckets_make(tutti_runner *runner, const tutti_runner_options *options)
{
    size_t *rows = NULL;
    size_t count = 0;
    tutti_status status = buckets_list(options, &rows, &count);
    if (status != TUTTI_OK) {
        return status;
    }
    runner->buckets = calloc(count, sizeof(*runner->buckets));
    for (size_t index = 0; runner->buckets != NULL && index < count; index++) {
        runner->buckets[index].rows = rows[index];
    }
    runner->bucket_count = count;
    free(rows);
    return runner->buckets != NULL ? TUTTI_OK : no_memory();
}

tutti_status runner_create(tutti_comm *comm, const tutti_runner_options *options, tutti_runner **out)
{
    tutti_runner *runner = calloc(1, sizeof(*runner));
    if (runner == NULL) {
        return no_memory();
    }
    runner->comm = comm;
    runner->device = comm->device;
    runner->graphs = comm->ops->graphs;
    (void)snprintf(runner->name, sizeof(runner->name), "%s", options->name != NULL ? options->name : "runner");
    runner->flags = options->flags;
    runner->oversize_multiple = options->oversize_multiple != 0 ? options->oversize_multiple : 1;
    runner->attempts = options->attempts != 0 ? options->attempts : 1;
    runner->progress = options->progress;
    runner->user = options->user;
    tutti_status status = buckets_make(runner, options);
    if (status == TUTTI_OK) {
        status = runner->graphs->word_create(runner->device, &runner->word);
    }
    if (status != TUTTI_OK) {
        free(runner->buckets);
        free(runner);
        return status;
    }
    comm_follow(comm, &runner->follower, device_leave, runner);
    *out = runner;
    return TUTTI_OK;
}

void runner_destroy(tutti_runner *runner)
{
    if (runner->comm != NULL) {
        comm_unfollow(runner->comm, &runner->follower);
        device_leave(runner);
    }
    for (int segment = 0; segment < runner->segment_count; segment++) {
        free(runner->segments[segment].padded);
    }
    free(runner->segments);
    free(runner->buckets);
    free(runner);
}

static bool is_empty(const tutti_runner *runner)
{
    for (size_t index = 0; index < bucket_total(runner); index++) {
        if (bucket_at(runner, index)->state != TUTTI_BUCKET_EMPTY) {
            return false;
        }
    }
    return true;
}

static tutti_padded *padded_copy(const tutti_segment *segment)
{
    tutti_padded *copy = calloc(segment->padded_count, sizeof(*copy));
    for (size_t index = 0; copy != NULL && index < segment->padded_count; index++) {
        copy[index] = segment->padded[index];
        if (copy[index].stride_bytes == 0) {
            copy[index].stride_bytes = copy[index].row_bytes;
        }
    }
    return copy;
}

tutti_status runner_segment_add(tutti_runner *runner, const tutti_segment *segment, int *index)
{
    if (!is_empty(runner)) {
        return error_set(
            TUTTI_ERR_ARGUMENT,
            "tutti_runner_segment: %s has captured its segments already: tutti_runner_release(runner, 0) first",
            runner->name);
    }
    size_t count = (size_t)runner->segment_count;
    struct runner_segment *grown = realloc(runner->segments, (count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return no_memory();
    }
    runner->segments = grown;
    struct runner_segment *made = &grown[count];
    memset(made, 0, sizeof(*made));
    if (segment->padded_count > 0) {
        made->padded = padded_copy(segment);
        if (made->padded == NULL) {
            return no_memory();
        }
    }
    made->padded_count = segment->padded_count;
    made->fn = segment->fn;
    made->user = segment->user;
    made->flags = segment->flags;
    made->fixed_rows = segment->fixed_rows;
    if (segment->name != NULL) {
        (void)snprintf(made->name, sizeof(made->name), "%s", segment->name);
    } else {
        (void)snprintf(made->name, sizeof(made->name), "segment %d", runner->segment_count);
    }
    runner->fixed_count += bucket_has(&runner->fixed, made);
    if (index != NULL) {
        *index = runner->segment_count;
    }
    runner->segment_count++;
    runner->warm = false; /* this one has not run yet */
    return TUTTI_OK;
}
