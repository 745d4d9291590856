/* SPDX-License-Identifier: Apache-2.0 */
/* enqueue.h - what a library beside the simulated driver does on its streams. */
#ifndef TESTS_SIMGPU_DRIVER_ENQUEUE_H
#define TESTS_SIMGPU_DRIVER_ENQUEUE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Runs body(argument) in the stream's turn, or records it where the stream captures: then at each replay. Its result is
 * the device's, 0 if all is well. `argument` is the caller's, for as long as any graph may hold it. */
__attribute__((visibility("default"))) int simgpu_enqueue(void *stream, int (*body)(void *argument), void *argument);

/* Plain device memory, as cuMemAlloc and hipMalloc give it. The vendors' results. */
__attribute__((visibility("default"))) int simgpu_alloc(uint64_t *address, size_t bytes);
__attribute__((visibility("default"))) int simgpu_free(uint64_t address);

#ifdef __cplusplus
}
#endif

#endif
