/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "runner/runner.h"

void runner_stats(const tutti_runner *runner, tutti_runner_stats_t *stats)
{
    *stats = runner->stats;
    stats->segments = (uint64_t)runner->segment_count;
    stats->buckets = bucket_total(runner);
}

void bucket_stats(const struct runner_bucket *bucket, tutti_runner_bucket_t *out)
{
    memset(out, 0, sizeof(*out));
    out->rows = bucket->rows;
    out->state = bucket->state;
    out->captures = bucket->captures;
    out->failed_captures = bucket->failed_captures;
    out->replayed_runs = bucket->replayed_runs;
    out->eager_runs = bucket->eager_runs;
    out->graph_memory_bytes = bucket->graph_bytes;
    out->capture_ms = bucket->capture_ms;
    (void)snprintf(out->reason, sizeof(out->reason), "%s", bucket->reason);
}
