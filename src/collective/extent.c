/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/extent.h"

#include "collective/choice.h"

size_t extent_src_bytes(const struct operation *operation, size_t world)
{
    bool block_a_peer = operation->kind == TUTTI_REDUCE_SCATTER || operation->kind == TUTTI_ALL_TO_ALL;
    return operation->count * choice_unit_bytes(operation) * (block_a_peer ? world : 1);
}

size_t extent_dst_bytes(const struct operation *operation, size_t world)
{
    if (operation->row_bytes != 0) {
        size_t rows = operation->count / operation->row_bytes;
        return (rows - 1) * operation->dst_stride_bytes + operation->row_bytes * world;
    }
    bool block_a_peer = operation->kind == TUTTI_ALL_GATHER || operation->kind == TUTTI_ALL_TO_ALL;
    return operation->count * choice_unit_bytes(operation) * (block_a_peer ? world : 1);
}
