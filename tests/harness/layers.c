/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/layers.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"

#define WIDTH LAYERS_WIDTH
#define VOCABULARY 50
#define EXPERTS 4
#define EXPERT_ROWS 4

struct layers_call {
    struct layers *layers;
    size_t rows;
    struct layers_call *next;
};

static struct layers_call *argument(struct layers *layers, size_t rows)
{
    struct layers_call *made = malloc(sizeof(*made));
    CHECK(made != NULL, "rank %d is out of memory", layers->rank);
    *made = (struct layers_call){layers, rows, layers->arguments};
    layers->arguments = made;
    return made;
}

/* -- what the segments compute -------------------------------------------------------------------------------------- */

static void poison(float *values, size_t count, enum layers_poison kind)
{
    static const float by_kind[] = {0.0f, 0.0f, INFINITY, -FLT_MAX};
    uint64_t state = (uint64_t)count * 77 + kind;
    for (size_t index = 0; index < count; index++) {
        uint32_t bits = kind == LAYERS_NAN ? 0x7fc00000u : (uint32_t)ranks_random(&state);
        values[index] = kind == LAYERS_NAN || kind == LAYERS_GARBAGE ? 0.0f : by_kind[kind];
        if (kind == LAYERS_NAN || kind == LAYERS_GARBAGE) {
            memcpy(&values[index], &bits, sizeof(bits));
        }
    }
}

static void ids_look_up(void *user)
{
    const struct layers_call *call = user;
    struct layers *layers = call->layers;
    for (size_t row = 0; row < call->rows; row++) {
        int32_t id = layers->ids[row];
        CHECK(id >= 0 && id < VOCABULARY, "row %zu of %u: token %d", row, *tutti_runner_rows(layers->runner), id);
        for (int column = 0; column < WIDTH; column++) {
            layers->hidden[row * WIDTH + (size_t)column] = sinf((float)(id * WIDTH + column));
        }
    }
}

static void embeddings_take(void *user)
{
    const struct layers_call *call = user;
    struct layers *layers = call->layers;
    for (size_t index = 0; index < call->rows * WIDTH; index++) {
        layers->hidden[index] = 0.7f * layers->embedded[index];
    }
}

static void scale_find(void *user)
{
    const struct layers_call *call = user;
    struct layers *layers = call->layers;
    float scale = 1e-6f;
    for (size_t index = 0; index < call->rows * WIDTH; index++) {
        float size = fabsf(layers->hidden[index]);
        scale = size <= scale ? scale : size; /* NaN stays, as it does in a kernel that is not asked about it */
    }
    layers->scale = scale;
}

static void dense_before(void *user)
{
    const struct layers_call *call = user;
    struct layers *layers = call->layers;
    for (size_t index = 0; index < call->rows * WIDTH; index++) {
        float quantised = rintf(layers->hidden[index] / layers->scale * 127.0f);
        layers->partial[index] = quantised * (0.1f + 0.03f * (float)(layers->rank + (int)(index % WIDTH)));
    }
}

static void dense_after(void *user)
{
    const struct layers_call *call = user;
    struct layers *layers = call->layers;
    for (size_t index = 0; index < call->rows * WIDTH; index++) {
        layers->hidden[index] = 0.5f * layers->hidden[index] + layers->partial[index] * layers->scale / 127.0f;
    }
}

static void attend(void *user)
{
    const struct layers_call *call = user;
    struct layers *layers = call->layers;
    float seen[WIDTH] = {0};
    for (size_t row = 0; row < call->rows; row++) {
        for (size_t column = 0; column < WIDTH; column++) {
            float *value = &layers->hidden[row * WIDTH + column];
            seen[column] = 0.9f * seen[column] + *value;
            *value += 0.1f * seen[column];
        }
    }
    poison(&layers->hidden[call->rows * WIDTH], (layers->rows_max - call->rows) * WIDTH, layers->poison);
}

/* An expert's room is taken from the last row on: rows that are none would take it from those that are. */
static void experts_before(void *user)
{
    const struct layers_call *call = user;
    struct layers *layers = call->layers;
    size_t real = layers->unmasked ? call->rows : *tutti_runner_rows(layers->runner);
    int taken[EXPERTS] = {0};
    memset(layers->partial, 0, call->rows * WIDTH * sizeof(float));
    for (size_t row = real; row-- > 0;) {
        const float *from = &layers->hidden[row * WIDTH];
        int expert = fabsf(from[0]) < 1e6f ? (int)(fabsf(from[0]) * 10.0f) % EXPERTS : 0;
        for (int column = 0; taken[expert] < EXPERT_ROWS && column < WIDTH && expert % layers->world == layers->rank;
             column++) {
            layers->partial[row * WIDTH + (size_t)column] = 0.3f * from[column] * (float)(expert + 1);
        }
        taken[expert]++;
    }
}

static void experts_after(void *user)
{
    const struct layers_call *call = user;
    struct layers *layers = call->layers;
    for (size_t index = 0; index < call->rows * WIDTH; index++) {
        layers->hidden[index] = 0.6f * layers->hidden[index] + 0.3f * layers->partial[index];
    }
}

