/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.h - what a test does with a device beside Tutti: memory, streams, graphs. Loads the vendor's driver by itself, the one that
 * the library is told to use (TUTTI_CUDA_LIBRARY, TUTTI_HIP_LIBRARY). A driver call that fails fails the test.
 */
#ifndef TESTS_HARNESS_GPU_H
#define TESTS_HARNESS_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

enum gpu_capture_mode { GPU_CAPTURE_GLOBAL, GPU_CAPTURE_THREAD_LOCAL, GPU_CAPTURE_RELAXED };

typedef void *gpu_graph; /* ready to be launched */
typedef void *gpu_module;
typedef void *gpu_kernel; /* of a module */

/* How many devices "cuda" or "hip" has; 0 with the reason in `why`. In a child process: a driver that has been initialised does
 * not survive a fork, and a test may want to fork ranks. */
int gpu_count(const char *backend, char *why, size_t why_bytes);

/* Loads the driver and makes the device current for the calling thread, with its primary context. */
void gpu_use(const char *backend, int ordinal);

/* In the calling thread's context. Device addresses. */
unsigned char *gpu_alloc(size_t bytes);
void gpu_free(void *memory);

/* Of the device's memory, by anybody. */
uint64_t gpu_used_bytes(void);

/* A stream that has no implicit order with any other. */
tutti_stream gpu_stream_create(void);
void gpu_stream_destroy(tutti_stream stream);
void gpu_stream_wait(tutti_stream stream);

/* In stream order; the second waits. */
void gpu_upload(void *device, const void *host, size_t bytes, tutti_stream stream);
void gpu_download(void *host, const void *device, size_t bytes, tutti_stream stream);

void gpu_capture_begin(tutti_stream stream, enum gpu_capture_mode mode);
gpu_graph gpu_capture_end(tutti_stream stream);
/* Ends a capture and throws away what it holds, also an invalidated one. */
void gpu_capture_drop(tutti_stream stream);
/* Asks the stream something that no capture allows: the answer is an error, and the capture is void. */
void gpu_capture_spoil(tutti_stream stream);
bool gpu_stream_captures(tutti_stream stream);
void gpu_graph_launch(gpu_graph graph, tutti_stream stream);
void gpu_graph_destroy(gpu_graph graph);

/* A file of kernels, in the calling thread's context and for as long as the process lives. NULL with the reason in `why`. */
gpu_module gpu_module_load(const char *path, char *why, size_t why_bytes);
gpu_kernel gpu_kernel_find(gpu_module module, const char *name);
/* CUDA: launches programmatically, one block of 32 threads. */
void gpu_launch_programmatic(gpu_kernel kernel, tutti_stream stream, void **parameters);
void gpu_launch(gpu_kernel kernel, unsigned blocks, unsigned threads, tutti_stream stream, void **parameters);

/* While `joined` captures nothing yet: lets it take part in the capture of `stream`, and the other way round. */
void gpu_stream_follow(tutti_stream joined, tutti_stream stream);

#endif
