/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/gpu.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check.h"

#define STREAM_NON_BLOCKING 1u
#define EVENT_DISABLE_TIMING 2u

#define ATTRIBUTE_PROGRAMMATIC 6

/* CUlaunchConfig and CUlaunchAttribute. */
struct attribute {
    int id, padding;
    union {
        int value;
        uint64_t bytes[8];
    } value;
};
struct launch {
    unsigned grid[3], block[3];
    unsigned shared_bytes;
    void *stream;
    struct attribute *attributes;
    unsigned attribute_count;
};

/* Both vendors' calls have these forms. */
struct calls {
    int (*init)(unsigned flags);
    int (*count)(int *count);
    int (*device)(int *device, int ordinal);   /* CUDA */
    int (*retain)(void **context, int device); /* CUDA */
    int (*make_current)(void *context);        /* CUDA */
    int (*use)(int ordinal);                   /* HIP */
    int (*alloc)(uint64_t *address, size_t bytes);
    int (*free)(uint64_t address);
    int (*stream_create)(void **stream, unsigned flags);
    int (*stream_destroy)(void *stream);
    int (*stream_wait)(void *stream);
    int (*to_device)(uint64_t device, const void *host, size_t bytes, void *stream);
    int (*to_host)(void *host, uint64_t device, size_t bytes, void *stream);
    int (*stream_query)(void *stream);
    int (*memory_info)(size_t *free_bytes, size_t *all_bytes);
    int (*capture_info)(void *stream, int *status, uint64_t *id, void **graph, void *const **nodes, size_t *count);
    int (*capture_begin)(void *stream, int mode);
    int (*capture_end)(void *stream, void **graph);
    int (*instantiate)(void **executable, void *graph, unsigned long long flags);
    int (*upload)(void *executable, void *stream);
    int (*launch)(void *executable, void *stream);
    int (*executable_destroy)(void *executable);
    int (*graph_destroy)(void *graph);
    int (*module_load)(void **module, const char *path);
    int (*module_kernel)(void **kernel, void *module, const char *name);
    int (*launch_kernel)(void *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                         unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream, void **parameters,
                         void **extra);
    int (*launch_with)(const struct launch *launch, void *kernel, void **parameters, void **extra); /* CUDA */
    int (*event_create)(void **event, unsigned flags);
    int (*event_record)(void *event, void *stream);
    int (*event_wait)(void *stream, void *event, unsigned flags);
    int (*event_destroy)(void *event);
};

#define ENTRY(member, cuda, hip)                                                                                       \
    {                                                                                                                  \
        offsetof(struct calls, member), cuda, hip, true                                                                \
    }
#define OPTIONAL(member, cuda, hip)                                                                                    \
    {                                                                                                                  \
        offsetof(struct calls, member), cuda, hip, false                                                               \
    }
static const struct {
    size_t offset;
    const char *cuda, *hip;
    bool required;
} entries[] = {
    ENTRY(init, "cuInit", "hipInit"),
    ENTRY(count, "cuDeviceGetCount", "hipGetDeviceCount"),
    ENTRY(device, "cuDeviceGet", NULL),
    ENTRY(retain, "cuDevicePrimaryCtxRetain", NULL),
    ENTRY(make_current, "cuCtxSetCurrent", NULL),
    ENTRY(use, NULL, "hipSetDevice"),
    ENTRY(alloc, "cuMemAlloc_v2", "hipMalloc"),
    ENTRY(free, "cuMemFree_v2", "hipFree"),
    ENTRY(stream_create, "cuStreamCreate", "hipStreamCreateWithFlags"),
    ENTRY(stream_destroy, "cuStreamDestroy_v2", "hipStreamDestroy"),
    ENTRY(stream_wait, "cuStreamSynchronize", "hipStreamSynchronize"),
    ENTRY(to_device, "cuMemcpyHtoDAsync_v2", "hipMemcpyHtoDAsync"),
    ENTRY(to_host, "cuMemcpyDtoHAsync_v2", "hipMemcpyDtoHAsync"),
    ENTRY(stream_query, "cuStreamQuery", "hipStreamQuery"),
    ENTRY(memory_info, "cuMemGetInfo_v2", "hipMemGetInfo"),
    ENTRY(capture_info, "cuStreamGetCaptureInfo_v2", "hipStreamGetCaptureInfo_v2"),
    ENTRY(capture_begin, "cuStreamBeginCapture_v2", "hipStreamBeginCapture"),
    ENTRY(capture_end, "cuStreamEndCapture", "hipStreamEndCapture"),
    ENTRY(instantiate, "cuGraphInstantiateWithFlags", "hipGraphInstantiateWithFlags"),
    ENTRY(upload, "cuGraphUpload", "hipGraphUpload"),
    ENTRY(launch, "cuGraphLaunch", "hipGraphLaunch"),
    ENTRY(executable_destroy, "cuGraphExecDestroy", "hipGraphExecDestroy"),
    ENTRY(graph_destroy, "cuGraphDestroy", "hipGraphDestroy"),
    OPTIONAL(module_load, "cuModuleLoad", "hipModuleLoad"),
    OPTIONAL(module_kernel, "cuModuleGetFunction", "hipModuleGetFunction"),
    OPTIONAL(launch_kernel, "cuLaunchKernel", "hipModuleLaunchKernel"),
    OPTIONAL(launch_with, "cuLaunchKernelEx", NULL),
    ENTRY(event_create, "cuEventCreate", "hipEventCreateWithFlags"),
    ENTRY(event_record, "cuEventRecord", "hipEventRecord"),
    ENTRY(event_wait, "cuStreamWaitEvent", "hipStreamWaitEvent"),
    ENTRY(event_destroy, "cuEventDestroy_v2", "hipEventDestroy"),
};

