/* SPDX-License-Identifier: Apache-2.0 */
/* avx512.c - the arithmetic with AVX-512 F, BW, VL and DQ: 64 bytes at a time. */
#include "device/host/simd/tables.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define VEC_BYTES ((size_t)64)
#define BLOCK_VECS 4

typedef __m512i vec;

struct vec_pair {
    vec first, other;
};

static inline vec vec_load(const void *address)
{
    return _mm512_loadu_si512(address);
}

static inline void vec_store(void *address, vec value)
{
    _mm512_storeu_si512(address, value);
}

static inline void vec_stream(void *address, vec value)
{
    _mm512_stream_si512(address, value);
}

static inline void vec_stream_fence(void)
{
    _mm_sfence();
}

/* Masked: the bytes that are left out are not touched, so the next page may be missing. */
static inline vec vec_load_part(const void *address, size_t bytes)
{
    return _mm512_maskz_loadu_epi8((1ull << bytes) - 1, address);
}

static inline void vec_store_part(void *address, vec value, size_t bytes)
{
    _mm512_mask_storeu_epi8(address, (1ull << bytes) - 1, value);
}

static inline vec vec_set(int32_t value, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? _mm512_set1_epi32(value) : _mm512_set1_epi16((int16_t)value);
}

static inline vec vec_add(vec a, vec b, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? _mm512_add_epi32(a, b) : _mm512_add_epi16(a, b);
}

static inline vec vec_max(vec a, vec b, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? _mm512_max_epi32(a, b) : _mm512_max_epi16(a, b);
}

static inline vec vec_min(vec a, vec b, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? _mm512_min_epi32(a, b) : _mm512_min_epi16(a, b);
}

static inline vec vec_order(vec raw, tutti_dtype dtype)
{
    vec sign = dtype == TUTTI_F32 ? _mm512_srai_epi32(raw, 31) : _mm512_srai_epi16(raw, 15);
    vec magnitude = vec_set(dtype == TUTTI_F32 ? 0x7fffffff : 0x7fff, dtype);
    return _mm512_ternarylogic_epi32(raw, sign, magnitude, 0x78); /* raw ^ (sign & magnitude) */
}

static inline vec vec_select_greater(vec a, vec b, vec yes, vec no, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? _mm512_mask_mov_epi32(no, _mm512_cmpgt_epi32_mask(a, b), yes)
                              : _mm512_mask_mov_epi16(no, _mm512_cmpgt_epi16_mask(a, b), yes);
}

/* Conversions from and to fp16 keep the adders' pipes busy, so those sums go through the multipliers: a * 1 + b
 * is exact up to its one rounding. */
static inline vec f32_add(vec a, vec b, tutti_dtype dtype)
{
    __m512 first = _mm512_castsi512_ps(a);
    __m512 other = _mm512_castsi512_ps(b);
    return _mm512_castps_si512(dtype == TUTTI_F16 ? _mm512_fmadd_ps(first, _mm512_set1_ps(1.0f), other)
                                                  : _mm512_add_ps(first, other));
}

static inline vec f32_canonical(vec value)
{
    __m512 number = _mm512_castsi512_ps(value);
    __mmask16 is_nan = _mm512_cmp_ps_mask(number, number, _CMP_UNORD_Q);
    return _mm512_mask_mov_epi32(value, is_nan, _mm512_set1_epi32(0x7fc00000));
}

typedef __mmask16 nans;

static inline nans nans_none(void)
{
    return 0;
}

static inline nans nans_note(nans seen, vec a, vec b)
{
    return _kor_mask16(seen, _mm512_cmp_ps_mask(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), _CMP_UNORD_Q));
}

static inline bool nans_any(nans seen)
{
    return _kortestz_mask16_u8(seen, seen) == 0;
}

static inline struct vec_pair f16_load(const char *address)
{
    __m512 low = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)address));
    __m512 high = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(address + 32)));
    return (struct vec_pair){_mm512_castps_si512(low), _mm512_castps_si512(high)};
}

/* Unoptimised, the compiler's own header makes a macro of the conversion, and the macro a warning. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
static inline vec f16_narrow(struct vec_pair sum)
{
    __m256i low = _mm512_cvtps_ph(_mm512_castsi512_ps(sum.first), _MM_FROUND_TO_NEAREST_INT);
    __m256i high = _mm512_cvtps_ph(_mm512_castsi512_ps(sum.other), _MM_FROUND_TO_NEAREST_INT);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
#pragma GCC diagnostic pop

/* Even elements in `first`, odd ones in `other`: no shuffles are needed. */
static inline struct vec_pair bf16_load(const char *address)
{
    vec raw = vec_load(address);
    return (struct vec_pair){_mm512_slli_epi32(raw, 16), _mm512_and_si512(raw, _mm512_set1_epi32((int)0xffff0000))};
}

/*
 * Gathers the upper and the lower halves of all 32 sums, then rounds in 16 bits: up if the lower half is above
 * 0x8000, or equal to it and the upper one odd.
 */
static inline vec bf16_narrow(struct vec_pair sum)
{
    /* The two halves of each 32 bits change places; the mask takes what arrives where it belongs. */
    const vec swap = _mm512_broadcast_i32x4(_mm_set_epi32(0x0d0c0f0e, 0x09080b0a, 0x05040706, 0x01000302));
    vec upper = _mm512_mask_shuffle_epi8(sum.other, 0x3333333333333333, sum.first, swap);
    vec lower = _mm512_mask_shuffle_epi8(sum.first, 0xcccccccccccccccc, sum.other, swap);
    vec even = _mm512_andnot_si512(upper, _mm512_set1_epi16(1));
    vec up = _mm512_srli_epi16(_mm512_subs_epu16(lower, even), 15);
    return _mm512_add_epi16(upper, up);
}

#include "device/host/simd/reduce_template.h"

const struct simd_table simd_table_avx512 = {"avx512", vector_reduce, vector_copy};

#endif
