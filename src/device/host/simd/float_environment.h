/* SPDX-License-Identifier: Apache-2.0 */
/*
 * float_environment.h - the arithmetic's own rounding mode, whatever the caller has set.
 *
 * Engines turn on flush-to-zero for speed and numerics tests change the rounding mode; a result that
 * depended on it would differ between ranks. Whoever calls simd_table->reduce brackets it:
 *
 *     struct float_environment saved;
 *     float_environment_enter(&saved);
 *     ...
 *     float_environment_leave(&saved);
 *
 * Inside: round to nearest even, denormals kept, no exception traps. After: everything as it was, the
 * sticky exception flags too. Per thread; nests.
 */
#ifndef TUTTI_DEVICE_HOST_SIMD_FLOAT_ENVIRONMENT_H
#define TUTTI_DEVICE_HOST_SIMD_FLOAT_ENVIRONMENT_H

#if defined(__x86_64__)

#include <xmmintrin.h>

struct float_environment {
    unsigned mxcsr;
};

/* All exceptions masked, round to nearest, neither FTZ nor DAZ, no flag raised: the value at process start. */
#define FLOAT_ENVIRONMENT_MXCSR 0x1f80u

static inline void float_environment_enter(struct float_environment *saved)
{
    saved->mxcsr = _mm_getcsr();
    _mm_setcsr(FLOAT_ENVIRONMENT_MXCSR);
}

static inline void float_environment_leave(const struct float_environment *saved)
{
    _mm_setcsr(saved->mxcsr);
}

#elif defined(__aarch64__)

#include <stdint.h>

struct float_environment {
    uint64_t control, status;
};

static inline void float_environment_enter(struct float_environment *saved)
{
    /* FPCR 0: round to nearest, no flush to zero (FZ, FZ16, FIZ), no default NaN, no traps. */
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr\n\tmsr fpcr, xzr"
                     : "=&r"(saved->control), "=&r"(saved->status)
                     :
                     : "memory");
}

static inline void float_environment_leave(const struct float_environment *saved)
{
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(saved->control), "r"(saved->status) : "memory");
}

#else

#include <fenv.h>

struct float_environment {
    fenv_t saved;
};

static inline void float_environment_enter(struct float_environment *saved)
{
    (void)fegetenv(&saved->saved);
    (void)fesetenv(FE_DFL_ENV);
}

static inline void float_environment_leave(const struct float_environment *saved)
{
    (void)fesetenv(&saved->saved);
}

#endif

#endif
