/* SPDX-License-Identifier: Apache-2.0 */
/* The tools' door to a GPU (tools/tutti/gpu.c) on the simulated drivers. Arguments: "cuda" or "hip", and the driver. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gpu.h"
#include "harness/check.h"

#define WORDS 1000

#define GOOD(call) CHECK(call, "%s: %s", #call, gpu_error())

static const char *backend;

static void check_words(const void *memory, uint32_t expected, tutti_stream stream)
{
    uint32_t words[WORDS] = {0};
    GOOD(gpu_download(words, memory, sizeof(words), stream));
    GOOD(gpu_stream_wait(stream));
    for (size_t i = 0; i < WORDS; i++) {
        CHECK(words[i] == expected, "word %zu is %u, not %u", i, words[i], expected);
    }
}

/* Before this process has a driver: the probe must work in a child, and leave nothing here. */
static void probe(void)
{
    struct gpu_probe probe = {0};
    GOOD(gpu_probe(backend, &probe));
    CHECK(probe.devices > 1 && probe.driver_version > 0 && probe.name[0] != '\0', "%d devices, driver %d, '%s'",
          probe.devices, probe.driver_version, probe.name);
    void *memory = NULL;
    CHECK(!gpu_alloc(&memory, 16) && gpu_error()[0] != '\0' && memory == NULL, "memory without a driver");
}

static void refusals(void)
{
    CHECK(!gpu_use(backend, 1000), "device 1000");
    CHECK(strstr(gpu_error(), "there is no device 1000") != NULL, "%s", gpu_error());
    CHECK(!gpu_use(strcmp(backend, "cuda") == 0 ? "hip" : "cuda", 0), "two vendors in one process");
    void *memory = &memory;
    CHECK(!gpu_alloc(&memory, SIZE_MAX / 2), "half of all memory");
    CHECK(memory == &memory && strstr(gpu_error(), "lloc") != NULL, "%s", gpu_error());
}

static void *ask(void *event)
{
    bool done = false;
    GOOD(gpu_use(backend, 1));
    (void)gpu_event_query(event, &done);
    return NULL;
}

/* What another thread asks invalidates a capture in mode global, but not a thread's own; the stream works on afterwards. */
static void captures(void *memory, tutti_stream stream, gpu_event event)
{
    for (uint32_t mode = GPU_CAPTURE_GLOBAL; mode <= GPU_CAPTURE_THREAD_LOCAL; mode++) {
        gpu_graph graph = NULL;
        pthread_t thread;
        GOOD(gpu_capture_begin(stream, (enum gpu_capture_mode)mode));
        CHECK(pthread_create(&thread, NULL, ask, event) == 0 && pthread_join(thread, NULL) == 0, "a thread");
        bool recorded = gpu_fill(memory, 40 + mode, WORDS, stream);
        bool ended = gpu_capture_end(stream, &graph);
        CHECK(recorded == (mode != GPU_CAPTURE_GLOBAL) && ended == recorded, "mode %u: %s", mode, gpu_error());
        CHECK(ended == (graph != NULL), "a graph of an invalidated capture");
        GOOD(gpu_fill(memory, 3, WORDS, stream));
        check_words(memory, 3, stream);
        if (ended) {
            GOOD(gpu_graph_launch(graph, stream));
            check_words(memory, 40 + mode, stream);
        }
        gpu_graph_destroy(graph);
    }
}

/* Other pages come behind the same address, which a graph goes on using. */
static void pages_come_and_go(tutti_stream stream)
{
    struct gpu_pages none = {0};
    if (strcmp(backend, "hip") == 0) { /* the simulated HIP driver has no virtual memory calls */
        CHECK(!gpu_pages_map(&none, 1, WORDS * sizeof(uint32_t), false) && none.address == NULL,
              "pages out of nothing");
        CHECK(strstr(gpu_error(), "hipMemAddressReserve") != NULL, "says '%s'", gpu_error());
        return;
    }
    for (int shareable = 0; shareable < 2; shareable++) {
        struct gpu_pages pages = {0};
        gpu_graph graph = NULL;
        GOOD(gpu_pages_map(&pages, 1, WORDS * sizeof(uint32_t), shareable != 0));
        CHECK(pages.address != NULL && pages.bytes >= WORDS * sizeof(uint32_t), "%zu bytes", pages.bytes);
        GOOD(gpu_capture_begin(stream, GPU_CAPTURE_THREAD_LOCAL));
        GOOD(gpu_fill(pages.address, 21, WORDS, stream));
        GOOD(gpu_capture_end(stream, &graph));
        GOOD(gpu_fill(pages.address, 20, WORDS, stream));
        check_words(pages.address, 20, stream);
        void *address = pages.address;
        GOOD(gpu_pages_replace(&pages));
        CHECK(pages.address == address, "now at %p", pages.address);
        check_words(pages.address, 0, stream); /* others: simulated ones begin as zeros */
        GOOD(gpu_graph_launch(graph, stream));
        check_words(pages.address, 21, stream);
        gpu_graph_destroy(graph);
        gpu_pages_unmap(&pages);
        CHECK(pages.address == NULL, "still there");
        gpu_pages_unmap(&pages);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 3, "usage: tool_door cuda|hip DRIVER");
    backend = argv[1];
    CHECK(setenv(strcmp(backend, "cuda") == 0 ? "TUTTI_CUDA_LIBRARY" : "TUTTI_HIP_LIBRARY", argv[2], 1) == 0, "setenv");
    probe();
    GOOD(gpu_use(backend, 1));
    refusals();
    void *memory = NULL;
    void *pinned = NULL;
    tutti_stream stream = NULL;
    tutti_stream other = NULL;
    gpu_event event = NULL;
    GOOD(gpu_alloc(&memory, WORDS * sizeof(uint32_t)));
    GOOD(gpu_host_alloc(&pinned, WORDS * sizeof(uint32_t)));
    GOOD(gpu_stream_create(&stream));
    GOOD(gpu_stream_create(&other));
    GOOD(gpu_event_create(&event, false));
    for (size_t i = 0; i < WORDS; i++) {
        ((uint32_t *)pinned)[i] = 7;
    }
    GOOD(gpu_upload(memory, pinned, WORDS * sizeof(uint32_t), stream));
    check_words(memory, 7, stream);
    GOOD(gpu_fill(memory, 9, WORDS, stream));
    GOOD(gpu_event_record(event, stream));
    GOOD(gpu_stream_follow(other, event));
    check_words(memory, 9, other);
    GOOD(gpu_event_wait(event));
    captures(memory, stream, event);
    pages_come_and_go(stream);
    gpu_event_destroy(event);
    gpu_stream_destroy(other);
    gpu_stream_destroy(stream);
    gpu_host_free(pinned);
    gpu_free(memory);
    return 0;
}
