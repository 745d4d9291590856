/* SPDX-License-Identifier: Apache-2.0 */
/* names_hip.cpp - the HIP runtime, as far as the library and its tests use it. */
#include <stdio.h>

#include "simgpu/driver/names.h"

namespace simgpu
{
bool driver_is_hip = true;
}
using namespace simgpu;

struct ipc_handle {
    uint8_t bytes[64];
};

/* -- devices ---------------------------------------------------------------------------------------- */

EXPORT int hipInit(unsigned)
{
    return driver_init();
}

EXPORT int hipRuntimeGetVersion(int *version)
{
    *version = version_or(60342134);
    return SUCCESS;
}

EXPORT const char *hipGetErrorName(int result)
{
    const char *name = result_name(result);
    return name != nullptr ? name : "hipErrorUnknown";
}

EXPORT int hipGetDeviceCount(int *count)
{
    ENTER();
    *count = device_count();
    return SUCCESS;
}

EXPORT int hipDeviceGet(int *device, int ordinal)
{
    ENTER();
    if (device_at(ordinal) == nullptr) {
        return INVALID_DEVICE;
    }
    *device = ordinal;
    return SUCCESS;
}

EXPORT int hipDeviceGetName(char *name, int bytes, int device)
{
    ENTER();
    snprintf(name, (size_t)bytes, "Simulated AMD GPU");
    return device_at(device) != nullptr ? SUCCESS : INVALID_DEVICE;
}

EXPORT int hipDeviceGetUuid(void *uuid, int device)
{
    ENTER();
    if (device_at(device) == nullptr) {
        return INVALID_DEVICE;
    }
    memcpy(uuid, device_at(device)->uuid, 16);
    return SUCCESS;
}

EXPORT int hipDeviceGetAttribute(int *value, int attribute, int device)
{
    ENTER();
    if (device_at(device) == nullptr) {
        return INVALID_DEVICE;
    }
    switch (attribute) {
    case 63:
        *value = device_at(device)->multiprocessors;
        return SUCCESS;
    case 23:
        *value = 9;
        return SUCCESS;
    case 61:
        *value = 4;
        return SUCCESS;
    case 66: /* pageable memory through the host's page tables */
        *value = device_at(device)->reads_any_memory;
        return SUCCESS;
    default:
        *value = 0;
        return SUCCESS;
    }
}

EXPORT int hipGetDevice(int *ordinal)
{
    ENTER();
    struct device *device = device_current();
    *ordinal = device != nullptr ? device->ordinal : 0;
    return SUCCESS;
}

EXPORT int hipSetDevice(int ordinal)
{
    ENTER();
    if (device_at(ordinal) == nullptr) {
        return INVALID_DEVICE;
    }
    context_set(device_at(ordinal));
    return SUCCESS;
}

EXPORT int hipDeviceEnablePeerAccess(int ordinal, unsigned)
{
    ENTER();
    guard held(driver_lock);
    struct device *device = device_current();
    if (device == nullptr || device_at(ordinal) == nullptr || ordinal == device->ordinal) {
        return INVALID_DEVICE;
    }
    bool former = device->peers[ordinal];
    device->peers[ordinal] = true;
    return former ? PEER_ACCESS_ALREADY_ENABLED : SUCCESS;
}

EXPORT int hipDeviceSynchronize()
{
    ENTER();
    guard held(driver_lock);
    int unsafe = capture_check_unsafe();
    if (unsafe != SUCCESS) {
        return unsafe;
    }
    device_drain(*device_current(), held);
    return device_current()->failed;
}

EXPORT int hipThreadExchangeStreamCaptureMode(int *mode)
{
    ENTER();
    guard held(driver_lock);
    return capture_exchange_mode(mode);
}

/* -- kernels ---------------------------------------------------------------------------------------- */

EXPORT int hipModuleLoadData(void **module, const void *image)
{
    ENTER();
    return module_make(module, image);
}

EXPORT int hipModuleUnload(void *module)
{
    ENTER();
    return handle_drop(module);
}

EXPORT int hipModuleGetFunction(void **function, void *module, const char *name)
{
    ENTER();
    return module_find(function, module, name);
}

EXPORT int hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int threads, size_t)
{
    ENTER();
    return function_occupancy(blocks, function, threads);
}

