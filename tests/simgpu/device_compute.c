/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_compute.c - the command's "cuda" computer on a simulated device, which has none of its kernels: memory, pages, streams and graphs
 * are the driver's, and the steps of a pass run as host functions in them, on memory that the host reaches where it is.
 *
 * Linked with the command's sources in place of compute_gpu*.c. It takes the place of tutti_host_enqueue, too, by which the
 * host's computer puts its steps into streams: `--reference host` is not possible here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "compute_gpu.h"
#include "compute_host.h"
#include "tutti/host.h"

tutti_status tutti_host_enqueue(tutti_host_stream *stream, tutti_host_function function, void *argument)
{
    return gpu_host_function(stream, function, argument) ? TUTTI_OK : TUTTI_ERR_DRIVER;
}

static tutti_status note(struct compute *compute, bool done)
{
    if (!done) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "%s", gpu_error());
    }
    return done ? TUTTI_OK : TUTTI_ERR_DRIVER;
}

static void *memory_alloc(struct compute *compute, size_t bytes)
{
    void *memory = NULL;
    return note(compute, gpu_alloc(&memory, bytes)) == TUTTI_OK ? memory : NULL;
}

static void memory_release(struct compute *compute, void *memory)
{
    (void)compute;
    gpu_free(memory);
}

static struct gpu_pages pages_of(const struct compute *compute, const struct compute_pages *pages)
{
    return (struct gpu_pages){pages->address, pages->bytes, pages->handle, compute->device, pages->shareable};
}

static bool pages_map(struct compute *compute, struct compute_pages *pages, size_t bytes, bool shareable)
{
    struct gpu_pages made;
    if (note(compute, gpu_pages_map(&made, compute->device, bytes, shareable)) != TUTTI_OK) {
        return false;
    }
    *pages = (struct compute_pages){made.address, made.bytes, shareable, made.handle};
    return true;
}

static bool pages_replace(struct compute *compute, struct compute_pages *pages)
{
    struct gpu_pages held = pages_of(compute, pages);
    bool done = note(compute, gpu_pages_replace(&held)) == TUTTI_OK;
    pages->handle = held.handle;
    return done;
}

static void pages_unmap(struct compute *compute, struct compute_pages *pages)
{
    struct gpu_pages held = pages_of(compute, pages);
    gpu_pages_unmap(&held);
    pages->address = NULL;
}

static tutti_status stream_create(struct compute *compute, tutti_stream *stream)
{
    return note(compute, gpu_stream_create(stream));
}

static void stream_destroy(struct compute *compute, tutti_stream stream)
{
    if (stream != NULL) {
        (void)note(compute, gpu_stream_wait(stream));
        gpu_stream_destroy(stream);
    }
}

static tutti_status synchronize(struct compute *compute, tutti_stream stream)
{
    return note(compute, gpu_stream_wait(stream));
}

static tutti_status capture_begin(struct compute *compute, tutti_stream stream)
{
    return note(compute, gpu_capture_begin(stream, GPU_CAPTURE_GLOBAL));
}

static tutti_status capture_end(struct compute *compute, tutti_stream stream, void **graph)
{
    return note(compute, gpu_capture_end(stream, graph));
}

static tutti_status graph_launch(struct compute *compute, void *graph, tutti_stream stream)
{
    return note(compute, gpu_graph_launch(graph, stream));
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

static struct compute_ops device_ops; /* the host's, but for what is below */

static void ops_make(const struct compute_ops *host)
{
    device_ops = *host;
    device_ops.backend = "cuda";
    device_ops.alloc = memory_alloc;
    device_ops.release = memory_release;
    device_ops.pages_map = pages_map;
    device_ops.pages_replace = pages_replace;
    device_ops.pages_unmap = pages_unmap;
    device_ops.stream_create = stream_create;
    device_ops.stream_destroy = stream_destroy;
    device_ops.synchronize = synchronize;
    device_ops.capture_begin = capture_begin;
    device_ops.capture_end = capture_end;
    device_ops.graph_launch = graph_launch;
    device_ops.graph_destroy = graph_destroy;
    device_ops.meddle = meddle;
}

struct compute *compute_gpu_open(const char *backend, int device, char *why, size_t why_bytes)
{
    if (!gpu_use(backend, device)) {
        (void)snprintf(why, why_bytes, "%s", gpu_error());
        return NULL;
    }
    struct compute *compute = compute_host_open(why, why_bytes);
    if (compute != NULL) {
        ops_make(compute->ops);
        compute->ops = &device_ops;
        compute->device = device;
    }
    return compute;
}

bool compute_gpu_describe(struct compute_survey *survey)
{
    size_t all = 0;
    return gpu_device_count(&survey->devices) && gpu_device_name(0, survey->name, sizeof(survey->name)) &&
           gpu_memory(&survey->free_bytes, &all);
}
