/* SPDX-License-Identifier: Apache-2.0 */
/* compute_host_steps.c - the steps of a forward pass as functions on a host stream. */
#include <math.h>
#include <string.h>

#include "compute_host.h"
#include "model_attention.h"
#include "model_forward.h"
#include "model_weights.h"
#include "tutti/host.h"

static void step_embed(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    const struct forward_inputs *inputs = &forward->inputs;
    size_t hidden = (size_t)forward->model->shape.hidden;
    for (size_t row = 0; row < *step->plan->real; row++) {
        float *out = forward->hidden + row * hidden;
        if (inputs->embedded[row]) {
            memcpy(out, inputs->embeddings + row * hidden, hidden * sizeof(float));
        } else {
            weights_embedding(out, inputs->tokens[row], (int)hidden, forward->model->numerics);
        }
    }
}

/* For all rows, also padding: as a device kernel would. */
static void step_add(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    size_t count = (size_t)step->plan->rows * (size_t)forward->model->shape.hidden;
    if (forward->model->numerics == NUMERICS_EXACT) {
        rows_add(forward->hidden, forward->partial, count);
    } else {
        rows_add_bf16(forward->hidden, forward->wire, count);
    }
}

static void step_norm(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    size_t hidden = (size_t)forward->model->shape.hidden;
    for (size_t row = 0; row < (size_t)step->plan->rows; row++) {
        rows_norm(forward->hidden + row * hidden, forward->normed + row * hidden, step->gains, hidden,
                  forward->model->shape.norm_eps, forward_grid(forward, GRID_NORMED));
    }
}

static void step_norm_picked(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    size_t hidden = (size_t)forward->model->shape.hidden;
    for (size_t pick = 0; pick < *step->plan->real; pick++) {
        rows_norm(forward->hidden + (size_t)forward->inputs.picks[pick] * hidden, forward->picked + pick * hidden,
                  step->gains, hidden, forward->model->shape.norm_eps, forward_grid(forward, GRID_NORMED));
    }
}

