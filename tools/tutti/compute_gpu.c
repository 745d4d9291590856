/* SPDX-License-Identifier: Apache-2.0 */
#include "compute_gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_matrix.h"

/* How many heads are attended at a time, as blocks: a few on each multiprocessor. */
#define ATTEND_BLOCKS 528

#define ALL_ONES 0xffffffffu

tutti_status compute_gpu_note(struct compute *compute, bool done)
{
    if (!done) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "%s", gpu_error());
    }
    return done ? TUTTI_OK : TUTTI_ERR_DRIVER;
}

static bool noted(struct compute *compute, bool done)
{
    return compute_gpu_note(compute, done) == TUTTI_OK;
}

/* -- memory --------------------------------------------------------------------------------------- */

static void *gpu_memory_alloc(struct compute *compute, size_t bytes)
{
    void *memory = NULL;
    return noted(compute, gpu_alloc(&memory, bytes)) ? memory : NULL;
}

static void gpu_memory_release(struct compute *compute, void *memory)
{
    (void)compute;
    gpu_free(memory);
}

static bool gpu_put(struct compute *compute, void *memory, const void *from, size_t bytes)
{
    tutti_stream stream = compute_gpu_of(compute)->stream;
    return noted(compute, gpu_upload(memory, from, bytes, stream) && gpu_stream_wait(stream));
}

static bool gpu_get(struct compute *compute, void *to, const void *memory, size_t bytes)
{
    tutti_stream stream = compute_gpu_of(compute)->stream;
    return noted(compute, gpu_download(to, memory, bytes, stream) && gpu_stream_wait(stream));
}

static bool gpu_spoil(struct compute *compute, void *memory, size_t bytes)
{
    tutti_stream stream = compute_gpu_of(compute)->stream;
    return noted(compute, gpu_fill(memory, ALL_ONES, bytes / sizeof(uint32_t), stream) && gpu_stream_wait(stream));
}

static struct gpu_pages pages_of(const struct compute *compute, const struct compute_pages *pages)
{
    return (struct gpu_pages){pages->address, pages->bytes, pages->handle, compute->device, pages->shareable};
}

static bool pages_map(struct compute *compute, struct compute_pages *pages, size_t bytes, bool shareable)
{
    struct gpu_pages made;
    if (!noted(compute, gpu_pages_map(&made, compute->device, bytes, shareable))) {
        return false;
    }
    *pages = (struct compute_pages){made.address, made.bytes, shareable, made.handle};
    return true;
}

static bool pages_replace(struct compute *compute, struct compute_pages *pages)
{
    struct gpu_pages held = pages_of(compute, pages);
    bool done = noted(compute, gpu_pages_replace(&held));
    pages->handle = held.handle;
    return done;
}

static void pages_unmap(struct compute *compute, struct compute_pages *pages)
{
    struct gpu_pages held = pages_of(compute, pages);
    gpu_pages_unmap(&held);
    pages->address = NULL;
}

static bool gpu_matrix_create(struct compute *compute, struct matrix *matrix, size_t inputs, size_t outputs)
{
    tutti_stream stream = compute_gpu_of(compute)->stream;
    void *data = NULL;
    if (!noted(compute, gpu_alloc(&data, inputs * outputs * sizeof(float)))) {
        return false;
    }
    *matrix = (struct matrix){data, inputs, outputs};
    return noted(compute, gpu_fill(data, 0, inputs * outputs, stream) && gpu_stream_wait(stream));
}

static void gpu_matrix_destroy(struct compute *compute, struct matrix *matrix)
{
    (void)compute;
    gpu_free(matrix->data);
    matrix->data = NULL;
}

static bool gpu_matrix_fill(struct compute *compute, struct matrix *matrix, size_t first,
                            const struct weights_source *source)
{
    tutti_stream stream = compute_gpu_of(compute)->stream;
    struct kernel_fill arguments = {matrix->data, matrix->outputs, first, *source, weights_unit(source)};
    const struct gpu_launch how = {.blocks = {4096}, .threads = KERNEL_THREADS};
    if (source->cut.rows * source->cut.columns == 0) {
        return true;
    }
    return compute_gpu_launch(compute, KERNEL_FILL, &how, stream, &arguments) == TUTTI_OK &&
           noted(compute, gpu_stream_wait(stream));
}

