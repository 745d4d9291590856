/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_forward.h - one forward pass as a sequence of stream operations.
 *
 * A pass is enqueued once per step when serving eagerly, or once in a capture and then replayed: the code is the
 * same. What changes from step to step (tokens, positions, slots, how many rows are real) is read from fixed
 * buffers when the operations run. What they are stands in model_plan.c, who carries them out in compute.h.
 */
#ifndef TUTTI_TOOL_MODEL_FORWARD_H
#define TUTTI_TOOL_MODEL_FORWARD_H

#include <stdint.h>

#include "compute.h"
#include "model.h"
#include "model_experts.h"
#include "model_kv.h"
#include "model_rows.h"
#include "tutti/tutti.h"

/* What a step computes; written by the engine, in the host's memory, before it enqueues or launches. Rows at and past `real_rows`
 * are padding: whatever stands there, real rows do not see it. The work itself does not go by these two numbers but by its plan's. */
struct forward_inputs {
    uint32_t real_rows, real_picks;
    int32_t *tokens;    /* [rows_max] */
    int32_t *positions; /* [rows_max] */
    int32_t *slots;     /* [rows_max]: slot of the KV cache */
    int32_t *lines;     /* [rows_max]: of the route log */
    int32_t *picks;     /* [picks_max]: rows whose next token is wanted */
    uint8_t *embedded;  /* [rows_max]: take the row of `embeddings` instead of looking the token up */
    float *embeddings;  /* [rows_max][hidden] */
};

/* In the host's memory, once the stream's work has completed. */
struct forward_outputs {
    struct rows_pick *picks; /* [picks_max]: what came out for each picked row */
    const float *logits;     /* [picks_max][logits_stride], identical on all ranks; NULL if only a GPU has them */
};

/* Where the values lie that the ranks reduce. */
enum forward_exchange {
    EXCHANGE_SYMMETRIC, /* tutti_alloc's memory: large reductions are direct on GPUs, eager ones as well */
    EXCHANGE_PLAIN,     /* as all other scratch */
    EXCHANGE_PAGES,     /* its pages may be replaced between two steps */
    EXCHANGE_SECRET     /* likewise, and no peer can be given them */
};

struct forward {
    const struct model *model;
    const struct kv_cache *kv;
    tutti_comm *comm;
    int rows_max, picks_max, positions_max;
    size_t logits_stride; /* padded vocabulary */
    struct forward_inputs inputs;
    struct forward_outputs outputs;
    void *attached; /* the computer's */
    enum forward_exchange exchange;
    struct compute_pages pages; /* of the last two kinds of exchange; holds partial and wire */
    /* Scratch in the computer's memory: between two steps nothing in it means anything. */
    float *hidden, *normed, *qkv, *attended, *gate_up, *activated, *partial, *picked, *shard, *logits, *scores;
    uint16_t *wire;    /* bf16, in real numerics; in */
    float *wire_words; /* this memory */
    /* Likewise, of a mixture of experts: the routing is experts_work_in() of all rows' pairs. */
    float *router_logits, *routing, *expert_out; /* expert_out: [rows_max * top][hidden] */
    /* [tokens][layers][top], in the host's memory: the experts of each token of the trace. NULL: routing is by the router alone.
     * Where sums are rounded, two experts that are nearly level change places, and what follows is another text; so the one-rank
     * run notes its experts there, and the ranks are given them as they are given its tokens. The weights are their own. */
    int16_t *route_log;
    bool routes_given;
};

/* How large a pass can be, */
struct forward_limits {
    int rows_max, picks_max, positions_max;
    enum forward_exchange exchange; /* and what kind of memory; symmetric makes the creation [collective] */
    int16_t *route_log;             /* or NULL; see struct forward */
    bool routes_given;
};

/* False, with the computer's sentence, if memory ran out; nothing is left then, but what was allocated together, which goes with
 * the communicator. Borrows model, kv and comm. */
bool forward_create(struct forward *forward, const struct model *model, const struct kv_cache *kv, tutti_comm *comm,
                    const struct forward_limits *limits);
