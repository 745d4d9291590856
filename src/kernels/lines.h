/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lines.h - exact copies through the inboxes, in lines of 64 bytes (copies.cu draws the wire format).
 *
 * `Message`: what routes.h says.
 */
#ifndef TUTTI_KERNELS_LINES_H
#define TUTTI_KERNELS_LINES_H

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
template <class Message> PORT_DEVICE struct vec4 pack_line(const Message &message, uint32_t peer, uint64_t vec)
{
    const uint32_t quarter = (uint32_t)vec & 3;
    const uint64_t offset = (vec >> 2) * LINE_PAYLOAD_BYTES + quarter * 16;
    uint32_t words[4];
    uint32_t mask = 0;
#pragma unroll
    for (uint32_t index = 0; index < 4; index++) {
        bool payload = quarter * 4 + index < LINE_PAYLOAD_WORDS;
        words[index] = payload ? route_load(message, peer, offset + index * 4) : 0;
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
template <class Message>
PORT_DEVICE void unpack_line(const Message &message, uint32_t peer, uint64_t vec, struct vec4 value, bool valid)
{
    const uint32_t quarter = (uint32_t)vec & 3;
    const uint64_t offset = (vec >> 2) * LINE_PAYLOAD_BYTES + quarter * 16;
    const uint32_t mask = port_last4(value.w);
    const uint32_t words[4] = {value.x, value.y, value.z, value.w};
#pragma unroll
    for (uint32_t index = 0; index < 4; index++) {
        uint32_t number = quarter * 4 + index;
        if (valid && number < LINE_PAYLOAD_WORDS) {
            route_store(message, peer, offset + index * 4, (mask >> number & 1) != 0 ? SENTINEL : words[index]);
        }
    }
}

template <class Message> PORT_DEVICE void keep_line(const Message &message, uint64_t vec)
{
    const uint32_t quarter = (uint32_t)vec & 3;
    const uint64_t offset = (vec >> 2) * LINE_PAYLOAD_BYTES + quarter * 16;
    for (uint32_t index = 0; index < 4; index++) {
        if (quarter * 4 + index < LINE_PAYLOAD_WORDS) {
            route_keep(message, offset + index * 4);
        }
    }
}

/* A thread's place: the peer it serves and its 16 bytes of each tile; and how many there are. */
struct lines_place {
    uint32_t peer, column;
    bool mine;
    uint64_t slot_bytes, begin, stride;
    uint64_t most, outgoing, incoming;
};

template <class Message>
PORT_DEVICE struct lines_place lines_place_make(const struct kernel_arguments &arguments, const Message &message)
{
    struct lines_place place;
    place.peer = port_thread() >> arguments.tile_shift;
    place.column = port_thread() & ((1u << arguments.tile_shift) - 1);
    place.mine = place.peer == arguments.rank;
    place.slot_bytes = arguments.half_bytes / arguments.world / 64 * 64;
    place.begin = (uint64_t)port_block() << arguments.tile_shift;
    place.stride = (uint64_t)port_blocks() << arguments.tile_shift;
    place.most = vecs_of_message(message.units);
    place.outgoing = vecs_of_message(route_bytes_to(message));
    place.incoming = vecs_of_message(route_bytes_from(message, place.peer));
    return place;
}

/* All threads of the block: each sends its peer what that needs. */
template <class Message>
PORT_DEVICE void push_lines(const struct kernel_arguments &arguments, const Message &message, const struct turn &turn,
                            const struct lines_place &place)
{
    for (uint64_t first = place.begin; first < place.most; first += place.stride) {
        uint64_t vec = first + place.column;
        struct vec4 value = pack_line(message, place.peer, vec);
        if (!place.mine && vec < place.outgoing && !turn.failed) {
            port_store_system4(slot_at(arguments, turn, place.peer, arguments.rank * place.slot_bytes + vec * 16),
                               value);
        }
    }
}

/* All threads of the block: each takes what its peer has sent, and leaves it where it belongs; or what this rank keeps. */
template <class Message>
PORT_DEVICE void take_lines(const struct kernel_arguments &arguments, const Message &message, struct turn &turn,
                            const struct lines_place &place)
{
    for (uint64_t first = place.begin; first < place.most; first += place.stride) {
        uint64_t vec = first + place.column;
        bool comes = !place.mine && vec < place.incoming;
        struct vec4 value = {0, 0, 0, 0};
        if (comes) {
            value = receive(arguments, turn,
                            slot_at(arguments, turn, arguments.rank, place.peer * place.slot_bytes + vec * 16),
                            place.peer, 0);
        }
        unpack_line(message, place.peer, vec, value, comes);
        if (place.mine && vec < place.incoming) {
            keep_line(message, vec);
        }
    }
}

/* What a failed call leaves in this block's lines. */
template <class Message> PORT_DEVICE void poison_lines(const Message &message, const struct lines_place &place)
{
    for (uint64_t vec = place.begin + place.column; vec < place.incoming; vec += place.stride) {
        const uint32_t quarter = (uint32_t)vec & 3;
        const uint64_t offset = (vec >> 2) * LINE_PAYLOAD_BYTES + quarter * 16;
        for (uint32_t index = 0; index < 4 && quarter * 4 + index < LINE_PAYLOAD_WORDS; index++) {
            route_poison(message, place.peer, offset + index * 4);
        }
    }
}

#endif
