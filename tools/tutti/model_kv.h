/* SPDX-License-Identifier: Apache-2.0 */
/* model_kv.h - keys and values of the running requests, one slot per request. */
#ifndef TUTTI_TOOL_MODEL_KV_H
#define TUTTI_TOOL_MODEL_KV_H

#include <stdbool.h>
#include <stddef.h>

#include "model.h"

/* One request's cache. Keys are kept transposed, so that scores of neighbouring positions are computed side by
 * side: per layer and head [head_dim][capacity] of keys, then [capacity][head_dim] of values. */
struct kv_slot {
    float *data; /* in the computer's memory; NULL: free */
    int owner;   /* the request it was opened for */
    size_t capacity;
};

struct kv_cache {
    struct compute *compute; /* borrowed from the model */
    size_t layers, kv_heads, head_dim;
    int slot_count;
    struct kv_slot *slots; /* captured attention finds its slot here at replay */
};

/* False if memory ran out. */
bool kv_create(struct kv_cache *cache, const struct model *model, int slot_count);
void kv_destroy(struct kv_cache *cache);

/* Takes the free slot `slot` for request `owner`, a sequence of up to `tokens`. Everything in it is NaN until it is written: who
 * reads past a sequence's length is found out. False, with the computer's sentence, if memory ran out. */
bool kv_open(struct kv_cache *cache, int slot, int owner, int tokens);
void kv_close(struct kv_cache *cache, int slot);

static inline float *kv_keys(const struct kv_cache *cache, int slot, int layer, int head)
{
    const struct kv_slot *entry = &cache->slots[slot];
    size_t block = cache->head_dim * entry->capacity;
    return entry->data + ((size_t)layer * cache->kv_heads + (size_t)head) * 2 * block;
}

static inline float *kv_values(const struct kv_cache *cache, int slot, int layer, int head)
{
    return kv_keys(cache, slot, layer, head) + cache->head_dim * cache->slots[slot].capacity;
}

#endif