EXPORT int hipModuleLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                 unsigned block_y, unsigned block_z, unsigned, void *stream, void **parameters, void **)
{
    ENTER_STREAM(stream);
    if (grid_y * grid_z * block_y * block_z != 1) {
        return NOT_SUPPORTED;
    }
    return function_launch(function, grid_x, block_x, false, parameters, *queue, held);
}

EXPORT int hipLaunchHostFunc(void *stream, void (*function)(void *), void *argument)
{
    ENTER_STREAM(stream);
    return submit_call(*queue, held, function, argument);
}

/* -- memory ----------------------------------------------------------------------------------------- */

EXPORT int hipMalloc(uint64_t *address, size_t bytes)
{
    ENTER();
    return allocation_make(address, bytes, memory_class::plain);
}

EXPORT int hipMallocManaged(uint64_t *address, size_t bytes, unsigned)
{
    ENTER();
    return allocation_make(address, bytes, memory_class::managed);
}

EXPORT int hipMallocAsync(uint64_t *address, size_t bytes, void *stream)
{
    ENTER();
    return pool_alloc(address, bytes, stream);
}

EXPORT int hipFreeAsync(uint64_t address, void *stream)
{
    ENTER();
    return pool_free(address, stream);
}

/* 0: ordinary, 1: fine-grained, 2: for signals, 3: uncached */
EXPORT int hipExtMallocWithFlags(uint64_t *address, size_t bytes, unsigned flags)
{
    ENTER();
    return flags <= 3 ? allocation_make(address, bytes, memory_class::plain) : (int)INVALID_VALUE;
}

EXPORT int hipFree(uint64_t address)
{
    ENTER();
    return allocation_free(address, memory_class::plain);
}

EXPORT int hipIpcGetMemHandle(struct ipc_handle *handle, uint64_t address)
{
    ENTER();
    return ipc_export(handle->bytes, address);
}

EXPORT int hipIpcOpenMemHandle(uint64_t *address, struct ipc_handle handle, unsigned)
{
    ENTER();
    return ipc_import(address, handle.bytes);
}

EXPORT int hipIpcCloseMemHandle(uint64_t address)
{
    ENTER();
    return ipc_close(address);
}

EXPORT int hipHostMalloc(void **memory, size_t bytes, unsigned)
{
    ENTER();
    return allocation_make(reinterpret_cast<uint64_t *>(memory), bytes, memory_class::host);
}

EXPORT int hipHostFree(void *memory)
{
    ENTER();
    return allocation_free(reinterpret_cast<uint64_t>(memory), memory_class::host);
}

EXPORT int hipHostGetDevicePointer(uint64_t *address, void *memory, unsigned)
{
    ENTER();
    *address = reinterpret_cast<uint64_t>(memory);
    return allocation_ask(*address).type == 1 ? SUCCESS : INVALID_VALUE;
}

EXPORT int hipMemsetD32Async(uint64_t address, int word, size_t count, void *stream)
{
    ENTER_STREAM(stream);
    return submit_fill(*queue, held, address, (uint32_t)word, count);
}

EXPORT int hipMemcpyDtoHAsync(void *to, uint64_t from, size_t bytes, void *stream)
{
    ENTER_STREAM(stream);
    return submit_copy(*queue, held, to, reinterpret_cast<const void *>(from), bytes);
}

