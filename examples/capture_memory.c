/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture_memory.c - memory that comes and goes under captured graphs: a memory saver of a training loop; and tutti_alloc's.
 *
 *     cc capture_memory.c $(pkg-config --cflags --libs tutti) -pthread -o capture_memory && ./capture_memory
 *
 * Two ranks, one thread each, on the host backend, where pages are mapped with mmap. On a GPU the saver would use the driver's
 * virtual memory calls (cuMemUnmap, cuMemMap); the library's calls are the same.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <tutti/host.h>

#define WORLD 2
#define COUNT 65536
#define BYTES (COUNT * sizeof(float))
#define ROUNDS 3

/* Leaves the function with the status of a call that failed. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        tutti_status tried = (call);                                                                                   \
        if (tried != TUTTI_OK) {                                                                                       \
            return tried;                                                                                              \
        }                                                                                                              \
    } while (0)

struct engine {
    int rank;
    const char *rendezvous;
    tutti_comm *comm;
    tutti_host_stream *stream;
    float *weights, *activations; /* addresses that stay; what is behind them does not */
    float version;                /* of the weights */
    int wrong;
};

/* -- the saver -------------------------------------------------------------------------------------------- */

static tutti_status pages_map(float **address)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (*address != NULL ? MAP_FIXED : 0);
    void *mapped = mmap(*address, BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mapped == MAP_FAILED) {
        return TUTTI_ERR_SYSTEM;
    }
    *address = mapped;
    return TUTTI_OK;
}

/* Keeps the addresses, gives the pages back. */
static tutti_status pages_unmap(float *address)
{
    void *kept = mmap(address, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return kept == MAP_FAILED ? TUTTI_ERR_SYSTEM : TUTTI_OK;
}

/* -- the engine -------------------------------------------------------------------------------------------- */

static void compute_partial(void *argument)
{
    struct engine *engine = argument;
    for (int i = 0; i < COUNT; i++) {
        engine->activations[i] = engine->weights[i] * (float)(engine->rank + 1);
    }
}

static tutti_status capture(struct engine *engine, tutti_host_graph **graph)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = engine->stream};
    TRY(tutti_host_capture_begin(engine->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    (void)tutti_host_enqueue(engine->stream, compute_partial, engine);
    (void)tutti_all_reduce(engine->comm, engine->activations, engine->activations, COUNT, TUTTI_F32, TUTTI_SUM, &call);
    return tutti_host_capture_end(engine->stream, graph);
}

static tutti_status replay(struct engine *engine, tutti_host_graph *graph)
{
    TRY(tutti_host_graph_launch(graph, engine->stream));
    TRY(tutti_host_stream_synchronize(engine->stream));
    TRY(tutti_comm_status(engine->comm));
    for (int i = 0; i < COUNT; i++) {
        engine->wrong += engine->activations[i] != 3.0f * (engine->version + (float)i);
    }
    return TUTTI_OK;
}

/* Rank 0 has new weights; everybody gets them. */
static tutti_status weights_update(struct engine *engine)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = engine->stream};
    engine->version += 1.0f;
    for (int i = 0; i < COUNT && engine->rank == 0; i++) {
        engine->weights[i] = engine->version + (float)i;
    }
    TRY(tutti_broadcast(engine->comm, engine->weights, BYTES, 0, &call));
    return tutti_host_stream_synchronize(engine->stream);
}

/* -- pause and resume -------------------------------------------------------------------------------------- */

static tutti_status pause_engine(struct engine *engine)
{
    /* First the library, then the pages: peers' kernels do not use them any more when this returns. */
    TRY(tutti_suspend(engine->comm, engine->activations, BYTES));
    TRY(tutti_suspend(engine->comm, engine->weights, BYTES));
    TRY(pages_unmap(engine->activations));
    return pages_unmap(engine->weights);
}

static tutti_status resume_engine(struct engine *engine)
{
    TRY(pages_map(&engine->activations));
    TRY(pages_map(&engine->weights));
    TRY(weights_update(engine));
    return tutti_resume(engine->comm); /* all ranks; no graph is captured again */
}

