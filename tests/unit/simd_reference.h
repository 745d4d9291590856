/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simd_reference.h - the number rules of tutti_op again, the slow and obvious way.
 *
 * Shares no code and no trick with src/device/host/simd: numbers are taken apart and put together with ldexp and
 * nearbyint in double precision, in which all of it is exact. Only the sums are fp32, as promised.
 */
#ifndef TESTS_UNIT_SIMD_REFERENCE_H
#define TESTS_UNIT_SIMD_REFERENCE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tutti/tutti.h"

struct reference_format {
    int mantissa_bits; /* stored */
    int exponent_min;  /* of the smallest normal number */
    int exponent_max;  /* of the largest one */
    uint32_t nan;
};

static inline struct reference_format reference_format(tutti_dtype dtype)
{
    switch (dtype) {
    case TUTTI_F16:
        return (struct reference_format){10, -14, 15, 0x7e00};
    case TUTTI_BF16:
        return (struct reference_format){7, -126, 127, 0x7fc0};
    default:
        return (struct reference_format){23, -126, 127, 0x7fc00000};
    }
}

static inline size_t reference_bytes(tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? 4 : 2;
}

static inline double reference_decode(uint32_t bits, tutti_dtype dtype)
{
    struct reference_format format = reference_format(dtype);
    int sign_bit = (int)reference_bytes(dtype) * 8 - 1;
    uint32_t mantissa = bits & ((1u << format.mantissa_bits) - 1);
    int exponent_field = (int)((bits & ~(1u << sign_bit)) >> format.mantissa_bits);
    double magnitude;
    if (exponent_field == format.exponent_max - format.exponent_min + 2) {
        magnitude = mantissa == 0 ? (double)INFINITY : (double)NAN;
    } else if (exponent_field == 0) {
        magnitude = ldexp((double)mantissa, format.exponent_min - format.mantissa_bits);
    } else {
        magnitude = ldexp((double)(mantissa + (1u << format.mantissa_bits)),
                          exponent_field - 1 + format.exponent_min - format.mantissa_bits);
    }
    return (bits >> sign_bit) != 0 ? -magnitude : magnitude;
}

/* Rounds to nearest even; overflow is infinity; any NaN is the canonical one. */
static inline uint32_t reference_encode(double value, tutti_dtype dtype)
{
    struct reference_format format = reference_format(dtype);
    if (isnan(value)) {
        return format.nan;
    }
    uint32_t sign = (signbit(value) ? 1u : 0u) << (reference_bytes(dtype) * 8 - 1);
    uint32_t infinity = (uint32_t)(format.exponent_max - format.exponent_min + 2) << format.mantissa_bits;
    double magnitude = fabs(value);
    if (isinf(magnitude)) {
        return sign | infinity;
    }
    int exponent = format.exponent_min;
    if (magnitude > 0 && ilogb(magnitude) > exponent) {
        exponent = ilogb(magnitude);
    }
    double units = nearbyint(ldexp(magnitude, format.mantissa_bits - exponent));
    if (units >= ldexp(2, format.mantissa_bits)) { /* rounded up to the next power of two */
        units /= 2;
        exponent++;
    }
    if (exponent > format.exponent_max) {
        return sign | infinity;
    }
    uint32_t field = (uint32_t)(exponent - format.exponent_min) << format.mantissa_bits;
    return sign | (field + (uint32_t)units); /* a normal number's leading bit counts the exponent one up */
}

static inline uint32_t reference_load(const void *array, size_t index, tutti_dtype dtype)
{
    if (dtype == TUTTI_F32) {
        uint32_t bits;
        memcpy(&bits, (const char *)array + index * 4, 4);
        return bits;
    }
    uint16_t bits;
    memcpy(&bits, (const char *)array + index * 2, 2);
    return bits;
}

static inline void reference_store(void *array, size_t index, uint32_t bits, tutti_dtype dtype)
{
    if (dtype == TUTTI_F32) {
        memcpy((char *)array + index * 4, &bits, 4);
    } else {
        uint16_t half = (uint16_t)bits;
        memcpy((char *)array + index * 2, &half, 2);
    }
}

/* Whether b takes a's place as the extreme: NaN before all, -0 below +0. */
static inline bool reference_beats(double b, double a, tutti_op op)
{
    if (isnan(a) || isnan(b)) {
        return isnan(b);
    }
    if (a == b) {
        return op == TUTTI_MAX ? signbit(a) && !signbit(b) : !signbit(a) && signbit(b);
    }
    return op == TUTTI_MAX ? b > a : b < a;
}

/* One element's result, as bits of dtype. */
static inline uint32_t reference_reduce(const void *const *sources, int source_count, size_t index, tutti_dtype dtype,
                                        tutti_op op)
{
    double first = reference_decode(reference_load(sources[0], index, dtype), dtype);
    float sum = (float)first;
    double extreme = first;
    for (int s = 1; s < source_count; s++) {
        double value = reference_decode(reference_load(sources[s], index, dtype), dtype);
        sum = sum + (float)value;
        if (reference_beats(value, extreme, op)) {
            extreme = value;
        }
    }
    return reference_encode(op == TUTTI_SUM ? (double)sum : extreme, dtype);
}

#endif
