/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_graphs.c - what the runner drives: the driver's streams, captures and graphs, on both vendors' devices and whoever does the
 * collectives there.
 */
#include "device/gpu/gpu_graphs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "device/gpu/arena.h"
#include "device/gpu/context.h"
#include "device/gpu/holds.h"
#include "device/gpu/memory_class.h"
#include "device/gpu/recording.h"
#include "kernels/arguments.h"

/* -- the words of real rows ----------------------------------------------------------------------------------------- */

#define WORDS_MAX 1024
#define WORD_BYTES 64 /* a cache line each: runners of several streams do not disturb each other */
#define PADDING_THREADS 256

/* One allocation serves all runners of a device, and stays until it is closed: a driver that frees waits for the device, and that may
 * be waiting for peers which wait for this thread. */
struct row_words {
    struct arena arena;
    driver_function padding;
    uint64_t taken[WORDS_MAX / 64];
};

static pthread_mutex_t words_lock = PTHREAD_MUTEX_INITIALIZER;

/* In the device's context; under the lock. */
static tutti_status words_open(struct device *device, struct row_words **out)
{
    if (device->row_words != NULL) {
        *out = device->row_words;
        return TUTTI_OK;
    }
    struct row_words *words = calloc(1, sizeof(*words));
    int resident = 0;
    if (words == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the row counts of runners on device %d", device->ordinal);
    }
    tutti_status status = module_find(device->driver, &device->modules, "padding", "tutti_padding", PADDING_THREADS,
                                      &words->padding, &resident);
    if (status == TUTTI_OK) {
        status = arena_create(device, WORDS_MAX * WORD_BYTES, ARENA_DATA, &words->arena);
    }
    if (status != TUTTI_OK) {
        free(words);
        return status;
    }
    *out = device->row_words = words;
    return TUTTI_OK;
}

void row_words_free(struct device *device)
{
    if (device->row_words != NULL) {
        arena_release(device, &device->row_words->arena);
        free(device->row_words);
        device->row_words = NULL;
    }
}

/* Under the lock. Negative: all are taken. */
static int words_take(struct row_words *words)
{
    for (int index = 0; index < WORDS_MAX; index++) {
        uint64_t bit = (uint64_t)1 << index % 64;
        if ((words->taken[index / 64] & bit) == 0) {
            words->taken[index / 64] |= bit;
            return index;
        }
    }
    return -1;
}

/* In the device's context. *index: of a word, which is the caller's from here on. */
static tutti_status word_take(struct device *device, int *index)
{
    (void)pthread_mutex_lock(&words_lock);
    struct row_words *words = NULL;
    tutti_status status = words_open(device, &words);
    int taken = words != NULL ? words_take(words) : -1;
    (void)pthread_mutex_unlock(&words_lock);
    if (status == TUTTI_OK && taken < 0) {
        status = error_set(TUTTI_ERR_SYSTEM, "device %d has %d runners in this process already: destroy one first",
                           device->ordinal, WORDS_MAX);
    }
    *index = taken;
    return status;
}

static void word_give_back(struct device *device, void *word)
{
    (void)pthread_mutex_lock(&words_lock);
    size_t index = (size_t)((uint64_t)(uintptr_t)word - device->row_words->arena.address) / WORD_BYTES;
    device->row_words->taken[index / 64] &= ~((uint64_t)1 << index % 64);
    (void)pthread_mutex_unlock(&words_lock);
}

static void word_destroy(struct device *device, uint32_t *word)
{
    word_give_back(device, word);
}

static tutti_status word_create(struct device *device, uint32_t **word)
{
    struct context_scope scope;
    int index = -1;
    if (device->kernels != TUTTI_OK) {
        return error_set(TUTTI_ERR_UNSUPPORTED, "a runner zeroes padding by a kernel of this library's: %.200s",
                         device->kernels_sentence);
    }
    tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = word_take(device, &index);
    if (status == TUTTI_OK) {
        const struct arena *arena = &device->row_words->arena;
        size_t offset = (size_t)index * WORD_BYTES;
        uint32_t *taken = (uint32_t *)(uintptr_t)(arena->address + offset);
        status = arena_fill(device, arena, offset, sizeof(*taken), 0);
        if (status == TUTTI_OK) {
            *word = taken;
        } else {
            word_give_back(device, taken);
        }
    }
    context_leave(&scope);
    return status;
}

