/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compute_kernels_experts.h - the part of compute_kernels.cu that is about a mixture of experts.
 *
 * Plain, not tuned: every weight of an active expert is read once for up to EXPERTS_ITEM_PAIRS rows, sums are in fp32 without tensor
 * cores. A decode step is bound by memory so, as it should be; a long prefill could be several times as fast.
 */
#ifndef TUTTI_TOOL_COMPUTE_KERNELS_EXPERTS_H
#define TUTTI_TOOL_COMPUTE_KERNELS_EXPERTS_H

KERNEL(tutti_fill_stack, struct kernel_fill_stack)
{
    const struct weights_source *source = &a.stack.source;
    const struct weights_cut cut = source->cut;
    for (size_t i = first_index(); i < a.count * cut.columns * cut.rows; i += index_step()) {
        size_t row = i % cut.rows;
        size_t column = i / cut.rows % cut.columns;
        size_t expert = i / cut.rows / cut.columns;
        uint64_t key = weights_key(source->tensor, source->layer, cut.row + expert * a.stack.pitch + row);
        a.out[(expert * a.outputs + a.first + column) * cut.rows + row] =
            numerics_to_bf16(weight(source->numerics, key, cut.column + column, a.unit));
    }
}

#define WARP 32u
#define ALL_LANES 0xffffffffu
#define BLOCK_WARPS (KERNEL_THREADS / WARP)
#define LANE_EXPERTS (EXPERTS_MAX / 32)

/* The best of a warp's (logit, index): the largest, the lowest index among equals. Whoever has none has an index of INT32_MAX. */
static __device__ void warp_best(float *logit, int *index)
{
    for (unsigned offset = WARP / 2; offset > 0; offset /= 2) {
        float value = __shfl_xor_sync(ALL_LANES, *logit, offset);
        int other = __shfl_xor_sync(ALL_LANES, *index, offset);
        if (value > *logit || (!(value < *logit) && other < *index)) {
            *logit = value;
            *index = other;
        }
    }
}

/* The sum of `count` values in the host's order (softmax_sum of model_experts.c); the same to all lanes. */
static __device__ float warp_sum(const float *values, int count)
{
    unsigned lane = threadIdx.x % WARP;
    float strand = 0.0f;
    for (int i = (int)lane; lane < STRANDS && i < count; i += STRANDS) {
        strand += values[i];
    }
    float sum = 0.0f;
    for (unsigned s = 0; s < STRANDS; s++) {
        sum += __shfl_sync(ALL_LANES, strand, s);
    }
    return sum;
}

/* experts_route() of one row by one warp. `powers`: room for a value of each expert. */
static __device__ void warp_route(const float *logits, int experts, int top, struct expert_route *routes, float *powers)
{
    int lane = (int)(threadIdx.x % WARP);
    float mine[LANE_EXPERTS];
    for (int n = 0; n < LANE_EXPERTS; n++) {
        int expert = lane + n * (int)WARP;
        float logit = expert < experts ? logits[expert] : -INFINITY;
        mine[n] = logit == logit ? logit : -INFINITY;
    }
    unsigned taken = 0;
    float most = 0.0f;
    struct expert_route route = {-1, 0.0f}; /* lane k keeps the k-th */
    for (int k = 0; k < top; k++) {
        float best = -INFINITY;
        int index = INT32_MAX;
        for (int n = 0; n < LANE_EXPERTS; n++) {
            int expert = lane + n * (int)WARP;
            bool free = expert < experts && (taken >> n & 1u) == 0;
            if (free && (index == INT32_MAX || mine[n] > best)) {
                best = mine[n];
                index = expert;
            }
        }
        warp_best(&best, &index);
        most = k == 0 ? best : most;
        if (index % (int)WARP == lane) {
            taken |= 1u << (index / (int)WARP);
        }
        if (k == lane) {
            route = {index, numerics_exp(best - most)};
        }
    }
    for (int n = 0; n < LANE_EXPERTS; n++) {
        int expert = lane + n * (int)WARP;
        if (expert < experts) {
            powers[expert] = numerics_exp(mine[n] - most);
        }
    }
    __syncwarp();
    route.weight /= warp_sum(powers, experts);
    float chosen = 0.0f;
    for (int k = 0; k < top; k++) {
        chosen += __shfl_sync(ALL_LANES, route.weight, k);
    }
    if (lane < top) {
        routes[lane] = {route.expert, route.weight / chosen};
    }
}

