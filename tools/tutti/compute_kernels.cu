/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compute_kernels.cu - the steps of a forward pass that are no matrix products, for correctness.
 *
 * Compiled without contraction (-fmad=false), with IEEE division and square root. Each sum runs in the order of the host's code
 * (model_rows.c, model_attention.c), so that a GPU computes the host's bits, and any number of GPUs those of one. That leaves
 * some sums to 16 threads of a block. Unrolled loops have many loads under way, and add in the same order.
 */
#include "compute_kernels.h"
#include "storm_replay_call.h"

#define KERNEL(name, type)                                                                                             \
    extern "C" __global__ void __launch_bounds__(KERNEL_THREADS) name(const __grid_constant__ type a)

/* As the host's: sums over a row run in this many interleaved strands. */
#define STRANDS 16

static __device__ __forceinline__ size_t first_index()
{
    return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ size_t index_step()
{
    return (size_t)gridDim.x * blockDim.x;
}

static __device__ __forceinline__ float on_grid(float value, float grid)
{
    return grid > 0.0f ? numerics_quantise(value, grid) : value;
}

static __device__ float weight(enum numerics numerics, uint64_t key, size_t column, float unit)
{
    if (numerics == NUMERICS_EXACT) {
        return weights_exact(weights_word(key, column / WEIGHTS_EXACT_PER_WORD), column, unit);
    }
    return weights_real(weights_word(key, column / WEIGHTS_REAL_PER_WORD), column, unit);
}

KERNEL(tutti_fill, struct kernel_fill)
{
    const struct weights_cut cut = a.source.cut;
    for (size_t i = first_index(); i < cut.rows * cut.columns; i += index_step()) {
        size_t row = i / cut.columns;
        size_t column = i % cut.columns;
        uint64_t key = weights_key(a.source.tensor, a.source.layer, cut.row + row);
        a.out[row * a.outputs + a.first + column] = weight(a.source.numerics, key, cut.column + column, a.unit);
    }
}

KERNEL(tutti_embed, struct kernel_embed)
{
    uint32_t row = blockIdx.x;
    if (row >= *a.inputs.real) {
        return;
    }
    const struct kernel_row entry = a.inputs.rows[row];
    uint64_t key = weights_key(TENSOR_EMBEDDING, 0, (size_t)entry.token);
    for (size_t i = threadIdx.x; i < (size_t)a.width; i += blockDim.x) {
        size_t at = (size_t)row * (size_t)a.width + i;
        a.hidden[at] =
            entry.embedded != 0 ? a.inputs.embeddings[at] : weight(a.numerics, key, i, WEIGHTS_EMBEDDING_UNIT);
    }
}

/* 1 / rms of `count` values in shared memory. All threads of the block call it. */
static __device__ float inverse_rms(const float *values, int count, float epsilon)
{
    __shared__ float strands[STRANDS];
    __shared__ float inverse;
    int whole = count / STRANDS * STRANDS;
    if (threadIdx.x < STRANDS) {
        float sum = 0.0f;
        for (int i = (int)threadIdx.x; i < whole; i += STRANDS) {
            sum += values[i] * values[i];
        }
        strands[threadIdx.x] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int s = 0; s < STRANDS; s++) {
            sum += strands[s];
        }
        for (int i = whole; i < count; i++) {
            sum += values[i] * values[i];
        }
        inverse = 1.0f / sqrtf(sum / (float)count + epsilon);
    }
    __syncthreads();
    return inverse;
}

KERNEL(tutti_norm, struct kernel_norm)
{
    extern __shared__ float values[];
    size_t from = blockIdx.x;
    if (a.picked != 0) {
        if (blockIdx.x >= *a.inputs.real) {
            return;
        }
        from = (size_t)a.inputs.picks[blockIdx.x];
    }
    const float *in = a.in + from * (size_t)a.width;
    float *out = a.out + (size_t)blockIdx.x * (size_t)a.width;
    for (int i = (int)threadIdx.x; i < a.width; i += (int)blockDim.x) {
        values[i] = in[i];
    }
    __syncthreads();
    float inverse = inverse_rms(values, a.width, a.epsilon);
    for (int i = (int)threadIdx.x; i < a.width; i += (int)blockDim.x) {
        out[i] = on_grid(values[i] * inverse * a.gains[i], a.grid);
    }
}

