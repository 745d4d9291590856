/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compute_gpu_experts.c - a mixture of experts on a GPU, by the tool's own kernels.
 *
 * Which experts a step needs is known on the device alone: pairs of rows and experts are counted and sorted there, and grids are as
 * large as any routing may need. Only the weights of experts that have rows are read, once for up to EXPERTS_ITEM_PAIRS of them.
 */
#include <stdio.h>

#include "compute_gpu.h"
#include "model_forward.h"

/* Threads read this many weights at once. */
#define WEIGHTS_AT_ONCE 8
#define WARP 32

bool compute_gpu_stack_create(struct compute *compute, struct matrix_stack *stack, size_t count, size_t inputs,
                              size_t outputs)
{
    tutti_stream stream = compute_gpu_of(compute)->stream;
    size_t bytes = count * inputs * outputs * sizeof(uint16_t);
    void *data = NULL;
    if (compute_gpu_note(compute, gpu_alloc(&data, bytes)) != TUTTI_OK) {
        return false;
    }
    *stack = (struct matrix_stack){data, count, inputs, outputs};
    bool zeroed = gpu_fill(data, 0, bytes / sizeof(uint32_t), stream) && gpu_stream_wait(stream);
    return compute_gpu_note(compute, zeroed) == TUTTI_OK;
}

void compute_gpu_stack_destroy(struct compute *compute, struct matrix_stack *stack)
{
    (void)compute;
    gpu_free(stack->data);
    stack->data = NULL;
}

bool compute_gpu_stack_fill(struct compute *compute, const struct matrix_stack *stack, size_t first,
                            const struct weights_stack *weights)
{
    tutti_stream stream = compute_gpu_of(compute)->stream;
    struct kernel_fill_stack arguments = {.out = stack->data,
                                          .outputs = stack->outputs,
                                          .first = first,
                                          .count = stack->count,
                                          .stack = *weights,
                                          .unit = weights_unit(&weights->source)};
    const struct gpu_launch how = {.blocks = {4096}, .threads = KERNEL_THREADS};
    return compute_gpu_launch(compute, KERNEL_FILL_STACK, &how, stream, &arguments) == TUTTI_OK &&
           compute_gpu_note(compute, gpu_stream_wait(stream)) == TUTTI_OK;
}

bool compute_gpu_experts_fit(struct compute *compute, const struct model *model)
{
    const struct model_shape *shape = &model->shape;
    if (shape->experts > EXPERTS_MAX || shape->top > EXPERTS_TOP_MAX) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence),
                       "%d experts, %d for a token: the kernels take up to %d, %d", shape->experts, shape->top,
                       EXPERTS_MAX, EXPERTS_TOP_MAX);
        return false;
    }
    if (shape->experts > 0 && (model->ffn % WEIGHTS_AT_ONCE != 0 || shape->hidden % WEIGHTS_AT_ONCE != 0)) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence),
                       "experts of %d columns on each rank: the kernels take multiples of %d", model->ffn,
                       WEIGHTS_AT_ONCE);
        return false;
    }
    return true;
}

static struct experts_work routing_of(const struct forward *forward)
{
    size_t pairs = forward_pairs(forward, (size_t)forward->rows_max);
    return experts_work_in(forward->routing, pairs, (size_t)forward->model->shape.experts);
}

tutti_status compute_gpu_route(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    const struct gpu_attached *attached = forward->attached;
    const struct model_shape *shape = &forward->model->shape;
    size_t part = (size_t)step->layer * (size_t)shape->top;
    const int16_t *given = attached->lines_given;
    int16_t *noted = given == NULL ? attached->lines : NULL;
    struct kernel_route arguments = {.row_word = step->plan->real,
                                     .logits = forward->router_logits,
                                     .work = routing_of(forward),
                                     .rows = step->plan->rows,
                                     .experts = shape->experts,
                                     .top = shape->top,
                                     .given = given != NULL ? given + part : NULL,
                                     .noted = noted != NULL ? noted + part : NULL,
                                     .line_width = forward_line_width(forward)};
    struct gpu_launch how = {.blocks = {((unsigned)step->plan->rows * WARP + KERNEL_THREADS - 1) / KERNEL_THREADS},
                             .threads = KERNEL_THREADS};
    tutti_status status = compute_gpu_launch(compute, KERNEL_ROUTE, &how, stream, &arguments);
    how.blocks[0] = 1;
    return status == TUTTI_OK ? compute_gpu_launch(compute, KERNEL_GROUP, &how, stream, &arguments) : status;
}

/* How many threads share a column: few enough that each has a few turns, so that loads are under way and no thread is idle. */
static int team_of(size_t inputs)
{
    size_t turns = inputs / WEIGHTS_AT_ONCE;
    int team = 1;
    while (team < WARP && (size_t)team * 4 <= turns) {
        team *= 2;
    }
    return team;
}

static tutti_status product(struct compute *compute, const struct forward_step *step, enum gpu_step_kernel kernel,
                            struct kernel_experts arguments, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    size_t pairs = forward_pairs(forward, (size_t)step->plan->rows);
    size_t columns = (size_t)(kernel == KERNEL_EXPERTS_UP ? arguments.outputs : arguments.outputs / 2);
    arguments.work = routing_of(forward);
    arguments.top = forward->model->shape.top;
    arguments.team = team_of((size_t)arguments.inputs);
    size_t tiles = (columns * (size_t)arguments.team + KERNEL_THREADS - 1) / KERNEL_THREADS;
    size_t items = experts_items_max(pairs, (size_t)forward->model->shape.experts);
    const struct gpu_launch how = {.blocks = {(unsigned)tiles, (unsigned)items}, .threads = KERNEL_THREADS};
    return compute_gpu_launch(compute, kernel, &how, stream, &arguments);
}

tutti_status compute_gpu_experts(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    const struct kernel_experts arguments = {.in = forward->normed,
                                             .weights = forward->model->layers[step->layer].experts_gate_up.data,
                                             .out = forward->activated,
                                             .inputs = forward->model->shape.hidden,
                                             .outputs = forward->model->ffn,
                                             .grid = forward_grid(forward, GRID_ROUTED)};
    return product(compute, step, KERNEL_EXPERTS_UP, arguments, stream);
}

tutti_status compute_gpu_experts_sum(struct compute *compute, const struct forward_step *step, tutti_stream stream)
{
    const struct forward *forward = step->plan->forward;
    const struct kernel_experts arguments = {.in = forward->activated,
                                             .weights = forward->model->layers[step->layer].experts_down.data,
                                             .out = forward->expert_out,
                                             .inputs = forward->model->ffn,
                                             .outputs = forward->model->shape.hidden};
    tutti_status status = product(compute, step, KERNEL_EXPERTS_DOWN, arguments, stream);
    if (status != TUTTI_OK) {
        return status;
    }
    struct kernel_experts_sum sum = {.row_word = step->plan->real,
                                     .in = forward->expert_out,
                                     .out = forward->partial,
                                     .rows = (size_t)step->plan->rows,
                                     .width = (size_t)forward->model->shape.hidden,
                                     .top = forward->model->shape.top};
    const struct gpu_launch how = {.blocks = {compute_gpu_blocks(sum.rows * sum.width)}, .threads = KERNEL_THREADS};
    return compute_gpu_launch(compute, KERNEL_EXPERTS_SUM, &how, stream, &sum);
}
