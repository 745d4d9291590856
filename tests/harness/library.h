/* SPDX-License-Identifier: Apache-2.0 */
/* library.h - where libtutti.so lies in this process, for tests that stand in the C library's place and ask who calls. */
#ifndef TESTS_HARNESS_LIBRARY_H
#define TESTS_HARNESS_LIBRARY_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "harness/check.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TRAPS 0 /* sanitizers have put themselves in these places */
#else
#define TRAPS 1
#endif

static uintptr_t library_first, library_end;

static inline int library_look(struct dl_phdr_info *library, size_t bytes, void *user)
{
    (void)bytes;
    (void)user;
    for (int index = 0; index < library->dlpi_phnum && strstr(library->dlpi_name, "libtutti.so") != NULL; index++) {
        const ElfW(Phdr) *part = &library->dlpi_phdr[index];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0) {
            library_first = library->dlpi_addr + part->p_vaddr;
            library_end = library_first + part->p_memsz;
        }
    }
    return 0;
}

/* Once, before the question. */
static inline void library_find(void)
{
    CHECK(dl_iterate_phdr(library_look, NULL) == 0 && library_end != 0, "libtutti.so is nowhere");
}

/* Whether the return address of a call is one of the library's. */
static inline bool library_has(const void *caller)
{
    uintptr_t address = (uintptr_t)caller;
    return address >= library_first && address < library_end;
}

#endif
