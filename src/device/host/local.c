/* SPDX-License-Identifier: Apache-2.0 */
/* local.c - a world of one rank: the same number rules (canonical NaN), no meeting. */
#include "device/host/protocol.h"
#include "device/host/simd/simd.h"

static void copy_rows(const struct group *group, const struct operation *operation)
{
    for (size_t first = 0; first < operation->count; first += operation->row_bytes) {
        size_t row = first / operation->row_bytes;
        group->simd->copy((unsigned char *)operation->dst + row * operation->dst_stride_bytes,
                          (const unsigned char *)operation->src + first, operation->row_bytes, false);
    }
}

bool protocol_local(struct group *group, const struct operation *operation)
{
    if (operation->count == 0) {
        return true;
    }
    if (operation->kind == TUTTI_ALL_REDUCE || operation->kind == TUTTI_REDUCE_SCATTER) {
        group->simd->reduce(operation->dst, NULL, &operation->src, 1, operation->count, operation->dtype, operation->op,
                            false);
    } else if (operation->row_bytes > 0) {
        copy_rows(group, operation);
    } else if (operation->dst != operation->src) {
        group->simd->copy(operation->dst, operation->src, operation->count, false);
    }
    return true;
}
