/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture_commit.c - captured collectives without a commit, with one, in a session, and after a capture that failed on one rank.
 *
 *     cc capture_commit.c $(pkg-config --cflags --libs tutti) -pthread -o capture_commit && ./capture_commit
 *
 * Two ranks, one thread each, on the host backend. With CUDA or HIP the library's calls are the same; streams and graphs are the
 * vendor's. The graphs compute the same bits all along: what changes is the way that large collectives take.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <tutti/host.h>

#define WORLD 2
#define COUNT 65536

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
    float input;
    float partial[COUNT];
    float full[COUNT];
    int wrong;
};

/* This rank's part of a layer. */
static void compute_partial(void *argument)
{
    struct engine *engine = argument;
    for (int i = 0; i < COUNT; i++) {
        engine->partial[i] = engine->input * (float)(engine->rank + 1) + (float)i;
    }
}

static tutti_status enqueue_layer(struct engine *engine)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = engine->stream};
    TRY(tutti_host_enqueue(engine->stream, compute_partial, engine));
    return tutti_all_reduce(engine->comm, engine->partial, engine->full, COUNT, TUTTI_F32, TUTTI_SUM, &call);
}

/* A capture is ended in any case: that frees the stream, and says what went wrong. */
static tutti_status capture(struct engine *engine, tutti_host_graph **graph)
{
    TRY(tutti_host_capture_begin(engine->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    tutti_status status = enqueue_layer(engine);
    tutti_status ended = tutti_host_capture_end(engine->stream, graph);
    return ended != TUTTI_OK ? ended : status;
}

/* New input, same graph. */
static tutti_status replay(struct engine *engine, tutti_host_graph *graph)
{
    engine->input += 1.0f;
    TRY(tutti_host_graph_launch(graph, engine->stream));
    TRY(tutti_host_stream_synchronize(engine->stream));
    TRY(tutti_comm_status(engine->comm));
    for (int i = 0; i < COUNT; i++) {
        engine->wrong += engine->full[i] != 3.0f * engine->input + 2.0f * (float)i;
    }
    return TUTTI_OK;
}

/* What became of the captured calls. */
static tutti_status report(const struct engine *engine, const char *when)
{
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    TRY(tutti_comm_stats(engine->comm, &stats));
    if (engine->rank == 0) {
        printf("%-24s %llu waiting, %llu direct, %llu suspended, %llu staged\n", when,
               (unsigned long long)stats.pending_calls, (unsigned long long)stats.committed_calls,
               (unsigned long long)stats.suspended_calls, (unsigned long long)stats.staged_for_good_calls);
    }
    return TUTTI_OK;
}

/* -- without a commit, and with one --------------------------------------------------------------------- */

static tutti_status serve(struct engine *engine, tutti_host_graph **graph)
{
    TRY(capture(engine, graph));
    TRY(replay(engine, *graph)); /* right at once, and for ever */
    TRY(report(engine, "captured"));

    TRY(tutti_commit(engine->comm)); /* all ranks, once, after the captures */
    TRY(replay(engine, *graph));     /* the same bits; large collectives directly, where all ranks can */
    return report(engine, "committed");
}

/* -- a session ------------------------------------------------------------------------------------------- */

static tutti_status serve_session(struct engine *engine, tutti_host_graph **graph)
{
    tutti_capture *session = NULL;
    TRY(tutti_capture_begin(engine->comm, engine->stream, &session));
    TRY(capture(engine, graph));
    TRY(tutti_capture_commit(session)); /* a tutti_commit that closes the session */
    TRY(replay(engine, *graph));
    TRY(tutti_capture_release(session)); /* local: what it held is given back */
    TRY(replay(engine, *graph));         /* still right, staged */
    return report(engine, "session released");
}

/* -- a capture that fails on one rank -------------------------------------------------------------------- */

/* A thread may not wait for a stream while it captures: the capture is invalid then. */
static tutti_status capture_badly(struct engine *engine, tutti_host_graph **graph)
{
    tutti_host_stream *other = NULL;
    TRY(tutti_host_stream_create(&other));
    TRY(tutti_host_capture_begin(engine->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    (void)enqueue_layer(engine);
    (void)tutti_host_stream_synchronize(other);
    (void)enqueue_layer(engine);
    tutti_status ended = tutti_host_capture_end(engine->stream, graph);
    tutti_host_stream_destroy(other);
    return ended;
}

static tutti_status capture_everywhere(struct engine *engine, tutti_host_graph **graph)
{
    tutti_status status = engine->rank == 1 ? capture_badly(engine, graph) : capture(engine, graph);
    tutti_status agreed = tutti_commit(engine->comm); /* also where the capture failed: it is how the ranks find out */
    if (agreed == TUTTI_ERR_CAPTURE || agreed == TUTTI_ERR_MISMATCH) {
        /* On every rank, with the same sentence: some rank has no such graph, or another one. A rank that has one may replay it
         * beside eager calls of the others; here all of them capture again. */
        if (engine->rank == 0) {
            printf("%s\n", tutti_last_error());
        }
        tutti_host_graph_destroy(*graph);
        *graph = NULL;
        status = capture(engine, graph);
        agreed = tutti_commit(engine->comm);
    }
    return status != TUTTI_OK ? status : agreed;
}

/* -- the ranks -------------------------------------------------------------------------------------------- */

static tutti_status run(struct engine *engine, tutti_host_graph *graphs[3])
{
    tutti_comm_options options = {.struct_bytes = sizeof(options)};
    options.backend = "host";
    options.rank = engine->rank;
    options.world = WORLD;
    options.rendezvous = engine->rendezvous;
    TRY(tutti_comm_create(&options, &engine->comm));
    TRY(tutti_host_stream_create(&engine->stream));
    TRY(serve(engine, &graphs[0]));
    TRY(serve_session(engine, &graphs[1]));
    TRY(capture_everywhere(engine, &graphs[2]));
    TRY(replay(engine, graphs[2]));
    TRY(replay(engine, graphs[0])); /* old graphs do not mind */
    return replay(engine, graphs[1]);
}

static void *rank_main(void *argument)
{
    struct engine *engine = argument;
    tutti_host_graph *graphs[3] = {NULL, NULL, NULL};
    tutti_status status = run(engine, graphs);
    if (status != TUTTI_OK) {
        fprintf(stderr, "rank %d: %s: %s\n", engine->rank, tutti_status_name(status), tutti_last_error());
        engine->wrong++;
    }
    for (int i = 0; i < 3; i++) {
        tutti_host_graph_destroy(graphs[i]); /* and with it goes what its calls held */
    }
    tutti_host_stream_destroy(engine->stream);
    tutti_comm_destroy(engine->comm);
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
    printf(wrong == 0 ? "every element of every replay was right\n" : "%d elements were wrong\n", wrong);
    return wrong != 0;
}
