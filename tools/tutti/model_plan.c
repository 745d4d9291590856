/* SPDX-License-Identifier: Apache-2.0 */
/* model_plan.c - the stream operations of a forward pass, in order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model_attention.h"
#include "model_forward.h"
#include "model_rows.h"
#include "model_weights.h"

/* Argument of one operation: which pass, which layer. */
struct plan_node {
    struct forward_plan *plan;
    int layer;
};

struct forward_plan {
    struct forward *forward;
    int rows, picks;
    struct plan_node *nodes; /* [layers + 1]; the last is for what belongs to no layer */
};

static float grid_of(const struct forward *forward, float grid)
{
    return forward->model->numerics == NUMERICS_EXACT ? grid : 0.0f;
}

static void node_embed(void *argument)
{
    const struct plan_node *node = argument;
    const struct forward *forward = node->plan->forward;
    const struct forward_inputs *inputs = &forward->inputs;
    size_t hidden = (size_t)forward->model->shape.hidden;
    for (size_t row = 0; row < inputs->real_rows; row++) {
        float *out = forward->hidden + row * hidden;
        if (inputs->embedded[row]) {
            memcpy(out, inputs->embeddings + row * hidden, hidden * sizeof(float));
        } else {
            weights_embedding(out, inputs->tokens[row], (int)hidden, forward->model->numerics);
        }
    }
}

/* hidden += what the last all-reduce brought; for all rows, also padding: as a device kernel would. */
static void add_reduced(const struct forward *forward, int rows)
{
    size_t count = (size_t)rows * (size_t)forward->model->shape.hidden;
    if (forward->model->numerics == NUMERICS_EXACT) {
        rows_add(forward->hidden, forward->partial, count);
    } else {
        rows_add_bf16(forward->hidden, forward->wire, count);
    }
}

static void norm_all(const struct forward *forward, int rows, const float *gains)
{
    size_t hidden = (size_t)forward->model->shape.hidden;
    for (size_t row = 0; row < (size_t)rows; row++) {
        rows_norm(forward->hidden + row * hidden, forward->normed + row * hidden, gains, hidden,
                  forward->model->shape.norm_eps, grid_of(forward, GRID_NORMED));
    }
}

static void node_query_key_value(void *argument)
{
    const struct plan_node *node = argument;
    const struct forward *forward = node->plan->forward;
    const struct model *model = forward->model;
    const struct layer_weights *layer = &model->layers[node->layer];
    int rows = node->plan->rows;
    if (node->layer > 0) {
        add_reduced(forward, rows);
    }
    norm_all(forward, rows, layer->norm_attention);
    matrix_multiply(&layer->query_key_value, forward->normed, forward->qkv, (size_t)rows);
}

/* Norm (Qwen3) and RoPE of `heads` heads that lie side by side. */
static void turn_heads(const struct model *model, float *first, int heads, const float *gains, size_t position)
{
    size_t head_dim = (size_t)model->shape.head_dim;
    size_t half = head_dim / 2;
    for (int head = 0; head < heads; head++) {
        float *values = first + (size_t)head * head_dim;
        if (gains != NULL) {
            rows_norm(values, values, gains, head_dim, model->shape.norm_eps, 0.0f);
        }
        rows_rope(values, model->rope_cos + position * half, model->rope_sin + position * half, half);
    }
}

/* Keys go into the cache transposed, values as they are. */
static void cache_row(const struct forward *forward, int layer, const float *keys, const float *values, int slot,
                      size_t position)
{
    const struct kv_cache *kv = forward->kv;
    size_t capacity = kv->slots[slot].capacity;
    for (int head = 0; head < forward->model->kv_heads; head++) {
        float *cached_keys = kv_keys(kv, slot, layer, head);
        for (size_t d = 0; d < kv->head_dim; d++) {
            cached_keys[d * capacity + position] = keys[(size_t)head * kv->head_dim + d];
        }
        memcpy(kv_values(kv, slot, layer, head) + position * kv->head_dim, values + (size_t)head * kv->head_dim,
               kv->head_dim * sizeof(float));
    }
}

