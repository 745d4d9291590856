/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_weights.h - weights as a function of (tensor, global row, global column).
 *
 * Nothing is loaded and nothing is sent: every rank computes its own shard, and every sharding sees the same model.
 */
#ifndef TUTTI_TOOL_MODEL_WEIGHTS_H
#define TUTTI_TOOL_MODEL_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "model_matrix.h"
#include "model_numerics.h"

enum tensor {
    TENSOR_QUERY,
    TENSOR_KEY,
    TENSOR_VALUE,
    TENSOR_OUTPUT,
    TENSOR_GATE,
    TENSOR_UP,
    TENSOR_DOWN,
    TENSOR_NORM_ATTENTION,
    TENSOR_NORM_MLP,
    TENSOR_NORM_QUERY,
    TENSOR_NORM_KEY,
    TENSOR_COUNT, /* per layer; those below belong to no layer */
    TENSOR_EMBEDDING = TENSOR_COUNT,
    TENSOR_HEAD,
    TENSOR_NORM_FINAL,
    TENSOR_ROUTER /* per layer again: the others' numbers, and so their weights, stay as they were */
};

/* A rectangle of a tensor: input rows [row, row + rows), output columns [column, column + columns). */
struct weights_cut {
    size_t row, rows, column, columns;
};

/* What weights a matrix gets. The tensor has `inner` inputs in all, which sets the scale: outputs have a spread of about 1
 * for inputs of spread 1, times 2^louder. */
struct weights_source {
    enum tensor tensor;
    int layer;
    struct weights_cut cut;
    int inner, louder;
    enum numerics numerics;
};

/* The same tensor of each expert of a layer; rows `pitch` apart make one tall tensor of them. What they multiply is kept as bf16 on
 * GPUs, so the weights are rounded to it everywhere; exact ones are left as they are by that. */
struct weights_stack {
    struct weights_source source; /* of the first */
    size_t pitch;
};

/* One step of the tensor's weights. */
float weights_unit(const struct weights_source *source);

/* Writes the cut into `out`, whose inputs are the cut's rows, at output columns from `first` on. False if memory ran
 * out. */
bool weights_fill(struct matrix *out, size_t first, const struct weights_source *source);

/* Likewise all matrices of a stack. */
bool weights_fill_stack(const struct matrix_stack *out, size_t first, const struct weights_stack *stack);

/* One embedding row: `hidden` floats. */
void weights_embedding(float *out, int token, int hidden, enum numerics numerics);

/* Gains of an RMSNorm, in [0.75, 1.25). */
void weights_gains(float *out, enum tensor tensor, int layer, int count);

/* -- one weight, for host and kernels ------------------------------------------------------------- */

#define WEIGHTS_GOLDEN 0x9e3779b97f4a7c15u
#define WEIGHTS_STEPS (2 * EXACT_WEIGHT_MAX + 1)
#define WEIGHTS_EXACT_PER_WORD 8
#define WEIGHTS_REAL_PER_WORD 4

/* Standard deviation of an integer that is uniform on -7..7. */
#define WEIGHTS_SPREAD 4.3204938f

/* What an embedding's weights are multiples of. */
#define WEIGHTS_EMBEDDING_UNIT 0.25f

/* The generator behind all of it (splitmix64's finaliser). */
NUMERICS_INLINE uint64_t weights_mix(uint64_t word)
{
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

/* Names a row of a tensor. */
NUMERICS_INLINE uint64_t weights_key(enum tensor tensor, int layer, size_t row)
{
    uint64_t name = (uint64_t)layer * TENSOR_COUNT * 2 + (uint64_t)tensor;
    return weights_mix((name + 1) * WEIGHTS_GOLDEN) + (uint64_t)row * 0xd1342543de82ef95u;
}

/* The word that holds a row's weights [index * per_word, (index + 1) * per_word). */
NUMERICS_INLINE uint64_t weights_word(uint64_t key, size_t index)
{
    return weights_mix(key + (index + 1) * WEIGHTS_GOLDEN);
}

/* Exact: eight weights in a word, integers -7..7 times `unit`. */
NUMERICS_INLINE float weights_exact(uint64_t word, size_t column, float unit)
{
    int byte = (int)(word >> (column % WEIGHTS_EXACT_PER_WORD * 8) & 0xff);
    return (float)((byte * WEIGHTS_STEPS >> 8) - EXACT_WEIGHT_MAX) * unit;
}

/* Real: four weights in a word, uniform with the same spread. */
NUMERICS_INLINE float weights_real(uint64_t word, size_t column, float unit)
{
    const float reach = unit * WEIGHTS_SPREAD * 1.7320508f / 32768.0f;
    int half = (int)(word >> (column % WEIGHTS_REAL_PER_WORD * 16) & 0xffff);
    return ((float)half - 32767.5f) * reach;
}

#endif
