/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copies.cu - P2c, sentinel one-shot for exact copies: all_gather, broadcast, all_to_all.
 *
 * Wire format. A half is cut into `world` slots; slot r receives rank r's message as lines of 64 bytes:
 *
 *     | 15 words of payload | mask |      bit w of the mask: payload word w was SENTINEL and travelled as 0
 *
 * The mask has 15 bits, so it is never SENTINEL itself: every word of a line is self-validating as in one_shot.cu, and
 * 94% of the wire is payload. Four neighbouring threads share a line, 16 bytes each, so that a warp's stores are
 * contiguous; they pass the mask among themselves. All threads of a warp take part in every turn of the loops.
 * Whoever has nothing to send sends one empty line: a call that consumes an epoch depends on all ranks. Two halves
 * suffice as in one_shot.cu.
 *
 * One thread a (peer, 16 bytes of line). tile_shift is at least 5: a warp serves one peer.
 */
#include "kernels/routes.h"
#include "kernels/turn.h"

#define LINE_PAYLOAD_WORDS 15
#define LINE_PAYLOAD_BYTES 60

PORT_DEVICE uint64_t vecs_of_message(uint64_t bytes)
{
    uint64_t lines = bytes == 0 ? 1 : (bytes + LINE_PAYLOAD_BYTES - 1) / LINE_PAYLOAD_BYTES;
    return lines * 4;
}

/* This thread's four words of a line to `peer`; the fourth thread's last one is the mask. All threads of the warp. */
PORT_DEVICE struct vec4 pack_line(const struct kernel_arguments &arguments, uint32_t peer, uint64_t vec)
{
    const uint32_t quarter = (uint32_t)vec & 3;
    const uint64_t offset = (vec >> 2) * LINE_PAYLOAD_BYTES + quarter * 16;
    uint32_t words[4];
    uint32_t mask = 0;
#pragma unroll
    for (uint32_t index = 0; index < 4; index++) {
        bool payload = quarter * 4 + index < LINE_PAYLOAD_WORDS;
        words[index] = payload ? route_load(arguments, peer, offset + index * 4) : 0;
        if (words[index] == SENTINEL) {
            mask |= 1u << (quarter * 4 + index);
            words[index] = 0;
        }
    }
    mask = port_or4(mask);
    struct vec4 value = {words[0], words[1], words[2], quarter == 3 ? mask : words[3]};
    return value;
}

/* All threads of the warp; `valid`: this thread's value has arrived and belongs to the message. */
PORT_DEVICE void unpack_line(const struct kernel_arguments &arguments, uint32_t peer, uint64_t vec, struct vec4 value,
                             bool valid)
{
    const uint32_t quarter = (uint32_t)vec & 3;
    const uint64_t offset = (vec >> 2) * LINE_PAYLOAD_BYTES + quarter * 16;
    const uint32_t mask = port_last4(value.w);
    const uint32_t words[4] = {value.x, value.y, value.z, value.w};
#pragma unroll
    for (uint32_t index = 0; index < 4; index++) {
        uint32_t number = quarter * 4 + index;
        if (valid && number < LINE_PAYLOAD_WORDS) {
            route_store(arguments, peer, offset + index * 4, (mask >> number & 1) != 0 ? SENTINEL : words[index]);
        }
    }
}

PORT_DEVICE void keep_line(const struct kernel_arguments &arguments, uint64_t vec)
{
    const uint32_t quarter = (uint32_t)vec & 3;
    const uint64_t offset = (vec >> 2) * LINE_PAYLOAD_BYTES + quarter * 16;
    for (uint32_t index = 0; index < 4; index++) {
        if (quarter * 4 + index < LINE_PAYLOAD_WORDS) {
            route_keep(arguments, offset + index * 4);
        }
    }
}

/* What a failed call leaves in this block's lines. */
PORT_DEVICE void poison_lines(const struct kernel_arguments &arguments, uint32_t peer, uint64_t begin, uint64_t stride)
{
    uint64_t incoming = vecs_of_message(route_bytes_from(arguments, peer));
    for (uint64_t vec = begin; vec < incoming; vec += stride) {
        const uint32_t quarter = (uint32_t)vec & 3;
        const uint64_t offset = (vec >> 2) * LINE_PAYLOAD_BYTES + quarter * 16;
        for (uint32_t index = 0; index < 4 && quarter * 4 + index < LINE_PAYLOAD_WORDS; index++) {
            route_poison(arguments, peer, offset + index * 4);
        }
    }
}

PORT_KERNEL(tutti_copies)
{
    const uint32_t peer = port_thread() >> arguments.tile_shift;
    const uint32_t column = port_thread() & ((1u << arguments.tile_shift) - 1);
    const bool mine = peer == arguments.rank;
    const uint64_t slot_bytes = arguments.half_bytes / arguments.world / 64 * 64;
    const uint64_t begin = (uint64_t)port_block() << arguments.tile_shift;
    const uint64_t stride = (uint64_t)port_blocks() << arguments.tile_shift;
    const uint64_t most = vecs_of_message(arguments.units);
    const uint64_t outgoing = vecs_of_message(route_bytes_to(arguments));
    const uint64_t incoming = vecs_of_message(route_bytes_from(arguments, peer));

    struct turn turn = turn_begin(arguments);
    for (uint64_t first = begin; first < most; first += stride) {
        uint64_t vec = first + column;
        struct vec4 value = pack_line(arguments, peer, vec);
        if (!mine && vec < outgoing && !turn.failed) {
            port_store_system4(slot_at(arguments, turn, peer, arguments.rank * slot_bytes + vec * 16), value);
        }
    }
    turn_announce(arguments, turn); /* in place: its barrier stands between what the block reads and what it writes */
    for (uint64_t first = begin; first < most; first += stride) {
        uint64_t vec = first + column;
        bool comes = !mine && vec < incoming;
        struct vec4 value = {0, 0, 0, 0};
        if (comes) {
            value = receive(arguments, turn, slot_at(arguments, turn, arguments.rank, peer * slot_bytes + vec * 16),
                            peer, 0);
        }
        unpack_line(arguments, peer, vec, value, comes);
        if (mine && vec < incoming) {
            keep_line(arguments, vec);
        }
    }
    const bool failed = port_sync_or(turn.failed);
    turn_polled(arguments, turn);
    if (failed) {
        poison_lines(arguments, peer, begin + column, stride);
    }
    turn_leave(arguments);
}
