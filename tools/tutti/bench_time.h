/* SPDX-License-Identifier: Apache-2.0 */
/* bench_time.h - from stamps to microseconds. What each number means is said at the top of bench.c. */
#ifndef TOOLS_BENCH_TIME_H
#define TOOLS_BENCH_TIME_H

#include <stddef.h>

#include "bench_team.h"

struct bench_times {
    double us_p50, us_p99;
    size_t samples;
};

/* The times of one order's calls; sorts in scratch, which has room for stamps->per_rank numbers. */
struct bench_times bench_time_calls(const struct bench_order *order, const struct bench_stamps *stamps, int ranks,
                                    double *scratch);

/* Microseconds that one of `ranks` concurrent copies of order->count elements takes, from a COPY order: the median
 * over batches of the copying ranks' mean, times how many ranks share one processor. */
double bench_time_copy(const struct bench_order *order, const struct bench_stamps *stamps, int ranks, double *scratch);

/* How many memcpy of the message (`bytes` of the table) a rank's minimal traffic is worth; 0: not defined. */
double bench_time_copies(tutti_collective op, int ranks);

/* What a message of `bytes` moves over the slowest link per byte of it, as nccl-tests define the bus bandwidth. */
double bench_time_bus_factor(tutti_collective op, int ranks);

/* The middle one, or the mean of the two; sorts. count > 0. */
double bench_time_median(double *values, size_t count);

#endif
