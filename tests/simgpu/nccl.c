/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nccl.c - a library of collectives in place of libnccl.so.2 and librccl.so.1, for simulated devices: the functions that Tutti
 * calls, with the vendor's numbers, and with what a vendor's communicator does to its user: it is made behind his back
 * (ncclInProgress), waits for ever for a rank that does not come, and has to be aborted.
 *
 * Ranks meet on a board, memory of rank 0 that others open through /proc by the number in the unique id. A collective copies
 * its input there piece by piece, waits for all ranks, and takes what it needs.
 *
 * SIMNCCL_FAULTS  "ncclGetUniqueId=2,async=6": the call fails with that result; async: the communicator notes that error at its
 *                 first collective
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "harness/values.h"
#include "simgpu/driver/enqueue.h"

#define EXPORT __attribute__((visibility("default")))
#define RANKS_MAX 8
#define PIECE_BYTES 65536u
#define OPERATIONS_MAX 256
#define SUCCESS 0
#define SYSTEM_ERROR 2
#define INVALID_ARGUMENT 4
#define INVALID_USAGE 5
#define IN_PROGRESS 7

struct board {
    _Atomic uint32_t joined, arrived, generation;
    unsigned char pieces[RANKS_MAX][PIECE_BYTES];
};

struct id {
    long pid;
    int fd;
    char rest[128 - sizeof(long) - sizeof(int)];
};

struct config {
    size_t bytes;
    unsigned magic, version;
    int blocking;
};

struct comm {
    struct board *board;
    int rank, world;
    _Atomic bool aborted;
    _Atomic int noted; /* an error */
    _Atomic uint32_t running;
    struct comm *next; /* all that ever were: graphs may hold them */
};

enum kind { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST, SEND, RECV };

struct operation {
    enum kind kind;
    const unsigned char *src;
    unsigned char *dst;
    size_t count;
    int dtype, op, peer;
};

