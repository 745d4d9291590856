/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "compute.h"
#include "model_weights.h"

/* The head is a little louder than the rest, so that the best token stands clear of the second best. */
#define HEAD_LOUDER 1

/* So is the router: a row's experts shall weigh differently, and so shall each of them beside the whole. */
#define ROUTER_LOUDER 1
#define EXPERT_LOUDER 1

/* -- memory of the computer ------------------------------------------------------------------------ */

/* `count` floats with these values. NULL if memory ran out. */
static float *floats_make(struct compute *compute, const float *values, size_t count)
{
    float *floats = values != NULL ? compute->ops->alloc(compute, count * sizeof(float)) : NULL;
    if (floats != NULL && !compute->ops->put(compute, floats, values, count * sizeof(float))) {
        compute->ops->release(compute, floats);
        return NULL;
    }
    return floats;
}

static float *gains_make(struct compute *compute, enum tensor tensor, int layer, int count)
{
    float *values = matrix_floats((size_t)count);
    if (values != NULL) {
        weights_gains(values, tensor, layer, count);
    }
    float *gains = floats_make(compute, values, (size_t)count);
    free(values);
    return gains;
}

static bool matrix_make(struct compute *compute, struct matrix *matrix, size_t inputs, size_t outputs)
{
    return compute->ops->matrix_create(compute, matrix, inputs, outputs);
}

/* -- layers ---------------------------------------------------------------------------------------- */

static bool layer_allocate(const struct model *model, struct layer_weights *layer)
{
    struct compute *compute = model->compute;
    size_t hidden = (size_t)model->shape.hidden;
    size_t head_dim = (size_t)model->shape.head_dim;
    size_t ffn = (size_t)model->ffn;
    size_t query = (size_t)model->heads * head_dim;
    size_t kv = (size_t)model->kv_heads * head_dim;
    size_t experts = (size_t)model->shape.experts;
    if (!matrix_make(compute, &layer->query_key_value, hidden, query + 2 * kv) ||
        !matrix_make(compute, &layer->output, query, hidden)) {
        return false;
    }
    if (experts == 0) {
        return matrix_make(compute, &layer->gate_up, hidden, 2 * ffn) &&
               matrix_make(compute, &layer->down, ffn, hidden);
    }
    return matrix_make(compute, &layer->router, hidden, experts) &&
           compute->ops->stack_create(compute, &layer->experts_gate_up, experts, hidden, 2 * ffn) &&
           compute->ops->stack_create(compute, &layer->experts_down, experts, ffn, hidden);
}

static void layer_free(struct compute *compute, struct layer_weights *layer)
{
    compute->ops->release(compute, layer->norm_attention);
    compute->ops->release(compute, layer->norm_mlp);
    compute->ops->release(compute, layer->norm_query);
    compute->ops->release(compute, layer->norm_key);
    compute->ops->matrix_destroy(compute, &layer->query_key_value);
    compute->ops->matrix_destroy(compute, &layer->output);
    compute->ops->matrix_destroy(compute, &layer->gate_up);
    compute->ops->matrix_destroy(compute, &layer->down);
    compute->ops->matrix_destroy(compute, &layer->router);
    compute->ops->stack_destroy(compute, &layer->experts_gate_up);
    compute->ops->stack_destroy(compute, &layer->experts_down);
}

static bool layer_gains(const struct model *model, struct layer_weights *layer, int index)
{
    struct compute *compute = model->compute;
    layer->norm_attention = gains_make(compute, TENSOR_NORM_ATTENTION, index, model->shape.hidden);
    layer->norm_mlp = gains_make(compute, TENSOR_NORM_MLP, index, model->shape.hidden);
    if (model->shape.qk_norm) {
        layer->norm_query = gains_make(compute, TENSOR_NORM_QUERY, index, model->shape.head_dim);
        layer->norm_key = gains_make(compute, TENSOR_NORM_KEY, index, model->shape.head_dim);
        if (layer->norm_query == NULL || layer->norm_key == NULL) {
            return false;
        }
    }
    return layer->norm_attention != NULL && layer->norm_mlp != NULL;
}

