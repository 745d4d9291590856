/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All numbers of the 16-bit types, and for each of them the fp32 sums just below, at and just above the middle
 * between it and its neighbours: the rounding of every table, exhaustively.
 */
#include <stdio.h>

#include "device/host/simd/float_environment.h"
#include "device/host/simd/simd.h"
#include "harness/check.h"
#include "simd_reference.h"

#define NUMBERS 65536

static uint16_t numbers[NUMBERS], halves[NUMBERS], traces[NUMBERS], results[NUMBERS];

static void check_against_reference(const struct simd_table *table, const void *const *sources, int source_count,
                                    tutti_dtype dtype, tutti_op op)
{
    memset(results, 0xa5, sizeof(results));
    table->reduce(results, NULL, sources, source_count, NUMBERS, dtype, op, false);
    for (size_t i = 0; i < NUMBERS; i++) {
        uint32_t wanted = reference_reduce(sources, source_count, i, dtype, op);
        CHECK(results[i] == wanted, "%s, type %d, op %d: 0x%x + 0x%x + 0x%x is 0x%x, not 0x%x", table->name, (int)dtype,
              (int)op, numbers[i], halves[i], traces[i], results[i], wanted);
    }
}

/* One source: every number comes out as it went in, but NaN as the canonical one. */
static void check_identity(const struct simd_table *table, tutti_dtype dtype)
{
    struct reference_format format = reference_format(dtype);
    for (int op = TUTTI_SUM; op <= TUTTI_MIN; op++) {
        const void *const sources[] = {numbers};
        table->reduce(results, NULL, sources, 1, NUMBERS, dtype, (tutti_op)op, false);
        for (uint32_t i = 0; i < NUMBERS; i++) {
            uint32_t wanted = isnan(reference_decode(i, dtype)) ? format.nan : i;
            CHECK(results[i] == wanted, "%s, type %d, op %d: 0x%x becomes 0x%x, not 0x%x", table->name, (int)dtype, op,
                  i, results[i], wanted);
        }
    }
}

/* Adds to every number half the distance to its neighbour, times half_sign, and then the least that fp32 keeps
 * beside it, times trace_sign. What the type cannot express becomes zero, which harms nothing. */
static size_t middles_make(tutti_dtype dtype, int half_sign, int trace_sign)
{
    struct reference_format format = reference_format(dtype);
    size_t real_middles = 0;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        double number = reference_decode(i, dtype);
        halves[i] = 0;
        traces[i] = 0;
        if (isnan(number) || isinf(number) || number == 0) {
            continue;
        }
        int exponent = ilogb(number) > format.exponent_min ? ilogb(number) : format.exponent_min;
        double half = half_sign * ldexp(1, exponent - format.mantissa_bits - 1);
        double trace = trace_sign * ldexp(1, exponent - 23);
        double trace_kept = fabs(trace) > 0 && reference_encode(trace, dtype) << 17 == 0
                                ? trace_sign * ldexp(1, format.exponent_min - format.mantissa_bits)
                                : trace;
        halves[i] = (uint16_t)reference_encode(half, dtype);
        traces[i] = (uint16_t)reference_encode(trace_kept, dtype);
        real_middles += half != 0 && reference_decode(halves[i], dtype) == half;
    }
    return real_middles;
}

int main(void)
{
    struct float_environment saved;
    float_environment_enter(&saved);
    for (uint32_t i = 0; i < NUMBERS; i++) {
        numbers[i] = (uint16_t)i;
    }
    const void *const sources[] = {numbers, halves, traces};
    bool usable = false;
    for (size_t t = 0; simd_table_at(t, &usable) != NULL; t++) {
        if (!usable) {
            continue;
        }
        const struct simd_table *table = simd_table_at(t, &usable);
        for (int dtype = TUTTI_F16; dtype <= TUTTI_BF16; dtype++) {
            check_identity(table, (tutti_dtype)dtype);
            for (int signs = 0; signs < 9; signs++) {
                size_t real_middles = middles_make((tutti_dtype)dtype, signs / 3 - 1, signs % 3 - 1);
                CHECK(signs / 3 == 1 || real_middles > NUMBERS / 2, "only %zu middles tested", real_middles);
                for (int op = TUTTI_SUM; op <= TUTTI_MIN; op++) {
                    check_against_reference(table, sources, 3, (tutti_dtype)dtype, (tutti_op)op);
                }
            }
        }
    }
    float_environment_leave(&saved);
    return 0;
}
