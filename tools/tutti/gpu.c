/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICES_MAX 64
#define STREAM_NON_BLOCKING 1u
#define EVENT_DISABLE_TIMING 2u
#define HOST_PORTABLE_MAPPED 3u /* both vendors number these flags alike */
#define NOT_READY 600
#define PAGES_BYTES ((size_t)2 << 20) /* what virtual memory comes in multiples of */

/* Of virtual memory; both vendors lay them out alike. */
struct location {
    int type, id;
};
struct page_properties {
    int type, handle_types;
    struct location location;
    void *reserved_pointer;
    uint8_t reserved[8];
};
struct page_access {
    struct location location;
    int flags;
};
#define LOCATION_DEVICE 1
#define PAGES_PINNED 1
#define PAGES_AS_DESCRIPTOR 1
#define PAGES_READ_WRITE 3

typedef void (*host_function)(void *argument);

/* Both vendors' calls have these forms; 0 is success. */
struct calls {
    int (*init)(unsigned flags);
    int (*version)(int *version);
    int (*error_name)(int result, const char **name); /* CUDA */
    const char *(*error_text)(int result);            /* HIP */
    int (*count)(int *count);
    int (*device)(int *device, int ordinal);   /* CUDA */
    int (*retain)(void **context, int device); /* CUDA */
    int (*make_current)(void *context);        /* CUDA */
    int (*use)(int ordinal);                   /* HIP */
    int (*device_name)(char *name, int bytes, int device);
    int (*memory)(size_t *free_bytes, size_t *all_bytes);
    int (*alloc)(uint64_t *address, size_t bytes);
    int (*free)(uint64_t address);
    int (*pages_reserve)(uint64_t *address, size_t bytes, size_t alignment, uint64_t hint, unsigned long long flags);
    int (*pages_unreserve)(uint64_t address, size_t bytes);
    int (*pages_create)(uint64_t *handle, size_t bytes, const struct page_properties *properties,
                        unsigned long long flags);
    int (*pages_release)(uint64_t handle);
    int (*pages_map)(uint64_t address, size_t bytes, size_t offset, uint64_t handle, unsigned long long flags);
    int (*pages_unmap)(uint64_t address, size_t bytes);
    int (*pages_access)(uint64_t address, size_t bytes, const struct page_access *access, size_t count);
    int (*host_alloc)(void **memory, size_t bytes, unsigned flags);
    int (*host_free)(void *memory);
    int (*to_device)(uint64_t device, const void *host, size_t bytes, void *stream);
    int (*to_host)(void *host, uint64_t device, size_t bytes, void *stream);
    int (*within)(uint64_t to, uint64_t from, size_t bytes, void *stream);
    int (*fill)(uint64_t device, unsigned word, size_t words, void *stream);
    int (*stream_create)(void **stream, unsigned flags);
    int (*stream_destroy)(void *stream);
    int (*stream_wait)(void *stream);
    int (*host_launch)(void *stream, host_function function, void *argument);
    int (*event_create)(void **event, unsigned flags);
    int (*event_destroy)(void *event);
    int (*event_record)(void *event, void *stream);
    int (*event_wait)(void *event);
    int (*event_query)(void *event);
    int (*stream_follow)(void *stream, void *event, unsigned flags);
    int (*event_elapsed)(float *ms, void *from, void *to);
    int (*capture_begin)(void *stream, int mode);
    int (*capture_end)(void *stream, void **graph);
    int (*instantiate)(void **executable, void *graph, unsigned long long flags);
    int (*upload)(void *executable, void *stream);
    int (*graph_launch)(void *executable, void *stream);
    int (*executable_destroy)(void *executable);
    int (*graph_destroy)(void *graph);
    int (*module_load)(void **module, const void *image);
    int (*module_unload)(void *module);
    int (*module_function)(void **function, void *module, const char *name);
    int (*occupancy)(int *blocks, void *function, int threads, size_t shared_bytes);
    int (*launch)(void *function, unsigned x, unsigned y, unsigned z, unsigned threads_x, unsigned threads_y,
                  unsigned threads_z, unsigned shared_bytes, void *stream, void **parameters, void **extra);
};

#define ENTRY(member, cuda, hip)                                                                                       \
    {                                                                                                                  \
        offsetof(struct calls, member), cuda, hip                                                                      \
    }
