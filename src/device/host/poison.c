/* SPDX-License-Identifier: Apache-2.0 */
#include "device/host/poison.h"

#include <stdint.h>
#include <string.h>

static void fill_nan(void *dst, size_t count, tutti_dtype dtype)
{
    if (dtype == TUTTI_F32) {
        uint32_t *words = dst;
        for (size_t index = 0; index < count; index++) {
            words[index] = 0x7fc00000u;
        }
        return;
    }
    uint16_t *halves = dst;
    uint16_t nan = dtype == TUTTI_F16 ? 0x7e00u : 0x7fc0u;
    for (size_t index = 0; index < count; index++) {
        halves[index] = nan;
    }
}

void poison_result(const struct operation *operation, int rank, int world)
{
    size_t blocks_bytes = operation->count * (size_t)world;
    switch (operation->kind) {
    case TUTTI_ALL_REDUCE:
    case TUTTI_REDUCE_SCATTER:
        fill_nan(operation->dst, operation->count, operation->dtype);
        break;
    case TUTTI_ALL_GATHER:
        if (operation->row_bytes == 0) {
            memset(operation->dst, 0, blocks_bytes);
            break;
        }
        for (size_t row = 0; row < operation->count / operation->row_bytes; row++) {
            memset((unsigned char *)operation->dst + row * operation->dst_stride_bytes, 0,
                   operation->row_bytes * (size_t)world);
        }
        break;
    case TUTTI_ALL_TO_ALL:
        memset(operation->dst, 0, blocks_bytes);
        break;
    case TUTTI_BROADCAST:
        if (operation->root != rank) {
            memset(operation->dst, 0, operation->count);
        }
        break;
    case TUTTI_BARRIER:
        break;
    }
}
