/* SPDX-License-Identifier: Apache-2.0 */
/* failing_malloc.h - one allocation that the library makes fails. For one file of a program, where TRAPS (library.h). */
#ifndef TESTS_HARNESS_FAILING_MALLOC_H
#define TESTS_HARNESS_FAILING_MALLOC_H

#include <stdatomic.h>
#include <stdlib.h>

#include "harness/library.h"

/* countdown: the library's allocation that fails; 0: none, and none is counted. counted: those met so far. */
static _Atomic int countdown;
static __attribute__((unused)) _Atomic int counted;

#if TRAPS

static bool fails(const void *caller)
{
    if (atomic_load(&countdown) <= 0 || !library_has(caller)) {
        return false;
    }
    (void)atomic_fetch_add(&counted, 1);
    return atomic_fetch_sub(&countdown, 1) == 1;
}

/* In place of the C library's, for all libraries of the process. */
#pragma GCC visibility push(default)

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);

void *malloc(size_t bytes)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(memory, bytes);
}
#pragma GCC visibility pop
#endif

#endif
