/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TUTTI_DEVICE_HOST_HOST_GRAPHS_H
#define TUTTI_DEVICE_HOST_HOST_GRAPHS_H

#include "device/graphs.h"

extern const struct graph_ops host_graph_ops;

#endif
