/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replays.cu - kernels of tests/gpu/replays.c: inputs that change with every replay, made and checked on the device.
 *
 * An element is a small whole number, a function of replay, call, rank and index: sums over 8 ranks are exact in every type, and a
 * result of another replay, call, rank or place is seen. Bytes of copies are the same function's low eight bits.
 */
#include <stdint.h>

#include "gpu/replays.h"

static __device__ uint32_t mixed(uint32_t value)
{
    value ^= value >> 16;
    value *= 0x7feb352du;
    value ^= value >> 15;
    value *= 0x846ca68bu;
    return value ^ (value >> 16);
}

static __device__ uint32_t word_of(uint32_t replay, uint32_t call, uint32_t rank, uint32_t index)
{
    return mixed(mixed(mixed(replay * 97u + call) + rank) + index);
}

/* From -15 to 16. */
static __device__ float number_of(uint32_t replay, uint32_t call, uint32_t rank, uint32_t index)
{
    return (float)(int)(word_of(replay, call, rank, index) & 31u) - 15.0f;
}

static __device__ uint32_t bits_of(uint32_t dtype, float value)
{
    if (dtype == 0) {
        return __float_as_uint(value);
    }
    if (dtype == 2) {
        return __float_as_uint(value) >> 16; /* bf16: so small a number has no further bits */
    }
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
}

static __device__ void put(void *to, uint32_t width, uint64_t at, uint32_t bits)
{
    if (width == 4) {
        ((uint32_t *)to)[at] = bits;
    } else if (width == 2) {
        ((uint16_t *)to)[at] = (uint16_t)bits;
    } else {
        ((uint8_t *)to)[at] = (uint8_t)bits;
    }
}

static __device__ uint32_t get(const void *from, uint32_t width, uint64_t at)
{
    return width == 4   ? ((const uint32_t *)from)[at]
           : width == 2 ? ((const uint16_t *)from)[at]
                        : (uint32_t)((const uint8_t *)from)[at];
}

static __device__ uint32_t input_of(const struct replay_job &job, uint32_t replay, uint32_t rank, uint32_t index)
{
    return job.width == 1 ? word_of(replay, job.call, rank, index) & 255u
                          : bits_of(job.dtype, number_of(replay, job.call, rank, index));
}

/* One block of one thread, at a graph's head. */
extern "C" __global__ void replay_count(uint32_t *replay)
{
    ++*replay;
}

extern "C" __global__ void replay_fill(const __grid_constant__ struct replay_job job)
{
    const uint32_t step = gridDim.x * blockDim.x;
    for (uint32_t at = blockIdx.x * blockDim.x + threadIdx.x; at < job.src_count; at += step) {
        put((void *)job.src, job.width, at, input_of(job, *(const uint32_t *)job.replay, job.rank, at));
    }
}

/* A user's kernel that is launched programmatically and never waits: what follows it may start before what came before it has
 * ended. */
extern "C" __global__ void replay_pass(uint32_t *nowhere)
{
    if (nowhere != nullptr) {
        *nowhere = 0;
    }
}

static __device__ uint32_t sum_of(const struct replay_job &job, uint32_t replay, uint32_t index)
{
    float sum = 0;
    for (uint32_t rank = 0; rank < job.world; rank++) {
        sum += number_of(replay, job.call, rank, index);
    }
    return bits_of(job.dtype, sum);
}

static __device__ uint32_t result_of(const struct replay_job &job, uint32_t replay, uint32_t at)
{
    switch (job.kind) {
    case REPLAY_ALL_REDUCE:
        return sum_of(job, replay, at);
    case REPLAY_REDUCE_SCATTER:
        return sum_of(job, replay, job.rank * job.count + at);
    case REPLAY_BROADCAST:
        return input_of(job, replay, job.root, at);
    case REPLAY_ALL_GATHER:
        return input_of(job, replay, at / job.count, at % job.count);
    default: /* all_to_all */
        return input_of(job, replay, at / job.count, job.rank * job.count + at % job.count);
    }
}

extern "C" __global__ void replay_check(const __grid_constant__ struct replay_job job)
{
    struct replay_report *report = (struct replay_report *)job.report;
    const uint32_t replay = *(const uint32_t *)job.replay;
    const uint32_t step = gridDim.x * blockDim.x;
    for (uint32_t at = blockIdx.x * blockDim.x + threadIdx.x; at < job.dst_count; at += step) {
        const uint32_t got = get((const void *)job.dst, job.width, at);
        const uint32_t wanted = result_of(job, replay, at);
        if (got != wanted && atomicAdd(&report->wrong, 1u) == 0) {
            report->replay = replay;
            report->call = job.call;
            report->index = at;
            report->got = got;
            report->wanted = wanted;
        }
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        atomicAdd((unsigned long long *)&report->checked, (unsigned long long)job.dst_count);
    }
}
