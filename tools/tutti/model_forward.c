/* SPDX-License-Identifier: Apache-2.0 */
#include "model_forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute.h"

static bool inputs_create(struct forward_inputs *inputs, int rows_max, int picks_max, int hidden)
{
    size_t rows = (size_t)rows_max;
    inputs->tokens = calloc(rows, sizeof(int32_t));
    inputs->positions = calloc(rows, sizeof(int32_t));
    inputs->slots = calloc(rows, sizeof(int32_t));
    inputs->embedded = calloc(rows, 1);
    inputs->picks = calloc((size_t)picks_max, sizeof(int32_t));
    inputs->embeddings = matrix_floats(rows * (size_t)hidden);
    return inputs->tokens != NULL && inputs->positions != NULL && inputs->slots != NULL && inputs->embedded != NULL &&
           inputs->picks != NULL && inputs->embeddings != NULL;
}

static void inputs_destroy(struct forward_inputs *inputs)
{
    free(inputs->tokens);
    free(inputs->positions);
    free(inputs->slots);
    free(inputs->embedded);
    free(inputs->picks);
    free(inputs->embeddings);
}

/* Every scratch buffer and its length: allocated, poisoned and freed by this one list. */
struct scratch {
    float **buffer;
    size_t bytes;
};
#define SCRATCH_COUNT 12

static void scratch_list(struct forward *forward, struct scratch list[SCRATCH_COUNT])
{
    const struct model *model = forward->model;
    size_t rows = (size_t)forward->rows_max * sizeof(float);
    size_t picks = (size_t)forward->picks_max * sizeof(float);
    size_t hidden = (size_t)model->shape.hidden;
    size_t head_dim = (size_t)model->shape.head_dim;
    size_t heads = (size_t)model->heads;
    size_t ffn = (size_t)model->ffn;
    const struct scratch all[SCRATCH_COUNT] = {
        {&forward->hidden, rows * hidden},
        {&forward->normed, rows * hidden},
        {&forward->qkv, rows * (heads + 2 * (size_t)model->kv_heads) * head_dim},
        {&forward->attended, rows * heads * head_dim},
        {&forward->gate_up, rows * 2 * ffn},
        {&forward->activated, rows * ffn},
        {&forward->partial, rows * hidden},
        {&forward->picked, picks * hidden},
        {&forward->shard, picks * (size_t)model->vocab_columns},
        {&forward->logits, picks * forward->logits_stride},
        {&forward->scores, model->compute->score_vectors * (size_t)forward->positions_max * sizeof(float)},
        {&forward->wire_words, rows * hidden / 2},
    };
    memcpy(list, all, sizeof(all));
}

bool forward_create(struct forward *forward, const struct model *model, const struct kv_cache *kv, tutti_comm *comm,
                    int rows_max, int picks_max, int positions_max)
{
    struct compute *compute = model->compute;
    memset(forward, 0, sizeof(*forward));
    forward->model = model;
    forward->kv = kv;
    forward->comm = comm;
    forward->rows_max = rows_max;
    forward->picks_max = picks_max;
    forward->positions_max = positions_max;
    forward->logits_stride = (size_t)model->vocab_columns * (size_t)model->world;
    bool complete = inputs_create(&forward->inputs, rows_max, picks_max, model->shape.hidden);
    if (!complete) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "out of memory for the engine's buffers");
    }
    struct scratch list[SCRATCH_COUNT];
    scratch_list(forward, list);
    for (size_t i = 0; i < SCRATCH_COUNT && complete; i++) {
        *list[i].buffer = compute->ops->alloc(compute, list[i].bytes);
        complete = *list[i].buffer != NULL;
    }
    forward->wire = (uint16_t *)forward->wire_words;
    if (!complete || !compute->ops->attach(compute, forward)) {
        forward_destroy(forward);
        return false;
    }
    return true;
}

void forward_destroy(struct forward *forward)
{
    if (forward->model == NULL) {
        return;
    }
    struct compute *compute = forward->model->compute;
    compute->ops->detach(compute, forward);
    struct scratch list[SCRATCH_COUNT];
    scratch_list(forward, list);
    for (size_t i = 0; i < SCRATCH_COUNT; i++) {
        compute->ops->release(compute, *list[i].buffer);
        *list[i].buffer = NULL;
    }
    inputs_destroy(&forward->inputs);
    memset(forward, 0, sizeof(*forward));
}

void forward_poison(struct forward *forward)
{
    struct compute *compute = forward->model->compute;
    struct scratch list[SCRATCH_COUNT];
    scratch_list(forward, list);
    for (size_t i = 0; i < SCRATCH_COUNT; i++) {
        (void)compute->ops->spoil(compute, *list[i].buffer, list[i].bytes);
    }
    size_t hidden = (size_t)forward->model->shape.hidden;
    memset(forward->outputs.picks, 0xff, (size_t)forward->picks_max * sizeof(*forward->outputs.picks));
    struct forward_inputs *inputs = &forward->inputs;
    for (int row = (int)inputs->real_rows; row < forward->rows_max; row++) {
        inputs->tokens[row] = INT32_MAX;
        inputs->positions[row] = INT32_MAX;
        inputs->slots[row] = INT32_MIN;
    }
    for (int row = 0; row < forward->rows_max; row++) {
        if (row >= (int)inputs->real_rows || !inputs->embedded[row]) {
            memset(inputs->embeddings + (size_t)row * hidden, 0xff, hidden * sizeof(float));
        }
    }
    for (int pick = (int)inputs->real_picks; pick < forward->picks_max; pick++) {
        inputs->picks[pick] = INT32_MAX;
    }
}
