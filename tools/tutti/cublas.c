/* SPDX-License-Identifier: Apache-2.0 */
#include "cublas.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEDANTIC_MATH 2
#define NOT_TRANSPOSED 0

/* 0 is success. */
struct calls {
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_math_mode)(void *handle, int mode);
    int (*set_stream)(void *handle, void *stream);
    int (*set_workspace)(void *handle, void *workspace, size_t bytes);
    int (*multiply)(void *handle, int left, int right, int rows, int columns, int inner, const float *alpha,
                    const float *a, int a_stride, const float *b, int b_stride, const float *beta, float *c,
                    int c_stride);
    const char *(*status_name)(int status);
};

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    {"cublasCreate_v2", offsetof(struct calls, create)},
    {"cublasDestroy_v2", offsetof(struct calls, destroy)},
    {"cublasSetMathMode", offsetof(struct calls, set_math_mode)},
    {"cublasSetStream_v2", offsetof(struct calls, set_stream)},
    {"cublasSetWorkspace_v2", offsetof(struct calls, set_workspace)},
    {"cublasSgemm_v2", offsetof(struct calls, multiply)},
    {"cublasGetStatusName", offsetof(struct calls, status_name)},
};

struct cublas {
    struct calls calls;
    void *library, *handle, *workspace;
    tutti_stream stream;
};

static void *library_open(char *why, size_t why_bytes)
{
    static const char *const usual[] = {"libcublas.so.13", "libcublas.so.12"};
    const char *given = getenv("TUTTI_CUBLAS_LIBRARY");
    if (given != NULL && given[0] != '\0') {
        void *library = dlopen(given, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            (void)snprintf(why, why_bytes, "TUTTI_CUBLAS_LIBRARY: %s", dlerror());
        }
        return library;
    }
    for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
        void *library = dlopen(usual[i], RTLD_NOW | RTLD_LOCAL);
        if (library != NULL) {
            return library;
        }
    }
    (void)snprintf(why, why_bytes,
                   "neither libcublas.so.13 nor .12 is where the dynamic linker looks: install cuBLAS, or let "
                   "TUTTI_CUBLAS_LIBRARY name the file");
    return NULL;
}

static bool symbols_find(struct cublas *cublas, char *why, size_t why_bytes)
{
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *found = dlsym(cublas->library, symbols[i].name);
        if (found == NULL) {
            (void)snprintf(why, why_bytes, "this cuBLAS has no %s: it needs version 12 or later", symbols[i].name);
            return false;
        }
        memcpy((char *)&cublas->calls + symbols[i].offset, &found, sizeof(found));
    }
    return true;
}

static bool check(const struct cublas *cublas, const char *call, int status, char *why, size_t why_bytes)
{
    if (status != 0) {
        (void)snprintf(why, why_bytes, "%s: %s", call, cublas->calls.status_name(status));
    }
    return status == 0;
}

struct cublas *cublas_open(void *workspace, char *why, size_t why_bytes)
{
    void *library = library_open(why, why_bytes);
    if (library == NULL) {
        return NULL;
    }
    struct cublas *cublas = calloc(1, sizeof(*cublas));
    if (cublas == NULL) {
        (void)snprintf(why, why_bytes, "out of memory");
        (void)dlclose(library);
        return NULL;
    }
    cublas->library = library;
    cublas->workspace = workspace;
    if (!symbols_find(cublas, why, why_bytes) ||
        !check(cublas, "cublasCreate", cublas->calls.create(&cublas->handle), why, why_bytes)) {
        goto undo_library;
    }
    if (!check(cublas, "cublasSetMathMode", cublas->calls.set_math_mode(cublas->handle, PEDANTIC_MATH), why,
               why_bytes)) {
        goto undo_handle;
    }
    return cublas;
undo_handle:
    (void)cublas->calls.destroy(cublas->handle);
undo_library:
    free(cublas);
    (void)dlclose(library);
    return NULL;
}

void cublas_close(struct cublas *cublas)
{
    if (cublas == NULL) {
        return;
    }
    (void)cublas->calls.destroy(cublas->handle);
    /* The library stays loaded: the CUDA runtime in it has hooks at the process's end. */
    free(cublas);
}

/* A new stream gives the workspace back. */
static bool stream_set(struct cublas *cublas, tutti_stream stream, char *why, size_t why_bytes)
{
    if (cublas->stream == stream) {
        return true;
    }
    const struct calls *calls = &cublas->calls;
    if (!check(cublas, "cublasSetStream", calls->set_stream(cublas->handle, stream), why, why_bytes) ||
        !check(cublas, "cublasSetWorkspace",
               calls->set_workspace(cublas->handle, cublas->workspace, CUBLAS_WORKSPACE_BYTES), why, why_bytes)) {
        return false;
    }
    cublas->stream = stream;
    return true;
}

bool cublas_multiply(struct cublas *cublas, tutti_stream stream, const float *in, const float *matrix, float *out,
                     size_t rows, size_t inputs, size_t outputs, char *why, size_t why_bytes)
{
    const float one = 1.0f;
    const float zero = 0.0f;
    /* cuBLAS counts columns first: what it takes for the transposed of each matrix is ours row after row. */
    return stream_set(cublas, stream, why, why_bytes) &&
           check(cublas, "cublasSgemm",
                 cublas->calls.multiply(cublas->handle, NOT_TRANSPOSED, NOT_TRANSPOSED, (int)outputs, (int)rows,
                                        (int)inputs, &one, matrix, (int)outputs, in, (int)inputs, &zero, out,
                                        (int)outputs),
                 why, why_bytes);
}
