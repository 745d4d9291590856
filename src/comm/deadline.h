/* SPDX-License-Identifier: Apache-2.0 */
/* deadline.h - how long a wait of the control plane may last, and what else ends it. */
#ifndef TUTTI_COMM_DEADLINE_H
#define TUTTI_COMM_DEADLINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

#define DEADLINE_STEP_MS ((int)(CLOCK_STEP_NS_MAX / 1000000u)) /* the longest sleep between two looks */

struct deadline {
    struct patience patience;
    uint32_t limit_ms;
    const _Atomic uint32_t *failed; /* nonzero ends the wait; NULL: nothing does */
};

static inline struct deadline deadline_in(uint32_t limit_ms, const _Atomic uint32_t *failed)
{
    struct deadline deadline = {{0, 0}, limit_ms, failed};
    patience_begin(&deadline.patience);
    return deadline;
}

static inline bool deadline_expired(struct deadline *deadline)
{
    return patience_look(&deadline->patience) >= (uint64_t)deadline->limit_ms * 1000000u;
}

static inline bool deadline_cut(const struct deadline *deadline)
{
    return deadline->failed != NULL && atomic_load_explicit(deadline->failed, memory_order_acquire) != 0;
}

#endif
