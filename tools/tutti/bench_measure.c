/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_slots.h"

struct measure {
    const struct bench_library *library;
    void *self;
    struct bench_slots buffers; /* memory: grows, never shrinks */
    uint64_t *stamps;
    size_t stamps_capacity;
};

static uint64_t now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int lay_out(struct measure *m, const struct bench_order *order, struct bench_reply *reply)
{
    struct bench_slots *buffers = &m->buffers;
    size_t bytes = bench_slots_plan(buffers, order, 64);
    if (bytes > buffers->memory_bytes) {
        free(buffers->memory);
        buffers->memory_bytes = 0;
        buffers->memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
        if (buffers->memory == NULL) {
            (void)snprintf(reply->text, sizeof(reply->text), "no memory for %u pairs of buffers, %zu bytes in all",
                           order->slots, bytes);
            return -1;
        }
        buffers->memory_bytes = bytes;
        memset(buffers->memory, 0, bytes); /* page faults belong to nobody's time */
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

static int make_call(struct measure *m, const struct bench_order *order, uint32_t slot)
{
    return m->library->call(m->self, order, bench_slots_root(&m->buffers, slot), bench_slots_src(&m->buffers, slot),
                            bench_slots_dst(&m->buffers, order, slot));
}

static int tight_batch(struct measure *m, const struct bench_order *order, uint32_t batch, struct bench_reply *reply)
{
    uint64_t call = order->first_call + (uint64_t)batch * order->slots;
    uint64_t *stamps = m->stamps + (size_t)batch * order->slots;
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        bench_slots_fill(&m->buffers, order, slot, call + slot);
    }
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        if (make_call(m, order, slot) != 0) {
            return -1;
        }
        stamps[slot] = now();
    }
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        bench_slots_check(&m->buffers, order, slot, call + slot, reply);
    }
    return 0;
}

static int graph_batch(struct measure *m, const struct bench_order *order, uint32_t batch, struct bench_reply *reply)
{
    uint64_t call = order->first_call + (uint64_t)batch * order->slots;
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        bench_slots_fill(&m->buffers, order, slot, call + slot);
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
        bench_slots_check(&m->buffers, order, slot, call + slot, reply);
    }
    return 0;
}

static int alone_batch(struct measure *m, const struct bench_order *order, uint32_t batch, struct bench_reply *reply)
{
    uint64_t call = order->first_call + batch;
    uint32_t slot = batch % order->slots;
    bench_slots_fill(&m->buffers, order, slot, call);
    if (m->library->barrier(m->self) != 0) {
        return -1;
    }
    m->stamps[2 * batch] = now();
    if (make_call(m, order, slot) != 0) {
        return -1;
    }
    m->stamps[2 * batch + 1] = now();
    bench_slots_check(&m->buffers, order, slot, call, reply);
    return 0;
}

static int copy_batch(struct measure *m, const struct bench_order *order, uint32_t batch)
{
    if (m->library->barrier(m->self) != 0) {
        return -1;
    }
    const struct bench_slots *buffers = &m->buffers;
    m->stamps[2 * batch] = now();
    if ((uint32_t)buffers->rank < order->copiers) {
        for (uint32_t pass = 0; pass < order->copy_passes; pass++) {
            for (uint32_t slot = 0; slot < order->slots; slot++) {
                memcpy(bench_slots_dst(buffers, order, slot), bench_slots_src(buffers, slot),
                       buffers->dst_count * buffers->element_bytes);
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
        case BENCH_LOOP_SPAN: /* bench_gpu_measure.c */
            failed = -1;
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
    struct measure m = {.library = library, .self = self, .buffers = {.rank = hello->rank, .ranks = hello->ranks}};
    int failed = bench_wire_send(fd, hello, sizeof(*hello));
    struct bench_order order;
    while (failed == 0 && bench_wire_receive(fd, &order, sizeof(order)) == 0) {
        failed = order.magic == BENCH_MAGIC ? serve_order(fd, &m, &order) : -1;
    }
    free(m.buffers.memory);
    free(m.stamps);
    return failed;
}