/* What one call, or one group of calls, put on a stream. */
struct batch {
    struct comm *comm;
    void *stream;
    size_t count;
    struct operation operations[OPERATIONS_MAX];
    struct batch *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct comm *comms;
static struct batch *batches; /* all that ever were */
static _Thread_local int group_depth;
static _Thread_local struct batch *group_batch;

static int fault(const char *call)
{
    const char *list = getenv("SIMNCCL_FAULTS");
    const char *found = list != NULL ? strstr(list, call) : NULL;
    return found != NULL && found[strlen(call)] == '=' ? atoi(found + strlen(call) + 1) : SUCCESS;
}

/* -- running --------------------------------------------------------------------------------------- */

/* False if the communicator was aborted meanwhile. */
static bool barrier(struct comm *comm)
{
    struct board *board = comm->board;
    uint32_t generation = atomic_load(&board->generation);
    if (atomic_fetch_add(&board->arrived, 1) + 1 == (uint32_t)comm->world) {
        atomic_store(&board->arrived, 0);
        atomic_fetch_add(&board->generation, 1);
        return true;
    }
    const struct timespec pause = {0, 20000};
    while (atomic_load(&board->generation) == generation) {
        if (atomic_load(&comm->aborted)) {
            return false;
        }
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

static size_t element_bytes(int dtype)
{
    return dtype == 7 ? 4 : dtype == 6 || dtype == 9 ? 2 : 1;
}

static void reduce_piece(const struct comm *comm, const struct operation *operation, unsigned char *dst, size_t at,
                         size_t bytes)
{
    static const tutti_op ops[] = {[0] = TUTTI_SUM, [2] = TUTTI_MAX, [3] = TUTTI_MIN};
    tutti_dtype dtype = operation->dtype == 7 ? TUTTI_F32 : operation->dtype == 6 ? TUTTI_F16 : TUTTI_BF16;
    size_t unit = element_bytes(operation->dtype);
    for (size_t first = 0; first < bytes; first += unit) {
        uint32_t inputs[RANKS_MAX];
        for (int rank = 0; rank < comm->world; rank++) {
            inputs[rank] = 0;
            memcpy(&inputs[rank], &comm->board->pieces[rank][at + first], unit);
        }
        uint32_t result = values_reduce(dtype, ops[operation->op], inputs, comm->world);
        memcpy(dst + first, &result, unit);
    }
}

static bool run_all_reduce(struct comm *comm, const struct operation *operation)
{
    size_t bytes = operation->count * element_bytes(operation->dtype);
    for (size_t done = 0; done < bytes; done += PIECE_BYTES) {
        size_t piece = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        memcpy(comm->board->pieces[comm->rank], operation->src + done, piece);
        if (!barrier(comm)) {
            return false;
        }
        reduce_piece(comm, operation, operation->dst + done, 0, piece);
        if (!barrier(comm)) {
            return false;
        }
    }
    return true;
}

/* Every rank's block j is for rank j. */
static bool run_blocks(struct comm *comm, const struct operation *operation, const unsigned char *const *from,
                       unsigned char *const *to)
{
    size_t bytes = operation->count * element_bytes(operation->dtype);
    size_t most = PIECE_BYTES / RANKS_MAX;
    for (size_t done = 0; done < bytes; done += most) {
        size_t piece = bytes - done < most ? bytes - done : most;
        for (int rank = 0; rank < comm->world; rank++) {
            memcpy(&comm->board->pieces[comm->rank][(size_t)rank * most], from[rank] + done, piece);
        }
        if (!barrier(comm)) {
            return false;
        }
        if (operation->kind == REDUCE_SCATTER) {
            reduce_piece(comm, operation, operation->dst + done, (size_t)comm->rank * most, piece);
        }
        for (int rank = 0; rank < comm->world && operation->kind != REDUCE_SCATTER; rank++) {
            memcpy(to[rank] + done, &comm->board->pieces[rank][(size_t)comm->rank * most], piece);
        }
        if (!barrier(comm)) {
            return false;
        }
    }
    return true;
}

static bool run_reduce_scatter(struct comm *comm, const struct operation *operation)
{
    const unsigned char *from[RANKS_MAX];
    for (int rank = 0; rank < comm->world; rank++) {
        from[rank] = operation->src + (size_t)rank * operation->count * element_bytes(operation->dtype);
    }
    return run_blocks(comm, operation, from, NULL);
}

/* The parts of all ranks, or of one. */
static bool run_gather(struct comm *comm, const struct operation *operation)
{
    size_t bytes = operation->count * element_bytes(operation->dtype);
    for (size_t done = 0; done < bytes; done += PIECE_BYTES) {
        size_t piece = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        memcpy(comm->board->pieces[comm->rank], operation->src + done, piece);
        if (!barrier(comm)) {
            return false;
        }
        for (int rank = 0; rank < comm->world && operation->kind == ALL_GATHER; rank++) {
            memcpy(operation->dst + (size_t)rank * bytes + done, comm->board->pieces[rank], piece);
        }
        if (operation->kind == BROADCAST) {
            memcpy(operation->dst + done, comm->board->pieces[operation->peer], piece);
        }
        if (!barrier(comm)) {
            return false;
        }
    }
    return true;
}

/* A group of sends and receives, one of each for every rank and all of one size. */
static bool run_exchange(struct comm *comm, const struct batch *batch)
{
    const unsigned char *from[RANKS_MAX] = {NULL};
    unsigned char *to[RANKS_MAX] = {NULL};
    for (size_t index = 0; index < batch->count; index++) {
        const struct operation *operation = &batch->operations[index];
        if (operation->kind == SEND) {
            from[operation->peer] = operation->src;
        } else {
            to[operation->peer] = operation->dst;
        }
    }
    return run_blocks(comm, &batch->operations[0], from, to);
}

static int batch_run(void *argument)
{
    const struct batch *batch = argument;
    struct comm *comm = batch->comm;
    (void)atomic_fetch_add(&comm->running, 1);
    bool going = !atomic_load(&comm->aborted);
    if (going && batch->operations[0].kind >= SEND) {
        going = run_exchange(comm, batch);
    }
    for (size_t index = 0; going && index < batch->count && batch->operations[index].kind < SEND; index++) {
        const struct operation *operation = &batch->operations[index];
        going = operation->kind == ALL_REDUCE       ? run_all_reduce(comm, operation)
                : operation->kind == REDUCE_SCATTER ? run_reduce_scatter(comm, operation)
                                                    : run_gather(comm, operation);
    }
    (void)atomic_fetch_sub(&comm->running, 1);
    return 0;
}

/* -- enqueuing -------------------------------------------------------------------------------------- */

static int batch_submit(struct batch *batch)
{
    if (fault("async") != SUCCESS) {
        atomic_store(&batch->comm->noted, fault("async"));
        return SUCCESS;
    }
    return simgpu_enqueue(batch->stream, batch_run, batch) == 0 ? SUCCESS : 1;
}

/* What is received must not land on what is sent: the vendor promises no order between them. */
static bool batch_overlaps(const struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        for (size_t j = 0; j < batch->count; j++) {
            const struct operation *send = &batch->operations[i];
            const struct operation *recv = &batch->operations[j];
            if (send->kind == SEND && recv->kind == RECV && send->src < recv->dst + recv->count &&
                recv->dst < send->src + send->count) {
                return true;
            }
        }
    }
    return false;
}

static struct batch *batch_new(struct comm *comm, void *stream)
{
    struct batch *batch = calloc(1, sizeof(*batch));
    if (batch != NULL) {
        batch->comm = comm;
        batch->stream = stream;
        (void)pthread_mutex_lock(&lock);
        batch->next = batches;
        batches = batch;
        (void)pthread_mutex_unlock(&lock);
    }
    return batch;
}

static int submit(struct comm *comm, void *stream, struct operation operation)
{
    struct batch *batch = group_depth > 0 && group_batch != NULL ? group_batch : batch_new(comm, stream);
    if (comm == NULL || batch == NULL || batch->count == OPERATIONS_MAX || atomic_load(&comm->aborted)) {
        return comm == NULL || batch == NULL ? SYSTEM_ERROR : INVALID_USAGE;
    }
    batch->operations[batch->count++] = operation;
    if (group_depth > 0) {
        group_batch = batch;
        return SUCCESS;
    }
    return batch_submit(batch);
}

EXPORT int ncclGroupStart(void)
{
    group_depth++;
    return SUCCESS;
}

EXPORT int ncclGroupEnd(void)
{
    struct batch *batch = group_batch;
    if (--group_depth > 0 || batch == NULL) {
        return SUCCESS;
    }
    group_batch = NULL;
    return batch_overlaps(batch) ? INVALID_USAGE : batch_submit(batch);
}

EXPORT int ncclAllReduce(const void *src, void *dst, size_t count, int dtype, int op, struct comm *comm, void *stream)
{
    if (fault("ncclAllReduce") != SUCCESS) {
        return fault("ncclAllReduce");
    }
    return submit(
        comm, stream,
        (struct operation){.kind = ALL_REDUCE, .src = src, .dst = dst, .count = count, .dtype = dtype, .op = op});
}

EXPORT int ncclReduceScatter(const void *src, void *dst, size_t count, int dtype, int op, struct comm *comm,
                             void *stream)
{
    return submit(
        comm, stream,
        (struct operation){.kind = REDUCE_SCATTER, .src = src, .dst = dst, .count = count, .dtype = dtype, .op = op});
}

EXPORT int ncclAllGather(const void *src, void *dst, size_t count, int dtype, struct comm *comm, void *stream)
{
    return submit(comm, stream,
                  (struct operation){.kind = ALL_GATHER, .src = src, .dst = dst, .count = count, .dtype = dtype});
}

EXPORT int ncclBroadcast(const void *src, void *dst, size_t count, int dtype, int root, struct comm *comm, void *stream)
{
    return submit(
        comm, stream,
        (struct operation){.kind = BROADCAST, .src = src, .dst = dst, .count = count, .dtype = dtype, .peer = root});
}

EXPORT int ncclSend(const void *src, size_t count, int dtype, int peer, struct comm *comm, void *stream)
{
    return submit(comm, stream,
                  (struct operation){.kind = SEND, .src = src, .count = count, .dtype = dtype, .peer = peer});
}

EXPORT int ncclRecv(void *dst, size_t count, int dtype, int peer, struct comm *comm, void *stream)
{
    return submit(comm, stream,
                  (struct operation){.kind = RECV, .dst = dst, .count = count, .dtype = dtype, .peer = peer});
}

/* -- communicators ----------------------------------------------------------------------------------- */

EXPORT int ncclGetVersion(int *version)
{
    *version = 22809;
    return SUCCESS;
}

EXPORT const char *ncclGetErrorString(int result)
{
    return result == SUCCESS ? "no error" : result == SYSTEM_ERROR ? "unhandled system error" : "some error";
}

EXPORT const char *ncclGetLastError(struct comm *comm)
{
    (void)comm;
    return "simulated";
}

/* To the caller the id is bytes, aligned to nothing. */
EXPORT int ncclGetUniqueId(char *out)
{
    struct id id;
    memset(&id, 0, sizeof(id));
    id.pid = (long)getpid();
    id.fd = memfd_create("simnccl", MFD_CLOEXEC); /* for as long as this process lives */
    if (id.fd < 0 || ftruncate(id.fd, (off_t)sizeof(struct board)) != 0) {
        return SYSTEM_ERROR;
    }
    memcpy(out, &id, sizeof(id));
    return fault("ncclGetUniqueId");
}

static struct board *board_open(const struct id *id)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%ld/fd/%d", id->pid, id->fd);
    FILE *file = fopen(path, "r+e");
    if (file == NULL) {
        return NULL;
    }
    void *memory = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    (void)fclose(file);
    return memory != MAP_FAILED ? memory : NULL;
}

static int comm_make(struct comm **out, int world, struct id id, int rank)
{
    if (world > RANKS_MAX) {
        return INVALID_ARGUMENT;
    }
    struct comm *comm = calloc(1, sizeof(*comm));
    if (fault("ncclCommInitRankConfig") != SUCCESS || comm == NULL) {
        free(comm);
        return fault("ncclCommInitRankConfig");
    }
    comm->board = board_open(&id);
    comm->rank = rank;
    comm->world = world;
    if (comm->board == NULL) {
        free(comm);
        return SYSTEM_ERROR;
    }
    (void)pthread_mutex_lock(&lock);
    comm->next = comms;
    comms = comm;
    (void)pthread_mutex_unlock(&lock);
    (void)atomic_fetch_add(&comm->board->joined, 1);
    *out = comm;
    return SUCCESS;
}

/* A nonblocking one, as the library wants it. */
EXPORT int ncclCommInitRankConfig(struct comm **out, int world, struct id id, int rank, const struct config *config)
{
    if (config->magic != 0xcafebeefu || config->blocking != 0) {
        return INVALID_ARGUMENT;
    }
    int result = comm_make(out, world, id, rank);
    return result == SUCCESS ? IN_PROGRESS : result;
}

/* A blocking one, as the bench wants it. */
EXPORT int ncclCommInitRank(struct comm **out, int world, struct id id, int rank)
{
    const struct timespec pause = {0, 100000};
    int result = comm_make(out, world, id, rank);
    while (result == SUCCESS && atomic_load(&(*out)->board->joined) < (uint32_t)world) {
        (void)nanosleep(&pause, NULL);
    }
    return result;
}

EXPORT int ncclCommDestroy(struct comm *comm)
{
    const struct timespec pause = {0, 100000};
    while (atomic_load(&comm->running) != 0) {
        (void)nanosleep(&pause, NULL);
    }
    return SUCCESS;
}

/* -- symmetric memory: plain memory here, and windows that must be over it ------------------------------- */

struct window {
    struct comm *comm;
    void *memory;
};

EXPORT int ncclMemAlloc(void **memory, size_t bytes)
{
    uint64_t address = 0;
    int result = simgpu_alloc(&address, bytes);
    *memory = (void *)(uintptr_t)address;
    return result == 0 ? SUCCESS : 1;
}

EXPORT int ncclMemFree(void *memory)
{
    return simgpu_free((uint64_t)(uintptr_t)memory) == 0 ? SUCCESS : 1;
}

EXPORT int ncclCommWindowRegister(struct comm *comm, void *memory, size_t bytes, struct window **out, int flags)
{
    struct window *window = calloc(1, sizeof(*window));
    if (window == NULL || memory == NULL || bytes == 0 || flags != 1) {
        free(window);
        return INVALID_ARGUMENT;
    }
    *window = (struct window){comm, memory};
    *out = window;
    return SUCCESS;
}

EXPORT int ncclCommWindowDeregister(struct comm *comm, struct window *window)
{
    bool ours = window != NULL && window->comm == comm;
    free(window);
    return ours ? SUCCESS : INVALID_ARGUMENT;
}

EXPORT int ncclCommGetAsyncError(struct comm *comm, int *error)
{
    bool complete = atomic_load(&comm->board->joined) >= (uint32_t)comm->world;
    *error = atomic_load(&comm->noted);
    *error = *error == SUCCESS && !complete ? IN_PROGRESS : *error;
    return SUCCESS;
}

EXPORT int ncclCommAbort(struct comm *comm)
{
    const struct timespec pause = {0, 100000};
    atomic_store(&comm->aborted, true);
    while (atomic_load(&comm->running) != 0) {
        (void)nanosleep(&pause, NULL);
    }
    return SUCCESS;
}