static tutti_status start(struct engine *engine, tutti_host_graph **graph)
{
    TRY(pages_map(&engine->weights));
    TRY(pages_map(&engine->activations));
    TRY(weights_update(engine));
    TRY(capture(engine, graph));
    return tutti_commit(engine->comm);
}

static tutti_status train_and_serve(struct engine *engine, tutti_host_graph **graph)
{
    TRY(start(engine, graph));
    for (int round = 0; round < ROUNDS; round++) {
        TRY(replay(engine, *graph));
        TRY(pause_engine(engine));
        TRY(resume_engine(engine));
    }
    return replay(engine, *graph);
}

/* -- memory of the library ---------------------------------------------------------------------------------- */

static tutti_status serve_symmetric(struct engine *engine, tutti_host_graph **graph)
{
    void *memory = NULL;
    TRY(tutti_alloc(engine->comm, BYTES, &memory)); /* all ranks, the same size; mapped by all of them */
    engine->activations = memory;
    TRY(capture(engine, graph));
    TRY(replay(engine, *graph)); /* direct where the backend has it, without any commit */
    tutti_host_graph_destroy(*graph);
    *graph = NULL;
    return tutti_free(engine->comm, memory); /* all ranks, when no launch uses it any more */
}

static tutti_status run(struct engine *engine, tutti_host_graph *graphs[2])
{
    tutti_comm_options options = {.struct_bytes = sizeof(options)};
    options.backend = "host";
    options.rank = engine->rank;
    options.world = WORLD;
    options.rendezvous = engine->rendezvous;
    options.flags = TUTTI_COMM_DIRECT_FD; /* a promise: whoever remaps memory suspends first */
    TRY(tutti_comm_create(&options, &engine->comm));
    TRY(tutti_host_stream_create(&engine->stream));
    TRY(train_and_serve(engine, &graphs[0]));
    tutti_plan_t plan = {.struct_bytes = sizeof(plan)};
    TRY(tutti_plan(engine->comm, TUTTI_ALL_REDUCE, COUNT, TUTTI_F32, &plan));
    if (engine->rank == 0) {
        printf("an all-reduce of %zu bytes takes %s: %s\n", BYTES, plan.protocol, plan.reason);
    }
    tutti_host_graph_destroy(graphs[0]);
    graphs[0] = NULL;
    (void)munmap(engine->activations, BYTES);
    return serve_symmetric(engine, &graphs[1]);
}

static void *rank_main(void *argument)
{
    struct engine *engine = argument;
    tutti_host_graph *graphs[2] = {NULL, NULL};
    tutti_status status = run(engine, graphs);
    if (status != TUTTI_OK) {
        fprintf(stderr, "rank %d: %s: %s\n", engine->rank, tutti_status_name(status), tutti_last_error());
        engine->wrong++;
    }
    tutti_host_graph_destroy(graphs[0]);
    tutti_host_graph_destroy(graphs[1]);
    tutti_host_stream_destroy(engine->stream);
    tutti_comm_destroy(engine->comm);
    if (engine->weights != NULL) {
        (void)munmap(engine->weights, BYTES);
    }
    return NULL;
}

int main(void)
{
    static struct engine engines[WORLD];
    pthread_t threads[WORLD];
    char directory[] = "/tmp/capture-XXXXXX";
    char rendezvous[64];
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        return 1;
    }
    (void)snprintf(rendezvous, sizeof(rendezvous), "unix:%s", directory);
    for (int rank = 0; rank < WORLD; rank++) {
        engines[rank].rank = rank;
        engines[rank].rendezvous = rendezvous;
        if (pthread_create(&threads[rank], NULL, rank_main, &engines[rank]) != 0) {
            return 1;
        }
    }
    int wrong = 0;
    for (int rank = 0; rank < WORLD; rank++) {
        (void)pthread_join(threads[rank], NULL);
        wrong += engines[rank].wrong;
    }
    (void)rmdir(directory);
    printf(wrong == 0 ? "every replay was right, on whatever pages\n" : "%d elements were wrong\n", wrong);
    return wrong != 0;
}