/* -- streams and graphs --------------------------------------------------------------------------- */

static tutti_status stream_create(struct compute *compute, tutti_stream *stream)
{
    return compute_gpu_note(compute, gpu_stream_create(stream));
}

static void stream_destroy(struct compute *compute, tutti_stream stream)
{
    if (stream != NULL) {
        (void)noted(compute, gpu_stream_wait(stream));
        gpu_stream_destroy(stream);
    }
}

static tutti_status synchronize(struct compute *compute, tutti_stream stream)
{
    return compute_gpu_note(compute, gpu_stream_wait(stream));
}

static tutti_status call(struct compute *compute, tutti_stream stream, void (*function)(void *argument), void *argument)
{
    return compute_gpu_note(compute, gpu_host_function(stream, function, argument));
}

static tutti_status capture_begin(struct compute *compute, tutti_stream stream)
{
    return compute_gpu_note(compute, gpu_capture_begin(stream, GPU_CAPTURE_GLOBAL));
}

static tutti_status capture_end(struct compute *compute, tutti_stream stream, void **graph)
{
    return compute_gpu_note(compute, gpu_capture_end(stream, graph));
}

static tutti_status graph_launch(struct compute *compute, void *graph, tutti_stream stream)
{
    return compute_gpu_note(compute, gpu_graph_launch(graph, stream));
}

static void graph_destroy(struct compute *compute, void *graph)
{
    (void)compute;
    gpu_graph_destroy(graph);
}

static void meddle(struct compute *compute)
{
    tutti_stream stream = NULL;
    gpu_event event = NULL;
    bool done = false;
    (void)(gpu_use(compute->ops->backend, compute->device) && gpu_stream_create(&stream) &&
           gpu_event_create(&event, false) && gpu_event_record(event, stream) && gpu_event_query(event, &done));
    gpu_event_destroy(event);
    gpu_stream_destroy(stream);
}

/* -- the storm's collectives ----------------------------------------------------------------------- */

static tutti_status replay_fill(struct compute *compute, struct replay_call *call, tutti_stream stream)
{
    const struct gpu_launch how = {.threads = KERNEL_REPLAY_THREADS};
    return compute_gpu_launch(compute, KERNEL_REPLAY_FILL, &how, stream, &call);
}

static tutti_status replay_check(struct compute *compute, struct replay_call *call, tutti_stream stream)
{
    const struct gpu_launch how = {.threads = KERNEL_REPLAY_THREADS};
    return compute_gpu_launch(compute, KERNEL_REPLAY_CHECK, &how, stream, &call);
}

/* -- opening ---------------------------------------------------------------------------------------- */

static void gpu_close(struct compute *compute)
{
    struct compute_gpu *gpu = compute_gpu_of(compute);
    cublas_close(gpu->cublas);
    gpu_free(gpu->workspace);
    gpu_module_unload(gpu->module);
    gpu_stream_destroy(gpu->stream);
    free(gpu);
}

static const struct compute_ops cuda_ops = {
    .backend = "cuda",
    .close = gpu_close,
    .alloc = gpu_memory_alloc,
    .release = gpu_memory_release,
    .put = gpu_put,
    .get = gpu_get,
    .spoil = gpu_spoil,
    .pages_map = pages_map,
    .pages_replace = pages_replace,
    .pages_unmap = pages_unmap,
    .matrix_create = gpu_matrix_create,
    .matrix_destroy = gpu_matrix_destroy,
    .matrix_fill = gpu_matrix_fill,
    .stack_create = compute_gpu_stack_create,
    .stack_destroy = compute_gpu_stack_destroy,
    .stack_fill = compute_gpu_stack_fill,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .synchronize = synchronize,
    .call = call,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_destroy = graph_destroy,
    .meddle = meddle,
    .attach = compute_gpu_attach,
    .detach = compute_gpu_detach,
    .stage = compute_gpu_stage,
    .collect = compute_gpu_collect,
    .warm = compute_gpu_warm,
    .enqueue = compute_gpu_enqueue,
    .replay_fill = replay_fill,
    .replay_check = replay_check,
};

