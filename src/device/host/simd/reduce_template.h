/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce_template.h - the loops of the vector tables, once for all vector extensions.
 *
 * A table file (avx2.c, avx512.c) defines the primitives below and then includes this file, which
 * defines vector_reduce and vector_copy. Everything is inlined with constant dtype, op and, for the usual
 * world sizes, constant source_count, so the compiler sees straight loops with all pointers in registers.
 *
 *   VEC_BYTES, BLOCK_VECS     bytes of one vector; how many of them are in flight
 *   vec                       VEC_BYTES of elements as they lie in memory
 *   struct vec_pair           16-bit elements widened to fp32, in two vectors, in whatever order suits
 *   vec_load, vec_store       any address
 *   vec_stream                non-temporal store to an address aligned to VEC_BYTES
 *   vec_stream_fence          makes them visible before all later stores
 *   vec_load_part, vec_store_part   the first `bytes` < VEC_BYTES; the rest is neither read nor written
 *   f32_add(a, b, dtype)      fp32 sums of numbers that came from dtype
 *   f32_canonical             replaces every NaN
 *   f16_load, bf16_load       loads and widens to fp32
 *   f16_narrow, bf16_narrow   rounds to nearest even; the canonical NaN becomes the type's, others any bits
 *   nans, nans_none, nans_note(nans, a, b), nans_any   whether there was a NaN in the fp32 vectors noted
 *   vec_order(v, dtype)       maps bits to integers ordered as the numbers, -0 below +0, and back
 *   vec_add, vec_max, vec_min (a, b, dtype)   integers of the element's width, wrapping
 *   vec_set(value, dtype)     all elements
 *   vec_select_greater(a, b, yes, no, dtype)  a > b ? yes : no, signed
 *
 * How the ends are done. The last vector, which overlaps the one before it where the count is no multiple, is
 * loaded and reduced before the loop and stored after it, and so is the first one if dst must be aligned. So
 * nothing is read outside the arrays, nothing is done element by element, and dst may be a source: no element
 * is read after it was written. Elements where they overlap are written twice, with the same value.
 */
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* From here on an aligned dst pays for its one additional vector. */
#define ALIGN_BYTES_MIN (8 * VEC_BYTES)

struct reduce_call {
    char *dst;
    char *second; /* or NULL */
    const char *const *sources;
    int source_count;
    size_t bytes; /* of dst */
    bool streaming;
};

/* -- one vector --------------------------------------------------------------------------------- */

/*
 * Max and min are done on integers. vec_order leaves the NaNs at both ends: positive ones above +inf, negative
 * ones below -inf. Adding this bias wraps the negative ones to the top (max) or the positive ones to the
 * bottom (min), so that NaN wins by itself.
 */
INLINE int32_t order_bias(tutti_dtype dtype, tutti_op op)
{
    int32_t nan_count = dtype == TUTTI_F32 ? 0x7fffff : dtype == TUTTI_F16 ? 0x3ff : 0x7f;
    return op == TUTTI_MAX ? -nan_count : nan_count;
}

INLINE vec order_enter(vec raw, tutti_dtype dtype, tutti_op op)
{
    return vec_add(vec_order(raw, dtype), vec_set(order_bias(dtype, op), dtype), dtype);
}

INLINE vec order_leave(vec key, tutti_dtype dtype, tutti_op op)
{
    int32_t infinity = dtype == TUTTI_F32 ? 0x7f800000 : dtype == TUTTI_F16 ? 0x7c00 : 0x7f80;
    vec canonical = vec_set(dtype == TUTTI_F32 ? 0x7fc00000 : dtype == TUTTI_F16 ? 0x7e00 : 0x7fc0, dtype);
    vec value = vec_order(vec_add(key, vec_set(-order_bias(dtype, op), dtype), dtype), dtype);
    if (op == TUTTI_MAX) {
        vec limit = vec_set(infinity + order_bias(dtype, op), dtype);
        return vec_select_greater(key, limit, canonical, value, dtype);
    }
    vec limit = vec_set(-infinity - 1 + order_bias(dtype, op), dtype);
    return vec_select_greater(limit, key, canonical, value, dtype);
}

/* fp32 and keys use `first` alone. */
INLINE struct vec_pair accumulator_begin(const char *source, tutti_dtype dtype, tutti_op op)
{
    if (op == TUTTI_SUM && dtype == TUTTI_F16) {
        return f16_load(source);
    }
    if (op == TUTTI_SUM && dtype == TUTTI_BF16) {
        return bf16_load(source);
    }
    vec raw = vec_load(source);
    vec value = op == TUTTI_SUM ? raw : order_enter(raw, dtype, op);
    return (struct vec_pair){value, value};
}

