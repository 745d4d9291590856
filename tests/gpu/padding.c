/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the runner needs of a GPU backend (device/graphs.h), on one device: rows above the count in the word become zero, whatever
 * they held, and nothing else is touched; in every layout, eagerly and in graphs whose count changes between replays; captures that
 * fail leave stream and device usable. Prints what padding costs that is not there.
 */
#include <string.h>
#include <time.h>

#include "device/device.h"
#include "device/graphs.h"
#include "harness/check.h"
#include "harness/effort.h"
#include "harness/gpu.h"
#include "harness/ranks.h"
#include "harness/values.h"

#define MATRICES_MAX 20
#define AREA_BYTES ((size_t)1 << 18)
#define GUARD_BYTES 64

static struct device *device;
static const struct graph_ops *graphs;
static const char *backend;
static tutti_stream stream;
static uint64_t calls; /* numbers the contents */

/* One piece of device memory, and what it should hold. */
struct area_on_device {
    unsigned char *memory, *expected, *found;
    size_t bytes;
};

static void area_make(struct area_on_device *area, size_t bytes)
{
    *area = (struct area_on_device){gpu_alloc(bytes), malloc(bytes), malloc(bytes), bytes};
    CHECK(area->expected != NULL && area->found != NULL, "%zu bytes", bytes);
}

static void area_free(struct area_on_device *area)
{
    gpu_free(area->memory);
    free(area->expected);
    free(area->found);
}

/* New contents: any bits, and NaN of every type in every second call. */
static void area_refill(struct area_on_device *area)
{
    calls++;
    if (calls % 2 == 0) {
        values_fill_bytes(area->expected, calls, 0, 0, area->bytes);
    } else {
        memset(area->expected, 0xff, area->bytes);
    }
    gpu_upload(area->memory, area->expected, area->bytes, stream);
    gpu_stream_wait(stream);
}

static void area_expect(const struct area_on_device *area, const tutti_padded *padded, size_t count, size_t rows,
                        uint32_t real)
{
    for (size_t index = 0; index < count; index++) {
        size_t at = (size_t)((unsigned char *)padded[index].data - area->memory);
        size_t stride = padded[index].stride_bytes != 0 ? padded[index].stride_bytes : padded[index].row_bytes;
        for (size_t row = real; row < rows; row++) {
            memset(area->expected + at + row * stride, 0, padded[index].row_bytes);
        }
    }
}

static void area_check(const struct area_on_device *area, const char *what, uint32_t real)
{
    gpu_download(area->found, area->memory, area->bytes, stream);
    for (size_t byte = 0; byte < area->bytes; byte++) {
        CHECK(area->found[byte] == area->expected[byte], "%s, %u real rows: byte %zu is %02x, not %02x", what, real,
              byte, area->found[byte], area->expected[byte]);
    }
}

static uint32_t *word_make(void)
{
    uint32_t *word = NULL;
    uint32_t value = 1;
    CHECK_OK(graphs->word_create(device, &word));
    gpu_download(&value, word, sizeof(value), stream);
    CHECK(value == 0, "a new word is %u", value);
    return word;
}

static struct device_graph *padding_capture(const uint32_t *word, size_t rows, const tutti_padded *padded, size_t count)
{
    struct device_graph *graph = NULL;
    uint64_t bytes = 1;
    CHECK_OK(graphs->capture_begin(device, stream, &graph));
    CHECK_OK(graphs->padding_zero(device, word, rows, padded, count, stream));
    CHECK_OK(graphs->capture_end(device, stream, &graph, &bytes));
    CHECK(graph != NULL && bytes == 0, "no graph");
    return graph;
}

/* -- layouts -------------------------------------------------------------------------------------------------------- */

