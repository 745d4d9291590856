/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_engine.h - a forward pass for the runner's tests on devices, without a kernel of its own: each segment reduces the rows of a
 * buffer of its own into another one, so that what each wrote, zeroed or left alone is known to the byte.
 *
 *     every 7th segment     no collective: only its padding is zeroed
 *     every 5th             two: what was reduced is reduced again by max, in place
 *     number 1, of 3 or more     eager: over real rows alone
 *     the last, of 4 or more     fixed_rows
 *
 * Above the real rows all inputs are NaN before each run.
 */
#ifndef TESTS_HARNESS_GPU_ENGINE_H
#define TESTS_HARNESS_GPU_ENGINE_H

#include "harness/gpu_scene.h"
#include "tutti/runner.h"

#define GPU_ENGINE_SEGMENTS_MAX 64
#define GPU_ENGINE_FIXED 3 /* rows */

struct gpu_engine;

struct gpu_part {
    struct gpu_engine *engine;
    int index;
    unsigned char *in, *out;
    uint64_t call; /* of its inputs */
};

struct gpu_engine {
    /* The test's. */
    struct gpu_rank *self;
    tutti_runner_options options;
    int segments;
    size_t columns, rows_max; /* of the buffers, floats; rows_max above the largest run by one at least */
    uint32_t lane;
    bool silent;        /* no collectives at all */
    size_t fails_at;    /* captures over so many rows fail on this rank; 0: none does */
    bool fails_quietly; /* because the capture was invalidated, with all calls well; or else the segment says no */

    tutti_runner *runner;
    tutti_stream stream;
    struct gpu_memory memory;
    unsigned char *host; /* what is uploaded, and then what was found */
    struct gpu_part parts[GPU_ENGINE_SEGMENTS_MAX];
    size_t rows; /* of the last run */
    uint64_t callbacks;
};

/* All ranks. Makes buffers, stream, runner and segments. */
void gpu_engine_open(struct gpu_engine *engine);
void gpu_engine_close(struct gpu_engine *engine);

/* New inputs, and a run. It is not waited for. */
void gpu_engine_run(struct gpu_engine *engine, size_t rows);
/* The same in its two parts; between them the pass is the test's. */
void gpu_engine_fill(struct gpu_engine *engine, size_t rows);

/* Waits, and compares every byte of so many segments' buffers, beginning with number `first`. */
void gpu_engine_verify(struct gpu_engine *engine, int first, int count, const char *what);

tutti_runner_stats_t gpu_engine_stats(const struct gpu_engine *engine);
tutti_runner_bucket_t gpu_engine_bucket(const struct gpu_engine *engine, size_t rows);

#endif
