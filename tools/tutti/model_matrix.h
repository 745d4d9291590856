/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_matrix.h - a weight matrix, kept the way that few rows can be multiplied by it fast.
 *
 * The outputs are cut into panels of 64 columns; a panel holds its columns of input 0, of input 1, and so on, in one
 * piece. For such a panel and the few rows of a decode step OpenBLAS takes kernels that read the weights where they
 * lie; given the whole matrix it would copy all of it into panels of its own first, at every step (3 to 4 times
 * slower at 1 to 16 rows; a tenth faster at 1000).
 */
#ifndef TUTTI_TOOL_MODEL_MATRIX_H
#define TUTTI_TOOL_MODEL_MATRIX_H

#include <stdbool.h>
#include <stddef.h>

struct matrix {
    float *data; /* of these functions; a GPU keeps its own in device memory, input after input */
    size_t inputs, outputs;
};

/* Matrices of one size in one allocation: the experts of a layer. */
struct matrix_stack {
    void *data; /* of these functions: `count` matrices of floats; a GPU keeps its own, as bf16, output after output */
    size_t count, inputs, outputs;
};

/* All zero. False if memory ran out. */
bool matrix_create(struct matrix *matrix, size_t inputs, size_t outputs);
void matrix_destroy(struct matrix *matrix);

/* The weights of one input to outputs [first, first + count). */
void matrix_put(struct matrix *matrix, size_t input, size_t first, const float *values, size_t count);

bool matrix_stack_create(struct matrix_stack *stack, size_t count, size_t inputs, size_t outputs); /* likewise */
void matrix_stack_destroy(struct matrix_stack *stack);

/* One of them; borrowed. */
struct matrix matrix_stack_at(const struct matrix_stack *stack, size_t index);

/* out[rows][outputs] = in[rows][inputs] * matrix */
void matrix_multiply(const struct matrix *matrix, const float *in, float *out, size_t rows);

/* Memory for `count` floats, aligned for SIMD, not initialised; NULL if there is none. For free(). */
float *matrix_floats(size_t count);

#endif
