/* SPDX-License-Identifier: Apache-2.0 */
/* simd.c - which table this process computes with. */
#include "device/host/simd/simd.h"

#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/settings.h"
#include "device/host/simd/tables.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* The compiler's run-time library also asks whether the operating system saves the wide registers. */
static bool cpu_runs_avx2(void)
{
    /* Asked by hand: not every compiler that we build with knows F16C by name. */
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
    return f16c && __builtin_cpu_supports("avx2");
}

static bool cpu_runs_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

static bool cpu_runs_portable(void)
{
    return true;
}

/* Best first; the last one runs everywhere. */
static const struct {
    const struct simd_table *table;
    bool (*cpu_runs)(void);
} candidates[] = {
#if defined(__x86_64__)
    {&simd_table_avx512, cpu_runs_avx512},
    {&simd_table_avx2, cpu_runs_avx2},
#endif
    {&simd_table_portable, cpu_runs_portable},
};
#define CANDIDATE_COUNT (sizeof(candidates) / sizeof(candidates[0]))

const struct simd_table *simd_table_at(size_t index, bool *usable)
{
    if (index >= CANDIDATE_COUNT) {
        return NULL;
    }
    *usable = candidates[index].cpu_runs();
    return candidates[index].table;
}

static const struct simd_table *best_table(void)
{
    size_t index = 0;
    while (!candidates[index].cpu_runs()) {
        index++;
    }
    return candidates[index].table;
}

/* The usable table of that name, or NULL. */
static const struct simd_table *table_by_name(const char *name)
{
    for (size_t index = 0; index < CANDIDATE_COUNT; index++) {
        if (strcmp(candidates[index].table->name, name) == 0) {
            return candidates[index].cpu_runs() ? candidates[index].table : NULL;
        }
    }
    return NULL;
}

static bool asks_for_one(const char *name)
{
    return name[0] != '\0' && strcmp(name, "auto") != 0;
}

const struct simd_table *simd_table(void)
{
    /* Threads that come here at the same time find the same answer; whoever is last stores it again. */
    static _Atomic(const struct simd_table *) chosen;
    const struct simd_table *table = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (table == NULL) {
        const char *name = settings_text(SETTING_HOST_SIMD);
        table = asks_for_one(name) ? table_by_name(name) : NULL;
        if (table == NULL) {
            table = best_table();
        }
        atomic_store_explicit(&chosen, table, memory_order_relaxed);
    }
    return table;
}

tutti_status simd_check(void)
{
    const char *name = settings_text(SETTING_HOST_SIMD);
    if (asks_for_one(name) && table_by_name(name) == NULL) {
        return error_set(TUTTI_ERR_UNSUPPORTED,
                         "TUTTI_HOST_SIMD=%s asks for instructions that this CPU or build lacks; the best it has is %s",
                         name, best_table()->name);
    }
    return TUTTI_OK;
}
