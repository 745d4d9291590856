/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dependencies.h - what the next node of a captured stream depends on: a set of nodes.
 *
 * Nodes that were captured on one stream (its track) follow one another, so the last of them stands for all.
 * The set therefore holds at most one node a track, sorted by track, and stays as small as the number of
 * streams that take part, however long the capture is.
 */
#ifndef TUTTI_DEVICE_HOST_DEPENDENCIES_H
#define TUTTI_DEVICE_HOST_DEPENDENCIES_H

#include <stdbool.h>
#include <stdint.h>

struct dependency {
    uint32_t track; /* index of the stream within its capture */
    uint32_t node;  /* index in capture order */
};

/* All zero is the empty set. */
struct dependencies {
    struct dependency *items;
    uint32_t count, capacity;
};

/* Makes room for `count` items; false without memory, and nothing has changed. */
bool dependencies_reserve(struct dependencies *set, uint32_t count);

/* `set` becomes the union, the later node of each track. Room for both counts together is reserved. */
void dependencies_merge(struct dependencies *set, const struct dependencies *other);

/* `set` becomes {one}. Room for 1 is reserved. */
void dependencies_set(struct dependencies *set, struct dependency one);

/* Whether the set holds the node or a later one of its track. */
bool dependencies_cover(const struct dependencies *set, struct dependency one);

/* Empties the set and frees its memory. */
void dependencies_free(struct dependencies *set);

#endif