static const struct entry {
    size_t offset;
    const char *cuda, *hip;
} entries[] = {
    ENTRY(init, "cuInit", "hipInit"),
    ENTRY(version, "cuDriverGetVersion", "hipRuntimeGetVersion"),
    ENTRY(error_name, "cuGetErrorName", NULL),
    ENTRY(error_text, NULL, "hipGetErrorName"),
    ENTRY(count, "cuDeviceGetCount", "hipGetDeviceCount"),
    ENTRY(device, "cuDeviceGet", NULL),
    ENTRY(retain, "cuDevicePrimaryCtxRetain", NULL),
    ENTRY(make_current, "cuCtxSetCurrent", NULL),
    ENTRY(use, NULL, "hipSetDevice"),
    ENTRY(device_name, "cuDeviceGetName", "hipDeviceGetName"),
    ENTRY(memory, "cuMemGetInfo_v2", "hipMemGetInfo"),
    ENTRY(alloc, "cuMemAlloc_v2", "hipMalloc"),
    ENTRY(free, "cuMemFree_v2", "hipFree"),
    ENTRY(pages_reserve, "cuMemAddressReserve", "hipMemAddressReserve"),
    ENTRY(pages_unreserve, "cuMemAddressFree", "hipMemAddressFree"),
    ENTRY(pages_create, "cuMemCreate", "hipMemCreate"),
    ENTRY(pages_release, "cuMemRelease", "hipMemRelease"),
    ENTRY(pages_map, "cuMemMap", "hipMemMap"),
    ENTRY(pages_unmap, "cuMemUnmap", "hipMemUnmap"),
    ENTRY(pages_access, "cuMemSetAccess", "hipMemSetAccess"),
    ENTRY(host_alloc, "cuMemHostAlloc", "hipHostMalloc"),
    ENTRY(host_free, "cuMemFreeHost", "hipHostFree"),
    ENTRY(to_device, "cuMemcpyHtoDAsync_v2", "hipMemcpyHtoDAsync"),
    ENTRY(to_host, "cuMemcpyDtoHAsync_v2", "hipMemcpyDtoHAsync"),
    ENTRY(within, "cuMemcpyDtoDAsync_v2", "hipMemcpyDtoDAsync"),
    ENTRY(fill, "cuMemsetD32Async", "hipMemsetD32Async"),
    ENTRY(stream_create, "cuStreamCreate", "hipStreamCreateWithFlags"),
    ENTRY(stream_destroy, "cuStreamDestroy_v2", "hipStreamDestroy"),
    ENTRY(stream_wait, "cuStreamSynchronize", "hipStreamSynchronize"),
    ENTRY(host_launch, "cuLaunchHostFunc", "hipLaunchHostFunc"),
    ENTRY(event_create, "cuEventCreate", "hipEventCreateWithFlags"),
    ENTRY(event_destroy, "cuEventDestroy_v2", "hipEventDestroy"),
    ENTRY(event_record, "cuEventRecord", "hipEventRecord"),
    ENTRY(event_wait, "cuEventSynchronize", "hipEventSynchronize"),
    ENTRY(event_query, "cuEventQuery", "hipEventQuery"),
    ENTRY(stream_follow, "cuStreamWaitEvent", "hipStreamWaitEvent"),
    ENTRY(event_elapsed, "cuEventElapsedTime", "hipEventElapsedTime"),
    ENTRY(capture_begin, "cuStreamBeginCapture_v2", "hipStreamBeginCapture"),
    ENTRY(capture_end, "cuStreamEndCapture", "hipStreamEndCapture"),
    ENTRY(instantiate, "cuGraphInstantiateWithFlags", "hipGraphInstantiateWithFlags"),
    ENTRY(upload, "cuGraphUpload", "hipGraphUpload"),
    ENTRY(graph_launch, "cuGraphLaunch", "hipGraphLaunch"),
    ENTRY(executable_destroy, "cuGraphExecDestroy", "hipGraphExecDestroy"),
    ENTRY(graph_destroy, "cuGraphDestroy", "hipGraphDestroy"),
    ENTRY(module_load, "cuModuleLoadData", "hipModuleLoadData"),
    ENTRY(module_unload, "cuModuleUnload", "hipModuleUnload"),
    ENTRY(module_function, "cuModuleGetFunction", "hipModuleGetFunction"),
    ENTRY(occupancy, "cuOccupancyMaxActiveBlocksPerMultiprocessor",
          "hipModuleOccupancyMaxActiveBlocksPerMultiprocessor"),
    ENTRY(launch, "cuLaunchKernel", "hipModuleLaunchKernel"),
};
#define ENTRY_COUNT (sizeof(entries) / sizeof(entries[0]))

static struct {
    struct calls calls;
    bool ready, cuda;
    void *contexts[DEVICES_MAX]; /* CUDA: primary contexts retained so far */
} driver;
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local char sentence[512];