/* Matrices behind one another, with guards between them; how many there was room for. */
static size_t layout_draw(uint64_t *seed, const struct area_on_device *area, size_t rows, tutti_padded *padded)
{
    static const size_t offsets[] = {0, 16, 4, 8, 12, 1, 2, 7};
    static const size_t widths[] = {16, 64, 240, 4, 12, 100, 1, 2, 7, 33, 0};
    static const size_t gaps[] = {0, 0, 16, 4, 1, 48, 6};
    size_t wanted = 1 + ranks_random(seed) % MATRICES_MAX;
    size_t at = 0;
    for (size_t index = 0; index < wanted; index++) {
        size_t width = widths[ranks_random(seed) % (sizeof(widths) / sizeof(widths[0]))];
        size_t gap = gaps[ranks_random(seed) % (sizeof(gaps) / sizeof(gaps[0]))];
        size_t begin = (at + GUARD_BYTES + 63) / 64 * 64 + offsets[ranks_random(seed) % 8];
        size_t end = begin + rows * (width + gap);
        if (end + GUARD_BYTES > area->bytes) {
            return index;
        }
        padded[index] = (tutti_padded){area->memory + begin, width, gap == 0 && index % 2 == 0 ? 0 : width + gap};
        at = end;
    }
    return wanted;
}

/* One graph for a layout, eagerly too, with other contents and another count each time. */
static void layout_try(uint64_t *seed, int round, struct area_on_device *area, uint32_t *word)
{
    tutti_padded padded[MATRICES_MAX];
    size_t rows = 1 + ranks_random(seed) % (round % 4 == 0 ? 3 : 60);
    size_t count = layout_draw(seed, area, rows, padded);
    struct device_graph *graph = padding_capture(word, rows, padded, count);
    for (int replay = 0; replay < 5; replay++) {
        uint32_t random = (uint32_t)(ranks_random(seed) % (rows + 1));
        uint32_t reals[] = {random, 0, (uint32_t)rows, (uint32_t)rows - 1, (uint32_t)rows + 2, UINT32_MAX};
        uint32_t real = reals[(replay + round) % 6];
        area_refill(area);
        CHECK_OK(graphs->word_set(device, word, real, stream));
        CHECK_OK(replay == 4 ? graphs->padding_zero(device, word, rows, padded, count, stream)
                             : graphs->launch(device, graph, stream));
        area_expect(area, padded, count, rows, real);
        area_check(area, replay == 4 ? "eagerly" : "replayed", real);
    }
    graphs->destroy(device, graph);
}

static void layouts(uint64_t *seed)
{
    struct area_on_device area;
    uint32_t *word = word_make();
    int rounds = effort() == EFFORT_QUICK ? 60 : 400;
    area_make(&area, AREA_BYTES);
    for (int round = 0; round < rounds; round++) {
        layout_try(seed, round, &area, word);
    }
    area_free(&area);
    graphs->word_destroy(device, word);
}

/* More than the grid covers at a time. */
static void large_matrices(uint64_t *seed)
{
    size_t rows = effort() == EFFORT_QUICK ? 40 : 3000;
    const struct {
        size_t at, width, stride;
    } shapes[] = {{64, 16384, 16384}, {32, 16368, 16400}, {4, 4100, 5000}, {1, 1023, 1023}};
    uint32_t *word = word_make();
    for (size_t shape = 0; shape < sizeof(shapes) / sizeof(shapes[0]); shape++) {
        struct area_on_device area;
        area_make(&area, shapes[shape].at + rows * shapes[shape].stride + GUARD_BYTES);
        tutti_padded padded = {area.memory + shapes[shape].at, shapes[shape].width, shapes[shape].stride};
        struct device_graph *graph = padding_capture(word, rows, &padded, 1);
        for (int replay = 0; replay < 3; replay++) {
            uint32_t real = (uint32_t)(ranks_random(seed) % rows);
            area_refill(&area);
            CHECK_OK(graphs->word_set(device, word, real, stream));
            CHECK_OK(graphs->launch(device, graph, stream));
            area_expect(&area, &padded, 1, rows, real);
            area_check(&area, "large", real);
        }
        graphs->destroy(device, graph);
        area_free(&area);
    }
    graphs->word_destroy(device, word);
}

/* -- words ---------------------------------------------------------------------------------------------------------- */