INLINE struct vec_pair accumulator_add(struct vec_pair sum, const char *source, tutti_dtype dtype, tutti_op op)
{
    struct vec_pair value = accumulator_begin(source, dtype, op);
    if (op == TUTTI_MAX) {
        sum.first = vec_max(sum.first, value.first, dtype);
    } else if (op == TUTTI_MIN) {
        sum.first = vec_min(sum.first, value.first, dtype);
    } else {
        sum.first = f32_add(sum.first, value.first, dtype);
        if (dtype != TUTTI_F32) {
            sum.other = f32_add(sum.other, value.other, dtype);
        }
    }
    return sum;
}

INLINE vec narrow(struct vec_pair sum, tutti_dtype dtype)
{
    return dtype == TUTTI_F32 ? sum.first : dtype == TUTTI_F16 ? f16_narrow(sum) : bf16_narrow(sum);
}

/* fp32's canonical NaN narrows to those of the other types. */
INLINE vec narrow_canonical(struct vec_pair sum, tutti_dtype dtype)
{
    sum.first = f32_canonical(sum.first);
    if (dtype != TUTTI_F32) {
        sum.other = f32_canonical(sum.other);
    }
    return narrow(sum, dtype);
}

INLINE vec accumulator_end(struct vec_pair sum, tutti_dtype dtype, tutti_op op)
{
    if (op != TUTTI_SUM) {
        return order_leave(sum.first, dtype, op);
    }
    return narrow_canonical(sum, dtype);
}

/* NaNs are rare and looking for one in a whole block is cheaper than mending each vector. */
INLINE void accumulators_end(const struct vec_pair *sums, vec *results, tutti_dtype dtype, tutti_op op)
{
    bool mend = op != TUTTI_SUM;
    if (op == TUTTI_SUM) {
        nans seen = nans_none();
#pragma GCC unroll 8
        for (size_t v = 0; v < BLOCK_VECS; v += dtype == TUTTI_F32 ? 2 : 1) {
            seen = nans_note(seen, sums[v].first, dtype == TUTTI_F32 ? sums[v + 1].first : sums[v].other);
        }
        mend = __builtin_expect(nans_any(seen), 0);
    }
    if (mend) {
#pragma GCC unroll 8
        for (size_t v = 0; v < BLOCK_VECS; v++) {
            results[v] = accumulator_end(sums[v], dtype, op);
        }
    } else {
#pragma GCC unroll 8
        for (size_t v = 0; v < BLOCK_VECS; v++) {
            results[v] = narrow(sums[v], dtype);
        }
    }
}

INLINE vec reduce_vec(const char *const *sources, int source_count, size_t at, tutti_dtype dtype, tutti_op op)
{
    struct vec_pair sum = accumulator_begin(sources[0] + at, dtype, op);
    for (int s = 1; s < source_count; s++) {
        sum = accumulator_add(sum, sources[s] + at, dtype, op);
    }
    return accumulator_end(sum, dtype, op);
}

/* -- many vectors ------------------------------------------------------------------------------- */

INLINE void store_vec(const struct reduce_call *call, size_t at, vec value)
{
    vec_store(call->dst + at, value);
    if (call->second != NULL) {
        vec_store(call->second + at, value);
    }
}

/* BLOCK_VECS vectors; all loads come before all stores. dst + at is aligned if streaming. */
INLINE void reduce_block(const struct reduce_call *call, const char *const *sources, int source_count, size_t at,
                         tutti_dtype dtype, tutti_op op)
{
    struct vec_pair sums[BLOCK_VECS];
    vec results[BLOCK_VECS];
#pragma GCC unroll 8
    for (size_t v = 0; v < BLOCK_VECS; v++) {
        sums[v] = accumulator_begin(sources[0] + at + v * VEC_BYTES, dtype, op);
    }
    for (int s = 1; s < source_count; s++) {
        const char *source = sources[s] + at;
#pragma GCC unroll 8
        for (size_t v = 0; v < BLOCK_VECS; v++) {
            sums[v] = accumulator_add(sums[v], source + v * VEC_BYTES, dtype, op);
        }
    }
    accumulators_end(sums, results, dtype, op);
    if (call->streaming) {
#pragma GCC unroll 8
        for (size_t v = 0; v < BLOCK_VECS; v++) {
            vec_stream(call->dst + at + v * VEC_BYTES, results[v]);
        }
    } else {
#pragma GCC unroll 8
        for (size_t v = 0; v < BLOCK_VECS; v++) {
            vec_store(call->dst + at + v * VEC_BYTES, results[v]);
        }
    }
    if (call->second != NULL) {
#pragma GCC unroll 8
        for (size_t v = 0; v < BLOCK_VECS; v++) {
            vec_store(call->second + at + v * VEC_BYTES, results[v]);
        }
    }
}