const char *gpu_error(void)
{
    return sentence;
}

static bool refuse(const char *what)
{
    (void)snprintf(sentence, sizeof(sentence), "%s", what);
    return false;
}

/* -- calls ---------------------------------------------------------------------------------------- */

static const char *symbol_of(size_t offset)
{
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        if (entries[i].offset == offset) {
            const char *name = driver.cuda ? entries[i].cuda : entries[i].hip;
            return name != NULL ? name : entries[i].cuda;
        }
    }
    return "a call";
}

static bool check(size_t offset, int result)
{
    if (result == 0) {
        return true;
    }
    const char *name = NULL;
    if (driver.calls.error_name != NULL && driver.calls.error_name(result, &name) != 0) {
        name = NULL;
    }
    if (driver.calls.error_text != NULL) {
        name = driver.calls.error_text(result);
    }
    (void)snprintf(sentence, sizeof(sentence), "%s: %s (error %d)", symbol_of(offset), name != NULL ? name : "unknown",
                   result);
    return false;
}

static bool missing(size_t offset)
{
    (void)snprintf(sentence, sizeof(sentence), "the driver has no %s", symbol_of(offset));
    return false;
}

/* A driver without the symbol fails this call alone. */
#define CALL(entry, ...)                                                                                               \
    (driver.calls.entry == NULL ? missing(offsetof(struct calls, entry))                                               \
                                : check(offsetof(struct calls, entry), driver.calls.entry(__VA_ARGS__)))

static uint64_t address_of(const void *memory)
{
    return (uint64_t)(uintptr_t)memory;
}

/* -- devices -------------------------------------------------------------------------------------- */

/* Under the lock. */
static bool open_once(const char *backend)
{
    bool cuda = strcmp(backend, "cuda") == 0;
    if (driver.ready) {
        return driver.cuda == cuda || refuse("this process already uses the other vendor's driver");
    }
    const char *given = getenv(cuda ? "TUTTI_CUDA_LIBRARY" : "TUTTI_HIP_LIBRARY");
    const char *usual = cuda ? "libcuda.so.1" : "libamdhip64.so";
    void *library = dlopen(given != NULL && given[0] != 0 ? given : usual, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        (void)snprintf(sentence, sizeof(sentence), "no %s driver: %s", cuda ? "NVIDIA" : "AMD", dlerror());
        return false;
    }
    driver.cuda = cuda;
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        const char *name = cuda ? entries[i].cuda : entries[i].hip;
        void *found = name != NULL ? dlsym(library, name) : NULL;
        memcpy((char *)&driver.calls + entries[i].offset, &found, sizeof(found));
    }
    driver.ready = CALL(init, 0);
    return driver.ready;
}

/* Under the lock. */
static bool use(const char *backend, int device)
{
    int count = 0;
    if (!open_once(backend) || !CALL(count, &count)) {
        return false;
    }
    if (device < 0 || device >= count || device >= DEVICES_MAX) {
        (void)snprintf(sentence, sizeof(sentence), "there is no device %d: this process sees %d", device, count);
        return false;
    }
    if (!driver.cuda) {
        return CALL(use, device);
    }
    int handle = 0;
    if (driver.contexts[device] == NULL &&
        (!CALL(device, &handle, device) || !CALL(retain, &driver.contexts[device], handle))) {
        return false;
    }
    return CALL(make_current, driver.contexts[device]);
}

bool gpu_use(const char *backend, int device)
{
    (void)pthread_mutex_lock(&opening);
    bool done = use(backend, device);
    (void)pthread_mutex_unlock(&opening);
    return done;
}

bool gpu_device_count(int *count)
{
    return CALL(count, count);
}

bool gpu_driver_version(int *version)
{
    return CALL(version, version);
}

bool gpu_device_name(int device, char *name, size_t name_bytes)
{
    char text[256] = "";
    int handle = device;
    if (driver.cuda && !CALL(device, &handle, device)) {
        return false;
    }
    if (!CALL(device_name, text, (int)sizeof(text), handle)) {
        return false;
    }
    (void)snprintf(name, name_bytes, "%s", text);
    return true;
}

struct probe_answer {
    struct gpu_probe probe;
    char why[sizeof(sentence)];
};

/* In the child: no context is made, only questions asked. */
static void probe_answer(const char *backend, struct probe_answer *answer)
{
    struct gpu_probe *probe = &answer->probe;
    bool good = open_once(backend) && gpu_device_count(&probe->devices) && gpu_driver_version(&probe->driver_version);
    if (good && probe->devices == 0) {
        good = refuse("the driver sees no device");
    }
    good = good && gpu_device_name(0, probe->name, sizeof(probe->name));
    if (!good) {
        (void)snprintf(answer->why, sizeof(answer->why), "%s", sentence);
    }
}

