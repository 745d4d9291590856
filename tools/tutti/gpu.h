/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.h - the tools' small door to a GPU: memory, streams, graphs, events, kernels.
 *
 * The vendor's driver is loaded with dlopen at the first gpu_use, the one that the library is told to use
 * (TUTTI_CUDA_LIBRARY, TUTTI_HIP_LIBRARY); one vendor per process, and nothing is linked. A driver that was initialised does not
 * survive a fork: a program that forks ranks asks gpu_probe, and leaves all the rest to the ranks.
 *
 * Functions that can fail return false and leave one sentence in gpu_error(). Nothing here ends the process. Every call acts on the
 * device that the calling thread made current with gpu_use. Device memory is a `void *` that the host must not read.
 */
#ifndef TUTTI_TOOL_GPU_H
#define TUTTI_TOOL_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

/* Why this thread's last call failed, or "". Valid until the thread's next failing call. */
const char *gpu_error(void);

/* -- devices ------------------------------------------------------------------------------------- */

struct gpu_probe {
    int devices;
    int driver_version; /* as the driver says it: 13000 for CUDA 13.0 */
    char name[128];     /* of device 0 */
};

/* What "cuda" or "hip" has here, asked in a child process. False if there is no driver or no device. */
bool gpu_probe(const char *backend, struct gpu_probe *probe);

/* Loads the driver and makes a device current for the calling thread. Its primary context is kept for as long as the
 * process lives. Any number of times, from any thread. */
bool gpu_use(const char *backend, int device);

/* From here on, and in gpu_error's sentences, gpu_use must have succeeded in the calling thread. */
bool gpu_device_name(int device, char *name, size_t name_bytes);
bool gpu_device_count(int *count);
bool gpu_driver_version(int *version);

/* -- memory -------------------------------------------------------------------------------------- */

bool gpu_alloc(void **memory, size_t bytes); /* 0 bytes: some address all the same; gpu_free */
void gpu_free(void *memory);                 /* NULL is allowed. Waits for the device */
bool gpu_memory(size_t *free_bytes, size_t *all_bytes);

/* Memory whose pages come and go under its address, as the vendors' virtual memory calls make it. `shareable`: another process can
 * be given the pages; memory savers make theirs without that. */
struct gpu_pages {
    void *address;
    size_t bytes;
    uint64_t handle;
    int device;
    bool shareable;
};

bool gpu_pages_map(struct gpu_pages *pages, int device, size_t bytes, bool shareable);
bool gpu_pages_replace(struct gpu_pages *pages); /* other pages, same address; nobody uses it. Contents are lost */
void gpu_pages_unmap(struct gpu_pages *pages);   /* address NULL is allowed */

/* Page-locked host memory, which the device reads and writes at the same address, and which copies need not wait for. */
bool gpu_host_alloc(void **memory, size_t bytes);
void gpu_host_free(void *memory); /* NULL is allowed */

/* In stream order; all may be captured. The host side should be page-locked: copies of other memory are synchronous, and
 * one out of the device may hold a lock of the driver while it waits for the stream. */
bool gpu_upload(void *device, const void *host, size_t bytes, tutti_stream stream);
bool gpu_download(void *host, const void *device, size_t bytes, tutti_stream stream);
bool gpu_copy(void *device, const void *from_device, size_t bytes, tutti_stream stream);
bool gpu_fill(void *device, uint32_t word, size_t words, tutti_stream stream);

/* -- streams ------------------------------------------------------------------------------------- */

/* A stream that has no implicit order with any other, not with the NULL stream either. */
bool gpu_stream_create(tutti_stream *stream);
void gpu_stream_destroy(tutti_stream stream); /* NULL is allowed */
bool gpu_stream_wait(tutti_stream stream);    /* until all its work has completed */

/* Runs function(argument) on a thread of the driver in stream order. The function must not call the driver. */
bool gpu_host_function(tutti_stream stream, void (*function)(void *argument), void *argument);

/* -- events -------------------------------------------------------------------------------------- */

typedef void *gpu_event;

/* timed: its moment can be asked for; costs a little. */
bool gpu_event_create(gpu_event *event, bool timed);
void gpu_event_destroy(gpu_event event); /* NULL is allowed */
bool gpu_event_record(gpu_event event, tutti_stream stream);
bool gpu_event_wait(gpu_event event);              /* the calling thread waits */
bool gpu_event_query(gpu_event event, bool *done); /* unsafe beside captures in mode global, as the vendors define it */
bool gpu_stream_follow(tutti_stream stream,
                       gpu_event event); /* later work of the stream waits; forks and joins captures */
/* Milliseconds between two timed events that have completed. */
bool gpu_event_elapsed(gpu_event from, gpu_event to, float *ms);

/* -- captures and graphs ------------------------------------------------------------------------- */

enum gpu_capture_mode { GPU_CAPTURE_GLOBAL, GPU_CAPTURE_THREAD_LOCAL, GPU_CAPTURE_RELAXED };

typedef void *gpu_graph; /* ready to be launched */

bool gpu_capture_begin(tutti_stream stream, enum gpu_capture_mode mode);

/* Ends the capture, makes the graph and brings it to the device, which waits for the stream. The stream leaves the capture, also
 * on failure. */
bool gpu_capture_end(tutti_stream stream, gpu_graph *graph);

bool gpu_graph_launch(gpu_graph graph, tutti_stream stream);
void gpu_graph_destroy(gpu_graph graph); /* NULL is allowed; its launches must have completed */

/* -- kernels ------------------------------------------------------------------------------------- */

typedef void *gpu_module;
typedef void *gpu_kernel;

/* `image`: a fatbin, a code object, or PTX as text. */
bool gpu_module_load(gpu_module *module, const void *image);
void gpu_module_unload(gpu_module module); /* NULL is allowed */

/* Has the driver load the kernel for good, so that its first launch may be in a capture. `threads`: the largest block that it
 * will be launched with. */
bool gpu_kernel_find(gpu_kernel *kernel, gpu_module module, const char *name, unsigned threads);

struct gpu_launch {
    unsigned blocks[3], threads; /* a 0 in blocks counts as 1 */
    unsigned shared_bytes;       /* dynamic; up to 48 KiB */
};

/* parameters[i] points to the i-th argument, which is read before this returns. */
bool gpu_launch(gpu_kernel kernel, const struct gpu_launch *how, tutti_stream stream, void **parameters);

#endif
