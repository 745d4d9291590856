/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.h - a driver without a device: what stands behind the CUDA and HIP names of the simulated driver libraries.
 *
 *   device.cpp      devices, contexts of threads, scripted faults       stream.cpp   queues, events, synchronisation
 *   allocation.cpp  memory of every class, handles between processes    capture.cpp  captures and their rules
 *   launch.cpp      modules and running kernels                         graph.cpp    graphs and what they keep alive
 *   names_cuda.cpp, names_hip.cpp   the vendors' functions
 *
 * Device memory is memory of the process with a memfd behind it, so that handles really cross processes. A stream is a
 * thread, and so is each further branch of a graph that runs; a launch runs the kernel's source on fibers there. Results are
 * the vendors' numbers, on which both agree for what is used here.
 *
 * The environment:
 *   SIMGPU_DEVICES          how many there are; 8
 *   SIMGPU_PRIVATE_DEVICES  1: other ones in each process
 *   SIMGPU_MULTIPROCESSORS  of a device; 4, each holding 2 blocks of 512 threads
 *   SIMGPU_ANY_MEMORY       1: devices read any memory of the process, page-locked or not
 *   SIMGPU_FORKS            1: a forked child has a driver of its own, instead of none at all
 *   SIMGPU_FAULTS           "cuMemCreate=2,cuIpcGetMemHandle@3=1,cuLaunchKernel@2+=invalidate": the call fails with that
 *                           result: always, the third time, from the second time on; "invalidate": every capture is
 *                           invalidated before the call, as if another thread had done something unsafe
 *   SIMGPU_VERSION          of the driver
 *   SIMGPU_SEED             of the schedules
 *   CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES   ordinals; CUDA_LAUNCH_BLOCKING, AMD_SERIALIZE_KERNEL: launches wait
 */
#ifndef TESTS_SIMGPU_DRIVER_DRIVER_H
#define TESTS_SIMGPU_DRIVER_DRIVER_H

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <stdint.h>
#include <string>
#include <thread>
#include <vector>

#include "kernels/arguments.h"

namespace simgpu
{

enum result : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    ALREADY_MAPPED = 208,
    NO_BINARY = 209,
    INVALID_HANDLE = 400,
    ILLEGAL_STATE = 401,
    NOT_FOUND = 500,
    NOT_READY = 600,
    PEER_ACCESS_ALREADY_ENABLED = 704,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_MERGE = 902,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
    CAPTURE_WRONG_THREAD = 908,
};

struct machine;
struct queue;
struct capture;
struct node;
struct graph;

/* One lock for all of the driver's state; workers let go of it while they work. */
extern std::mutex driver_lock;
typedef std::unique_lock<std::mutex> guard;

/* -- device.cpp ------------------------------------------------------------------------------------ */

struct device {
    int ordinal, physical;
    uint8_t uuid[16];
    int multiprocessors;
    bool reads_any_memory;
    int failed;           /* the result that every later call gets */
    struct queue *legacy; /* the NULL stream */
    bool peers[16];
    uint64_t graph_bytes; /* of its graphs that are ready to be launched */
};

/* HIP has a current device per thread, CUDA a stack of contexts; a context is the device's primary one. */
extern bool driver_is_hip;

int driver_init();
int device_count();
struct device *device_at(int ordinal); /* nullptr: there is none */
struct device *device_current();       /* nullptr: no context */
void context_push(struct device *device);
struct device *context_pop();
void context_set(struct device *device);

/* The beginning of every call: 0, or the result that it must return: not initialised, forked, a scripted fault. */
int driver_enter(const char *name);

/* From here on these faults (SIMGPU_FAULTS), counted from here, instead of the former ones: how often those have struck. */
uint64_t driver_fault(const char *text);

/* From here on driver_enter counts the calls of threads other than this one, and notes the first one's name. */
void driver_watch(bool on);
uint64_t driver_strangers(const char **first);

