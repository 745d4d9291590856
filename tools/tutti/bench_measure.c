/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_values.h"

struct measure {
    int rank, ranks;
    const struct bench_library *library;
    void *self;
    char *memory; /* all inputs, then all outputs; grows, never shrinks */
    size_t memory_bytes;
    uint64_t *stamps;
    size_t stamps_capacity;
    /* of the order in hand */
    size_t element_bytes;
    size_t src_count, dst_count; /* elements of one slot */
    size_t src_stride, dst_stride;
};

static uint64_t now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static char *slot_src(const struct measure *m, uint32_t slot)
{
    return m->memory + slot * m->src_stride;
}

static char *slot_dst(const struct measure *m, const struct bench_order *order, uint32_t slot)
{
    return m->memory + order->slots * m->src_stride + slot * m->dst_stride;
}

/* Sizes and buffers for an order. Slots lie side by side at cache lines: page alignment would fold small ones
 * onto the same cache sets. */
static int lay_out(struct measure *m, const struct bench_order *order, struct bench_reply *reply)
{
    size_t count = order->count;
    size_t all = count * (size_t)m->ranks;
    tutti_collective what = (tutti_collective)order->collective;
    m->element_bytes = order->dtype == TUTTI_F32 ? 4 : 2;
    m->src_count = what == TUTTI_REDUCE_SCATTER || what == TUTTI_ALL_TO_ALL ? all : count;
    m->dst_count = what == TUTTI_ALL_GATHER || what == TUTTI_ALL_TO_ALL ? all : count;
    if (order->loop == BENCH_LOOP_COPY) {
        m->src_count = m->dst_count = count;
    }
    m->src_stride = (m->src_count * m->element_bytes + 63) / 64 * 64;
    m->dst_stride = (m->dst_count * m->element_bytes + 63) / 64 * 64;
    size_t bytes = (m->src_stride + m->dst_stride) * order->slots;
    if (bytes > m->memory_bytes) {
        free(m->memory);
        m->memory_bytes = 0;
        m->memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
        if (m->memory == NULL) {
            (void)snprintf(reply->text, sizeof(reply->text), "no memory for %u pairs of buffers, %zu bytes in all",
                           order->slots, bytes);
            return -1;
        }
        m->memory_bytes = bytes;
        memset(m->memory, 0, bytes); /* page faults belong to nobody's time */
    }
    size_t stamps = (size_t)order->batches * (order->loop == BENCH_LOOP_TIGHT ? order->slots : 2);
    if (m->stamps == NULL || stamps > m->stamps_capacity) {
        free(m->stamps);
        m->stamps_capacity = 0;
        m->stamps = calloc(stamps, sizeof(*m->stamps));
        if (m->stamps == NULL) {
            (void)snprintf(reply->text, sizeof(reply->text), "no memory for %zu time stamps", stamps);
            return -1;
        }
        m->stamps_capacity = stamps;
    }
    reply->stamps = stamps;
    return 0;
}

/* Broadcasts take turns: a fixed root would not wait for anybody, and the loop would time how far it runs ahead. */
static int slot_root(const struct measure *m, uint32_t slot)
{
    return (int)(slot % (uint32_t)m->ranks);
}

static void fill_slot(struct measure *m, const struct bench_order *order, uint32_t slot, uint64_t call)
{
    tutti_dtype dtype = (tutti_dtype)order->dtype;
    if (order->collective == TUTTI_BROADCAST) { /* in place: the root's buffer is what it sends */
        if (m->rank == slot_root(m, slot)) {
            bench_values_fill(dtype, m->ranks, call, m->rank, 0, slot_dst(m, order, slot), m->dst_count);
        }
    } else {
        bench_values_fill(dtype, m->ranks, call, m->rank, 0, slot_src(m, slot), m->src_count);
    }
}

static void check_slot(struct measure *m, const struct bench_order *order, uint32_t slot, uint64_t call,
                       struct bench_reply *reply)
{
    tutti_dtype dtype = (tutti_dtype)order->dtype;
    const char *got = slot_dst(m, order, slot);
    size_t count = order->count;
    uint64_t mine = (uint64_t)m->rank * count; /* where this rank's share begins */
    switch ((tutti_collective)order->collective) {
    case TUTTI_ALL_REDUCE:
        reply->wrong += bench_values_wrong_sum(dtype, m->ranks, call, 0, got, count);
        break;
    case TUTTI_REDUCE_SCATTER:
        reply->wrong += bench_values_wrong_sum(dtype, m->ranks, call, mine, got, count);
        break;
    case TUTTI_BROADCAST:
        reply->wrong += bench_values_wrong(dtype, m->ranks, call, slot_root(m, slot), 0, got, count);
        break;
    case TUTTI_ALL_GATHER:
    case TUTTI_ALL_TO_ALL:
        for (int rank = 0; rank < m->ranks; rank++) {
            uint64_t first = order->collective == TUTTI_ALL_TO_ALL ? mine : 0;
            const char *block = got + (size_t)rank * count * m->element_bytes;
            reply->wrong += bench_values_wrong(dtype, m->ranks, call, rank, first, block, count);
        }
        break;
    case TUTTI_BARRIER:
        break;
    }
    reply->checked += m->dst_count;
}

