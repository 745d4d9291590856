/* SPDX-License-Identifier: Apache-2.0 */
/* avx2.c - the arithmetic with AVX2 and F16C: 32 bytes at a time. */
#include "device/host/simd/tables.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define VEC_BYTES ((size_t)32)
#define BLOCK_VECS 4

typedef __m256i vec;

struct vec_pair {
    vec first, other;
};

static inline vec vec_load(const void *address)
{
    return _mm256_loadu_si256(address);
}

static inline void vec_store(void *address, vec value)
{
    _mm256_storeu_si256(address, value);
}

static inline void vec_stream(void *address, vec value)
{
    _mm256_stream_si256(address, value);
}

static inline void vec_stream_fence(void)
{
    _mm_sfence();
}

/* bytes < 32, in pieces whose sizes the compiler knows: a call of memcpy would cost more than the sum. */
static inline void part_copy(char *dst, const char *src, size_t bytes)
{
    size_t at = 0;
    if ((bytes & 16) != 0) {
        memcpy(dst, src, 16);
        at = 16;
    }
    if ((bytes & 8) != 0) {
        memcpy(dst + at, src + at, 8);
        at += 8;
    }
    if ((bytes & 4) != 0) {
        memcpy(dst + at, src + at, 4);
        at += 4;
    }
    if ((bytes & 2) != 0) {
        memcpy(dst + at, src + at, 2);
    }
}

/* AVX2 has no masks for 16-bit elements. */
static inline vec vec_load_part(const void *address, size_t bytes)
{
    char whole[32] = {0};
    part_copy(whole, address, bytes);
    return vec_load(whole);
}

static inline void vec_store_part(void *address, vec value, size_t bytes)
{
    char whole[32];
    vec_store(whole, value);
    part_copy(address, whole, bytes);
}

static inline vec vec_set(int32_t value, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? _mm256_set1_epi32(value) : _mm256_set1_epi16((int16_t)value);
}

static inline vec vec_add(vec a, vec b, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? _mm256_add_epi32(a, b) : _mm256_add_epi16(a, b);
}

static inline vec vec_max(vec a, vec b, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? _mm256_max_epi32(a, b) : _mm256_max_epi16(a, b);
}

static inline vec vec_min(vec a, vec b, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? _mm256_min_epi32(a, b) : _mm256_min_epi16(a, b);
}

static inline vec vec_order(vec raw, tutti_dtype dtype)
{
    vec sign = dtype == TUTTI_F32 ? _mm256_srai_epi32(raw, 31) : _mm256_srai_epi16(raw, 15);
    vec magnitude = vec_set(dtype == TUTTI_F32 ? 0x7fffffff : 0x7fff, dtype);
    return _mm256_xor_si256(raw, _mm256_and_si256(sign, magnitude));
}

static inline vec vec_select_greater(vec a, vec b, vec yes, vec no, tutti_dtype dtype)
{
    vec greater = dtype == TUTTI_F32 ? _mm256_cmpgt_epi32(a, b) : _mm256_cmpgt_epi16(a, b);
    return _mm256_blendv_epi8(no, yes, greater);
}

static inline vec f32_add(vec a, vec b, tutti_dtype dtype)
{
    (void)dtype;
    return _mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
}

static inline vec f32_canonical(vec value)
{
    __m256 number = _mm256_castsi256_ps(value);
    __m256 is_nan = _mm256_cmp_ps(number, number, _CMP_UNORD_Q);
    __m256 canonical = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    return _mm256_castps_si256(_mm256_blendv_ps(number, canonical, is_nan));
}

typedef __m256 nans;

static inline nans nans_none(void)
{
    return _mm256_setzero_ps();
}

static inline nans nans_note(nans seen, vec a, vec b)
{
    return _mm256_or_ps(seen, _mm256_cmp_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), _CMP_UNORD_Q));
}

static inline bool nans_any(nans seen)
{
    return _mm256_movemask_ps(seen) != 0;
}

static inline struct vec_pair f16_load(const char *address)
{
    __m256 low = _mm256_cvtph_ps(_mm_loadu_si128((const void *)address));
    __m256 high = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(address + 16)));
    return (struct vec_pair){_mm256_castps_si256(low), _mm256_castps_si256(high)};
}

static inline vec f16_narrow(struct vec_pair sum)
{
    __m128i low = _mm256_cvtps_ph(_mm256_castsi256_ps(sum.first), _MM_FROUND_TO_NEAREST_INT);
    __m128i high = _mm256_cvtps_ph(_mm256_castsi256_ps(sum.other), _MM_FROUND_TO_NEAREST_INT);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* Even elements in `first`, odd ones in `other`: no shuffles are needed. */
static inline struct vec_pair bf16_load(const char *address)
{
    vec raw = vec_load(address);
    return (struct vec_pair){_mm256_slli_epi32(raw, 16), _mm256_and_si256(raw, _mm256_set1_epi32((int)0xffff0000))};
}

/*
 * Gathers the upper and the lower halves of all 16 sums, then rounds in 16 bits: up if the lower half is above
 * 0x8000, or equal to it and the upper one odd.
 */
static inline vec bf16_narrow(struct vec_pair sum)
{
    vec upper = _mm256_blend_epi16(_mm256_srli_epi32(sum.first, 16), sum.other, 0xaa);
    vec lower = _mm256_blend_epi16(sum.first, _mm256_slli_epi32(sum.other, 16), 0xaa);
    vec even = _mm256_andnot_si256(upper, _mm256_set1_epi16(1));
    vec up = _mm256_srli_epi16(_mm256_subs_epu16(lower, even), 15);
    return _mm256_add_epi16(upper, up);
}

#include "device/host/simd/reduce_template.h"

const struct simd_table simd_table_avx2 = {"avx2", vector_reduce, vector_copy};

#endif
