/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_gpu_measure.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench_slots.h"
#include "gpu.h"

#define ALIGN_BYTES 256       /* as the driver's own allocations */
#define UNTOUCHED 0xa5a5a5a5u /* what outputs hold before */

struct measure {
    const struct bench_gpu_library *library;
    void *self;
    tutti_stream stream;
    struct bench_slots buffers; /* in page-locked memory of the host */
    char *device;               /* the same on the device, from the library */
    size_t device_bytes;
    gpu_graph graph; /* of the order in hand; NULL: eager */
    gpu_event *events;
    uint32_t event_count;
    uint64_t *stamps;
};

/* Turns a refusal of the driver's door into the reply's text. */
static int door(struct bench_reply *reply, bool done)
{
    if (!done) {
        (void)snprintf(reply->text, sizeof(reply->text), "%s", gpu_error());
    }
    return done ? 0 : -1;
}

static int said(const struct measure *m, struct bench_reply *reply, int failed)
{
    if (failed != 0) {
        (void)snprintf(reply->text, sizeof(reply->text), "%s", m->library->text(m->self));
    }
    return failed;
}

/* -- memory ---------------------------------------------------------------------------------- */

static int room_make(struct measure *m, size_t bytes, struct bench_reply *reply)
{
    if (bytes <= m->device_bytes) {
        return 0;
    }
    m->library->free(m->self, m->device);
    gpu_host_free(m->buffers.memory);
    m->device = NULL;
    m->buffers.memory = NULL;
    m->device_bytes = 0;
    void *host = NULL;
    void *device = NULL;
    if (door(reply, gpu_host_alloc(&host, bytes)) != 0) {
        return -1;
    }
    m->buffers.memory = host;
    if (said(m, reply, m->library->alloc(m->self, &device, bytes)) != 0) {
        return -1;
    }
    m->device = device;
    m->device_bytes = bytes;
    return 0;
}

/* At least `count`; never fewer than before. */
static int events_make(struct measure *m, uint32_t count, struct bench_reply *reply)
{
    if (count <= m->event_count) {
        return 0;
    }
    gpu_event *events = realloc(m->events, count * sizeof(gpu_event));
    uint64_t *stamps = realloc(m->stamps, count * 2 * sizeof(uint64_t));
    m->events = events != NULL ? events : m->events;
    m->stamps = stamps != NULL ? stamps : m->stamps;
    if (events == NULL || stamps == NULL) {
        (void)snprintf(reply->text, sizeof(reply->text), "no memory for %u time stamps", count);
        return -1;
    }
    while (m->event_count < count) {
        if (door(reply, gpu_event_create(&m->events[m->event_count], true)) != 0) {
            return -1;
        }
        m->event_count++;
    }
    return 0;
}

static char *on_device(const struct measure *m, const char *host)
{
    return m->device + (host - m->buffers.memory);
}

/* -- the calls of an order --------------------------------------------------------------------- */

static int calls_make(struct measure *m, const struct bench_order *order, uint32_t count, struct bench_reply *reply)
{
    for (uint32_t slot = 0; slot < count; slot++) {
        const char *src = on_device(m, bench_slots_src(&m->buffers, slot));
        char *dst = on_device(m, bench_slots_dst(&m->buffers, order, slot));
        int root = bench_slots_root(&m->buffers, slot);
        if (said(m, reply, m->library->call(m->self, order, root, src, dst, m->stream)) != 0) {
            return -1;
        }
    }
    return 0;
}

static int graphs_changed(struct measure *m, struct bench_reply *reply)
{
    return m->library->captured != NULL ? said(m, reply, m->library->captured(m->self)) : 0;
}

static int capture(struct measure *m, const struct bench_order *order, struct bench_reply *reply)
{
    if (door(reply, gpu_capture_begin(m->stream, GPU_CAPTURE_THREAD_LOCAL)) != 0) {
        return -1;
    }
    int failed = calls_make(m, order, order->slots, reply);
    struct bench_reply second = {0}; /* the first trouble is the one to hear of */
    int ended = door(failed != 0 ? &second : reply, gpu_capture_end(m->stream, &m->graph));
    if (failed == 0 && ended == 0) {
        return graphs_changed(m, reply);
    }
    return failed != 0 ? failed : ended;
}

static int run(struct measure *m, const struct bench_order *order, struct bench_reply *reply)
{
    return m->graph != NULL ? door(reply, gpu_graph_launch(m->graph, m->stream))
                            : calls_make(m, order, order->slots, reply);
}

/* New inputs on the device, and outputs that no call has written. */
static int inputs_send(struct measure *m, const struct bench_order *order, uint64_t call, struct bench_reply *reply)
{
    size_t src_bytes = order->slots * m->buffers.src_stride;
    size_t dst_bytes = order->slots * m->buffers.dst_stride;
    char *dst = on_device(m, bench_slots_dst(&m->buffers, order, 0));
    bool broadcast = order->collective == TUTTI_BROADCAST; /* in place: its inputs are in the outputs */
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        bench_slots_fill(&m->buffers, order, slot, call + slot);
    }
    if (dst_bytes > 0 && door(reply, gpu_fill(dst, UNTOUCHED, dst_bytes / sizeof(uint32_t), m->stream)) != 0) {
        return -1;
    }
    for (uint32_t slot = 0; slot < order->slots && broadcast; slot++) {
        const char *host = bench_slots_dst(&m->buffers, order, slot);
        if (bench_slots_root(&m->buffers, slot) == m->buffers.rank &&
            door(reply, gpu_upload(on_device(m, host), host, m->buffers.dst_stride, m->stream)) != 0) {
            return -1;
        }
    }
    if (!broadcast && src_bytes > 0 &&
        door(reply, gpu_upload(m->device, m->buffers.memory, src_bytes, m->stream)) != 0) {
        return -1;
    }
    return door(reply, gpu_stream_wait(m->stream));
}