static bool kernels_find(struct compute_gpu *gpu)
{
    static const struct {
        const char *name;
        unsigned threads;
    } list[KERNEL_COUNT] = {
        [KERNEL_FILL] = {"tutti_fill", KERNEL_THREADS},
        [KERNEL_EMBED] = {"tutti_embed", KERNEL_THREADS},
        [KERNEL_NORM] = {"tutti_norm", KERNEL_THREADS},
        [KERNEL_CACHE] = {"tutti_cache", KERNEL_THREADS},
        [KERNEL_ATTEND] = {"tutti_attend", KERNEL_THREADS},
        [KERNEL_SWIGLU] = {"tutti_swiglu", KERNEL_THREADS},
        [KERNEL_FILL_STACK] = {"tutti_fill_stack", KERNEL_THREADS},
        [KERNEL_ROUTE] = {"tutti_route", KERNEL_THREADS},
        [KERNEL_GROUP] = {"tutti_group", KERNEL_THREADS},
        [KERNEL_EXPERTS_UP] = {"tutti_experts_up", KERNEL_THREADS},
        [KERNEL_EXPERTS_DOWN] = {"tutti_experts_down", KERNEL_THREADS},
        [KERNEL_EXPERTS_SUM] = {"tutti_experts_sum", KERNEL_THREADS},
        [KERNEL_TO_WIRE] = {"tutti_to_wire", KERNEL_THREADS},
        [KERNEL_ADD] = {"tutti_add", KERNEL_THREADS},
        [KERNEL_PICK] = {"tutti_pick", KERNEL_THREADS},
        [KERNEL_REPLAY_FILL] = {"tutti_replay_fill", KERNEL_REPLAY_THREADS},
        [KERNEL_REPLAY_CHECK] = {"tutti_replay_check", KERNEL_REPLAY_THREADS},
    };
    for (size_t i = 0; i < KERNEL_COUNT; i++) {
        if (!gpu_kernel_find(&gpu->kernels[i], gpu->module, list[i].name, list[i].threads)) {
            return false;
        }
    }
    return true;
}

struct compute *compute_gpu_open(const char *backend, int device, char *why, size_t why_bytes)
{
    if (!gpu_use(backend, device)) {
        (void)snprintf(why, why_bytes, "%s", gpu_error());
        return NULL;
    }
    if (compute_kernels_image_bytes == 0) {
        (void)snprintf(why, why_bytes, "this tutti was built without its NVIDIA kernels: build it where nvcc is");
        return NULL;
    }
    struct compute_gpu *gpu = calloc(1, sizeof(*gpu));
    if (gpu == NULL) {
        (void)snprintf(why, why_bytes, "out of memory");
        return NULL;
    }
    gpu->base.ops = &cuda_ops;
    gpu->base.device = device;
    gpu->base.score_vectors = ATTEND_BLOCKS;
    if (!gpu_stream_create(&gpu->stream) || !gpu_module_load(&gpu->module, compute_kernels_image) ||
        !kernels_find(gpu) || !gpu_alloc(&gpu->workspace, CUBLAS_WORKSPACE_BYTES)) {
        (void)snprintf(why, why_bytes, "%s", gpu_error());
        goto undo;
    }
    gpu->cublas = cublas_open(gpu->workspace, why, why_bytes);
    if (gpu->cublas == NULL) {
        goto undo;
    }
    return &gpu->base;
undo:
    gpu_close(&gpu->base);
    return NULL;
}

bool compute_gpu_describe(struct compute_survey *survey)
{
    size_t all = 0;
    if (gpu_device_count(&survey->devices) && gpu_device_name(0, survey->name, sizeof(survey->name)) &&
        gpu_memory(&survey->free_bytes, &all)) {
        return true;
    }
    (void)snprintf(survey->why, sizeof(survey->why), "%s", gpu_error());
    return false;
}
