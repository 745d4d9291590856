/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - one rank's shard of a decoder-only transformer: what it owns of every weight. */
#ifndef TUTTI_TOOL_MODEL_H
#define TUTTI_TOOL_MODEL_H

#include "model_matrix.h"
#include "model_numerics.h"
#include "model_shape.h"

struct compute;

/* Everything a pointer leads to is in the computer's memory. */
struct layer_weights {
    float *norm_attention, *norm_mlp; /* [hidden], whole on every rank */
    float *norm_query, *norm_key;     /* [head_dim], NULL without qk_norm */
    struct matrix query_key_value;    /* hidden to (heads + 2 * kv_heads) * head_dim: this rank's columns of each */
    struct matrix output;             /* heads * head_dim to hidden: this rank's inputs */
    struct matrix gate_up;            /* hidden to 2 * ffn: this rank's columns of each, gate first */
    struct matrix down;               /* ffn to hidden: this rank's inputs */
    /* In their place, in a mixture of experts: */
    struct matrix router; /* hidden to experts, whole on every rank */
    struct matrix_stack experts_gate_up, experts_down;
};

struct model {
    struct compute *compute; /* borrowed */
    struct model_shape shape;
    enum numerics numerics;
    int rank, world;
    int heads, kv_heads, ffn; /* of this rank */
    int vocab_columns;        /* of this rank; the vocabulary is padded to world * vocab_columns */
    struct layer_weights *layers;
    float *norm_final;
    struct matrix head;         /* hidden to vocab_columns; columns past the vocabulary are zero */
    int positions;              /* how many positions RoPE's tables hold */
    float *rope_cos, *rope_sin; /* [positions][head_dim / 2] */
};

/* Rank `rank` of `world`'s shard, for sequences of up to `positions` tokens. NULL, with the computer's sentence, if
 * memory ran out. The caller destroys it, before the computer. */
struct model *model_create(struct compute *compute, const struct model_shape *shape, enum numerics numerics, int rank,
                           int world, int positions);

/* NULL is allowed. */
void model_destroy(struct model *model);

#endif
