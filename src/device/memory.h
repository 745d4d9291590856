/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - memory as a backend and the rest of the library speak of it: what a pointer is, allocations that ranks share,
 * and what travels between ranks so that they can map each other's.
 */
#ifndef TUTTI_DEVICE_MEMORY_H
#define TUTTI_DEVICE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

enum memory_class {
    MEMORY_UNKNOWN, /* nothing the driver knows: an ordinary host pointer, or memory that has been freed */
    MEMORY_HOST,    /* host memory: page-locked, or on the host backend any */
    MEMORY_MANAGED,
    MEMORY_POOL, /* of a stream-ordered pool, or of a graph: its pages can go and come any time */
    MEMORY_VMM,  /* VMM memory made without a type of handle */
    MEMORY_FD,   /* memory that a file descriptor stands for: VMM memory made so; a segment of the host backend */
    MEMORY_IPC,  /* a plain device allocation: the driver has IPC handles for it */
};

/* What a pointer is. */
struct memory_facts {
    enum memory_class class;
    bool usable;        /* the communicator's device reads and writes it */
    bool threads_reach; /* the ranks of this process reach it, by its address or by mapping it once more */
    int ordinal;        /* of the device it lies on; -1: none, or not known */
    uint64_t start;     /* its allocation; where that is not known, 0 with `bytes` 0 */
    uint64_t bytes;
    uint64_t identity; /* the allocation's number, which no other ever gets; 0: it has none */
};

/* An allocation that this process has made, holds or has mapped. Beside address and bytes it is the backend's business. */
struct memory_block {
    uint64_t address;
    uint64_t bytes;
    int kind, origin;
    void *object;
};

/* What a rank tells its peers of memory that only the backend can share. */
#define DEVICE_EXPORT_BYTES 256
struct memory_export {
    int fd; /* -1: none. Own: who asked for it closes it. A peer's: given to ranks of other processes, likewise closed by
               the communicator after the import */
    unsigned char bytes[DEVICE_EXPORT_BYTES];
};

#endif
