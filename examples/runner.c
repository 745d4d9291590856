/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner.c - an engine in small: prefill in pieces with eager attention, decode as one graph for each batch size. Two ranks, a process
 * each, on the host backend; with CUDA or HIP only the kernels and the stream are others.
 *
 *     cc runner.c $(pkg-config --cflags --libs tutti) -o runner && ./runner
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tutti/host.h>
#include <tutti/runner.h>

#define WORLD 2
#define WIDTH 64
#define LAYERS 3
#define ROWS_MAX 48

/* Leaves the function with the status of a call that failed. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        tutti_status tried = (call);                                                                                   \
        if (tried != TUTTI_OK) {                                                                                       \
            return tried;                                                                                              \
        }                                                                                                              \
    } while (0)

struct engine {
    int rank, wrong;
    tutti_comm *comm;
    tutti_host_stream *stream;
    tutti_runner *prefill, *decode;
    float hidden[ROWS_MAX * WIDTH];
    uint32_t rows_of[ROWS_MAX + 1]; /* kernels' arguments: they live as long as the graphs that hold them */
};
static struct engine engine;

/* The model's kernels: a product whose weights the ranks share, and rows that attend to each other, so that padding would count. */
static void product(void *rows)
{
    for (size_t i = 0; i < *(const uint32_t *)rows * WIDTH; i++) {
        engine.hidden[i] *= (float)(engine.rank + 1);
    }
}

static void attend(void *rows)
{
    for (size_t i = 0; i < *(const uint32_t *)rows * WIDTH; i++) {
        engine.hidden[i] -= (float)*(const uint32_t *)rows;
    }
}

/* The segments: the same code, whether it is called or captured. */
static tutti_status dense(void *user, size_t rows, tutti_stream stream)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    (void)user;
    TRY(tutti_host_enqueue(stream, product, &engine.rows_of[rows]));
    return tutti_all_reduce(engine.comm, engine.hidden, engine.hidden, rows * WIDTH, TUTTI_F32, TUTTI_SUM, &call);
}

static tutti_status attention(void *user, size_t rows, tutti_stream stream)
{
    (void)user;
    return tutti_host_enqueue(stream, attend, &engine.rows_of[rows]);
}

static tutti_status whole_pass(void *user, size_t rows, tutti_stream stream)
{
    for (int layer = 0; layer < LAYERS; layer++) {
        TRY(dense(user, rows, stream));
        TRY(tutti_host_enqueue(stream, attend, (void *)tutti_runner_rows(engine.decode)));
    }
    return TUTTI_OK;
}

static tutti_status runners_make(void)
{
    tutti_padded hidden = {engine.hidden, WIDTH * sizeof(float), 0};
    tutti_runner_options pieces = {.struct_bytes = sizeof(pieces), .name = "prefill", .rows_max = 32};
    tutti_runner_options graphs = {.struct_bytes = sizeof(graphs), .name = "decode", .rows_max = 16};
    graphs.flags = TUTTI_RUNNER_LAZY;
    tutti_segment layer = {.struct_bytes = sizeof(layer), .fn = dense, .padded = &hidden, .padded_count = 1};
    tutti_segment eager = {.struct_bytes = sizeof(eager), .fn = attention, .flags = TUTTI_SEGMENT_EAGER};
    TRY(tutti_runner_create(engine.comm, &pieces, &engine.prefill));
    for (int number = 0; number < LAYERS; number++) {
        TRY(tutti_runner_segment(engine.prefill, &layer, NULL));
        TRY(tutti_runner_segment(engine.prefill, &eager, NULL));
    }
    TRY(tutti_runner_create(engine.comm, &graphs, &engine.decode));
    layer.fn = whole_pass;
    TRY(tutti_runner_segment(engine.decode, &layer, NULL));
    return tutti_runner_capture(engine.prefill, engine.stream); /* all ranks: every bucket, one commit */
}

static tutti_status step(tutti_runner *runner, size_t rows)
{
    memset(engine.hidden, 0xff, sizeof(engine.hidden)); /* what the padding holds does not matter: NaN */
    for (size_t i = 0; i < rows * WIDTH; i++) {
        engine.hidden[i] = (float)(i % 7);
    }
    TRY(tutti_runner_run(runner, rows, engine.stream));
    TRY(tutti_runner_finish(runner, engine.stream)); /* before rows are handed out */
    for (size_t i = 0; i < rows * WIDTH; i++) {
        engine.wrong += engine.hidden[i] != (float)(27 * (i % 7)) - 13.0f * (float)rows;
    }
    return TUTTI_OK;
}

static tutti_status serve(const char *rendezvous)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host", .world = WORLD};
    options.rank = engine.rank;
    options.rendezvous = rendezvous;
    TRY(tutti_comm_create(&options, &engine.comm));
    TRY(tutti_host_stream_create(&engine.stream));
    for (uint32_t rows = 0; rows <= ROWS_MAX; rows++) {
        engine.rows_of[rows] = rows;
    }
    TRY(runners_make());
    for (size_t rows = 1; rows <= ROWS_MAX; rows++) {
        TRY(step(engine.prefill, rows));         /* up to 32 rows from graphs, above them eagerly */
        TRY(step(engine.decode, rows % 16 + 1)); /* a bucket's first run is eager, and captures it */
    }
    return TUTTI_OK;
}

int main(void)
{
    char directory[] = "/tmp/runner-XXXXXX";
    char rendezvous[64];
    int other = mkdtemp(directory) == NULL;
    (void)snprintf(rendezvous, sizeof(rendezvous), "unix:%s", directory);
    engine.rank = fork() == 0;
    const char *said = serve(rendezvous) != TUTTI_OK ? tutti_last_error() : "served";
    printf("rank %d: %s, %d values wrong\n", engine.rank, said, engine.wrong);
    engine.wrong += strcmp(said, "served") != 0;
    tutti_host_stream_destroy(engine.stream);
    tutti_runner_destroy(engine.prefill);
    tutti_runner_destroy(engine.decode);
    tutti_comm_destroy(engine.comm);
    if (engine.rank == 0) {
        engine.wrong += wait(&other) < 0 || rmdir(directory) != 0;
    }
    return engine.wrong + other != 0;
}
