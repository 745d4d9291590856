/* SPDX-License-Identifier: Apache-2.0 */
/* model_rows.h - the row-wise parts of a forward pass; every rank runs them alike. */
#ifndef TUTTI_TOOL_MODEL_ROWS_H
#define TUTTI_TOOL_MODEL_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "model_numerics.h"

/* How fine the grids of the products' inputs are (steps per unit) in exact numerics. */
#define GRID_NORMED 32.0f   /* spread 1, reaches +-4 */
#define GRID_ATTENDED 64.0f /* averages of values: reaches +-2 */
#define GRID_ACTIVATED 32.0f
#define GRID_ROUTED 256.0f /* activated, times the weight of the expert: reaches +-1/2 */

/* out = in / rms(in) * gains, put on the grid if `grid` > 0. out may be in. */
void rows_norm(const float *in, float *out, const float *gains, size_t count, float epsilon, float grid);

/* Rotates the pairs (i, i + half) of one head. */
void rows_rope(float *head, const float *cosines, const float *sines, size_t half);

/* out[i] = silu(gate[i]) * up[i], put on the grid if `grid` > 0. */
void rows_swiglu(const float *gate, const float *up, float *out, size_t count, float grid);

/* Likewise times `weight`. */
void rows_swiglu_weighted(const float *gate, const float *up, float *out, size_t count, float weight, float grid);

/* values on the grid, in place. */
void rows_quantise(float *values, size_t count, float grid);

/* hidden += addend. */
void rows_add(float *hidden, const float *addend, size_t count);
void rows_add_bf16(float *hidden, const uint16_t *addend, size_t count);
void rows_to_bf16(const float *in, uint16_t *out, size_t count);

/* What came out for a row whose next token is wanted. */
struct rows_pick {
    int32_t token; /* the largest logit's, the lowest index among equals */
    float
        margin; /* its distance to the second largest; NaN if any logit is, so that a run that computes nothing but NaN does
                      not pass for one that agrees with another */
    uint64_t hash; /* changes whenever a bit of a logit does */
};

struct rows_pick rows_pick(const float *logits, size_t count);

/* One logit's part of the hash, which is the sum of all: any order of adding will do. */
NUMERICS_INLINE uint64_t rows_hash_part(size_t index, uint32_t bits)
{
    uint64_t word = ((uint64_t)index << 32 | bits) * 0x9e3779b97f4a7c15u;
    word = (word ^ (word >> 29)) * 0xbf58476d1ce4e5b9u;
    return word ^ (word >> 32);
}

#endif