/* experts_route_given(), by the first lanes of a warp. */
static __device__ void warp_route_given(const float *logits, const int16_t *given, int top, struct expert_route *routes)
{
    int lane = (int)(threadIdx.x % WARP);
    int expert = given[lane < top ? lane : 0];
    float logit = logits[expert];
    float most = -INFINITY;
    for (int k = 0; k < top; k++) {
        float value = __shfl_sync(ALL_LANES, logit, k);
        most = value > most ? value : most;
    }
    float power = numerics_exp((logit == logit ? logit : -INFINITY) - most);
    float sum = 0.0f;
    for (int k = 0; k < top; k++) {
        sum += __shfl_sync(ALL_LANES, power, k);
    }
    if (lane < top) {
        routes[lane] = {expert, power / sum};
    }
}

/* A warp for each row. */
KERNEL(tutti_route, struct kernel_route)
{
    __shared__ float powers[BLOCK_WARPS][EXPERTS_MAX];
    unsigned warp = threadIdx.x / WARP;
    unsigned lane = threadIdx.x % WARP;
    size_t row = (size_t)blockIdx.x * BLOCK_WARPS + warp;
    if (row >= (size_t)a.rows) {
        return;
    }
    struct expert_route *routes = a.work.routes + row * (size_t)a.top;
    const float *logits = a.logits + row * (size_t)a.experts;
    if (row >= *a.row_word) {
        if (lane < (unsigned)a.top) {
            routes[lane] = {-1, 0.0f};
        }
        return;
    }
    if (a.given != NULL) {
        warp_route_given(logits, a.given + row * a.line_width, a.top, routes);
        return;
    }
    warp_route(logits, a.experts, a.top, routes, powers[warp]);
    if (a.noted != NULL && lane < (unsigned)a.top) {
        a.noted[row * a.line_width + lane] = (int16_t)routes[lane].expert;
    }
}

/* What stands before each thread's value in the sum over all threads of the block. */
static __device__ int block_sum_before(int value, int *sums)
{
    sums[threadIdx.x] = value;
    for (unsigned offset = 1; offset < KERNEL_THREADS; offset *= 2) {
        __syncthreads();
        int more = threadIdx.x >= offset ? sums[threadIdx.x - offset] : 0;
        __syncthreads();
        sums[threadIdx.x] += more;
    }
    __syncthreads();
    return sums[threadIdx.x] - value;
}

/* One block: a thread for each expert. Within an expert's pairs any order will do: each is multiplied by itself. */
KERNEL(tutti_group, struct kernel_route)
{
    __shared__ int counts[EXPERTS_MAX], sums[KERNEL_THREADS];
    static_assert(KERNEL_THREADS >= EXPERTS_MAX, "a thread for each expert");
    int expert = (int)threadIdx.x;
    uint32_t rows = *a.row_word < (uint32_t)a.rows ? *a.row_word : (uint32_t)a.rows;
    size_t pairs = (size_t)rows * (size_t)a.top;
    counts[expert] = 0;
    __syncthreads();
    for (size_t pair = threadIdx.x; pair < pairs; pair += KERNEL_THREADS) {
        atomicAdd(&counts[a.work.routes[pair].expert], 1);
    }
    __syncthreads();
    int count = counts[expert];
    int items = (count + EXPERTS_ITEM_PAIRS - 1) / EXPERTS_ITEM_PAIRS;
    int first = block_sum_before(count, sums);
    __syncthreads();
    int item = block_sum_before(items, sums);
    for (int i = 0; i < items; i++) {
        int done = i * EXPERTS_ITEM_PAIRS;
        int left = count - done;
        a.work.items[item + i] = {expert, first + done, left < EXPERTS_ITEM_PAIRS ? left : EXPERTS_ITEM_PAIRS};
    }
    if (threadIdx.x == KERNEL_THREADS - 1) {
        *a.work.item_count = (uint32_t)(item + items);
    }
    counts[expert] = first;
    __syncthreads();
    for (size_t pair = threadIdx.x; pair < pairs; pair += KERNEL_THREADS) {
        a.work.order[atomicAdd(&counts[a.work.routes[pair].expert], 1)] = (int32_t)pair;
    }
}

/* Eight weights, as they lie in memory. */
static __device__ __forceinline__ void weights_of(const uint16_t *from, float out[8])
{
    const uint4 words = __ldg((const uint4 *)from);
    const uint32_t all[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[2 * i] = __uint_as_float(all[i] << 16);
        out[2 * i + 1] = __uint_as_float(all[i] & 0xffff0000u);
    }
}

/* The products of ROWS rows and two columns of weights, shared by a team of threads that lie side by side. A row's sum has the same
 * order whatever the other rows are, and however many. In exact numerics nothing is rounded, contracted or not. */
