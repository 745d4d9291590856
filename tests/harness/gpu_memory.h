/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_memory.h - memory of every kind that an engine may hand to a collective. Beside gpu.h, whose gpu_use comes first. */
#ifndef TESTS_HARNESS_GPU_MEMORY_H
#define TESTS_HARNESS_GPU_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

#define GPU_PAGE_BYTES ((size_t)2 << 20) /* of VMM memory */
#define GPU_PIECES_MAX 4

enum gpu_memory_kind {
    GPU_PLAIN,
    GPU_VMM_BARE, /* without a handle type */
    GPU_VMM_FD,
    GPU_VMM_PAIR, /* pieces of one page each, mapped back to back */
    GPU_VMM_HOLE, /* the same, with nothing behind the second page */
    GPU_POOL,
    GPU_MANAGED,
    GPU_PINNED,
    GPU_KIND_COUNT
};

struct gpu_memory {
    enum gpu_memory_kind kind;
    unsigned char *address;
    size_t bytes; /* whole pages for VMM memory */
    uint64_t pieces[GPU_PIECES_MAX];
    int piece_count;
};

/* "VMM memory without a handle type" */
const char *gpu_memory_name(enum gpu_memory_kind kind);

/* Whether this driver has such memory. */
bool gpu_memory_exists(const char *backend, enum gpu_memory_kind kind);

/* Makes at least `bytes` on the device that gpu_use has chosen, for use on `stream`. False if this driver has no such memory. */
bool gpu_memory_make(const char *backend, int ordinal, enum gpu_memory_kind kind, size_t bytes, tutti_stream stream,
                     struct gpu_memory *memory);
void gpu_memory_free(struct gpu_memory *memory, tutti_stream stream);

/* VMM memory without a hole: other pages behind the same address, all of it or one piece. */
void gpu_memory_remap(int ordinal, struct gpu_memory *memory);
void gpu_memory_remap_piece(int ordinal, struct gpu_memory *memory, int piece);

#endif