EXPORT int hipMemcpyDtoDAsync(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    ENTER_STREAM(stream);
    return submit_copy(*queue, held, reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
}

EXPORT int hipMemcpyHtoDAsync(uint64_t to, const void *from, size_t bytes, void *stream)
{
    ENTER_STREAM(stream);
    return submit_copy(*queue, held, reinterpret_cast<void *>(to), from, bytes);
}

EXPORT int hipDrvPointerGetAttributes(unsigned count, int *attributes, void **places, uint64_t address)
{
    ENTER();
    for (unsigned at = 0; at < count; at++) {
        if (!pointer_answer(attributes[at], address, places[at])) {
            return INVALID_VALUE;
        }
    }
    return SUCCESS;
}

EXPORT int hipMemGetAddressRange(uint64_t *start, size_t *bytes, uint64_t address)
{
    ENTER();
    const struct simgpu::memory_answer answer = simgpu::allocation_ask(address);
    if (answer.type == 0) {
        return NOT_FOUND;
    }
    *start = answer.start;
    *bytes = answer.bytes;
    return SUCCESS;
}

/* -- streams and events ------------------------------------------------------------------------------ */

EXPORT int hipStreamCreateWithFlags(void **stream, unsigned flags)
{
    ENTER();
    return stream_make(stream, flags);
}

EXPORT int hipStreamDestroy(void *stream)
{
    ENTER_STREAM(stream);
    return stream == nullptr ? (int)INVALID_HANDLE : queue_destroy(queue, held);
}

EXPORT int hipStreamSynchronize(void *stream)
{
    ENTER_STREAM(stream);
    return queue_synchronize(*queue, held);
}

EXPORT int hipStreamQuery(void *stream)
{
    ENTER_STREAM(stream);
    return queue_query(*queue, held);
}

EXPORT int hipEventCreateWithFlags(void **event, unsigned)
{
    ENTER();
    return event_make(event);
}

EXPORT int hipEventDestroy(void *event)
{
    ENTER();
    return event_drop(event);
}

EXPORT int hipEventRecord(void *event, void *stream)
{
    ENTER_STREAM(stream);
    return event_find(event) == nullptr ? (int)INVALID_HANDLE : event_record(*event_find(event), *queue, held);
}

EXPORT int hipStreamWaitEvent(void *stream, void *event, unsigned)
{
    ENTER_STREAM(stream);
    return event_find(event) == nullptr ? (int)INVALID_HANDLE : event_wait(*event_find(event), *queue, held);
}

EXPORT int hipEventQuery(void *event)
{
    ENTER();
    guard held(driver_lock);
    return event_find(event) == nullptr ? (int)INVALID_HANDLE : event_query(*event_find(event), held);
}

EXPORT int hipEventSynchronize(void *event)
{
    ENTER();
    guard held(driver_lock);
    return event_find(event) == nullptr ? (int)INVALID_HANDLE : event_synchronize(*event_find(event), held);
}

/* -- capture and graphs ------------------------------------------------------------------------------- */

EXPORT int hipStreamBeginCapture(void *stream, int mode)
{
    ENTER_STREAM(stream);
    return capture_begin(*queue, mode);
}

EXPORT int hipStreamEndCapture(void *stream, void **graph)
{
    ENTER();
    return capture_finish(stream, graph);
}

EXPORT int hipStreamGetCaptureInfo_v2(void *stream, int *status, uint64_t *id, void **graph, void *const **nodes,
                                      size_t *count)
{
    ENTER();
    return capture_info(stream, status, id, graph, nodes, count);
}

EXPORT int hipStreamUpdateCaptureDependencies(void *stream, void **nodes, size_t count, unsigned flags)
{
    ENTER();
    return capture_depend(stream, nodes, count, flags);
}

EXPORT int hipGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long)
{
    ENTER();
    return graph_instantiate(executable, graph);
}

EXPORT int hipGraphUpload(void *, void *stream)
{
    ENTER_STREAM(stream);
    return SUCCESS;
}

EXPORT int hipGraphLaunch(void *executable, void *stream)
{
    ENTER();
    return executable_launch(executable, stream);
}

EXPORT int hipGraphExecDestroy(void *executable)
{
    ENTER();
    return executable_drop(executable);
}

EXPORT int hipGraphGetNodes(void *graph, void **nodes, size_t *count)
{
    ENTER();
    return graph_nodes(graph, nodes, count);
}

EXPORT int hipGraphGetEdges(void *graph, void **from, void **to, size_t *count)
{
    ENTER();
    return graph_edges(graph, from, to, count);
}

EXPORT int hipGraphNodeGetType(void *node, int *type)
{
    ENTER();
    return graph_node_type(node, type);
}

EXPORT int hipGraphMemAllocNodeGetParams(void *node, void *parameters)
{
    ENTER();
    return graph_node_memory(node, parameters);
}

EXPORT int hipGraphDestroy(void *graph)
{
    ENTER();
    return graph_drop(graph);
}

EXPORT int hipUserObjectCreate(void **object, void *pointer, void (*destroy)(void *), unsigned references, unsigned)
{
    ENTER();
    guard held(driver_lock);
    *object = object_create(pointer, destroy, references);
    return SUCCESS;
}

EXPORT int hipUserObjectRelease(void *object, unsigned references)
{
    ENTER();
    guard held(driver_lock);
    if (!handle_is(object)) {
        return INVALID_VALUE;
    }
    object_release(static_cast<struct user_object *>(object), references);
    return SUCCESS;
}

EXPORT int hipGraphRetainUserObject(void *graph, void *object, unsigned references, unsigned flags)
{
    ENTER();
    return graph_hold(graph, object, references, flags);
}
