/* SPDX-License-Identifier: Apache-2.0 */
/*
 * two_shot.c - all_reduce for large messages: every element is reduced by one rank.
 *
 * A round's elements are cut into N shards, shard j owned by rank j. A half of the staging holds
 *
 *     [ input shard 0 | .. | input shard N-1 | result shard (own) ]      each shard_bytes long
 *
 * and one step a round does three things at once, so that there is one meeting a round instead of two:
 *
 *     fill step s:   inputs of round k+1 (all shards but my own: nobody else reads it)
 *                    my result shard of round k, reduced from the peers' inputs read at step s-1
 *     after step s:  copy the peers' result shards of round k to dst; reduce round k+1; ...
 *
 * Per rank (N-1)/N * bytes are staged, bytes reduced and (N-1)/N * bytes copied out, whatever N is. The
 * halves alternate with the step as everywhere (lane.h): what is filled for step s is read between the
 * peers' waits for s and their publishing s+1.
 */
#include "device/host/protocol.h"
#include "device/host/simd/simd.h"

struct two_shot {
    struct group *group;
    struct host_lane *lane;
    const struct operation *operation;
    const struct choice *choice;
    size_t unit_bytes;
    size_t shard_units; /* of a full round */
    bool streaming;
};

/* The part of `round` that rank `owner` reduces; may be empty. */
static struct round shard_of(const struct two_shot *call, struct round round, int owner)
{
    size_t first = (size_t)owner * call->shard_units;
    if (first >= round.units) {
        return (struct round){round.first, 0};
    }
    size_t left = round.units - first;
    return (struct round){round.first + first, left < call->shard_units ? left : call->shard_units};
}

static void stage_inputs(const struct two_shot *call, uint64_t index, unsigned char *half)
{
    struct round round = round_at(call->operation, call->choice, index);
    for (int offset = 1; offset < call->group->options.world; offset++) {
        int owner = (call->group->options.rank + offset) % call->group->options.world;
        struct round shard = shard_of(call, round, owner);
        const unsigned char *src = (const unsigned char *)call->operation->src + shard.first * call->unit_bytes;
        call->group->simd->copy(half + (size_t)owner * call->shard_units * call->unit_bytes, src,
                                shard.units * call->unit_bytes,
                                stages_streaming(call->group, shard.units * call->unit_bytes));
    }
}

/* Reduces this rank's shard into dst and, for the peers, into the half that the next step publishes. */
static void reduce_shard(const struct two_shot *call, uint64_t index, unsigned char *half)
{
    const struct group *group = call->group;
    int rank = group->options.rank;
    int world = group->options.world;
    struct round shard = shard_of(call, round_at(call->operation, call->choice, index), rank);
    if (shard.units == 0) {
        return;
    }
    size_t shard_bytes = call->shard_units * call->unit_bytes;
    const void *sources[TUTTI_WORLD_MAX];
    for (int peer = 0; peer < world; peer++) {
        sources[peer] = lane_reading(call->lane, peer, group->terms.half_bytes) + (size_t)rank * shard_bytes;
    }
    sources[rank] = (const unsigned char *)call->operation->src + shard.first * call->unit_bytes;
    unsigned char *dst = (unsigned char *)call->operation->dst + shard.first * call->unit_bytes;
    /* The peers' copy of the result is what is streamed: they read it, we do not. */
    group->simd->reduce(half + (size_t)world * shard_bytes, dst, sources, world, shard.units, call->operation->dtype,
                        call->operation->op, stages_streaming(group, shard.units * call->unit_bytes));
}

static void take_results(const struct two_shot *call, uint64_t index)
{
    const struct group *group = call->group;
    struct round round = round_at(call->operation, call->choice, index);
    size_t results_at = (size_t)group->options.world * call->shard_units * call->unit_bytes;
    for (int offset = 1; offset < group->options.world; offset++) {
        int owner = (group->options.rank + offset) % group->options.world;
        struct round shard = shard_of(call, round, owner);
        unsigned char *dst = (unsigned char *)call->operation->dst + shard.first * call->unit_bytes;
        group->simd->copy(dst, lane_reading(call->lane, owner, group->terms.half_bytes) + results_at,
                          shard.units * call->unit_bytes, call->streaming);
    }
}

bool protocol_two_shot(struct group *group, struct host_lane *lane, const struct operation *operation,
                       const struct choice *choice)
{
    size_t world = (size_t)group->options.world;
    size_t unit_bytes = choice_unit_bytes(operation);
    size_t align_units = CHOICE_ALIGN_BYTES / unit_bytes;
    struct two_shot call = {
        .group = group,
        .lane = lane,
        .operation = operation,
        .choice = choice,
        .unit_bytes = unit_bytes,
        .shard_units = ((choice->round_units + world - 1) / world + align_units - 1) / align_units * align_units,
        .streaming = operation->count * unit_bytes >= STREAMING_BYTES_MIN,
    };
    stage_inputs(&call, 0, lane_filling(lane, group->options.rank, group->terms.half_bytes));
    lane_publish(group, lane);
    for (uint64_t index = 0; index <= choice->rounds; index++) {
        if (!lane_wait(group, lane) || (index == 0 && !lane_agree(group, lane))) {
            return false;
        }
        unsigned char *half = lane_filling(lane, group->options.rank, group->terms.half_bytes);
        if (index < choice->rounds) {
            reduce_shard(&call, index, half); /* first: it is what the peers wait for */
        }
        if (index + 1 < choice->rounds) {
            stage_inputs(&call, index + 1, half);
        }
        if (index > 0) {
            take_results(&call, index - 1);
        }
        if (index < choice->rounds) {
            lane_publish(group, lane);
        }
    }
    return true;
}