/* call->bytes >= VEC_BYTES. */
INLINE void reduce_long(const struct reduce_call *given, const char *const *sources, int source_count,
                        tutti_dtype dtype, tutti_op op)
{
    const struct reduce_call call = *given; /* stores to dst must not make the compiler read it again */
    const size_t last = call.bytes - VEC_BYTES;
    vec tail = reduce_vec(sources, source_count, last, dtype, op);
    vec head = tail;
    size_t head_bytes = 0;
    if (call.streaming || call.bytes >= ALIGN_BYTES_MIN) {
        head_bytes = (0 - (uintptr_t)call.dst) % VEC_BYTES;
        if (head_bytes > 0) {
            head = reduce_vec(sources, source_count, 0, dtype, op);
        }
    }
    size_t at = head_bytes;
    for (; at + BLOCK_VECS * VEC_BYTES <= call.bytes; at += BLOCK_VECS * VEC_BYTES) {
        reduce_block(&call, sources, source_count, at, dtype, op);
    }
    for (; at < last; at += VEC_BYTES) {
        store_vec(&call, at, reduce_vec(sources, source_count, at, dtype, op));
    }
    store_vec(&call, last, tail);
    if (head_bytes > 0) {
        store_vec(&call, 0, head);
    }
    if (call.streaming) {
        vec_stream_fence();
    }
}

/* The usual world sizes: with a constant count the pointers live in registers. */
#define REDUCE_CONSTANT_MAX 8

INLINE void reduce_constant(const struct reduce_call *call, int source_count, tutti_dtype dtype, tutti_op op)
{
    const char *sources[REDUCE_CONSTANT_MAX];
#pragma GCC unroll 8
    for (int s = 0; s < source_count; s++) {
        sources[s] = call->sources[s];
    }
    reduce_long(call, sources, source_count, dtype, op);
}

static void reduce_short(const struct reduce_call *call, tutti_dtype dtype, tutti_op op);

INLINE void reduce_sum(const struct reduce_call *call, tutti_dtype dtype)
{
    if (call->bytes < VEC_BYTES) {
        reduce_short(call, dtype, TUTTI_SUM);
        return;
    }
    switch (call->source_count) {
    case 2:
        reduce_constant(call, 2, dtype, TUTTI_SUM);
        break;
    case 3:
        reduce_constant(call, 3, dtype, TUTTI_SUM);
        break;
    case 4:
        reduce_constant(call, 4, dtype, TUTTI_SUM);
        break;
    case 8:
        reduce_constant(call, 8, dtype, TUTTI_SUM);
        break;
    default:
        reduce_long(call, call->sources, call->source_count, dtype, TUTTI_SUM);
    }
}

INLINE void reduce_extreme(const struct reduce_call *call, tutti_dtype dtype, tutti_op op)
{
    if (call->bytes < VEC_BYTES) {
        reduce_short(call, dtype, op);
    } else if (call->source_count == 2) {
        reduce_constant(call, 2, dtype, op);
    } else {
        reduce_long(call, call->sources, call->source_count, dtype, op);
    }
}

/* -- less than one vector ----------------------------------------------------------------------- */

/* Each source passes through `whole`, whose rest is zero: the loads above want a whole vector. */
INLINE void reduce_short_constant(const struct reduce_call *call, tutti_dtype dtype, tutti_op op)
{
    char whole[VEC_BYTES];
    vec_store(whole, vec_load_part(call->sources[0], call->bytes));
    struct vec_pair sum = accumulator_begin(whole, dtype, op);
    for (int s = 1; s < call->source_count; s++) {
        vec_store(whole, vec_load_part(call->sources[s], call->bytes));
        sum = accumulator_add(sum, whole, dtype, op);
    }
    vec result = accumulator_end(sum, dtype, op);
    vec_store_part(call->dst, result, call->bytes);
    if (call->second != NULL) {
        vec_store_part(call->second, result, call->bytes);
    }
}

INLINE void reduce_short_op(const struct reduce_call *call, tutti_dtype dtype, tutti_op op)
{
    if (op == TUTTI_SUM) {
        reduce_short_constant(call, dtype, TUTTI_SUM);
    } else if (op == TUTTI_MAX) {
        reduce_short_constant(call, dtype, TUTTI_MAX);
    } else {
        reduce_short_constant(call, dtype, TUTTI_MIN);
    }
}

