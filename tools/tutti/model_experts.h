/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_experts.h - which experts serve which rows, in a mixture of experts.
 *
 * The router's softmax over all experts gives each row its few largest, with weights that are renormalised to 1. Every rank
 * holds the whole router and decides from the same bits, so all ranks agree without a word. Padding rows go to no expert: they
 * take nobody's place, and what stands in them is not read.
 */
#ifndef TUTTI_TOOL_MODEL_EXPERTS_H
#define TUTTI_TOOL_MODEL_EXPERTS_H

#include <stddef.h>
#include <stdint.h>

/* A row has `top` of them, one after another: its (row, expert) pairs. */
struct expert_route {
    int32_t expert; /* -1: none, of padding */
    float weight;
};

/* Some pairs of one expert: order[first .. first + count). */
struct expert_item {
    int32_t expert, first, count;
};

/* A pass's routing; contents begin undefined, and belong to one layer at a time. */
struct experts_work {
    struct expert_route *routes; /* [rows][top] */
    int32_t *order;              /* [rows * top]: the pairs of real rows, expert after expert */
    struct expert_item *items;   /* [experts_items_max()] */
    uint32_t *item_count;
};

/* GPUs multiply so many pairs at a time by an expert's weights. */
#define EXPERTS_ITEM_PAIRS 8

/* What a GPU's kernels take. */
#define EXPERTS_MAX 256
#define EXPERTS_TOP_MAX 16

/* At most so many items of up to EXPERTS_ITEM_PAIRS pairs can `pairs` pairs make. */
static inline size_t experts_items_max(size_t pairs, size_t experts)
{
    size_t most = experts + pairs / EXPERTS_ITEM_PAIRS;
    return pairs < most ? pairs : most;
}

/* Bytes for the routing of `pairs` pairs; 0 without experts. */
size_t experts_work_bytes(size_t pairs, size_t experts);

/* Where its parts lie in memory of so many bytes, aligned to 16. */
struct experts_work experts_work_in(void *memory, size_t pairs, size_t experts);

/* One row's routes, by weight, equal ones by index. A logit that is no number counts as the lowest: whatever the router says, the
 * experts exist. */
void experts_route(const float *logits, size_t experts, size_t top, struct expert_route *routes);

/* Likewise with the experts that `given` says, whatever the router finds best; their weights are the router's. */
void experts_route_given(const float *logits, const int16_t *given, size_t top, struct expert_route *routes);

/* Fills order, and items with one item for each expert that has any of the first `pairs` routes, by index. */
void experts_group(const struct experts_work *work, size_t pairs, size_t experts);

#endif