static tutti_status word_set(struct device *device, uint32_t *word, uint32_t value, tutti_stream stream)
{
    struct context_scope scope;
    tutti_status status = context_enter(device, CONTEXT_ENQUEUES, &scope);
    if (status == TUTTI_OK) {
        status = DRIVER(device->driver, fill_words, (driver_address)(uintptr_t)word, value, 1, stream);
        context_leave(&scope);
    }
    return status;
}

/* -- padding -------------------------------------------------------------------------------------------------------- */

/* A kernel that meets an address which is nobody's ends the whole context: so each matrix is looked at first. */
static tutti_status padding_check(const struct device *device, size_t rows, const tutti_padded *padded, size_t index,
                                  tutti_stream stream)
{
    char argument[40];
    (void)snprintf(argument, sizeof(argument), "padded[%zu].data", index);
    size_t stride = padded->stride_bytes != 0 ? padded->stride_bytes : padded->row_bytes;
    return memory_check(device, "a runner's segment", argument, padded->data, (rows - 1) * stride + padded->row_bytes,
                        stream);
}

/* As many blocks as the largest matrix keeps busy if all of it is padding, but no more than the device has room for at once. */
static unsigned padding_blocks(const struct device *device, const struct padding_arguments *arguments)
{
    uint64_t most = 1;
    for (uint32_t index = 0; index < arguments->count; index++) {
        uint64_t stores = arguments->rows * arguments->matrices[index].row_bytes / 16;
        uint64_t blocks = (stores + PADDING_THREADS - 1) / PADDING_THREADS;
        most = blocks > most ? blocks : most;
    }
    uint64_t room = device->multiprocessors > 0 ? (uint64_t)device->multiprocessors : 1;
    return (unsigned)(most < room ? most : room);
}

static tutti_status padding_launch(const struct device *device, struct padding_arguments *arguments,
                                   tutti_stream stream)
{
    void *parameters[] = {arguments};
    unsigned blocks = padding_blocks(device, arguments);
    return DRIVER(device->driver, launch, device->row_words->padding, blocks, 1, 1, PADDING_THREADS, 1, 1, 0, stream,
                  parameters, NULL);
}

static tutti_status padding_enqueue(const struct device *device, const uint32_t *word, size_t rows,
                                    const tutti_padded *padded, size_t count, tutti_stream stream)
{
    struct padding_arguments arguments;
    tutti_status status = TUTTI_OK;
    memset(&arguments, 0, sizeof(arguments));
    arguments.word = (uint64_t)(uintptr_t)word;
    arguments.rows = rows;
    for (size_t index = 0; index < count && status == TUTTI_OK; index++) {
        const tutti_padded *each = &padded[index];
        if (each->row_bytes != 0) {
            uint64_t stride = each->stride_bytes != 0 ? each->stride_bytes : each->row_bytes;
            arguments.matrices[arguments.count++] =
                (struct padding_matrix){(uint64_t)(uintptr_t)each->data, each->row_bytes, stride};
        }
        if (arguments.count == PADDING_MATRICES_MAX || (index + 1 == count && arguments.count != 0)) {
            status = padding_launch(device, &arguments, stream);
            arguments.count = 0;
        }
    }
    return status;
}

