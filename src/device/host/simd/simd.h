/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simd.h - the arithmetic of the host backend.
 *
 * One table a vector extension, chosen once per process (simd_table). All tables give the same bits: fp32
 * accumulation in source order, one rounding to nearest even at the end, canonical NaN, see tutti_op.
 */
#ifndef TUTTI_DEVICE_HOST_SIMD_H
#define TUTTI_DEVICE_HOST_SIMD_H

#include <stdbool.h>
#include <stddef.h>

#include "tutti/tutti.h"

struct simd_table {
    const char *name; /* "avx512", "avx2", "portable" */

    /* dst[i] = op over s of sources[s][i], s = 0 .. source_count-1 in this order, i < count. source_count >= 1;
     * with 1 source the values pass through the same rules (canonical NaN). If `second` is not NULL it
     * receives the same values. dst and second may each equal any source; otherwise nothing overlaps. Pointers are aligned to the
     * element only. `streaming`: the caller will not read dst soon and it exceeds the caches: dst is written with
     * non-temporal stores (followed by the fence that makes them visible before later stores); `second` never is.
     * The caller holds the float environment (float_environment.h). */
    void (*reduce)(void *dst, void *second, const void *const *sources, int source_count, size_t count,
                   tutti_dtype dtype, tutti_op op, bool streaming);

    /* memcpy; non-temporal stores to dst (with their fence) if `streaming`. Any alignment. */
    void (*copy)(void *dst, const void *src, size_t bytes, bool streaming);
};

/* The best table that this CPU runs, or the one that the setting TUTTI_HOST_SIMD asks for. Never NULL; an extension
 * that is asked for and absent was refused by simd_check. */
const struct simd_table *simd_table(void);

/* UNSUPPORTED with a sentence if TUTTI_HOST_SIMD asks for what this CPU lacks. */
tutti_status simd_check(void);

/* The tables compiled in, best first, NULL past the last; `*usable` tells whether this CPU runs it. For tests and
 * `tutti info`. */
const struct simd_table *simd_table_at(size_t index, bool *usable);

#endif
