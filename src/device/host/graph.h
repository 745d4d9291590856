/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graph.h - captured work that runs any number of times.
 *
 * A launch runs the nodes one after another, in the order in which they were captured. That order respects
 * every edge (a node depends only on nodes that were there before it), and it is the same at every launch and on every
 * rank that captured the same calls. Both matter more than what two branches could gain from each other: a rank
 * has one thread to compute with, and two collectives that ran in one order here and in the other order on a peer
 * would wait for each other for ever.
 *
 * Launches of one graph take tickets when they are enqueued (or made, on the NULL stream) and run in that order, whatever
 * streams they are on. A waiting launch always waits for one that was enqueued before it, so tickets cannot close a
 * cycle. A graph that runs as another's child takes no ticket, since it has none when the parent is enqueued; it only
 * waits until no launch of it is running.
 */
#ifndef TUTTI_DEVICE_HOST_GRAPH_H
#define TUTTI_DEVICE_HOST_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "device/host/task.h"

/* An empty graph with one reference, for a capture to fill. NULL without memory. */
tutti_host_graph *graph_create(void);

/* Makes room for one more node; false without memory, and nothing has changed. */
bool graph_reserve(tutti_host_graph *graph);

/* Adds a node, for which room is reserved, with `edges` edges to earlier nodes. The graph owns the payload. Returns the
 * node's index. Only while a capture fills the graph: a graph that can be launched does not change. */
uint32_t graph_append(tutti_host_graph *graph, const struct task *task, enum task_kind kind, uint32_t edges);

/* The last node has been added: returns memory that was kept for more. */
void graph_complete(tutti_host_graph *graph);

/* The last release drops all payloads. */
void graph_release(tutti_host_graph *graph);

#endif
