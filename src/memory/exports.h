/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exports.h - allocations of this process that other ranks may map, each under a name that no other allocation ever gets.
 *
 * An address is no name: memory is freed, and other memory comes to lie there. The driver numbers plain allocations; VMM
 * memory it does not, so an export holds the driver's handle of it, which cannot be given to another allocation meanwhile. Whoever
 * exports the same allocation again gets the same name, so that a peer that has mapped it maps nothing (mapping.h).
 */
#ifndef TUTTI_MEMORY_EXPORTS_H
#define TUTTI_MEMORY_EXPORTS_H

#include "base/process.h"
#include "device/device.h"

/* What a peer is told of an allocation. Goes over wires. */
struct memory_name {
    uint8_t process[PROCESS_COOKIE_BYTES];
    uint64_t identity; /* within the process */
    uint64_t bytes;    /* of the allocation */
    unsigned char words[DEVICE_EXPORT_BYTES];
};

struct exported {
    /* Constant. */
    const struct device_ops *ops;
    struct device *device; /* stays open as long as anything of it is exported: the caller's care */
    struct memory_block held;
    uint64_t identity;        /* of this export */
    uint64_t driver_identity; /* memory_facts.identity */
    /* Private to exports.c. */
    unsigned references;
    struct exported *next;
};

/* Exports the allocation of class FD, IPC or VMM that the facts are about; the last for ranks of this process alone. ARGUMENT for
 * other classes, DRIVER, SYSTEM. Any thread. */
tutti_status exports_acquire(const struct device_ops *ops, struct device *device, const struct memory_facts *facts,
                             struct exported **exported);

/* The name of it and, unless that says all, a descriptor to be passed along and closed by the caller; else *fd is -1. */
tutti_status exports_name(const struct exported *exported, struct memory_name *name, int *fd);

/* Gives it back; the peers that have mapped it keep their mapping. NULL is allowed. Any thread. */
void exports_release(struct exported *exported);

/* How many are held in this process. */
size_t exports_count(void);

#endif
