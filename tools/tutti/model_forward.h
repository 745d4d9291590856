/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_forward.h - one forward pass as a sequence of stream operations.
 *
 * A pass is enqueued once per step when serving eagerly, or once in a capture and then replayed: the code is the
 * same. What changes from step to step (tokens, positions, slots, how many rows are real) is read from fixed
 * buffers when the operations run.
 */
#ifndef TUTTI_TOOL_MODEL_FORWARD_H
#define TUTTI_TOOL_MODEL_FORWARD_H

#include <stdint.h>

#include "model.h"
#include "model_kv.h"
#include "tutti/host.h"

/* What a step computes; written by the engine before it enqueues or launches. Rows at and past `real_rows` are
 * padding: whatever stands there, real rows do not see it. */
struct forward_inputs {
    uint32_t real_rows, real_picks;
    int32_t *tokens;    /* [rows_max] */
    int32_t *positions; /* [rows_max] */
    int32_t *slots;     /* [rows_max]: slot of the KV cache */
    int32_t *picks;     /* [picks_max]: rows whose next token is wanted */
    uint8_t *embedded;  /* [rows_max]: take the row of `embeddings` instead of looking the token up */
    float *embeddings;  /* [rows_max][hidden] */
};

/* What came out for each picked row. */
struct forward_pick {
    int32_t token; /* the largest logit's, the lowest index among equals */
    float margin;  /* its distance to the second largest */
    uint64_t hash; /* of all logits' bits */
};

struct forward_outputs {
    struct forward_pick *picks; /* [picks_max] */
    const float *logits;        /* [picks_max][logits_stride], identical on all ranks */
};

struct forward {
    const struct model *model;
    const struct kv_cache *kv;
    tutti_comm *comm;
    int rows_max, picks_max;
    size_t logits_stride; /* padded vocabulary */
    struct forward_inputs inputs;
    struct forward_outputs outputs;
    /* Scratch: between two steps nothing in it means anything. */
    float *hidden, *normed, *qkv, *attended, *gate_up, *activated, *partial, *picked, *shard, *logits, *scores;
    uint16_t *wire; /* bf16, in real numerics */
};

/* False if memory ran out; nothing is left then. Borrows model, kv and comm. */
bool forward_create(struct forward *forward, const struct model *model, const struct kv_cache *kv, tutti_comm *comm,
                    int rows_max, int picks_max, int positions_max);
void forward_destroy(struct forward *forward);

/* Overwrites everything that nobody may read between two steps: all scratch with NaN, and input rows that are
 * not real with indices that lead nowhere. */
void forward_poison(struct forward *forward);

/* A pass over a fixed number of rows: the arguments of its stream operations. */
struct forward_plan;

/* `rows` <= rows_max, `picks` <= picks_max (0: no logits). NULL if memory ran out. Must outlive its enqueued work
 * and the graphs it was captured into. */
struct forward_plan *forward_plan_create(struct forward *forward, int rows, int picks);
void forward_plan_destroy(struct forward_plan *plan);

/* Reuses a plan for another size; its earlier work must have completed, and must not have been captured. */
void forward_plan_resize(struct forward_plan *plan, int rows, int picks);

/* Enqueues, or captures, the whole pass. On failure some of it may have been enqueued. */
tutti_status forward_plan_enqueue(struct forward_plan *plan, tutti_host_stream *stream);

#endif