static int make_call(struct measure *m, const struct bench_order *order, uint32_t slot)
{
    return m->library->call(m->self, order, slot_root(m, slot), slot_src(m, slot), slot_dst(m, order, slot));
}

static int tight_batch(struct measure *m, const struct bench_order *order, uint32_t batch, struct bench_reply *reply)
{
    uint64_t call = order->first_call + (uint64_t)batch * order->slots;
    uint64_t *stamps = m->stamps + (size_t)batch * order->slots;
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        fill_slot(m, order, slot, call + slot);
    }
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        if (make_call(m, order, slot) != 0) {
            return -1;
        }
        stamps[slot] = now();
    }
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        check_slot(m, order, slot, call + slot, reply);
    }
    return 0;
}

static int graph_batch(struct measure *m, const struct bench_order *order, uint32_t batch, struct bench_reply *reply)
{
    uint64_t call = order->first_call + (uint64_t)batch * order->slots;
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        fill_slot(m, order, slot, call + slot);
    }
    if (m->library->barrier(m->self) != 0) {
        return -1;
    }
    m->stamps[2 * batch] = now();
    if (m->library->graph_replay(m->self) != 0) {
        return -1;
    }
    m->stamps[2 * batch + 1] = now();
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        check_slot(m, order, slot, call + slot, reply);
    }
    return 0;
}

static int alone_batch(struct measure *m, const struct bench_order *order, uint32_t batch, struct bench_reply *reply)
{
    uint64_t call = order->first_call + batch;
    uint32_t slot = batch % order->slots;
    fill_slot(m, order, slot, call);
    if (m->library->barrier(m->self) != 0) {
        return -1;
    }
    m->stamps[2 * batch] = now();
    if (make_call(m, order, slot) != 0) {
        return -1;
    }
    m->stamps[2 * batch + 1] = now();
    check_slot(m, order, slot, call, reply);
    return 0;
}

static int copy_batch(struct measure *m, const struct bench_order *order, uint32_t batch)
{
    if (m->library->barrier(m->self) != 0) {
        return -1;
    }
    m->stamps[2 * batch] = now();
    if ((uint32_t)m->rank < order->copiers) {
        for (uint32_t pass = 0; pass < order->copy_passes; pass++) {
            for (uint32_t slot = 0; slot < order->slots; slot++) {
                memcpy(slot_dst(m, order, slot), slot_src(m, slot), m->dst_count * m->element_bytes);
                __asm__ volatile("" ::: "memory"); /* each copy is a copy */
            }
        }
    }
    m->stamps[2 * batch + 1] = now();
    return 0;
}

static int capture(struct measure *m, const struct bench_order *order)
{
    if (m->library->graph_begin(m->self) != 0) {
        return -1;
    }
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        if (make_call(m, order, slot) != 0) {
            return -1;
        }
    }
    return m->library->graph_end(m->self);
}

static int run_batches(struct measure *m, const struct bench_order *order, struct bench_reply *reply)
{
    bool graph = order->loop == BENCH_LOOP_GRAPH;
    int failed = graph ? capture(m, order) : 0;
    for (uint32_t batch = 0; batch < order->batches && failed == 0; batch++) {
        switch ((enum bench_loop)order->loop) {
        case BENCH_LOOP_TIGHT:
            failed = tight_batch(m, order, batch, reply);
            break;
        case BENCH_LOOP_GRAPH:
            failed = graph_batch(m, order, batch, reply);
            break;
        case BENCH_LOOP_ALONE:
            failed = alone_batch(m, order, batch, reply);
            break;
        case BENCH_LOOP_COPY:
            failed = copy_batch(m, order, batch);
            break;
        }
    }
    if (failed != 0) {
        (void)snprintf(reply->text, sizeof(reply->text), "%s", m->library->text(m->self));
    }
    if (graph) {
        m->library->graph_drop(m->self);
    }
    return failed;
}

static int serve_order(int fd, struct measure *m, const struct bench_order *order)
{
    struct bench_reply reply = {.magic = BENCH_MAGIC};
    uint64_t sleeps = m->library->sleeps != NULL ? m->library->sleeps(m->self) : 0;
    int failed = lay_out(m, order, &reply);
    if (failed == 0) {
        failed = run_batches(m, order, &reply);
    }
    if (failed != 0) {
        reply.failed = 1;
        reply.stamps = 0;
    } else if (m->library->sleeps != NULL) {
        reply.sleeps = m->library->sleeps(m->self) - sleeps;
    }
    if (bench_wire_send(fd, &reply, sizeof(reply)) != 0 ||
        bench_wire_send(fd, m->stamps, reply.stamps * sizeof(*m->stamps)) != 0) {
        return -1; /* the bench is gone; there is nobody to tell */
    }
    return failed;
}

int bench_measure_serve(int fd, const struct bench_hello *hello, const struct bench_library *library, void *self)
{
    struct measure m = {.rank = hello->rank, .ranks = hello->ranks, .library = library, .self = self};
    int failed = bench_wire_send(fd, hello, sizeof(*hello));
    struct bench_order order;
    while (failed == 0 && bench_wire_receive(fd, &order, sizeof(order)) == 0) {
        failed = order.magic == BENCH_MAGIC ? serve_order(fd, &m, &order) : -1;
    }
    free(m.memory);
    free(m.stamps);
    return failed;
}
