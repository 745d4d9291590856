/* SPDX-License-Identifier: Apache-2.0 */
/* What memory calls refuse, on all ranks with one sentence and without harm; who may make them; and what becomes of memory that
 * nobody has freed. */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "harness/check.h"
#include "harness/footprint.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"
#include "tutti/host.h"

#define WORLD 3
#define COUNT 1000

/* -- refusals that all ranks hear of -------------------------------------------------------------------------- */

struct scene {
    void (*body)(tutti_comm *comm, int rank, void *memory, struct verdicts *verdicts);
    struct verdicts *verdicts;
};

/* The memory that there was works on, and so does the communicator; nothing more is held than before. */
static void refused(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    void *memory = NULL;
    void *peer = NULL;
    CHECK_OK(tutti_alloc(comm, 4096, &memory));
    memset(memory, rank + 1, 4096);
    CHECK_OK(tutti_barrier(comm, NULL));
    struct footprint before = footprint_take(comm);
    CHECK_OK(tutti_barrier(comm, NULL));
    scene->body(comm, rank, memory, scene->verdicts);
    CHECK_OK(tutti_barrier(comm, NULL));
    struct footprint after = footprint_take(comm);
    footprint_same(&before, &after, "after a refusal");
    int next = (rank + 1) % world;
    CHECK_OK(tutti_peer_pointer(comm, memory, next, &peer));
    CHECK(((unsigned char *)peer)[4095] == next + 1, "the memory has suffered");
    CHECK_OK(tutti_free(comm, memory));
    CHECK_OK(tutti_alloc(comm, 100, &memory));
    tutti_comm_destroy(comm);
}

static void sizes_differ(tutti_comm *comm, int rank, void *memory, struct verdicts *verdicts)
{
    void *made = memory;
    verdict_give(verdicts, rank, tutti_alloc(comm, rank == 2 ? 8192 : 4096, &made));
    CHECK(made == memory, "the output was touched");
}

static void no_bytes(tutti_comm *comm, int rank, void *memory, struct verdicts *verdicts)
{
    void *made = memory;
    verdict_give(verdicts, rank, tutti_alloc(comm, rank == 1 ? 0 : 4096, &made));
    CHECK(made == memory, "the output was touched");
}

static void no_place(tutti_comm *comm, int rank, void *memory, struct verdicts *verdicts)
{
    void *made = memory;
    verdict_give(verdicts, rank, tutti_alloc(comm, 4096, rank == 1 ? NULL : &made));
    CHECK(made == memory, "the output was touched");
}

static void too_much(tutti_comm *comm, int rank, void *memory, struct verdicts *verdicts)
{
    void *made = memory;
    verdict_give(verdicts, rank, tutti_alloc(comm, (size_t)1 << 60, &made));
    CHECK(made == memory, "the output was touched");
}

static void other_calls(tutti_comm *comm, int rank, void *memory, struct verdicts *verdicts)
{
    void *made = NULL;
    verdict_give(verdicts, rank, rank == 2 ? tutti_free(comm, memory) : tutti_alloc(comm, 4096, &made));
}

static void foreign_pointer(tutti_comm *comm, int rank, void *memory, struct verdicts *verdicts)
{
    verdict_give(verdicts, rank, tutti_free(comm, rank == 1 ? (char *)memory + 1 : memory));
}

static void others_memory(tutti_comm *comm, int rank, void *memory, struct verdicts *verdicts)
{
    void *second = NULL;
    CHECK_OK(tutti_alloc(comm, 4096, &second));
    verdict_give(verdicts, rank, tutti_free(comm, rank == 0 ? second : memory));
    CHECK_OK(tutti_free(comm, second));
}

static void test_refused(enum ranks_mode mode, struct verdicts *verdicts)
{
    static const struct {
        void (*body)(tutti_comm *, int, void *, struct verdicts *);
        tutti_status status;
        const char *part;
    } scenes[] = {
        {sizes_differ, TUTTI_ERR_MISMATCH, "rank 0 asks for 4096 bytes, rank 2 for 8192"},
        {no_bytes, TUTTI_ERR_ARGUMENT, "rank 1: 0 bytes"},
        {no_place, TUTTI_ERR_ARGUMENT, "rank 1: pointer is NULL"},
        {too_much, TUTTI_ERR_SYSTEM, "rank 0: "},
        {other_calls, TUTTI_ERR_MISMATCH, "rank 0 calls tutti_alloc, rank 2 calls tutti_free"},
        {foreign_pointer, TUTTI_ERR_ARGUMENT, "rank 1: "},
        {others_memory, TUTTI_ERR_MISMATCH, "rank 0 frees its allocation 2, rank 1 its allocation 1"},
    };
    for (size_t index = 0; index < sizeof(scenes) / sizeof(scenes[0]); index++) {
        struct scene scene = {scenes[index].body, verdicts};
        verdicts_clear(verdicts);
        ranks_run(mode, WORLD, 60, refused, &scene);
        verdicts_check(verdicts, WORLD, scenes[index].status, scenes[index].part);
    }
}