bool gpu_probe(const char *backend, struct gpu_probe *probe)
{
    struct probe_answer answer = {.why = "asking the driver ended badly"};
    int ends[2];
    if (pipe(ends) != 0) {
        return refuse("pipe: no descriptors are left");
    }
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        answer.why[0] = '\0';
        probe_answer(backend, &answer);
        (void)!write(ends[1], &answer, sizeof(answer));
        _exit(0);
    }
    (void)close(ends[1]);
    bool heard = child > 0 && read(ends[0], &answer, sizeof(answer)) == (ssize_t)sizeof(answer);
    (void)close(ends[0]);
    if (child > 0) {
        (void)waitpid(child, NULL, 0);
    }
    if (!heard || answer.why[0] != '\0') {
        return refuse(answer.why);
    }
    *probe = answer.probe;
    return true;
}

/* -- memory --------------------------------------------------------------------------------------- */

bool gpu_alloc(void **memory, size_t bytes)
{
    uint64_t address = 0;
    if (!CALL(alloc, &address, bytes > 0 ? bytes : 1)) {
        return false;
    }
    *memory = (void *)(uintptr_t)address;
    return true;
}

void gpu_free(void *memory)
{
    if (memory != NULL) {
        (void)CALL(free, address_of(memory));
    }
}

bool gpu_memory(size_t *free_bytes, size_t *all_bytes)
{
    return CALL(memory, free_bytes, all_bytes);
}

/* -- pages ---------------------------------------------------------------------------------------- */

/* Puts fresh pages behind the address. */
static bool pages_fill(struct gpu_pages *pages)
{
    const struct location location = {LOCATION_DEVICE, pages->device};
    const struct page_properties properties = {
        .type = PAGES_PINNED, .handle_types = pages->shareable ? PAGES_AS_DESCRIPTOR : 0, .location = location};
    const struct page_access access = {location, PAGES_READ_WRITE};
    uint64_t address = address_of(pages->address);
    if (!CALL(pages_create, &pages->handle, pages->bytes, &properties, 0)) {
        return false;
    }
    if (!CALL(pages_map, address, pages->bytes, 0, pages->handle, 0)) {
        goto release;
    }
    if (!CALL(pages_access, address, pages->bytes, &access, 1)) {
        goto unmap;
    }
    return true;
unmap:
    (void)driver.calls.pages_unmap(address, pages->bytes);
release:
    (void)driver.calls.pages_release(pages->handle);
    pages->handle = 0;
    return false;
}

static bool pages_empty(struct gpu_pages *pages)
{
    uint64_t handle = pages->handle;
    pages->handle = 0;
    return handle == 0 || (CALL(pages_unmap, address_of(pages->address), pages->bytes) && CALL(pages_release, handle));
}

bool gpu_pages_map(struct gpu_pages *pages, int device, size_t bytes, bool shareable)
{
    uint64_t address = 0;
    size_t whole = (bytes + PAGES_BYTES - 1) / PAGES_BYTES * PAGES_BYTES;
    whole = whole > 0 ? whole : PAGES_BYTES;
    if (!CALL(pages_reserve, &address, whole, 0, 0, 0)) {
        return false;
    }
    struct gpu_pages made = {(void *)(uintptr_t)address, whole, 0, device, shareable};
    if (!pages_fill(&made)) {
        (void)driver.calls.pages_unreserve(address, whole);
        return false;
    }
    *pages = made;
    return true;
}

bool gpu_pages_replace(struct gpu_pages *pages)
{
    return pages_empty(pages) && pages_fill(pages);
}

void gpu_pages_unmap(struct gpu_pages *pages)
{
    if (pages->address != NULL) {
        (void)pages_empty(pages);
        (void)CALL(pages_unreserve, address_of(pages->address), pages->bytes);
        pages->address = NULL;
    }
}

bool gpu_host_alloc(void **memory, size_t bytes)
{
    return CALL(host_alloc, memory, bytes > 0 ? bytes : 1, HOST_PORTABLE_MAPPED);
}

void gpu_host_free(void *memory)
{
    if (memory != NULL) {
        (void)CALL(host_free, memory);
    }
}

bool gpu_upload(void *device, const void *host, size_t bytes, tutti_stream stream)
{
    return CALL(to_device, address_of(device), host, bytes, stream);
}

