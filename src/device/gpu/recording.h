/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recording.h - calls that become part of a graph: their order within it, and the graph's hold on what they use.
 *
 * All of it in the device's context.
 */
#ifndef TUTTI_DEVICE_GPU_RECORDING_H
#define TUTTI_DEVICE_GPU_RECORDING_H

#include <stdatomic.h>

#include "device/gpu/driver.h"

#define RECORDINGS_KEPT 8

/* A graph under construction that holds calls of a group. */
struct recording {
    uint64_t id; /* the driver's, never reused; 0: none */
    driver_node last[TUTTI_LANES_MAX];
};

/* Those of one group; all zero at first. Lives until `graphs` is zero. */
struct recordings {
    struct recording kept[RECORDINGS_KEPT]; /* the thread that uses the communicator */
    unsigned next;
    _Atomic uint32_t graphs; /* that hold calls of the group and are not destroyed */
};

struct stream_state {
    bool recording;
    uint64_t id; /* of the capture */
    driver_graph graph;
    const driver_node *nodes; /* what the stream's next node will depend on; the driver's storage */
    size_t node_count;
};

/* CAPTURE if the stream cannot take work: its capture was invalidated, or another one forbids it. */
tutti_status recording_look(const struct driver *driver, driver_stream stream, struct stream_state *state);

/* Before the launches of a call on a capturing stream: the graph comes to hold the group's memory, and the stream to depend
 * on the lane's last call in the same graph, on whatever stream that was. */
tutti_status recording_begin(const struct driver *driver, struct recordings *recordings, uint32_t lane,
                             driver_stream stream, const struct stream_state *state);

/* After them. */
tutti_status recording_end(const struct driver *driver, struct recordings *recordings, uint32_t lane,
                           driver_stream stream);

#endif