template <int ROWS>
static __device__ void two_columns(const uint16_t *first, const uint16_t *second, const float *const rows[ROWS],
                                   int inputs, int team, float sums[2][ROWS])
{
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        sums[0][r] = sums[1][r] = 0.0f;
    }
#pragma unroll(ROWS <= 2 ? 4 : 2)
    for (int k = (int)(threadIdx.x % (unsigned)team) * 8; k < inputs; k += team * 8) {
        float left[8], right[8];
        weights_of(first + k, left);
        weights_of(second + k, right);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float4 low = *(const float4 *)(rows[r] + k);
            const float4 high = *(const float4 *)(rows[r] + k + 4);
            const float in[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
            for (int i = 0; i < 8; i++) {
                sums[0][r] = __fmaf_rn(in[i], left[i], sums[0][r]);
                sums[1][r] = __fmaf_rn(in[i], right[i], sums[1][r]);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        for (int offset = team / 2; offset > 0; offset /= 2) {
            sums[0][r] += __shfl_xor_sync(ALL_LANES, sums[0][r], offset);
            sums[1][r] += __shfl_xor_sync(ALL_LANES, sums[1][r], offset);
        }
    }
}

/* Which columns a thread's team has, and whether they exist: a team without any computes the last ones, for the sake of its warp. */
struct team_columns {
    int column;
    bool real, leader;
};

static __device__ struct team_columns team_columns_of(int columns, int team)
{
    int column = (int)((blockIdx.x * KERNEL_THREADS + threadIdx.x) / (unsigned)team);
    bool real = column < columns;
    return {real ? column : columns - 1, real, threadIdx.x % (unsigned)team == 0};
}

/* `up`: gate and up of a column, together what goes on: [pair in order][outputs]. Else columns 2c and 2c + 1 of [pair][outputs]. */
template <bool UP, int ROWS>
static __device__ void experts_of(const struct kernel_experts &a, const struct expert_item item)
{
    const struct team_columns at = team_columns_of(UP ? a.outputs : a.outputs / 2, a.team);
    size_t inputs = (size_t)a.inputs;
    const uint16_t *weights = a.weights + (size_t)item.expert * (size_t)(UP ? 2 * a.outputs : a.outputs) * inputs;
    size_t first = (size_t)(UP ? at.column : 2 * at.column);
    size_t second = UP ? first + (size_t)a.outputs : first + 1;
    const float *rows[ROWS];
    int pairs[ROWS];
    float sums[2][ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int place = item.first + (r < item.count ? r : item.count - 1);
        pairs[r] = a.work.order[place];
        rows[r] = a.in + (size_t)(UP ? pairs[r] / a.top : place) * inputs;
    }
    two_columns<ROWS>(weights + first * inputs, weights + second * inputs, rows, a.inputs, a.team, sums);
    if (!at.real || !at.leader) {
        return;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (r >= item.count) {
            break;
        }
        if (UP) {
            float gate = sums[0][r];
            float value = gate / (1.0f + numerics_exp(-gate)) * sums[1][r] * a.work.routes[pairs[r]].weight;
            a.out[(size_t)(item.first + r) * (size_t)a.outputs + first] = on_grid(value, a.grid);
        } else {
            float *out = a.out + (size_t)pairs[r] * (size_t)a.outputs;
            out[first] = sums[0][r];
            out[second] = sums[1][r];
        }
    }
}

template <bool UP> static __device__ void experts_product(const struct kernel_experts &a)
{
    if (blockIdx.y >= *a.work.item_count) {
        return;
    }
    const struct expert_item item = a.work.items[blockIdx.y];
    switch (item.count) {
    case 1:
        return experts_of<UP, 1>(a, item);
    case 2:
        return experts_of<UP, 2>(a, item);
    case 3:
    case 4:
        return experts_of<UP, 4>(a, item);
    default:
        return experts_of<UP, EXPERTS_ITEM_PAIRS>(a, item);
    }
}

KERNEL(tutti_experts_up, struct kernel_experts)
{
    experts_product<true>(a);
}

KERNEL(tutti_experts_down, struct kernel_experts)
{
    experts_product<false>(a);
}

KERNEL(tutti_experts_sum, struct kernel_experts_sum)
{
    for (size_t i = first_index(); i < a.rows * a.width; i += index_step()) {
        size_t row = i / a.width;
        const float *in = a.in + row * (size_t)a.top * a.width + i % a.width;
        float sum = 0.0f;
        for (int k = 0; k < a.top && row < *a.row_word; k++) {
            sum += in[(size_t)k * a.width];
        }
        a.out[i] = sum;
    }
}

#endif
