/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_graphs.h - streams and graphs of a vendor's driver, as the runner uses them; the contracts are device/graphs.h's. */
#ifndef TUTTI_DEVICE_GPU_GPU_GRAPHS_H
#define TUTTI_DEVICE_GPU_GPU_GRAPHS_H

#include "device/graphs.h"

extern const struct graph_ops gpu_graph_ops;

/* What runners had on the device that is being closed. In its context. */
void row_words_free(struct device *device);

#endif
