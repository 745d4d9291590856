/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_on_gpu.c - lets programs that were written for the host backend run on simulated devices as they are.
 *
 * Linked in front of libtutti, it stands in for the functions of tutti/host.h, with streams, events and graphs of the driver
 * in place of the host backend's, and asks for the device where the program asks for the host. The driver is to be told
 * that devices read any memory, and that each process has devices of its own (driver/driver.h). Each thread of it takes
 * another one: ranks of one process that share a device may not free anything while a peer's kernel waits.
 *
 * TEST_AREAS=pinned: on real CUDA devices, a device a rank. Buffers are the host's memory, locked, which those read and write; peers' devices
 * do not, so that calls are staged. Without devices the program is skipped.
 *
 * The host's NULL stream is the calling thread: a call there has ended when it returns, and says how. Here each thread has
 * a stream for that, and waits for it.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tutti/host.h"

#define STREAM_NON_BLOCKING 1u
#define DEVICES 8 /* as the simulated drivers have them */
#define HOST_PORTABLE 1u
#define REAL_DRIVER "libcuda.so.1"
#define SKIPPED 77
#define MODE_RELAXED 2
#define NODE_KERNEL 0
#define NODE_HOST 3
#define NODE_GRAPH 4
#define RESULT_OUT_OF_MEMORY 2
#define RESULT_NOT_READY 600
#define RESULT_CAPTURE_FIRST 900
#define RESULT_CAPTURE_LAST 908

struct calls {
    int (*init)(unsigned flags);
    int (*device)(int *device, int ordinal);   /* CUDA */
    int (*retain)(void **context, int device); /* CUDA */
    int (*current)(void **context);            /* CUDA */
    int (*make_current)(void *context);        /* CUDA */
    int (*use)(int ordinal);                   /* HIP */
    int (*alloc)(uint64_t *address, size_t bytes);
    int (*free)(uint64_t address);
    int (*host_alloc)(void **memory, size_t bytes, unsigned flags); /* CUDA */
    int (*host_free)(void *memory);                                 /* CUDA */
    int (*stream_create)(void **stream, unsigned flags);
    int (*stream_destroy)(void *stream);
    int (*stream_wait)(void *stream);
    int (*stream_query)(void *stream);
    int (*device_wait)(void);
    int (*call_host)(void *stream, void (*function)(void *), void *argument);
    int (*event_create)(void **event, unsigned flags);
    int (*event_destroy)(void *event);
    int (*event_record)(void *event, void *stream);
    int (*event_synchronize)(void *event);
    int (*event_query)(void *event);
    int (*stream_wait_event)(void *stream, void *event, unsigned flags);
    int (*capture_begin)(void *stream, int mode);
    int (*capture_end)(void *stream, void **graph);
    int (*capture_info)(void *stream, int *status, uint64_t *id, void **graph, void ***nodes, size_t *count);
    int (*exchange_mode)(int *mode);
    int (*instantiate)(void **executable, void *graph, unsigned long long flags);
    int (*launch)(void *executable, void *stream);
    int (*executable_destroy)(void *executable);
    int (*graph_destroy)(void *graph);
    int (*graph_nodes)(void *graph, void **nodes, size_t *count);
    int (*graph_edges)(void *graph, void **from, void **to, size_t *count);
    int (*node_type)(void *node, int *type);
};

#define ENTRY(member, cuda, hip)                                                                                       \
    {                                                                                                                  \
        offsetof(struct calls, member), cuda, hip                                                                      \
    }