/* A part of a matrix, at output columns from `first` on. */
struct part {
    size_t first;
    enum tensor tensor;
    struct weights_cut cut;
    int inner, louder;
};

static bool matrix_take(const struct model *model, struct matrix *matrix, int layer, struct part part)
{
    struct compute *compute = model->compute;
    const struct weights_source source = {part.tensor, layer, part.cut, part.inner, part.louder, model->numerics};
    return compute->ops->matrix_fill(compute, matrix, part.first, &source);
}

static bool stack_take(const struct model *model, const struct matrix_stack *stack, int layer, struct part part,
                       int rows_of_one)
{
    struct compute *compute = model->compute;
    const struct weights_stack weights = {{part.tensor, layer, part.cut, part.inner, part.louder, model->numerics},
                                          (size_t)rows_of_one};
    return compute->ops->stack_fill(compute, stack, part.first, &weights);
}

/* One MLP, or those of all experts: each expert is cut like the one. */
static bool mlp_fill(const struct model *model, struct layer_weights *layer, int index)
{
    int inner = model->shape.hidden;
    int ffn_inner = model->shape.ffn;
    size_t hidden = (size_t)inner;
    size_t ffn = (size_t)model->ffn;
    size_t first = (size_t)model->rank * ffn;
    struct part gate = {0, TENSOR_GATE, {0, hidden, first, ffn}, inner, 0};
    struct part up = {ffn, TENSOR_UP, {0, hidden, first, ffn}, inner, 0};
    struct part down = {0, TENSOR_DOWN, {first, ffn, 0, hidden}, ffn_inner, 0};
    if (model->shape.experts == 0) {
        return matrix_take(model, &layer->gate_up, index, gate) && matrix_take(model, &layer->gate_up, index, up) &&
               matrix_take(model, &layer->down, index, down);
    }
    const struct weights_cut router_cut = {0, hidden, 0, (size_t)model->shape.experts};
    down.louder = EXPERT_LOUDER;
    return matrix_take(model, &layer->router, index,
                       (struct part){0, TENSOR_ROUTER, router_cut, inner, ROUTER_LOUDER}) &&
           stack_take(model, &layer->experts_gate_up, index, gate, inner) &&
           stack_take(model, &layer->experts_gate_up, index, up, inner) &&
           stack_take(model, &layer->experts_down, index, down, ffn_inner);
}

/* Column-parallel tensors are cut by outputs, row-parallel ones by inputs. */
static bool layer_fill(const struct model *model, struct layer_weights *layer, int index)
{
    int inner = model->shape.hidden;
    int heads_inner = model->shape.heads * model->shape.head_dim;
    size_t hidden = (size_t)inner;
    size_t rank = (size_t)model->rank;
    size_t query = (size_t)model->heads * (size_t)model->shape.head_dim;
    size_t kv = (size_t)model->kv_heads * (size_t)model->shape.head_dim;
    /* The first of this rank's; where there are more ranks than heads, several have the same one. */
    size_t kv_first = rank * (size_t)model->shape.kv_heads / (size_t)model->world * (size_t)model->shape.head_dim;
    const struct weights_cut query_cut = {0, hidden, rank * query, query};
    const struct weights_cut kv_cut = {0, hidden, kv_first, kv};
    const struct weights_cut output_cut = {rank * query, query, 0, hidden};
    struct matrix *qkv = &layer->query_key_value;
    return layer_gains(model, layer, index) &&
           matrix_take(model, qkv, index, (struct part){0, TENSOR_QUERY, query_cut, inner, 0}) &&
           matrix_take(model, qkv, index, (struct part){query, TENSOR_KEY, kv_cut, inner, 0}) &&
           matrix_take(model, qkv, index, (struct part){query + kv, TENSOR_VALUE, kv_cut, inner, 0}) &&
           matrix_take(model, &layer->output, index, (struct part){0, TENSOR_OUTPUT, output_cut, heads_inner, 1}) &&
           mlp_fill(model, layer, index);
}

