/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_slots.h - the buffers of one rank: `slots` pairs of input and output side by side in one piece of memory, what goes into
 * them and what must have come out.
 */
#ifndef TOOLS_BENCH_SLOTS_H
#define TOOLS_BENCH_SLOTS_H

#include <stddef.h>

#include "bench_wire.h"

struct bench_slots {
    int rank, ranks;
    char *memory; /* all inputs, then all outputs; the owner's */
    size_t memory_bytes;
    /* of the order in hand */
    size_t element_bytes;
    size_t src_count, dst_count; /* elements of one slot */
    size_t src_stride, dst_stride;
};

/* Sizes for an order, buffers at multiples of `align` bytes (not pages: that would fold small ones onto the same cache sets).
 * Returns the bytes that `memory` must have. */
size_t bench_slots_plan(struct bench_slots *slots, const struct bench_order *order, size_t align);

char *bench_slots_src(const struct bench_slots *slots, uint32_t slot);
char *bench_slots_dst(const struct bench_slots *slots, const struct bench_order *order, uint32_t slot);

/* Broadcasts take turns: a fixed root would not wait for anybody, and the loop would time how far it runs ahead. */
int bench_slots_root(const struct bench_slots *slots, uint32_t slot);

/* Writes the inputs of call number `call`. */
void bench_slots_fill(const struct bench_slots *slots, const struct bench_order *order, uint32_t slot, uint64_t call);

/* Compares every element with what that call must give; adds to reply->checked and reply->wrong. */
void bench_slots_check(const struct bench_slots *slots, const struct bench_order *order, uint32_t slot, uint64_t call,
                       struct bench_reply *reply);

#endif
