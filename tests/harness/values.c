/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"

#define WORLD_MAX 64

/* -- bits and numbers ------------------------------------------------------------------------------ */

static const uint32_t canonical_nan[3] = {0x7fc00000u, 0x7e00u, 0x7fc0u};

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float float_of_half(uint32_t half)
{
    uint32_t sign = (half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t fraction = half & 0x3ffu;
    if (exponent == 0x1fu) {
        return float_of(sign | 0x7f800000u | fraction << 13);
    }
    if (exponent == 0) {
        float magnitude = (float)fraction * 0x1p-24f; /* exact */
        return sign != 0 ? -magnitude : magnitude;
    }
    return float_of(sign | (exponent + 112u) << 23 | fraction << 13);
}

/* Drops the lowest `drop` bits (1 .. 31) of `bits`, to nearest, ties to even. */
static uint32_t round_off(uint32_t bits, unsigned drop)
{
    uint32_t kept = bits >> drop;
    uint32_t rest = bits & ((1u << drop) - 1u);
    uint32_t half = 1u << (drop - 1u);
    return kept + (rest > half || (rest == half && (kept & 1u) != 0) ? 1u : 0u);
}

static uint32_t half_of_float(float value)
{
    uint32_t bits = bits_of(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return canonical_nan[TUTTI_F16];
    }
    uint32_t exponent = magnitude >> 23;
    if (exponent >= 143u) { /* 2^16 and more, infinity */
        return sign | 0x7c00u;
    }
    if (exponent >= 113u) { /* a carry out of the fraction moves the exponent on, up to infinity */
        return sign | round_off(magnitude - (112u << 23), 13);
    }
    if (exponent < 102u) { /* below half of the smallest denormal */
        return sign;
    }
    uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u;
    return sign | round_off(fraction, 126u - exponent);
}

static inline float to_float(tutti_dtype dtype, uint32_t bits)
{
    if (dtype == TUTTI_F16) {
        return float_of_half(bits);
    }
    return float_of(dtype == TUTTI_BF16 ? bits << 16 : bits);
}

float values_to_float(tutti_dtype dtype, uint32_t bits)
{
    return to_float(dtype, bits);
}

static inline uint32_t from_float(tutti_dtype dtype, float value)
{
    if (isnan(value)) {
        return canonical_nan[dtype];
    }
    if (dtype == TUTTI_F16) {
        return half_of_float(value);
    }
    return dtype == TUTTI_BF16 ? round_off(bits_of(value), 16) : bits_of(value);
}

uint32_t values_from_float(tutti_dtype dtype, float value)
{
    return from_float(dtype, value);
}

/* True if a is the one that min keeps, with -0 below +0. */
static bool below(float a, float b)
{
    return a < b || (a == b && signbit(a) && !signbit(b));
}

static inline uint32_t reduce(tutti_dtype dtype, tutti_op op, const uint32_t *inputs, int world)
{
    float result = to_float(dtype, inputs[0]);
    for (int rank = 1; rank < world; rank++) {
        float value = to_float(dtype, inputs[rank]);
        if (op == TUTTI_SUM) {
            result += value;
        } else if (isnan(value) ||
                   (!isnan(result) && (op == TUTTI_MIN ? below(value, result) : below(result, value)))) {
            result = value;
        }
    }
    return from_float(dtype, result);
}

uint32_t values_reduce(tutti_dtype dtype, tutti_op op, const uint32_t *inputs, int world)
{
    return reduce(dtype, op, inputs, world);
}

/* -- elements ---------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t word)
{
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

static uint64_t key_of(uint64_t call, int rank)
{
    return mix(mix(call + 0x9e3779b97f4a7c15u) + (uint64_t)rank * 0xd1342543de82ef95u);
}

static const uint32_t specials[3][16] = {
    {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc12345u, 0x7f800001u, 0x80000000u, 0u, 0x00000001u, 0x807fffffu,
     0x00400000u, 0x7f7fffffu, 0xff7fffffu, 0x80000000u, 0x80000000u, 0x00800000u, 0x3f800001u},
    {0x7c00u, 0xfc00u, 0x7e00u, 0xfe55u, 0x7c01u, 0x8000u, 0u, 0x0001u, 0x83ffu, 0x0200u, 0x7bffu, 0xfbffu, 0x8000u,
     0x8000u, 0x0400u, 0x3c01u},
    {0x7f80u, 0xff80u, 0x7fc0u, 0xffd5u, 0x7f81u, 0x8000u, 0u, 0x0001u, 0x807fu, 0x0040u, 0x7f7fu, 0xff7fu, 0x8000u,
     0x8000u, 0x0080u, 0x3f81u},
};

static inline uint32_t hash_of(uint64_t key, size_t index)
{
    uint32_t hash = (uint32_t)index * 0x9e3779b1u ^ (uint32_t)key ^ (uint32_t)((uint64_t)index >> 32) * 0x85ebca77u;
    hash = (hash ^ (hash >> 15)) * 0x85ebca6bu;
    hash = (hash ^ (hash >> 13)) * 0xc2b2ae35u ^ (uint32_t)(key >> 32);
    return hash ^ (hash >> 16);
}

static bool integers;

void values_integers(void)
{
    integers = true;
}

/* Sign and fraction as they come; exponents over 8 binades around 1, where rounding errors show. */
static inline uint32_t ordinary(tutti_dtype dtype, uint32_t hash)
{
    uint32_t low = (hash >> 24) & 7u;
    if (integers) {
        return from_float(dtype, (float)(int)(hash >> 8 & 15u) - 8.0f);
    }
    if (dtype == TUTTI_F32) {
        return (hash & 0x807fffffu) | (123u + low) << 23;
    }
    return dtype == TUTTI_F16 ? (hash & 0x83ffu) | (11u + low) << 10 : (hash & 0x807fu) | (123u + low) << 7;
}

static inline uint32_t element(tutti_dtype dtype, uint64_t key, bool special, size_t index)
{
    uint32_t hash = hash_of(key, index);
    if (special && (hash & 31u) == 0) {
        return specials[dtype][(hash >> 8) & 15u];
    }
    return ordinary(dtype, hash);
}

static bool has_specials(uint64_t call)
{
    return !integers && (mix(call) & 3u) == 0;
}

uint32_t values_element(tutti_dtype dtype, uint64_t call, int rank, size_t index)
{
    return element(dtype, key_of(call, rank), has_specials(call), index);
}

void values_fill(void *dst, tutti_dtype dtype, uint64_t call, int rank, size_t first, size_t count)
{
    uint64_t key = key_of(call, rank);
    bool special = has_specials(call);
    if (dtype == TUTTI_F32) {
        uint32_t *words = dst;
        for (size_t i = 0; i < count; i++) {
            words[i] = ordinary(TUTTI_F32, hash_of(key, first + i));
        }
        for (size_t i = 0; special && i < count; i++) {
            words[i] = element(TUTTI_F32, key, special, first + i);
        }
        return;
    }
    uint16_t *halves = dst;
    for (size_t i = 0; i < count; i++) {
        halves[i] = (uint16_t)ordinary(dtype, hash_of(key, first + i));
    }
    for (size_t i = 0; special && i < count; i++) {
        halves[i] = (uint16_t)element(dtype, key, special, first + i);
    }
}

/* Whether a sum that was computed in fp32 and rounded once can have the result `got`. */
static bool near_double_sum(tutti_dtype dtype, const uint32_t *inputs, int world, float got)
{
    static const double largest[3] = {0x1.fffffep127, 65504.0, 0x1.fep127};
    static const double unit[3] = {0x1p-24, 0x1p-11, 0x1p-8};    /* half a last place, relative */
    static const double tiny[3] = {0x1p-149, 0x1p-24, 0x1p-133}; /* the smallest denormal */
    double sum = 0.0;
    double magnitude = 0.0;
    for (int rank = 0; rank < world; rank++) {
        double value = (double)to_float(dtype, inputs[rank]);
        sum += value;
        magnitude += fabs(value);
    }
    if (!isfinite(magnitude)) {
        return !isfinite(got);
    }
    double slack = world * 0x1p-23 * magnitude + 1.01 * unit[dtype] * fabs(sum) + tiny[dtype];
    if (magnitude > 0x1.fffffep127) {
        return true; /* a partial sum may have overflowed on the way: the bitwise check decides */
    }
    if (isinf(got)) {
        return fabs(sum) + slack >= largest[dtype] && (got > 0) == (sum > 0);
    }
    return fabs((double)got - sum) <= slack;
}

static void print_difference(tutti_dtype dtype, const uint32_t *inputs, int world, uint32_t got, uint32_t expected)
{
    bool near = near_double_sum(dtype, inputs, world, values_to_float(dtype, got));
    printf("is %#x, expected %#x%s; the ranks gave", got, expected,
           near ? "" : " (and far from the sum in double precision)");
    for (int rank = 0; rank < world; rank++) {
        printf(" %#x", inputs[rank]);
    }
    putchar('\n');
}

/* Inlined with constant types and operators: most of a test's time is spent here. */
static inline __attribute__((always_inline)) bool check(const void *dst, tutti_dtype dtype, tutti_op op, uint64_t call,
                                                        int world, size_t first, size_t count)
{
    uint64_t keys[WORLD_MAX];
    uint32_t inputs[WORLD_MAX];
    for (int rank = 0; rank < world; rank++) {
        keys[rank] = key_of(call, rank);
    }
    bool special = has_specials(call);
    for (size_t i = 0; i < count; i++) {
        for (int rank = 0; rank < world; rank++) {
            inputs[rank] = element(dtype, keys[rank], special, first + i);
        }
        uint32_t expected = reduce(dtype, op, inputs, world);
        uint32_t got = dtype == TUTTI_F32 ? ((const uint32_t *)dst)[i] : ((const uint16_t *)dst)[i];
        /* The double precision sum vouches for the reference; of a long message every 31st element will do. */
        bool near = op != TUTTI_SUM || (i % 31 != 0 && count > 1000) ||
                    near_double_sum(dtype, inputs, world, to_float(dtype, got));
        if (got != expected || !near) {
            printf("element %zu of %zu ", i, count);
            print_difference(dtype, inputs, world, got, expected);
            return false;
        }
    }
    return true;
}

bool values_check(const void *dst, tutti_dtype dtype, tutti_op op, uint64_t call, int world, size_t first, size_t count)
{
    switch ((int)dtype * 3 + (int)op) {
    case 0:
        return check(dst, TUTTI_F32, TUTTI_SUM, call, world, first, count);
    case 1:
        return check(dst, TUTTI_F32, TUTTI_MAX, call, world, first, count);
    case 2:
        return check(dst, TUTTI_F32, TUTTI_MIN, call, world, first, count);
    case 3:
        return check(dst, TUTTI_F16, TUTTI_SUM, call, world, first, count);
    case 4:
        return check(dst, TUTTI_F16, TUTTI_MAX, call, world, first, count);
    case 5:
        return check(dst, TUTTI_F16, TUTTI_MIN, call, world, first, count);
    case 6:
        return check(dst, TUTTI_BF16, TUTTI_SUM, call, world, first, count);
    case 7:
        return check(dst, TUTTI_BF16, TUTTI_MAX, call, world, first, count);
    default:
        return check(dst, TUTTI_BF16, TUTTI_MIN, call, world, first, count);
    }
}

/* -- bytes ------------------------------------------------------------------------------------------- */

static uint64_t byte_word(uint64_t key, size_t word)
{
    uint64_t hash = (key ^ (uint64_t)word) * 0x9e3779b97f4a7c15u;
    return (hash ^ (hash >> 29)) * 0xbf58476d1ce4e5b9u;
}

/* Byte i of the stream is byte i % 8 of word i / 8, lowest first. */
static unsigned char byte_at(uint64_t key, size_t index)
{
    return (unsigned char)(byte_word(key, index / 8) >> (8 * (index % 8)));
}

void values_fill_bytes(void *dst, uint64_t call, int rank, size_t first, size_t bytes)
{
    uint64_t key = key_of(call, rank);
    unsigned char *out = dst;
    size_t i = 0;
    for (; i < bytes && (first + i) % 8 != 0; i++) {
        out[i] = byte_at(key, first + i);
    }
    for (; i + 8 <= bytes; i += 8) {
        uint64_t word = byte_word(key, (first + i) / 8);
        memcpy(out + i, &word, 8);
    }
    for (; i < bytes; i++) {
        out[i] = byte_at(key, first + i);
    }
}

bool values_check_bytes(const void *dst, uint64_t call, int rank, size_t first, size_t bytes)
{
    unsigned char expected[4096];
    const unsigned char *got = dst;
    for (size_t done = 0; done < bytes; done += sizeof(expected)) {
        size_t step = bytes - done < sizeof(expected) ? bytes - done : sizeof(expected);
        values_fill_bytes(expected, call, rank, first + done, step);
        if (memcmp(expected, got + done, step) == 0) {
            continue;
        }
        size_t i = 0;
        while (got[done + i] == expected[i]) {
            i++;
        }
        printf("byte %zu of %zu is %#x, expected %#x (byte %zu of rank %d)\n", done + i, bytes, got[done + i],
               expected[i], first + done + i, rank);
        return false;
    }
    return true;
}

uint64_t values_hash(const void *data, size_t bytes)
{
    const unsigned char *in = data;
    uint64_t hash = 0xcbf29ce484222325u ^ bytes;
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t word;
        memcpy(&word, in + i, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    for (; i < bytes; i++) {
        hash = (hash ^ in[i]) * 0x100000001b3u;
    }
    return mix(hash);
}

/* -- areas ------------------------------------------------------------------------------------------- */

#define GUARD_BYTE 0xd7

/* Where tests/simgpu runs a program, and TEST_AREAS=device asks for it: memory of the simulated device, which can be shared as that of a
 * real one, and which the processor reads and writes too. TEST_AREAS=pinned: the host's memory, locked, for real devices. */
extern void *simgpu_area_alloc(size_t bytes) __attribute__((weak));
extern void simgpu_area_free(void *memory) __attribute__((weak));

static bool on_device(void)
{
    const char *areas = getenv("TEST_AREAS");
    return simgpu_area_alloc != NULL && areas != NULL && areas[0] != 0;
}

void area_create(struct area *area, size_t bytes_max)
{
    memset(area, 0, sizeof(*area));
    area->memory_bytes = (bytes_max + 64 + 2 * VALUES_GUARD_BYTES + 63) / 64 * 64;
    area->memory = on_device() ? simgpu_area_alloc(area->memory_bytes) : aligned_alloc(64, area->memory_bytes);
    CHECK(area->memory != NULL, "no memory for %zu bytes", bytes_max);
}

void area_destroy(struct area *area)
{
    if (on_device()) {
        simgpu_area_free(area->memory);
    } else {
        free(area->memory);
    }
    memset(area, 0, sizeof(*area));
}

void *area_take(struct area *area, size_t bytes, size_t offset)
{
    CHECK(offset < 64 && bytes + offset + 2 * VALUES_GUARD_BYTES <= area->memory_bytes, "%zu bytes at %zu", bytes,
          offset);
    area->span = area->memory + VALUES_GUARD_BYTES + offset;
    area->span_bytes = bytes;
    memset(area->span - VALUES_GUARD_BYTES, GUARD_BYTE, VALUES_GUARD_BYTES);
    memset(area->span, VALUES_UNTOUCHED, bytes);
    memset(area->span + bytes, GUARD_BYTE, VALUES_GUARD_BYTES);
    return area->span;
}

bool area_guarded(const struct area *area)
{
    for (size_t i = 0; i < VALUES_GUARD_BYTES; i++) {
        size_t before = i + 1;
        if (area->span[-(ptrdiff_t)before] != GUARD_BYTE) {
            printf("a byte was written %zu before the start of a buffer of %zu\n", before, area->span_bytes);
            return false;
        }
        if (area->span[area->span_bytes + i] != GUARD_BYTE) {
            printf("a byte was written %zu behind the end of a buffer of %zu\n", i, area->span_bytes);
            return false;
        }
    }
    return true;
}