/* The word changes in the order of the stream, without a wait; another runner's is another one. */
static void words_in_order(void)
{
    enum { ROWS = 8, WIDTH = 32 };
    struct area_on_device area;
    area_make(&area, (size_t)2 * ROWS * WIDTH);
    tutti_padded padded[2] = {{area.memory, WIDTH, 0}, {area.memory + (size_t)ROWS * WIDTH, WIDTH, 0}};
    uint32_t *words[2] = {word_make(), word_make()};
    CHECK(words[0] != words[1], "two words are one");
    struct device_graph *first = padding_capture(words[0], ROWS, &padded[0], 1);
    struct device_graph *second = padding_capture(words[0], ROWS, &padded[1], 1);
    for (uint32_t real = 0; real <= ROWS; real++) {
        area_refill(&area);
        CHECK_OK(graphs->word_set(device, words[0], real, stream));
        CHECK_OK(graphs->word_set(device, words[1], 3, stream));
        CHECK_OK(graphs->launch(device, first, stream));
        CHECK_OK(graphs->word_set(device, words[0], ROWS - real, stream));
        CHECK_OK(graphs->launch(device, second, stream));
        CHECK_OK(graphs->synchronize(device, stream));
        area_expect(&area, &padded[0], 1, ROWS, real);
        area_expect(&area, &padded[1], 1, ROWS, ROWS - real);
        area_check(&area, "in order", real);
    }
    graphs->destroy(device, first);
    graphs->destroy(device, second);
    area_free(&area);
    graphs->word_destroy(device, words[0]);
    uint32_t *again = word_make(); /* zero, although the former owner left a count */
    CHECK(again == words[0], "a word that was given back is not taken again");
    graphs->word_destroy(device, again);
    graphs->word_destroy(device, words[1]);
}

/* Runners come and go, and the device's memory does not shrink for it. */
static void words_cost_nothing(void)
{
    uint64_t before = graphs->used_bytes(device);
    uint32_t *words[100];
    for (int round = 0; round < 3; round++) {
        for (size_t index = 0; index < 100; index++) {
            CHECK_OK(graphs->word_create(device, &words[index]));
        }
        for (size_t index = 0; index < 100; index++) {
            graphs->word_destroy(device, words[index]);
        }
    }
    CHECK(before != 0 && graphs->used_bytes(device) == before, "%llu bytes became %llu", (unsigned long long)before,
          (unsigned long long)graphs->used_bytes(device));
}

/* -- what is refused -------------------------------------------------------------------------------------------------- */

static void refusals(void)
{
    struct area_on_device area;
    unsigned char on_host[64];
    uint32_t *word = word_make();
    area_make(&area, 4096);
    const struct {
        tutti_padded padded;
        const char *says;
    } bad[] = {{{area.memory, 64, 128}, "shall hold"}, {{on_host, 1, 0}, "padded[1].data"}};
    for (size_t index = 0; index < 2; index++) {
        if (index == 1 && getenv("SIMGPU_ANY_MEMORY") != NULL) {
            continue;
        }
        tutti_padded padded[2] = {{area.memory, 16, 16}, bad[index].padded};
        area_refill(&area);
        CHECK_OK(graphs->word_set(device, word, 1, stream));
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, graphs->padding_zero(device, word, 64, padded, 2, stream));
        CHECK(strstr(tutti_last_error(), bad[index].says) != NULL, "%s", tutti_last_error());
        area_check(&area, "refused", 1); /* not even the first one */
    }
    area_free(&area);
    graphs->word_destroy(device, word);
}

static void captures_that_fail(void)
{
    struct device_graph *graph = NULL;
    struct device_graph *none = NULL;
    uint64_t bytes = 0;
    struct area_on_device area;
    area_make(&area, 4096);
    tutti_padded padded = {area.memory, 64, 0};
    uint32_t *word = word_make();
    CHECK_STATUS(TUTTI_ERR_CAPTURE, graphs->capture_begin(device, NULL, &none));
    CHECK_OK(graphs->capture_begin(device, stream, &graph));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, graphs->capture_begin(device, stream, &none));
    CHECK_OK(graphs->padding_zero(device, word, 64, &padded, 1, stream));
    CHECK(graphs->synchronize(device, stream) != TUTTI_OK, "a wait for a stream that captures");
    CHECK_STATUS(TUTTI_ERR_CAPTURE, graphs->padding_zero(device, word, 64, &padded, 1, stream));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, graphs->capture_begin(device, stream, &none));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, graphs->capture_end(device, stream, &graph, &bytes));
    CHECK(graph == NULL && strlen(tutti_last_error()) > 0, "a graph of a capture that failed");
    CHECK(none == NULL, "a graph of a capture that did not begin");
    graph = padding_capture(word, 64, &padded, 1); /* the stream is an ordinary one again */
    area_refill(&area);
    CHECK_OK(graphs->word_set(device, word, 5, stream));
    CHECK_OK(graphs->launch(device, graph, stream));
    area_expect(&area, &padded, 1, 64, 5);
    area_check(&area, "after a failed capture", 5);
    graphs->destroy(device, graph);
    graph = padding_capture(word, 64, &padded, 0); /* nothing in it */
    CHECK_OK(graphs->launch(device, graph, stream));
    area_check(&area, "an empty graph", 5);
    graphs->destroy(device, graph);
    area_free(&area);
    graphs->word_destroy(device, word);
}