static void step_product(void *argument)
{
    const struct forward_step *step = argument;
    matrix_multiply(step->matrix, step->in, step->out, (size_t)step->plan->rows);
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

/* Rows of one request may follow each other in one pass (prefill), so all keys are cached before any row attends.
 * Positions come from the inputs at run time: a captured pass serves any. */
static void step_cache(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    const struct model *model = forward->model;
    const struct layer_weights *layer = &model->layers[step->layer];
    const struct forward_inputs *inputs = &forward->inputs;
    size_t head_dim = (size_t)model->shape.head_dim;
    size_t query_width = (size_t)model->heads * head_dim;
    size_t kv_width = (size_t)model->kv_heads * head_dim;
    for (size_t row = 0; row < *step->plan->real; row++) {
        float *query = forward->qkv + row * (query_width + 2 * kv_width);
        size_t position = (size_t)inputs->positions[row];
        turn_heads(model, query, model->heads, layer->norm_query, position);
        turn_heads(model, query + query_width, model->kv_heads, layer->norm_key, position);
        cache_row(forward, step->layer, query + query_width, query + query_width + kv_width, inputs->slots[row],
                  position);
    }
}

/* A row sees its own position and what came before. */
static void step_attend(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    const struct model *model = forward->model;
    const struct forward_inputs *inputs = &forward->inputs;
    size_t head_dim = (size_t)model->shape.head_dim;
    size_t query_width = (size_t)model->heads * head_dim;
    size_t width = query_width + 2 * (size_t)model->kv_heads * head_dim;
    for (size_t row = 0; row < *step->plan->real; row++) {
        attend_row(forward, step->layer, forward->qkv + row * width, forward->attended + row * query_width,
                   inputs->slots[row], (size_t)inputs->positions[row] + 1);
    }
    rows_quantise(forward->attended, *step->plan->real * query_width, forward_grid(forward, GRID_ATTENDED));
}

static void step_swiglu(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    size_t ffn = (size_t)forward->model->ffn;
    for (size_t row = 0; row < (size_t)step->plan->rows; row++) {
        const float *gate = forward->gate_up + row * 2 * ffn;
        rows_swiglu(gate, gate + ffn, forward->activated + row * ffn, ffn, forward_grid(forward, GRID_ACTIVATED));
    }
}

static struct experts_work routing_of(const struct forward *forward)
{
    size_t pairs = forward_pairs(forward, (size_t)forward->rows_max);
    return experts_work_in(forward->routing, pairs, (size_t)forward->model->shape.experts);
}

/* The real rows of a pass of so many rows. */
static size_t rows_to_route(const struct forward_step *step)
{
    size_t rows = (size_t)step->plan->rows;
    size_t real = *step->plan->real;
    return real < rows ? real : rows;
}

/* By the route log if there is one. */
static void route_row(const struct forward_step *step, size_t row, struct expert_route *routes)
{
    const struct forward *forward = step->plan->forward;
    size_t experts = (size_t)forward->model->shape.experts;
    size_t top = (size_t)forward->model->shape.top;
    const float *logits = forward->router_logits + row * experts;
    int16_t *line = forward->route_log;
    if (line != NULL) {
        line += (size_t)forward->inputs.lines[row] * forward_line_width(forward) + (size_t)step->layer * top;
    }
    if (line != NULL && forward->routes_given) {
        experts_route_given(logits, line, top, routes);
        return;
    }
    experts_route(logits, experts, top, routes);
    for (size_t k = 0; line != NULL && k < top; k++) {
        line[k] = (int16_t)routes[k].expert;
    }
}

static void step_route(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    struct experts_work work = routing_of(forward);
    size_t experts = (size_t)forward->model->shape.experts;
    size_t top = (size_t)forward->model->shape.top;
    size_t rows = (size_t)step->plan->rows;
    size_t real = rows_to_route(step);
    for (size_t row = 0; row < real; row++) {
        route_row(step, row, work.routes + row * top);
    }
    for (size_t pair = real * top; pair < rows * top; pair++) {
        work.routes[pair] = (struct expert_route){.expert = -1};
    }
    experts_group(&work, real * top, experts);
}

/* An expert's rows, gathered in expert_out, which nobody needs yet; what comes out stands in the order of the items. */
static void step_experts(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    const struct experts_work work = routing_of(forward);
    const struct matrix_stack *stack = &forward->model->layers[step->layer].experts_gate_up;
    size_t hidden = stack->inputs;
    size_t ffn = (size_t)forward->model->ffn;
    for (uint32_t i = 0; i < *work.item_count; i++) {
        const struct expert_item item = work.items[i];
        const struct matrix matrix = matrix_stack_at(stack, (size_t)item.expert);
        const int32_t *pairs = work.order + item.first;
        for (int32_t n = 0; n < item.count; n++) {
            const float *row = forward->normed + (size_t)(pairs[n] / forward->model->shape.top) * hidden;
            memcpy(forward->expert_out + (size_t)n * hidden, row, hidden * sizeof(float));
        }
        matrix_multiply(&matrix, forward->expert_out, forward->gate_up, (size_t)item.count);
        for (int32_t n = 0; n < item.count; n++) {
            const float *gate = forward->gate_up + (size_t)n * 2 * ffn;
            rows_swiglu_weighted(gate, gate + ffn, forward->activated + (size_t)(item.first + n) * ffn, ffn,
                                 work.routes[pairs[n]].weight, forward_grid(forward, GRID_ROUTED));
        }
    }
}

/* Added by index of the expert. */
static void step_experts_sum(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    const struct experts_work work = routing_of(forward);
    const struct matrix_stack *stack = &forward->model->layers[step->layer].experts_down;
    size_t hidden = stack->outputs;
    memset(forward->partial, 0, (size_t)step->plan->rows * hidden * sizeof(float));
    for (uint32_t i = 0; i < *work.item_count; i++) {
        const struct expert_item item = work.items[i];
        const struct matrix matrix = matrix_stack_at(stack, (size_t)item.expert);
        matrix_multiply(&matrix, forward->activated + (size_t)item.first * stack->inputs, forward->expert_out,
                        (size_t)item.count);
        for (int32_t n = 0; n < item.count; n++) {
            size_t row = (size_t)(work.order[item.first + n] / forward->model->shape.top);
            rows_add(forward->partial + row * hidden, forward->expert_out + (size_t)n * hidden, hidden);
        }
    }
}

static void step_to_wire(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    rows_to_bf16(forward->partial, forward->wire, (size_t)step->plan->rows * (size_t)forward->model->shape.hidden);
}

static void step_pick(void *argument)
{
    const struct forward_step *step = argument;
    const struct forward *forward = step->plan->forward;
    for (size_t pick = 0; pick < *step->plan->real; pick++) {
        forward->outputs.picks[pick] =
            rows_pick(forward->logits + pick * forward->logits_stride, (size_t)forward->model->shape.vocab);
    }
}

tutti_status compute_host_enqueue(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    static const tutti_host_function bodies[FORWARD_COMPUTED] = {
        [FORWARD_EMBED] = step_embed,
        [FORWARD_NORM] = step_norm,
        [FORWARD_PRODUCT] = step_product,
        [FORWARD_CACHE] = step_cache,
        [FORWARD_ATTEND] = step_attend,
        [FORWARD_SWIGLU] = step_swiglu,
        [FORWARD_TO_WIRE] = step_to_wire,
        [FORWARD_ADD] = step_add,
        [FORWARD_NORM_PICKED] = step_norm_picked,
        [FORWARD_PICK] = step_pick,
        [FORWARD_ROUTE] = step_route,
        [FORWARD_EXPERTS] = step_experts,
        [FORWARD_EXPERTS_SUM] = step_experts_sum,
    };
    return compute_note(compute, tutti_host_enqueue(stream, bodies[step->kind], (void *)step));
}