bool gpu_download(void *host, const void *device, size_t bytes, tutti_stream stream)
{
    return CALL(to_host, host, address_of(device), bytes, stream);
}

bool gpu_copy(void *device, const void *from_device, size_t bytes, tutti_stream stream)
{
    return CALL(within, address_of(device), address_of(from_device), bytes, stream);
}

bool gpu_fill(void *device, uint32_t word, size_t words, tutti_stream stream)
{
    return CALL(fill, address_of(device), word, words, stream);
}

/* -- streams and events --------------------------------------------------------------------------- */

bool gpu_stream_create(tutti_stream *stream)
{
    return CALL(stream_create, stream, STREAM_NON_BLOCKING);
}

void gpu_stream_destroy(tutti_stream stream)
{
    if (stream != NULL) {
        (void)CALL(stream_destroy, stream);
    }
}

bool gpu_stream_wait(tutti_stream stream)
{
    return CALL(stream_wait, stream);
}

bool gpu_host_function(tutti_stream stream, void (*function)(void *argument), void *argument)
{
    return CALL(host_launch, stream, function, argument);
}

bool gpu_event_create(gpu_event *event, bool timed)
{
    return CALL(event_create, event, timed ? 0u : EVENT_DISABLE_TIMING);
}

void gpu_event_destroy(gpu_event event)
{
    if (event != NULL) {
        (void)CALL(event_destroy, event);
    }
}

bool gpu_event_record(gpu_event event, tutti_stream stream)
{
    return CALL(event_record, event, stream);
}

bool gpu_event_wait(gpu_event event)
{
    return CALL(event_wait, event);
}

bool gpu_event_query(gpu_event event, bool *done)
{
    if (driver.calls.event_query == NULL) {
        return missing(offsetof(struct calls, event_query));
    }
    int result = driver.calls.event_query(event);
    if (result != NOT_READY && !check(offsetof(struct calls, event_query), result)) {
        return false;
    }
    *done = result == 0;
    return true;
}

bool gpu_stream_follow(tutti_stream stream, gpu_event event)
{
    return CALL(stream_follow, stream, event, 0);
}

bool gpu_event_elapsed(gpu_event from, gpu_event to, float *ms)
{
    return CALL(event_elapsed, ms, from, to);
}

/* -- captures and graphs --------------------------------------------------------------------------- */

bool gpu_capture_begin(tutti_stream stream, enum gpu_capture_mode mode)
{
    return CALL(capture_begin, stream, (int)mode);
}

bool gpu_capture_end(tutti_stream stream, gpu_graph *graph)
{
    void *recorded = NULL;
    void *executable = NULL;
    bool good = CALL(capture_end, stream, &recorded);
    if (good && recorded == NULL) {
        good = refuse("the capture was invalidated");
    }
    good = good && CALL(instantiate, &executable, recorded, 0);
    if (recorded != NULL) {
        (void)CALL(graph_destroy, recorded);
    }
    if (good && !(CALL(upload, executable, stream) && CALL(stream_wait, stream))) {
        (void)CALL(executable_destroy, executable);
        return false;
    }
    if (good) {
        *graph = executable;
    }
    return good;
}

bool gpu_graph_launch(gpu_graph graph, tutti_stream stream)
{
    return CALL(graph_launch, graph, stream);
}

void gpu_graph_destroy(gpu_graph graph)
{
    if (graph != NULL) {
        (void)CALL(executable_destroy, graph);
    }
}

/* -- kernels -------------------------------------------------------------------------------------- */

bool gpu_module_load(gpu_module *module, const void *image)
{
    return CALL(module_load, module, image);
}

void gpu_module_unload(gpu_module module)
{
    if (module != NULL) {
        (void)CALL(module_unload, module);
    }
}

bool gpu_kernel_find(gpu_kernel *kernel, gpu_module module, const char *name, unsigned threads)
{
    void *found = NULL;
    int resident = 0;
    /* The second question makes a driver that loads kernels lazily load this one. */
    if (!CALL(module_function, &found, module, name) || !CALL(occupancy, &resident, found, (int)threads, 0)) {
        return false;
    }
    *kernel = found;
    return true;
}

bool gpu_launch(gpu_kernel kernel, const struct gpu_launch *how, tutti_stream stream, void **parameters)
{
    unsigned grid[3];
    for (size_t i = 0; i < 3; i++) {
        grid[i] = how->blocks[i] > 0 ? how->blocks[i] : 1;
    }
    return CALL(launch, kernel, grid[0], grid[1], grid[2], how->threads, 1, 1, how->shared_bytes, stream, parameters,
                NULL);
}
