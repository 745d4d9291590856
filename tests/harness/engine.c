/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"

struct engine_call {
    struct engine *engine;
    size_t rows;
    struct engine_call *next;
};

static struct engine_call *call_make(struct engine *engine, size_t rows)
{
    struct engine_call *call = malloc(sizeof(*call));
    CHECK(call != NULL, "rank %d is out of memory", engine->rank);
    *call = (struct engine_call){engine, rows, engine->calls};
    engine->calls = call;
    return call;
}

/* -- what the segments compute -------------------------------------------------------------------------------------- */

static void mix_before(void *argument)
{
    const struct engine_call *call = argument;
    struct engine *engine = call->engine;
    for (size_t column = 0; column < ENGINE_WIDTH; column++) {
        float sum = 0.0f;
        for (size_t row = 0; row < call->rows; row++) {
            sum += engine->hidden[row][column];
        }
        for (size_t row = 0; row < call->rows; row++) {
            engine->partial[row][column] = (float)(engine->rank + 1) * engine->hidden[row][column] + sum;
        }
    }
}

static void mix_after(void *argument)
{
    const struct engine_call *call = argument;
    struct engine *engine = call->engine;
    for (size_t row = 0; row < call->rows; row++) {
        for (size_t column = 0; column < ENGINE_WIDTH; column++) {
            engine->hidden[row][column] = fmodf(engine->partial[row][column], 97.0f) + 1.0f;
        }
    }
}

static void attend(void *argument)
{
    const struct engine_call *call = argument;
    struct engine *engine = call->engine;
    float told = (float)call->rows;
    float word = (float)*tutti_runner_rows(engine->runner);
    for (size_t row = 0; row < call->rows; row++) {
        for (size_t column = 0; column < ENGINE_WIDTH; column++) {
            engine->hidden[row][column] += 2.0f * told - word;
        }
    }
    /* As ragged kernels do, it leaves behind what it likes where no real row is. */
    for (size_t row = call->rows; row < ENGINE_ROWS; row++) {
        memset(engine->hidden[row], 0xff, sizeof(engine->hidden[row]));
    }
}

static void constant_before(void *argument)
{
    struct engine *engine = ((struct engine_call *)argument)->engine;
    for (size_t index = 0; index < ENGINE_FIXED; index++) {
        engine->fixed[index] = (float)((engine->fixed_runs * (uint64_t)(engine->rank + 1) + index) % 61);
    }
    engine->fixed_runs++;
}

/* -- the segments ------------------------------------------------------------------------------------------------------ */

/* What another library's thread does to captures, done here by the capturing one itself. */
static void capture_spoil(const struct engine *engine)
{
    int done;
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_query(engine->stream, &done));
}

static tutti_status mix_enqueue(void *user, size_t rows, tutti_stream stream)
{
    struct engine *engine = user;
    tutti_call how = {.struct_bytes = sizeof(how), .stream = stream, .lane = engine->lane};
    tutti_host_capture_status state;
    uint64_t id;
    engine->mix_calls++;
    CHECK(rows <= ENGINE_ROWS, "mix is called for %zu rows", rows);
    CHECK_OK(tutti_host_capture_info(stream, &state, &id));
    bool fails = state == TUTTI_HOST_CAPTURE_ACTIVE && engine->fail_captures > 0;
    engine->fail_captures -= fails;
    if (fails && engine->fault == ENGINE_REFUSES) {
        return TUTTI_ERR_UNSUPPORTED;
    }
    how.stream = fails && engine->fault == ENGINE_STRAYS ? engine->astray : stream;
    struct engine_call *call = call_make(engine, rows);
    tutti_status status = tutti_host_enqueue(stream, mix_before, call);
    if (status == TUTTI_OK) {
        status = tutti_all_reduce(engine->comm, engine->partial, engine->partial, rows * ENGINE_WIDTH, TUTTI_F32,
                                  TUTTI_SUM, &how);
    }
    if (fails && engine->fault == ENGINE_QUARRELS) {
        capture_spoil(engine);
    }
    return status == TUTTI_OK ? tutti_host_enqueue(stream, mix_after, call) : status;
}