static tutti_status padding_zero(struct device *device, const uint32_t *word, size_t rows, const tutti_padded *padded,
                                 size_t count, tutti_stream stream)
{
    struct context_scope scope;
    if (rows == 0 || count == 0) {
        return TUTTI_OK;
    }
    tutti_status status = context_enter(device, CONTEXT_ENQUEUES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    for (size_t index = 0; index < count && status == TUTTI_OK; index++) {
        if (padded[index].row_bytes != 0) {
            status = padding_check(device, rows, &padded[index], index, stream);
        }
    }
    if (status == TUTTI_OK) {
        status = padding_enqueue(device, word, rows, padded, count, stream);
    }
    context_leave(&scope);
    return status;
}

/* -- captures ------------------------------------------------------------------------------------------------------- */

struct device_graph {
    driver_executable executable;
    driver_graph graph; /* NULL: the executable stands alone */
    struct holds holds; /* nobody else has this graph */
};

/* In the device's context. What cannot be destroyed may still be at work, and keeps what it holds. */
static void graph_free(const struct driver *driver, struct device_graph *graph)
{
    bool gone = graph->executable == NULL || driver->executable_destroy(graph->executable) == 0;
    if (graph->graph != NULL && driver->graph_destroy(graph->graph) != 0) {
        gone = false;
    }
    if (gone) {
        holds_let_go(&graph->holds);
    }
    holds_free(&graph->holds);
    free(graph);
}

/* After its end has failed: once more, unless that was the end. Whether there is no graph of it, nor ever will be: there may be one if
 * the driver does not let the stream out of it, or if the capture had been ended by somebody else, who has the graph. */
static bool capture_drop(const struct driver *driver, tutti_stream stream, driver_result result)
{
    struct stream_state state;
    driver_graph made = NULL;
    tutti_status looked = recording_look(driver, stream, &state);
    if (state.recording || state.invalidated) {
        result = driver->capture_end(stream, &made);
        if (result == 0 && made != NULL) {
            result = driver->graph_destroy(made);
        }
        looked = recording_look(driver, stream, &state);
    }
    bool ended = result == 0 || (result >= DRIVER_CAPTURE_FIRST && result <= DRIVER_CAPTURE_LAST);
    return ended && looked == TUTTI_OK && !state.recording;
}

/* *graph: the caller's. Whatever comes of it, the stream is through with the capture, if the driver lets it. *lost: capture_drop. */
static tutti_status capture_leave(const struct driver *driver, tutti_stream stream, driver_graph *graph, bool *lost)
{
    driver_graph made = NULL;
    driver_result result = driver->capture_end(stream, &made);
    if (result == 0 && made != NULL) {
        *graph = made;
        return TUTTI_OK;
    }
    *lost = capture_drop(driver, stream, result);
    if (result == 0) {
        return error_set(TUTTI_ERR_CAPTURE, "the capture of stream %p ended without a graph", (void *)stream);
    }
    return driver_check(driver, offsetof(struct driver, capture_end), result);
}

/* The stream captures from here on, and its calls find the graph that is going to hold them. */
static tutti_status capture_enter(const struct driver *driver, tutti_stream stream, struct holds *holds)
{
    char why[ERROR_SENTENCE_BYTES];
    struct stream_state state;
    tutti_status status = DRIVER(driver, capture_begin, stream, DRIVER_MODE_THREAD_LOCAL);
    if (status != TUTTI_OK) {
        return status;
    }
    status = recording_look(driver, stream, &state);
    if (status == TUTTI_OK) {
        holds_open(holds, driver, state.id);
        return TUTTI_OK;
    }
    (void)snprintf(why, sizeof(why), "%s", tutti_last_error());
    (void)capture_drop(driver, stream, 0);
    return error_set(status, "%s", why);
}

static tutti_status capture_begin(struct device *device, tutti_stream stream, struct device_graph **graph)
{
    struct context_scope scope;
    struct stream_state state;
    struct device_graph *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for a graph");
    }
    tutti_status status = holds_prepare(&made->holds);
    if (status == TUTTI_OK) {
        status = context_enter(device, CONTEXT_ENQUEUES, &scope);
    }
    if (status == TUTTI_OK) {
        status = recording_look(device->driver, stream, &state);
        if (status == TUTTI_OK && state.recording) {
            status = error_set(TUTTI_ERR_CAPTURE, "stream %p is being captured already", (void *)stream);
        }
        if (status == TUTTI_OK) {
            status = capture_enter(device->driver, stream, &made->holds);
        }
        context_leave(&scope);
    }
    if (status != TUTTI_OK) {
        holds_free(&made->holds);
        free(made);
        return status;
    }
    *graph = made;
    return TUTTI_OK;
}

