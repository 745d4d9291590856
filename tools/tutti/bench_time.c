/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_time.h"

#include <stdbool.h>
#include <stdlib.h>

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

double bench_time_median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Stamp `index` of the slowest rank: when the last one was there. */
static uint64_t last_stamp(const struct bench_stamps *stamps, int ranks, uint64_t index)
{
    uint64_t last = 0;
    for (int rank = 0; rank < ranks; rank++) {
        uint64_t stamp = stamps->by_rank[(uint64_t)rank * stamps->per_rank + index];
        last = stamp > last ? stamp : last;
    }
    return last;
}

/* Nearest rank: the smallest value that `percent` of all do not exceed. */
static double percentile(const double *sorted, size_t count, unsigned percent)
{
    size_t place = (count * percent + 99) / 100;
    return sorted[place > 0 ? place - 1 : 0];
}

struct bench_times bench_time_calls(const struct bench_order *order, const struct bench_stamps *stamps, int ranks,
                                    double *scratch)
{
    struct bench_times times = {0};
    uint64_t per_batch = order->loop == BENCH_LOOP_TIGHT ? order->slots : 2;
    bool whole = order->loop == BENCH_LOOP_GRAPH || order->loop == BENCH_LOOP_SPAN;
    double calls = whole ? order->slots : 1; /* between two stamps */
    for (uint64_t batch = 0; batch < order->batches; batch++) {
        uint64_t before = last_stamp(stamps, ranks, batch * per_batch);
        for (uint64_t i = 1; i < per_batch; i++) {
            uint64_t after = last_stamp(stamps, ranks, batch * per_batch + i);
            scratch[times.samples++] = (double)(after - before) / 1e3 / calls;
            before = after;
        }
    }
    qsort(scratch, times.samples, sizeof(*scratch), compare);
    times.us_p50 = percentile(scratch, times.samples, 50);
    times.us_p99 = percentile(scratch, times.samples, 99);
    return times;
}

double bench_time_copy(const struct bench_order *order, const struct bench_stamps *stamps, int ranks, double *scratch)
{
    double copies = (double)order->slots * order->copy_passes;
    for (uint64_t batch = 0; batch < order->batches; batch++) {
        double sum_ns = 0;
        for (uint32_t rank = 0; rank < order->copiers; rank++) {
            const uint64_t *pair = stamps->by_rank + rank * stamps->per_rank + 2 * batch;
            sum_ns += (double)(pair[1] - pair[0]);
        }
        scratch[batch] = sum_ns / order->copiers / copies / 1e3;
    }
    return bench_time_median(scratch, order->batches) * ranks / order->copiers;
}

double bench_time_copies(tutti_collective op, int ranks)
{
    double n = ranks;
    if (ranks == 1) {
        return op == TUTTI_BARRIER || op == TUTTI_BROADCAST ? 0 : 1; /* nothing but src to dst */
    }
    switch (op) {
    case TUTTI_ALL_REDUCE:
        return 2.5 - 1 / n;
    case TUTTI_REDUCE_SCATTER:
        return 1.5 - 0.5 / n;
    case TUTTI_ALL_GATHER:
        return 1 + 1 / n;
    case TUTTI_BROADCAST:
        return 1;
    case TUTTI_ALL_TO_ALL:
        return 2 - 1 / n;
    case TUTTI_BARRIER:
        return 0;
    }
    return 0;
}

double bench_time_bus_factor(tutti_collective op, int ranks)
{
    double n = ranks;
    switch (op) {
    case TUTTI_ALL_REDUCE:
        return 2 * (n - 1) / n;
    case TUTTI_REDUCE_SCATTER:
    case TUTTI_ALL_GATHER:
    case TUTTI_ALL_TO_ALL:
        return (n - 1) / n;
    case TUTTI_BROADCAST:
        return 1;
    case TUTTI_BARRIER:
        return 0;
    }
    return 0;
}
