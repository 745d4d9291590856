/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_numerics.h - how numbers are kept so that any rank count gives the same bits.
 *
 * EXACT. Every input of a matrix product is q * 2^-s with an integer |q| <= 127, every weight is w * 2^-t with an
 * integer |w| <= 7. A dot product of K terms is then an integer below K * 127 * 7 times 2^-(s+t), and so is every
 * partial sum of it, in whatever order and grouping a BLAS kernel or an all-reduce takes them. fp32 holds integers
 * below 2^24 exactly, so for K <= 18872 nothing is ever rounded and the order cannot matter. What lies between
 * the products (norms, RoPE, attention of one head, SwiGLU) is computed row by row by one piece of code, on
 * every rank alike or on the one rank that owns the head. A GPU adds in the host's order there, contracts nothing and
 * divides and roots as IEEE 754 says, and so has the host's bits.
 *
 * REAL. The same weights' statistics with ordinary floats, nothing is put on a grid, and the all-reduces carry
 * bf16: results differ from one rank's by rounding, within a stated bound.
 */
#ifndef TUTTI_TOOL_MODEL_NUMERICS_H
#define TUTTI_TOOL_MODEL_NUMERICS_H

#include <stdint.h>
#include <string.h>

/* What a GPU's kernels compute too stands here and in the few headers that use this word: one text, so the same bits. */
#if defined(__CUDACC__)
#define NUMERICS_INLINE static __device__ __forceinline__
#else
#define NUMERICS_INLINE static inline
#endif

enum numerics { NUMERICS_EXACT, NUMERICS_REAL };

#define EXACT_INPUT_MAX 127
#define EXACT_WEIGHT_MAX 7
#define EXACT_INNER_MAX ((1 << 24) / (EXACT_INPUT_MAX * EXACT_WEIGHT_MAX))

/* Rounds to the nearest multiple of 1/grid, ties to even, clamped to 127 steps. Adding and subtracting 1.5 * 2^23
 * rounds without a call into libm, so the loop around it becomes SIMD. NaN stays NaN. */
NUMERICS_INLINE float numerics_quantise(float value, float grid)
{
    float steps = value * grid;
    steps = steps > (float)EXACT_INPUT_MAX ? (float)EXACT_INPUT_MAX : steps;
    steps = steps < -(float)EXACT_INPUT_MAX ? -(float)EXACT_INPUT_MAX : steps;
    return ((steps + 12582912.0f) - 12582912.0f) / grid;
}

/* e^x for |x| clamped to 87, relative error below 3e-7: the same instructions on every rank, and plain arithmetic
 * so that loops become SIMD. */
NUMERICS_INLINE float numerics_exp(float x)
{
    x = x > -87.0f ? x : -87.0f; /* NaN too */
    x = x > 87.0f ? 87.0f : x;
    float scaled = x * 1.44269504f;
    float whole = (scaled + 12582912.0f) - 12582912.0f;
    float part = (x - whole * 0.693359375f) + whole * 2.12194440e-4f; /* ln 2 in two pieces */
    float power = 1.9875691500e-4f;
    power = power * part + 1.3981999507e-3f;
    power = power * part + 8.3334519073e-3f;
    power = power * part + 4.1665795894e-2f;
    power = power * part + 1.6666665459e-1f;
    power = power * part + 5.0000001201e-1f;
    power = (power * part) * part + part + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof(scale));
    return power * scale;
}

/* bf16 with round to nearest even; NaN stays NaN. */
NUMERICS_INLINE uint16_t numerics_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return 0x7fc0;
    }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

NUMERICS_INLINE float numerics_from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

#endif