static void local_work(void *user)
{
    const struct layers_call *call = user;
    for (size_t index = 0; index < call->rows * WIDTH; index++) {
        call->layers->hidden[index] *= 0.875f;
    }
}

static void constant_before(void *user)
{
    struct layers *layers = ((struct layers_call *)user)->layers;
    for (int index = 0; index < LAYERS_FIXED; index++) {
        layers->fixed[index] = (float)(layers->fixed_runs * (uint64_t)(layers->rank + 1) + (uint64_t)index);
    }
    layers->fixed_runs++;
}

/* -- the segments ------------------------------------------------------------------------------------------------------ */

static tutti_status reduce(struct layers *layers, float *values, size_t count, tutti_op op, tutti_stream stream)
{
    const tutti_call how = {.struct_bytes = sizeof(how), .stream = stream, .lane = layers->lane};
    return tutti_all_reduce(layers->comm, values, values, count, TUTTI_F32, op, &how);
}

static tutti_status enqueue(struct layers *layers, enum layers_segment which, size_t rows, tutti_stream stream)
{
    static const tutti_host_function first[] = {ids_look_up,    embeddings_take, scale_find,     attend,
                                                experts_before, local_work,      constant_before};
    struct layers_call *call = argument(layers, rows);
    tutti_status status = tutti_host_enqueue(stream, first[which], call);
    if (status == TUTTI_OK && which == LAYERS_DENSE) {
        status = reduce(layers, &layers->scale, 1, TUTTI_MAX, stream);
        status = status == TUTTI_OK ? tutti_host_enqueue(stream, dense_before, call) : status;
    }
    if (status == TUTTI_OK && (which == LAYERS_DENSE || which == LAYERS_EXPERTS)) {
        status = reduce(layers, layers->partial, rows * WIDTH, TUTTI_SUM, stream);
        tutti_host_function after = which == LAYERS_DENSE ? dense_after : experts_after;
        status = status == TUTTI_OK ? tutti_host_enqueue(stream, after, call) : status;
    }
    if (status == TUTTI_OK && which == LAYERS_CONSTANT) {
        status = reduce(layers, layers->fixed, LAYERS_FIXED, TUTTI_SUM, stream);
    }
    return status;
}

static tutti_status told(struct layers *layers, enum layers_segment which, size_t rows, tutti_stream stream)
{
    CHECK(rows <= layers->rows_max, "a segment is called for %zu rows of %zu", rows, layers->rows_max);
    layers->calls[which]++;
    layers->widest[which] = rows > layers->widest[which] ? rows : layers->widest[which];
    if (layers->spy != NULL) {
        layers->spy(layers, true);
    }
    tutti_status status = enqueue(layers, which, rows, stream);
    if (layers->spy != NULL) {
        layers->spy(layers, false);
    }
    return status;
}

#define CALLBACK(name, which)                                                                                          \
    static tutti_status name(void *user, size_t rows, tutti_stream stream)                                             \
    {                                                                                                                  \
        return told(user, which, rows, stream);                                                                        \
    }

CALLBACK(ids, LAYERS_IDS)
CALLBACK(embeddings, LAYERS_EMBEDDINGS)
CALLBACK(dense, LAYERS_DENSE)
CALLBACK(attention, LAYERS_ATTENTION)
CALLBACK(experts, LAYERS_EXPERTS)
CALLBACK(local, LAYERS_LOCAL)
CALLBACK(constant, LAYERS_CONSTANT)

static void segments_add(struct layers *layers)
{
    static const struct {
        const char *name;
        tutti_segment_fn fn;
    } all[LAYERS_SEGMENTS] = {
        {"ids", ids},         {"embeddings", embeddings}, {"dense", dense},      {"attention", attention},
        {"experts", experts}, {"local", local},           {"constant", constant}};
    const size_t row_bytes = WIDTH * sizeof(float);
    const tutti_padded of_ids = {layers->ids, sizeof(int32_t), 0};
    const tutti_padded of_embeddings = {layers->embedded, row_bytes, row_bytes};
    const tutti_padded of_hidden = {layers->hidden, row_bytes, 0};
    const tutti_padded *const padded[LAYERS_SEGMENTS] = {&of_ids, &of_embeddings, &of_hidden, NULL, &of_hidden};
    for (int which = 0; which < LAYERS_SEGMENTS; which++) {
        int index = -1;
        const tutti_segment segment = {.struct_bytes = sizeof(segment),
                                       .name = all[which].name,
                                       .fn = all[which].fn,
                                       .user = layers,
                                       .flags = which == LAYERS_ATTENTION ? TUTTI_SEGMENT_EAGER : 0,
                                       .padded = padded[which],
                                       .padded_count = padded[which] != NULL,
                                       .fixed_rows = which == LAYERS_CONSTANT ? LAYERS_FIXED : 0};
        CHECK_OK(tutti_runner_segment(layers->runner, &segment, &index));
        CHECK(index == which, "segment %d is %d", which, index);
    }
}

