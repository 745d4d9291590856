/* SPDX-License-Identifier: Apache-2.0 */
/* compute_gpu_steps.c - the steps of a forward pass as launches on a GPU's stream. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute_gpu.h"
#include "model_forward.h"

#define ALIGNMENT 16

/* Blocks of element-wise kernels, which loop. */
#define ELEMENT_BLOCKS_MAX 2048

tutti_status compute_gpu_launch(struct compute *compute, enum gpu_step_kernel kernel, const struct gpu_launch *how,
                                tutti_stream stream, void *arguments)
{
    void *parameters[] = {arguments};
    return compute_gpu_note(compute, gpu_launch(compute_gpu_of(compute)->kernels[kernel], how, stream, parameters));
}

/* -- inputs and outputs ------------------------------------------------------------------------------ */

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bool attach_memory(struct forward *forward, struct gpu_attached *attached)
{
    size_t picks = (size_t)forward->picks_max;
    size_t embeddings = (size_t)forward->rows_max * (size_t)forward->model->shape.hidden * sizeof(float);
    size_t logits = forward->model->numerics == NUMERICS_REAL ? picks * forward->logits_stride * sizeof(float) : 0;
    size_t lines =
        forward->route_log != NULL ? (size_t)forward->rows_max * forward_line_width(forward) * sizeof(int16_t) : 0;
    void *memory[8] = {0};
    bool good = gpu_host_alloc(&memory[0], attached->packed_bytes) && gpu_alloc(&memory[1], attached->packed_bytes) &&
                gpu_host_alloc(&memory[2], embeddings) && gpu_alloc(&memory[3], picks * sizeof(struct rows_pick)) &&
                gpu_host_alloc(&memory[4], picks * sizeof(struct rows_pick)) &&
                (logits == 0 || gpu_host_alloc(&memory[5], logits)) &&
                (lines == 0 || gpu_host_alloc(&memory[6], lines)) &&
                (lines == 0 || !forward->routes_given || gpu_alloc(&memory[7], lines));
    attached->packed = memory[0];
    attached->inputs = memory[1];
    attached->embeddings = memory[2];
    attached->pick = memory[3];
    forward->outputs.picks = memory[4];
    attached->logits = memory[5];
    attached->lines = memory[6];
    attached->lines_given = memory[7];
    forward->outputs.logits = attached->logits;
    return good;
}

bool compute_gpu_attach(struct compute *compute, struct forward *forward)
{
    int head_dim = forward->model->shape.head_dim;
    if (head_dim > KERNEL_HEAD_DIM_MAX) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "heads of %d values: the kernels take up to %d",
                       head_dim, KERNEL_HEAD_DIM_MAX);
        return false;
    }
    if (!compute_gpu_experts_fit(compute, forward->model)) {
        return false;
    }
    struct gpu_attached *attached = calloc(1, sizeof(*attached));
    if (attached == NULL) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "out of memory");
        return false;
    }
    forward->attached = attached;
    attached->rows_at = aligned((size_t)forward->picks_max * sizeof(int32_t));
    attached->packed_bytes = attached->rows_at + (size_t)forward->rows_max * sizeof(struct kernel_row);
    return compute_gpu_note(compute, attach_memory(forward, attached)) == TUTTI_OK;
}

void compute_gpu_detach(struct compute *compute, struct forward *forward)
{
    (void)compute;
    struct gpu_attached *attached = forward->attached;
    if (attached == NULL) {
        return;
    }
    gpu_host_free(attached->packed);
    gpu_free(attached->inputs);
    gpu_host_free(attached->embeddings);
    gpu_free(attached->pick);
    gpu_host_free(forward->outputs.picks);
    gpu_host_free(attached->logits);
    gpu_host_free(attached->lines);
    gpu_free(attached->lines_given);
    free(attached);
    forward->attached = NULL;
    forward->outputs.picks = NULL;
    forward->outputs.logits = NULL;
}

