/* SPDX-License-Identifier: Apache-2.0 */
/* model_shape.h - the transformers that `tutti run` can serve, by name. */
#ifndef TUTTI_TOOL_MODEL_SHAPE_H
#define TUTTI_TOOL_MODEL_SHAPE_H

#include <stdbool.h>
#include <stddef.h>

struct model_shape {
    const char *name;
    int layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
    float rope_theta, norm_eps;
    bool qk_norm;     /* RMSNorm of each query and key head before RoPE (Qwen3) */
    int experts, top; /* a mixture of `experts` MLPs of `ffn` columns each, `top` of which serve a row; 0: one MLP */
};

/* NULL if no shape has this name. Static storage. */
const struct model_shape *model_shape_find(const char *name);

/* "tiny, llama-160m, ..." Static storage. */
const char *model_shape_names(void);

/* Whether `world` ranks can share the shape evenly; if not, one sentence in `why`. */
bool model_shape_divides(const struct model_shape *shape, int world, char *why, size_t why_bytes);

/* The largest world <= `world` that divides the shape; at least 1. */
int model_shape_world_below(const struct model_shape *shape, int world);

/* Bytes of the weights all ranks hold together, where an expert's weight takes so many. */
size_t model_shape_weight_bytes(const struct model_shape *shape, size_t expert_weight_bytes);

/* Bytes of keys and values that all ranks hold together for one token. */
size_t model_shape_kv_bytes(const struct model_shape *shape);

#endif
