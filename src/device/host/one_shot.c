/* SPDX-License-Identifier: Apache-2.0 */
/*
 * one_shot.c - all_reduce that meets once.
 *
 *     rank r stages its input            half of r:  [ x_r[0 .. n) ]
 *     ---- step ----
 *     rank r reduces all N inputs        dst[i] = x_0[i] op x_1[i] op .. x_{N-1}[i]
 *
 * A rank moves (N + 2) * bytes, so it wins only while the meeting costs more than the moving.
 */
#include "device/host/protocol.h"
#include "device/host/simd/simd.h"

bool protocol_one_shot(struct group *group, struct host_lane *lane, const struct operation *operation,
                       const struct choice *choice)
{
    int world = group->options.world;
    int rank = group->options.rank;
    size_t unit_bytes = choice_unit_bytes(operation);
    for (uint64_t index = 0; index < choice->rounds; index++) {
        struct round round = round_at(operation, choice, index);
        const unsigned char *src = (const unsigned char *)operation->src + round.first * unit_bytes;
        unsigned char *dst = (unsigned char *)operation->dst + round.first * unit_bytes;
        group->simd->copy(lane_filling(lane, rank, group->terms.half_bytes), src, round.units * unit_bytes,
                          stages_streaming(group, round.units * unit_bytes));
        lane_publish(group, lane);
        if (!lane_wait(group, lane) || (index == 0 && !lane_agree(group, lane))) {
            return false;
        }
        if (round.units == 0) {
            continue;
        }
        const void *sources[TUTTI_WORLD_MAX];
        for (int peer = 0; peer < world; peer++) {
            sources[peer] = peer == rank ? src : lane_reading(lane, peer, group->terms.half_bytes);
        }
        group->simd->reduce(dst, NULL, sources, world, round.units, operation->dtype, operation->op, false);
    }
    return true;
}
