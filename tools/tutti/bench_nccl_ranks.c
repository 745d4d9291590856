/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_nccl_ranks.c - ranks of the bench that are NCCL's: as it comes, and with buffers in symmetric windows, its own way to make
 * small messages fast. What it does about NVLink multicast is left to its variable NCCL_NVLS_ENABLE.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench_gpu_measure.h"
#include "bench_nccl.h"
#include "bench_ranks.h"
#include "gpu.h"

#define MEETING_MS 60000
#define PAUSE_MS 2

/* How rank 0's id reaches the others. */
struct meeting {
    _Atomic int state; /* 1: the id is there; -1: rank 0 has failed */
    struct nccl_id id;
};
_Static_assert(sizeof(struct meeting) <= BENCH_MEETING_BYTES, "it fits");

struct peer {
    struct nccl_functions nccl;
    void *comm;
    void *word; /* a barrier's */
    int ranks;
    bool symmetric;
    void *window; /* of the one piece of memory */
    char text[400];
};

static int result(struct peer *peer, const char *call, int failed)
{
    if (failed != 0) {
        (void)snprintf(peer->text, sizeof(peer->text), "%s: %s", call, peer->nccl.error_text(failed));
    }
    return failed == 0 ? 0 : -1;
}

static int door(struct peer *peer, bool done)
{
    if (!done) {
        (void)snprintf(peer->text, sizeof(peer->text), "%s", gpu_error());
    }
    return done ? 0 : -1;
}

/* -- calls ------------------------------------------------------------------------------------- */

static int dtype_of(const struct bench_order *order)
{
    static const int dtypes[] = {[TUTTI_F32] = NCCL_F32, [TUTTI_F16] = NCCL_F16, [TUTTI_BF16] = NCCL_BF16};
    return dtypes[order->dtype];
}

static int all_to_all(struct peer *peer, const char *src, char *dst, size_t bytes, tutti_stream stream)
{
    const struct nccl_functions *nccl = &peer->nccl;
    int failed = nccl->group_start();
    for (int rank = 0; rank < peer->ranks && failed == 0; rank++) {
        failed = nccl->send(src + (size_t)rank * bytes, bytes, NCCL_BYTE, rank, peer->comm, stream);
        if (failed == 0) {
            failed = nccl->recv(dst + (size_t)rank * bytes, bytes, NCCL_BYTE, rank, peer->comm, stream);
        }
    }
    int ended = nccl->group_end();
    return failed != 0 ? failed : ended;
}

static int peer_call(void *self, const struct bench_order *order, int root, const void *src, void *dst,
                     tutti_stream stream)
{
    struct peer *peer = self;
    const struct nccl_functions *nccl = &peer->nccl;
    int dtype = dtype_of(order);
    size_t count = order->count;
    size_t bytes = count * tutti_dtype_bytes((tutti_dtype)order->dtype);
    switch ((tutti_collective)order->collective) {
    case TUTTI_ALL_REDUCE:
        return result(peer, "ncclAllReduce", nccl->all_reduce(src, dst, count, dtype, NCCL_SUM, peer->comm, stream));
    case TUTTI_REDUCE_SCATTER:
        return result(peer, "ncclReduceScatter",
                      nccl->reduce_scatter(src, dst, count, dtype, NCCL_SUM, peer->comm, stream));
    case TUTTI_ALL_GATHER:
        return result(peer, "ncclAllGather", nccl->all_gather(src, dst, count, dtype, peer->comm, stream));
    case TUTTI_BROADCAST:
        return result(peer, "ncclBroadcast", nccl->broadcast(dst, dst, count, dtype, root, peer->comm, stream));
    case TUTTI_ALL_TO_ALL:
        return result(peer, "ncclSend, ncclRecv", all_to_all(peer, src, dst, bytes, stream));
    case TUTTI_BARRIER: /* NCCL has none; this is what its users do */
        return result(peer, "ncclAllReduce",
                      nccl->all_reduce(peer->word, peer->word, 1, NCCL_F32, NCCL_SUM, peer->comm, stream));
    }
    (void)snprintf(peer->text, sizeof(peer->text), "no collective has the number %u", order->collective);
    return -1;
}

/* -- memory ------------------------------------------------------------------------------------ */

static int peer_alloc(void *self, void **memory, size_t bytes)
{
    struct peer *peer = self;
    const struct nccl_functions *nccl = &peer->nccl;
    if (!peer->symmetric) {
        return door(peer, gpu_alloc(memory, bytes));
    }
    void *made = NULL;
    if (result(peer, "ncclMemAlloc", nccl->mem_alloc(&made, bytes)) != 0) {
        return -1;
    }
    int failed = nccl->window_register(peer->comm, made, bytes, &peer->window, NCCL_WINDOW_SYMMETRIC);
    if (result(peer, "ncclCommWindowRegister", failed) != 0) {
        (void)nccl->mem_free(made);
        return -1;
    }
    *memory = made;
    return 0;
}

