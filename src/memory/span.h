/* SPDX-License-Identifier: Apache-2.0 */
/* span.h - a range of addresses as the allocations that hold it. One in the usual case; allocators with expandable segments map
 * several back to back. */
#ifndef TUTTI_MEMORY_SPAN_H
#define TUTTI_MEMORY_SPAN_H

#include "device/device.h"

/* One allocation's share of a range. */
struct span_part {
    struct memory_facts facts;
    uint64_t offset; /* in the allocation */
    uint64_t bytes;  /* of the range */
};

typedef tutti_status (*span_look)(void *where, uint64_t address, struct memory_facts *facts);
typedef tutti_status (*span_visit)(void *user, uint64_t address, const struct span_part *part);

/* Calls `visit` for every allocation that holds a part of the range, in order, until one call fails. Where no allocation is known,
 * the part has no bytes, and the walk ends with that call. Asks now: nothing is remembered, nothing is allocated. What look or
 * visit returns. */
tutti_status span_walk(span_look look, void *where, uint64_t address, uint64_t bytes, span_visit visit, void *user);

#endif
