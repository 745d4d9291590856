/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping.h - peers' allocations that this process has mapped. One mapping for each device and allocation, however many
 * communicators and spans use it: drivers refuse to open an IPC handle twice, and addresses are worth keeping. The last user unmaps.
 *
 * A run is several VMM allocations of one peer mapped back to back, as they lie there: for buffers that span them. It is a mapping of
 * its own, and its allocations may be mapped elsewhere as well. They come one after another, since each brings a descriptor:
 *
 *     mapping_run_begin(ops, device, names, count, &run);  for each: mapping_run_add(run, &names[i], fd);  mapping_run_finish(&run);
 */
#ifndef TUTTI_MEMORY_MAPPING_H
#define TUTTI_MEMORY_MAPPING_H

#include "device/device.h"
#include "memory/exports.h"

/* One allocation of a mapping. */
struct mapping_part {
    uint8_t process[PROCESS_COOKIE_BYTES];
    uint64_t identity;
    struct memory_block block;
};

struct mapping {
    /* Constant. */
    const struct device_ops *ops;
    struct device *device;     /* stays open as long as anything is mapped for it: the caller's care */
    struct memory_block block; /* of a run: address and bytes of all of it */
    /* Private to mapping.c. */
    unsigned references;
    bool complete;        /* it is in the list */
    size_t count, placed; /* allocations; of a run: how many are mapped already */
    struct mapping *next;
    struct mapping_part parts[];
};

/* Maps what a peer has named for the device, or adds a user to the mapping that is there. `fd` came with the name and stays the
 * caller's; -1 for none. DRIVER, SYSTEM, UNSUPPORTED. Any thread. */
tutti_status mapping_acquire(const struct device_ops *ops, struct device *device, const struct memory_name *name,
                             int fd, struct mapping **mapping);

/* Reserves the addresses of a run of count > 1 allocations, or adds a user to the one that is there. Given back with mapping_release, at any
 * time. DRIVER, SYSTEM, UNSUPPORTED. Any thread. */
tutti_status mapping_run_begin(const struct device_ops *ops, struct device *device, const struct memory_name *names,
                               size_t count, struct mapping **run);

/* Maps the next of its allocations, unless all are there. `fd` as above. DRIVER, SYSTEM. */
tutti_status mapping_run_add(struct mapping *run, const struct memory_name *name, int fd);

/* All of them are there. *run is another one if somebody has mapped the same meanwhile. */
void mapping_run_finish(struct mapping **run);

/* Nothing of this user's reads or writes it any more. NULL is allowed. Any thread. */
void mapping_release(struct mapping *mapping);

/* How many there are in this process. */
size_t mapping_count(void);

#endif
