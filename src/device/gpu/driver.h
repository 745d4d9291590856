/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.h - the part of a vendor's driver that this library calls, under one set of names.
 *
 * Two tables of names, driver_cuda.c (libcuda.so.1) and driver_hip.c (libamdhip64.so), say which symbol stands behind
 * each entry. Nothing of a vendor is needed to build, and nothing is loaded before a program asks for the
 * backend: a process that never does has no driver in it. The few types below have the layout of the CUDA driver API;
 * HIP's are the same bytes.
 */
#ifndef TUTTI_DEVICE_GPU_DRIVER_H
#define TUTTI_DEVICE_GPU_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/settings.h"
#include "tutti/tutti.h"

typedef int driver_result; /* 0: success; CUresult, hipError_t */
typedef uint64_t driver_address;
typedef int driver_device;
typedef void *driver_context;
typedef void *driver_module;
typedef void *driver_function;
typedef void *driver_stream;
typedef void *driver_graph;
typedef void *driver_executable; /* a graph that can be launched */
typedef void *driver_node;
typedef void *driver_object;
typedef uint64_t driver_memory; /* an allocation that is not an address: CUmemGenericAllocationHandle */

#define DRIVER_UUID_BYTES 16
struct driver_uuid {
    uint8_t bytes[DRIVER_UUID_BYTES];
};
struct driver_ipc_handle {
    uint8_t bytes[64];
};
struct driver_location {
    int type; /* 1: device */
    int id;
};
struct driver_memory_properties {
    int type;         /* 1: pinned */
    int handle_types; /* 1: POSIX file descriptor */
    struct driver_location location;
    void *reserved_pointer;
    uint8_t reserved[8];
};
struct driver_access {
    struct driver_location location;
    int flags; /* 3: read and write */
};
/* CUDA_MEM_ALLOC_NODE_PARAMS, hipMemAllocNodeParams. */
struct driver_graph_memory {
    struct {
        int type, handle_types;
        struct driver_location location;
        void *reserved_pointer;
        size_t bytes_max;
        uint8_t reserved[56];
    } pool;
    const struct driver_access *access;
    size_t access_count;
    size_t bytes;
    driver_address address;
};
struct driver_launch_attribute {
    int id; /* 6: programmatic stream serialization */
    int padding;
    union {
        int value;
        uint64_t bytes[8];
    } value;
};
struct driver_launch {
    unsigned grid[3], block[3];
    unsigned shared_bytes;
    driver_stream stream;
    struct driver_launch_attribute *attributes;
    unsigned attribute_count;
};

/* What both vendors number alike. */
#define DRIVER_OUT_OF_MEMORY 2
#define DRIVER_NO_BINARY 209 /* an image for other devices */
#define DRIVER_NOT_READY 600 /* the stream still has work */
#define DRIVER_PEER_ACCESS_ALREADY_ENABLED 704
#define DRIVER_CAPTURE_FIRST 900 /* errors that speak of stream capture */
#define DRIVER_CAPTURE_IMPLICIT 906
#define DRIVER_CAPTURE_LAST 908
enum driver_capture_status { DRIVER_CAPTURE_NONE, DRIVER_CAPTURE_ACTIVE, DRIVER_CAPTURE_INVALIDATED };
enum driver_capture_mode { DRIVER_MODE_GLOBAL, DRIVER_MODE_THREAD_LOCAL, DRIVER_MODE_RELAXED };
#define DRIVER_STREAM_NON_BLOCKING 1u
/* Handles that every driver knows: what NULL means, too, and the calling thread's. */
#define DRIVER_STREAM_LEGACY ((driver_stream)1)
#define DRIVER_STREAM_PER_THREAD ((driver_stream)2)
#define DRIVER_HANDLE_FD 1
#define DRIVER_IPC_LAZY_PEER_ACCESS 1u
#define DRIVER_USER_OBJECT_NO_SYNC 1u
#define DRIVER_USER_OBJECT_MOVE 1u
#define DRIVER_ADD_DEPENDENCIES 0u
#define DRIVER_FREE_ON_LAUNCH 1u /* a graph that is launched again frees what its last launch left allocated */
#define DRIVER_LAUNCH_PROGRAMMATIC 6
#define DRIVER_NODE_ALLOCATES 10 /* a graph's node */
enum driver_pointer_attribute {
    DRIVER_POINTER_MEMORY_TYPE = 2,
    DRIVER_POINTER_BUFFER_ID = 7,
    DRIVER_POINTER_IS_MANAGED = 8,
    DRIVER_POINTER_DEVICE_ORDINAL = 9,
    DRIVER_POINTER_IPC_CAPABLE = 10,
    DRIVER_POINTER_RANGE_START = 11,
    DRIVER_POINTER_RANGE_BYTES = 12,
    DRIVER_POINTER_HANDLE_TYPES = 14,
    DRIVER_POINTER_POOL = 17,
};