static void attend_row(const struct forward *forward, int layer, const float *query, float *out, int slot,
                       size_t length)
{
    const struct model *model = forward->model;
    size_t head_dim = (size_t)model->shape.head_dim;
    int group = model->heads / model->kv_heads;
    struct attention_head attention = {
        .head_dim = head_dim,
        .capacity = forward->kv->slots[slot].capacity,
        .length = length,
        .scale = 1.0f / sqrtf((float)head_dim),
        .scores = forward->scores,
    };
    for (int head = 0; head < model->heads; head++) {
        attention.query = query + (size_t)head * head_dim;
        attention.keys = kv_keys(forward->kv, slot, layer, head / group);
        attention.values = kv_values(forward->kv, slot, layer, head / group);
        attention.out = out + (size_t)head * head_dim;
        attention_head(&attention);
    }
}

/* Rows of one request may follow each other in one pass (prefill), so all keys are cached first; a row sees its
 * own position and what came before. Lengths come from the inputs at run time: a captured pass serves any. */
static void node_attention(void *argument)
{
    const struct plan_node *node = argument;
    const struct forward *forward = node->plan->forward;
    const struct model *model = forward->model;
    const struct layer_weights *layer = &model->layers[node->layer];
    const struct forward_inputs *inputs = &forward->inputs;
    size_t head_dim = (size_t)model->shape.head_dim;
    size_t query_width = (size_t)model->heads * head_dim;
    size_t kv_width = (size_t)model->kv_heads * head_dim;
    size_t width = query_width + 2 * kv_width;
    for (size_t row = 0; row < inputs->real_rows; row++) {
        float *query = forward->qkv + row * width;
        size_t position = (size_t)inputs->positions[row];
        turn_heads(model, query, model->heads, layer->norm_query, position);
        turn_heads(model, query + query_width, model->kv_heads, layer->norm_key, position);
        cache_row(forward, node->layer, query + query_width, query + query_width + kv_width, inputs->slots[row],
                  position);
    }
    for (size_t row = 0; row < inputs->real_rows; row++) {
        attend_row(forward, node->layer, forward->qkv + row * width, forward->attended + row * query_width,
                   inputs->slots[row], (size_t)inputs->positions[row] + 1);
    }
    rows_quantise(forward->attended, inputs->real_rows * query_width, grid_of(forward, GRID_ATTENDED));
}

/* What the all-reduce sends: fp32 as it is, or bf16. */
static void prepare_wire(const struct forward *forward, int rows)
{
    if (forward->model->numerics == NUMERICS_REAL) {
        rows_to_bf16(forward->partial, forward->wire, (size_t)rows * (size_t)forward->model->shape.hidden);
    }
}

static void node_output(void *argument)
{
    const struct plan_node *node = argument;
    const struct forward *forward = node->plan->forward;
    const struct model *model = forward->model;
    matrix_multiply(&model->layers[node->layer].output, forward->attended, forward->partial, (size_t)node->plan->rows);
    prepare_wire(forward, node->plan->rows);
}

static void node_mlp(void *argument)
{
    const struct plan_node *node = argument;
    const struct forward *forward = node->plan->forward;
    const struct model *model = forward->model;
    const struct layer_weights *layer = &model->layers[node->layer];
    int rows = node->plan->rows;
    size_t ffn = (size_t)model->ffn;
    add_reduced(forward, rows);
    norm_all(forward, rows, layer->norm_mlp);
    matrix_multiply(&layer->gate_up, forward->normed, forward->gate_up, (size_t)rows);
    for (size_t row = 0; row < (size_t)rows; row++) {
        const float *gate = forward->gate_up + row * 2 * ffn;
        rows_swiglu(gate, gate + ffn, forward->activated + row * ffn, ffn, grid_of(forward, GRID_ACTIVATED));
    }
    matrix_multiply(&layer->down, forward->activated, forward->partial, (size_t)rows);
    prepare_wire(forward, rows);
}

static void node_head(void *argument)
{
    const struct plan_node *node = argument;
    const struct forward *forward = node->plan->forward;
    const struct model *model = forward->model;
    size_t hidden = (size_t)model->shape.hidden;
    add_reduced(forward, node->plan->rows);
    for (size_t pick = 0; pick < forward->inputs.real_picks; pick++) {
        rows_norm(forward->hidden + (size_t)forward->inputs.picks[pick] * hidden, forward->picked + pick * hidden,
                  model->norm_final, hidden, model->shape.norm_eps, grid_of(forward, GRID_NORMED));
    }
    matrix_multiply(&model->head, forward->picked, forward->shard, (size_t)node->plan->picks);
}

