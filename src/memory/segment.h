/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - memory that several processes map: one memfd each, without a name in any file system, gone when the
 * last process that maps it is gone, however that ends.
 *
 * A segment is zero at birth and never filled: zero means empty to everybody who lays it out. Its pages are
 * reserved when it is made, so that want of memory is an error then and not a SIGBUS later, and its size is
 * sealed, so that no process can cut it off under another. A process maps a segment once, however many of its
 * ranks use it.
 */
#ifndef TUTTI_MEMORY_SEGMENT_H
#define TUTTI_MEMORY_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

struct segment {
    /* Constant. */
    void *base;
    size_t bytes;
    uint64_t device, inode; /* its identity on this machine */
    /* Private to segment.c. */
    int fd; /* -1: closed, or imported */
    unsigned references;
    struct segment *next;
};

/* Makes, reserves, seals and maps a segment of `bytes` (a multiple of the page size). Its descriptor stays open until
 * segment_fd_close, so that it can be passed on. SYSTEM if there is no room. */
tutti_status segment_create(size_t bytes, struct segment **segment);

/* Maps the segment behind a descriptor that came from another process; `fd` stays the caller's. Before it touches
 * it: it must be a memfd of exactly `bytes`, sealed against shrinking and growing, and reserved. SYSTEM. */
tutti_status segment_import(int fd, size_t bytes, struct segment **segment);

/* Another reference to a segment that this process has mapped; NULL if it has not. */
struct segment *segment_find(uint64_t device, uint64_t inode, size_t bytes);

/* Another reference to the segment that begins at `base`; NULL if none does. */
struct segment *segment_at(const void *base);

/* The descriptor of a segment made here, for passing on; -1 once closed. */
int segment_fd(const struct segment *segment);
void segment_fd_close(struct segment *segment);

/* Gives a reference back; the last one unmaps. NULL is allowed. */
void segment_release(struct segment *segment);

#endif
