/* SPDX-License-Identifier: Apache-2.0 */
/* copies.c - where the bytes of a copying collective go: the receiving half of exchange.c. */
#include "device/host/protocol.h"
#include "device/host/simd/simd.h"

/* Bytes [first, first + bytes) of a peer's dense rows go to rows of dst that are dst_stride_bytes apart. */
static void scatter_rows(const struct group *group, const struct operation *operation, int peer,
                         const unsigned char *from, size_t first, size_t bytes)
{
    unsigned char *dst = (unsigned char *)operation->dst + (size_t)peer * operation->row_bytes;
    while (bytes > 0) {
        size_t row = first / operation->row_bytes;
        size_t column = first % operation->row_bytes;
        size_t piece_bytes = operation->row_bytes - column;
        piece_bytes = piece_bytes < bytes ? piece_bytes : bytes;
        group->simd->copy(dst + row * operation->dst_stride_bytes + column, from, piece_bytes, false);
        from += piece_bytes;
        first += piece_bytes;
        bytes -= piece_bytes;
    }
}

static void place(const struct group *group, const struct operation *operation, int peer, const unsigned char *from,
                  struct round round)
{
    if (operation->row_bytes > 0) {
        scatter_rows(group, operation, peer, from, round.first, round.units);
        return;
    }
    unsigned char *to = (unsigned char *)operation->dst + (size_t)peer * operation->count + round.first;
    if (to != from) { /* in place: a rank's own part is where it belongs */
        bool streaming = operation->count * (size_t)group->options.world >= STREAMING_BYTES_MIN;
        group->simd->copy(to, from, round.units, streaming);
    }
}

void copies_take(const struct group *group, const struct host_lane *lane, const struct operation *operation,
                 struct round round, size_t block_bytes)
{
    int rank = group->options.rank;
    const unsigned char *src = operation->src;
    size_t half_bytes = group->terms.half_bytes;
    if (operation->kind == TUTTI_BROADCAST) {
        if (operation->root != rank) {
            group->simd->copy((unsigned char *)operation->dst + round.first,
                              lane_reading(lane, operation->root, half_bytes), round.units,
                              operation->count >= STREAMING_BYTES_MIN);
        }
        return;
    }
    bool blocks = operation->kind == TUTTI_ALL_TO_ALL;
    place(group, operation, rank, src + round.first + (blocks ? (size_t)rank * operation->count : 0), round);
    for (int offset = 1; offset < group->options.world; offset++) {
        int peer = (rank + offset) % group->options.world;
        const unsigned char *half = lane_reading(lane, peer, half_bytes);
        place(group, operation, peer, half + (blocks ? (size_t)rank * block_bytes : 0), round);
    }
}