/* The cache of one layer's head: keys [head_dim][capacity], then values [capacity][head_dim]. */
static __device__ float *cached_keys(const struct kernel_row *row, int layer, int kv_heads, int head, int head_dim)
{
    size_t block = (size_t)head_dim * row->capacity;
    return row->cache + ((size_t)layer * (size_t)kv_heads + (size_t)head) * 2 * block;
}

/* Norm (Qwen3) and RoPE of a head in shared memory. */
static __device__ void turn_head(float *values, const float *gains, const float *cosines, const float *sines,
                                 int head_dim, float epsilon)
{
    int half = head_dim / 2;
    if (gains != NULL) {
        float inverse = inverse_rms(values, head_dim, epsilon);
        for (int i = (int)threadIdx.x; i < head_dim; i += (int)blockDim.x) {
            values[i] = values[i] * inverse * gains[i];
        }
        __syncthreads();
    }
    for (int i = (int)threadIdx.x; i < half; i += (int)blockDim.x) {
        float low = values[i];
        float high = values[i + half];
        values[i] = low * cosines[i] - high * sines[i];
        values[i + half] = high * cosines[i] + low * sines[i];
    }
    __syncthreads();
}

/* A block for each row (x) and head (y): queries, then keys, then values. */
KERNEL(tutti_cache, struct kernel_cache)
{
    __shared__ float values[KERNEL_HEAD_DIM_MAX];
    if (blockIdx.x >= *a.inputs.real) {
        return;
    }
    const struct kernel_row row = a.inputs.rows[blockIdx.x];
    int slice = (int)blockIdx.y;
    int width = (a.heads + 2 * a.kv_heads) * a.head_dim;
    float *source = a.qkv + (size_t)blockIdx.x * (size_t)width + (size_t)slice * (size_t)a.head_dim;
    for (int i = (int)threadIdx.x; i < a.head_dim; i += (int)blockDim.x) {
        values[i] = source[i];
    }
    __syncthreads();
    size_t half = (size_t)a.head_dim / 2;
    const float *cosines = a.cosines + (size_t)row.position * half;
    const float *sines = a.sines + (size_t)row.position * half;
    if (slice < a.heads) {
        turn_head(values, a.norm_query, cosines, sines, a.head_dim, a.epsilon);
        for (int i = (int)threadIdx.x; i < a.head_dim; i += (int)blockDim.x) {
            source[i] = values[i];
        }
        return;
    }
    int head = (slice - a.heads) % a.kv_heads;
    bool key = slice < a.heads + a.kv_heads;
    float *cached = cached_keys(&row, a.layer, a.kv_heads, head, a.head_dim);
    if (key) {
        turn_head(values, a.norm_key, cosines, sines, a.head_dim, a.epsilon);
    } else {
        cached += (size_t)a.head_dim * row.capacity;
    }
    for (size_t i = threadIdx.x; i < (size_t)a.head_dim; i += blockDim.x) {
        size_t at = key ? i * row.capacity + (size_t)row.position : (size_t)row.position * (size_t)a.head_dim + i;
        cached[at] = values[i];
    }
}

/* The largest of `count` values. All threads of the block call it. */
static __device__ float block_max(const float *values, size_t count)
{
    __shared__ float most[KERNEL_THREADS];
    float mine = values[0];
    for (size_t i = threadIdx.x; i < count; i += blockDim.x) {
        mine = values[i] > mine ? values[i] : mine;
    }
    most[threadIdx.x] = mine;
    for (unsigned half = KERNEL_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half && most[threadIdx.x + half] > most[threadIdx.x]) {
            most[threadIdx.x] = most[threadIdx.x + half];
        }
    }
    __syncthreads();
    return most[0];
}