static int outputs_check(struct measure *m, const struct bench_order *order, uint64_t call, struct bench_reply *reply)
{
    char *host = bench_slots_dst(&m->buffers, order, 0);
    size_t bytes = order->slots * m->buffers.dst_stride;
    if (door(reply, gpu_stream_wait(m->stream)) != 0 || bytes == 0) {
        return bytes == 0 && reply->text[0] == 0 ? 0 : -1;
    }
    if (door(reply, gpu_download(host, on_device(m, host), bytes, m->stream)) != 0 ||
        door(reply, gpu_stream_wait(m->stream)) != 0) {
        return -1;
    }
    for (uint32_t slot = 0; slot < order->slots; slot++) {
        bench_slots_check(&m->buffers, order, slot, call + slot, reply);
    }
    return 0;
}

/* -- one order ----------------------------------------------------------------------------------- */

static int runs_time(struct measure *m, const struct bench_order *order, struct bench_reply *reply)
{
    if (run(m, order, reply) != 0 || door(reply, gpu_event_record(m->events[0], m->stream)) != 0) {
        return -1;
    }
    for (uint32_t batch = 0; batch < order->batches; batch++) {
        if (run(m, order, reply) != 0 || door(reply, gpu_event_record(m->events[batch + 1], m->stream)) != 0) {
            return -1;
        }
    }
    if (door(reply, gpu_stream_wait(m->stream)) != 0) {
        return -1;
    }
    for (uint32_t batch = 0; batch < order->batches; batch++) {
        float ms = 0;
        if (door(reply, gpu_event_elapsed(m->events[batch], m->events[batch + 1], &ms)) != 0) {
            return -1;
        }
        m->stamps[2 * batch] = 0;
        m->stamps[2 * batch + 1] = (uint64_t)((double)ms * 1e6);
    }
    reply->stamps = (uint64_t)2 * order->batches;
    return 0;
}

static int order_run(struct measure *m, const struct bench_order *order, struct bench_reply *reply)
{
    size_t bytes = bench_slots_plan(&m->buffers, order, ALIGN_BYTES);
    if (room_make(m, bytes > 0 ? bytes : ALIGN_BYTES, reply) != 0 || events_make(m, order->batches + 1, reply) != 0 ||
        inputs_send(m, order, order->first_call, reply) != 0) {
        return -1;
    }
    /* Before a capture: libraries connect at the first call of a kind. It also has its inputs, and its result is checked. */
    if (order->loop == BENCH_LOOP_GRAPH && (calls_make(m, order, 1, reply) != 0 || capture(m, order, reply) != 0)) {
        return -1;
    }
    uint64_t second = order->first_call + order->slots;
    if (run(m, order, reply) != 0 || outputs_check(m, order, order->first_call, reply) != 0 ||
        inputs_send(m, order, second, reply) != 0 || runs_time(m, order, reply) != 0) {
        return -1;
    }
    return outputs_check(m, order, second, reply);
}

static int serve_order(int fd, struct measure *m, const struct bench_order *order)
{
    struct bench_reply reply = {.magic = BENCH_MAGIC};
    int failed = order_run(m, order, &reply);
    bool had_graph = m->graph != NULL;
    gpu_graph_destroy(m->graph);
    m->graph = NULL;
    if (failed == 0 && had_graph) {
        failed = graphs_changed(m, &reply);
    }
    if (failed != 0) {
        reply.failed = 1;
        reply.stamps = 0;
    }
    if (bench_wire_send(fd, &reply, sizeof(reply)) != 0 ||
        bench_wire_send(fd, m->stamps, reply.stamps * sizeof(*m->stamps)) != 0) {
        return -1; /* the bench is gone; there is nobody to tell */
    }
    return failed;
}

static void measure_end(struct measure *m)
{
    m->library->free(m->self, m->device);
    gpu_host_free(m->buffers.memory);
    for (uint32_t index = 0; index < m->event_count; index++) {
        gpu_event_destroy(m->events[index]);
    }
    gpu_stream_destroy(m->stream);
    free(m->events);
    free(m->stamps);
}

int bench_gpu_measure_serve(int fd, const struct bench_hello *hello, const struct bench_gpu_library *library,
                            void *self)
{
    struct measure m = {.library = library, .self = self, .buffers = {.rank = hello->rank, .ranks = hello->ranks}};
    struct bench_hello said_hello = *hello;
    struct bench_order order;
    int failed = 0;
    if (!gpu_stream_create(&m.stream)) {
        failed = -1;
        said_hello.failed = 1;
        (void)snprintf(said_hello.text, sizeof(said_hello.text), "%s", gpu_error());
    }
    failed |= bench_wire_send(fd, &said_hello, sizeof(said_hello));
    while (failed == 0 && bench_wire_receive(fd, &order, sizeof(order)) == 0) {
        failed = order.magic == BENCH_MAGIC ? serve_order(fd, &m, &order) : -1;
    }
    if (failed == 0) {
        measure_end(&m); /* after a failure the device may never be done: leaving the process is the end */
    }
    return failed;
}
