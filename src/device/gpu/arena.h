/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - device memory that all ranks of a communicator map: how it is made, named to the peers, mapped by them.
 *
 *     kind          made by                           crosses processes as    within a process
 *     ARENA_VMM     cuMemCreate with an fd handle     file descriptor         the same handle, mapped once more
 *     ARENA_PLAIN   cuMemAlloc, uncached hipMalloc    IPC handle              the address itself
 *
 * VMM memory lives as long as anybody maps it. A plain allocation is gone when its maker frees it, so whoever frees
 * one first makes sure that nobody uses it (quarantine.h).
 */
#ifndef TUTTI_DEVICE_GPU_ARENA_H
#define TUTTI_DEVICE_GPU_ARENA_H

#include "base/process.h"
#include "device/gpu/gpu_device.h"

enum arena_kind { ARENA_NONE, ARENA_VMM, ARENA_PLAIN };

/* Whose stores a running kernel must see. On AMD ordinary memory is cached per device. */
enum arena_use {
    ARENA_POLLED, /* the peers', at once: not cached */
    ARENA_DATA,   /* those of kernels that have ended: cached, and written back when they end */
};

enum arena_origin {
    ARENA_OWN,
    ARENA_IMPORTED,
    ARENA_PLACED,   /* imported to an address that is reserved for it (arena_reserve) */
    ARENA_BORROWED, /* another rank's address within the process */
    ARENA_HELD,     /* somebody's allocation of this process, kept from being another one (arena_hold) */
    ARENA_HELD_HERE /* likewise, and made without a type of handle: no other process can map it */
};

/* One rank's arena, as this rank sees it. */
struct arena {
    enum arena_kind kind;
    driver_address address;
    size_t bytes; /* whole pages of the device */
    enum arena_origin origin;
    driver_memory memory; /* VMM memory's handle; else 0 */
};

/* What a rank tells its peers of its arena. Goes over wires. */
struct arena_ticket {
    uint8_t process[PROCESS_COOKIE_BYTES];
    uint32_t kind;
    int32_t ordinal;  /* means something within the process only */
    uint64_t address; /* likewise */
    uint64_t bytes;
    struct driver_ipc_handle ipc;
};

/* All of them in the device's context (context.h, CONTEXT_MANAGES). */

/* Makes an arena of at least `bytes` on the device, not initialised. DRIVER, UNSUPPORTED. */
tutti_status arena_create(const struct device *device, size_t bytes, enum arena_use use, struct arena *arena);

/* Takes hold of an allocation that exists. While it is held, no VMM memory that is mapped at its address later can be taken
 * for it. leaves: other processes can map it. DRIVER. */
tutti_status arena_hold(const struct device *device, enum arena_kind kind, bool leaves, driver_address address,
                        size_t bytes, struct arena *arena);

/* Fills `bytes` from `offset` (multiples of 4) with a word, and waits for it. */
tutti_status arena_fill(const struct device *device, const struct arena *arena, size_t offset, size_t bytes,
                        uint32_t word);

/* *fd: to be passed to other processes and closed by the caller; -1 if the ticket is enough. */
tutti_status arena_export(const struct device *device, const struct arena *arena, struct arena_ticket *ticket, int *fd);

/* Maps a peer's arena for this device. `fd` stays the caller's; -1 for ranks of this process. place: where, for VMM memory, within
 * what arena_reserve gave; 0: anywhere. */
tutti_status arena_import(const struct device *device, const struct arena_ticket *ticket, int fd, driver_address place,
                          struct arena *arena);

/* Addresses for VMM memory, whole pages of it. DRIVER; UNSUPPORTED: a driver that has none. Given back when nothing is mapped there. */
tutti_status arena_reserve(const struct device *device, size_t bytes, driver_address *address);
void arena_unreserve(const struct device *device, driver_address address, size_t bytes);

/* Unmaps, and frees what is this rank's own. All zero is allowed. */
void arena_release(const struct device *device, struct arena *arena);

#endif
