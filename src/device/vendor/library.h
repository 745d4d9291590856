/* SPDX-License-Identifier: Apache-2.0 */
/*
 * library.h - a vendor's library of collectives, NCCL or RCCL, loaded with dlopen when a communicator first wants it. Both
 * have the same functions; the types below have the layout of nccl.h since version 2.14.
 */
#ifndef TUTTI_DEVICE_VENDOR_LIBRARY_H
#define TUTTI_DEVICE_VENDOR_LIBRARY_H

#include <stddef.h>

#include "device/gpu/driver.h"
#include "tutti/tutti.h"

typedef int vendor_result;
#define VENDOR_SUCCESS 0
#define VENDOR_IN_PROGRESS 7

enum vendor_dtype { VENDOR_BYTE = 1, VENDOR_F16 = 6, VENDOR_F32 = 7, VENDOR_BF16 = 9 };
enum vendor_op { VENDOR_SUM = 0, VENDOR_MAX = 2, VENDOR_MIN = 3 };

typedef void *vendor_comm;

/* By which the ranks of a communicator find each other. Passed by value. */
#define VENDOR_ID_BYTES 128
struct vendor_id {
    char bytes[VENDOR_ID_BYTES];
};

/* The first version's fields, which say themselves that they are no more. */
struct vendor_config {
    size_t bytes;
    unsigned magic, version;
    int blocking;
};
#define VENDOR_CONFIG_MAGIC 0xcafebeefu
#define VENDOR_CONFIG_VERSION 21400u

struct vendor_library {
    const char *name; /* "NCCL" */
    const char *protocol;
    int version; /* 22809 for 2.28.9 */

    vendor_result (*version_get)(int *version);
    const char *(*error_text)(vendor_result result);
    const char *(*last_error)(vendor_comm comm);
    vendor_result (*unique_id)(struct vendor_id *id);
    vendor_result (*init)(vendor_comm *comm, int world, struct vendor_id id, int rank, struct vendor_config *config);
    vendor_result (*abort)(vendor_comm comm);
    vendor_result (*async_error)(vendor_comm comm, vendor_result *error);
    vendor_result (*group_start)(void);
    vendor_result (*group_end)(void);
    vendor_result (*all_reduce)(const void *src, void *dst, size_t count, int dtype, int op, vendor_comm comm,
                                driver_stream stream);
    vendor_result (*reduce_scatter)(const void *src, void *dst, size_t count, int dtype, int op, vendor_comm comm,
                                    driver_stream stream);
    vendor_result (*all_gather)(const void *src, void *dst, size_t count, int dtype, vendor_comm comm,
                                driver_stream stream);
    vendor_result (*broadcast)(const void *src, void *dst, size_t count, int dtype, int root, vendor_comm comm,
                               driver_stream stream);
    vendor_result (*send)(const void *src, size_t count, int dtype, int peer, vendor_comm comm, driver_stream stream);
    vendor_result (*recv)(void *dst, size_t count, int dtype, int peer, vendor_comm comm, driver_stream stream);
};

/* The library that goes with a driver, loaded at the first call; later calls get the same answer. Static storage. UNSUPPORTED
 * with what is missing. Any thread. */
tutti_status vendor_library_load(const struct driver_vendor *vendor, const struct vendor_library **library);

#endif
