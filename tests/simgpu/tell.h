/* SPDX-License-Identifier: Apache-2.0 */
/* tell.h - what the simulated driver of this process tells tests alone, and does for them alone. */
#ifndef TESTS_SIMGPU_TELL_H
#define TESTS_SIMGPU_TELL_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"

static inline bool is_cuda(void)
{
    const char *named = getenv("TUTTI_TEST_GPU");
    return named == NULL || strcmp(named, "cuda") == 0;
}

static inline void *driver_entry(const char *name)
{
    void *library = dlopen(getenv(is_cuda() ? "TUTTI_CUDA_LIBRARY" : "TUTTI_HIP_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
    void *entry = library != NULL ? dlsym(library, name) : NULL;
    CHECK(entry != NULL, "no %s", name);
    return entry;
}

/* Of graphs, on streams, so far; and how many of them of graphs that hold user objects. */
struct launches {
    uint64_t all, holding;
};

static inline struct launches launches(void)
{
    void (*ask)(uint64_t * all, uint64_t * holding);
    void *entry = driver_entry("simgpu_launches");
    struct launches found;
    memcpy(&ask, &entry, sizeof(ask));
    ask(&found.all, &found.holding);
    return found;
}

/* From here on these faults (SIMGPU_FAULTS); how often the former ones have struck. */
static inline uint64_t fault_set(const char *text)
{
    uint64_t (*set)(const char *text);
    void *entry = driver_entry("simgpu_fault");
    memcpy(&set, &entry, sizeof(set));
    return set(text);
}

#endif