static __attribute__((noinline)) void reduce_short(const struct reduce_call *call, tutti_dtype dtype, tutti_op op)
{
    switch (dtype) {
    case TUTTI_F32:
        reduce_short_op(call, TUTTI_F32, op);
        break;
    case TUTTI_F16:
        reduce_short_op(call, TUTTI_F16, op);
        break;
    case TUTTI_BF16:
        reduce_short_op(call, TUTTI_BF16, op);
        break;
    }
}

/* -- the table's functions ---------------------------------------------------------------------- */

/* One function for each type and operator: the compiler's registers are spent on one loop at a time. */
static __attribute__((noinline)) void sum_f32(const struct reduce_call *call)
{
    reduce_sum(call, TUTTI_F32);
}

static __attribute__((noinline)) void sum_f16(const struct reduce_call *call)
{
    reduce_sum(call, TUTTI_F16);
}

static __attribute__((noinline)) void sum_bf16(const struct reduce_call *call)
{
    reduce_sum(call, TUTTI_BF16);
}

static __attribute__((noinline)) void max_f32(const struct reduce_call *call)
{
    reduce_extreme(call, TUTTI_F32, TUTTI_MAX);
}

static __attribute__((noinline)) void max_f16(const struct reduce_call *call)
{
    reduce_extreme(call, TUTTI_F16, TUTTI_MAX);
}

static __attribute__((noinline)) void max_bf16(const struct reduce_call *call)
{
    reduce_extreme(call, TUTTI_BF16, TUTTI_MAX);
}

static __attribute__((noinline)) void min_f32(const struct reduce_call *call)
{
    reduce_extreme(call, TUTTI_F32, TUTTI_MIN);
}

static __attribute__((noinline)) void min_f16(const struct reduce_call *call)
{
    reduce_extreme(call, TUTTI_F16, TUTTI_MIN);
}

static __attribute__((noinline)) void min_bf16(const struct reduce_call *call)
{
    reduce_extreme(call, TUTTI_BF16, TUTTI_MIN);
}

static void vector_reduce(void *dst, void *second, const void *const *sources, int source_count, size_t count,
                          tutti_dtype dtype, tutti_op op, bool streaming)
{
    static void (*const functions[3][3])(const struct reduce_call *call) = {
        [TUTTI_F32] = {[TUTTI_SUM] = sum_f32, [TUTTI_MAX] = max_f32, [TUTTI_MIN] = min_f32},
        [TUTTI_F16] = {[TUTTI_SUM] = sum_f16, [TUTTI_MAX] = max_f16, [TUTTI_MIN] = min_f16},
        [TUTTI_BF16] = {[TUTTI_SUM] = sum_bf16, [TUTTI_MAX] = max_bf16, [TUTTI_MIN] = min_bf16},
    };
    struct reduce_call call = {
        .dst = dst,
        .second = second,
        .sources = (const char *const *)sources,
        .source_count = source_count,
        .bytes = count * (dtype == TUTTI_F32 ? 4 : 2),
        .streaming = streaming,
    };
    if (call.bytes > 0) {
        functions[dtype][op](&call);
    }
}

/* dst and src do not overlap, so the ends may be stored in any order. */
static void copy_streaming(char *dst, const char *src, size_t bytes)
{
    vec_store(dst, vec_load(src));
    vec_store(dst + bytes - VEC_BYTES, vec_load(src + bytes - VEC_BYTES));
    size_t at = (0 - (uintptr_t)dst) % VEC_BYTES;
    for (; at + 4 * VEC_BYTES <= bytes; at += 4 * VEC_BYTES) {
        vec first = vec_load(src + at);
        vec second = vec_load(src + at + VEC_BYTES);
        vec third = vec_load(src + at + 2 * VEC_BYTES);
        vec fourth = vec_load(src + at + 3 * VEC_BYTES);
        vec_stream(dst + at, first);
        vec_stream(dst + at + VEC_BYTES, second);
        vec_stream(dst + at + 2 * VEC_BYTES, third);
        vec_stream(dst + at + 3 * VEC_BYTES, fourth);
    }
    for (; at + VEC_BYTES <= bytes; at += VEC_BYTES) {
        vec_stream(dst + at, vec_load(src + at));
    }
    vec_stream_fence();
}

static void vector_copy(void *dst, const void *src, size_t bytes, bool streaming)
{
    if (streaming && bytes >= 4 * VEC_BYTES) {
        copy_streaming(dst, src, bytes);
    } else if (bytes > 0) { /* either pointer may be NULL otherwise */
        memcpy(dst, src, bytes);
    }
}