static const struct {
    size_t offset;
    const char *cuda, *hip;
} entries[] = {
    ENTRY(init, "cuInit", "hipInit"),
    ENTRY(device, "cuDeviceGet", NULL),
    ENTRY(retain, "cuDevicePrimaryCtxRetain", NULL),
    ENTRY(current, "cuCtxGetCurrent", NULL),
    ENTRY(make_current, "cuCtxSetCurrent", NULL),
    ENTRY(use, NULL, "hipSetDevice"),
    ENTRY(alloc, "cuMemAlloc_v2", "hipMalloc"),
    ENTRY(free, "cuMemFree_v2", "hipFree"),
    ENTRY(host_alloc, "cuMemHostAlloc", NULL),
    ENTRY(host_free, "cuMemFreeHost", NULL),
    ENTRY(stream_create, "cuStreamCreate", "hipStreamCreateWithFlags"),
    ENTRY(stream_destroy, "cuStreamDestroy_v2", "hipStreamDestroy"),
    ENTRY(stream_wait, "cuStreamSynchronize", "hipStreamSynchronize"),
    ENTRY(stream_query, "cuStreamQuery", "hipStreamQuery"),
    ENTRY(device_wait, "cuCtxSynchronize", "hipDeviceSynchronize"),
    ENTRY(call_host, "cuLaunchHostFunc", "hipLaunchHostFunc"),
    ENTRY(event_create, "cuEventCreate", "hipEventCreateWithFlags"),
    ENTRY(event_destroy, "cuEventDestroy_v2", "hipEventDestroy"),
    ENTRY(event_record, "cuEventRecord", "hipEventRecord"),
    ENTRY(event_synchronize, "cuEventSynchronize", "hipEventSynchronize"),
    ENTRY(event_query, "cuEventQuery", "hipEventQuery"),
    ENTRY(stream_wait_event, "cuStreamWaitEvent", "hipStreamWaitEvent"),
    ENTRY(capture_begin, "cuStreamBeginCapture_v2", "hipStreamBeginCapture"),
    ENTRY(capture_end, "cuStreamEndCapture", "hipStreamEndCapture"),
    ENTRY(capture_info, "cuStreamGetCaptureInfo_v2", "hipStreamGetCaptureInfo_v2"),
    ENTRY(exchange_mode, "cuThreadExchangeStreamCaptureMode", "hipThreadExchangeStreamCaptureMode"),
    ENTRY(instantiate, "cuGraphInstantiateWithFlags", "hipGraphInstantiateWithFlags"),
    ENTRY(launch, "cuGraphLaunch", "hipGraphLaunch"),
    ENTRY(executable_destroy, "cuGraphExecDestroy", "hipGraphExecDestroy"),
    ENTRY(graph_destroy, "cuGraphDestroy", "hipGraphDestroy"),
    ENTRY(graph_nodes, "cuGraphGetNodes", "hipGraphGetNodes"),
    ENTRY(graph_edges, "cuGraphGetEdges", "hipGraphGetEdges"),
    ENTRY(node_type, "cuGraphNodeGetType", "hipGraphNodeGetType"),
};

static struct calls calls;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const char *backend(void)
{
    const char *name = getenv("TUTTI_TEST_GPU");
    return name != NULL ? name : "cuda";
}

/* How many real devices there are to run on; 0: a simulated driver's. */
static int real_devices;

static void load(void)
{
    int cuda = strcmp(backend(), "cuda") == 0;
    const char *path = getenv(cuda ? "TUTTI_CUDA_LIBRARY" : "TUTTI_HIP_LIBRARY");
    path = path == NULL && real_devices > 0 ? REAL_DRIVER : path;
    void *library = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    for (size_t index = 0; library != NULL && index < sizeof(entries) / sizeof(entries[0]); index++) {
        const char *name = cuda ? entries[index].cuda : entries[index].hip;
        void *found = name != NULL ? dlsym(library, name) : NULL;
        if (name != NULL && found == NULL) {
            library = NULL;
            break;
        }
        memcpy((char *)&calls + entries[index].offset, &found, sizeof(found));
    }
    if (library == NULL || calls.init(0) != 0) {
        (void)fprintf(stderr, "no driver: %s\n", path != NULL ? path : "none given");
        _Exit(1);
    }
}

static int devices_count(void)
{
    int (*init)(unsigned flags);
    int (*count)(int *count);
    int found = 0;
    void *library = dlopen(REAL_DRIVER, RTLD_NOW | RTLD_LOCAL);
    void *functions[] = {library != NULL ? dlsym(library, "cuInit") : NULL,
                         library != NULL ? dlsym(library, "cuDeviceGetCount") : NULL};
    if (functions[0] == NULL || functions[1] == NULL) {
        return 0;
    }
    memcpy(&init, &functions[0], sizeof(init));
    memcpy(&count, &functions[1], sizeof(count));
    return init(0) == 0 && count(&found) == 0 ? found : 0;
}

