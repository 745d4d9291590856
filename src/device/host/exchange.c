/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.c - everything but all_reduce: a rank stages what others need, and takes what is its own.
 *
 *     all_gather        stages its bytes           half: [ src ]              takes from every peer
 *     broadcast         the root stages            half: [ buffer ]           takes from the root
 *     all_to_all        stages a block a peer      half: [ to 0 | to 1 | .. ] takes its block of each peer
 *     reduce_scatter    stages a block a peer      half: [ to 0 | to 1 | .. ] reduces its block of all
 *     barrier           stages nothing
 *
 * One step a round. All ranks wait for all in each, also where the data comes from one (broadcast): that is
 * what makes two halves enough.
 */
#include "device/host/protocol.h"
#include "device/host/simd/simd.h"

static void stage_blocks(const struct group *group, const struct operation *operation, struct round round,
                         size_t block_bytes, unsigned char *half)
{
    size_t unit_bytes = choice_unit_bytes(operation);
    for (int offset = 1; offset < group->options.world; offset++) {
        size_t peer = (size_t)((group->options.rank + offset) % group->options.world);
        size_t at = peer * operation->count + round.first;
        group->simd->copy(half + peer * block_bytes, (const unsigned char *)operation->src + at * unit_bytes,
                          round.units * unit_bytes, stages_streaming(group, round.units * unit_bytes));
    }
}

static void take_reduced(const struct group *group, const struct host_lane *lane, const struct operation *operation,
                         struct round round, size_t block_bytes)
{
    size_t unit_bytes = choice_unit_bytes(operation);
    size_t rank = (size_t)group->options.rank;
    const void *sources[TUTTI_WORLD_MAX];
    for (int peer = 0; peer < group->options.world; peer++) {
        sources[peer] = lane_reading(lane, peer, group->terms.half_bytes) + rank * block_bytes;
    }
    sources[rank] = (const unsigned char *)operation->src + (rank * operation->count + round.first) * unit_bytes;
    group->simd->reduce((unsigned char *)operation->dst + round.first * unit_bytes, NULL, sources, group->options.world,
                        round.units, operation->dtype, operation->op, false);
}

static void stage(const struct group *group, const struct operation *operation, struct round round, size_t block_bytes,
                  unsigned char *half)
{
    if (operation->kind == TUTTI_REDUCE_SCATTER || operation->kind == TUTTI_ALL_TO_ALL) {
        stage_blocks(group, operation, round, block_bytes, half);
    } else if (operation->kind == TUTTI_ALL_GATHER ||
               (operation->kind == TUTTI_BROADCAST && operation->root == group->options.rank)) {
        group->simd->copy(half, (const unsigned char *)operation->src + round.first, round.units,
                          stages_streaming(group, round.units));
    }
}

static void take(const struct group *group, const struct host_lane *lane, const struct operation *operation,
                 struct round round, size_t block_bytes)
{
    if (round.units == 0) {
        return;
    }
    if (operation->kind == TUTTI_REDUCE_SCATTER) {
        take_reduced(group, lane, operation, round, block_bytes);
    } else {
        copies_take(group, lane, operation, round, block_bytes);
    }
}

bool protocol_exchange(struct group *group, struct host_lane *lane, const struct operation *operation,
                       const struct choice *choice)
{
    size_t block_bytes = choice->round_units * choice_unit_bytes(operation);
    for (uint64_t index = 0; index < choice->rounds; index++) {
        struct round round = round_at(operation, choice, index);
        stage(group, operation, round, block_bytes, lane_filling(lane, group->options.rank, group->terms.half_bytes));
        lane_publish(group, lane);
        if (!lane_wait(group, lane) || (index == 0 && !lane_agree(group, lane))) {
            return false;
        }
        take(group, lane, operation, round, block_bytes);
    }
    return true;
}
