/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/gpu_engine.h"

#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/values.h"

#define POISON 0xff /* NaN of every type */
#define OUT_POISON 0xa5

static size_t row_bytes(const struct gpu_engine *engine)
{
    return engine->columns * sizeof(float);
}

static size_t buffer_bytes(const struct gpu_engine *engine)
{
    return (engine->rows_max * row_bytes(engine) + 255) / 256 * 256;
}

static bool is_eager(const struct gpu_engine *engine, int index)
{
    return engine->segments >= 3 && index == 1;
}

static bool is_fixed(const struct gpu_engine *engine, int index)
{
    return engine->segments >= 4 && index == engine->segments - 1;
}

static bool reduces(const struct gpu_engine *engine, int index)
{
    return !engine->silent && (index % 7 != 6 || is_eager(engine, index) || is_fixed(engine, index));
}

/* -- segments --------------------------------------------------------------------------------------------------------- */

static tutti_status part_reduce(const struct gpu_part *part, size_t rows, tutti_stream stream)
{
    const struct gpu_engine *engine = part->engine;
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream, .lane = engine->lane};
    size_t count = rows * engine->columns;
    tutti_status status = tutti_all_reduce(engine->self->comm, part->in, part->out, count, TUTTI_F32, TUTTI_SUM, &call);
    if (status == TUTTI_OK && part->index % 5 == 4) {
        status = tutti_all_reduce(engine->self->comm, part->out, part->out, count, TUTTI_F32, TUTTI_MAX, &call);
    }
    return status;
}

static tutti_status part_enqueue(void *user, size_t rows, tutti_stream stream)
{
    struct gpu_part *part = user;
    struct gpu_engine *engine = part->engine;
    bool fails = engine->fails_at == rows && gpu_stream_captures(stream);
    CHECK(rows <= engine->rows_max, "segment %d is called for %zu rows", part->index, rows);
    engine->callbacks++;
    if (fails && !engine->fails_quietly) {
        return TUTTI_ERR_UNSUPPORTED;
    }
    tutti_status status = reduces(engine, part->index) ? part_reduce(part, rows, stream) : TUTTI_OK;
    if (fails) {
        gpu_capture_spoil(stream);
    }
    return status;
}

static void segment_add(struct gpu_engine *engine, int index)
{
    struct gpu_part *part = &engine->parts[index];
    *part = (struct gpu_part){.engine = engine,
                              .index = index,
                              .in = engine->memory.address + (size_t)(2 * index) * buffer_bytes(engine),
                              .out = engine->memory.address + (size_t)(2 * index + 1) * buffer_bytes(engine)};
    const tutti_padded padded = {part->in, row_bytes(engine), index % 2 == 0 ? 0 : row_bytes(engine)};
    tutti_segment segment = {.struct_bytes = sizeof(segment), .fn = part_enqueue, .user = part};
    if (is_eager(engine, index)) {
        segment.flags = TUTTI_SEGMENT_EAGER;
    } else if (is_fixed(engine, index)) {
        segment.fixed_rows = GPU_ENGINE_FIXED;
    } else {
        segment.padded = &padded;
        segment.padded_count = 1;
    }
    int number = -1;
    CHECK_OK(tutti_runner_segment(engine->runner, &segment, &number));
    CHECK(number == index, "segment %d is number %d", index, number);
}

void gpu_engine_open(struct gpu_engine *engine)
{
    struct gpu_rank *self = engine->self;
    size_t bytes = (size_t)(2 * engine->segments) * buffer_bytes(engine);
    gpu_step(self);
    engine->stream = gpu_stream_create();
    CHECK(gpu_memory_make(self->scene->backend, self->device, gpu_shared_kind(self), bytes, engine->stream,
                          &engine->memory),
          "%zu bytes", bytes);
    engine->host = malloc(buffer_bytes(engine));
    CHECK(engine->host != NULL, "memory");
    engine->options.struct_bytes = sizeof(engine->options);
    CHECK_OK(tutti_runner_create(self->comm, &engine->options, &engine->runner));
    for (int index = 0; index < engine->segments; index++) {
        segment_add(engine, index);
    }
    gpu_step(self);
}

void gpu_engine_close(struct gpu_engine *engine)
{
    gpu_stream_wait(engine->stream);
    gpu_step(engine->self);
    tutti_runner_destroy(engine->runner);
    gpu_step(engine->self);
    gpu_memory_free(&engine->memory, engine->stream);
    gpu_stream_destroy(engine->stream);
    free(engine->host);
    engine->runner = NULL;
    gpu_step(engine->self);
}

