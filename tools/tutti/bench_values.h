/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_values.h - the bench's inputs, and what must come out.
 *
 * An element is a function of call, rank and index: a small whole number, so small that the sum over all ranks
 * is exact in the type, in whatever order and with whatever intermediate rounding a library adds. So every
 * library's results can be compared bit for bit, and a result of another call, rank or place is seen.
 */
#ifndef TOOLS_BENCH_VALUES_H
#define TOOLS_BENCH_VALUES_H

#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

/* dst[i] = value(call, rank, first + i), i < count. */
void bench_values_fill(tutti_dtype dtype, int ranks, uint64_t call, int rank, uint64_t first, void *dst, size_t count);

/* How many of got[i] differ from value(call, rank, first + i). */
uint64_t bench_values_wrong(tutti_dtype dtype, int ranks, uint64_t call, int rank, uint64_t first, const void *got,
                            size_t count);

/* How many of got[i] differ from the sum of value(call, r, first + i) over all ranks r. */
uint64_t bench_values_wrong_sum(tutti_dtype dtype, int ranks, uint64_t call, uint64_t first, const void *got,
                                size_t count);

#endif
