/* SPDX-License-Identifier: Apache-2.0 */
/* compute_kernels.h - what the host tells the kernels of compute_kernels.cu: each takes one of these structs. */
#ifndef TUTTI_TOOL_COMPUTE_KERNELS_H
#define TUTTI_TOOL_COMPUTE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "model_experts.h"
#include "model_rows.h"
#include "model_weights.h"

/* Threads of every block, but for the two replay kernels, which have one block of many. */
#define KERNEL_THREADS 256
#define KERNEL_REPLAY_THREADS 1024

#define KERNEL_HEAD_DIM_MAX 256

/* Brought to the device by the pass itself, so that a replay sees the step's own. */
struct kernel_row {
    float *cache; /* of the row's request: kv_slot.data */
    uint32_t capacity;
    int32_t token, position;
    uint32_t embedded;
};

struct kernel_inputs {
    const uint32_t *real; /* how many of the pass's rows, or picks, are real */
    const struct kernel_row *rows;
    const int32_t *picks;
    const float *embeddings; /* page-locked host memory: few rows are read, and seldom */
};

struct kernel_fill {
    float *out; /* [cut.rows][outputs] */
    size_t outputs, first;
    struct weights_source source;
    float unit;
};

struct kernel_fill_stack {
    uint16_t *out; /* [count][outputs][cut.rows] */
    size_t outputs, first, count;
    struct weights_stack stack;
    float unit;
};

struct kernel_embed {
    struct kernel_inputs inputs;
    float *hidden;
    int width;
    enum numerics numerics;
};

struct kernel_norm {
    struct kernel_inputs inputs;
    const float *in, *gains;
    float *out;
    int width, picked; /* picked: row `block` of out is row picks[block] of in */
    float epsilon, grid;
};

struct kernel_cache {
    struct kernel_inputs inputs;
    float *qkv;
    const float *norm_query, *norm_key, *cosines, *sines; /* norms: NULL for none */
    int heads, kv_heads, head_dim, layer;
    float epsilon;
};

struct kernel_attend {
    struct kernel_inputs inputs;
    const float *qkv;
    float *out, *scores; /* scores: one vector a block */
    size_t positions_max;
    int heads, kv_heads, head_dim, layer;
    float scale, grid;
};

struct kernel_swiglu {
    const float *gate_up; /* [rows][2][width] */
    float *out;
    size_t rows, width;
    float grid;
};

struct kernel_route {
    const uint32_t *row_word;
    const float *logits; /* [rows][experts] */
    struct experts_work work;
    int rows, experts, top;
    const int16_t *given; /* [rows] lines of `line_width`, this layer's part; NULL: the router decides, */
    int16_t *noted;       /* and says what in page-locked host memory, if this is not NULL */
    size_t line_width;
};

/* A product of each pair's row and its expert's weights, [experts][outputs][inputs]. Blocks: tiles of columns (x), items (y). */
struct kernel_experts {
    struct experts_work work;
    const float *in;
    const uint16_t *weights;
    float *out;
    int inputs, outputs, top;
    int team;   /* this many threads share a column, a power of two, 32 at most */
    float grid; /* of what comes out */
};

struct kernel_experts_sum {
    const uint32_t *row_word;
    const float *in; /* [rows][top][width] */
    float *out;      /* [rows][width] */
    size_t rows, width;
    int top;
};

/* to_wire reads partial and writes wire; add reads wire, or partial if there is none. */
struct kernel_sum {
    float *hidden, *partial;
    uint16_t *wire;
    size_t count;
};

struct kernel_pick {
    struct kernel_inputs inputs;
    const float *logits;
    size_t stride;
    int vocab;
    struct rows_pick *out;
};

#endif
