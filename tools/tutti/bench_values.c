/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_values.h"

#include <string.h>

#define BLOCK 1024u

/* How many bits a value may have so that `ranks` of them add up exactly: a significand of 24, 11 or 8 bits. */
static unsigned value_bits(tutti_dtype dtype, int ranks)
{
    uint32_t exact = dtype == TUTTI_F32 ? 1u << 24 : dtype == TUTTI_F16 ? 1u << 11 : 1u << 8;
    unsigned bits = 1;
    while (bits < 12 && (uint32_t)ranks * ((2u << bits) - 1) <= exact) {
        bits++;
    }
    return bits;
}

/* Adds the values to sum[]. Top bits of a Weyl sequence: cheap enough for vector units, without a short period. */
static void add_values(unsigned bits, uint64_t call, int rank, uint64_t first, uint32_t *sum, size_t count)
{
    uint32_t start = (uint32_t)(call * 0x9e3779b1u) + (uint32_t)rank * 0x85ebca77u + (uint32_t)first * 0xc2b2ae3du;
    unsigned shift = 32 - bits;
    for (size_t i = 0; i < count; i++) {
        sum[i] += (start + (uint32_t)i * 0xc2b2ae3du) >> shift;
    }
}

static uint16_t f16_of(uint32_t whole) /* whole <= 2048, so exact */
{
    if (whole == 0) {
        return 0;
    }
    unsigned exponent = 31u - (unsigned)__builtin_clz(whole);
    uint32_t fraction = (whole << 11 >> exponent) & 0x7ffu; /* 11 bits below the leading one; the last is 0 */
    return (uint16_t)(((exponent + 15u) << 10) | (fraction >> 1));
}

static void encode(tutti_dtype dtype, const uint32_t *whole, void *dst, size_t count)
{
    float *f32 = dst;
    uint16_t *u16 = dst;
    for (size_t i = 0; i < count; i++) {
        float value = (float)whole[i];
        uint32_t word = 0;
        switch (dtype) {
        case TUTTI_F32:
            f32[i] = value;
            break;
        case TUTTI_F16:
            u16[i] = f16_of(whole[i]);
            break;
        case TUTTI_BF16:
            memcpy(&word, &value, sizeof(word));
            u16[i] = (uint16_t)(word >> 16);
            break;
        }
    }
}

static uint64_t differing(size_t element_bytes, const char *want, const char *got, size_t count)
{
    if (memcmp(want, got, count * element_bytes) == 0) {
        return 0;
    }
    uint64_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        wrong += memcmp(want + i * element_bytes, got + i * element_bytes, element_bytes) != 0;
    }
    return wrong;
}

void bench_values_fill(tutti_dtype dtype, int ranks, uint64_t call, int rank, uint64_t first, void *dst, size_t count)
{
    size_t element_bytes = dtype == TUTTI_F32 ? 4 : 2;
    unsigned bits = value_bits(dtype, ranks);
    uint32_t whole[BLOCK];
    for (size_t done = 0; done < count; done += BLOCK) {
        size_t part = count - done < BLOCK ? count - done : BLOCK;
        memset(whole, 0, sizeof(whole));
        add_values(bits, call, rank, first + done, whole, part);
        encode(dtype, whole, (char *)dst + done * element_bytes, part);
    }
}

/* Compares with the sum over ranks first_rank .. end_rank-1. */
static uint64_t wrong_against(tutti_dtype dtype, int ranks, uint64_t call, int first_rank, int end_rank, uint64_t first,
                              const void *got, size_t count)
{
    size_t element_bytes = dtype == TUTTI_F32 ? 4 : 2;
    unsigned bits = value_bits(dtype, ranks);
    uint32_t whole[BLOCK];
    float want[BLOCK]; /* or as many 16-bit elements */
    uint64_t wrong = 0;
    for (size_t done = 0; done < count; done += BLOCK) {
        size_t part = count - done < BLOCK ? count - done : BLOCK;
        memset(whole, 0, sizeof(whole));
        for (int rank = first_rank; rank < end_rank; rank++) {
            add_values(bits, call, rank, first + done, whole, part);
        }
        encode(dtype, whole, want, part);
        wrong += differing(element_bytes, (const char *)want, (const char *)got + done * element_bytes, part);
    }
    return wrong;
}

uint64_t bench_values_wrong(tutti_dtype dtype, int ranks, uint64_t call, int rank, uint64_t first, const void *got,
                            size_t count)
{
    return wrong_against(dtype, ranks, call, rank, rank + 1, first, got, count);
}

uint64_t bench_values_wrong_sum(tutti_dtype dtype, int ranks, uint64_t call, uint64_t first, const void *got,
                                size_t count)
{
    return wrong_against(dtype, ranks, call, 0, ranks, first, got, count);
}
