/* SPDX-License-Identifier: Apache-2.0 */
/* host_graphs.c - what the runner drives: this backend's own public streams and graphs (tutti/host.h). */
#include "device/host/host_graphs.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "device/host/stream.h"

/* -- the word of real rows --------------------------------------------------------------------------------------- */

/* The engine reads it as a plain word, from work that its stream has ordered behind the write. What streams and graphs hold of it may
 * outlive the runner: whoever lets go last frees it. */
struct row_word {
    uint32_t value; /* first: what the runner sees */
    _Atomic unsigned holders;
};

static struct row_word *word_hold(const uint32_t *value)
{
    struct row_word *word = (struct row_word *)(uintptr_t)value;
    (void)atomic_fetch_add_explicit(&word->holders, 1, memory_order_relaxed);
    return word;
}

static void word_let_go(struct row_word *word)
{
    if (atomic_fetch_sub_explicit(&word->holders, 1, memory_order_acq_rel) == 1) {
        free(word);
    }
}

static tutti_status word_create(struct device *device, uint32_t **word)
{
    (void)device;
    struct row_word *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for a runner");
    }
    atomic_init(&made->holders, 1);
    *word = &made->value;
    return TUTTI_OK;
}

static void word_destroy(struct device *device, uint32_t *word)
{
    (void)device;
    word_let_go((struct row_word *)(void *)word);
}

/* What a stream or a graph holds: all of them begin with the word. */
struct held {
    struct row_word *word;
};

static void held_drop(void *payload)
{
    struct held *held = payload;
    word_let_go(held->word);
    free(held);
}

/* Runs at once on the NULL stream, which is the calling thread. The payload is the stream's on success, gone otherwise. */
static tutti_status submit(tutti_stream stream, const char *name, tutti_status (*run)(void *), void *payload)
{
    tutti_status status = TUTTI_OK;
    if (payload == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for a runner's work on a stream");
    }
    if (stream != NULL) {
        const struct work work = {.run = run, .drop = held_drop, .payload = payload, .name = name};
        status = stream_submit(stream, &work);
        if (status != TUTTI_OK) {
            held_drop(payload);
        }
        return status;
    }
    status = run(payload);
    held_drop(payload);
    return status;
}

struct word_write {
    struct held held;
    uint32_t value;
};

static tutti_status word_write(void *payload)
{
    const struct word_write *write = payload;
    write->held.word->value = write->value;
    return TUTTI_OK;
}

static tutti_status word_set(struct device *device, uint32_t *word, uint32_t value, tutti_stream stream)
{
    (void)device;
    struct word_write *write = malloc(sizeof(*write));
    if (write != NULL) {
        write->held.word = word_hold(word);
        write->value = value;
    }
    return submit(stream, "the row count of a run", word_write, write);
}

/* -- padding ------------------------------------------------------------------------------------------------------- */

struct padding {
    struct held held;
    size_t rows, count;
    tutti_padded matrices[];
};

static tutti_status padding_run(void *payload)
{
    const struct padding *padding = payload;
    for (size_t index = 0; index < padding->count; index++) {
        const tutti_padded *matrix = &padding->matrices[index];
        unsigned char *data = matrix->data;
        for (size_t row = padding->held.word->value; data != NULL && row < padding->rows; row++) {
            memset(data + row * matrix->stride_bytes, 0, matrix->row_bytes);
        }
    }
    return TUTTI_OK;
}

static tutti_status padding_zero(struct device *device, const uint32_t *word, size_t rows, const tutti_padded *padded,
                                 size_t count, tutti_stream stream)
{
    (void)device;
    struct padding *padding = malloc(sizeof(*padding) + count * sizeof(*padded));
    if (padding != NULL) {
        *padding = (struct padding){.held = {word_hold(word)}, .rows = rows, .count = count};
        memcpy(padding->matrices, padded, count * sizeof(*padded));
    }
    return submit(stream, "zeroing of padding", padding_run, padding);
}

/* -- graphs ---------------------------------------------------------------------------------------------------------- */

static tutti_host_graph *host_graph(struct device_graph *graph)
{
    return (tutti_host_graph *)(void *)graph;
}

static tutti_status capture_begin(struct device *device, tutti_stream stream, struct device_graph **graph)
{
    (void)device;
    *graph = NULL;
    return tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL);
}

static tutti_status capture_end(struct device *device, tutti_stream stream, struct device_graph **graph,
                                uint64_t *bytes)
{
    (void)device;
    tutti_host_graph *made = NULL;
    tutti_status status = tutti_host_capture_end(stream, &made);
    if (status != TUTTI_OK) {
        return status;
    }
    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info)};
    (void)tutti_host_graph_info(made, &info);
    *bytes = info.memory_bytes;
    *graph = (struct device_graph *)(void *)made;
    return TUTTI_OK;
}

static tutti_status launch(struct device *device, struct device_graph *graph, tutti_stream stream)
{
    (void)device;
    return tutti_host_graph_launch(host_graph(graph), stream);
}

static void destroy(struct device *device, struct device_graph *graph)
{
    (void)device;
    tutti_host_graph_destroy(host_graph(graph));
}

static tutti_status synchronize(struct device *device, tutti_stream stream)
{
    (void)device;
    return stream == NULL ? TUTTI_OK : tutti_host_stream_synchronize(stream);
}

const struct graph_ops host_graph_ops = {
    .word_create = word_create,
    .word_destroy = word_destroy,
    .word_set = word_set,
    .padding_zero = padding_zero,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .launch = launch,
    .destroy = destroy,
    .synchronize = synchronize,
};