static void peer_free(void *self, void *memory)
{
    struct peer *peer = self;
    if (!peer->symmetric) {
        gpu_free(memory);
    } else if (memory != NULL) {
        (void)peer->nccl.window_deregister(peer->comm, peer->window);
        (void)peer->nccl.mem_free(memory);
    }
}

static const char *peer_text(void *self)
{
    struct peer *peer = self;
    return peer->text;
}

static const struct bench_gpu_library peer_library = {
    .call = peer_call, .alloc = peer_alloc, .free = peer_free, .text = peer_text};

/* -- starting ---------------------------------------------------------------------------------- */

/* Rank 0 makes the id, the others wait for it. */
static int id_agree(struct peer *peer, const struct bench_seat *seat, struct nccl_id *id)
{
    struct meeting *meeting = seat->meeting;
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000};
    if (seat->rank == 0) {
        int failed = result(peer, "ncclGetUniqueId", peer->nccl.unique_id(&meeting->id));
        atomic_store(&meeting->state, failed == 0 ? 1 : -1);
    }
    for (int waited_ms = 0; atomic_load(&meeting->state) == 0 && waited_ms < MEETING_MS; waited_ms += PAUSE_MS) {
        (void)nanosleep(&pause, NULL);
    }
    if (atomic_load(&meeting->state) != 1) {
        if (peer->text[0] == '\0') {
            (void)snprintf(peer->text, sizeof(peer->text), "rank 0 could not begin");
        }
        return -1;
    }
    *id = meeting->id;
    return 0;
}

static int functions_find(struct peer *peer)
{
    if (!nccl_load(&peer->nccl, peer->text, sizeof(peer->text))) {
        return -1;
    }
    const struct nccl_functions *nccl = &peer->nccl;
    bool windows = nccl->mem_alloc != NULL && nccl->mem_free != NULL && nccl->window_register != NULL &&
                   nccl->window_deregister != NULL;
    if (peer->symmetric && !windows) {
        (void)snprintf(peer->text, sizeof(peer->text), "this NCCL has no symmetric windows: it needs 2.27 or later");
        return -1;
    }
    return 0;
}

static int open_library(struct peer *peer, const struct bench_seat *seat, struct bench_hello *hello)
{
    struct nccl_id id;
    int version = 0;
    if (functions_find(peer) != 0) {
        atomic_store(&((struct meeting *)seat->meeting)->state, -1);
        return -1;
    }
    if (door(peer, gpu_use(seat->backend, seat->rank)) != 0 || id_agree(peer, seat, &id) != 0 ||
        result(peer, "ncclCommInitRank", peer->nccl.init(&peer->comm, seat->ranks, id, seat->rank)) != 0 ||
        result(peer, "ncclGetVersion", peer->nccl.version(&version)) != 0 ||
        door(peer, gpu_alloc(&peer->word, sizeof(float))) != 0) {
        return -1;
    }
    (void)snprintf(hello->text, sizeof(hello->text), "NCCL %d.%d.%d%s", version / 10000, version / 100 % 100,
                   version % 100, peer->symmetric ? ", buffers in symmetric windows" : "");
    return gpu_device_name(seat->rank, hello->device_text, sizeof(hello->device_text)) ? 0 : door(peer, false);
}

static int serve(const struct bench_seat *seat, bool symmetric)
{
    struct peer peer = {.ranks = seat->ranks, .symmetric = symmetric};
    struct bench_hello hello = {.magic = BENCH_MAGIC, .rank = seat->rank, .ranks = seat->ranks};
    int failed = open_library(&peer, seat, &hello);
    if (failed != 0) {
        hello.failed = 1;
        (void)snprintf(hello.text, sizeof(hello.text), "%s", peer.text);
        (void)bench_wire_send(seat->fd, &hello, sizeof(hello));
        return failed; /* NCCL's way out waits for the other ranks: the process's end does not */
    }
    failed = bench_gpu_measure_serve(seat->fd, &hello, &peer_library, &peer);
    if (failed == 0) {
        gpu_free(peer.word);
        (void)peer.nccl.destroy(peer.comm);
    }
    return failed;
}

int bench_nccl_serve(const struct bench_seat *seat)
{
    return serve(seat, false);
}

int bench_nccl_symmetric_serve(const struct bench_seat *seat)
{
    return serve(seat, true);
}
