/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graph_memory.c - memory that a graph allocates for itself when it runs.
 *
 * A capture gives such memory an address at once, and the driver answers no question about it before the graph's first launch
 * (driver 580): to cuPointerGetAttributes it is as unknown as a host pointer. The graph under construction knows it, as a node.
 */
#include "device/gpu/graph_memory.h"

#include <stdlib.h>

#include "base/error.h"
#include "device/gpu/recording.h"

static tutti_status nodes_get(const struct driver *driver, driver_graph graph, driver_node **nodes, size_t *count)
{
    *nodes = NULL;
    *count = 0;
    tutti_status status = DRIVER(driver, graph_nodes, graph, NULL, count);
    if (status != TUTTI_OK || *count == 0) {
        return status;
    }
    *nodes = calloc(*count, sizeof(**nodes));
    if (*nodes == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the %zu nodes of a graph", *count);
    }
    status = DRIVER(driver, graph_nodes, graph, *nodes, count);
    if (status != TUTTI_OK) {
        free(*nodes);
        *nodes = NULL;
        *count = 0;
    }
    return status;
}

static tutti_status node_look(const struct driver *driver, driver_node node, uint64_t address,
                              struct graph_memory *found)
{
    int type = 0;
    struct driver_graph_memory memory = {.address = 0};
    tutti_status status = DRIVER(driver, graph_node_type, node, &type);
    if (status != TUTTI_OK || type != DRIVER_NODE_ALLOCATES) {
        return status;
    }
    status = DRIVER(driver, graph_memory, node, &memory);
    if (status == TUTTI_OK && address >= memory.address && address - memory.address < memory.bytes) {
        *found = (struct graph_memory){memory.address, memory.bytes, memory.pool.location.id};
    }
    return status;
}

tutti_status graph_memory_find(const struct driver *driver, driver_stream stream, uint64_t address,
                               struct graph_memory *found)
{
    struct stream_state state;
    driver_node *nodes = NULL;
    size_t count = 0;
    *found = (struct graph_memory){0};
    if (driver->graph_nodes == NULL || driver->graph_node_type == NULL || driver->graph_memory == NULL) {
        return TUTTI_OK;
    }
    tutti_status status = recording_look(driver, stream, &state);
    if (status == TUTTI_OK && state.recording) {
        status = nodes_get(driver, state.graph, &nodes, &count);
    }
    /* The youngest first: where an address was freed and allocated again, that is the one. */
    while (status == TUTTI_OK && count > 0 && found->bytes == 0) {
        status = node_look(driver, nodes[--count], address, found);
    }
    free(nodes);
    return status;
}
