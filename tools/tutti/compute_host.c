/* SPDX-License-Identifier: Apache-2.0 */
#include "compute_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "model_forward.h"
#include "model_weights.h"
#include "storm_replay_call.h"
#include "tutti/host.h"

static void host_close(struct compute *compute)
{
    free(compute);
}

/* -- memory --------------------------------------------------------------------------------------- */

static void *host_alloc(struct compute *compute, size_t bytes)
{
    void *memory = matrix_floats((bytes + sizeof(float) - 1) / sizeof(float));
    if (memory == NULL) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "out of memory (%zu bytes)", bytes);
    }
    return memory;
}

static void host_release(struct compute *compute, void *memory)
{
    (void)compute;
    free(memory);
}

static bool host_put(struct compute *compute, void *memory, const void *from, size_t bytes)
{
    (void)compute;
    memcpy(memory, from, bytes);
    return true;
}

static bool host_get(struct compute *compute, void *to, const void *memory, size_t bytes)
{
    (void)compute;
    memcpy(to, memory, bytes);
    return true;
}

static bool host_spoil(struct compute *compute, void *memory, size_t bytes)
{
    (void)compute;
    memset(memory, 0xff, bytes);
    return true;
}

static bool pages_put(struct compute *compute, void *address, size_t bytes, int flags, void **got)
{
    void *memory = mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (memory == MAP_FAILED) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "out of memory (%zu bytes)", bytes);
        return false;
    }
    *got = memory;
    return true;
}

static bool host_pages_map(struct compute *compute, struct compute_pages *pages, size_t bytes, bool shareable)
{
    void *address = NULL;
    if (!pages_put(compute, NULL, bytes, 0, &address)) {
        return false;
    }
    *pages = (struct compute_pages){address, bytes, shareable, 0};
    return true;
}

/* One call takes the old ones away and puts the new ones there. */
static bool host_pages_replace(struct compute *compute, struct compute_pages *pages)
{
    void *address = NULL;
    return pages_put(compute, pages->address, pages->bytes, MAP_FIXED, &address);
}

static void host_pages_unmap(struct compute *compute, struct compute_pages *pages)
{
    (void)compute;
    if (pages->address != NULL) {
        (void)munmap(pages->address, pages->bytes);
        pages->address = NULL;
    }
}

static bool host_matrix_create(struct compute *compute, struct matrix *matrix, size_t inputs, size_t outputs)
{
    (void)compute;
    return matrix_create(matrix, inputs, outputs);
}

static void host_matrix_destroy(struct compute *compute, struct matrix *matrix)
{
    (void)compute;
    matrix_destroy(matrix);
}

static bool host_matrix_fill(struct compute *compute, struct matrix *matrix, size_t first,
                             const struct weights_source *source)
{
    (void)compute;
    return weights_fill(matrix, first, source);
}

static bool host_stack_create(struct compute *compute, struct matrix_stack *stack, size_t count, size_t inputs,
                              size_t outputs)
{
    (void)compute;
    return matrix_stack_create(stack, count, inputs, outputs);
}

static void host_stack_destroy(struct compute *compute, struct matrix_stack *stack)
{
    (void)compute;
    matrix_stack_destroy(stack);
}

static bool host_stack_fill(struct compute *compute, const struct matrix_stack *stack, size_t first,
                            const struct weights_stack *weights)
{
    (void)compute;
    return weights_fill_stack(stack, first, weights);
}

/* -- streams and graphs --------------------------------------------------------------------------- */

static tutti_status host_stream_create(struct compute *compute, tutti_stream *stream)
{
    tutti_host_stream *made = NULL;
    tutti_status status = compute_note(compute, tutti_host_stream_create(&made));
    if (status == TUTTI_OK) {
        *stream = made;
    }
    return status;
}

static void host_stream_destroy(struct compute *compute, tutti_stream stream)
{
    (void)compute;
    tutti_host_stream_destroy(stream);
}

static tutti_status host_synchronize(struct compute *compute, tutti_stream stream)
{
    return compute_note(compute, tutti_host_stream_synchronize(stream));
}

static tutti_status host_call(struct compute *compute, tutti_stream stream, void (*function)(void *argument),
                              void *argument)
{
    return compute_note(compute, tutti_host_enqueue(stream, function, argument));
}

static tutti_status host_capture_begin(struct compute *compute, tutti_stream stream)
{
    return compute_note(compute, tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_GLOBAL));
}

