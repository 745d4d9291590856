/* SPDX-License-Identifier: Apache-2.0 */
#include "model_matrix.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#define PANEL 64

float *matrix_floats(size_t count)
{
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    return aligned_alloc(64, bytes > 0 ? bytes : 64);
}

bool matrix_create(struct matrix *matrix, size_t inputs, size_t outputs)
{
    float *data = matrix_floats(inputs * outputs);
    if (data == NULL) {
        return false;
    }
    memset(data, 0, inputs * outputs * sizeof(float));
    *matrix = (struct matrix){data, inputs, outputs};
    return true;
}

void matrix_destroy(struct matrix *matrix)
{
    free(matrix->data);
    matrix->data = NULL;
}

bool matrix_stack_create(struct matrix_stack *stack, size_t count, size_t inputs, size_t outputs)
{
    struct matrix all;
    if (!matrix_create(&all, count * inputs, outputs)) {
        return false;
    }
    *stack = (struct matrix_stack){all.data, count, inputs, outputs};
    return true;
}

void matrix_stack_destroy(struct matrix_stack *stack)
{
    free(stack->data);
    stack->data = NULL;
}

struct matrix matrix_stack_at(const struct matrix_stack *stack, size_t index)
{
    float *data = stack->data;
    return (struct matrix){data + index * stack->inputs * stack->outputs, stack->inputs, stack->outputs};
}

/* How many columns the panel that begins at output `first` has: the last one may have fewer. */
static size_t panel_width(const struct matrix *matrix, size_t first)
{
    size_t left = matrix->outputs - first;
    return left < PANEL ? left : PANEL;
}

void matrix_put(struct matrix *matrix, size_t input, size_t first, const float *values, size_t count)
{
    while (count > 0) {
        size_t panel = first / PANEL * PANEL;
        size_t width = panel_width(matrix, panel);
        size_t within = first - panel;
        size_t part = count < width - within ? count : width - within;
        float *target = matrix->data + panel * matrix->inputs + input * width + within;
        memcpy(target, values, part * sizeof(float));
        first += part;
        values += part;
        count -= part;
    }
}

void matrix_multiply(const struct matrix *matrix, const float *in, float *out, size_t rows)
{
    for (size_t panel = 0; panel < matrix->outputs; panel += PANEL) {
        size_t width = panel_width(matrix, panel);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)rows, (blasint)width, (blasint)matrix->inputs,
                    1.0f, in, (blasint)matrix->inputs, matrix->data + panel * matrix->inputs, (blasint)width, 0.0f,
                    out + panel, (blasint)matrix->outputs);
    }
}
