/* SPDX-License-Identifier: Apache-2.0 */
/* bench_nccl.h - the functions of NCCL that the bench calls, found at run time in the library that TUTTI_NCCL_LIBRARY names. */
#ifndef TOOLS_BENCH_NCCL_H
#define TOOLS_BENCH_NCCL_H

#include <stdbool.h>
#include <stddef.h>

#include "tutti/tutti.h"

struct nccl_id {
    char bytes[128];
};

/* Types and operators by nccl.h's numbers; results: 0 is success. */
enum nccl_number { NCCL_BYTE = 1, NCCL_F16 = 6, NCCL_F32 = 7, NCCL_BF16 = 9, NCCL_SUM = 0, NCCL_WINDOW_SYMMETRIC = 1 };

struct nccl_functions {
    int (*version)(int *version);
    const char *(*error_text)(int result);
    int (*unique_id)(struct nccl_id *id);
    int (*init)(void **comm, int ranks, struct nccl_id id, int rank);
    int (*destroy)(void *comm);
    int (*group_start)(void);
    int (*group_end)(void);
    int (*all_reduce)(const void *src, void *dst, size_t count, int dtype, int op, void *comm, tutti_stream stream);
    int (*reduce_scatter)(const void *src, void *dst, size_t count, int dtype, int op, void *comm, tutti_stream stream);
    int (*all_gather)(const void *src, void *dst, size_t count, int dtype, void *comm, tutti_stream stream);
    int (*broadcast)(const void *src, void *dst, size_t count, int dtype, int root, void *comm, tutti_stream stream);
    int (*send)(const void *src, size_t count, int dtype, int peer, void *comm, tutti_stream stream);
    int (*recv)(void *dst, size_t count, int dtype, int peer, void *comm, tutti_stream stream);
    /* NULL before NCCL 2.27. */
    int (*mem_alloc)(void **memory, size_t bytes);
    int (*mem_free)(void *memory);
    int (*window_register)(void *comm, void *memory, size_t bytes, void **window, int flags);
    int (*window_deregister)(void *comm, void *window);
};

/* False with one sentence in `why`. The library stays for as long as the process. */
bool nccl_load(struct nccl_functions *functions, char *why, size_t why_bytes);

#endif