/* In the device's context. What the device needs for the graph it gets here, not in front of the first launch: that one would wait for it,
 * or fail. */
static tutti_status executable_make(const struct driver *driver, tutti_stream stream, struct device_graph *graph)
{
    tutti_status status = DRIVER(driver, graph_instantiate, &graph->executable, graph->graph, DRIVER_FREE_ON_LAUNCH);
    if (status != TUTTI_OK) {
        graph->executable = NULL;
        return status;
    }
    if (driver->graph_upload != NULL) {
        status = DRIVER(driver, graph_upload, graph->executable, stream);
    }
    if (status == TUTTI_OK && driver->vendor->executables_stand_alone) { /* others' user objects are passed on */
        (void)driver->graph_destroy(graph->graph);
        graph->graph = NULL;
    }
    return status;
}

static tutti_status capture_end(struct device *device, tutti_stream stream, struct device_graph **graph,
                                uint64_t *bytes)
{
    struct context_scope scope;
    struct device_graph *made = *graph;
    bool lost = true;
    *graph = NULL;
    holds_close(&made->holds);
    tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        holds_free(&made->holds); /* the capture is still open */
        free(made);
        return status;
    }
    status = capture_leave(device->driver, stream, &made->graph, &lost);
    if (status == TUTTI_OK) {
        status = executable_make(device->driver, stream, made);
    }
    if (status == TUTTI_OK) {
        *graph = made;
        *bytes = 0; /* the driver does not tell */
    } else {
        if (!lost) {
            holds_free(&made->holds);
        }
        graph_free(device->driver, made);
    }
    context_leave(&scope);
    return status;
}

static tutti_status launch(struct device *device, struct device_graph *graph, tutti_stream stream)
{
    struct context_scope scope;
    tutti_status status = context_enter(device, CONTEXT_ENQUEUES, &scope);
    if (status == TUTTI_OK) {
        status = DRIVER(device->driver, graph_launch, graph->executable, stream);
        context_leave(&scope);
    }
    return status;
}

static void destroy(struct device *device, struct device_graph *graph)
{
    struct context_scope scope;
    if (context_enter(device, CONTEXT_MANAGES, &scope) == TUTTI_OK) {
        graph_free(device->driver, graph);
        context_leave(&scope);
    }
}

/* -- the device ------------------------------------------------------------------------------------------------------- */

static tutti_status synchronize(struct device *device, tutti_stream stream)
{
    struct context_scope scope;
    tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status == TUTTI_OK) {
        status = DRIVER(device->driver, stream_synchronize, stream);
        context_leave(&scope);
    }
    return status;
}

static tutti_status query(struct device *device, tutti_stream stream, bool *done)
{
    struct context_scope scope;
    tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status == TUTTI_OK) {
        driver_result result = device->driver->stream_query(stream);
        *done = result != DRIVER_NOT_READY;
        status = *done ? driver_check(device->driver, offsetof(struct driver, stream_query), result) : TUTTI_OK;
        context_leave(&scope);
    }
    return status;
}

static uint64_t used_bytes(struct device *device)
{
    struct context_scope scope;
    size_t free_bytes = 0;
    size_t all_bytes = 0;
    if (context_enter(device, CONTEXT_MANAGES, &scope) != TUTTI_OK) {
        return 0;
    }
    driver_result result = device->driver->memory_info(&free_bytes, &all_bytes);
    context_leave(&scope);
    return result == 0 ? all_bytes - free_bytes : 0;
}

const struct graph_ops gpu_graph_ops = {
    .word_create = word_create,
    .word_destroy = word_destroy,
    .word_set = word_set,
    .padding_zero = padding_zero,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .launch = launch,
    .destroy = destroy,
    .synchronize = synchronize,
    .query = query,
    .used_bytes = used_bytes,
};
