/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_gpu_measure.h - the measuring loop of one rank on a GPU.
 *
 * One source for all competitors, like bench_measure.h. A rank has one stream. An order of SPAN or GRAPH is carried out twice:
 *
 *   1  inputs of `slots` calls to the device, a first run of them (GRAPH: of the captured graph), every result checked
 *   2  new inputs, one run that is not timed, then `batches` runs one behind the other, an event between each and
 *      the next; every result of the last one checked
 *
 * Two stamps a run: 0, and the nanoseconds from the event before it to the event behind it. The runs of all ranks are in step
 * because every call waits for all ranks; so the slowest rank's time of a run is the run's. Outputs are overwritten before
 * each part, so that a call that did nothing is seen.
 */
#ifndef TOOLS_BENCH_GPU_MEASURE_H
#define TOOLS_BENCH_GPU_MEASURE_H

#include "bench_wire.h"
#include "tutti/tutti.h"

/* A library as the loop sees it. Each function returns 0, or -1 with its sentence in text() of this rank. */
struct bench_gpu_library {
    /* Enqueues, or records where the stream captures. root: of a broadcast, which is in place in dst. */
    int (*call)(void *self, const struct bench_order *order, int root, const void *src, void *dst, tutti_stream stream);
    /* Device memory for all inputs and outputs; all ranks ask at the same time. One piece at a time. */
    int (*alloc)(void *self, void **memory, size_t bytes);
    void (*free)(void *self, void *memory); /* NULL is allowed */
    const char *(*text)(void *self);
    /* Optional: a graph has been captured, or has been destroyed; all ranks are at it. */
    int (*captured)(void *self);
};

/* Sends the hello, then serves orders until the bench hangs up. The device is current (gpu_use). Returns 0, or -1 if something
 * failed (the bench has been told). */
int bench_gpu_measure_serve(int fd, const struct bench_hello *hello, const struct bench_gpu_library *library,
                            void *self);

#endif