/* Handles that are alive, so that a dangling one is an error and no crash. */
void handle_add(const void *handle);
void handle_remove(const void *handle);
bool handle_is(const void *handle);

/* Something is given back that is not there, or no more. The vendors' drivers leave undefined what comes of it: here the program ends. */
[[noreturn]] void driver_misused(const char *what);

/* -- allocation.cpp -------------------------------------------------------------------------------- */

enum class memory_class { plain, vmm, pool, graph, managed, host, imported };

struct memory_answer {
    uint32_t type; /* 0 unknown, 1 host, 2 device */
    bool managed, ipc_capable;
    int ordinal;
    uint64_t start, bytes;
    uint32_t handle_types;
    bool pooled;
    uint64_t number; /* never another allocation's */
};

int allocation_make(uint64_t *address, size_t bytes, memory_class kind);
int allocation_free(uint64_t address, memory_class kind); /* waits for the device */
struct memory_answer allocation_ask(uint64_t address);
/* With the lock: of the device's memory, what this process has. */
uint64_t allocation_bytes(int ordinal);
/* With the lock: an address for memory that is there from a graph's allocation to its release. */
int graph_memory_reserve(uint64_t *address, size_t bytes, int ordinal);
int graph_memory_appear(uint64_t address);
int graph_memory_vanish(uint64_t address);
int ipc_export(uint8_t handle[64], uint64_t address);
int ipc_import(uint64_t *address, const uint8_t handle[64]);
int ipc_close(uint64_t address);

size_t vmm_granularity();
int vmm_create(uint64_t *memory, size_t bytes, int ordinal, uint32_t handle_types);
int vmm_release(uint64_t memory);
int vmm_retain(uint64_t *memory, uint64_t address);
int vmm_export(int *fd, uint64_t memory, int handle_type);
int vmm_import(uint64_t *memory, int fd);
int vmm_reserve(uint64_t *address, size_t bytes);
int vmm_unreserve(uint64_t address, size_t bytes);
int vmm_map(uint64_t address, size_t bytes, size_t offset, uint64_t memory);
int vmm_unmap(uint64_t address, size_t bytes);
int vmm_access(uint64_t address, size_t bytes, int ordinal, bool writes);

/* -- stream.cpp ------------------------------------------------------------------------------------ */

/* What a stream does next. `work` runs on the stream's thread, without the lock, and returns a result. In a branch of a graph it runs on
 * another thread, with a queue that has a device and a machine and nothing else. */
typedef std::function<int(struct queue &queue)> work;
struct task {
    work body;
    std::vector<std::shared_ptr<struct task>> waits;
    bool done = false;
};

/* What a node of a graph is; the vendors' numbers. */
enum node_type {
    NODE_KERNEL = 0,
    NODE_MEMCPY = 1,
    NODE_MEMSET = 2,
    NODE_HOST = 3,
    NODE_GRAPH = 4,
    NODE_ALLOCATES = 10,
    NODE_FREES = 11
};

struct queue {
    struct device *device;
    bool non_blocking, legacy;
    std::deque<std::shared_ptr<struct task>> tasks;
    std::shared_ptr<struct task> last;
    std::vector<std::shared_ptr<struct task>> next_waits; /* events that the next task waits for */
    std::condition_variable wake;
    bool stopping, started;
    struct machine *machine; /* the worker's */
    struct capture *capture;
    std::vector<struct node *> frontier; /* what the next captured node depends on */
    /* The same, as capture_info has told it: gone with the next call for the stream (cuStreamGetCaptureInfo). */
    std::unique_ptr<struct node *[]> told;
};

struct event {
    std::shared_ptr<struct task> recorded;
    std::shared_ptr<double> completed_ms; /* when the stream came to it */
    uint64_t capture_id;                  /* 0: not in a capture */
    std::vector<struct node *> nodes;
};

