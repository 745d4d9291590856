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

/* How many lines of a long message a thread has under way at the same time: a load takes most of a microsecond, and one after the other
 * would leave the wire idle. Short messages, of which each thread has one line, have code of their own, since fetching it counts there. */
#define LINES_TOGETHER 4

PORT_DEVICE uint64_t vecs_of_message(uint64_t bytes)
{
    uint64_t lines = bytes == 0 ? 1 : (bytes + LINE_PAYLOAD_BYTES - 1) / LINE_PAYLOAD_BYTES;
    return lines * 4;
}

/* Where the four words of vector `vec` begin in the message. */
PORT_DEVICE uint64_t line_offset(uint64_t vec)
{
    return (vec >> 2) * LINE_PAYLOAD_BYTES + (vec & 3) * 16;
}

/* Whether word `index` of the vector is payload, and not its line's mask. */
PORT_DEVICE bool is_payload(uint64_t vec, uint32_t index)
{
    return ((uint32_t)vec & 3) * 4 + index < LINE_PAYLOAD_WORDS;
}

/* The words as they travel; the fourth thread's last one is the mask. All threads of the warp. */
PORT_DEVICE struct vec4 pack_line(uint64_t vec, uint32_t (&words)[4])
{
    uint32_t mask = 0;
#pragma unroll
    for (uint32_t index = 0; index < 4; index++) {
        if (words[index] == SENTINEL) {
            mask |= 1u << (((uint32_t)vec & 3) * 4 + index);
            words[index] = 0;
        }
    }
    mask = port_or4(mask);
    struct vec4 value = {words[0], words[1], words[2], is_payload(vec, 3) ? words[3] : mask};
    return value;
}

/* The other way. All threads of the warp. */
PORT_DEVICE void unpack_line(uint64_t vec, const struct vec4 &value, uint32_t (&words)[4])
{
    const uint32_t mask = port_last4(value.w);
    words[0] = value.x;
    words[1] = value.y;
    words[2] = value.z;
    words[3] = value.w;
#pragma unroll
    for (uint32_t index = 0; index < 4; index++) {
        words[index] = (mask >> (((uint32_t)vec & 3) * 4 + index) & 1) != 0 ? SENTINEL : words[index];
    }
}

/* A thread's place: the peer it serves and its 16 bytes of each tile; how many there are; and the peer's messages. */
struct lines_place {
    uint32_t peer, column;
    bool mine;
    uint64_t slot_bytes, begin, stride;
    uint64_t most, outgoing, incoming;
    uint64_t from, from_bytes, to, to_bytes;
    bool loads_words, stores_words; /* but for their ends */
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
    place.from = route_source(message, place.peer);
    place.from_bytes = route_bytes_to(message);
    place.to = route_destination(message, place.peer);
    place.to_bytes = route_bytes_from(message, place.peer);
    place.most = vecs_of_message(message.units);
    place.outgoing = vecs_of_message(place.from_bytes);
    place.incoming = vecs_of_message(place.to_bytes);
    place.loads_words = (place.from & 3) == 0;
    place.stores_words = (place.to & 3) == 0 && message.row_bytes == 0;
    return place;
}

/* -- a quarter of a line ------------------------------------------------------------------------------------ */

PORT_DEVICE uint64_t payload_bytes(uint64_t vec)
{
    return (vec & 3) == 3 ? LINE_PAYLOAD_BYTES - 48 : 16;
}

/* What goes to the peer, 0 beyond its end. */
PORT_DEVICE void load_line(const struct lines_place &place, uint64_t vec, uint32_t (&words)[4])
{
    const uint64_t offset = line_offset(vec);
    if (!place.loads_words || offset + payload_bytes(vec) > place.from_bytes) {
        const struct vec4 found = load_bytes(place.from, offset, place.from_bytes);
        words[0] = found.x;
        words[1] = found.y;
        words[2] = found.z;
        words[3] = is_payload(vec, 3) ? found.w : 0;
        return;
    }
    const uint32_t *at = reinterpret_cast<const uint32_t *>(place.from + offset);
#pragma unroll
    for (uint32_t index = 0; index < 4; index++) {
        words[index] = is_payload(vec, index) ? at[index] : 0;
    }
}

template <class Message>
PORT_DEVICE void store_line(const Message &message, const struct lines_place &place, uint64_t vec,
                            const uint32_t (&words)[4])
{
    const uint64_t offset = line_offset(vec), bytes = payload_bytes(vec);
    if (!place.stores_words || offset + bytes > place.to_bytes) {
        const uint64_t left = place.to_bytes > offset ? place.to_bytes - offset : 0;
        const struct vec4 value = {words[0], words[1], words[2], words[3]};
        store_bytes(rows_of(message), place.to, offset, left < bytes ? left : bytes, value);
        return;
    }
    uint32_t *at = reinterpret_cast<uint32_t *>(place.to + offset);
#pragma unroll
    for (uint32_t index = 0; index < 4; index++) {
        if (is_payload(vec, index)) {
            at[index] = words[index];
        }
    }
}

