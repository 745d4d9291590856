/* SPDX-License-Identifier: Apache-2.0 */
/*
 * portable.c - the arithmetic in plain C, for any CPU.
 *
 * Works in blocks that stay in the first-level cache: all sources of a block are widened to fp32 and
 * combined in order, then the block is rounded and stored. A block is read wholly before it is written, so
 * dst may equal a source. The loops have no branches in them, so that compilers vectorise them.
 */
#include <float.h>
#include <stdint.h>
#include <string.h>

#include "device/host/simd/tables.h"

/* Wider intermediate results would round twice and differ from the other tables. */
_Static_assert(FLT_EVAL_METHOD == 0, "fp32 arithmetic must be done in fp32");

#define BLOCK_ELEMENTS 128

#define F32_INFINITY 0x7f800000u
#define F32_NAN 0x7fc00000u
#define F32_MAGNITUDE 0x7fffffffu

static inline uint32_t f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* -- types to fp32 bits and back ---------------------------------------------------------------- */

/*
 * fp16 is computed with as fp32 times 2^-112: then the exponents have the same bias, fp16's denormals are fp32's
 * denormals, and the conversion is a shift. Sums round as they would unscaled: every value is a multiple of
 * 2^-136, which fp32 holds exactly below 2^-126, and from there on both have 24 bits.
 */
static inline uint32_t f16_widen(uint16_t half)
{
    uint32_t magnitude = (uint32_t)half & 0x7fffu;
    uint32_t special = magnitude >= 0x7c00u ? F32_INFINITY : 0; /* infinity and NaN have no scale */
    return magnitude << 13 | special | ((uint32_t)half & 0x8000u) << 16;
}

static inline uint16_t f16_narrow(uint32_t bits)
{
    uint32_t magnitude = bits & F32_MAGNITUDE;
    uint32_t rounded = (magnitude + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    rounded = rounded < 0x7c00u ? rounded : 0x7c00u;
    rounded |= (bits >> 16) & 0x8000u;
    return (uint16_t)(magnitude > F32_INFINITY ? 0x7e00u : rounded);
}

static inline uint32_t bf16_widen(uint16_t brain)
{
    return (uint32_t)brain << 16;
}

static inline uint16_t bf16_narrow(uint32_t bits)
{
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)((bits & F32_MAGNITUDE) > F32_INFINITY ? 0x7fc0u : rounded);
}

/* The loads go through memcpy because the caller's arrays have whatever type the caller gave them. */
static inline uint32_t widen(const void *source, size_t index, tutti_dtype dtype)
{
    if (dtype == TUTTI_F32) {
        uint32_t bits;
        memcpy(&bits, (const char *)source + index * sizeof(bits), sizeof(bits));
        return bits;
    }
    uint16_t bits;
    memcpy(&bits, (const char *)source + index * sizeof(bits), sizeof(bits));
    return dtype == TUTTI_F16 ? f16_widen(bits) : bf16_widen(bits);
}

static inline void narrow(void *dst, size_t index, uint32_t bits, tutti_dtype dtype)
{
    if (dtype == TUTTI_F32) {
        uint32_t canonical = (bits & F32_MAGNITUDE) > F32_INFINITY ? F32_NAN : bits;
        memcpy((char *)dst + index * sizeof(canonical), &canonical, sizeof(canonical));
        return;
    }
    uint16_t rounded = dtype == TUTTI_F16 ? f16_narrow(bits) : bf16_narrow(bits);
    memcpy((char *)dst + index * sizeof(rounded), &rounded, sizeof(rounded));
}

/* -- operators ---------------------------------------------------------------------------------- */

/* Maps fp32 bits to integers in the order of the numbers, -0 below +0, and back (it is its own inverse). */
static inline int32_t order(uint32_t bits)
{
    return (int32_t)(bits ^ ((0u - (bits >> 31)) & F32_MAGNITUDE));
}