void forward_destroy(struct forward *forward);

/* Overwrites everything that nobody may read between two steps: all scratch with NaN, and input rows that are
 * not real with indices that lead nowhere. */
void forward_poison(struct forward *forward);

enum forward_kind {
    FORWARD_EMBED,       /* hidden = embeddings of the tokens */
    FORWARD_NORM,        /* normed = norm(hidden) */
    FORWARD_PRODUCT,     /* out = in * matrix, of all rows or of the picked ones */
    FORWARD_CACHE,       /* norm (Qwen3) and RoPE of queries and keys; keys and values into the cache */
    FORWARD_ATTEND,      /* attended = attention of qkv's queries over the cache */
    FORWARD_SWIGLU,      /* activated = silu(gate) * up */
    FORWARD_ROUTE,       /* routing = the experts of each real row, by router_logits */
    FORWARD_EXPERTS,     /* activated = silu(gate) * up * the route's weight, of each pair */
    FORWARD_EXPERTS_SUM, /* partial = the sum of the rows' pairs' down products; padding: 0 */
    FORWARD_TO_WIRE,     /* wire = partial as bf16 */
    FORWARD_ADD,         /* hidden += partial, or wire */
    FORWARD_NORM_PICKED, /* picked = norm(hidden) of the picked rows */
    FORWARD_PICK,        /* outputs = best token, margin and hash of each picked row's logits */
    FORWARD_COMPUTED,    /* those above are a computer's, those below collectives */
    FORWARD_ALL_REDUCE = FORWARD_COMPUTED, /* partial, or wire, summed over the ranks */
    FORWARD_GATHER                         /* logits = the ranks' shards side by side */
};

struct forward_plan;

struct forward_step {
    const struct forward_plan *plan;
    enum forward_kind kind;
    int layer;                   /* of CACHE, ATTEND, ROUTE and EXPERTS* */
    const float *gains;          /* of norms */
    const struct matrix *matrix; /* of products, */
    const float *in;             /* with what they read */
    float *out;                  /* and write, */
};

/*
 * A pass over a fixed number of rows, in pieces: dense ones, of products, norms and the ranks' sums, and between them the
 * attention of each layer; the last one is the head, which works on picked rows only.
 *
 *   0 embedding, up to layer 0's queries    1 attention of layer 0    2 the rest of it, up to layer 1's queries    ...    2 * layers + 1 head
 *
 * Who runs the head by itself makes a plan for it whose rows are picks.
 */
struct forward_plan {
    struct forward *forward;
    int rows;             /* padding included */
    const uint32_t *real; /* in the computer's memory: how many of them are real, when the work runs. Borrowed */
    int step_count, piece_count;
    struct forward_step *steps;
    int *ends; /* [piece_count]: the step behind each piece */
};

/* `rows` <= rows_max, and <= picks_max if the head is enqueued. NULL if memory ran out. Must outlive its enqueued work and the
 * graphs it was captured into; `rows` may be changed when there is none. */
struct forward_plan *forward_plan_create(struct forward *forward, const uint32_t *real, int rows);
void forward_plan_destroy(struct forward_plan *plan); /* NULL is allowed */

/* Enqueues, or captures, `count` pieces from `first` on. On failure some of it may have been enqueued, and the computer has the
 * sentence. */
tutti_status forward_plan_enqueue(const struct forward_plan *plan, int first, int count, tutti_stream stream);

/* How many experts a line of the route log has, of all layers. */
static inline size_t forward_line_width(const struct forward *forward)
{
    return (size_t)forward->model->shape.layers * (size_t)forward->model->shape.top;
}

/* How many (row, expert) pairs `rows` rows make. */
static inline size_t forward_pairs(const struct forward *forward, size_t rows)
{
    return rows * (size_t)forward->model->shape.top;
}

/* The grid that a kind of values is put on; 0 in real numerics: none. */
static inline float forward_grid(const struct forward *forward, float grid)
{
    return forward->model->numerics == NUMERICS_EXACT ? grid : 0.0f;
}

#endif
