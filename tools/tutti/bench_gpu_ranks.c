/* SPDX-License-Identifier: Apache-2.0 */
/* bench_gpu_ranks.c - our own ranks of the bench on GPUs. */
#include <stdbool.h>
#include <stdio.h>

#include "bench_gpu_measure.h"
#include "bench_ranks.h"
#include "gpu.h"

struct ours {
    tutti_comm *comm;
    bool symmetric; /* buffers are tutti_alloc's */
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

static int door(struct ours *ours, bool done)
{
    if (!done) {
        (void)snprintf(ours->text, sizeof(ours->text), "%s", gpu_error());
    }
    return done ? 0 : -1;
}

static int ours_call(void *self, const struct bench_order *order, int root, const void *src, void *dst,
                     tutti_stream stream)
{
    struct ours *ours = self;
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    tutti_dtype dtype = (tutti_dtype)order->dtype;
    size_t count = order->count;
    size_t bytes = count * tutti_dtype_bytes(dtype);
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

static int ours_alloc(void *self, void **memory, size_t bytes)
{
    struct ours *ours = self;
    return ours->symmetric ? result(ours, tutti_alloc(ours->comm, bytes, memory))
                           : door(ours, gpu_alloc(memory, bytes));
}

static void ours_free(void *self, void *memory)
{
    const struct ours *ours = self;
    if (!ours->symmetric) {
        gpu_free(memory);
    } else if (memory != NULL) {
        (void)tutti_free(ours->comm, memory);
    }
}

static int ours_captured(void *self)
{
    struct ours *ours = self;
    return result(ours, tutti_commit(ours->comm));
}

static const char *ours_text(void *self)
{
    struct ours *ours = self;
    return ours->text;
}

static const struct bench_gpu_library committing_library = {
    .call = ours_call, .alloc = ours_alloc, .free = ours_free, .text = ours_text, .captured = ours_captured};
static const struct bench_gpu_library plain_library = {
    .call = ours_call, .alloc = ours_alloc, .free = ours_free, .text = ours_text};

static int open_library(struct ours *ours, const struct bench_seat *seat, struct bench_hello *hello)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options),
                                  .backend = seat->backend,
                                  .rank = seat->rank,
                                  .world = seat->ranks,
                                  .device = seat->rank,
                                  .rendezvous = seat->rendezvous};
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    if (door(ours, gpu_use(seat->backend, seat->rank)) != 0 ||
        result(ours, tutti_comm_create(&options, &ours->comm)) != 0 ||
        result(ours, tutti_comm_info(ours->comm, &info)) != 0) {
        return -1;
    }
    (void)snprintf(hello->text, sizeof(hello->text), "tutti %s%s%.240s", tutti_version(),
                   info.deterministic ? "" : ", ", info.deterministic ? "" : info.backend_reason);
    (void)snprintf(hello->device_text, sizeof(hello->device_text), "%s: %s", info.backend, info.device_name);
    return 0;
}

static int serve(const struct bench_seat *seat, const struct bench_gpu_library *library, bool symmetric)
{
    struct ours ours = {.symmetric = symmetric};
    struct bench_hello hello = {.magic = BENCH_MAGIC, .rank = seat->rank, .ranks = seat->ranks};
    int failed = open_library(&ours, seat, &hello);
    if (failed != 0) {
        hello.failed = 1;
        (void)snprintf(hello.text, sizeof(hello.text), "%s", ours.text);
        (void)bench_wire_send(seat->fd, &hello, sizeof(hello));
    } else {
        failed = bench_gpu_measure_serve(seat->fd, &hello, library, &ours);
    }
    tutti_comm_destroy(ours.comm);
    return failed;
}

int bench_gpu_ranks_serve(const struct bench_seat *seat)
{
    return serve(seat, &committing_library, false);
}

int bench_gpu_staged_serve(const struct bench_seat *seat)
{
    return serve(seat, &plain_library, false);
}

int bench_gpu_symmetric_serve(const struct bench_seat *seat)
{
    return serve(seat, &plain_library, true);
}
