/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_measure.h - the measuring loop of one rank.
 *
 * One source for all competitors: the `tutti` command and every peer program compile this file, so that inputs,
 * buffers, loop, clock and checks are the same and only the library behind `struct bench_library` differs.
 *
 * A rank has `slots` pairs of buffers. A batch writes the inputs of all slots, makes one call per slot, and then
 * checks every result; the inputs of each call are new (bench_values.h). Stamps, per batch:
 *   TIGHT  slots        the time after each call. The first call is where the ranks meet again, so it is checked
 *                       but starts no interval.
 *   GRAPH  2            before and after one replay of a graph with one call per slot, behind a barrier
 *   ALONE  2            before and after one call, behind a barrier (only one slot is used in a batch)
 *   SPAN   2            only on GPUs, bench_gpu_measure.h
 *   COPY   2            before and after copy_passes * slots copies of `count` elements, behind a barrier
 * The clock is CLOCK_MONOTONIC, which is one for all processes of a machine: stamps of ranks compare.
 */
#ifndef TOOLS_BENCH_MEASURE_H
#define TOOLS_BENCH_MEASURE_H

#include <stdbool.h>

#include "bench_wire.h"

/* A library as the loop sees it. Each function returns 0, or -1 with its sentence in text() of this rank. */
struct bench_library {
    /* root: of a broadcast, which is in place in dst. */
    int (*call)(void *self, const struct bench_order *order, int root, const void *src, void *dst);
    int (*barrier)(void *self);
    /* Calls made between begin and end go into a graph; NULL where the library has none. */
    int (*graph_begin)(void *self);
    int (*graph_end)(void *self);
    int (*graph_replay)(void *self);
    void (*graph_drop)(void *self);
    uint64_t (*sleeps)(void *self); /* waits so far that gave up spinning; NULL if unknown */
    const char *(*text)(void *self);
};

/* Sends the hello, then serves orders until the bench hangs up. hello->failed must be 0. Returns 0, or -1 if
 * the library failed (the bench has been told). */
int bench_measure_serve(int fd, const struct bench_hello *hello, const struct bench_library *library, void *self);

#endif
