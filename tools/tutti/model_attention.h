/* SPDX-License-Identifier: Apache-2.0 */
/* model_attention.h - attention of one query over one head's cached keys and values. */
#ifndef TUTTI_TOOL_MODEL_ATTENTION_H
#define TUTTI_TOOL_MODEL_ATTENTION_H

#include <stddef.h>

struct attention_head {
    const float *query;  /* [head_dim] */
    const float *keys;   /* [head_dim][capacity] */
    const float *values; /* [capacity][head_dim] */
    size_t head_dim;     /* a multiple of 16 */
    size_t capacity;
    size_t length; /* positions 0 .. length-1 are seen */
    float scale;   /* of query . key before softmax */
    float *scores; /* scratch, [length] */
    float *out;    /* [head_dim] */
};

/* The same bits for the same inputs on any machine and any SIMD width: every sum has one fixed order. */
void attention_head(const struct attention_head *head);

#endif