/* The experts of the real rows, from the log or into it. */
static void copy_lines(struct forward *forward, bool given)
{
    const struct gpu_attached *attached = forward->attached;
    size_t width = forward_line_width(forward);
    for (uint32_t row = 0; row < forward->inputs.real_rows && attached->lines != NULL; row++) {
        int16_t *staged = attached->lines + row * width;
        int16_t *line = forward->route_log + (size_t)forward->inputs.lines[row] * width;
        memcpy(given ? staged : line, given ? line : staged, width * sizeof(int16_t));
    }
}

void compute_gpu_collect(struct compute *compute, struct forward *forward)
{
    (void)compute;
    if (!forward->routes_given) {
        copy_lines(forward, false);
    }
}

/* Padding rows go along as they are, but for the cache, which only a real row has. */
void compute_gpu_stage(struct compute *compute, struct forward *forward)
{
    (void)compute;
    const struct gpu_attached *attached = forward->attached;
    const struct forward_inputs *inputs = &forward->inputs;
    struct kernel_row *rows = (struct kernel_row *)(void *)(attached->packed + attached->rows_at);
    size_t hidden = (size_t)forward->model->shape.hidden;
    if (forward->routes_given) {
        copy_lines(forward, true);
    }
    memcpy(attached->packed, inputs->picks, (size_t)forward->picks_max * sizeof(int32_t));
    for (int row = 0; row < forward->rows_max; row++) {
        bool real = row < (int)inputs->real_rows;
        const struct kv_slot *slot = real ? &forward->kv->slots[inputs->slots[row]] : NULL;
        rows[row] = (struct kernel_row){.cache = real ? slot->data : NULL,
                                        .capacity = real ? (uint32_t)slot->capacity : 0,
                                        .token = inputs->tokens[row],
                                        .position = inputs->positions[row],
                                        .embedded = inputs->embedded[row]};
        if (real && inputs->embedded[row]) {
            memcpy(attached->embeddings + (size_t)row * hidden, inputs->embeddings + (size_t)row * hidden,
                   hidden * sizeof(float));
        }
    }
}

static struct kernel_inputs inputs_of(const struct forward_plan *plan)
{
    const struct gpu_attached *attached = plan->forward->attached;
    return (struct kernel_inputs){
        .real = plan->real,
        .rows = (const struct kernel_row *)(const void *)(attached->inputs + attached->rows_at),
        .picks = (const int32_t *)(const void *)attached->inputs,
        .embeddings = attached->embeddings,
    };
}

/* -- steps ------------------------------------------------------------------------------------------- */

unsigned compute_gpu_blocks(size_t count)
{
    size_t blocks = (count + KERNEL_THREADS - 1) / KERNEL_THREADS;
    return (unsigned)(blocks < ELEMENT_BLOCKS_MAX ? blocks : ELEMENT_BLOCKS_MAX);
}

static tutti_status step_embed(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    const struct gpu_attached *attached = forward->attached;
    size_t bytes = attached->rows_at + (size_t)step->plan->rows * sizeof(struct kernel_row);
    struct kernel_embed arguments = {inputs_of(step->plan), forward->hidden, forward->model->shape.hidden,
                                     forward->model->numerics};
    const struct gpu_launch how = {.blocks = {(unsigned)step->plan->rows}, .threads = KERNEL_THREADS};
    tutti_status status = compute_gpu_note(compute, gpu_upload(attached->inputs, attached->packed, bytes, stream));
    if (status == TUTTI_OK && attached->lines_given != NULL) {
        bytes = (size_t)step->plan->rows * forward_line_width(forward) * sizeof(int16_t);
        status = compute_gpu_note(compute, gpu_upload(attached->lines_given, attached->lines, bytes, stream));
    }
    return status == TUTTI_OK ? compute_gpu_launch(compute, KERNEL_EMBED, &how, stream, &arguments) : status;
}

