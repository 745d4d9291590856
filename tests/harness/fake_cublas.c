/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_cublas.c - a shared library in place of libcublas.so: cuBLAS's conventions (columns first, mode, stream, workspace) on the
 * host's memory. A stream is an int that counts its products. Refuses with its status 7 whatever the tool must not do.
 */
#include <stddef.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))
#define REFUSED 7

struct handle {
    int mode;
    void *stream, *workspace;
};

int cublasCreate_v2(void **handle);
int cublasDestroy_v2(void *handle);
int cublasSetMathMode(void *handle, int mode);
int cublasSetStream_v2(void *handle, void *stream);
int cublasSetWorkspace_v2(void *handle, void *workspace, size_t bytes);
int cublasSgemm_v2(void *handle, int left, int right, int m, int n, int k, const float *alpha, const float *a, int lda,
                   const float *b, int ldb, const float *beta, float *c, int ldc);
const char *cublasGetStatusName(int status);

EXPORT int cublasCreate_v2(void **handle)
{
    *handle = calloc(1, sizeof(struct handle));
    return *handle != NULL ? 0 : 3;
}

EXPORT int cublasDestroy_v2(void *handle)
{
    free(handle);
    return 0;
}

EXPORT int cublasSetMathMode(void *handle, int mode)
{
    ((struct handle *)handle)->mode = mode;
    return 0;
}

/* As cuBLAS does: a new stream takes the workspace away. */
EXPORT int cublasSetStream_v2(void *handle, void *stream)
{
    ((struct handle *)handle)->stream = stream;
    ((struct handle *)handle)->workspace = NULL;
    return 0;
}

EXPORT int cublasSetWorkspace_v2(void *handle, void *workspace, size_t bytes)
{
    ((struct handle *)handle)->workspace = bytes > 0 ? workspace : NULL;
    return 0;
}

/* c = alpha * a * b + beta * c, each with its columns one after another. Without a workspace cuBLAS would allocate one, in a
 * capture too; without pedantic mode (2) it might round. */
EXPORT int cublasSgemm_v2(void *handle, int left, int right, int m, int n, int k, const float *alpha, const float *a,
                          int lda, const float *b, int ldb, const float *beta, float *c, int ldc)
{
    const struct handle *state = handle;
    if (state->mode != 2 || state->stream == NULL || state->workspace == NULL || left != 0 || right != 0 || lda < m ||
        ldb < k || ldc < m) {
        return REFUSED;
    }
    ++*(int *)state->stream;
    for (int row = 0; row < m; row++) {
        for (int column = 0; column < n; column++) {
            float sum = 0.0f;
            for (int i = 0; i < k; i++) {
                sum += a[row + i * lda] * b[i + column * ldb];
            }
            float *out = &c[row + column * ldc];
            *out = *beta != 0.0f ? *alpha * sum + *beta * *out : *alpha * sum;
        }
    }
    return 0;
}

EXPORT const char *cublasGetStatusName(int status)
{
    return status == REFUSED ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_ALLOC_FAILED";
}
