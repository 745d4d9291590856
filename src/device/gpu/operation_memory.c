/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/operation_memory.h"

#include "collective/extent.h"
#include "device/gpu/memory_class.h"

const char *operation_call_name(const struct operation *operation)
{
    static const char *const names[TUTTI_COLLECTIVE_COUNT] = {
        [TUTTI_ALL_REDUCE] = "tutti_all_reduce", [TUTTI_REDUCE_SCATTER] = "tutti_reduce_scatter",
        [TUTTI_ALL_GATHER] = "tutti_all_gather", [TUTTI_BROADCAST] = "tutti_broadcast",
        [TUTTI_ALL_TO_ALL] = "tutti_all_to_all", [TUTTI_BARRIER] = "tutti_barrier"};
    return operation->row_bytes != 0 ? "tutti_all_gather_rows" : names[operation->kind];
}

tutti_status operation_check_memory(const struct device *device, int world, const struct operation *operation,
                                    driver_stream stream)
{
    if (operation->count == 0) {
        return TUTTI_OK;
    }
    const char *name = operation_call_name(operation);
    bool broadcast = operation->kind == TUTTI_BROADCAST;
    tutti_status status = memory_check(device, name, broadcast ? "buffer" : "src", operation->src,
                                       extent_src_bytes(operation, (size_t)world), stream);
    if (status == TUTTI_OK && !broadcast) {
        status = memory_check(device, name, "dst", operation->dst, extent_dst_bytes(operation, (size_t)world), stream);
    }
    return status;
}
