/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - a small engine for the runner's tests, on the host backend: three segments whose real rows go wrong if padding is not
 * zero, if a graph has a stale row count, or if a collective is missing, and what they must come to.
 *
 *   mix        graphable, padded: partial = (rank + 1) * hidden, plus the sum of all rows that it is called for (so padding counts if it is not
 *              zero); all_reduce; hidden = partial + 1
 *   attention  eager: hidden -= real rows, as the segment was told, and as the device's word says
 *   constant   fixed_rows: all_reduce of a vector that does not depend on the rows, added to a counter
 *
 * All values are small integers: sums are exact in any order.
 */
#ifndef TESTS_HARNESS_ENGINE_H
#define TESTS_HARNESS_ENGINE_H

#include <stdbool.h>

#include "tutti/host.h"
#include "tutti/runner.h"

#define ENGINE_WIDTH 8
#define ENGINE_ROWS 64 /* of its buffers */
#define ENGINE_FIXED 3

struct engine_call;

/* What a capture of `mix` fails by: its callback refuses; the capture is invalidated; its collective comes on another stream. */
enum engine_fault { ENGINE_REFUSES, ENGINE_QUARRELS, ENGINE_STRAYS };

struct engine {
    int rank, world;
    tutti_comm *comm;
    tutti_host_stream *stream;
    tutti_runner *runner;
    int mix, attention, constant; /* segments; constant: -1 if the engine has none */
    float hidden[ENGINE_ROWS][ENGINE_WIDTH], partial[ENGINE_ROWS][ENGINE_WIDTH];
    float fixed[ENGINE_FIXED];
    uint64_t fixed_runs;       /* of the constant segment; it must have come to f(this) */
    struct engine_call *calls; /* arguments of what was enqueued or captured; freed with the engine */
    int mix_calls;             /* of the callback */
    int fail_captures;         /* so many next captures of `mix` fail on this rank */
    enum engine_fault fault;   /* and how */
    tutti_host_stream *astray; /* the stream that ENGINE_STRAYS takes */
    uint32_t lane;             /* of its collectives */
    bool guest;                /* the communicator is somebody else's */
};

/* Makes communicator, stream and runner with its segments. `options`: of the runner. Fails the test if that fails. */
void engine_open(struct engine *engine, int rank, int world, const char *rendezvous,
                 const tutti_runner_options *options, bool constant);
void engine_close(struct engine *engine);

/* The same on a communicator that is there already, whose this lane it takes; it is not destroyed with the engine. */
void engine_join(struct engine *engine, tutti_comm *comm, int rank, int world, uint32_t lane,
                 const tutti_runner_options *options, bool constant);

/* One checked run: new inputs that depend on `step`, everything above them NaN; finish; compares every real row and, if there is one,
 * the constant segment. Returns how many values were wrong. */
int engine_step(struct engine *engine, int rows, int step);

/* The same by begin, enter and end; mix twice. */
int engine_step_by_hand(struct engine *engine, int rows, int step);

/* Both at once, segment by segment in turn; engines on lanes and streams of their own. */
int engine_steps_in_turn(struct engine *one, int rows, struct engine *other, int other_rows, int step);

#endif