static inline uint32_t combine(uint32_t a, uint32_t b, tutti_op op)
{
    if (op == TUTTI_SUM) {
        return f32_bits(f32_from_bits(a) + f32_from_bits(b));
    }
    int32_t first = order(a);
    int32_t other = order(b);
    bool takes_a = op == TUTTI_MAX ? first > other : first < other;
    uint32_t chosen = takes_a ? a : b;
    bool is_nan = (a & F32_MAGNITUDE) > F32_INFINITY || (b & F32_MAGNITUDE) > F32_INFINITY;
    return is_nan ? F32_NAN : chosen;
}

/* -- reduce ------------------------------------------------------------------------------------- */

/* Inlined with constant dtype and op, and with a constant count for all blocks but the last. */
static inline __attribute__((always_inline)) void reduce_block(char *dst, const void *const *sources, int source_count,
                                                               size_t first, size_t count, tutti_dtype dtype,
                                                               tutti_op op)
{
    const size_t offset_bytes = first * (dtype == TUTTI_F32 ? 4 : 2);
    uint32_t values[BLOCK_ELEMENTS];
    for (size_t i = 0; i < count; i++) {
        values[i] = widen((const char *)sources[0] + offset_bytes, i, dtype);
    }
    for (int s = 1; s < source_count; s++) {
        const char *source = (const char *)sources[s] + offset_bytes;
        for (size_t i = 0; i < count; i++) {
            values[i] = combine(values[i], widen(source, i, dtype), op);
        }
    }
    for (size_t i = 0; i < count; i++) {
        narrow(dst + offset_bytes, i, values[i], dtype);
    }
}

static inline __attribute__((always_inline)) void reduce_all(char *dst, char *second, const void *const *sources,
                                                             int source_count, size_t count, tutti_dtype dtype,
                                                             tutti_op op)
{
    const size_t element_bytes = dtype == TUTTI_F32 ? 4 : 2;
    for (size_t first = 0; first < count; first += BLOCK_ELEMENTS) {
        size_t block_count = count - first < BLOCK_ELEMENTS ? count - first : BLOCK_ELEMENTS;
        if (block_count == BLOCK_ELEMENTS) {
            reduce_block(dst, sources, source_count, first, BLOCK_ELEMENTS, dtype, op);
        } else {
            reduce_block(dst, sources, source_count, first, block_count, dtype, op);
        }
        if (second != NULL) {
            memcpy(second + first * element_bytes, dst + first * element_bytes, block_count * element_bytes);
        }
    }
}

static inline __attribute__((always_inline)) void reduce_op(char *dst, char *second, const void *const *sources,
                                                            int source_count, size_t count, tutti_dtype dtype,
                                                            tutti_op op)
{
    switch (op) {
    case TUTTI_SUM:
        reduce_all(dst, second, sources, source_count, count, dtype, TUTTI_SUM);
        break;
    case TUTTI_MAX:
        reduce_all(dst, second, sources, source_count, count, dtype, TUTTI_MAX);
        break;
    case TUTTI_MIN:
        reduce_all(dst, second, sources, source_count, count, dtype, TUTTI_MIN);
        break;
    }
}

/* Plain C has no non-temporal stores: `streaming` changes nothing here. */
static void portable_reduce(void *dst, void *second, const void *const *sources, int source_count, size_t count,
                            tutti_dtype dtype, tutti_op op, bool streaming)
{
    (void)streaming;
    switch (dtype) {
    case TUTTI_F32:
        reduce_op(dst, second, sources, source_count, count, TUTTI_F32, op);
        break;
    case TUTTI_F16:
        reduce_op(dst, second, sources, source_count, count, TUTTI_F16, op);
        break;
    case TUTTI_BF16:
        reduce_op(dst, second, sources, source_count, count, TUTTI_BF16, op);
        break;
    }
}

static void portable_copy(void *dst, const void *src, size_t bytes, bool streaming)
{
    (void)streaming;
    if (bytes > 0) { /* either pointer may be NULL then */
        memcpy(dst, src, bytes);
    }
}

const struct simd_table simd_table_portable = {"portable", portable_reduce, portable_copy};
