/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_slots.h"

#include "bench_values.h"

size_t bench_slots_plan(struct bench_slots *slots, const struct bench_order *order, size_t align)
{
    size_t count = order->count;
    size_t all = count * (size_t)slots->ranks;
    tutti_collective what = (tutti_collective)order->collective;
    slots->element_bytes = order->dtype == TUTTI_F32 ? 4 : 2;
    slots->src_count = what == TUTTI_REDUCE_SCATTER || what == TUTTI_ALL_TO_ALL ? all : count;
    slots->dst_count = what == TUTTI_ALL_GATHER || what == TUTTI_ALL_TO_ALL ? all : count;
    if (order->loop == BENCH_LOOP_COPY) {
        slots->src_count = slots->dst_count = count;
    }
    slots->src_stride = (slots->src_count * slots->element_bytes + align - 1) / align * align;
    slots->dst_stride = (slots->dst_count * slots->element_bytes + align - 1) / align * align;
    return (slots->src_stride + slots->dst_stride) * order->slots;
}

char *bench_slots_src(const struct bench_slots *slots, uint32_t slot)
{
    return slots->memory + slot * slots->src_stride;
}

char *bench_slots_dst(const struct bench_slots *slots, const struct bench_order *order, uint32_t slot)
{
    return slots->memory + order->slots * slots->src_stride + slot * slots->dst_stride;
}

int bench_slots_root(const struct bench_slots *slots, uint32_t slot)
{
    return (int)(slot % (uint32_t)slots->ranks);
}

void bench_slots_fill(const struct bench_slots *slots, const struct bench_order *order, uint32_t slot, uint64_t call)
{
    tutti_dtype dtype = (tutti_dtype)order->dtype;
    if (order->collective == TUTTI_BROADCAST) { /* in place: the root's buffer is what it sends */
        if (slots->rank == bench_slots_root(slots, slot)) {
            bench_values_fill(dtype, slots->ranks, call, slots->rank, 0, bench_slots_dst(slots, order, slot),
                              slots->dst_count);
        }
    } else {
        bench_values_fill(dtype, slots->ranks, call, slots->rank, 0, bench_slots_src(slots, slot), slots->src_count);
    }
}

void bench_slots_check(const struct bench_slots *slots, const struct bench_order *order, uint32_t slot, uint64_t call,
                       struct bench_reply *reply)
{
    tutti_dtype dtype = (tutti_dtype)order->dtype;
    const char *got = bench_slots_dst(slots, order, slot);
    size_t count = order->count;
    uint64_t mine = (uint64_t)slots->rank * count; /* where this rank's share begins */
    switch ((tutti_collective)order->collective) {
    case TUTTI_ALL_REDUCE:
        reply->wrong += bench_values_wrong_sum(dtype, slots->ranks, call, 0, got, count);
        break;
    case TUTTI_REDUCE_SCATTER:
        reply->wrong += bench_values_wrong_sum(dtype, slots->ranks, call, mine, got, count);
        break;
    case TUTTI_BROADCAST:
        reply->wrong += bench_values_wrong(dtype, slots->ranks, call, bench_slots_root(slots, slot), 0, got, count);
        break;
    case TUTTI_ALL_GATHER:
    case TUTTI_ALL_TO_ALL:
        for (int rank = 0; rank < slots->ranks; rank++) {
            uint64_t first = order->collective == TUTTI_ALL_TO_ALL ? mine : 0;
            const char *block = got + (size_t)rank * count * slots->element_bytes;
            reply->wrong += bench_values_wrong(dtype, slots->ranks, call, rank, first, block, count);
        }
        break;
    case TUTTI_BARRIER:
        break;
    }
    reply->checked += slots->dst_count;
}
