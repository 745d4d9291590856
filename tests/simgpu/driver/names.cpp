/* SPDX-License-Identifier: Apache-2.0 */
#include "simgpu/driver/names.h"

#include <algorithm>
#include <stdlib.h>

namespace simgpu
{

int version_or(int usual)
{
    const char *text = getenv("SIMGPU_VERSION");
    return text != nullptr ? (int)strtol(text, nullptr, 10) : usual;
}

const char *result_name(int result)
{
    static const struct {
        int result;
        const char *cuda, *hip;
    } names[] = {
        {SUCCESS, "CUDA_SUCCESS", "hipSuccess"},
        {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "hipErrorInvalidValue"},
        {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "hipErrorOutOfMemory"},
        {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "hipErrorNotInitialized"},
        {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "hipErrorNoDevice"},
        {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "hipErrorInvalidDevice"},
        {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "hipErrorInvalidContext"},
        {ALREADY_MAPPED, "CUDA_ERROR_ALREADY_MAPPED", "hipErrorAlreadyMapped"},
        {NO_BINARY, "CUDA_ERROR_NO_BINARY_FOR_GPU", "hipErrorNoBinaryForGpu"},
        {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "hipErrorInvalidHandle"},
        {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "hipErrorIllegalState"},
        {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "hipErrorNotFound"},
        {NOT_READY, "CUDA_ERROR_NOT_READY", "hipErrorNotReady"},
        {PEER_ACCESS_ALREADY_ENABLED, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "hipErrorPeerAccessAlreadyEnabled"},
        {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "hipErrorLaunchFailure"},
        {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "hipErrorNotSupported"},
        {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "hipErrorStreamCaptureUnsupported"},
        {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "hipErrorStreamCaptureInvalidated"},
        {CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE", "hipErrorStreamCaptureMerge"},
        {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "hipErrorStreamCaptureUnmatched"},
        {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "hipErrorStreamCaptureUnjoined"},
        {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "hipErrorStreamCaptureIsolation"},
        {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "hipErrorStreamCaptureImplicit"},
        {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "hipErrorCapturedEvent"},
        {CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "hipErrorStreamCaptureWrongThread"},
    };
    for (const auto &name : names) {
        if (name.result == result) {
            return driver_is_hip ? name.hip : name.cuda;
        }
    }
    return nullptr;
}

template <class Type> static void put(void *place, Type value)
{
    memcpy(place, &value, sizeof(value));
}

bool pointer_answer(int attribute, uint64_t address, void *place)
{
    const struct memory_answer answer = allocation_ask(address);
    switch (attribute) {
    case 2:
        put<uint32_t>(place, answer.type);
        return true;
    case 3: /* device pointer */
        put<uint64_t>(place, answer.type != 0 ? address : 0);
        return true;
    case 7: /* buffer number */
        put<uint64_t>(place, answer.number);
        return true;
    case 8:
        put<uint8_t>(place, answer.managed);
        return true;
    case 9:
        put<int32_t>(place, answer.ordinal);
        return true;
    case 10:
        put<uint8_t>(place, answer.ipc_capable);
        return true;
    case 11:
        put<uint64_t>(place, answer.start);
        return true;
    case 12: /* HIP's runtime writes the lower half (clr, hipPointerGetAttributes) */
        driver_is_hip ? put<uint32_t>(place, (uint32_t)answer.bytes) : put<uint64_t>(place, answer.bytes);
        return true;
    case 13: /* mapped */
        put<uint8_t>(place, answer.type != 0);
        return true;
    case 14:
        put<uint64_t>(place, answer.handle_types);
        return true;
    case 17:
        put<uint64_t>(place, answer.pooled ? 1 : 0);
        return true;
    default:
        return false;
    }
}

int submit_fill(struct queue &queue, guard &held, uint64_t address, uint32_t word, size_t count)
{
    return queue_submit(queue, held, NODE_MEMSET, [address, word, count](struct queue &) {
        uint32_t *words = reinterpret_cast<uint32_t *>(address);
        std::fill(words, words + count, word);
        return (int)SUCCESS;
    });
}

int submit_call(struct queue &queue, guard &held, void (*function)(void *), void *argument)
{
    return queue_submit(queue, held, NODE_HOST, [function, argument](struct queue &) {
        function(argument);
        return (int)SUCCESS;
    });
}

int submit_copy(struct queue &queue, guard &held, void *to, const void *from, size_t bytes)
{
    return queue_submit(queue, held, NODE_MEMCPY, [to, from, bytes](struct queue &) {
        memcpy(to, from, bytes);
        return (int)SUCCESS;
    });
}

int pool_alloc(uint64_t *address, size_t bytes, void *stream)
{
    guard held(driver_lock);
    int result = SUCCESS;
    struct queue *queue = queue_find(stream, &result);
    if (queue == nullptr) {
        return result;
    }
    if (queue->capture == nullptr) {
        held.unlock();
        return allocation_make(address, bytes, memory_class::pool);
    }
    uint64_t made = 0;
    result = graph_memory_reserve(&made, bytes, queue->device->ordinal);
    result = result != SUCCESS ? result : capture_add(*queue, NODE_ALLOCATES, [made](struct queue &) {
        guard inside(driver_lock);
        return graph_memory_appear(made);
    });
    if (result == SUCCESS) {
        struct node &node = *queue->capture->graph->body->nodes.back();
        node.memory = made;
        node.memory_bytes = bytes;
        node.memory_ordinal = queue->device->ordinal;
        *address = made;
    }
    return result;
}

int pool_free(uint64_t address, void *stream)
{
    guard held(driver_lock);
    int result = SUCCESS;
    struct queue *queue = queue_find(stream, &result);
    if (queue == nullptr) {
        return result;
    }
    if (queue->capture == nullptr) {
        held.unlock();
        return allocation_free(address, memory_class::pool);
    }
    return capture_add(*queue, NODE_FREES, [address](struct queue &) {
        guard inside(driver_lock);
        return graph_memory_vanish(address);
    });
}

/* CUDA_MEM_ALLOC_NODE_PARAMS: the device at 12, the size at 104, the address at 112. */
int graph_node_memory(void *handle, void *parameters)
{
    const struct node *node = static_cast<struct node *>(handle);
    if (node->type != NODE_ALLOCATES) {
        return INVALID_VALUE;
    }
    guard held(driver_lock);
    char *at = static_cast<char *>(parameters);
    int32_t ordinal = node->memory_ordinal;
    uint64_t bytes = node->memory_bytes;
    memset(at, 0, 120);
    memcpy(at + 12, &ordinal, sizeof(ordinal));
    memcpy(at + 104, &bytes, sizeof(bytes));
    memcpy(at + 112, &node->memory, sizeof(node->memory));
    return SUCCESS;
}

/* Neither vendor says which capture it is that has been invalidated (H100, driver 580; clr, hipStreamGetCaptureInfo_v2). */
int capture_info(void *stream, int *status, uint64_t *id, void **graph, void *const **nodes, size_t *count)
{
    guard held(driver_lock);
    int result = SUCCESS;
    struct queue *queue = queue_find(stream, &result);
    if (queue == nullptr) {
        return result;
    }
    /* The legacy stream cannot be asked while another one, that it would wait for, captures. */
    if (queue->legacy && capture_check_legacy(*queue->device) != SUCCESS) {
        return CAPTURE_IMPLICIT;
    }
    const struct capture *capture = queue->capture;
    *status = capture == nullptr ? 0 : capture->invalidated ? 2 : 1;
    if (*status == 1) {
        *id = capture->id;
    }
    if (*status == 1) {
        if (graph != nullptr) {
            *graph = capture->graph;
        }
        if (nodes != nullptr) {
            queue->told.reset(new struct node *[queue->frontier.size()]);
            std::copy(queue->frontier.begin(), queue->frontier.end(), queue->told.get());
            *nodes = reinterpret_cast<void *const *>(queue->told.get());
            *count = queue->frontier.size();
        }
    }
    return SUCCESS;
}

int capture_depend(void *stream, void **nodes, size_t count, unsigned flags)
{
    guard held(driver_lock);
    int result = SUCCESS;
    struct queue *queue = queue_find(stream, &result);
    if (queue == nullptr || queue->capture == nullptr || queue->capture->invalidated) {
        return queue == nullptr ? result : queue->capture == nullptr ? ILLEGAL_STATE : CAPTURE_INVALIDATED;
    }
    const std::vector<std::unique_ptr<struct node>> &known = queue->capture->graph->body->nodes;
    std::vector<struct node *> frontier = flags == 0 ? queue->frontier : std::vector<struct node *>();
    for (size_t at = 0; at < count; at++) {
        struct node *node = static_cast<struct node *>(nodes[at]);
        auto same = [node](const std::unique_ptr<struct node> &other) { return other.get() == node; };
        if (std::find_if(known.begin(), known.end(), same) == known.end()) {
            return INVALID_VALUE;
        }
        if (std::find(frontier.begin(), frontier.end(), node) == frontier.end()) {
            frontier.push_back(node);
        }
    }
    queue->frontier.swap(frontier);
    return SUCCESS;
}

int stream_make(void **stream, unsigned flags)
{
    guard held(driver_lock);
    struct device *device = device_current();
    if (device == nullptr) {
        return INVALID_CONTEXT;
    }
    *stream = queue_create(device, (flags & 1) != 0, false);
    return SUCCESS;
}

int event_make(void **event)
{
    guard held(driver_lock);
    if (device_current() == nullptr) {
        return INVALID_CONTEXT;
    }
    *event = new struct event();
    handle_add(*event);
    return SUCCESS;
}

struct event *event_find(void *handle)
{
    return handle_is(handle) ? static_cast<struct event *>(handle) : nullptr;
}

int event_drop(void *event)
{
    guard held(driver_lock);
    if (!handle_is(event)) {
        driver_misused("the end of an event");
    }
    handle_remove(event);
    delete static_cast<struct event *>(event);
    return SUCCESS;
}

int capture_finish(void *stream, void **graph)
{
    guard held(driver_lock);
    int result = SUCCESS;
    struct queue *queue = queue_find(stream, &result);
    struct graph *made = nullptr;
    result = queue == nullptr ? result : capture_end(*queue, &made);
    *graph = made;
    return result;
}

/* What a driver sets aside for a node; which it does is its own affair, that it does is not. */
#define NODE_BYTES 512

int graph_instantiate(void **executable, void *graph)
{
    guard held(driver_lock);
    struct device *device = device_current();
    if (!handle_is(graph) || device == nullptr) {
        return device == nullptr ? INVALID_CONTEXT : INVALID_HANDLE;
    }
    struct executable *made = new simgpu::executable{static_cast<struct graph *>(graph)->body, nullptr, device};
    device->graph_bytes += made->body->nodes.size() * NODE_BYTES;
    *executable = made;
    handle_add(made);
    return SUCCESS;
}

/* With places: as many as *count says. Without: only how many there are. */
int graph_nodes(void *graph, void **nodes, size_t *count)
{
    guard held(driver_lock);
    if (!handle_is(graph)) {
        return INVALID_VALUE;
    }
    const std::vector<std::unique_ptr<struct node>> &known = static_cast<struct graph *>(graph)->body->nodes;
    for (size_t at = 0; nodes != nullptr && at < *count; at++) {
        nodes[at] = at < known.size() ? known[at].get() : nullptr;
    }
    *count = nodes != nullptr ? std::min(*count, known.size()) : known.size();
    return SUCCESS;
}

int graph_edges(void *graph, void **from, void **to, size_t *count)
{
    guard held(driver_lock);
    if (!handle_is(graph)) {
        return INVALID_VALUE;
    }
    size_t found = 0;
    for (const std::unique_ptr<struct node> &node : static_cast<struct graph *>(graph)->body->nodes) {
        for (struct node *before : node->depends) {
            if (from != nullptr && to != nullptr && found < *count) {
                from[found] = before;
                to[found] = node.get();
            }
            found++;
        }
    }
    *count = from != nullptr && to != nullptr ? std::min(*count, found) : found;
    return SUCCESS;
}

int graph_node_type(void *node, int *type)
{
    *type = static_cast<struct node *>(node)->type;
    return SUCCESS;
}

/* The graph goes without the lock: what it holds may need it. */
int graph_drop(void *graph)
{
    {
        guard held(driver_lock);
        if (!handle_is(graph)) {
            driver_misused("the end of a graph");
        }
        handle_remove(graph);
    }
    delete static_cast<struct graph *>(graph);
    return SUCCESS;
}

int executable_drop(void *executable)
{
    {
        guard held(driver_lock);
        if (!handle_is(executable)) {
            driver_misused("the end of an executable graph");
        }
        handle_remove(executable);
        struct executable *gone = static_cast<struct executable *>(executable);
        gone->device->graph_bytes -= gone->body->nodes.size() * NODE_BYTES;
    }
    delete static_cast<struct executable *>(executable);
    return SUCCESS;
}

int executable_launch(void *executable, void *stream)
{
    guard held(driver_lock);
    int result = SUCCESS;
    struct queue *queue = queue_find(stream, &result);
    if (queue == nullptr || !handle_is(executable)) {
        return queue == nullptr ? result : INVALID_HANDLE;
    }
    return graph_launch(*static_cast<struct executable *>(executable), *queue, held);
}

/* flags 1: the caller's references become the graph's. */
int graph_hold(void *graph, void *object, unsigned references, unsigned flags)
{
    guard held(driver_lock);
    if (!handle_is(graph) || !handle_is(object) || references == 0) {
        return INVALID_VALUE;
    }
    struct user_object *what = static_cast<struct user_object *>(object);
    if ((flags & 1) == 0) {
        what->references += references;
    }
    for (unsigned turn = 0; turn < references; turn++) {
        static_cast<struct graph *>(graph)->body->objects.push_back(what);
    }
    return SUCCESS;
}

int handle_drop(void *module)
{
    guard held(driver_lock);
    if (!handle_is(module)) {
        driver_misused("the end of a module");
    }
    handle_remove(module);
    delete static_cast<char *>(module);
    return SUCCESS;
}

} // namespace simgpu
