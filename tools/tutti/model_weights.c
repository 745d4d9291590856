/* SPDX-License-Identifier: Apache-2.0 */
#include "model_weights.h"

#include <math.h>
#include <stdlib.h>

/* One word serves the columns that lie in it. */
static void fill_row_exact(float *out, uint64_t key, size_t column, size_t columns, float unit)
{
    uint64_t word = 0;
    for (size_t i = 0; i < columns; i++) {
        size_t global = column + i;
        if (i == 0 || global % WEIGHTS_EXACT_PER_WORD == 0) {
            word = weights_word(key, global / WEIGHTS_EXACT_PER_WORD);
        }
        out[i] = weights_exact(word, global, unit);
    }
}

static void fill_row_real(float *out, uint64_t key, size_t column, size_t columns, float unit)
{
    uint64_t word = 0;
    for (size_t i = 0; i < columns; i++) {
        size_t global = column + i;
        if (i == 0 || global % WEIGHTS_REAL_PER_WORD == 0) {
            word = weights_word(key, global / WEIGHTS_REAL_PER_WORD);
        }
        out[i] = weights_real(word, global, unit);
    }
}

float weights_unit(const struct weights_source *source)
{
    int shift = (int)lrintf(log2f(sqrtf((float)source->inner) * WEIGHTS_SPREAD)) - source->louder;
    return ldexpf(1.0f, -shift);
}

static void round_to_bf16(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        values[i] = numerics_from_bf16(numerics_to_bf16(values[i]));
    }
}

static bool fill(struct matrix *out, size_t first, const struct weights_source *source, bool rounded)
{
    const struct weights_cut *cut = &source->cut;
    float unit = weights_unit(source);
    float *line = matrix_floats(cut->columns);
    if (line == NULL) {
        return false;
    }
    for (size_t r = 0; r < cut->rows; r++) {
        uint64_t key = weights_key(source->tensor, source->layer, cut->row + r);
        if (source->numerics == NUMERICS_EXACT) {
            fill_row_exact(line, key, cut->column, cut->columns, unit);
        } else {
            fill_row_real(line, key, cut->column, cut->columns, unit);
        }
        if (rounded) {
            round_to_bf16(line, cut->columns);
        }
        matrix_put(out, r, first, line, cut->columns);
    }
    free(line);
    return true;
}

bool weights_fill(struct matrix *out, size_t first, const struct weights_source *source)
{
    return fill(out, first, source, false);
}

bool weights_fill_stack(const struct matrix_stack *out, size_t first, const struct weights_stack *stack)
{
    struct weights_source source = stack->source;
    bool good = true;
    for (size_t i = 0; good && i < out->count; i++) {
        struct matrix matrix = matrix_stack_at(out, i);
        source.cut.row = stack->source.cut.row + i * stack->pitch;
        good = fill(&matrix, first, &source, true);
    }
    return good;
}

void weights_embedding(float *out, int token, int hidden, enum numerics numerics)
{
    uint64_t key = weights_key(TENSOR_EMBEDDING, 0, (size_t)token);
    if (numerics == NUMERICS_EXACT) {
        fill_row_exact(out, key, 0, (size_t)hidden, WEIGHTS_EMBEDDING_UNIT);
    } else {
        fill_row_real(out, key, 0, (size_t)hidden, WEIGHTS_EMBEDDING_UNIT);
    }
}

void weights_gains(float *out, enum tensor tensor, int layer, int count)
{
    uint64_t key = weights_key(tensor, layer, 0);
    for (int i = 0; i < count; i++) {
        int byte = (int)(weights_mix(key + ((uint64_t)i + 1) * WEIGHTS_GOLDEN) & 0xff);
        out[i] = 1.0f + (float)(byte - 128) / 512.0f;
    }
}
