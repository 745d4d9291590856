/* SPDX-License-Identifier: Apache-2.0 */
#include "device/host/dependencies.h"

#include <stdlib.h>
#include <string.h>

bool dependencies_reserve(struct dependencies *set, uint32_t count)
{
    if (count <= set->capacity) {
        return true;
    }
    uint32_t capacity = count < 8 ? 8 : count;
    struct dependency *items = realloc(set->items, capacity * sizeof(*items));
    if (items == NULL) {
        return false;
    }
    set->items = items;
    set->capacity = capacity;
    return true;
}

void dependencies_merge(struct dependencies *set, const struct dependencies *other)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < other->count; i++) {
        struct dependency one = other->items[i];
        while (at < set->count && set->items[at].track < one.track) {
            at++;
        }
        if (at < set->count && set->items[at].track == one.track) {
            if (set->items[at].node < one.node) {
                set->items[at].node = one.node;
            }
            continue;
        }
        memmove(&set->items[at + 1], &set->items[at], (set->count - at) * sizeof(one));
        set->items[at] = one;
        set->count++;
    }
}

void dependencies_set(struct dependencies *set, struct dependency one)
{
    set->items[0] = one;
    set->count = 1;
}

bool dependencies_cover(const struct dependencies *set, struct dependency one)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->items[i].track == one.track) {
            return set->items[i].node >= one.node;
        }
    }
    return false;
}

void dependencies_free(struct dependencies *set)
{
    free(set->items);
    *set = (struct dependencies){NULL, 0, 0};
}
