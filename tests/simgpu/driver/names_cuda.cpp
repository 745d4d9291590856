/* SPDX-License-Identifier: Apache-2.0 */
/* names_cuda.cpp - the CUDA driver API, as far as the library and its tests use it. */
#include <stdio.h>

#include "simgpu/driver/names.h"

namespace simgpu
{
bool driver_is_hip = false;
}
using namespace simgpu;

struct launch_configuration {
    unsigned grid[3], block[3], shared_bytes;
    void *stream;
    struct launch_attribute *attributes;
    unsigned attribute_count;
};
struct memory_properties {
    int type, handle_types, location_type, location;
    void *reserved_pointer;
    uint8_t reserved[8];
};
struct memory_access {
    int location_type, location, flags;
};
struct ipc_handle {
    uint8_t bytes[64];
};

/* -- devices and contexts --------------------------------------------------------------------------- */

EXPORT int cuInit(unsigned)
{
    return driver_init();
}

EXPORT int cuDriverGetVersion(int *version)
{
    *version = version_or(12080);
    return SUCCESS;
}

EXPORT int cuGetErrorName(int result, const char **name)
{
    *name = result_name(result);
    return *name != nullptr ? SUCCESS : INVALID_VALUE;
}

EXPORT int cuDeviceGetCount(int *count)
{
    ENTER();
    *count = device_count();
    return SUCCESS;
}

EXPORT int cuDeviceGet(int *device, int ordinal)
{
    ENTER();
    if (device_at(ordinal) == nullptr) {
        return INVALID_DEVICE;
    }
    *device = ordinal;
    return SUCCESS;
}

EXPORT int cuDeviceGetName(char *name, int bytes, int device)
{
    ENTER();
    snprintf(name, (size_t)bytes, "Simulated NVIDIA GPU");
    return device_at(device) != nullptr ? SUCCESS : INVALID_DEVICE;
}

EXPORT int cuDeviceGetUuid_v2(void *uuid, int device)
{
    ENTER();
    if (device_at(device) == nullptr) {
        return INVALID_DEVICE;
    }
    memcpy(uuid, device_at(device)->uuid, 16);
    return SUCCESS;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    ENTER();
    if (device_at(device) == nullptr) {
        return INVALID_DEVICE;
    }
    switch (attribute) {
    case 16:
        *value = device_at(device)->multiprocessors;
        return SUCCESS;
    case 75:
        *value = 9;
        return SUCCESS;
    case 76:
        *value = 0;
        return SUCCESS;
    case 100: /* pageable memory through the host's page tables */
        *value = device_at(device)->reads_any_memory;
        return SUCCESS;
    case 102:
    case 103:
        *value = 1;
        return SUCCESS;
    default:
        *value = 0;
        return SUCCESS;
    }
}

EXPORT int cuDevicePrimaryCtxRetain(void **context, int device)
{
    ENTER();
    *context = device_at(device);
    return *context != nullptr ? SUCCESS : INVALID_DEVICE;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device)
{
    ENTER();
    return device_at(device) != nullptr ? SUCCESS : INVALID_DEVICE;
}

EXPORT int cuCtxPushCurrent_v2(void *context)
{
    ENTER();
    context_push(static_cast<struct device *>(context));
    return SUCCESS;
}

EXPORT int cuCtxPopCurrent_v2(void **context)
{
    ENTER();
    *context = context_pop();
    return *context != nullptr ? SUCCESS : INVALID_CONTEXT;
}

EXPORT int cuCtxSetCurrent(void *context)
{
    ENTER();
    context_set(static_cast<struct device *>(context));
    return SUCCESS;
}

EXPORT int cuCtxGetCurrent(void **context)
{
    ENTER();
    *context = device_current();
    return SUCCESS;
}

EXPORT int cuCtxSynchronize()
{
    ENTER();
    guard held(driver_lock);
    struct device *device = device_current();
    int unsafe = capture_check_unsafe();
    if (device == nullptr || unsafe != SUCCESS) {
        return device == nullptr ? INVALID_CONTEXT : unsafe;
    }
    device_drain(*device, held);
    return device->failed;
}