/* Attributes of devices, which the vendors number differently (struct driver_vendor). */
enum driver_attribute {
    DRIVER_MULTIPROCESSORS,
    DRIVER_CAPABILITY_MAJOR,
    DRIVER_CAPABILITY_MINOR,
    DRIVER_HAS_VMM,
    DRIVER_HAS_FD_EXPORT,
    DRIVER_HOST_PAGE_TABLES, /* the device reads any memory of the process, page-locked or not */
    DRIVER_ATTRIBUTE_COUNT
};

/* An entry of the table below, by its offset. */
struct driver_symbol {
    const char *name;
    size_t offset;
    bool required;
};

struct driver_vendor {
    const char *backend; /* "cuda" */
    const char *label;   /* "NVIDIA" */
    enum setting library;
    const char *const *other_names; /* tried if the setting is not given; NULL ends them */
    const struct driver_symbol *symbols;
    size_t symbol_count;
    int version_oldest;                       /* of driver_version */
    int version_unit;                         /* version / unit = major */
    int attributes[DRIVER_ATTRIBUTE_COUNT];   /* -1: it has no such attribute */
    int memory_type_host, memory_type_device; /* what DRIVER_POINTER_MEMORY_TYPE answers; -1: not to be relied on */
    int memory_types_since;                   /* before this version the types are numbered one lower */
    unsigned host_flags;                      /* host_alloc: portable, mapped, coherent */
    unsigned uncached_flag, coherent_flag;    /* alloc_with_flags */
    bool executables_stand_alone;             /* they need the graph that they were made from no more */
    const char *toolkit;                      /* "nvcc": what compiles this vendor's kernels */
};

struct driver {
    const struct driver_vendor *vendor;
    int version;

    driver_result (*init)(unsigned flags);
    driver_result (*version_get)(int *version);
    driver_result (*error_name)(driver_result result, const char **name); /* CUDA */
    const char *(*error_text)(driver_result result);                      /* HIP */

    driver_result (*device_count)(int *count);
    driver_result (*device_get)(driver_device *device, int ordinal);
    driver_result (*device_name)(char *name, int bytes, driver_device device);
    driver_result (*device_uuid)(struct driver_uuid *uuid, driver_device device);
    driver_result (*device_attribute)(int *value, int attribute, driver_device device);

    /* CUDA has a stack of contexts per thread, HIP a current device. */
    driver_result (*primary_retain)(driver_context *context, driver_device device);
    driver_result (*primary_release)(driver_device device);
    driver_result (*context_push)(driver_context context);
    driver_result (*context_pop)(driver_context *context);
    driver_result (*current_get)(int *ordinal);
    driver_result (*current_set)(int ordinal);
    driver_result (*peer_enable)(int ordinal, unsigned flags); /* HIP: from the current device */
    driver_result (*capture_mode_exchange)(int *mode);         /* of the calling thread */

    driver_result (*module_load)(driver_module *module, const void *image);
    driver_result (*module_unload)(driver_module module);
    driver_result (*module_function)(driver_function *function, driver_module module, const char *name);
    driver_result (*occupancy)(int *blocks, driver_function function, int threads, size_t shared_bytes);
    driver_result (*launch)(driver_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                            unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                            driver_stream stream, void **parameters, void **extra);
    driver_result (*launch_with)(const struct driver_launch *launch, driver_function function, void **parameters,
                                 void **extra); /* optional: attributes */

    driver_result (*memory_granularity)(size_t *bytes, const struct driver_memory_properties *properties, int option);
    driver_result (*memory_create)(driver_memory *memory, size_t bytes,
                                   const struct driver_memory_properties *properties, unsigned long long flags);
    driver_result (*memory_release)(driver_memory memory);
    driver_result (*memory_retain)(driver_memory *memory, void *address);
    driver_result (*memory_export)(void *handle, driver_memory memory, int handle_type, unsigned long long flags);
    driver_result (*memory_import)(driver_memory *memory, void *handle, int handle_type);
    driver_result (*address_reserve)(driver_address *address, size_t bytes, size_t alignment, driver_address hint,
                                     unsigned long long flags);
    driver_result (*address_free)(driver_address address, size_t bytes);
    driver_result (*memory_map)(driver_address address, size_t bytes, size_t offset, driver_memory memory,
                                unsigned long long flags);
    driver_result (*memory_unmap)(driver_address address, size_t bytes);
    driver_result (*memory_access)(driver_address address, size_t bytes, const struct driver_access *access,
                                   size_t count);

