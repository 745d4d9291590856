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
    TENSOR_NORM_FINAL
};

/* A rectangle of a tensor: input rows [row, row + rows), output columns [column, column + columns). */
struct weights_cut {
    size_t row, rows, column, columns;
};

/* Writes the cut into `out`, whose inputs are the cut's rows, at output columns from `first` on. The tensor has `inner`
 * inputs in all, which sets the scale: outputs have a spread of about 1 for inputs of spread 1, times 2^louder.
 * False if memory ran out. */
bool weights_fill(struct matrix *out, size_t first, enum tensor tensor, int layer, struct weights_cut cut, int inner,
                  int louder, enum numerics numerics);

/* One embedding row: `hidden` floats. */
void weights_embedding(float *out, int token, int hidden, enum numerics numerics);

/* Gains of an RMSNorm, in [0.75, 1.25). */
void weights_gains(float *out, enum tensor tensor, int layer, int count);

/* The generator behind all of it (splitmix64's finaliser). */
static inline uint64_t weights_mix(uint64_t word)
{
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

#endif