EXPORT int cuThreadExchangeStreamCaptureMode(int *mode)
{
    ENTER();
    guard held(driver_lock);
    return capture_exchange_mode(mode);
}

/* -- kernels ---------------------------------------------------------------------------------------- */

EXPORT int cuModuleLoadData(void **module, const void *image)
{
    ENTER();
    return module_make(module, image);
}

EXPORT int cuModuleUnload(void *module)
{
    ENTER();
    return handle_drop(module);
}

EXPORT int cuModuleGetFunction(void **function, void *module, const char *name)
{
    ENTER();
    return module_find(function, module, name);
}

EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int threads, size_t)
{
    ENTER();
    return function_occupancy(blocks, function, threads);
}

EXPORT int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned, void *stream, void **parameters, void **)
{
    ENTER_STREAM(stream);
    if (grid_y * grid_z * block_y * block_z != 1) {
        return NOT_SUPPORTED;
    }
    return function_launch(function, grid_x, block_x, false, parameters, *queue, held);
}

EXPORT int cuLaunchKernelEx(const struct launch_configuration *launch, void *function, void **parameters, void **)
{
    ENTER_STREAM(launch->stream);
    bool programmatic = false;
    for (unsigned at = 0; at < launch->attribute_count; at++) {
        programmatic = programmatic || (launch->attributes[at].id == 6 && launch->attributes[at].value.value != 0);
    }
    return function_launch(function, launch->grid[0], launch->block[0], programmatic, parameters, *queue, held);
}

EXPORT int cuLaunchHostFunc(void *stream, void (*function)(void *), void *argument)
{
    ENTER_STREAM(stream);
    return submit_call(*queue, held, function, argument);
}

/* -- memory ----------------------------------------------------------------------------------------- */

EXPORT int cuMemGetAllocationGranularity(size_t *bytes, const struct memory_properties *, int)
{
    ENTER();
    *bytes = vmm_granularity();
    return SUCCESS;
}

EXPORT int cuMemCreate(uint64_t *memory, size_t bytes, const struct memory_properties *properties, unsigned long long)
{
    ENTER();
    if (properties->type != 1 || properties->location_type != 1 || (properties->handle_types & ~1) != 0) {
        return properties->handle_types == 8 ? 800 : (int)INVALID_VALUE; /* fabric handles: not permitted */
    }
    return vmm_create(memory, bytes, properties->location, (uint32_t)properties->handle_types);
}

EXPORT int cuMemRelease(uint64_t memory)
{
    ENTER();
    return vmm_release(memory);
}

EXPORT int cuMemRetainAllocationHandle(uint64_t *memory, void *address)
{
    ENTER();
    return vmm_retain(memory, reinterpret_cast<uint64_t>(address));
}

EXPORT int cuMemExportToShareableHandle(void *handle, uint64_t memory, int type, unsigned long long)
{
    ENTER();
    return vmm_export(static_cast<int *>(handle), memory, type);
}

EXPORT int cuMemImportFromShareableHandle(uint64_t *memory, void *handle, int type)
{
    ENTER();
    return type == 1 ? vmm_import(memory, (int)reinterpret_cast<intptr_t>(handle)) : (int)INVALID_VALUE;
}

EXPORT int cuMemAddressReserve(uint64_t *address, size_t bytes, size_t, uint64_t, unsigned long long)
{
    ENTER();
    return vmm_reserve(address, bytes);
}

EXPORT int cuMemAddressFree(uint64_t address, size_t bytes)
{
    ENTER();
    return vmm_unreserve(address, bytes);
}

EXPORT int cuMemMap(uint64_t address, size_t bytes, size_t offset, uint64_t memory, unsigned long long)
{
    ENTER();
    return vmm_map(address, bytes, offset, memory);
}

EXPORT int cuMemUnmap(uint64_t address, size_t bytes)
{
    ENTER();
    return vmm_unmap(address, bytes);
}