static tutti_status attention_enqueue(void *user, size_t rows, tutti_stream stream)
{
    return tutti_host_enqueue(stream, attend, call_make(user, rows));
}

static tutti_status constant_enqueue(void *user, size_t rows, tutti_stream stream)
{
    struct engine *engine = user;
    const tutti_call how = {.struct_bytes = sizeof(how), .stream = stream, .lane = engine->lane};
    CHECK(rows == ENGINE_FIXED, "the constant segment is called for %zu rows", rows);
    tutti_status status = tutti_host_enqueue(stream, constant_before, call_make(engine, rows));
    return status != TUTTI_OK
               ? status
               : tutti_all_reduce(engine->comm, engine->fixed, engine->fixed, rows, TUTTI_F32, TUTTI_SUM, &how);
}

/* -- opening --------------------------------------------------------------------------------------------------------------- */

static void segments_add(struct engine *engine, bool constant)
{
    const tutti_padded hidden = {engine->hidden, sizeof(engine->hidden[0]), 0};
    const tutti_segment mix = {.struct_bytes = sizeof(mix),
                               .name = "mix",
                               .fn = mix_enqueue,
                               .user = engine,
                               .padded = &hidden,
                               .padded_count = 1};
    const tutti_segment attention = {.struct_bytes = sizeof(attention),
                                     .name = "attention",
                                     .fn = attention_enqueue,
                                     .user = engine,
                                     .flags = TUTTI_SEGMENT_EAGER};
    const tutti_segment same = {
        .struct_bytes = sizeof(same), .fn = constant_enqueue, .user = engine, .fixed_rows = ENGINE_FIXED};
    CHECK_OK(tutti_runner_segment(engine->runner, &mix, &engine->mix));
    CHECK_OK(tutti_runner_segment(engine->runner, &attention, &engine->attention));
    engine->constant = -1;
    if (constant) {
        CHECK_OK(tutti_runner_segment(engine->runner, &same, &engine->constant));
    }
}

void engine_open(struct engine *engine, int rank, int world, const char *rendezvous,
                 const tutti_runner_options *options, bool constant)
{
    engine_join(engine, ranks_comm(rank, world, rendezvous), rank, world, 0, options, constant);
    engine->guest = false;
}

void engine_join(struct engine *engine, tutti_comm *comm, int rank, int world, uint32_t lane,
                 const tutti_runner_options *options, bool constant)
{
    memset(engine, 0, sizeof(*engine));
    engine->rank = rank;
    engine->world = world;
    engine->comm = comm;
    engine->lane = lane;
    engine->guest = true;
    CHECK_OK(tutti_host_stream_create(&engine->stream));
    CHECK_OK(tutti_host_stream_create(&engine->astray));
    CHECK_OK(tutti_runner_create(engine->comm, options, &engine->runner));
    segments_add(engine, constant);
}

void engine_close(struct engine *engine)
{
    tutti_host_stream_destroy(engine->stream);
    tutti_host_stream_destroy(engine->astray);
    tutti_runner_destroy(engine->runner);
    tutti_comm_destroy(engine->guest ? NULL : engine->comm);
    while (engine->calls != NULL) {
        struct engine_call *next = engine->calls->next;
        free(engine->calls);
        engine->calls = next;
    }
}

/* -- a checked run ----------------------------------------------------------------------------------------------------------- */

static float input(int step, int row, int column)
{
    return (float)((step * 7 + row * 5 + column * 3) % 23);
}

static void inputs_fill(struct engine *engine, int rows, int step)
{
    memset(engine->hidden, 0xff, sizeof(engine->hidden)); /* NaN */
    memset(engine->partial, 0xff, sizeof(engine->partial));
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < ENGINE_WIDTH; column++) {
            engine->hidden[row][column] = input(step, row, column);
        }
    }
}

