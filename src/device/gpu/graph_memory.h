/* SPDX-License-Identifier: Apache-2.0 */
/* graph_memory.h - memory that a graph allocates for itself when it runs: a stream-ordered allocation, captured. */
#ifndef TUTTI_DEVICE_GPU_GRAPH_MEMORY_H
#define TUTTI_DEVICE_GPU_GRAPH_MEMORY_H

#include "device/gpu/driver.h"

struct graph_memory {
    uint64_t start, bytes; /* 0 bytes: none */
    int ordinal;           /* of the device it will lie on */
};

/* What the graph that the stream is being captured into allocates at `address`. Nothing, if the stream does not capture. In the
 * device's context; legal in any capture. DRIVER, CAPTURE, SYSTEM (host memory). */
tutti_status graph_memory_find(const struct driver *driver, driver_stream stream, uint64_t address,
                               struct graph_memory *found);

#endif
