/* SPDX-License-Identifier: Apache-2.0 */
/* memory_class.h - what a pointer is: asked of the driver for each call, never assumed, never cached. */
#ifndef TUTTI_DEVICE_GPU_MEMORY_CLASS_H
#define TUTTI_DEVICE_GPU_MEMORY_CLASS_H

#include "device/gpu/gpu_device.h"

enum memory_class {
    MEMORY_UNKNOWN, /* nothing the driver knows: an ordinary host pointer, or memory that has been freed */
    MEMORY_HOST,    /* page-locked host memory */
    MEMORY_MANAGED,
    MEMORY_IPC,    /* a plain device allocation: the driver has IPC handles for it */
    MEMORY_FD,     /* VMM memory that can be exported as a file descriptor */
    MEMORY_STAGED, /* device memory that cannot be shared: VMM without a handle type, stream-ordered pools */
};

struct memory_facts {
    enum memory_class class;
    int ordinal;           /* of the device it lies on */
    uint64_t start, bytes; /* of its allocation */
};

/* Both in the device's context; legal in any capture. */

/* DRIVER. A pointer that the driver does not know is no error, but MEMORY_UNKNOWN. */
tutti_status memory_look(const struct device *device, const void *pointer, struct memory_facts *facts);

/* Whether the device can use `bytes` from `pointer`, which may span several allocations. ARGUMENT with a sentence that names
 * the call, the argument ("src") and what is wrong. Cheap: one question to the driver in the common case. */
tutti_status memory_check(const struct device *device, const char *call, const char *argument, const void *pointer,
                          size_t bytes);

/* "page-locked host memory". Static storage. */
const char *memory_class_name(enum memory_class class);

#endif
