/* SPDX-License-Identifier: Apache-2.0 */
#include "model_kv.h"

#include <stdlib.h>
#include <string.h>

bool kv_create(struct kv_cache *cache, const struct model *model, int slot_count)
{
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
    size_t count = cache->layers * cache->kv_heads * 2 * cache->head_dim * capacity;
    float *data = matrix_floats(count);
    if (data == NULL) {
        return false;
    }
    memset(data, 0xff, count * sizeof(float)); /* all bits set is a NaN */
    cache->slots[slot] = (struct kv_slot){data, owner, capacity};
    return true;
}

void kv_close(struct kv_cache *cache, int slot)
{
    free(cache->slots[slot].data);
    cache->slots[slot] = (struct kv_slot){NULL, 0, 0};
}