    driver_result (*alloc)(driver_address *address, size_t bytes);                            /* CUDA */
    driver_result (*alloc_with_flags)(driver_address *address, size_t bytes, unsigned flags); /* HIP */
    driver_result (*free)(driver_address address);
    driver_result (*ipc_get)(struct driver_ipc_handle *handle, driver_address address);
    driver_result (*ipc_open)(driver_address *address, struct driver_ipc_handle handle, unsigned flags);
    driver_result (*ipc_close)(driver_address address);
    driver_result (*host_alloc)(void **memory, size_t bytes, unsigned flags);
    driver_result (*host_free)(void *memory);
    driver_result (*host_address)(driver_address *address, void *memory, unsigned flags);
    driver_result (*fill_words)(driver_address address, unsigned word, size_t count, driver_stream stream);
    driver_result (*copy_on_device)(driver_address to, driver_address from, size_t bytes, driver_stream stream);
    driver_result (*copy_to_host)(void *to, driver_address from, size_t bytes, driver_stream stream);
    driver_result (*copy_to_device)(driver_address to, const void *from, size_t bytes, driver_stream stream);
    driver_result (*pointer_attributes)(unsigned count, int *attributes, void **values, driver_address address);
    /* Of the allocation, where the attributes do not tell its whole length; NULL: they do. */
    driver_result (*address_range)(driver_address *start, size_t *bytes, driver_address address);

    driver_result (*memory_info)(size_t *free_bytes, size_t *all_bytes); /* of the current device */

    driver_result (*stream_create)(driver_stream *stream, unsigned flags);
    driver_result (*stream_destroy)(driver_stream stream);
    driver_result (*stream_synchronize)(driver_stream stream);
    driver_result (*stream_query)(driver_stream stream);

    /* The third form also knows edges that are not plain dependencies; older drivers have the second only. */
    driver_result (*capture_info2)(driver_stream stream, int *status, uint64_t *id, driver_graph *graph,
                                   const driver_node **nodes, size_t *node_count);
    driver_result (*capture_info3)(driver_stream stream, int *status, uint64_t *id, driver_graph *graph,
                                   const driver_node **nodes, const void **edges, size_t *node_count);
    driver_result (*capture_depend)(driver_stream stream, driver_node *nodes, size_t count, unsigned flags);
    driver_result (*object_create)(driver_object *object, void *pointer, void (*destroy)(void *), unsigned references,
                                   unsigned flags);
    driver_result (*object_release)(driver_object object, unsigned references);
    driver_result (*graph_retain)(driver_graph graph, driver_object object, unsigned references, unsigned flags);
    driver_result (*capture_begin)(driver_stream stream, int mode);
    driver_result (*capture_end)(driver_stream stream, driver_graph *graph);
    driver_result (*graph_instantiate)(driver_executable *executable, driver_graph graph, unsigned long long flags);
    driver_result (*graph_upload)(driver_executable executable, driver_stream stream); /* optional */
    driver_result (*graph_launch)(driver_executable executable, driver_stream stream);
    driver_result (*executable_destroy)(driver_executable executable);
    driver_result (*graph_destroy)(driver_graph graph);
    driver_result (*graph_nodes)(driver_graph graph, driver_node *nodes, size_t *count);
    driver_result (*graph_node_type)(driver_node node, int *type);
    driver_result (*graph_memory)(driver_node node, struct driver_graph_memory *memory);
};

extern const struct driver_vendor driver_cuda;
extern const struct driver_vendor driver_hip;

/* Loads and initialises the vendor's driver at the first call; later calls get the same answer. *driver has static
 * storage. UNSUPPORTED with what is missing: the library, a symbol of it, a newer version. Any thread. */
tutti_status driver_load(const struct driver_vendor *vendor, const struct driver **driver);

/* TUTTI_OK for result 0. Else an error that names the call, as the vendor does, and the driver's name for the result:
 * DRIVER, or CAPTURE for results that speak of stream capture. `entry`: offset in struct driver. */
tutti_status driver_check(const struct driver *driver, size_t entry, driver_result result);

/* Calls an entry, and turns its result into a status with its sentence. */
#define DRIVER(table, entry, ...) driver_check((table), offsetof(struct driver, entry), (table)->entry(__VA_ARGS__))

/* The driver's name for a result, "CUDA_ERROR_NO_DEVICE". The driver's storage. */
const char *driver_result_name(const struct driver *driver, driver_result result);

#endif
