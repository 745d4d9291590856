/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graphs.h - a backend's streams and graphs, as far as the runner (src/runner/) drives them itself: it is the only part of the
 * library that captures. Everything else takes part in captures of the caller's.
 *
 * All entries are required unless they say otherwise. Those that enqueue do so on the stream they are given and on no other, and
 * nothing of them may wait, allocate or load in a capture: what they need, word_create has made.
 */
#ifndef TUTTI_DEVICE_GRAPHS_H
#define TUTTI_DEVICE_GRAPHS_H

#include <stdbool.h>

#include "tutti/runner.h"

struct device;

struct device_graph; /* ready to be launched */

struct graph_ops {
    /* A word in memory of the device, zero at first, and whatever padding_zero needs to be legal in a capture. DRIVER, SYSTEM. */
    tutti_status (*word_create)(struct device *device, uint32_t **word);
    /* Nothing on the device uses it any more. */
    void (*word_destroy)(struct device *device, uint32_t *word);
    /* Enqueues *word = value; `stream` does not capture. */
    tutti_status (*word_set)(struct device *device, uint32_t *word, uint32_t value, tutti_stream stream);
    /* [capture] Enqueues: rows [*word, rows) of each of the matrices become zero, by what the word is when the work runs. */
    tutti_status (*padding_zero)(struct device *device, const uint32_t *word, size_t rows, const tutti_padded *padded,
                                 size_t count, tutti_stream stream);

    /* Other threads' questions to the driver do not invalidate the capture, where the vendor has such a mode. *graph: what it begins, NULL
     * where that is nothing yet; capture_end gets it, once. CAPTURE, DRIVER, SYSTEM: there is nothing to end. */
    tutti_status (*capture_begin)(struct device *device, tutti_stream stream, struct device_graph **graph);
    /* Leaves the capture in any case. *graph: what began comes to be ready, or after a failure NULL. *bytes: what memory it took, 0:
     * used_bytes tells. CAPTURE: it was invalidated; DRIVER. */
    tutti_status (*capture_end)(struct device *device, tutti_stream stream, struct device_graph **graph,
                                uint64_t *bytes);
    tutti_status (*launch)(struct device *device, struct device_graph *graph, tutti_stream stream);
    /* Its launches have completed: what its calls held is given up at once. */
    void (*destroy)(struct device *device, struct device_graph *graph);

    tutti_status (*synchronize)(struct device *device, tutti_stream stream);
    /* Required of backends with a group_abandon, whose work may wait until a thread of the caller's helps: whether all of it is done. */
    tutti_status (*query)(struct device *device, tutti_stream stream, bool *done);
    uint64_t (*used_bytes)(struct device *device); /* optional: of the device's memory, by anybody */
};

#endif