EXPORT int cuMemSetAccess(uint64_t address, size_t bytes, const struct memory_access *access, size_t count)
{
    ENTER();
    int result = count == 0 ? INVALID_VALUE : SUCCESS;
    for (size_t at = 0; at < count && result == SUCCESS; at++) {
        result = vmm_access(address, bytes, access[at].location, access[at].flags == 3);
    }
    return result;
}

EXPORT int cuMemAlloc_v2(uint64_t *address, size_t bytes)
{
    ENTER();
    return allocation_make(address, bytes, memory_class::plain);
}

EXPORT int cuMemAllocManaged(uint64_t *address, size_t bytes, unsigned)
{
    ENTER();
    return allocation_make(address, bytes, memory_class::managed);
}

EXPORT int cuMemAllocAsync(uint64_t *address, size_t bytes, void *stream)
{
    ENTER();
    return pool_alloc(address, bytes, stream);
}

EXPORT int cuMemFreeAsync(uint64_t address, void *stream)
{
    ENTER();
    return pool_free(address, stream);
}

EXPORT int cuMemFree_v2(uint64_t address)
{
    ENTER();
    return allocation_free(address, memory_class::plain);
}

EXPORT int cuIpcGetMemHandle(struct ipc_handle *handle, uint64_t address)
{
    ENTER();
    return ipc_export(handle->bytes, address);
}

EXPORT int cuIpcOpenMemHandle_v2(uint64_t *address, struct ipc_handle handle, unsigned)
{
    ENTER();
    return ipc_import(address, handle.bytes);
}

EXPORT int cuIpcCloseMemHandle(uint64_t address)
{
    ENTER();
    return ipc_close(address);
}

EXPORT int cuMemHostAlloc(void **memory, size_t bytes, unsigned)
{
    ENTER();
    return allocation_make(reinterpret_cast<uint64_t *>(memory), bytes, memory_class::host);
}

EXPORT int cuMemFreeHost(void *memory)
{
    ENTER();
    return allocation_free(reinterpret_cast<uint64_t>(memory), memory_class::host);
}

EXPORT int cuMemHostGetDevicePointer_v2(uint64_t *address, void *memory, unsigned)
{
    ENTER();
    *address = reinterpret_cast<uint64_t>(memory);
    return allocation_ask(*address).type == 1 ? SUCCESS : INVALID_VALUE;
}

EXPORT int cuMemsetD32Async(uint64_t address, unsigned word, size_t count, void *stream)
{
    ENTER_STREAM(stream);
    return submit_fill(*queue, held, address, word, count);
}

EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream)
{
    ENTER_STREAM(stream);
    return submit_copy(*queue, held, to, reinterpret_cast<const void *>(from), bytes);
}

EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    ENTER_STREAM(stream);
    return submit_copy(*queue, held, reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
}

EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream)
{
    ENTER_STREAM(stream);
    return submit_copy(*queue, held, reinterpret_cast<void *>(to), from, bytes);
}

EXPORT int cuPointerGetAttributes(unsigned count, int *attributes, void **places, uint64_t address)
{
    ENTER();
    for (unsigned at = 0; at < count; at++) {
        if (!pointer_answer(attributes[at], address, places[at])) {
            return INVALID_VALUE;
        }
    }
    return SUCCESS;
}

/* -- streams and events ------------------------------------------------------------------------------ */

EXPORT int cuStreamCreate(void **stream, unsigned flags)
{
    ENTER();
    return stream_make(stream, flags);
}

EXPORT int cuStreamDestroy_v2(void *stream)
{
    ENTER_STREAM(stream);
    return stream == nullptr ? (int)INVALID_HANDLE : queue_destroy(queue, held);
}

EXPORT int cuStreamSynchronize(void *stream)
{
    ENTER_STREAM(stream);
    return queue_synchronize(*queue, held);
}

EXPORT int cuStreamQuery(void *stream)
{
    ENTER_STREAM(stream);
    return queue_query(*queue, held);
}

EXPORT int cuEventCreate(void **event, unsigned)
{
    ENTER();
    return event_make(event);
}

EXPORT int cuEventDestroy_v2(void *event)
{
    ENTER();
    return event_drop(event);
}