/* Before main. In a child: a driver that has been initialised does not survive a fork, and the program forks ranks. */
static void __attribute__((constructor)) look_for_devices(void)
{
    const char *areas = getenv("TEST_AREAS");
    char text[16];
    int state = 0;
    if (areas == NULL || strcmp(areas, "pinned") != 0) {
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        int count = devices_count();
        _exit(count < DEVICES ? count : DEVICES);
    }
    real_devices = waitpid(child, &state, 0) == child && WIFEXITED(state) ? WEXITSTATUS(state) : 0;
    if (real_devices == 0) {
        printf("skipped: no CUDA device\n");
        (void)fflush(stdout);
        _exit(SKIPPED);
    }
    (void)snprintf(text, sizeof(text), "%d", real_devices);
    (void)setenv("TEST_DEVICES", text, 1); /* for the harness */
}

static void use_device(int ordinal)
{
    void *context = NULL;
    int device = 0;
    if (calls.use != NULL) {
        (void)calls.use(ordinal);
    } else if (calls.device(&device, ordinal) == 0 && calls.retain(&context, device) == 0) {
        (void)calls.make_current(context);
    }
}

static _Atomic int threads_seen;
static _Thread_local int own_device;
static _Thread_local pid_t own_process; /* in which own_device is current */

/* The driver, with this thread's device current, as a program of the vendor's would have it. */
static const struct calls *driver(void)
{
    (void)pthread_once(&once, load);
    if (own_process == getpid()) {
        return &calls;
    }
    own_device = own_process == 0 && gettid() != getpid() ? atomic_fetch_add(&threads_seen, 1) % DEVICES : own_device;
    own_process = getpid();
    use_device(own_device);
    return &calls;
}

static tutti_status status_of(int result)
{
    if (result >= RESULT_CAPTURE_FIRST && result <= RESULT_CAPTURE_LAST) {
        return TUTTI_ERR_CAPTURE;
    }
    return result == 0     ? TUTTI_OK
           : result == 401 ? TUTTI_ERR_CAPTURE
           : result == 1   ? TUTTI_ERR_ARGUMENT
                           : TUTTI_ERR_DRIVER;
}

/* -- the NULL stream ------------------------------------------------------------------------------------ */

static pthread_key_t own_streams;
static pthread_once_t own_once = PTHREAD_ONCE_INIT;

struct own_streams {
    pid_t process; /* a forked child has its own */
    void *of[DEVICES];
};

static void own_drop(void *argument)
{
    struct own_streams *own = argument;
    for (int device = 0; device < DEVICES && own->process == getpid(); device++) {
        if (own->of[device] != NULL) {
            (void)driver()->stream_destroy(own->of[device]);
        }
    }
    free(own);
}

static void own_prepare(void)
{
    (void)pthread_key_create(&own_streams, own_drop);
}

/* The calling thread's stream on a device. */
static void *own_stream_on(int device)
{
    (void)pthread_once(&own_once, own_prepare);
    struct own_streams *own = pthread_getspecific(own_streams);
    if (own == NULL || own->process != getpid()) {
        free(own);
        own = calloc(1, sizeof(*own));
        (void)pthread_setspecific(own_streams, own);
    }
    if (own != NULL && own->of[device] == NULL) {
        own->process = getpid();
        (void)driver();
        use_device(device);
        (void)calls.stream_create(&own->of[device], STREAM_NON_BLOCKING);
        use_device(own_device);
    }
    if (own == NULL || own->of[device] == NULL) {
        (void)fprintf(stderr, "no stream for this thread\n");
        _Exit(1);
    }
    return own->of[device];
}

static void *own_stream(void)
{
    (void)driver();
    return own_stream_on(own_device);
}

/* As the host waits for itself: whoever captures. */
static int wait_for(void *stream, int result)
{
    int mode = MODE_RELAXED;
    if (result != 0 || driver()->exchange_mode(&mode) != 0) {
        return result;
    }
    result = driver()->stream_wait(stream);
    (void)driver()->exchange_mode(&mode);
    return result;
}

static void wait_for_devices(void)
{
    int mode = MODE_RELAXED;
    if (driver()->exchange_mode(&mode) != 0) {
        return;
    }
    for (int device = 0; device < DEVICES && real_devices == 0; device++) {
        use_device(device);
        (void)driver()->device_wait();
    }
    use_device(own_device);
    (void)driver()->exchange_mode(&mode);
}

