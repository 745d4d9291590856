/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cublas.h - the matrix products of NVIDIA GPUs, by a cuBLAS loaded with dlopen: TUTTI_CUBLAS_LIBRARY, else libcublas.so.13 or
 * .12 where the dynamic linker finds it.
 *
 * fp32 in pedantic mode: no TF32, no splitting into smaller types. With the numbers of model_numerics.h every partial sum is
 * exact then, in whatever order cuBLAS takes them.
 */
#ifndef TUTTI_TOOL_CUBLAS_H
#define TUTTI_TOOL_CUBLAS_H

#include <stdbool.h>
#include <stddef.h>

#include "tutti/tutti.h"

/* What cuBLAS may use as scratch on the device. Given once, so that a capture allocates nothing. */
#define CUBLAS_WORKSPACE_BYTES ((size_t)32 << 20)

struct cublas;

/* In the calling thread's context, with CUBLAS_WORKSPACE_BYTES at `workspace` (borrowed). NULL with a sentence. */
struct cublas *cublas_open(void *workspace, char *why, size_t why_bytes);
void cublas_close(struct cublas *cublas); /* NULL is allowed; after its work has completed */

/* out[rows][outputs] = in[rows][inputs] * matrix[inputs][outputs], all row after row. [capture] False with a sentence. */
bool cublas_multiply(struct cublas *cublas, tutti_stream stream, const float *in, const float *matrix, float *out,
                     size_t rows, size_t inputs, size_t outputs, char *why, size_t why_bytes);

#endif