EXPORT int cuEventRecord(void *event, void *stream)
{
    ENTER_STREAM(stream);
    return event_find(event) == nullptr ? (int)INVALID_HANDLE : event_record(*event_find(event), *queue, held);
}

EXPORT int cuStreamWaitEvent(void *stream, void *event, unsigned)
{
    ENTER_STREAM(stream);
    return event_find(event) == nullptr ? (int)INVALID_HANDLE : event_wait(*event_find(event), *queue, held);
}

EXPORT int cuEventQuery(void *event)
{
    ENTER();
    guard held(driver_lock);
    return event_find(event) == nullptr ? (int)INVALID_HANDLE : event_query(*event_find(event), held);
}

EXPORT int cuEventSynchronize(void *event)
{
    ENTER();
    guard held(driver_lock);
    return event_find(event) == nullptr ? (int)INVALID_HANDLE : event_synchronize(*event_find(event), held);
}

/* -- capture and graphs ------------------------------------------------------------------------------- */

EXPORT int cuStreamBeginCapture_v2(void *stream, int mode)
{
    ENTER_STREAM(stream);
    return capture_begin(*queue, mode);
}

EXPORT int cuStreamEndCapture(void *stream, void **graph)
{
    ENTER();
    return capture_finish(stream, graph);
}

EXPORT int cuStreamGetCaptureInfo_v2(void *stream, int *status, uint64_t *id, void **graph, void *const **nodes,
                                     size_t *count)
{
    ENTER();
    return capture_info(stream, status, id, graph, nodes, count);
}

EXPORT int cuStreamGetCaptureInfo_v3(void *stream, int *status, uint64_t *id, void **graph, void *const **nodes,
                                     const void **edges, size_t *count)
{
    ENTER();
    if (edges != nullptr) {
        *edges = nullptr;
    }
    return capture_info(stream, status, id, graph, nodes, count);
}

EXPORT int cuStreamUpdateCaptureDependencies(void *stream, void **nodes, size_t count, unsigned flags)
{
    ENTER();
    return capture_depend(stream, nodes, count, flags);
}

EXPORT int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long)
{
    ENTER();
    return graph_instantiate(executable, graph);
}

EXPORT int cuGraphUpload(void *, void *stream)
{
    ENTER_STREAM(stream);
    return SUCCESS;
}

EXPORT int cuGraphLaunch(void *executable, void *stream)
{
    ENTER();
    return executable_launch(executable, stream);
}

EXPORT int cuGraphExecDestroy(void *executable)
{
    ENTER();
    return executable_drop(executable);
}

EXPORT int cuGraphGetNodes(void *graph, void **nodes, size_t *count)
{
    ENTER();
    return graph_nodes(graph, nodes, count);
}

EXPORT int cuGraphGetEdges(void *graph, void **from, void **to, size_t *count)
{
    ENTER();
    return graph_edges(graph, from, to, count);
}

EXPORT int cuGraphNodeGetType(void *node, int *type)
{
    ENTER();
    return graph_node_type(node, type);
}

EXPORT int cuGraphMemAllocNodeGetParams(void *node, void *parameters)
{
    ENTER();
    return graph_node_memory(node, parameters);
}

EXPORT int cuGraphDestroy(void *graph)
{
    ENTER();
    return graph_drop(graph);
}

EXPORT int cuUserObjectCreate(void **object, void *pointer, void (*destroy)(void *), unsigned references, unsigned)
{
    ENTER();
    guard held(driver_lock);
    *object = object_create(pointer, destroy, references);
    return SUCCESS;
}

EXPORT int cuUserObjectRelease(void *object, unsigned references)
{
    ENTER();
    guard held(driver_lock);
    if (!handle_is(object)) {
        return INVALID_VALUE;
    }
    object_release(static_cast<struct user_object *>(object), references);
    return SUCCESS;
}

EXPORT int cuGraphRetainUserObject(void *graph, void *object, unsigned references, unsigned flags)
{
    ENTER();
    return graph_hold(graph, object, references, flags);
}