/* -- the communicator -------------------------------------------------------------------------------- */

/* What a graph that this thread launches on the NULL stream speaks of. */
static _Thread_local tutti_comm *last_used;

static void *library_function(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static tutti_comm_options on_device(const tutti_comm_options *options, bool shared)
{
    tutti_comm_options there = *options;
    if (there.backend == NULL || strcmp(there.backend, "host") == 0) {
        there.backend = backend();
    }
    there.flags |= shared ? TUTTI_COMM_SHARE_DEVICE : 0;
    there.device = there.device == 0 ? own_device : there.device;
    return there;
}

TUTTI_API tutti_status tutti_comm_create(const tutti_comm_options *options, tutti_comm **comm)
{
    tutti_status (*real)(const tutti_comm_options *, tutti_comm **);
    void *found = library_function("tutti_comm_create");
    memcpy(&real, &found, sizeof(real));
    (void)driver();
    if (options == NULL || options->struct_bytes != sizeof(*options)) {
        return real(options, comm);
    }
    if (real_devices > 0) {
        own_device = options->rank % real_devices;
        use_device(own_device);
    }
    tutti_comm_options there = on_device(options, false);
    return real(&there, comm);
}

TUTTI_API tutti_status tutti_comm_create_all(const tutti_comm_options *options, const int *devices, int world,
                                             tutti_comm **comms)
{
    int own[TUTTI_WORLD_MAX];
    tutti_status (*real)(const tutti_comm_options *, const int *, int, tutti_comm **);
    void *found = library_function("tutti_comm_create_all");
    memcpy(&real, &found, sizeof(real));
    (void)driver();
    if (options == NULL || options->struct_bytes != sizeof(*options)) {
        return real(options, devices, world, comms);
    }
    for (int rank = 0; rank < world && rank < TUTTI_WORLD_MAX; rank++) {
        own[rank] = devices != NULL && devices[rank] != 0 ? devices[rank] : own_device;
    }
    tutti_comm_options there = on_device(options, true); /* one thread, which has one device */
    return real(&there, own, world, comms);
}

TUTTI_API void tutti_comm_destroy(tutti_comm *comm)
{
    void (*real)(tutti_comm *);
    void *found = library_function("tutti_comm_destroy");
    memcpy(&real, &found, sizeof(real));
    last_used = comm == last_used ? NULL : last_used;
    real(comm);
}

/* *there: the call on this thread's stream, if it is one on the NULL stream. */
static const tutti_call *on_stream(tutti_comm *comm, const tutti_call *call, tutti_call *there)
{
    (void)driver();
    last_used = comm;
    if (call != NULL && (call->struct_bytes != sizeof(*call) || call->stream != NULL)) {
        return call;
    }
    *there = call != NULL ? *call : (tutti_call){.struct_bytes = sizeof(*there)};
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    there->stream = tutti_comm_info(comm, &info) == TUTTI_OK ? own_stream_on(info.device) : own_stream();
    return there;
}

static tutti_status ended(tutti_comm *comm, const tutti_call *call, const tutti_call *made, tutti_status status)
{
    if (status != TUTTI_OK || made == call) {
        return status;
    }
    int result = wait_for(made->stream, 0);
    return result != 0 ? status_of(result) : tutti_comm_status(comm);
}

/* Calls the library's function of the same name. */
#define COLLECTIVE(name, parameters, arguments)                                                                        \
    TUTTI_API tutti_status name parameters                                                                             \
    {                                                                                                                  \
        tutti_status(*real) parameters;                                                                                \
        void *found = library_function(#name);                                                                         \
        memcpy(&real, &found, sizeof(real));                                                                           \
        tutti_call there;                                                                                              \
        const tutti_call *made = on_stream(comm, call, &there);                                                        \
        return ended(comm, call, made, real arguments);                                                                \
    }
COLLECTIVE(tutti_all_reduce,
           (tutti_comm * comm, const void *src, void *dst, size_t count, tutti_dtype dtype, tutti_op op,
            const tutti_call *call),
           (comm, src, dst, count, dtype, op, made))
COLLECTIVE(tutti_reduce_scatter,
           (tutti_comm * comm, const void *src, void *dst, size_t count, tutti_dtype dtype, tutti_op op,
            const tutti_call *call),
           (comm, src, dst, count, dtype, op, made))
COLLECTIVE(tutti_all_gather, (tutti_comm * comm, const void *src, void *dst, size_t bytes, const tutti_call *call),
           (comm, src, dst, bytes, made))
COLLECTIVE(tutti_all_gather_rows,
           (tutti_comm * comm, const void *src, void *dst, size_t rows, size_t row_bytes, size_t stride_bytes,
            const tutti_call *call),
           (comm, src, dst, rows, row_bytes, stride_bytes, made))
COLLECTIVE(tutti_broadcast, (tutti_comm * comm, void *buffer, size_t bytes, int root, const tutti_call *call),
           (comm, buffer, bytes, root, made))
COLLECTIVE(tutti_all_to_all, (tutti_comm * comm, const void *src, void *dst, size_t bytes, const tutti_call *call),
           (comm, src, dst, bytes, made))
COLLECTIVE(tutti_barrier, (tutti_comm * comm, const tutti_call *call), (comm, made))

/* -- memory of the device's (harness/values.c) ---------------------------------------------------------- */

TUTTI_API void *simgpu_area_alloc(size_t bytes);
TUTTI_API void simgpu_area_free(void *memory);

void *simgpu_area_alloc(size_t bytes)
{
    uint64_t address = 0;
    void *memory = NULL;
    if (real_devices > 0) {
        return driver()->host_alloc(&memory, bytes, HOST_PORTABLE) == 0 ? memory : NULL;
    }
    return driver()->alloc(&address, bytes) == 0 ? (void *)(uintptr_t)address : NULL;
}

void simgpu_area_free(void *memory)
{
    if (real_devices > 0) {
        (void)driver()->host_free(memory);
        return;
    }
    (void)driver()->free((uint64_t)(uintptr_t)memory);
}

/* -- streams and events ------------------------------------------------------------------------------ */

TUTTI_API tutti_status tutti_host_stream_create(tutti_host_stream **stream)
{
    void *made = NULL;
    int result = driver()->stream_create(&made, STREAM_NON_BLOCKING);
    *stream = made;
    return status_of(result);
}

TUTTI_API void tutti_host_stream_destroy(tutti_host_stream *stream)
{
    if (stream != NULL) {
        if (wait_for(stream, 0) != 0) { /* the host's waits, */
            wait_for_devices();         /* also one that captures, for its work from before */
        }
        (void)driver()->stream_destroy(stream);
    }
}

TUTTI_API tutti_status tutti_host_enqueue(tutti_host_stream *stream, tutti_host_function function, void *argument)
{
    if (stream == NULL) {
        return status_of(wait_for(own_stream(), driver()->call_host(own_stream(), function, argument)));
    }
    return status_of(driver()->call_host(stream, function, argument));
}

TUTTI_API tutti_status tutti_host_stream_synchronize(tutti_host_stream *stream)
{
    return status_of(driver()->stream_wait(stream));
}

TUTTI_API tutti_status tutti_host_stream_query(tutti_host_stream *stream, int *done)
{
    int result = driver()->stream_query(stream);
    if (result == 0 || result == RESULT_NOT_READY) {
        *done = result == 0;
    }
    return status_of(result == RESULT_NOT_READY ? 0 : result);
}

TUTTI_API tutti_status tutti_host_event_create(tutti_host_event **event)
{
    void *made = NULL;
    int result = driver()->event_create(&made, 0);
    *event = made;
    return status_of(result);
}

TUTTI_API void tutti_host_event_destroy(tutti_host_event *event)
{
    if (event != NULL) {
        (void)driver()->event_destroy(event);
    }
}

TUTTI_API tutti_status tutti_host_event_record(tutti_host_event *event, tutti_host_stream *stream)
{
    if (stream == NULL) {
        return status_of(wait_for(own_stream(), driver()->event_record(event, own_stream())));
    }
    return status_of(driver()->event_record(event, stream));
}

TUTTI_API tutti_status tutti_host_stream_wait_event(tutti_host_stream *stream, tutti_host_event *event)
{
    int result = driver()->stream_wait_event(stream, event, 0);
    int mode = MODE_RELAXED;
    if (result == 0 && stream == NULL && driver()->exchange_mode(&mode) == 0) {
        result = driver()->event_synchronize(event);
        (void)driver()->exchange_mode(&mode);
    }
    return status_of(result);
}

TUTTI_API tutti_status tutti_host_event_synchronize(tutti_host_event *event)
{
    return status_of(driver()->event_synchronize(event));
}

TUTTI_API tutti_status tutti_host_event_query(tutti_host_event *event, int *done)
{
    int result = driver()->event_query(event);
    if (result == 0 || result == RESULT_NOT_READY) {
        *done = result == 0;
    }
    return status_of(result == RESULT_NOT_READY ? 0 : result);
}

/* -- capture and graphs ------------------------------------------------------------------------------- */

struct tutti_host_graph {
    void *executable;
    struct tutti_host_graph_info_t info;
};

TUTTI_API tutti_status tutti_host_capture_begin(tutti_host_stream *stream, tutti_host_capture_mode mode)
{
    return status_of(driver()->capture_begin(stream, (int)mode));
}

/* Asks the driver what is in the graph. */
static int graph_look(void *graph, struct tutti_host_graph_info_t *info)
{
    size_t nodes = 0;
    size_t edges = 0;
    int result = driver()->graph_nodes(graph, NULL, &nodes);
    void **list = calloc(nodes + 1, sizeof(*list));
    if (result == 0 && list != NULL && nodes > 0) { /* a driver wants no list of none */
        result = driver()->graph_nodes(graph, list, &nodes);
    }
    for (size_t index = 0; result == 0 && list != NULL && index < nodes; index++) {
        int type = 0;
        result = driver()->node_type(list[index], &type);
        info->functions += type == NODE_HOST;
        info->children += type == NODE_GRAPH;
        info->collectives += type == NODE_KERNEL;
    }
    free(list);
    if (result == 0) {
        result = driver()->graph_edges(graph, NULL, NULL, &edges);
    }
    info->nodes = nodes;
    info->edges = edges;
    return result;
}

TUTTI_API tutti_status tutti_host_capture_end(tutti_host_stream *stream, tutti_host_graph **graph)
{
    void *captured = NULL;
    int result = driver()->capture_end(stream, &captured);
    if (result != 0) {
        return status_of(result);
    }
    struct tutti_host_graph *made = calloc(1, sizeof(*made));
    result = made == NULL ? RESULT_OUT_OF_MEMORY : graph_look(captured, &made->info);
    if (result == 0) {
        result = driver()->instantiate(&made->executable, captured, 0);
    }
    (void)driver()->graph_destroy(captured);
    if (result == 0) {
        *graph = made;
    } else {
        free(made);
    }
    return status_of(result);
}

TUTTI_API tutti_status tutti_host_capture_info(tutti_host_stream *stream, tutti_host_capture_status *status,
                                               uint64_t *id)
{
    int state = 0;
    void *graph = NULL;
    void **nodes = NULL;
    size_t count = 0;
    *id = 0;
    int result = driver()->capture_info(stream, &state, id, &graph, &nodes, &count);
    *status = (tutti_host_capture_status)state;
    return status_of(result);
}

TUTTI_API tutti_status tutti_host_capture_mode_exchange(tutti_host_capture_mode *mode)
{
    int number = (int)*mode;
    int result = driver()->exchange_mode(&number);
    *mode = (tutti_host_capture_mode)number;
    return status_of(result);
}

TUTTI_API tutti_status tutti_host_graph_launch(tutti_host_graph *graph, tutti_host_stream *stream)
{
    if (stream != NULL) {
        return status_of(driver()->launch(graph->executable, stream));
    }
    int result = wait_for(own_stream(), driver()->launch(graph->executable, own_stream()));
    return result == 0 && last_used != NULL ? tutti_comm_status(last_used) : status_of(result);
}

TUTTI_API tutti_status tutti_host_graph_info(const tutti_host_graph *graph, tutti_host_graph_info_t *info)
{
    *info = graph->info;
    info->struct_bytes = sizeof(*info);
    return TUTTI_OK;
}

TUTTI_API void tutti_host_graph_destroy(tutti_host_graph *graph)
{
    if (graph != NULL) {
        (void)driver()->executable_destroy(graph->executable);
        free(graph);
    }
}
