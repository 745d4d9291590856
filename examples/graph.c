/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graph.c - a layer with an all-reduce, recorded once and replayed with new inputs.
 *
 *     cc graph.c $(pkg-config --cflags --libs tutti) -pthread -o graph && ./graph
 *
 * Two ranks, one thread each. Each captures "compute a partial result, then all-reduce it" into a graph of the
 * host backend. Nothing is registered and nothing is patched after the capture: the graph is complete.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <tutti/host.h>

#define WORLD 2
#define COUNT 4096
#define REPLAYS 3

struct layer {
    int rank;
    const char *rendezvous;
    float input;
    float partial[COUNT];
    float full[COUNT];
    int failed;
};

/* What a real engine would do with a matrix: this rank's part of the result. */
static void compute_partial(void *argument)
{
    struct layer *layer = argument;
    for (int i = 0; i < COUNT; i++) {
        layer->partial[i] = layer->input * (float)(layer->rank + 1) + (float)i;
    }
}

static tutti_status capture(tutti_comm *comm, tutti_host_stream *stream, struct layer *layer, tutti_host_graph **graph)
{
    tutti_call call = {0};
    call.struct_bytes = sizeof(call);
    call.stream = stream;
    tutti_status status = tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL);
    if (status != TUTTI_OK) {
        return status;
    }
    /* An engine looks at each result; an error here also shows when the capture is ended. */
    (void)tutti_host_enqueue(stream, compute_partial, layer);
    (void)tutti_all_reduce(comm, layer->partial, layer->full, COUNT, TUTTI_F32, TUTTI_SUM, &call);
    return tutti_host_capture_end(stream, graph);
}

static tutti_status replay(tutti_host_graph *graph, tutti_host_stream *stream, struct layer *layer)
{
    for (int step = 1; step <= REPLAYS; step++) {
        layer->input = (float)step; /* new input, same graph */
        tutti_status status = tutti_host_graph_launch(graph, stream);
        if (status == TUTTI_OK) {
            status = tutti_host_stream_synchronize(stream);
        }
        if (status != TUTTI_OK) {
            return status;
        }
        for (int i = 0; i < COUNT; i++) {
            layer->failed |= layer->full[i] != (float)(3 * step + 2 * i);
        }
        if (layer->rank == 0) {
            printf("replay %d: full[0] = %g\n", step, (double)layer->full[0]);
        }
    }
    return TUTTI_OK;
}

static void *rank_main(void *argument)
{
    struct layer *layer = argument;
    tutti_comm_options options = {0};
    options.struct_bytes = sizeof(options);
    options.backend = "host";
    options.rank = layer->rank;
    options.world = WORLD;
    options.rendezvous = layer->rendezvous;
    tutti_comm *comm = NULL;
    tutti_host_stream *stream = NULL;
    tutti_host_graph *graph = NULL;
    tutti_status status = tutti_comm_create(&options, &comm);
    if (status == TUTTI_OK) {
        status = tutti_host_stream_create(&stream);
    }
    if (status == TUTTI_OK) {
        status = capture(comm, stream, layer, &graph);
    }
    if (status == TUTTI_OK) {
        status = replay(graph, stream, layer);
    }
    if (status == TUTTI_OK) {
        status = tutti_comm_status(comm); /* work on a stream reports its failures here */
    }
    if (status != TUTTI_OK) {
        fprintf(stderr, "rank %d: %s: %s\n", layer->rank, tutti_status_name(status), tutti_last_error());
        layer->failed = 1;
    }
    tutti_host_graph_destroy(graph);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
    return NULL;
}

int main(void)
{
    static struct layer layers[WORLD];
    pthread_t threads[WORLD];
    char directory[] = "/tmp/graph-XXXXXX";
    char rendezvous[64];
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        return 1;
    }
    (void)snprintf(rendezvous, sizeof(rendezvous), "unix:%s", directory);
    for (int rank = 0; rank < WORLD; rank++) {
        layers[rank].rank = rank;
        layers[rank].rendezvous = rendezvous;
        if (pthread_create(&threads[rank], NULL, rank_main, &layers[rank]) != 0) {
            return 1;
        }
    }
    int failed = 0;
    for (int rank = 0; rank < WORLD; rank++) {
        (void)pthread_join(threads[rank], NULL);
        failed |= layers[rank].failed;
    }
    (void)rmdir(directory);
    return failed;
}
