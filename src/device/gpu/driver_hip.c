/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_hip.c - AMD's names. HIP's runtime library is its driver interface. Numbers of attributes and flags are those
 * of hip_runtime_api.h since ROCm 5.
 */
#include "device/gpu/driver.h"

#define NEEDED(entry, symbol)                                                                                          \
    {                                                                                                                  \
        symbol, offsetof(struct driver, entry), true                                                                   \
    }
#define OPTIONAL(entry, symbol)                                                                                        \
    {                                                                                                                  \
        symbol, offsetof(struct driver, entry), false                                                                  \
    }

static const struct driver_symbol symbols[] = {
    NEEDED(init, "hipInit"),
    NEEDED(version_get, "hipRuntimeGetVersion"),
    NEEDED(error_text, "hipGetErrorName"),
    NEEDED(device_count, "hipGetDeviceCount"),
    NEEDED(device_get, "hipDeviceGet"),
    NEEDED(device_name, "hipDeviceGetName"),
    NEEDED(device_uuid, "hipDeviceGetUuid"),
    NEEDED(device_attribute, "hipDeviceGetAttribute"),
    NEEDED(current_get, "hipGetDevice"),
    NEEDED(current_set, "hipSetDevice"),
    NEEDED(peer_enable, "hipDeviceEnablePeerAccess"),
    NEEDED(capture_mode_exchange, "hipThreadExchangeStreamCaptureMode"),
    NEEDED(module_load, "hipModuleLoadData"),
    NEEDED(module_unload, "hipModuleUnload"),
    NEEDED(module_function, "hipModuleGetFunction"),
    NEEDED(occupancy, "hipModuleOccupancyMaxActiveBlocksPerMultiprocessor"),
    NEEDED(launch, "hipModuleLaunchKernel"),
    NEEDED(alloc_with_flags, "hipExtMallocWithFlags"),
    NEEDED(free, "hipFree"),
    NEEDED(ipc_get, "hipIpcGetMemHandle"),
    NEEDED(ipc_open, "hipIpcOpenMemHandle"),
    NEEDED(ipc_close, "hipIpcCloseMemHandle"),
    NEEDED(host_alloc, "hipHostMalloc"),
    NEEDED(host_free, "hipHostFree"),
    NEEDED(host_address, "hipHostGetDevicePointer"),
    NEEDED(fill_words, "hipMemsetD32Async"),
    NEEDED(copy_on_device, "hipMemcpyDtoDAsync"),
    NEEDED(copy_to_host, "hipMemcpyDtoHAsync"),
    NEEDED(copy_to_device, "hipMemcpyHtoDAsync"),
    NEEDED(pointer_attributes, "hipDrvPointerGetAttributes"),
    NEEDED(address_range, "hipMemGetAddressRange"),
    NEEDED(memory_info, "hipMemGetInfo"),
    NEEDED(stream_create, "hipStreamCreateWithFlags"),
    NEEDED(stream_destroy, "hipStreamDestroy"),
    NEEDED(stream_synchronize, "hipStreamSynchronize"),
    NEEDED(stream_query, "hipStreamQuery"),
    NEEDED(capture_info2, "hipStreamGetCaptureInfo_v2"),
    NEEDED(capture_depend, "hipStreamUpdateCaptureDependencies"),
    NEEDED(object_create, "hipUserObjectCreate"),
    NEEDED(object_release, "hipUserObjectRelease"),
    NEEDED(graph_retain, "hipGraphRetainUserObject"),
    NEEDED(capture_begin, "hipStreamBeginCapture"),
    NEEDED(capture_end, "hipStreamEndCapture"),
    NEEDED(graph_instantiate, "hipGraphInstantiateWithFlags"),
    OPTIONAL(graph_upload, "hipGraphUpload"),
    NEEDED(graph_launch, "hipGraphLaunch"),
    NEEDED(executable_destroy, "hipGraphExecDestroy"),
    NEEDED(graph_destroy, "hipGraphDestroy"),
    OPTIONAL(graph_nodes, "hipGraphGetNodes"),
    OPTIONAL(graph_node_type, "hipGraphNodeGetType"),
    OPTIONAL(graph_memory, "hipGraphMemAllocNodeGetParams"),
};

static const char *const other_names[] = {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", NULL};

const struct driver_vendor driver_hip = {
    .backend = "hip",
    .label = "AMD",
    .library = SETTING_HIP_LIBRARY,
    .other_names = other_names,
    .symbols = symbols,
    .symbol_count = sizeof(symbols) / sizeof(symbols[0]),
    .version_oldest = 50300000, /* 5.3: user objects of graphs */
    .version_unit = 10000000,
    .attributes =
        {
            [DRIVER_MULTIPROCESSORS] = 63,
            [DRIVER_CAPABILITY_MAJOR] = 23,
            [DRIVER_CAPABILITY_MINOR] = 61,
            [DRIVER_HAS_VMM] = -1, /* whether such memory can be uncached is unknown: IPC memory is the safe choice */
            [DRIVER_HAS_FD_EXPORT] = -1,
            [DRIVER_HOST_PAGE_TABLES] = 66,
        },
    .memory_type_host = 1,
    .memory_type_device = -1, /* of unknown memory no type can be relied on */
    .memory_types_since = 60000000,
    .host_flags = 1u | 2u | 0x40000000u, /* portable, mapped, coherent */
    .uncached_flag = 3u,                 /* hipDeviceMallocUncached */
    .coherent_flag = 1u,                 /* hipDeviceMallocFinegrained */
    .toolkit = "clang-19",
};