static bool head_fill(struct model *model)
{
    size_t columns = (size_t)model->vocab_columns;
    size_t first = (size_t)model->rank * columns;
    size_t vocab = (size_t)model->shape.vocab;
    size_t real = first >= vocab ? 0 : (vocab - first < columns ? vocab - first : columns);
    const struct weights_cut cut = {0, (size_t)model->shape.hidden, first, real};
    model->norm_final = gains_make(model->compute, TENSOR_NORM_FINAL, 0, model->shape.hidden);
    return model->norm_final != NULL &&
           matrix_take(model, &model->head, 0, (struct part){0, TENSOR_HEAD, cut, model->shape.hidden, HEAD_LOUDER});
}

static bool rope_fill(struct model *model)
{
    int half = model->shape.head_dim / 2;
    size_t count = (size_t)model->positions * (size_t)half;
    float *cosines = matrix_floats(count);
    float *sines = matrix_floats(count);
    bool room = cosines != NULL && sines != NULL;
    for (int position = 0; room && position < model->positions; position++) {
        for (int i = 0; i < half; i++) {
            double angle = position * pow(model->shape.rope_theta, -(double)i / half);
            size_t at = (size_t)position * (size_t)half + (size_t)i;
            cosines[at] = (float)cos(angle);
            sines[at] = (float)sin(angle);
        }
    }
    model->rope_cos = floats_make(model->compute, cosines, count);
    model->rope_sin = floats_make(model->compute, sines, count);
    free(cosines);
    free(sines);
    return model->rope_cos != NULL && model->rope_sin != NULL;
}

static bool model_allocate(struct model *model)
{
    model->layers = calloc((size_t)model->shape.layers, sizeof(*model->layers));
    if (model->layers == NULL ||
        !matrix_make(model->compute, &model->head, (size_t)model->shape.hidden, (size_t)model->vocab_columns)) {
        return false;
    }
    for (int layer = 0; layer < model->shape.layers; layer++) {
        if (!layer_allocate(model, &model->layers[layer])) {
            return false;
        }
    }
    return true;
}

struct model *model_create(struct compute *compute, const struct model_shape *shape, enum numerics numerics, int rank,
                           int world, int positions)
{
    (void)snprintf(compute->sentence, sizeof(compute->sentence), "out of memory for the weights");
    struct model *model = calloc(1, sizeof(*model));
    if (model == NULL) {
        return NULL;
    }
    model->compute = compute;
    model->shape = *shape;
    model->numerics = numerics;
    model->rank = rank;
    model->world = world;
    model->heads = shape->heads / world;
    model->kv_heads = shape->kv_heads > world ? shape->kv_heads / world : 1;
    model->ffn = shape->ffn / world;
    model->vocab_columns = (shape->vocab + world - 1) / world;
    model->positions = positions;
    bool good = model_allocate(model);
    for (int layer = 0; good && layer < shape->layers; layer++) {
        good = layer_fill(model, &model->layers[layer], layer);
    }
    if (!good || !head_fill(model) || !rope_fill(model)) {
        model_destroy(model);
        return NULL;
    }
    return model;
}

void model_destroy(struct model *model)
{
    if (model == NULL) {
        return;
    }
    struct compute *compute = model->compute;
    for (int layer = 0; model->layers != NULL && layer < model->shape.layers; layer++) {
        layer_free(compute, &model->layers[layer]);
    }
    free(model->layers);
    compute->ops->release(compute, model->norm_final);
    compute->ops->matrix_destroy(compute, &model->head);
    compute->ops->release(compute, model->rope_cos);
    compute->ops->release(compute, model->rope_sin);
    free(model);
}