static tutti_status step_norm(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    bool picked = step->kind == FORWARD_NORM_PICKED;
    int width = forward->model->shape.hidden;
    struct kernel_norm arguments = {.inputs = inputs_of(step->plan),
                                    .in = forward->hidden,
                                    .gains = step->gains,
                                    .out = picked ? forward->picked : forward->normed,
                                    .width = width,
                                    .picked = picked,
                                    .epsilon = forward->model->shape.norm_eps,
                                    .grid = forward_grid(forward, GRID_NORMED)};
    const struct gpu_launch how = {.blocks = {(unsigned)step->plan->rows},
                                   .threads = KERNEL_THREADS,
                                   .shared_bytes = (unsigned)((size_t)width * sizeof(float))};
    return compute_gpu_launch(compute, KERNEL_NORM, &how, stream, &arguments);
}

static tutti_status multiply(struct compute *compute, const struct matrix *matrix, const float *in, float *out,
                             int rows, tutti_stream stream)
{
    bool done = cublas_multiply(compute_gpu_of(compute)->cublas, stream, in, matrix->data, out, (size_t)rows,
                                matrix->inputs, matrix->outputs, compute->sentence, sizeof(compute->sentence));
    return done ? TUTTI_OK : TUTTI_ERR_DRIVER;
}

static tutti_status step_product(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    return multiply(compute, step->matrix, step->in, step->out, step->plan->rows, stream);
}

static tutti_status step_cache(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    const struct model *model = forward->model;
    const struct layer_weights *layer = &model->layers[step->layer];
    struct kernel_cache arguments = {.inputs = inputs_of(step->plan),
                                     .qkv = forward->qkv,
                                     .norm_query = layer->norm_query,
                                     .norm_key = layer->norm_key,
                                     .cosines = model->rope_cos,
                                     .sines = model->rope_sin,
                                     .heads = model->heads,
                                     .kv_heads = model->kv_heads,
                                     .head_dim = model->shape.head_dim,
                                     .layer = step->layer,
                                     .epsilon = model->shape.norm_eps};
    const struct gpu_launch how = {
        .blocks = {(unsigned)step->plan->rows, (unsigned)(model->heads + 2 * model->kv_heads)},
        .threads = KERNEL_THREADS};
    return compute_gpu_launch(compute, KERNEL_CACHE, &how, stream, &arguments);
}

static tutti_status step_attend(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    const struct model *model = forward->model;
    struct kernel_attend arguments = {.inputs = inputs_of(step->plan),
                                      .qkv = forward->qkv,
                                      .out = forward->attended,
                                      .scores = forward->scores,
                                      .positions_max = (size_t)forward->positions_max,
                                      .heads = model->heads,
                                      .kv_heads = model->kv_heads,
                                      .head_dim = model->shape.head_dim,
                                      .layer = step->layer,
                                      .scale = 1.0f / sqrtf((float)model->shape.head_dim),
                                      .grid = forward_grid(forward, GRID_ATTENDED)};
    const struct gpu_launch how = {.blocks = {(unsigned)compute->score_vectors}, .threads = KERNEL_THREADS};
    return compute_gpu_launch(compute, KERNEL_ATTEND, &how, stream, &arguments);
}

static tutti_status step_swiglu(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    struct kernel_swiglu arguments = {.gate_up = forward->gate_up,
                                      .out = forward->activated,
                                      .rows = (size_t)step->plan->rows,
                                      .width = (size_t)forward->model->ffn,
                                      .grid = forward_grid(forward, GRID_ACTIVATED)};
    const struct gpu_launch how = {.blocks = {compute_gpu_blocks(arguments.rows * arguments.width)},
                                   .threads = KERNEL_THREADS};
    return compute_gpu_launch(compute, KERNEL_SWIGLU, &how, stream, &arguments);
}