static tutti_status host_capture_end(struct compute *compute, tutti_stream stream, void **graph)
{
    tutti_host_graph *made = NULL;
    tutti_status status = compute_note(compute, tutti_host_capture_end(stream, &made));
    if (status == TUTTI_OK) {
        *graph = made;
    }
    return status;
}

static tutti_status host_graph_launch(struct compute *compute, void *graph, tutti_stream stream)
{
    return compute_note(compute, tutti_host_graph_launch(graph, stream));
}

static void host_graph_destroy(struct compute *compute, void *graph)
{
    (void)compute;
    tutti_host_graph_destroy(graph);
}

static void host_meddle(struct compute *compute)
{
    (void)compute;
    int done = 0;
    tutti_host_stream *other = NULL;
    if (tutti_host_stream_create(&other) == TUTTI_OK) {
        (void)tutti_host_stream_query(other, &done);
        tutti_host_stream_destroy(other);
    }
}

/* -- the forward pass ------------------------------------------------------------------------------ */

static bool host_attach(struct compute *compute, struct forward *forward)
{
    (void)compute;
    forward->outputs.picks = calloc((size_t)forward->picks_max, sizeof(*forward->outputs.picks));
    forward->outputs.logits = forward->logits;
    return forward->outputs.picks != NULL;
}

static void host_detach(struct compute *compute, struct forward *forward)
{
    (void)compute;
    free(forward->outputs.picks);
    forward->outputs.picks = NULL;
}

/* The steps read forward->inputs where they are. */
static void host_stage(struct compute *compute, struct forward *forward)
{
    (void)compute;
    (void)forward;
}

/* Nor is anything elsewhere. */
static void host_collect(struct compute *compute, struct forward *forward)
{
    (void)compute;
    (void)forward;
}

static bool host_warm(struct compute *compute, struct forward *forward, int rows, int picks, tutti_stream stream)
{
    (void)compute;
    (void)forward;
    (void)rows;
    (void)picks;
    (void)stream;
    return true;
}

/* -- the storm's collectives ----------------------------------------------------------------------- */

static void replay_fill_body(void *argument)
{
    struct replay_call *live = argument;
    live->calls++;
    struct replay_call call = *live; /* whose fields need no reading again for each element */
    float *into = replay_input_buffer(&call);
    for (size_t i = 0; i < replay_input_count(&call); i++) {
        into[i] = replay_input(&call, call.rank, i);
    }
}

static void replay_check_body(void *argument)
{
    struct replay_call *live = argument;
    struct replay_call call = *live;
    for (size_t i = 0; i < replay_output_count(&call); i++) {
        call.wrong += !replay_is_right(&call, i);
    }
    live->wrong = call.wrong;
}

static tutti_status host_replay_fill(struct compute *compute, struct replay_call *call, tutti_stream stream)
{
    return compute_note(compute, tutti_host_enqueue(stream, replay_fill_body, call));
}

static tutti_status host_replay_check(struct compute *compute, struct replay_call *call, tutti_stream stream)
{
    return compute_note(compute, tutti_host_enqueue(stream, replay_check_body, call));
}

static const struct compute_ops host_ops = {
    .backend = "host",
    .close = host_close,
    .alloc = host_alloc,
    .release = host_release,
    .put = host_put,
    .get = host_get,
    .spoil = host_spoil,
    .pages_map = host_pages_map,
    .pages_replace = host_pages_replace,
    .pages_unmap = host_pages_unmap,
    .matrix_create = host_matrix_create,
    .matrix_destroy = host_matrix_destroy,
    .matrix_fill = host_matrix_fill,
    .stack_create = host_stack_create,
    .stack_destroy = host_stack_destroy,
    .stack_fill = host_stack_fill,
    .stream_create = host_stream_create,
    .stream_destroy = host_stream_destroy,
    .synchronize = host_synchronize,
    .call = host_call,
    .capture_begin = host_capture_begin,
    .capture_end = host_capture_end,
    .graph_launch = host_graph_launch,
    .graph_destroy = host_graph_destroy,
    .meddle = host_meddle,
    .attach = host_attach,
    .detach = host_detach,
    .stage = host_stage,
    .collect = host_collect,
    .warm = host_warm,
    .enqueue = compute_host_enqueue,
    .replay_fill = host_replay_fill,
    .replay_check = host_replay_check,
};

struct compute *compute_host_open(char *why, size_t why_bytes)
{
    struct compute *compute = calloc(1, sizeof(*compute));
    if (compute == NULL) {
        (void)snprintf(why, why_bytes, "out of memory");
        return NULL;
    }
    compute->ops = &host_ops;
    compute->score_vectors = 1;
    return compute;
}
