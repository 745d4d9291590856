/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever rounding and flushing the caller has set: inside the guard the results are the same, and after it the
 * caller's environment is as it was. */
#include <fenv.h>
#include <stdio.h>

#include "device/host/simd/float_environment.h"
#include "device/host/simd/simd.h"
#include "harness/check.h"
#include "harness/ranks.h"
#include "simd_reference.h"

#define COUNT 1024
#define SOURCES 3

static unsigned char values[SOURCES][COUNT * 4], expected[COUNT * 4], result[COUNT * 4];
static const void *const sources[SOURCES] = {values[0], values[1], values[2]};

/* What the caller may have set. */
enum mode { MODE_UP, MODE_DOWN, MODE_TO_ZERO, MODE_FLUSH, MODE_COUNT };

/* False where this machine has no such mode. */
static bool mode_set(enum mode mode)
{
    static const int directions[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    if (mode < MODE_FLUSH) {
        return fesetround(directions[mode]) == 0;
    }
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040); /* FTZ and DAZ */
    return true;
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24 | (uint64_t)1 << 19)); /* FZ and FZ16 */
    return true;
#else
    return false;
#endif
}

static void inputs_make(tutti_dtype dtype, uint64_t *state)
{
    for (size_t i = 0; i < COUNT; i++) {
        for (int s = 0; s < SOURCES; s++) {
            uint64_t random = ranks_random(state);
            /* Every other element tiny, so that flushing shows. */
            int exponent = (i & 1) != 0 ? reference_format(dtype).exponent_min + (int)(random >> 60) % 3 - 3 : 0;
            double magnitude = ldexp(1.0 + (double)(random >> 8 & 0xffffff) / 0x1000000, exponent);
            reference_store(values[s], i, reference_encode((random & 1) != 0 ? -magnitude : magnitude, dtype), dtype);
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        reference_store(expected, i, reference_reduce(sources, SOURCES, i, dtype, TUTTI_SUM), dtype);
    }
}

static void reduce(const struct simd_table *table, tutti_dtype dtype)
{
    memset(result, 0, sizeof(result));
    table->reduce(result, NULL, sources, SOURCES, COUNT, dtype, TUTTI_SUM, false);
}

static void check_restored(const fenv_t *before)
{
    fenv_t after;
    (void)fegetenv(&after);
    CHECK(memcmp(before, &after, sizeof(after)) == 0, "the caller's floating-point environment was changed");
}

static void mode_check(const struct simd_table *table, tutti_dtype dtype, enum mode mode)
{
    size_t bytes = COUNT * reference_bytes(dtype);
    fenv_t initial;
    fenv_t before;
    struct float_environment saved;
    struct float_environment nested;
    memset(&before, 0, sizeof(before));
    (void)fegetenv(&initial);
    if (!mode_set(mode)) {
        return;
    }
    (void)feraiseexcept(FE_DIVBYZERO); /* a flag of the caller's */
    reduce(table, dtype);
    bool mode_matters = memcmp(result, expected, bytes) != 0;

    (void)feclearexcept(FE_INEXACT | FE_UNDERFLOW);
    (void)fegetenv(&before);
    float_environment_enter(&saved);
    reduce(table, dtype);
    float_environment_enter(&nested);
    float_environment_leave(&nested);
    bool still_same = memcmp(result, expected, bytes) == 0;
    reduce(table, dtype);
    still_same = still_same && memcmp(result, expected, bytes) == 0;
    float_environment_leave(&saved);
    check_restored(&before);
    (void)fesetenv(&initial);

    CHECK(still_same, "%s, type %d: mode %d changed the result", table->name, (int)dtype, (int)mode);
    /* 16-bit conversions may round by themselves, but in fp32 the mode must matter, or this test tests nothing. */
    CHECK(mode_matters || dtype != TUTTI_F32, "%s: mode %d has no effect without the guard", table->name, (int)mode);
}

int main(void)
{
    uint64_t state = ranks_seed();
    bool usable = false;
    for (int dtype = TUTTI_F32; dtype <= TUTTI_BF16; dtype++) {
        inputs_make((tutti_dtype)dtype, &state);
        for (size_t t = 0; simd_table_at(t, &usable) != NULL; t++) {
            for (int mode = MODE_UP; usable && mode < MODE_COUNT; mode++) {
                mode_check(simd_table_at(t, &usable), (tutti_dtype)dtype, (enum mode)mode);
            }
        }
    }
    return 0;
}
