/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numbers.h - reduction arithmetic: fp32, rank order, one rounding, canonical NaN (see tutti_op).
 */
#ifndef TUTTI_KERNELS_NUMBERS_H
#define TUTTI_KERNELS_NUMBERS_H

#include "kernels/portable.h"

#define CANONICAL_NAN_F32 0x7fc00000u

/* Each type: elements of a 16-byte vector, and how they become floats and back. */
struct type_f32 {
    static const int elements = 4;
    static const int element_bytes = 4;
};
struct type_f16 {
    static const int elements = 8;
    static const int element_bytes = 2;
};
struct type_bf16 {
    static const int elements = 8;
    static const int element_bytes = 2;
};

PORT_DEVICE void unpack(type_f32, uint32_t word, float *values)
{
    values[0] = port_float(word);
}

PORT_DEVICE void unpack(type_f16, uint32_t word, float *values)
{
    values[0] = port_f16_to_f32(word & 0xffffu);
    values[1] = port_f16_to_f32(word >> 16);
}

PORT_DEVICE void unpack(type_bf16, uint32_t word, float *values)
{
    values[0] = port_float(word << 16);
    values[1] = port_float(word & 0xffff0000u);
}

PORT_DEVICE uint32_t pack(type_f32, const float *values)
{
    return values[0] == values[0] ? port_bits(values[0]) : CANONICAL_NAN_F32;
}

/* Replaces the halves that are NaN: hardware rounds NaN to other patterns than ours. */
PORT_DEVICE uint32_t with_canonical_nan(uint32_t word, const float *values, uint32_t nan)
{
    word = values[0] == values[0] ? word : ((word & 0xffff0000u) | nan);
    return values[1] == values[1] ? word : ((word & 0x0000ffffu) | nan << 16);
}

PORT_DEVICE uint32_t pack(type_f16, const float *values)
{
    return with_canonical_nan(port_pack_f16(values[0], values[1]), values, 0x7e00u);
}

PORT_DEVICE uint32_t pack(type_bf16, const float *values)
{
    return with_canonical_nan(port_pack_bf16(values[0], values[1]), values, 0x7fc0u);
}

PORT_DEVICE uint32_t nan_word(type_f32)
{
    return CANONICAL_NAN_F32;
}

PORT_DEVICE uint32_t nan_word(type_f16)
{
    return 0x7e007e00u;
}

PORT_DEVICE uint32_t nan_word(type_bf16)
{
    return 0x7fc07fc0u;
}

enum { OP_SUM = 0, OP_MAX = 1, OP_MIN = 2 }; /* tutti_op */

/* NaN stays NaN; equal values differ at most in the sign of zero, and AND (max) or OR (min) of their bits picks
 * the right one. */
template <int op> PORT_DEVICE float combine(float a, float b)
{
    if (op == OP_SUM) {
        return port_add(a, b);
    }
    float picked = (op == OP_MAX ? a > b : a < b) ? a : b;
    if (a == b) {
        picked = port_float(op == OP_MAX ? port_bits(a) & port_bits(b) : port_bits(a) | port_bits(b));
    }
    return a != a ? a : picked; /* if only b is NaN, b was picked */
}

/* One 32-bit word's worth of elements over `world` ranks; word r is at words[r * stride]. */
template <class Type, int world, int op> PORT_DEVICE uint32_t reduce_word(const uint32_t *words, uint32_t stride)
{
    const int lanes = 4 / Type::element_bytes;
    float sums[2];
    unpack(Type(), words[0], sums);
#pragma unroll
    for (int rank = 1; rank < world; rank++) {
        float values[2];
        unpack(Type(), words[(uint32_t)rank * stride], values);
#pragma unroll
        for (int lane = 0; lane < lanes; lane++) {
            sums[lane] = combine<op>(sums[lane], values[lane]);
        }
    }
    return pack(Type(), sums);
}

template <class Type, int world> PORT_DEVICE uint32_t reduce_word(uint32_t op, const uint32_t *words, uint32_t stride)
{
    if (op == OP_SUM) {
        return reduce_word<Type, world, OP_SUM>(words, stride);
    }
    return op == OP_MAX ? reduce_word<Type, world, OP_MAX>(words, stride)
                        : reduce_word<Type, world, OP_MIN>(words, stride);
}

/* Vectors of all ranks in registers. */
template <class Type, int world> PORT_DEVICE struct vec4 reduce_vec(uint32_t op, const struct vec4 *values)
{
    uint32_t words[4][world];
#pragma unroll
    for (int rank = 0; rank < world; rank++) {
        words[0][rank] = values[rank].x;
        words[1][rank] = values[rank].y;
        words[2][rank] = values[rank].z;
        words[3][rank] = values[rank].w;
    }
    struct vec4 sum = {reduce_word<Type, world>(op, words[0], 1), reduce_word<Type, world>(op, words[1], 1),
                       reduce_word<Type, world>(op, words[2], 1), reduce_word<Type, world>(op, words[3], 1)};
    return sum;
}

#endif
