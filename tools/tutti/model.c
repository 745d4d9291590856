/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <math.h>
#include <stdlib.h>

#include "model_weights.h"

/* The head is a little louder than the rest, so that the best token stands clear of the second best. */
#define HEAD_LOUDER 1

static bool layer_allocate(const struct model *model, struct layer_weights *layer)
{
    size_t hidden = (size_t)model->shape.hidden;
    size_t head_dim = (size_t)model->shape.head_dim;
    size_t ffn = (size_t)model->ffn;
    size_t query = (size_t)model->heads * head_dim;
    layer->norm_attention = matrix_floats(hidden);
    layer->norm_mlp = matrix_floats(hidden);
    if (model->shape.qk_norm) {
        layer->norm_query = matrix_floats(head_dim);
        layer->norm_key = matrix_floats(head_dim);
        if (layer->norm_query == NULL || layer->norm_key == NULL) {
            return false;
        }
    }
    return layer->norm_attention != NULL && layer->norm_mlp != NULL &&
           matrix_create(&layer->query_key_value, hidden, query + 2 * (size_t)model->kv_heads * head_dim) &&
           matrix_create(&layer->output, query, hidden) && matrix_create(&layer->gate_up, hidden, 2 * ffn) &&
           matrix_create(&layer->down, ffn, hidden);
}

static void layer_free(struct layer_weights *layer)
{
    free(layer->norm_attention);
    free(layer->norm_mlp);
    free(layer->norm_query);
    free(layer->norm_key);
    matrix_destroy(&layer->query_key_value);
    matrix_destroy(&layer->output);
    matrix_destroy(&layer->gate_up);
    matrix_destroy(&layer->down);
}

static void layer_gains(const struct model *model, struct layer_weights *layer, int index)
{
    weights_gains(layer->norm_attention, TENSOR_NORM_ATTENTION, index, model->shape.hidden);
    weights_gains(layer->norm_mlp, TENSOR_NORM_MLP, index, model->shape.hidden);
    if (model->shape.qk_norm) {
        weights_gains(layer->norm_query, TENSOR_NORM_QUERY, index, model->shape.head_dim);
        weights_gains(layer->norm_key, TENSOR_NORM_KEY, index, model->shape.head_dim);
    }
}

/* Column-parallel tensors are cut by outputs, row-parallel ones by inputs. */
static bool layer_fill(const struct model *model, struct layer_weights *layer, int index)
{
    enum numerics numerics = model->numerics;
    int inner = model->shape.hidden;
    int heads_inner = model->shape.heads * model->shape.head_dim;
    size_t hidden = (size_t)inner;
    size_t rank = (size_t)model->rank;
    size_t query = (size_t)model->heads * (size_t)model->shape.head_dim;
    size_t kv = (size_t)model->kv_heads * (size_t)model->shape.head_dim;
    size_t ffn = (size_t)model->ffn;
    const struct weights_cut query_cut = {0, hidden, rank * query, query};
    const struct weights_cut kv_cut = {0, hidden, rank * kv, kv};
    const struct weights_cut ffn_cut = {0, hidden, rank * ffn, ffn};
    const struct weights_cut output_cut = {rank * query, query, 0, hidden};
    const struct weights_cut down_cut = {rank * ffn, ffn, 0, hidden};
    struct matrix *qkv = &layer->query_key_value;
    layer_gains(model, layer, index);
    return weights_fill(qkv, 0, TENSOR_QUERY, index, query_cut, inner, 0, numerics) &&
           weights_fill(qkv, query, TENSOR_KEY, index, kv_cut, inner, 0, numerics) &&
           weights_fill(qkv, query + kv, TENSOR_VALUE, index, kv_cut, inner, 0, numerics) &&
           weights_fill(&layer->output, 0, TENSOR_OUTPUT, index, output_cut, heads_inner, 1, numerics) &&
           weights_fill(&layer->gate_up, 0, TENSOR_GATE, index, ffn_cut, inner, 0, numerics) &&
           weights_fill(&layer->gate_up, ffn, TENSOR_UP, index, ffn_cut, inner, 0, numerics) &&
           weights_fill(&layer->down, 0, TENSOR_DOWN, index, down_cut, model->shape.ffn, 0, numerics);
}

static bool head_fill(struct model *model)
{
    size_t columns = (size_t)model->vocab_columns;
    size_t first = (size_t)model->rank * columns;
    size_t vocab = (size_t)model->shape.vocab;
    size_t real = first >= vocab ? 0 : (vocab - first < columns ? vocab - first : columns);
    const struct weights_cut cut = {0, (size_t)model->shape.hidden, first, real};
    weights_gains(model->norm_final, TENSOR_NORM_FINAL, 0, model->shape.hidden);
    return weights_fill(&model->head, 0, TENSOR_HEAD, 0, cut, model->shape.hidden, HEAD_LOUDER, model->numerics);
}

static void rope_fill(struct model *model)
{
    int half = model->shape.head_dim / 2;
    for (int position = 0; position < model->positions; position++) {
        for (int i = 0; i < half; i++) {
            double angle = position * pow(model->shape.rope_theta, -(double)i / half);
            model->rope_cos[(size_t)position * (size_t)half + (size_t)i] = (float)cos(angle);
            model->rope_sin[(size_t)position * (size_t)half + (size_t)i] = (float)sin(angle);
        }
    }
}

static bool model_allocate(struct model *model)
{
    size_t hidden = (size_t)model->shape.hidden;
    size_t rope = (size_t)model->positions * (size_t)model->shape.head_dim / 2;
    model->layers = calloc((size_t)model->shape.layers, sizeof(*model->layers));
    model->norm_final = matrix_floats(hidden);
    model->rope_cos = matrix_floats(rope);
    model->rope_sin = matrix_floats(rope);
    if (model->layers == NULL || model->norm_final == NULL || model->rope_cos == NULL || model->rope_sin == NULL ||
        !matrix_create(&model->head, hidden, (size_t)model->vocab_columns)) {
        return false;
    }
    for (int layer = 0; layer < model->shape.layers; layer++) {
        if (!layer_allocate(model, &model->layers[layer])) {
            return false;
        }
    }
    return true;
}

struct model *model_create(const struct model_shape *shape, enum numerics numerics, int rank, int world, int positions)
{
    struct model *model = calloc(1, sizeof(*model));
    if (model == NULL) {
        return NULL;
    }
    model->shape = *shape;
    model->numerics = numerics;
    model->rank = rank;
    model->world = world;
    model->heads = shape->heads / world;
    model->kv_heads = shape->kv_heads / world;
    model->ffn = shape->ffn / world;
    model->vocab_columns = (shape->vocab + world - 1) / world;
    model->positions = positions;
    bool good = model_allocate(model);
    for (int layer = 0; good && layer < shape->layers; layer++) {
        good = layer_fill(model, &model->layers[layer], layer);
    }
    if (!good || !head_fill(model)) {
        model_destroy(model);
        return NULL;
    }
    rope_fill(model);
    return model;
}

void model_destroy(struct model *model)
{
    if (model == NULL) {
        return;
    }
    for (int layer = 0; model->layers != NULL && layer < model->shape.layers; layer++) {
        layer_free(&model->layers[layer]);
    }
    free(model->layers);
    free(model->norm_final);
    matrix_destroy(&model->head);
    free(model->rope_cos);
    free(model->rope_sin);
    free(model);
}