static struct calls calls;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
static bool loaded;

static void *library_open(bool cuda)
{
    const char *given = getenv(cuda ? "TUTTI_CUDA_LIBRARY" : "TUTTI_HIP_LIBRARY");
    const char *usual = cuda ? "libcuda.so.1" : "libamdhip64.so";
    return dlopen(given != NULL && given[0] != 0 ? given : usual, RTLD_NOW | RTLD_LOCAL);
}

/* Under the lock. */
static bool load_once(const char *backend, char *why, size_t why_bytes)
{
    bool cuda = strcmp(backend, "cuda") == 0;
    void *library = library_open(cuda);
    if (library == NULL) {
        (void)snprintf(why, why_bytes, "%s", dlerror());
        return false;
    }
    for (size_t index = 0; index < sizeof(entries) / sizeof(entries[0]); index++) {
        const char *name = cuda ? entries[index].cuda : entries[index].hip;
        void *found = name != NULL ? dlsym(library, name) : NULL;
        if (name != NULL && found == NULL && entries[index].required) {
            (void)snprintf(why, why_bytes, "the driver has no %s", name);
            return false;
        }
        memcpy((char *)&calls + entries[index].offset, &found, sizeof(found));
    }
    int result = calls.init(0);
    (void)snprintf(why, why_bytes, "initialising the driver: error %d", result);
    return result == 0;
}

static bool load(const char *backend, char *why, size_t why_bytes)
{
    (void)pthread_mutex_lock(&loading);
    loaded = loaded || load_once(backend, why, why_bytes);
    bool done = loaded;
    (void)pthread_mutex_unlock(&loading);
    return done;
}

int gpu_count(const char *backend, char *why, size_t why_bytes)
{
    int pipe_fds[2];
    int count = 0;
    CHECK(pipe(pipe_fds) == 0, "pipe");
    (void)fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        char text[256] = "";
        if (!load(backend, text, sizeof(text)) || calls.count(&count) != 0) {
            count = 0;
        }
        (void)!write(pipe_fds[1], text, sizeof(text));
        _exit(count > 100 ? 100 : count);
    }
    (void)close(pipe_fds[1]);
    char text[256] = "";
    (void)!read(pipe_fds[0], text, sizeof(text));
    (void)close(pipe_fds[0]);
    int state = 0;
    CHECK(waitpid(child, &state, 0) == child, "waitpid");
    count = WIFEXITED(state) ? WEXITSTATUS(state) : 0;
    (void)snprintf(why, why_bytes, "%.200s", count > 0 ? "" : text[0] != 0 ? text : "no device");
    return count;
}