/* -- local questions ------------------------------------------------------------------------------------------ */

static void questions(int rank, int world, const char *rendezvous, void *user)
{
    bool one_process = *(const bool *)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_memory_class_t class = {.struct_bytes = sizeof(class)};
    unsigned char local[64];
    void *memory = NULL;
    void *peer = NULL;
    CHECK_OK(tutti_alloc(comm, 5000, &memory));
    CHECK_OK(tutti_memory_class(comm, (char *)memory + 123, &class));
    CHECK(class.kind == TUTTI_MEMORY_SYMMETRIC && class.shareable == 1 && class.base == (uintptr_t)memory &&
              class.offset == 123 && class.bytes >= 5000 && strstr(class.reason, "rank") != NULL,
          "kind %d, %s", (int)class.kind, class.reason);
    CHECK_OK(tutti_peer_pointer(comm, (char *)memory + 4999, (rank + 1) % world, &peer));
    CHECK_OK(tutti_memory_class(comm, peer, &class));
    CHECK(class.kind == TUTTI_MEMORY_SYMMETRIC && class.offset == 4999, "kind %d, %s", (int)class.kind, class.reason);
    CHECK_OK(tutti_memory_class(comm, local, &class));
    CHECK(class.kind == (one_process ? TUTTI_MEMORY_SAME_PROCESS : TUTTI_MEMORY_HOST) &&
              class.shareable == one_process && class.bytes == 0 && class.reason[0] != 0,
          "kind %d, %s", (int)class.kind, class.reason);
    CHECK_OK(tutti_memory_class(comm, (void *)(uintptr_t)16, &class));
    CHECK(class.kind == TUTTI_MEMORY_UNKNOWN && class.shareable == 0, "kind %d, %s", (int)class.kind, class.reason);
    peer = NULL;
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_peer_pointer(comm, memory, world, &peer));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_peer_pointer(comm, memory, -1, &peer));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_peer_pointer(comm, memory, 0, NULL));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_peer_pointer(comm, local, 0, &peer));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_memory_class(comm, memory, NULL));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_memory_class(NULL, memory, &class));
    CHECK(peer == NULL, "the output was touched");
    CHECK_OK(tutti_free(comm, memory));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_peer_pointer(comm, memory, 0, &peer));
    tutti_comm_destroy(comm);
}

/* -- one thread that drives all ranks --------------------------------------------------------------------------- */

static void check_all(tutti_comm **comms, void **pointers)
{
    for (int rank = 0; rank < WORLD; rank++) {
        memset(pointers[rank], rank + 1, 70000);
    }
    for (int rank = 0; rank < WORLD; rank++) {
        for (int other = 0; other < WORLD; other++) {
            unsigned char *peer = NULL;
            CHECK_OK(tutti_peer_pointer(comms[rank], pointers[rank], other, (void **)&peer));
            CHECK(peer[0] == other + 1 && peer[69999] == other + 1, "rank %d sees %d of rank %d", rank, peer[0], other);
        }
    }
}

static void test_all(void)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host"};
    tutti_comm *comms[WORLD];
    void *pointers[WORLD] = {NULL};
    void *second[WORLD];
    struct footprint before = footprint_take(NULL);
    CHECK_OK(tutti_comm_create_all(&options, NULL, WORLD, comms));
    struct footprint made = footprint_take(comms[1]);
    CHECK_STATUS(TUTTI_ERR_UNSUPPORTED, tutti_alloc(comms[0], 4096, &pointers[0]));
    CHECK(strstr(tutti_last_error(), "tutti_alloc_all") != NULL, "%s", tutti_last_error());
    CHECK_OK(tutti_alloc_all(comms, WORLD, 70000, pointers));
    check_all(comms, pointers);
    CHECK_STATUS(TUTTI_ERR_UNSUPPORTED, tutti_free(comms[0], pointers[0]));
    CHECK_OK(tutti_alloc_all(comms, WORLD, 70000, second));
    void *crossed[WORLD] = {pointers[0], second[1], pointers[2]};
    CHECK_STATUS(TUTTI_ERR_MISMATCH, tutti_free_all(comms, WORLD, crossed));
    CHECK_OK(tutti_free_all(comms, WORLD, pointers));
    check_all(comms, second);
    CHECK_OK(tutti_free_all(comms, WORLD, second));
    struct footprint after = footprint_take(comms[1]);
    footprint_same(&made, &after, "after tutti_free_all");
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_free_all(comms, WORLD, pointers));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_alloc_all(comms, WORLD, 0, pointers));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_alloc_all(comms, WORLD - 1, 4096, pointers));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_alloc_all(NULL, WORLD, 4096, pointers));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_alloc_all(comms, WORLD, 4096, NULL));
    tutti_comm *swapped[WORLD] = {comms[1], comms[0], comms[2]};
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_alloc_all(swapped, WORLD, 4096, pointers));
    for (int rank = 0; rank < WORLD; rank++) {
        tutti_comm_destroy(comms[rank]);
    }
    after = footprint_take(NULL);
    footprint_same(&before, &after, "after tutti_comm_destroy");
}