/* -- what it costs ------------------------------------------------------------------------------------------------------ */

static double now_us(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

/* So many launches of padding in one graph, and what each takes. */
static double padding_us(const uint32_t *word, size_t rows, const tutti_padded *padded, size_t count)
{
    enum { LAUNCHES = 100, REPLAYS = 20 };
    struct device_graph *graph = NULL;
    uint64_t bytes = 0;
    CHECK_OK(graphs->capture_begin(device, stream, &graph));
    for (int index = 0; index < LAUNCHES; index++) {
        CHECK_OK(graphs->padding_zero(device, word, rows, padded, count, stream));
    }
    CHECK_OK(graphs->capture_end(device, stream, &graph, &bytes));
    CHECK_OK(graphs->launch(device, graph, stream));
    CHECK_OK(graphs->synchronize(device, stream));
    double begin = now_us();
    for (int replay = 0; replay < REPLAYS; replay++) {
        CHECK_OK(graphs->launch(device, graph, stream));
    }
    CHECK_OK(graphs->synchronize(device, stream));
    double us = (now_us() - begin) / LAUNCHES / REPLAYS;
    graphs->destroy(device, graph);
    return us;
}

static void costs(void)
{
    const size_t bytes = (size_t)512 * 16384;
    unsigned char *memory = gpu_alloc(2 * bytes);
    uint32_t *word = word_make();
    static const size_t rows[] = {1, 8, 64, 512};
    for (size_t index = 0; index < sizeof(rows) / sizeof(rows[0]); index++) {
        tutti_padded padded[2] = {{memory, 16384, 0}, {memory + bytes, 8192, 16384}};
        CHECK_OK(graphs->word_set(device, word, (uint32_t)rows[index], stream));
        double none = padding_us(word, rows[index], padded, 2);
        CHECK_OK(graphs->word_set(device, word, (uint32_t)(rows[index] + 1) / 2, stream));
        double half = padding_us(word, rows[index], padded, 2);
        CHECK_OK(graphs->word_set(device, word, 0, stream));
        double all = padding_us(word, rows[index], padded, 2);
        printf("bucket of %zu rows, 16384 and 8192 bytes: %.2f us without padding, %.2f with half, %.2f with all of it "
               "padding\n",
               rows[index], none, half, all);
    }
    graphs->word_destroy(device, word);
    gpu_free(memory);
}

int main(void)
{
    char why[256];
    const char *named = getenv("TUTTI_TEST_GPU");
    const struct device_ops *ops = NULL;
    uint64_t seed = ranks_seed();
    backend = named != NULL ? named : "cuda";
    if (gpu_count(backend, why, sizeof(why)) == 0) {
        SKIP("no %s device: %s", backend, why);
    }
    gpu_use(backend, 0);
    stream = gpu_stream_create();
    CHECK_OK(device_choose(backend, &ops, why, sizeof(why)));
    CHECK_OK(ops->open(0, &device));
    graphs = ops->graphs;
    layouts(&seed);
    large_matrices(&seed);
    words_in_order();
    words_cost_nothing();
    refusals();
    captures_that_fail();
    if (effort() != EFFORT_QUICK) {
        costs();
    }
    ops->close(device);
    gpu_stream_destroy(stream);
    return 0;
}
