/* SPDX-License-Identifier: Apache-2.0 */
#include "model_kv.h"

#include <stdlib.h>

#include "compute.h"

bool kv_create(struct kv_cache *cache, const struct model *model, int slot_count)
{
    cache->compute = model->compute;
    cache->layers = (size_t)model->shape.layers;
    cache->kv_heads = (size_t)model->kv_heads;
    cache->head_dim = (size_t)model->shape.head_dim;
    cache->slot_count = slot_count;
    cache->slots = calloc((size_t)slot_count, sizeof(*cache->slots));
    return cache->slots != NULL;
}

void kv_destroy(struct kv_cache *cache)
{
    for (int slot = 0; cache->slots != NULL && slot < cache->slot_count; slot++) {
        kv_close(cache, slot);
    }
    free(cache->slots);
    cache->slots = NULL;
}

bool kv_open(struct kv_cache *cache, int slot, int owner, int tokens)
{
    size_t capacity = ((size_t)tokens + 15) / 16 * 16;
    struct compute *compute = cache->compute;
    size_t bytes = cache->layers * cache->kv_heads * 2 * cache->head_dim * capacity * sizeof(float);
    float *data = compute->ops->alloc(compute, bytes);
    if (data == NULL || !compute->ops->spoil(compute, data, bytes)) {
        compute->ops->release(compute, data);
        return false;
    }
    cache->slots[slot] = (struct kv_slot){data, owner, capacity};
    return true;
}

void kv_close(struct kv_cache *cache, int slot)
{
    cache->compute->ops->release(cache->compute, cache->slots[slot].data);
    cache->slots[slot] = (struct kv_slot){NULL, 0, 0};
}