static tutti_status step_sum(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    struct kernel_sum arguments = {.hidden = forward->hidden,
                                   .partial = forward->partial,
                                   .wire = forward->model->numerics == NUMERICS_REAL ? forward->wire : NULL,
                                   .count = (size_t)step->plan->rows * (size_t)forward->model->shape.hidden};
    const struct gpu_launch how = {.blocks = {compute_gpu_blocks(arguments.count)}, .threads = KERNEL_THREADS};
    return compute_gpu_launch(compute, step->kind == FORWARD_ADD ? KERNEL_ADD : KERNEL_TO_WIRE, &how, stream,
                              &arguments);
}

static tutti_status step_pick(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    const struct gpu_attached *attached = forward->attached;
    size_t picks = (size_t)step->plan->rows;
    struct kernel_pick arguments = {.inputs = inputs_of(step->plan),
                                    .logits = forward->logits,
                                    .stride = forward->logits_stride,
                                    .vocab = forward->model->shape.vocab,
                                    .out = attached->pick};
    const struct gpu_launch how = {.blocks = {(unsigned)picks}, .threads = KERNEL_THREADS};
    tutti_status status = compute_gpu_launch(compute, KERNEL_PICK, &how, stream, &arguments);
    if (status == TUTTI_OK) {
        status = compute_gpu_note(
            compute, gpu_download(forward->outputs.picks, attached->pick, picks * sizeof(struct rows_pick), stream));
    }
    if (status == TUTTI_OK && attached->logits != NULL) {
        size_t bytes = picks * forward->logits_stride * sizeof(float);
        status = compute_gpu_note(compute, gpu_download(attached->logits, forward->logits, bytes, stream));
    }
    return status;
}

tutti_status compute_gpu_enqueue(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    static tutti_status (*const bodies[FORWARD_COMPUTED])(struct compute *, const struct forward_step *,
                                                          tutti_stream) = {
        [FORWARD_EMBED] = step_embed,
        [FORWARD_NORM] = step_norm,
        [FORWARD_PRODUCT] = step_product,
        [FORWARD_CACHE] = step_cache,
        [FORWARD_ATTEND] = step_attend,
        [FORWARD_SWIGLU] = step_swiglu,
        [FORWARD_TO_WIRE] = step_sum,
        [FORWARD_ADD] = step_sum,
        [FORWARD_NORM_PICKED] = step_norm,
        [FORWARD_PICK] = step_pick,
        [FORWARD_ROUTE] = compute_gpu_route,
        [FORWARD_EXPERTS] = compute_gpu_experts,
        [FORWARD_EXPERTS_SUM] = compute_gpu_experts_sum,
    };
    return bodies[step->kind](compute, step, stream);
}

static tutti_status warm_mlp(struct compute *compute, const struct forward *forward, const struct layer_weights *layer,
                             int rows, tutti_stream stream)
{
    if (forward->model->shape.experts > 0) {
        return multiply(compute, &layer->router, forward->normed, forward->router_logits, rows, stream);
    }
    tutti_status status = multiply(compute, &layer->gate_up, forward->normed, forward->gate_up, rows, stream);
    return status == TUTTI_OK ? multiply(compute, &layer->down, forward->activated, forward->partial, rows, stream)
                              : status;
}

/* cuBLAS loads a kernel when it first takes it, which may need what a capture forbids. All layers have the same shapes, and
 * what the scratch holds does not matter. */
bool compute_gpu_warm(struct compute *compute, struct forward *forward, int rows, int picks, tutti_stream stream)
{
    const struct model *model = forward->model;
    const struct layer_weights *layer = &model->layers[0];
    bool layers =
        rows == 0 ||
        (multiply(compute, &layer->query_key_value, forward->normed, forward->qkv, rows, stream) == TUTTI_OK &&
         multiply(compute, &layer->output, forward->attended, forward->partial, rows, stream) == TUTTI_OK &&
         warm_mlp(compute, forward, layer, rows, stream) == TUTTI_OK);
    bool head = layers && (picks == 0 ||
                           multiply(compute, &model->head, forward->picked, forward->shard, picks, stream) == TUTTI_OK);
    return head && compute_gpu_note(compute, gpu_stream_wait(stream)) == TUTTI_OK;
}