static void node_pick(void *argument)
{
    const struct plan_node *node = argument;
    const struct forward *forward = node->plan->forward;
    size_t vocab = (size_t)forward->model->shape.vocab;
    for (size_t pick = 0; pick < forward->inputs.real_picks; pick++) {
        const float *logits = forward->logits + pick * forward->logits_stride;
        struct forward_pick *out = &forward->outputs.picks[pick];
        out->token = rows_argmax(logits, vocab, &out->margin);
        out->hash = rows_hash(logits, vocab);
    }
}

static tutti_status enqueue_all_reduce(const struct forward_plan *plan, const tutti_call *call)
{
    const struct forward *forward = plan->forward;
    size_t count = (size_t)plan->rows * (size_t)forward->model->shape.hidden;
    if (forward->model->numerics == NUMERICS_EXACT) {
        return tutti_all_reduce(forward->comm, forward->partial, forward->partial, count, TUTTI_F32, TUTTI_SUM, call);
    }
    return tutti_all_reduce(forward->comm, forward->wire, forward->wire, count, TUTTI_BF16, TUTTI_SUM, call);
}

static tutti_status enqueue_layer(struct forward_plan *plan, int layer, tutti_host_stream *stream,
                                  const tutti_call *call)
{
    struct plan_node *node = &plan->nodes[layer];
    tutti_status status = tutti_host_enqueue(stream, node_query_key_value, node);
    if (status == TUTTI_OK) {
        status = tutti_host_enqueue(stream, node_attention, node);
    }
    if (status == TUTTI_OK) {
        status = tutti_host_enqueue(stream, node_output, node);
    }
    if (status == TUTTI_OK) {
        status = enqueue_all_reduce(plan, call);
    }
    if (status == TUTTI_OK) {
        status = tutti_host_enqueue(stream, node_mlp, node);
    }
    if (status == TUTTI_OK) {
        status = enqueue_all_reduce(plan, call);
    }
    return status;
}

static tutti_status enqueue_head(struct forward_plan *plan, tutti_host_stream *stream, const tutti_call *call)
{
    const struct forward *forward = plan->forward;
    struct plan_node *node = &plan->nodes[forward->model->shape.layers];
    tutti_status status = tutti_host_enqueue(stream, node_head, node);
    if (status == TUTTI_OK) {
        status = tutti_all_gather_rows(forward->comm, forward->shard, forward->logits, (size_t)plan->picks,
                                       (size_t)forward->model->vocab_columns * sizeof(float),
                                       forward->logits_stride * sizeof(float), call);
    }
    if (status == TUTTI_OK) {
        status = tutti_host_enqueue(stream, node_pick, node);
    }
    return status;
}

tutti_status forward_plan_enqueue(struct forward_plan *plan, tutti_host_stream *stream)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    int layers = plan->forward->model->shape.layers;
    tutti_status status = tutti_host_enqueue(stream, node_embed, &plan->nodes[layers]);
    for (int layer = 0; layer < layers && status == TUTTI_OK; layer++) {
        status = enqueue_layer(plan, layer, stream, &call);
    }
    if (status == TUTTI_OK && plan->picks > 0) {
        status = enqueue_head(plan, stream, &call);
    }
    return status;
}

struct forward_plan *forward_plan_create(struct forward *forward, int rows, int picks)
{
    struct forward_plan *plan = calloc(1, sizeof(*plan));
    if (plan == NULL) {
        return NULL;
    }
    int count = forward->model->shape.layers + 1;
    plan->nodes = calloc((size_t)count, sizeof(*plan->nodes));
    if (plan->nodes == NULL) {
        free(plan);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        plan->nodes[i] = (struct plan_node){plan, i};
    }
    plan->forward = forward;
    forward_plan_resize(plan, rows, picks);
    return plan;
}

void forward_plan_resize(struct forward_plan *plan, int rows, int picks)
{
    plan->rows = rows;
    plan->picks = picks;
}

void forward_plan_destroy(struct forward_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    free(plan->nodes);
    free(plan);
}