/* -- memory that nobody frees ----------------------------------------------------------------------------------- */

/* A graph that outlives its communicator fails, and still has its output to poison. */
static void left_to_a_graph(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct footprint before = footprint_take(NULL);
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_host_stream *stream = NULL;
    tutti_host_graph *graph = NULL;
    void *memory = NULL;
    CHECK_OK(tutti_alloc(comm, COUNT * sizeof(float), &memory));
    CHECK_OK(tutti_host_stream_create(&stream));
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    CHECK_OK(tutti_all_reduce(comm, memory, memory, COUNT, TUTTI_F32, TUTTI_SUM, &call));
    CHECK_OK(tutti_host_capture_end(stream, &graph));
    float *values = memory;
    for (int launch = 1; launch < 4; launch++) {
        for (int index = 0; index < COUNT; index++) {
            values[index] = (float)(launch * (index + rank));
        }
        CHECK_OK(tutti_host_graph_launch(graph, stream));
        CHECK_OK(tutti_host_stream_synchronize(stream));
        float expected = (float)(launch * (world * (COUNT - 1) + world * (world - 1) / 2));
        CHECK(values[COUNT - 1] == expected, "%g instead of %g", (double)values[COUNT - 1], (double)expected);
    }
    tutti_comm_destroy(comm);
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_host_graph_launch(graph, NULL));
    CHECK(values[0] != values[0], "%g is not poisoned", (double)values[0]);
    tutti_host_graph_destroy(graph);
    tutti_host_stream_destroy(stream);
    struct footprint after = footprint_take(NULL);
    /* The first communicator of a process leaves the watchdog's descriptors. */
    CHECK(after.mappings == before.mappings, "%d files are mapped, %d were", after.mappings, before.mappings);
}

/* -- parent and child at the same time ---------------------------------------------------------------------------- */

static void *alloc_often(void *argument)
{
    tutti_comm *comm = argument;
    for (int round = 0; round < 40; round++) {
        void *memory[3];
        for (int index = 0; index < 3; index++) {
            CHECK_OK(tutti_alloc(comm, (size_t)(1000 * (index + round) + 1), &memory[index]));
        }
        for (int index = 2; index >= 0; index--) {
            CHECK_OK(tutti_free(comm, memory[index]));
        }
    }
    return NULL;
}

static void family(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    (void)world;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_comm *child = NULL;
    pthread_t threads[2];
    CHECK_OK(tutti_comm_split(comm, rank == 0 ? 0 : 1, -rank, &child));
    CHECK(pthread_create(&threads[0], NULL, alloc_often, comm) == 0, "pthread_create");
    CHECK(pthread_create(&threads[1], NULL, alloc_often, child) == 0, "pthread_create");
    for (int index = 0; index < 2; index++) {
        (void)pthread_join(threads[index], NULL);
    }
    void *memory = NULL;
    CHECK_OK(tutti_alloc(child, 4096, &memory));
    tutti_comm_destroy(comm);
    CHECK_OK(tutti_all_reduce(child, memory, memory, 1024, TUTTI_F32, TUTTI_SUM, NULL));
    CHECK_OK(tutti_free(child, memory));
    tutti_comm_destroy(child);
}

int main(void)
{
    struct verdicts *verdicts = verdicts_create();
    bool one_process[] = {false, true};
    test_refused(RANKS_PROCESSES, verdicts);
    ranks_run(RANKS_PROCESSES, WORLD, 60, questions, &one_process[0]);
    ranks_run(RANKS_PROCESSES, WORLD, 60, left_to_a_graph, NULL);
    ranks_run(RANKS_PROCESSES, WORLD, 60, family, NULL);
    test_all();
    ranks_run(RANKS_THREADS, WORLD, 60, questions, &one_process[1]);
    ranks_run(RANKS_THREADS, WORLD, 60, family, NULL);
    return 0;
}