/* The stream behind a handle, NULL being the current device's; *result if there is none. */
struct queue *queue_find(void *handle, int *result);
struct queue *queue_create(struct device *device, bool non_blocking, bool legacy);
int queue_destroy(struct queue *queue, guard &held);
/* In a forked child. */
void queues_forget();
/* Enqueues, or records where the stream captures. */
int queue_submit(struct queue &queue, guard &held, node_type type, work body);
/* Without asking whether a capture forbids it. */
void queue_await(struct queue &queue, guard &held);
int queue_synchronize(struct queue &queue, guard &held);
int queue_query(struct queue &queue, guard &held);
/* Until nothing of the device's is left to do. */
void device_drain(struct device &device, guard &held);

int event_record(struct event &event, struct queue &queue, guard &held);
int event_wait(struct event &event, struct queue &queue, guard &held);
int event_query(struct event &event, guard &held);
int event_synchronize(struct event &event, guard &held);

/* -- capture.cpp; with the lock ----------------------------------------------------------------------- */

enum capture_mode { MODE_GLOBAL, MODE_THREAD_LOCAL, MODE_RELAXED };

struct capture {
    uint64_t id;
    int mode;
    bool invalidated;
    std::thread::id thread;
    struct queue *origin;
    struct graph *graph;
    std::set<struct queue *> members;
};

int capture_begin(struct queue &queue, int mode);
int capture_end(struct queue &queue, struct graph **graph);
int capture_exchange_mode(int *mode);
struct capture *capture_by_id(uint64_t id);
/* A call that may be unsafe while somebody captures: 0, or CAPTURE_UNSUPPORTED, and those captures are void. */
int capture_check_unsafe();
void capture_invalidate(struct capture &capture);
void capture_invalidate_all();
/* Work for the legacy stream waits for streams that may capture. */
int capture_check_legacy(const struct device &device);
int capture_add(struct queue &queue, node_type type, work body);
void capture_forget(struct queue &queue);
/* Its stream goes: nobody can end it any more if it began there. */
void capture_abandon(struct queue &queue);

/* -- graph.cpp ------------------------------------------------------------------------------------- */

struct user_object {
    void *pointer;
    void (*destroy)(void *pointer);
    unsigned references;
};

struct node {
    node_type type;
    work body;
    std::vector<struct node *> depends;
    bool has_dependents;
    uint64_t memory; /* what it allocates */
    size_t memory_bytes;
    int memory_ordinal;
};

/* Nodes in the order in which they were recorded, which is an order in which they may run. */
struct graph_body {
    std::vector<std::unique_ptr<struct node>> nodes;
    std::vector<struct user_object *> objects;
    ~graph_body();
};

struct graph {
    std::shared_ptr<struct graph_body> body;
};

struct executable {
    std::shared_ptr<struct graph_body> body;
    std::shared_ptr<struct task> last; /* launch */
    struct device *device;
};

struct user_object *object_create(void *pointer, void (*destroy)(void *), unsigned references);
/* With the lock. The last one calls `destroy`, later and on another thread. */
void object_release(struct user_object *object, unsigned references);
int graph_launch(struct executable &executable, struct queue &queue, guard &held);

/* With the lock: launches on streams so far, and how many of them of graphs that hold user objects. */
struct launch_counts {
    uint64_t all, holding;
};
extern struct launch_counts launch_counts;

/* -- launch.cpp ------------------------------------------------------------------------------------ */

#define SIMULATED_IMAGE "simulated kernels for Tutti's simulated GPU"

int module_make(void **module, const void *image);
int module_find(void **function, void *module, const char *name);
/* Blocks of so many threads that a multiprocessor holds. */
int function_occupancy(int *blocks, void *function, int threads);
int function_launch(void *function, uint32_t blocks, uint32_t threads, bool programmatic, void **parameters,
                    struct queue &queue, guard &held);
void machine_release(struct machine *machine);

} // namespace simgpu

#endif
