/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_ranks.h"

#include <stdio.h>
#include <string.h>

#include "bench_measure.h"
#include "tutti/host.h"
#include "tutti/tutti.h"

struct ours {
    tutti_comm *comm;
    tutti_host_stream *stream; /* captures only: eager calls and replays run on the NULL stream */
    tutti_host_graph *graph;
    bool capturing;
    char text[400];
};

static int result(struct ours *ours, tutti_status status)
{
    if (status == TUTTI_OK) {
        return 0;
    }
    (void)snprintf(ours->text, sizeof(ours->text), "%s: %s", tutti_status_name(status), tutti_last_error());
    return -1;
}

static int ours_call(void *self, const struct bench_order *order, int root, const void *src, void *dst)
{
    struct ours *ours = self;
    tutti_call call = {.struct_bytes = sizeof(call), .stream = ours->capturing ? ours->stream : NULL};
    tutti_dtype dtype = (tutti_dtype)order->dtype;
    size_t count = order->count;
    size_t bytes = count * (dtype == TUTTI_F32 ? 4 : 2);
    switch ((tutti_collective)order->collective) {
    case TUTTI_ALL_REDUCE:
        return result(ours, tutti_all_reduce(ours->comm, src, dst, count, dtype, TUTTI_SUM, &call));
    case TUTTI_REDUCE_SCATTER:
        return result(ours, tutti_reduce_scatter(ours->comm, src, dst, count, dtype, TUTTI_SUM, &call));
    case TUTTI_ALL_GATHER:
        return result(ours, tutti_all_gather(ours->comm, src, dst, bytes, &call));
    case TUTTI_BROADCAST:
        return result(ours, tutti_broadcast(ours->comm, dst, bytes, root, &call));
    case TUTTI_ALL_TO_ALL:
        return result(ours, tutti_all_to_all(ours->comm, src, dst, bytes, &call));
    case TUTTI_BARRIER:
        return result(ours, tutti_barrier(ours->comm, &call));
    }
    (void)snprintf(ours->text, sizeof(ours->text), "no collective has the number %u", order->collective);
    return -1;
}

static int ours_barrier(void *self)
{
    struct ours *ours = self;
    return result(ours, tutti_barrier(ours->comm, NULL));
}

static int ours_graph_begin(void *self)
{
    struct ours *ours = self;
    if (result(ours, tutti_host_capture_begin(ours->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL)) != 0) {
        return -1;
    }
    ours->capturing = true;
    return 0;
}

static int ours_graph_end(void *self)
{
    struct ours *ours = self;
    ours->capturing = false;
    return result(ours, tutti_host_capture_end(ours->stream, &ours->graph));
}

static int ours_graph_replay(void *self)
{
    struct ours *ours = self;
    return result(ours, tutti_host_graph_launch(ours->graph, NULL));
}

static void ours_graph_drop(void *self)
{
    struct ours *ours = self;
    if (ours->capturing) { /* a call of the capture was refused */
        ours->capturing = false;
        (void)tutti_host_capture_end(ours->stream, &ours->graph);
    }
    tutti_host_graph_destroy(ours->graph);
    ours->graph = NULL;
}

static uint64_t ours_sleeps(void *self)
{
    struct ours *ours = self;
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    return tutti_comm_stats(ours->comm, &stats) == TUTTI_OK ? stats.waits_slept : 0;
}

static const char *ours_text(void *self)
{
    struct ours *ours = self;
    return ours->text;
}

static const struct bench_library ours_library = {
    .call = ours_call,
    .barrier = ours_barrier,
    .graph_begin = ours_graph_begin,
    .graph_end = ours_graph_end,
    .graph_replay = ours_graph_replay,
    .graph_drop = ours_graph_drop,
    .sleeps = ours_sleeps,
    .text = ours_text,
};

static int open_library(struct ours *ours, const char *backend, const char *rendezvous, struct bench_hello *hello)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options),
                                  .backend = backend,
                                  .rank = hello->rank,
                                  .world = hello->ranks,
                                  .rendezvous = rendezvous};
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    if (result(ours, tutti_comm_create(&options, &ours->comm)) != 0 ||
        result(ours, tutti_host_stream_create(&ours->stream)) != 0 ||
        result(ours, tutti_comm_info(ours->comm, &info)) != 0) {
        return -1;
    }
    (void)snprintf(hello->text, sizeof(hello->text), "tutti %s", tutti_version());
    (void)snprintf(hello->device_text, sizeof(hello->device_text), "%s: %s", info.backend, info.device_name);
    return 0;
}

int bench_ranks_serve(const struct bench_seat *seat)
{
    struct ours ours = {0};
    struct bench_hello hello = {.magic = BENCH_MAGIC, .rank = seat->rank, .ranks = seat->ranks};
    int failed = open_library(&ours, seat->backend, seat->rendezvous, &hello);
    if (failed != 0) {
        hello.failed = 1;
        (void)snprintf(hello.text, sizeof(hello.text), "%s", ours.text);
        (void)bench_wire_send(seat->fd, &hello, sizeof(hello));
    } else {
        failed = bench_measure_serve(seat->fd, &hello, &ours_library, &ours);
    }
    tutti_host_stream_destroy(ours.stream);
    tutti_comm_destroy(ours.comm);
    return failed;
}
