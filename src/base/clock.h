/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - monotonic time, and patience: how long a wait has lasted while this process was running. */
#ifndef TUTTI_BASE_CLOCK_H
#define TUTTI_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline uint64_t clock_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A wait's length is the sum of the steps between its looks at the clock, each counted as at most
 * CLOCK_STEP_NS_MAX: a process that was stopped, swapped out or held in a debugger did not wait. */
#define CLOCK_STEP_NS_MAX 10000000u

struct patience {
    uint64_t last_ns;
    uint64_t waited_ns;
};

static inline void patience_begin(struct patience *patience)
{
    patience->last_ns = clock_now_ns();
    patience->waited_ns = 0;
}

/* Adds the step since the last look. Whoever sleeps between looks sleeps at most CLOCK_STEP_NS_MAX at a
 * time, or time is lost. Returns the nanoseconds waited so far. */
static inline uint64_t patience_look(struct patience *patience)
{
    uint64_t now_ns = clock_now_ns();
    uint64_t step_ns = now_ns - patience->last_ns;
    patience->last_ns = now_ns;
    patience->waited_ns += step_ns < CLOCK_STEP_NS_MAX ? step_ns : CLOCK_STEP_NS_MAX;
    return patience->waited_ns;
}

#endif
