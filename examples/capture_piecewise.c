/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture_piecewise.c - a forward pass in pieces: dense layers with their all-reduces replayed from graphs, one for each bucket
 * of rows, and attention between them called eagerly.
 *
 *     cc capture_piecewise.c $(pkg-config --cflags --libs tutti) -pthread -o capture_piecewise && ./capture_piecewise
 *
 * Two ranks, one thread each, on the host backend. A batch has any number of rows: it is padded to the next bucket, and runs
 * eagerly above the largest one.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tutti/host.h>

#define WORLD 2
#define WIDTH 256
#define ROWS_MAX 12
#define SEGMENTS 3
#define BUCKETS 3

static const int bucket_rows[BUCKETS] = {2, 4, 8};

/* Leaves the function with the status of a call that failed. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        tutti_status tried = (call);                                                                                   \
        if (tried != TUTTI_OK) {                                                                                       \
            return tried;                                                                                              \
        }                                                                                                              \
    } while (0)

struct engine;

/* A dense layer over the rows of a bucket; lives as long as the graph that holds it. */
struct segment {
    struct engine *engine;
    int layer, rows;
    tutti_host_graph *graph;
};

struct engine {
    int rank;
    const char *rendezvous;
    tutti_comm *comm;
    tutti_host_stream *stream;
    float hidden[ROWS_MAX * WIDTH];
    float partial[ROWS_MAX * WIDTH];
    struct segment segments[BUCKETS][SEGMENTS];
    struct segment eager[SEGMENTS];
    int real_rows, replays, eager_passes, wrong;
};

/* -- what a model does -------------------------------------------------------------------------------------- */

static void dense(void *argument)
{
    const struct segment *segment = argument;
    struct engine *engine = segment->engine;
    for (int i = 0; i < segment->rows * WIDTH; i++) {
        engine->partial[i] = engine->hidden[i] * (float)(engine->rank + 1);
    }
}

static void residual(void *argument)
{
    const struct segment *segment = argument;
    struct engine *engine = segment->engine;
    for (int i = 0; i < segment->rows * WIDTH; i++) {
        engine->hidden[i] = engine->partial[i] + (float)segment->layer;
    }
}

/* Over as many rows as there really are, which differ from step to step: no graph of it is made. */
static void attention(void *argument)
{
    struct engine *engine = argument;
    for (int i = 0; i < engine->real_rows * WIDTH; i++) {
        engine->hidden[i] -= (float)engine->real_rows;
    }
}

/* -- a segment, eager or captured: the same code ------------------------------------------------------------ */

static tutti_status enqueue_segment(struct segment *segment)
{
    struct engine *engine = segment->engine;
    tutti_call call = {.struct_bytes = sizeof(call), .stream = engine->stream};
    size_t count = (size_t)segment->rows * WIDTH;
    TRY(tutti_host_enqueue(engine->stream, dense, segment));
    TRY(tutti_all_reduce(engine->comm, engine->partial, engine->partial, count, TUTTI_F32, TUTTI_SUM, &call));
    return tutti_host_enqueue(engine->stream, residual, segment);
}

static tutti_status capture_segment(struct segment *segment)
{
    struct engine *engine = segment->engine;
    TRY(tutti_host_capture_begin(engine->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    tutti_status status = enqueue_segment(segment);
    tutti_status ended = tutti_host_capture_end(engine->stream, &segment->graph);
    return ended != TUTTI_OK ? ended : status;
}

/* All buckets, the largest first so that smaller ones find memory that is there already; one commit for all of them. */
static tutti_status capture_all(struct engine *engine)
{
    for (int bucket = BUCKETS - 1; bucket >= 0; bucket--) {
        for (int layer = 0; layer < SEGMENTS; layer++) {
            struct segment *segment = &engine->segments[bucket][layer];
            *segment = (struct segment){engine, layer, bucket_rows[bucket], NULL};
            TRY(capture_segment(segment));
        }
    }
    return tutti_commit(engine->comm);
}

static int bucket_for(int rows)
{
    int bucket = 0;
    while (bucket < BUCKETS && bucket_rows[bucket] < rows) {
        bucket++;
    }
    return bucket; /* BUCKETS: none is large enough */
}

static tutti_status forward(struct engine *engine)
{
    int bucket = bucket_for(engine->real_rows);
    for (int layer = 0; layer < SEGMENTS; layer++) {
        if (bucket < BUCKETS) {
            TRY(tutti_host_graph_launch(engine->segments[bucket][layer].graph, engine->stream));
            engine->replays++;
        } else {
            engine->eager[layer] = (struct segment){engine, layer, engine->real_rows, NULL};
            TRY(enqueue_segment(&engine->eager[layer]));
        }
        TRY(tutti_host_enqueue(engine->stream, attention, engine));
    }
    engine->eager_passes += bucket == BUCKETS;
    TRY(tutti_host_stream_synchronize(engine->stream));
    return tutti_comm_status(engine->comm); /* before rows are handed out */
}

/* -- the ranks ------------------------------------------------------------------------------------------------ */

static tutti_status step(struct engine *engine, int rows)
{
    engine->real_rows = rows;
    memset(engine->hidden, 0xff, sizeof(engine->hidden)); /* what the padding holds does not matter: NaN */
    for (int i = 0; i < rows * WIDTH; i++) {
        engine->hidden[i] = (float)(i % 17 + rows);
    }
    TRY(forward(engine));
    for (int i = 0; i < rows * WIDTH; i++) {
        float wanted = (float)(i % 17 + rows);
        for (int layer = 0; layer < SEGMENTS; layer++) {
            wanted = 3.0f * wanted + (float)layer - (float)rows;
        }
        engine->wrong += engine->hidden[i] != wanted;
    }
    return TUTTI_OK;
}

static tutti_status run(struct engine *engine)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options)};
    options.backend = "host";
    options.rank = engine->rank;
    options.world = WORLD;
    options.rendezvous = engine->rendezvous;
    TRY(tutti_comm_create(&options, &engine->comm));
    TRY(tutti_host_stream_create(&engine->stream));
    TRY(capture_all(engine));
    for (int rows = 1; rows <= ROWS_MAX; rows++) {
        TRY(step(engine, rows));
    }
    return TUTTI_OK;
}

static void *rank_main(void *argument)
{
    struct engine *engine = argument;
    tutti_status status = run(engine);
    if (status != TUTTI_OK) {
        fprintf(stderr, "rank %d: %s: %s\n", engine->rank, tutti_status_name(status), tutti_last_error());
        engine->wrong++;
    }
    if (engine->rank == 0) {
        printf("%d replays, %d passes eager because no bucket is large enough\n", engine->replays,
               engine->eager_passes);
    }
    for (int i = 0; i < BUCKETS * SEGMENTS; i++) {
        tutti_host_graph_destroy(engine->segments[i / SEGMENTS][i % SEGMENTS].graph);
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
    printf(wrong == 0 ? "every row was right\n" : "%d elements were wrong\n", wrong);
    return wrong != 0;
}
