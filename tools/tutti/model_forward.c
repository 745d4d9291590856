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
    inputs->lines = calloc(rows, sizeof(int32_t));
    inputs->embedded = calloc(rows, 1);
    inputs->picks = calloc((size_t)picks_max, sizeof(int32_t));
    inputs->embeddings = matrix_floats(rows * (size_t)hidden);
    return inputs->tokens != NULL && inputs->positions != NULL && inputs->slots != NULL && inputs->lines != NULL &&
           inputs->embedded != NULL && inputs->picks != NULL && inputs->embeddings != NULL;
}

static void inputs_destroy(struct forward_inputs *inputs)
{
    free(inputs->tokens);
    free(inputs->positions);
    free(inputs->slots);
    free(inputs->lines);
    free(inputs->embedded);
    free(inputs->picks);
    free(inputs->embeddings);
}

/* Every scratch buffer and its length, 0 for none: allocated, poisoned and freed by this one list. The last two are what the ranks reduce. */
struct scratch {
    float **buffer;
    size_t bytes;
};
#define SCRATCH_COUNT 15
#define SCRATCH_OWN 13
#define EXCHANGE_ALIGN 256u

static void scratch_list(struct forward *forward, struct scratch list[SCRATCH_COUNT])
{
    const struct model *model = forward->model;
    size_t rows = (size_t)forward->rows_max * sizeof(float);
    size_t picks = (size_t)forward->picks_max * sizeof(float);
    size_t hidden = (size_t)model->shape.hidden;
    size_t head_dim = (size_t)model->shape.head_dim;
    size_t heads = (size_t)model->heads;
    size_t ffn = (size_t)model->ffn;
    size_t experts = (size_t)model->shape.experts;
    size_t pairs = forward_pairs(forward, (size_t)forward->rows_max);
    const struct scratch all[SCRATCH_COUNT] = {
        {&forward->hidden, rows * hidden},
        {&forward->normed, rows * hidden},
        {&forward->qkv, rows * (heads + 2 * (size_t)model->kv_heads) * head_dim},
        {&forward->attended, rows * heads * head_dim},
        {&forward->gate_up, rows * 2 * ffn},
        {&forward->activated, experts > 0 ? pairs * ffn * sizeof(float) : rows * ffn},
        {&forward->router_logits, rows * experts},
        {&forward->routing, experts_work_bytes(pairs, experts)},
        {&forward->expert_out, pairs * hidden * sizeof(float)},
        {&forward->picked, picks * hidden},
        {&forward->shard, picks * (size_t)model->vocab_columns},
        {&forward->logits, picks * forward->logits_stride},
        {&forward->scores, model->compute->score_vectors * (size_t)forward->positions_max * sizeof(float)},
        {&forward->partial, rows * hidden},
        {&forward->wire_words, rows * hidden / 2},
    };
    memcpy(list, all, sizeof(all));
}

/* One piece of memory for both. */
static bool exchange_create(struct forward *forward, const struct scratch *list)
{
    struct compute *compute = forward->model->compute;
    size_t wire_at = (list[SCRATCH_OWN].bytes + EXCHANGE_ALIGN - 1) / EXCHANGE_ALIGN * EXCHANGE_ALIGN;
    size_t bytes = wire_at + list[SCRATCH_OWN + 1].bytes;
    void *memory = NULL;
    bool good = false;
    if (forward->exchange == EXCHANGE_SYMMETRIC) {
        good = compute_note(compute, tutti_alloc(forward->comm, bytes, &memory)) == TUTTI_OK;
    } else if (forward->exchange == EXCHANGE_PLAIN) {
        memory = compute->ops->alloc(compute, bytes);
        good = memory != NULL;
    } else {
        good = compute->ops->pages_map(compute, &forward->pages, bytes, forward->exchange == EXCHANGE_PAGES);
        memory = forward->pages.address;
    }
    if (good) {
        forward->partial = memory;
        forward->wire_words = (float *)((char *)memory + wire_at);
    }
    return good;
}

/* What was allocated together is left to the communicator: to free it, all ranks would have to come, and one may have failed. */
static void exchange_destroy(struct forward *forward)
{
    struct compute *compute = forward->model->compute;
    if (forward->exchange == EXCHANGE_PLAIN) {
        compute->ops->release(compute, forward->partial);
    }
    compute->ops->pages_unmap(compute, &forward->pages);
    forward->partial = NULL;
    forward->wire_words = NULL;
}

bool forward_create(struct forward *forward, const struct model *model, const struct kv_cache *kv, tutti_comm *comm,
                    const struct forward_limits *limits)
{
    struct compute *compute = model->compute;
    memset(forward, 0, sizeof(*forward));
    forward->model = model;
    forward->kv = kv;
    forward->comm = comm;
    forward->rows_max = limits->rows_max;
    forward->picks_max = limits->picks_max;
    forward->positions_max = limits->positions_max;
    forward->exchange = limits->exchange;
    forward->route_log = limits->route_log;
    forward->routes_given = limits->routes_given;
    forward->logits_stride = (size_t)model->vocab_columns * (size_t)model->world;
    bool complete = inputs_create(&forward->inputs, limits->rows_max, limits->picks_max, model->shape.hidden);
    if (!complete) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "out of memory for the engine's buffers");
    }
    struct scratch list[SCRATCH_COUNT];
    scratch_list(forward, list);
    for (size_t i = 0; i < SCRATCH_OWN && complete; i++) {
        if (list[i].bytes == 0) {
            continue;
        }
        *list[i].buffer = compute->ops->alloc(compute, list[i].bytes);
        complete = *list[i].buffer != NULL;
    }
    complete = complete && exchange_create(forward, list);
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
    for (size_t i = 0; i < SCRATCH_OWN; i++) {
        compute->ops->release(compute, *list[i].buffer);
        *list[i].buffer = NULL;
    }
    exchange_destroy(forward);
    inputs_destroy(&forward->inputs);
    memset(forward, 0, sizeof(*forward));
}

void forward_poison(struct forward *forward)
{
    struct compute *compute = forward->model->compute;
    struct scratch list[SCRATCH_COUNT];
    scratch_list(forward, list);
    for (size_t i = 0; i < SCRATCH_COUNT; i++) {
        if (list[i].bytes > 0) {
            (void)compute->ops->spoil(compute, *list[i].buffer, list[i].bytes);
        }
    }
    size_t hidden = (size_t)forward->model->shape.hidden;
    memset(forward->outputs.picks, 0xff, (size_t)forward->picks_max * sizeof(*forward->outputs.picks));
    struct forward_inputs *inputs = &forward->inputs;
    for (int row = (int)inputs->real_rows; row < forward->rows_max; row++) {
        inputs->tokens[row] = INT32_MAX;
        inputs->positions[row] = INT32_MAX;
        inputs->slots[row] = INT32_MIN;
        inputs->lines[row] = INT32_MAX;
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
