/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runner/runner.h"

#define ROWS_MAX_DEFAULT 512
#define POWERS_MAX_DEFAULT 256
#define STEP_DEFAULT 256

static tutti_status list_copy(const tutti_runner_options *options, size_t *rows, size_t *count)
{
    for (size_t index = 0; index < options->bucket_count; index++) {
        size_t former = index > 0 ? options->buckets[index - 1] : 0;
        if (options->buckets[index] <= former || options->buckets[index] > UINT32_MAX) {
            return error_set(
                TUTTI_ERR_ARGUMENT,
                "tutti_runner_create: buckets[%zu] is %zu, after %zu: give them in ascending order, from 1 "
                "on",
                index, options->buckets[index], former);
        }
        rows[index] = options->buckets[index];
    }
    *count = options->bucket_count;
    return TUTTI_OK;
}

/* 1, 2, 4 .. powers_max, then steps, then the last one exactly. */
static tutti_status list_make(const tutti_runner_options *options, size_t *rows, size_t *count)
{
    size_t most = options->rows_max != 0 ? options->rows_max : ROWS_MAX_DEFAULT;
    size_t powers = options->powers_max != 0 ? options->powers_max : POWERS_MAX_DEFAULT;
    size_t step = options->step != 0 ? options->step : STEP_DEFAULT;
    size_t next = 1;
    size_t made = 0;
    if (most > UINT32_MAX) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_create: rows_max is %zu, more than 32 bits hold", most);
    }
    for (; next < most && made < TUTTI_RUNNER_BUCKETS_MAX - 1; made++) {
        rows[made] = next;
        next = next <= powers / 2 ? next * 2 : (next / step + 1) * step;
    }
    if (next < most) {
        return error_set(
            TUTTI_ERR_ARGUMENT,
            "tutti_runner_create: steps of %zu rows up to %zu make more than %d buckets: take a larger step", step,
            most, TUTTI_RUNNER_BUCKETS_MAX);
    }
    rows[made] = most;
    *count = made + 1;
    return TUTTI_OK;
}

tutti_status buckets_list(const tutti_runner_options *options, size_t **rows, size_t *count)
{
    bool listed = options->bucket_count > 0;
    if (!listed && options->buckets != NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_create: buckets is given, and bucket_count is 0");
    }
    if (options->bucket_count > TUTTI_RUNNER_BUCKETS_MAX || (listed && options->buckets == NULL)) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_runner_create: buckets are %s",
                         listed && options->buckets == NULL ? "NULL" : "too many");
    }
    if (listed && (options->rows_max != 0 || options->powers_max != 0 || options->step != 0)) {
        return error_set(TUTTI_ERR_ARGUMENT,
                         "tutti_runner_create: a list of buckets and a policy for them are both given: leave one out");
    }
    size_t *made = calloc(TUTTI_RUNNER_BUCKETS_MAX, sizeof(*made));
    if (made == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for a runner");
    }
    tutti_status status = listed ? list_copy(options, made, count) : list_make(options, made, count);
    if (status != TUTTI_OK) {
        free(made);
        return status;
    }
    *rows = made;
    return TUTTI_OK;
}

struct runner_bucket *bucket_find(const tutti_runner *runner, size_t rows)
{
    size_t low = 0;
    size_t high = runner->bucket_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (runner->buckets[middle].rows < rows) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < runner->bucket_count ? &runner->buckets[low] : NULL;
}

size_t bucket_total(const tutti_runner *runner)
{
    return runner->bucket_count + (runner->fixed_count > 0);
}

struct runner_bucket *bucket_at(const tutti_runner *runner, size_t index)
{
    size_t shift = runner->fixed_count > 0;
    if (index < shift) {
        return (struct runner_bucket *)&runner->fixed;
    }
    return index - shift < runner->bucket_count ? &runner->buckets[index - shift] : NULL;
}

bool bucket_has(const struct runner_bucket *bucket, const struct runner_segment *segment)
{
    bool graphable = (segment->flags & TUTTI_SEGMENT_EAGER) == 0;
    return graphable && (segment->fixed_rows != 0) == (bucket->rows == 0);
}