/* mix of all ranks together, over real rows alone. */
static void mix_expect(const struct engine *engine, int rows, float column[])
{
    float weights = (float)(engine->world * (engine->world + 1)) / 2.0f;
    float sum = 0.0f;
    for (int row = 0; row < rows; row++) {
        sum += column[row];
    }
    for (int row = 0; row < rows; row++) {
        column[row] = fmodf(weights * column[row] + (float)engine->world * sum, 97.0f) + 1.0f;
    }
}

static int rows_compare(const struct engine *engine, int rows, int step, int mixes)
{
    int wrong = 0;
    for (int column = 0; column < ENGINE_WIDTH; column++) {
        float expected[ENGINE_ROWS];
        for (int row = 0; row < rows; row++) {
            expected[row] = input(step, row, column);
        }
        for (int mix = 0; mix < mixes; mix++) {
            mix_expect(engine, rows, expected);
            for (int row = 0; row < rows; row++) {
                expected[row] += (float)rows;
            }
        }
        for (int row = 0; row < rows; row++) {
            wrong += expected[row] != engine->hidden[row][column];
        }
    }
    return wrong;
}

static int constant_compare(const struct engine *engine)
{
    int wrong = 0;
    for (size_t index = 0; engine->constant >= 0 && index < ENGINE_FIXED; index++) {
        float expected = 0.0f;
        for (int rank = 0; rank < engine->world; rank++) {
            expected += (float)(((engine->fixed_runs - 1) * (uint64_t)(rank + 1) + index) % 61);
        }
        wrong += expected != engine->fixed[index];
    }
    return wrong;
}

int engine_step(struct engine *engine, int rows, int step)
{
    inputs_fill(engine, rows, step);
    CHECK_OK(tutti_runner_run(engine->runner, (size_t)rows, engine->stream));
    CHECK_OK(tutti_runner_finish(engine->runner, engine->stream));
    return rows_compare(engine, rows, step, 1) + constant_compare(engine);
}

/* The engine's own control flow: both segments are entered from two places. */
static tutti_status pass_by_hand(const struct engine *engine)
{
    tutti_status status = TUTTI_OK;
    for (int pass = 0; pass < 2 && status == TUTTI_OK; pass++) {
        status = tutti_runner_enter(engine->runner, engine->mix);
        if (status == TUTTI_OK) {
            status = tutti_runner_enter(engine->runner, engine->attention);
        }
    }
    return status;
}

int engine_step_by_hand(struct engine *engine, int rows, int step)
{
    inputs_fill(engine, rows, step);
    CHECK_OK(tutti_runner_begin(engine->runner, (size_t)rows, engine->stream));
    CHECK_OK(pass_by_hand(engine));
    CHECK_OK(tutti_runner_end(engine->runner));
    CHECK_OK(tutti_runner_finish(engine->runner, engine->stream));
    return rows_compare(engine, rows, step, 2);
}

static void step_begin(struct engine *engine, int rows, int step)
{
    inputs_fill(engine, rows, step);
    CHECK_OK(tutti_runner_begin(engine->runner, (size_t)rows, engine->stream));
}

static int step_end(struct engine *engine, int rows, int step)
{
    CHECK_OK(tutti_runner_end(engine->runner));
    CHECK_OK(tutti_runner_finish(engine->runner, engine->stream));
    return rows_compare(engine, rows, step, 1);
}

int engine_steps_in_turn(struct engine *one, int rows, struct engine *other, int other_rows, int step)
{
    step_begin(one, rows, step);
    step_begin(other, other_rows, step + 1);
    CHECK_OK(tutti_runner_enter(one->runner, one->mix));
    CHECK_OK(tutti_runner_enter(other->runner, other->mix));
    CHECK_OK(tutti_runner_enter(one->runner, one->attention));
    CHECK_OK(tutti_runner_enter(other->runner, other->attention));
    int wrong = step_end(one, rows, step);
    return wrong + step_end(other, other_rows, step + 1);
}
