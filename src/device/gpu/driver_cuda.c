/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_cuda.c - NVIDIA's names. Where cuda.h maps a plain name to a versioned symbol, the versioned one stands here:
 * dlsym sees no macros.
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
    NEEDED(init, "cuInit"),
    NEEDED(version_get, "cuDriverGetVersion"),
    NEEDED(error_name, "cuGetErrorName"),
    NEEDED(device_count, "cuDeviceGetCount"),
    NEEDED(device_get, "cuDeviceGet"),
    NEEDED(device_name, "cuDeviceGetName"),
    NEEDED(device_uuid, "cuDeviceGetUuid_v2"),
    NEEDED(device_attribute, "cuDeviceGetAttribute"),
    NEEDED(primary_retain, "cuDevicePrimaryCtxRetain"),
    NEEDED(primary_release, "cuDevicePrimaryCtxRelease_v2"),
    NEEDED(context_push, "cuCtxPushCurrent_v2"),
    NEEDED(context_pop, "cuCtxPopCurrent_v2"),
    NEEDED(capture_mode_exchange, "cuThreadExchangeStreamCaptureMode"),
    NEEDED(module_load, "cuModuleLoadData"),
    NEEDED(module_unload, "cuModuleUnload"),
    NEEDED(module_function, "cuModuleGetFunction"),
    NEEDED(occupancy, "cuOccupancyMaxActiveBlocksPerMultiprocessor"),
    NEEDED(launch, "cuLaunchKernel"),
    OPTIONAL(launch_with, "cuLaunchKernelEx"),
    NEEDED(memory_granularity, "cuMemGetAllocationGranularity"),
    NEEDED(memory_create, "cuMemCreate"),
    NEEDED(memory_release, "cuMemRelease"),
    NEEDED(memory_retain, "cuMemRetainAllocationHandle"),
    NEEDED(memory_export, "cuMemExportToShareableHandle"),
    NEEDED(memory_import, "cuMemImportFromShareableHandle"),
    NEEDED(address_reserve, "cuMemAddressReserve"),
    NEEDED(address_free, "cuMemAddressFree"),
    NEEDED(memory_map, "cuMemMap"),
    NEEDED(memory_unmap, "cuMemUnmap"),
    NEEDED(memory_access, "cuMemSetAccess"),
    NEEDED(alloc, "cuMemAlloc_v2"),
    NEEDED(free, "cuMemFree_v2"),
    NEEDED(ipc_get, "cuIpcGetMemHandle"),
    NEEDED(ipc_open, "cuIpcOpenMemHandle_v2"),
    NEEDED(ipc_close, "cuIpcCloseMemHandle"),
    NEEDED(host_alloc, "cuMemHostAlloc"),
    NEEDED(host_free, "cuMemFreeHost"),
    NEEDED(host_address, "cuMemHostGetDevicePointer_v2"),
    NEEDED(fill_words, "cuMemsetD32Async"),
    NEEDED(copy_on_device, "cuMemcpyDtoDAsync_v2"),
    NEEDED(copy_to_host, "cuMemcpyDtoHAsync_v2"),
    NEEDED(copy_to_device, "cuMemcpyHtoDAsync_v2"),
    NEEDED(pointer_attributes, "cuPointerGetAttributes"),
    NEEDED(memory_info, "cuMemGetInfo_v2"),
    NEEDED(stream_create, "cuStreamCreate"),
    NEEDED(stream_destroy, "cuStreamDestroy_v2"),
    NEEDED(stream_synchronize, "cuStreamSynchronize"),
    NEEDED(stream_query, "cuStreamQuery"),
    NEEDED(capture_info2, "cuStreamGetCaptureInfo_v2"),
    OPTIONAL(capture_info3, "cuStreamGetCaptureInfo_v3"),
    NEEDED(capture_depend, "cuStreamUpdateCaptureDependencies"),
    NEEDED(object_create, "cuUserObjectCreate"),
    NEEDED(object_release, "cuUserObjectRelease"),
    NEEDED(graph_retain, "cuGraphRetainUserObject"),
    NEEDED(capture_begin, "cuStreamBeginCapture_v2"),
    NEEDED(capture_end, "cuStreamEndCapture"),
    NEEDED(graph_instantiate, "cuGraphInstantiateWithFlags"),
    OPTIONAL(graph_upload, "cuGraphUpload"),
    NEEDED(graph_launch, "cuGraphLaunch"),
    NEEDED(executable_destroy, "cuGraphExecDestroy"),
    NEEDED(graph_destroy, "cuGraphDestroy"),
    OPTIONAL(graph_nodes, "cuGraphGetNodes"),
    OPTIONAL(graph_node_type, "cuGraphNodeGetType"),
    OPTIONAL(graph_memory, "cuGraphMemAllocNodeGetParams"),
};

static const char *const other_names[] = {"libcuda.so", NULL};

const struct driver_vendor driver_cuda = {
    .backend = "cuda",
    .label = "NVIDIA",
    .library = SETTING_CUDA_LIBRARY,
    .other_names = other_names,
    .symbols = symbols,
    .symbol_count = sizeof(symbols) / sizeof(symbols[0]),
    .version_oldest = 11040, /* cuDeviceGetUuid_v2 */
    .version_unit = 1000,
    .attributes =
        {
            [DRIVER_MULTIPROCESSORS] = 16,
            [DRIVER_CAPABILITY_MAJOR] = 75,
            [DRIVER_CAPABILITY_MINOR] = 76,
            [DRIVER_HAS_VMM] = 102,
            [DRIVER_HAS_FD_EXPORT] = 103,
            [DRIVER_HOST_PAGE_TABLES] = 100,
        },
    .memory_type_host = 1,
    .memory_type_device = 2,
    .host_flags = 1u | 2u, /* portable, mapped */
    .executables_stand_alone = true,
    .toolkit = "nvcc",
};
