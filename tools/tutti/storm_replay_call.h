/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_replay_call.h - one collective of storm_random_replay.c: its inputs are a function of (call, rank, index), so that a
 * stale or swapped buffer cannot pass. Host and kernels make and check them by this one text.
 */
#ifndef TUTTI_TOOL_STORM_REPLAY_CALL_H
#define TUTTI_TOOL_STORM_REPLAY_CALL_H

#include "model_weights.h"
#include "tutti/tutti.h"

/* A collective with its buffers, all in the computer's memory; `calls` numbers its executions, eager and replayed alike. */
struct replay_call {
    tutti_collective kind;
    int rank, world, root;
    size_t count; /* elements per rank */
    uint64_t salt, calls, wrong;
    float *src, *dst;
};

NUMERICS_INLINE float *replay_input_buffer(const struct replay_call *call)
{
    return call->kind == TUTTI_BROADCAST ? call->dst : call->src;
}

NUMERICS_INLINE size_t replay_input_count(const struct replay_call *call)
{
    int many = call->kind == TUTTI_ALL_TO_ALL || call->kind == TUTTI_REDUCE_SCATTER;
    return many ? call->count * (size_t)call->world : call->count;
}

NUMERICS_INLINE size_t replay_output_count(const struct replay_call *call)
{
    int many = call->kind == TUTTI_ALL_GATHER || call->kind == TUTTI_ALL_TO_ALL;
    return many ? call->count * (size_t)call->world : call->count;
}

/* A small integer, so that sums are exact in any order. */
NUMERICS_INLINE float replay_input(const struct replay_call *call, int rank, size_t index)
{
    return (float)(weights_mix(call->salt + call->calls * WEIGHTS_GOLDEN + (uint64_t)rank * 77777u + index) % 1024);
}

NUMERICS_INLINE float replay_sum(const struct replay_call *call, size_t index)
{
    float sum = 0.0f;
    for (int rank = 0; rank < call->world; rank++) {
        sum += replay_input(call, rank, index);
    }
    return sum;
}

NUMERICS_INLINE float replay_expected(const struct replay_call *call, size_t index)
{
    size_t own = (size_t)call->rank * call->count;
    switch (call->kind) {
    case TUTTI_ALL_REDUCE:
        return replay_sum(call, index);
    case TUTTI_REDUCE_SCATTER:
        return replay_sum(call, own + index);
    case TUTTI_BROADCAST:
        return replay_input(call, call->root, index);
    case TUTTI_ALL_GATHER:
        return replay_input(call, (int)(index / call->count), index % call->count);
    default:
        return replay_input(call, (int)(index / call->count), own + index % call->count);
    }
}

/* NaN is wrong. */
NUMERICS_INLINE int replay_is_right(const struct replay_call *call, size_t index)
{
    float want = replay_expected(call, index);
    return call->dst[index] >= want && call->dst[index] <= want;
}

#endif
