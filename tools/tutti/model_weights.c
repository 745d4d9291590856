/* SPDX-License-Identifier: Apache-2.0 */
#include "model_weights.h"

#include <math.h>
#include <stdlib.h>

#define GOLDEN 0x9e3779b97f4a7c15u
#define STEPS (2 * EXACT_WEIGHT_MAX + 1)

/* Standard deviation of an integer that is uniform on -7..7. */
#define EXACT_WEIGHT_SPREAD 4.3204938f

static uint64_t row_key(enum tensor tensor, int layer, size_t row)
{
    uint64_t name = (uint64_t)layer * TENSOR_COUNT * 2 + (uint64_t)tensor;
    return weights_mix((name + 1) * GOLDEN) + (uint64_t)row * 0xd1342543de82ef95u;
}

/* Exact: eight weights from each 64-bit word, integers -7..7 times `unit`. */
static void fill_row_exact(float *out, uint64_t key, size_t column, size_t columns, float unit)
{
    uint64_t word = 0;
    for (size_t i = 0; i < columns; i++) {
        size_t global = column + i;
        if (i == 0 || global % 8 == 0) {
            word = weights_mix(key + (global / 8 + 1) * GOLDEN);
        }
        int byte = (int)(word >> (global % 8 * 8) & 0xff);
        out[i] = (float)((byte * STEPS >> 8) - EXACT_WEIGHT_MAX) * unit;
    }
}

/* Real: four weights from each word, uniform with the same spread. */
static void fill_row_real(float *out, uint64_t key, size_t column, size_t columns, float unit)
{
    const float reach = unit * EXACT_WEIGHT_SPREAD * 1.7320508f / 32768.0f;
    uint64_t word = 0;
    for (size_t i = 0; i < columns; i++) {
        size_t global = column + i;
        if (i == 0 || global % 4 == 0) {
            word = weights_mix(key + (global / 4 + 1) * GOLDEN);
        }
        int half = (int)(word >> (global % 4 * 16) & 0xffff);
        out[i] = ((float)half - 32767.5f) * reach;
    }
}

bool weights_fill(struct matrix *out, size_t first, enum tensor tensor, int layer, struct weights_cut cut, int inner,
                  int louder, enum numerics numerics)
{
    int shift = (int)lrintf(log2f(sqrtf((float)inner) * EXACT_WEIGHT_SPREAD)) - louder;
    float unit = ldexpf(1.0f, -shift);
    float *line = matrix_floats(cut.columns);
    if (line == NULL) {
        return false;
    }
    for (size_t r = 0; r < cut.rows; r++) {
        uint64_t key = row_key(tensor, layer, cut.row + r);
        if (numerics == NUMERICS_EXACT) {
            fill_row_exact(line, key, cut.column, cut.columns, unit);
        } else {
            fill_row_real(line, key, cut.column, cut.columns, unit);
        }
        matrix_put(out, r, first, line, cut.columns);
    }
    free(line);
    return true;
}

void weights_embedding(float *out, int token, int hidden, enum numerics numerics)
{
    uint64_t key = row_key(TENSOR_EMBEDDING, 0, (size_t)token);
    if (numerics == NUMERICS_EXACT) {
        fill_row_exact(out, key, 0, (size_t)hidden, 0.25f);
    } else {
        fill_row_real(out, key, 0, (size_t)hidden, 0.25f);
    }
}

void weights_gains(float *out, enum tensor tensor, int layer, int count)
{
    uint64_t key = row_key(tensor, layer, 0);
    for (int i = 0; i < count; i++) {
        int byte = (int)(weights_mix(key + ((uint64_t)i + 1) * GOLDEN) & 0xff);
        out[i] = 1.0f + (float)(byte - 128) / 512.0f;
    }
}
