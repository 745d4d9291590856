/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping.h - peers' allocations that this process has mapped. One mapping for each device and allocation, however many
 * communicators and spans use it: drivers refuse to open an IPC handle twice, and addresses are worth keeping. The last user unmaps.
 */
#ifndef TUTTI_MEMORY_MAPPING_H
#define TUTTI_MEMORY_MAPPING_H

#include "device/device.h"
#include "memory/exports.h"

struct mapping {
    /* Constant. */
    const struct device_ops *ops;
    struct device *device; /* stays open as long as anything is mapped for it: the caller's care */
    struct memory_block block;
    /* Private to mapping.c. */
    uint8_t process[PROCESS_COOKIE_BYTES];
    uint64_t identity;
    unsigned references;
    struct mapping *next;
};

/* Maps what a peer has named for the device, or adds a user to the mapping that is there. `fd` came with the name and stays the
 * caller's; -1 for none. DRIVER, SYSTEM, UNSUPPORTED. Any thread. */
tutti_status mapping_acquire(const struct device_ops *ops, struct device *device, const struct memory_name *name,
                             int fd, struct mapping **mapping);

/* Nothing of this user's reads or writes it any more. NULL is allowed. Any thread. */
void mapping_release(struct mapping *mapping);

/* How many there are in this process. */
size_t mapping_count(void);

#endif
