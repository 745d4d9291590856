/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holds.h - what a graph of this library's own keeps alive.
 *
 * A graph of the caller's holds its calls through a user object (recording.c), since the driver alone knows when the last copy of it is
 * gone; for that it counts in each launch, which takes longer than a short graph does. A graph that this library captures, launches and
 * destroys (gpu_graphs.c) nobody can copy or keep: it needs no such object, as whoever destroys it lets go of what it held.
 *
 * [any thread], but each struct holds belongs to one.
 */
#ifndef TUTTI_DEVICE_GPU_HOLDS_H
#define TUTTI_DEVICE_GPU_HOLDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "capture/registry.h"
#include "device/gpu/driver.h"

/* Zero at first. It stays where it is while it is open. */
struct holds {
    struct recorded **recorded; /* [count], of any registries, each held once for each time that it is here */
    size_t count, room;
    /* While the capture is open. */
    const struct driver *driver;
    uint64_t capture; /* the driver's number of it, never reused */
    struct holds *next;
};

/* Makes room, so that the usual captures allocate nothing for them. SYSTEM. */
tutti_status holds_prepare(struct holds *holds);

/* From here to holds_close the capture's graph is one of this library's own. */
void holds_open(struct holds *holds, const struct driver *driver, uint64_t capture);
/* Does nothing if it is not open. */
void holds_close(struct holds *holds);

/* Holds `recorded` for the graph of the capture, if that is one of this library's own: *own says so. SYSTEM: nothing is held. */
tutti_status holds_add(const struct driver *driver, uint64_t capture, struct recorded *recorded, bool *own);

/* Nothing can launch the graph any more. */
void holds_let_go(struct holds *holds);
/* Frees what the book takes. What has not been let go of is held for good. */
void holds_free(struct holds *holds);

#endif