/* The sum of `count` values in the host's order. All threads of the block call it. */
static __device__ float block_sum(const float *values, size_t count)
{
    __shared__ float strands[STRANDS];
    __shared__ float total;
    size_t whole = count / STRANDS * STRANDS;
    if (threadIdx.x < STRANDS) {
        float sum = 0.0f;
#pragma unroll 8
        for (size_t i = threadIdx.x; i < whole; i += STRANDS) {
            sum += values[i];
        }
        strands[threadIdx.x] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int s = 0; s < STRANDS; s++) {
            sum += strands[s];
        }
        for (size_t i = whole; i < count; i++) {
            sum += values[i];
        }
        total = sum;
    }
    __syncthreads();
    return total;
}

/* Scores of one head become e^(score - most); returns the inverse of their sum. */
static __device__ float attend_scores(float *scores, const float *query, const float *keys, size_t capacity,
                                      size_t length, int head_dim)
{
    for (size_t i = threadIdx.x; i < length; i += blockDim.x) {
        float sum = 0.0f;
#pragma unroll 16
        for (int d = 0; d < head_dim; d++) {
            sum += query[d] * keys[(size_t)d * capacity + i];
        }
        scores[i] = sum;
    }
    __syncthreads();
    float most = block_max(scores, length);
    for (size_t i = threadIdx.x; i < length; i += blockDim.x) {
        scores[i] = numerics_exp(scores[i] - most);
    }
    __syncthreads();
    return 1.0f / block_sum(scores, length);
}

/* The weighted sum of values, in four strands of positions; positions past a multiple of four belong to the first. */
static __device__ void attend_values(float *out, const float *scores, const float *values, size_t length, int head_dim,
                                     float inverse, float grid)
{
    __shared__ float strands[4][KERNEL_HEAD_DIM_MAX];
    size_t whole = length / 4 * 4;
    for (int at = (int)threadIdx.x; at < 4 * head_dim; at += (int)blockDim.x) {
        int strand = at / head_dim;
        int d = at % head_dim;
        float sum = 0.0f;
#pragma unroll 16
        for (size_t i = (size_t)strand; i < whole; i += 4) {
            sum += scores[i] * values[i * (size_t)head_dim + (size_t)d];
        }
        for (size_t i = whole; strand == 0 && i < length; i++) {
            sum += scores[i] * values[i * (size_t)head_dim + (size_t)d];
        }
        strands[strand][d] = sum;
    }
    __syncthreads();
    for (int d = (int)threadIdx.x; d < head_dim; d += (int)blockDim.x) {
        out[d] = on_grid(((strands[0][d] + strands[1][d]) + (strands[2][d] + strands[3][d])) * inverse, grid);
    }
    __syncthreads();
}

/* Blocks take (row, head) pairs in turn. */
KERNEL(tutti_attend, struct kernel_attend)
{
    __shared__ float query[KERNEL_HEAD_DIM_MAX];
    float *scores = a.scores + (size_t)blockIdx.x * a.positions_max;
    size_t pairs = (size_t)*a.inputs.real * (size_t)a.heads;
    size_t width = (size_t)(a.heads + 2 * a.kv_heads) * (size_t)a.head_dim;
    for (size_t pair = blockIdx.x; pair < pairs; pair += gridDim.x) {
        size_t row = pair / (size_t)a.heads;
        int head = (int)(pair % (size_t)a.heads);
        const struct kernel_row entry = a.inputs.rows[row];
        size_t length = (size_t)entry.position + 1;
        const float *keys = cached_keys(&entry, a.layer, a.kv_heads, head / (a.heads / a.kv_heads), a.head_dim);
        const float *values = keys + (size_t)a.head_dim * entry.capacity;
        for (int d = (int)threadIdx.x; d < a.head_dim; d += (int)blockDim.x) {
            query[d] = a.qkv[row * width + (size_t)head * (size_t)a.head_dim + (size_t)d] * a.scale;
        }
        __syncthreads();
        float inverse = attend_scores(scores, query, keys, entry.capacity, length, a.head_dim);
        attend_values(a.out + (row * (size_t)a.heads + (size_t)head) * (size_t)a.head_dim, scores, values, length,
                      a.head_dim, inverse, a.grid);
    }
}

