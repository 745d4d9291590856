/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recording.h - calls that become part of a graph: their order within it, and the graph's hold on what they use.
 *
 * All of it in the device's context.
 */
#ifndef TUTTI_DEVICE_GPU_RECORDING_H
#define TUTTI_DEVICE_GPU_RECORDING_H

#include "capture/registry.h"
#include "device/gpu/driver.h"
#include "device/gpu/gpu_device.h"

struct stream_state {
    bool recording, invalidated;
    uint64_t id; /* of the capture; of an invalidated one only if the driver tells it, else 0 */
    driver_graph graph;
    const driver_node *nodes; /* what the stream's next node will depend on; the driver's storage */
    size_t node_count;
};

/* CAPTURE if the stream cannot take work: its capture was invalidated (`invalidated` says so), or another one forbids it. */
tutti_status recording_look(const struct driver *driver, driver_stream stream, struct stream_state *state);

/* The same before a call of that name (static storage): a capture that was lost is noted, and the next commit speaks of it. */
tutti_status recording_look_for(const struct driver *driver, struct registry *registry, driver_stream stream,
                                const char *call, struct stream_state *state);

/* Before the launches of a call on a capturing stream: the graph comes to hold the group's memory, and the stream to depend
 * on the lane's last call in the same graph, on whatever stream that was. *recorded: the graph. */
tutti_status recording_begin(const struct driver *driver, struct registry *registry, uint32_t lane,
                             driver_stream stream, const struct stream_state *state, struct recorded **recorded);

/* After them. */
tutti_status recording_end(const struct driver *driver, struct recorded *recorded, uint32_t lane, driver_stream stream);

/* The same for device.h's group_stream, from outside of the device's context. DRIVER. */
tutti_status recording_ask(const struct device *device, const void *stream, struct device_stream *out);

#endif
