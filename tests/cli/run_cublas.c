/* SPDX-License-Identifier: Apache-2.0 */
/* The command's use of cuBLAS (tools/tutti/cublas.c), with a library that has cuBLAS's conventions and the host's memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "tools/tutti/cublas.h"

#define ROWS_MAX 9
#define INNER_MAX 40
#define OUT_MAX 30

static char workspace[64];

static void check_refused(const char *library, const char *says)
{
    char why[600] = "";
    CHECK(setenv("TUTTI_CUBLAS_LIBRARY", library, 1) == 0, "setenv");
    struct cublas *cublas = cublas_open(workspace, why, sizeof(why));
    CHECK(cublas == NULL && strstr(why, says) != NULL, "%s: \"%s\" does not say \"%s\"", library, why, says);
}

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void fill(float *values, size_t count, uint64_t *state)
{
    for (size_t i = 0; i < count; i++) {
        values[i] = (float)(next(state) % 15) - 7.0f;
    }
}

/* Small whole numbers: every sum is exact. What stood in `out` before must not matter. */
static void check_product(struct cublas *cublas, tutti_stream stream, uint64_t *state)
{
    static float in[ROWS_MAX * INNER_MAX], matrix[INNER_MAX * OUT_MAX], out[ROWS_MAX * OUT_MAX];
    size_t rows = 1 + next(state) % ROWS_MAX;
    size_t inner = 1 + next(state) % INNER_MAX;
    size_t outputs = 1 + next(state) % OUT_MAX;
    char why[600] = "";
    fill(in, rows * inner, state);
    fill(matrix, inner * outputs, state);
    for (size_t i = 0; i < rows * outputs; i++) {
        out[i] = NAN;
    }
    CHECK(cublas_multiply(cublas, stream, in, matrix, out, rows, inner, outputs, why, sizeof(why)), "%s", why);
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < outputs; column++) {
            float sum = 0.0f;
            for (size_t i = 0; i < inner; i++) {
                sum += in[row * inner + i] * matrix[i * outputs + column];
            }
            float got = out[row * outputs + column];
            CHECK(got >= sum && got <= sum, "%zu x %zu x %zu: row %zu, column %zu is %g, not %g", rows, inner, outputs,
                  row, column, (double)got, (double)sum);
        }
    }
}

int main(void)
{
    check_refused("/nonexistent/libcublas.so.13", "TUTTI_CUBLAS_LIBRARY: /nonexistent/libcublas.so.13: ");
    check_refused("libm.so.6", "this cuBLAS has no cublasCreate_v2");
    CHECK(setenv("TUTTI_CUBLAS_LIBRARY", FAKE_CUBLAS, 1) == 0, "setenv");
    char why[600] = "";
    int streams[2] = {0};
    uint64_t state = ranks_seed();
    struct cublas *cublas = cublas_open(workspace, why, sizeof(why));
    CHECK(cublas != NULL, "%s", why);
    for (int i = 0; i < 200; i++) {
        int *stream = &streams[next(&state) % 2];
        int before = *stream;
        check_product(cublas, stream, &state);
        CHECK(*stream == before + 1, "the product went to the other stream");
    }
    cublas_close(cublas);
    return 0;
}
