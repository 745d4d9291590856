/* SPDX-License-Identifier: Apache-2.0 */
/* simd_guarded.h - memory with an inaccessible page right before and right after it. */
#ifndef TESTS_UNIT_SIMD_GUARDED_H
#define TESTS_UNIT_SIMD_GUARDED_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness/check.h"

struct guarded {
    unsigned char *start; /* a page's first byte; the page before faults */
    size_t bytes;         /* whole pages; the page behind faults */
};

/* Lives as long as the program. */
static inline struct guarded guarded_make(size_t bytes_min)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = (bytes_min + page_bytes - 1) / page_bytes * page_bytes;
    unsigned char *map =
        mmap(NULL, bytes + 2 * page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(map != MAP_FAILED, "mmap of %zu bytes", bytes);
    CHECK(mprotect(map + page_bytes, bytes, PROT_READ | PROT_WRITE) == 0, "mprotect");
    return (struct guarded){map + page_bytes, bytes};
}

/* Where an array lies between the two pages. */
enum place {
    PLACE_START,       /* its first byte follows the page before */
    PLACE_END,         /* its last byte precedes the page behind */
    PLACE_AFTER_START, /* one element later than START */
    PLACE_BEFORE_END,  /* three elements earlier than END */
    PLACE_COUNT
};

static inline unsigned char *guarded_place(const struct guarded *memory, size_t bytes, size_t element_bytes,
                                           enum place place)
{
    switch (place) {
    case PLACE_END:
        return memory->start + memory->bytes - bytes;
    case PLACE_AFTER_START:
        return memory->start + element_bytes;
    case PLACE_BEFORE_END:
        return memory->start + memory->bytes - bytes - 3 * element_bytes;
    default:
        return memory->start;
    }
}

#define CANARY 0xa5

/* All of the memory becomes canaries, so that a store outside an array shows. */
static inline void guarded_fill(const struct guarded *memory)
{
    memset(memory->start, CANARY, memory->bytes);
}

static inline bool canaries_only(const unsigned char *from, const unsigned char *to)
{
    return from == to || (*from == CANARY && memcmp(from, from + 1, (size_t)(to - from) - 1) == 0);
}

/* Only [array, array + bytes) may have changed since guarded_fill. */
static inline void guarded_check(const struct guarded *memory, const unsigned char *array, size_t bytes)
{
    CHECK(canaries_only(memory->start, array), "stored before the array of %zu bytes", bytes);
    CHECK(canaries_only(array + bytes, memory->start + memory->bytes), "stored behind the array of %zu bytes", bytes);
}

#endif
