/* SPDX-License-Identifier: Apache-2.0 */
/* model_plan.c - what a forward pass consists of: its steps, in order. */
#include <stdlib.h>

#include "compute.h"
#include "model_forward.h"

/* At most: of a layer, and of the head. */
#define LAYER_STEPS 16
#define HEAD_STEPS 4

static void append(struct forward_plan *plan, struct forward_step step)
{
    step.plan = plan;
    plan->steps[plan->step_count++] = step;
}

/* Here a piece ends. */
static void cut(struct forward_plan *plan)
{
    plan->ends[plan->piece_count++] = plan->step_count;
}

static void append_product(struct forward_plan *plan, const struct matrix *matrix, const float *in, float *out)
{
    append(plan, (struct forward_step){.kind = FORWARD_PRODUCT, .matrix = matrix, .in = in, .out = out});
}

/* hidden += the sum of the ranks' partials: the end of both halves of a layer. */
static void append_sum(struct forward_plan *plan)
{
    if (plan->forward->model->numerics == NUMERICS_REAL) {
        append(plan, (struct forward_step){.kind = FORWARD_TO_WIRE});
    }
    append(plan, (struct forward_step){.kind = FORWARD_ALL_REDUCE});
    append(plan, (struct forward_step){.kind = FORWARD_ADD});
}

static void append_mlp(struct forward_plan *plan, const struct layer_weights *weights)
{
    const struct forward *forward = plan->forward;
    append_product(plan, &weights->gate_up, forward->normed, forward->gate_up);
    append(plan, (struct forward_step){.kind = FORWARD_SWIGLU});
    append_product(plan, &weights->down, forward->activated, forward->partial);
}

/* Each rank has a part of every expert, as it has of the one MLP: the same sum over the ranks ends it. */
static void append_experts(struct forward_plan *plan, int layer)
{
    const struct forward *forward = plan->forward;
    append_product(plan, &forward->model->layers[layer].router, forward->normed, forward->router_logits);
    append(plan, (struct forward_step){.kind = FORWARD_ROUTE, .layer = layer});
    append(plan, (struct forward_step){.kind = FORWARD_EXPERTS, .layer = layer});
    append(plan, (struct forward_step){.kind = FORWARD_EXPERTS_SUM, .layer = layer});
}

static void append_layer(struct forward_plan *plan, int layer)
{
    const struct forward *forward = plan->forward;
    const struct layer_weights *weights = &forward->model->layers[layer];
    append(plan, (struct forward_step){.kind = FORWARD_NORM, .gains = weights->norm_attention});
    append_product(plan, &weights->query_key_value, forward->normed, forward->qkv);
    cut(plan);
    append(plan, (struct forward_step){.kind = FORWARD_CACHE, .layer = layer});
    append(plan, (struct forward_step){.kind = FORWARD_ATTEND, .layer = layer});
    cut(plan);
    append_product(plan, &weights->output, forward->attended, forward->partial);
    append_sum(plan);

    append(plan, (struct forward_step){.kind = FORWARD_NORM, .gains = weights->norm_mlp});
    if (forward->model->shape.experts > 0) {
        append_experts(plan, layer);
    } else {
        append_mlp(plan, weights);
    }
    append_sum(plan);
}

static void append_all(struct forward_plan *plan)
{
    const struct forward *forward = plan->forward;
    const struct model *model = forward->model;
    append(plan, (struct forward_step){.kind = FORWARD_EMBED});
    for (int layer = 0; layer < model->shape.layers; layer++) {
        append_layer(plan, layer);
    }
    cut(plan);
    append(plan, (struct forward_step){.kind = FORWARD_NORM_PICKED, .gains = model->norm_final});
    append_product(plan, &model->head, forward->picked, forward->shard);
    append(plan, (struct forward_step){.kind = FORWARD_GATHER});
    append(plan, (struct forward_step){.kind = FORWARD_PICK});
    cut(plan);
}

/* fp32 in exact numerics, bf16 in real ones. */
static tutti_status all_reduce(const struct forward_plan *plan, const tutti_call *call)
{
    const struct forward *forward = plan->forward;
    size_t count = (size_t)plan->rows * (size_t)forward->model->shape.hidden;
    if (forward->model->numerics == NUMERICS_EXACT) {
        return tutti_all_reduce(forward->comm, forward->partial, forward->partial, count, TUTTI_F32, TUTTI_SUM, call);
    }
    return tutti_all_reduce(forward->comm, forward->wire, forward->wire, count, TUTTI_BF16, TUTTI_SUM, call);
}

static tutti_status gather(const struct forward_plan *plan, const tutti_call *call)
{
    const struct forward *forward = plan->forward;
    return tutti_all_gather_rows(forward->comm, forward->shard, forward->logits, (size_t)plan->rows,
                                 (size_t)forward->model->vocab_columns * sizeof(float),
                                 forward->logits_stride * sizeof(float), call);
}

static tutti_status enqueue_step(const struct forward_step *step, tutti_stream stream)
{
    struct compute *compute = step->plan->forward->model->compute;
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    switch (step->kind) {
    case FORWARD_ALL_REDUCE:
        return compute_note(compute, all_reduce(step->plan, &call));
    case FORWARD_GATHER:
        return compute_note(compute, gather(step->plan, &call));
    default:
        return compute->ops->enqueue(compute, step, stream);
    }
}

tutti_status forward_plan_enqueue(const struct forward_plan *plan, int first, int count, tutti_stream stream)
{
    tutti_status status = TUTTI_OK;
    int end = plan->ends[first + count - 1];
    for (int i = first > 0 ? plan->ends[first - 1] : 0; i < end && status == TUTTI_OK; i++) {
        status = enqueue_step(&plan->steps[i], stream);
    }
    return status;
}

struct forward_plan *forward_plan_create(struct forward *forward, const uint32_t *real, int rows)
{
    size_t layers = (size_t)forward->model->shape.layers;
    struct forward_plan *plan = calloc(1, sizeof(*plan));
    if (plan == NULL) {
        return NULL;
    }
    plan->steps = calloc(1 + layers * LAYER_STEPS + HEAD_STEPS, sizeof(*plan->steps));
    plan->ends = calloc(2 * layers + 2, sizeof(*plan->ends));
    if (plan->steps == NULL || plan->ends == NULL) {
        forward_plan_destroy(plan);
        return NULL;
    }
    plan->forward = forward;
    plan->real = real;
    plan->rows = rows;
    append_all(plan);
    return plan;
}

void forward_plan_destroy(struct forward_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    free(plan->steps);
    free(plan->ends);
    free(plan);
}