/* -- runs --------------------------------------------------------------------------------------------------------------- */

static size_t rows_filled(const struct gpu_engine *engine, int index)
{
    return is_fixed(engine, index) ? GPU_ENGINE_FIXED : engine->rows;
}

void gpu_engine_fill(struct gpu_engine *engine, size_t rows)
{
    engine->rows = rows;
    for (int index = 0; index < engine->segments; index++) {
        struct gpu_part *part = &engine->parts[index];
        size_t filled = rows_filled(engine, index);
        part->call = ++engine->self->call;
        gpu_stream_wait(engine->stream); /* the host's copy may be written again */
        memset(engine->host, OUT_POISON, buffer_bytes(engine));
        gpu_upload(part->out, engine->host, buffer_bytes(engine), engine->stream);
        gpu_stream_wait(engine->stream);
        memset(engine->host, POISON, buffer_bytes(engine));
        values_fill(engine->host, TUTTI_F32, part->call, engine->self->rank, 0, filled * engine->columns);
        gpu_upload(part->in, engine->host, buffer_bytes(engine), engine->stream);
    }
    gpu_stream_wait(engine->stream);
}

void gpu_engine_run(struct gpu_engine *engine, size_t rows)
{
    gpu_engine_fill(engine, rows);
    CHECK_OK(tutti_runner_run(engine->runner, rows, engine->stream));
}

/* -- what must have come of it -------------------------------------------------------------------------------------------- */

/* As far as the last run was padded. */
static size_t width_of(const struct gpu_engine *engine)
{
    for (size_t index = 0; index < engine->options.bucket_count; index++) {
        if (engine->options.buckets[index] >= engine->rows) {
            return engine->options.buckets[index];
        }
    }
    return engine->rows;
}

static void expect_bytes(const struct gpu_part *part, size_t first_row, size_t last_row, int byte, const char *which,
                         const char *what)
{
    const struct gpu_engine *engine = part->engine;
    for (size_t at = first_row * row_bytes(engine); at < last_row * row_bytes(engine); at++) {
        CHECK(engine->host[at] == byte,
              "rank %d: %s: segment %d, %zu rows: row %zu of its %s has byte %02x where %02x should be",
              engine->self->rank, what, part->index, engine->rows, at / row_bytes(engine), which, engine->host[at],
              (unsigned)byte);
    }
}

static void verify_part(const struct gpu_part *part, const char *what)
{
    struct gpu_engine *engine = part->engine;
    const struct gpu_rank *self = engine->self;
    bool is_padded = !is_eager(engine, part->index) && !is_fixed(engine, part->index);
    size_t real = rows_filled(engine, part->index);
    size_t width = is_padded ? width_of(engine) : real;
    gpu_download(engine->host, part->in, buffer_bytes(engine), engine->stream);
    expect_bytes(part, real, width, 0, "input", what);
    expect_bytes(part, width, engine->rows_max, POISON, "input", what);
    gpu_download(engine->host, part->out, buffer_bytes(engine), engine->stream);
    if (!reduces(engine, part->index)) {
        expect_bytes(part, 0, engine->rows_max, OUT_POISON, "output", what);
        return;
    }
    CHECK(values_check(engine->host, TUTTI_F32, TUTTI_SUM, part->call, self->scene->world, 0, real * engine->columns),
          "rank %d: %s: segment %d, %zu rows", self->rank, what, part->index, engine->rows);
    expect_bytes(part, real, width, 0, "output", what);
    expect_bytes(part, width, engine->rows_max, OUT_POISON, "output", what);
}

void gpu_engine_verify(struct gpu_engine *engine, int first, int count, const char *what)
{
    CHECK_OK(tutti_runner_finish(engine->runner, engine->stream));
    for (int index = 0; index < count; index++) {
        verify_part(&engine->parts[(first + index) % engine->segments], what);
    }
}

tutti_runner_stats_t gpu_engine_stats(const struct gpu_engine *engine)
{
    tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_runner_stats(engine->runner, &stats));
    return stats;
}

tutti_runner_bucket_t gpu_engine_bucket(const struct gpu_engine *engine, size_t rows)
{
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    for (size_t index = 0; bucket.rows < rows; index++) {
        CHECK_OK(tutti_runner_bucket(engine->runner, index, &bucket));
    }
    return bucket;
}