void layers_open(struct layers *layers, tutti_comm *comm, int rank, int world, uint32_t lane, size_t rows_max,
                 const tutti_runner_options *options)
{
    memset(layers, 0, sizeof(*layers));
    layers->rank = rank;
    layers->world = world;
    layers->rows_max = rows_max;
    layers->comm = comm;
    layers->lane = lane;
    layers->ids = calloc(rows_max, sizeof(int32_t));
    layers->embedded = calloc(3 * rows_max * WIDTH, sizeof(float));
    CHECK(layers->ids != NULL && layers->embedded != NULL, "rank %d is out of memory", rank);
    layers->hidden = layers->embedded + rows_max * WIDTH;
    layers->partial = layers->hidden + rows_max * WIDTH;
    CHECK_OK(tutti_host_stream_create(&layers->stream));
    CHECK_OK(tutti_runner_create(comm, options, &layers->runner));
    segments_add(layers);
}

void layers_open_plain(struct layers *layers, tutti_comm *comm, int rank, int world, uint32_t lane, size_t rows_max)
{
    static const size_t one = 1;
    const tutti_runner_options options = {
        .struct_bytes = sizeof(options), .name = "plain", .buckets = &one, .bucket_count = 1};
    layers_open(layers, comm, rank, world, lane, rows_max, &options);
}

void layers_close(struct layers *layers)
{
    CHECK_OK(tutti_runner_finish(layers->runner, layers->stream));
    tutti_host_stream_destroy(layers->stream);
    tutti_runner_destroy(layers->runner);
    while (layers->arguments != NULL) {
        struct layers_call *next = layers->arguments->next;
        free(layers->arguments);
        layers->arguments = next;
    }
    free(layers->embedded);
    free(layers->ids);
}

/* -- runs ------------------------------------------------------------------------------------------------------------------ */

void layers_fill(struct layers *layers, size_t rows, int step)
{
    uint64_t state = (uint64_t)step;
    poison(layers->embedded, 3 * layers->rows_max * WIDTH, layers->poison);
    for (size_t row = 0; row < layers->rows_max; row++) {
        layers->ids[row] = row < rows ? (int32_t)(ranks_random(&state) % VOCABULARY)
                                      : (layers->poison == LAYERS_ZERO ? 0 : INT32_MIN + (int32_t)row);
    }
    for (size_t index = 0; index < rows * WIDTH; index++) {
        layers->embedded[index] = (float)(ranks_random(&state) % 20011) / 10007.0f - 1.0f;
    }
}

static tutti_status enter_all(const struct layers *layers, bool by_ids)
{
    const int order[] = {by_ids ? LAYERS_IDS : LAYERS_EMBEDDINGS,
                         LAYERS_DENSE,
                         LAYERS_ATTENTION,
                         LAYERS_EXPERTS,
                         LAYERS_LOCAL,
                         LAYERS_DENSE,
                         LAYERS_ATTENTION,
                         LAYERS_EXPERTS,
                         LAYERS_LOCAL,
                         LAYERS_CONSTANT};
    tutti_status status = TUTTI_OK;
    for (size_t at = 0; at < sizeof(order) / sizeof(order[0]) && status == TUTTI_OK; at++) {
        status = tutti_runner_enter(layers->runner, order[at]);
    }
    return status;
}

void layers_run(struct layers *layers, size_t rows, bool by_ids)
{
    CHECK_OK(tutti_runner_begin(layers->runner, rows, layers->stream));
    CHECK_OK(enter_all(layers, by_ids));
    CHECK_OK(tutti_runner_end(layers->runner));
    CHECK_OK(tutti_runner_finish(layers->runner, layers->stream));
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

int layers_differ(struct layers *layers, struct layers *plain, size_t rows, int step)
{
    int wrong = 0;
    layers_fill(layers, rows, step);
    layers_fill(plain, rows, step);
    layers_run(layers, rows, step % 2 == 0);
    layers_run(plain, rows, step % 2 == 0);
    for (size_t index = 0; index < rows * WIDTH; index++) {
        wrong += bits_of(layers->hidden[index]) != bits_of(plain->hidden[index]) || !isfinite(layers->hidden[index]);
    }
    uint64_t ranks = (uint64_t)layers->world;
    uint64_t weights = ranks * (ranks + 1) / 2;
    for (uint64_t index = 0; index < LAYERS_FIXED; index++) {
        wrong += layers->fixed[index] != (float)((layers->fixed_runs - 1) * weights + index * ranks);
    }
    return wrong;
}

tutti_runner_stats_t layers_stats(const struct layers *layers)
{
    tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_runner_stats(layers->runner, &stats));
    return stats;
}

tutti_runner_bucket_t layers_bucket(const struct layers *layers, size_t rows)
{
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket), .rows = rows + 1};
    for (size_t index = 0; bucket.rows != rows; index++) {
        CHECK_OK(tutti_runner_bucket(layers->runner, index, &bucket));
    }
    return bucket;
}