#define DO(call)                                                                                                       \
    do {                                                                                                               \
        int do_result = calls.call;                                                                                    \
        CHECK(do_result == 0, "%s: driver error %d", #call, do_result);                                                \
    } while (0)

static uint64_t address_of(const void *memory)
{
    return (uint64_t)(uintptr_t)memory;
}

void gpu_use(const char *backend, int ordinal)
{
    char why[256];
    CHECK(load(backend, why, sizeof(why)), "%s", why);
    if (calls.use != NULL) {
        DO(use(ordinal));
        return;
    }
    int device = 0;
    void *context = NULL;
    DO(device(&device, ordinal));
    DO(retain(&context, device)); /* for as long as the process lives */
    DO(make_current(context));
}

unsigned char *gpu_alloc(size_t bytes)
{
    uint64_t address = 0;
    DO(alloc(&address, bytes));
    return (unsigned char *)(uintptr_t)address;
}

void gpu_free(void *memory)
{
    DO(free(address_of(memory)));
}

uint64_t gpu_used_bytes(void)
{
    size_t free_bytes = 0;
    size_t all_bytes = 0;
    DO(memory_info(&free_bytes, &all_bytes));
    return all_bytes - free_bytes;
}

tutti_stream gpu_stream_create(void)
{
    void *stream = NULL;
    DO(stream_create(&stream, STREAM_NON_BLOCKING));
    return stream;
}

void gpu_stream_destroy(tutti_stream stream)
{
    DO(stream_destroy(stream));
}

void gpu_stream_wait(tutti_stream stream)
{
    DO(stream_wait(stream));
}

void gpu_upload(void *device, const void *host, size_t bytes, tutti_stream stream)
{
    DO(to_device(address_of(device), host, bytes, stream));
}

void gpu_download(void *host, const void *device, size_t bytes, tutti_stream stream)
{
    /* Before the copy, which may hold a lock of the driver while it waits: the peer that this waits for needs that lock. */
    gpu_stream_wait(stream);
    DO(to_host(host, address_of(device), bytes, stream));
    gpu_stream_wait(stream);
}

void gpu_capture_begin(tutti_stream stream, enum gpu_capture_mode mode)
{
    DO(capture_begin(stream, (int)mode));
}

gpu_graph gpu_capture_end(tutti_stream stream)
{
    void *graph = NULL;
    void *executable = NULL;
    DO(capture_end(stream, &graph));
    CHECK(graph != NULL, "the capture was invalidated");
    DO(instantiate(&executable, graph, 0));
    DO(graph_destroy(graph));
    DO(upload(executable, stream));
    gpu_stream_wait(stream);
    return executable;
}

void gpu_capture_drop(tutti_stream stream)
{
    void *graph = NULL;
    (void)calls.capture_end(stream, &graph);
    if (graph != NULL) {
        DO(graph_destroy(graph));
    }
}

void gpu_capture_spoil(tutti_stream stream)
{
    int result = calls.stream_query(stream);
    CHECK(result >= 900 && result <= 908, "a stream that captures says %d to a question", result);
}

bool gpu_stream_captures(tutti_stream stream)
{
    int status = 0;
    uint64_t id = 0;
    DO(capture_info(stream, &status, &id, NULL, NULL, NULL));
    return status != 0;
}

void gpu_graph_launch(gpu_graph graph, tutti_stream stream)
{
    DO(launch(graph, stream));
}

void gpu_graph_destroy(gpu_graph graph)
{
    DO(executable_destroy(graph));
}

gpu_module gpu_module_load(const char *path, char *why, size_t why_bytes)
{
    void *module = NULL;
    int result = calls.module_load != NULL ? calls.module_load(&module, path) : -1; /* simulated drivers have no code */
    if (result != 0) {
        (void)snprintf(why, why_bytes, "driver error %d", result);
        return NULL;
    }
    return module;
}

gpu_kernel gpu_kernel_find(gpu_module module, const char *name)
{
    void *kernel = NULL;
    DO(module_kernel(&kernel, module, name));
    return kernel;
}

void gpu_launch(gpu_kernel kernel, unsigned blocks, unsigned threads, tutti_stream stream, void **parameters)
{
    DO(launch_kernel(kernel, blocks, 1, 1, threads, 1, 1, 0, stream, parameters, NULL));
}

void gpu_launch_programmatic(gpu_kernel kernel, tutti_stream stream, void **parameters)
{
    struct attribute attribute = {.id = ATTRIBUTE_PROGRAMMATIC, .value = {.value = 1}};
    struct launch launch = {
        .grid = {1, 1, 1}, .block = {32, 1, 1}, .stream = stream, .attributes = &attribute, .attribute_count = 1};
    DO(launch_with(&launch, kernel, parameters, NULL));
}

void gpu_stream_follow(tutti_stream joined, tutti_stream stream)
{
    void *event = NULL;
    DO(event_create(&event, EVENT_DISABLE_TIMING));
    DO(event_record(event, stream));
    DO(event_wait(joined, event, 0));
    DO(event_destroy(event));
}