KERNEL(tutti_swiglu, struct kernel_swiglu)
{
    for (size_t i = first_index(); i < a.rows * a.width; i += index_step()) {
        const float *row = a.gate_up + i / a.width * 2 * a.width + i % a.width;
        float gate = row[0];
        float up = row[a.width];
        a.out[i] = on_grid(gate / (1.0f + numerics_exp(-gate)) * up, a.grid);
    }
}

#include "compute_kernels_experts.h"

KERNEL(tutti_to_wire, struct kernel_sum)
{
    for (size_t i = first_index(); i < a.count; i += index_step()) {
        a.wire[i] = numerics_to_bf16(a.partial[i]);
    }
}

KERNEL(tutti_add, struct kernel_sum)
{
    for (size_t i = first_index(); i < a.count; i += index_step()) {
        a.hidden[i] += a.wire != NULL ? numerics_from_bf16(a.wire[i]) : a.partial[i];
    }
}

struct best {
    float value, second;
    int index;
    int sound;
    uint64_t hash;
};

static __device__ struct best best_of(struct best left, struct best right)
{
    bool take = right.value > left.value || (right.value == left.value && right.index < left.index);
    struct best winner = take ? right : left;
    struct best loser = take ? left : right;
    winner.second = loser.value > winner.second ? loser.value : winner.second;
    winner.sound = left.sound & right.sound;
    winner.hash = left.hash + right.hash;
    return winner;
}

KERNEL(tutti_pick, struct kernel_pick)
{
    __shared__ struct best all[KERNEL_THREADS];
    if (blockIdx.x >= *a.inputs.real) {
        return;
    }
    const float *logits = a.logits + (size_t)blockIdx.x * a.stride;
    struct best mine = {-INFINITY, -INFINITY, INT32_MAX, 1, 0};
    for (int i = (int)threadIdx.x; i < a.vocab; i += (int)blockDim.x) {
        float value = logits[i];
        struct best one = {value, -INFINITY, i, value == value, rows_hash_part((size_t)i, __float_as_uint(value))};
        mine = best_of(mine, one);
    }
    all[threadIdx.x] = mine;
    for (unsigned half = KERNEL_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            all[threadIdx.x] = best_of(all[threadIdx.x], all[threadIdx.x + half]);
        }
    }
    if (threadIdx.x == 0) {
        float margin = all[0].sound != 0 ? all[0].value - all[0].second : __uint_as_float(0x7fc00000u);
        a.out[blockIdx.x] = {all[0].index, margin, all[0].hash};
    }
}

/* -- one block each: the call counts its executions by itself ------------------------------------------------ */

extern "C" __global__ void __launch_bounds__(KERNEL_REPLAY_THREADS) tutti_replay_fill(struct replay_call *live)
{
    struct replay_call call = *live;
    call.calls++;
    float *into = replay_input_buffer(&call);
    for (size_t i = threadIdx.x; i < replay_input_count(&call); i += blockDim.x) {
        into[i] = replay_input(&call, call.rank, i);
    }
    __syncthreads(); /* everybody has read the old number */
    if (threadIdx.x == 0) {
        live->calls = call.calls;
    }
}

extern "C" __global__ void __launch_bounds__(KERNEL_REPLAY_THREADS) tutti_replay_check(struct replay_call *live)
{
    struct replay_call call = *live;
    unsigned long long wrong = 0;
    for (size_t i = threadIdx.x; i < replay_output_count(&call); i += blockDim.x) {
        wrong += replay_is_right(&call, i) == 0;
    }
    if (wrong > 0) {
        atomicAdd((unsigned long long *)&live->wrong, wrong);
    }
}
