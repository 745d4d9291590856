/* SPDX-License-Identifier: Apache-2.0 */
#include "model_experts.h"

#include <math.h>
#include <stdbool.h>

#include "model_numerics.h"

/* Sums over experts run in this many interleaved strands, on GPUs too. */
#define STRANDS 16

#define ALIGNMENT 16

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

size_t experts_work_bytes(size_t pairs, size_t experts)
{
    if (experts == 0) {
        return 0;
    }
    /* Items of any number of pairs, too: one for each expert. */
    return aligned(pairs * sizeof(struct expert_route)) + aligned(pairs * sizeof(int32_t)) +
           aligned(experts_items_max(pairs, experts) * sizeof(struct expert_item)) + ALIGNMENT;
}

struct experts_work experts_work_in(void *memory, size_t pairs, size_t experts)
{
    char *routes = memory;
    char *order = routes + aligned(pairs * sizeof(struct expert_route));
    char *items = order + aligned(pairs * sizeof(int32_t));
    char *count = items + aligned(experts_items_max(pairs, experts) * sizeof(struct expert_item));
    return (struct experts_work){(void *)routes, (void *)order, (void *)items, (void *)count};
}

static float sound(float logit)
{
    return isnan(logit) ? -INFINITY : logit;
}

/* The largest logit that comes after (value, index): smaller, or equal and of a higher index. */
static int32_t next_best(const float *logits, size_t experts, float value, int32_t index)
{
    int32_t best = -1;
    for (size_t i = 0; i < experts; i++) {
        float logit = sound(logits[i]);
        bool after = logit < value || (!(logit > value) && (int32_t)i > index);
        if (after && (best < 0 || logit > sound(logits[best]))) {
            best = (int32_t)i;
        }
    }
    return best;
}

/* e^(logit - most) of all experts, added up. */
static float softmax_sum(const float *logits, size_t experts, float most)
{
    float strands[STRANDS] = {0};
    for (size_t i = 0; i < experts; i++) {
        strands[i % STRANDS] += numerics_exp(sound(logits[i]) - most);
    }
    float sum = 0.0f;
    for (size_t s = 0; s < STRANDS; s++) {
        sum += strands[s];
    }
    return sum;
}

void experts_route(const float *logits, size_t experts, size_t top, struct expert_route *routes)
{
    float value = INFINITY;
    int32_t index = -1;
    float most = 0.0f;
    for (size_t k = 0; k < top; k++) {
        index = next_best(logits, experts, value, index);
        value = sound(logits[index]);
        most = k == 0 ? value : most;
        routes[k] = (struct expert_route){index, numerics_exp(value - most)};
    }
    float all = softmax_sum(logits, experts, most);
    float chosen = 0.0f;
    for (size_t k = 0; k < top; k++) {
        routes[k].weight /= all;
        chosen += routes[k].weight;
    }
    for (size_t k = 0; k < top; k++) {
        routes[k].weight /= chosen;
    }
}

void experts_route_given(const float *logits, const int16_t *given, size_t top, struct expert_route *routes)
{
    float most = -INFINITY;
    float sum = 0.0f;
    for (size_t k = 0; k < top; k++) {
        most = logits[given[k]] > most ? logits[given[k]] : most;
    }
    for (size_t k = 0; k < top; k++) {
        routes[k] = (struct expert_route){given[k], numerics_exp(sound(logits[given[k]]) - most)};
        sum += routes[k].weight;
    }
    for (size_t k = 0; k < top; k++) {
        routes[k].weight /= sum;
    }
}

void experts_group(const struct experts_work *work, size_t pairs, size_t experts)
{
    int32_t placed = 0;
    uint32_t items = 0;
    for (size_t expert = 0; expert < experts; expert++) {
        int32_t first = placed;
        for (size_t pair = 0; pair < pairs; pair++) {
            if (work->routes[pair].expert == (int32_t)expert) {
                work->order[placed++] = (int32_t)pair;
            }
        }
        if (placed > first) {
            work->items[items++] = (struct expert_item){(int32_t)expert, first, placed - first};
        }
    }
    *work->item_count = items;
}