/* -- some lines for each thread, those of the tiles from `first` on; all threads of the block ----------------------------- */

template <int lines>
PORT_DEVICE void load_lines(const struct lines_place &place, uint64_t first, uint64_t end, uint32_t (&words)[lines][4])
{
#pragma unroll
    for (uint32_t line = 0; line < lines; line++) {
        if (first + line * place.stride < end) {
            load_line(place, first + line * place.stride + place.column, words[line]);
        }
    }
}

template <int lines>
PORT_DEVICE void push_lines(const struct kernel_arguments &arguments, const struct turn &turn,
                            const struct lines_place &place, uint64_t first)
{
    uint32_t words[lines][4];
    const uint64_t end = place.mine ? 0 : place.outgoing;
    load_lines<lines>(place, first, end, words);
#pragma unroll
    for (uint32_t line = 0; line < lines; line++) {
        const uint64_t tile = first + line * place.stride, vec = tile + place.column;
        if (tile < end) {
            const struct vec4 value = pack_line(vec, words[line]);
            if (vec < end && !turn.failed) {
                port_store_system4(slot_at(arguments, turn, place.peer, arguments.rank * place.slot_bytes + vec * 16),
                                   value);
            }
        }
    }
}

/* What this rank keeps of its own. */
template <int lines, class Message>
PORT_DEVICE void keep_lines(const Message &message, const struct lines_place &place, uint64_t first)
{
    uint32_t words[lines][4];
    const uint64_t end = route_in_place(message) ? 0 : place.incoming;
    load_lines<lines>(place, first, end, words);
#pragma unroll
    for (uint32_t line = 0; line < lines; line++) {
        if (first + line * place.stride + place.column < end) {
            store_line(message, place, first + line * place.stride + place.column, words[line]);
        }
    }
}

/* What the peer has sent, of slots that are looked into at the same time. */
template <int lines, class Message>
PORT_DEVICE void take_lines(const struct kernel_arguments &arguments, const Message &message, struct turn &turn,
                            const struct lines_place &place, uint64_t first)
{
    struct vec4 *const slots = slot_at(arguments, turn, arguments.rank, place.peer * place.slot_bytes) + place.column;
    struct vec4 values[lines];
#pragma unroll
    for (uint32_t line = 0; line < lines; line++) {
        const uint64_t tile = first + line * place.stride;
        values[line] = {0, 0, 0, 0};
        if (tile + place.column < place.incoming) {
            values[line] = port_load_system4(slots + tile);
        }
    }
#pragma unroll
    for (uint32_t line = 0; line < lines; line++) {
        const uint64_t tile = first + line * place.stride, vec = tile + place.column;
        uint32_t words[4];
        if (tile < place.incoming) {
            if (vec < place.incoming) {
                values[line] = receive_begun(arguments, turn, slots + tile, place.peer, 0, values[line]);
            }
            unpack_line(vec, values[line], words);
            if (vec < place.incoming) {
                store_line(message, place, vec, words);
            }
        }
    }
}

template <int lines, class Message>
PORT_DEVICE void keep_or_take_lines(const struct kernel_arguments &arguments, const Message &message, struct turn &turn,
                                    const struct lines_place &place, uint64_t first)
{
    if (place.mine) {
        keep_lines<lines>(message, place, first);
    } else {
        take_lines<lines>(arguments, message, turn, place, first);
    }
}

/* -- all of them ------------------------------------------------------------------------------------------ */

/* All threads of the block, whose first stores turn_announce shall follow, if it `announces`. Each sends a few lines, and then as many
 * again before it takes the first ones, so that the wire is busy meanwhile. In place: what a thread takes lies where it has read before,
 * or where nobody reads. */
template <class Message>
PORT_DEVICE void exchange_lines(const struct kernel_arguments &arguments, const Message &message, struct turn &turn,
                                const struct lines_place &place, bool announces)
{
    const bool few = place.most <= place.stride; /* one for each thread at most */
    const uint64_t step = LINES_TOGETHER * place.stride;
    if (few) {
        push_lines<1>(arguments, turn, place, place.begin);
    } else {
        push_lines<LINES_TOGETHER>(arguments, turn, place, place.begin);
    }
    if (announces) {
        turn_announce(arguments, turn);
    }
    if (few) {
        keep_or_take_lines<1>(arguments, message, turn, place, place.begin);
        return;
    }
#pragma unroll 1
    for (uint64_t first = place.begin; first < place.most; first += step) {
        push_lines<LINES_TOGETHER>(arguments, turn, place, first + step);
        keep_or_take_lines<LINES_TOGETHER>(arguments, message, turn, place, first);
    }
}

/* What a failed call leaves in this block's lines. */
template <class Message> PORT_DEVICE void poison_lines(const Message &message, const struct lines_place &place)
{
    for (uint64_t vec = place.begin + place.column; vec < place.incoming; vec += place.stride) {
#pragma unroll 1
        for (uint32_t index = 0; index < 4 && is_payload(vec, index); index++) {
            route_poison(message, place.peer, line_offset(vec) + index * 4);
        }
    }
}

#endif
