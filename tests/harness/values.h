/* SPDX-License-Identifier: Apache-2.0 */
/*
 * values.h - what the ranks of a test put in, and what must come out.
 *
 * Every element is a function of the call, the rank that contributes it and its index, so that a rank can
 * compute what its peers sent, and a result of an earlier call can never pass for that of a later one. The
 * reference is scalar code of its own: it shares nothing with the library.
 */
#ifndef TESTS_HARNESS_VALUES_H
#define TESTS_HARNESS_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

/* -- elements of reductions -------------------------------------------------------------------- */

/* The bits of element `index` that `rank` contributes to `call`. In some calls every 32nd element or so is
 * NaN, an infinity, -0, a denormal, or the largest finite number. */
uint32_t values_element(tutti_dtype dtype, uint64_t call, int rank, size_t index);

/* From here on all elements are integers from -8 to 7, whose sums are exact in any order. For collectives that are not ours. */
void values_integers(void);

/* dst[i] = element first + i. */
void values_fill(void *dst, tutti_dtype dtype, uint64_t call, int rank, size_t first, size_t count);

/* Compares dst[i] bit for bit with `op` over world ranks of element first + i, and sums also with the result
 * in double precision. Prints the first difference and returns false. */
bool values_check(const void *dst, tutti_dtype dtype, tutti_op op, uint64_t call, int world, size_t first,
                  size_t count);

/* The same for any values: `op` over inputs[0 .. world-1]. */
uint32_t values_reduce(tutti_dtype dtype, tutti_op op, const uint32_t *inputs, int world);

/* Exact value of an element's bits, and back with one rounding to nearest even (NaN: the canonical one). */
float values_to_float(tutti_dtype dtype, uint32_t bits);
uint32_t values_from_float(tutti_dtype dtype, float value);

/* -- bytes of copies ----------------------------------------------------------------------------- */

/* dst[i] = byte first + i of what `rank` contributes to `call`. Any first, any alignment. */
void values_fill_bytes(void *dst, uint64_t call, int rank, size_t first, size_t bytes);

/* Prints the first difference and returns false. */
bool values_check_bytes(const void *dst, uint64_t call, int rank, size_t first, size_t bytes);

/* -- buffers with guards ------------------------------------------------------------------------- */

#define VALUES_GUARD_BYTES 64
#define VALUES_UNTOUCHED 0xa5 /* what a fresh span holds */

/* A block of memory, reused by many calls: each takes a span of it, wherever it wants, between guards. */
struct area {
    unsigned char *memory;
    size_t memory_bytes;
    unsigned char *span;
    size_t span_bytes;
};

/* Room for spans of bytes_max, at any offset below 64. Fails the test if there is no memory. */
void area_create(struct area *area, size_t bytes_max);
void area_destroy(struct area *area);

/* A span at `offset` (< 64) from a 64-byte boundary, filled with VALUES_UNTOUCHED, between
 * guards. Ends the span before. */
void *area_take(struct area *area, size_t bytes, size_t offset);

/* False, with a printed line, if a byte beside the span was written. */
bool area_guarded(const struct area *area);

/* A number that tells contents apart; for "not touched" and "the same on all ranks". */
uint64_t values_hash(const void *data, size_t bytes);

#endif
