/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routes.h - copying collectives: which of this rank's bytes go to a peer, and where a peer's bytes go.
 *
 *                    to peer p               from peer p
 *     all_gather     src                     dst block p (or column p of each row)
 *     broadcast      buffer, if I am root    buffer, if p is root
 *     all_to_all     src block p             dst block p
 *     barrier        nothing                 nothing
 *
 * Copies are exact and know no element type: bytes at any address, moved as 32-bit words where this rank's own
 * addresses allow it.
 */
#ifndef TUTTI_KERNELS_ROUTES_H
#define TUTTI_KERNELS_ROUTES_H

#include "kernels/portable.h"

/* `Message`: struct kernel_arguments, or what has its members kind, rank, root, units, src, dst, the strides and the rows. */
enum { KIND_ALL_GATHER = 2, KIND_BROADCAST = 3, KIND_ALL_TO_ALL = 4, KIND_BARRIER = 5 }; /* tutti_collective */

template <class Message> PORT_DEVICE uint64_t route_bytes_to(const Message &message)
{
    bool sends = message.kind != KIND_BARRIER && (message.kind != KIND_BROADCAST || message.root == message.rank);
    return sends ? message.units : 0;
}

template <class Message> PORT_DEVICE uint64_t route_bytes_from(const Message &message, uint32_t peer)
{
    bool comes = message.kind != KIND_BARRIER && (message.kind != KIND_BROADCAST || message.root == peer);
    return comes ? message.units : 0;
}

/* Address of what goes to `peer`. */
template <class Message> PORT_DEVICE uint64_t route_source(const Message &message, uint32_t peer)
{
    return message.src + (message.kind == KIND_ALL_TO_ALL ? peer * message.src_stride : 0);
}

/* Up to four bytes. */
PORT_DEVICE uint32_t load_some(uint64_t at, uint64_t count)
{
    if (count >= 4 && (at & 3) == 0) {
        return *reinterpret_cast<const uint32_t *>(at);
    }
    uint32_t word = 0;
#pragma unroll
    for (uint32_t byte = 0; byte < 4; byte++) {
        if (byte < count) {
            word |= (uint32_t) * reinterpret_cast<const uint8_t *>(at + byte) << (8 * byte);
        }
    }
    return word;
}

/* 16 bytes from `offset` of a message of `bytes` bytes, 0 beyond its end. Out of line, as what follows for stores: seldom run. */
PORT_COLD struct vec4 load_bytes(uint64_t from, uint64_t offset, uint64_t bytes)
{
    const uint64_t at = from + offset, left = bytes > offset ? bytes - offset : 0;
    struct vec4 value;
    value.x = load_some(at, left);
    value.y = load_some(at + 4, left > 4 ? left - 4 : 0);
    value.z = load_some(at + 8, left > 8 ? left - 8 : 0);
    value.w = load_some(at + 12, left > 12 ? left - 12 : 0);
    return value;
}

template <class Message> PORT_DEVICE uint32_t route_load(const Message &message, uint32_t peer, uint64_t offset)
{
    const uint64_t from = route_source(message, peer), bytes = route_bytes_to(message);
    return load_some(from + offset, bytes > offset ? bytes - offset : 0);
}

/* Where what comes from `peer` belongs: all of it, or its part of each row. */
template <class Message> PORT_DEVICE uint64_t route_destination(const Message &message, uint32_t peer)
{
    const uint64_t apart = message.row_bytes != 0 ? message.row_bytes : message.dst_stride;
    return message.dst + (message.kind == KIND_BROADCAST ? 0 : peer * apart);
}

/* Rows of a result, each `bytes` long; 0: none. */
struct rows {
    uint64_t bytes, stride, first; /* first: the byte of the dense rows at which the message begins */
};

template <class Message> PORT_DEVICE struct rows rows_of(const Message &message)
{
    return {message.row_bytes, message.row_stride, message.row_bytes != 0 ? message.row_first : 0};
}

/* Where a byte of a message belongs, and which of its row it is. */
struct row_place {
    uint64_t address, column;
};

/* Out of line: divisions are long. */
PORT_COLD struct row_place row_place_make(const struct rows rows, uint64_t to, uint64_t offset)
{
    const uint64_t from_start = rows.first + offset;
    const uint64_t row = rows.bytes != 0 ? from_start / rows.bytes : 0;
    const uint64_t column = from_start - row * rows.bytes;
    return {to + row * rows.stride + column, column};
}

/* A step of `bytes`, not beyond the next row's begin. */
PORT_DEVICE void row_place_advance(const struct rows &rows, struct row_place &place, uint64_t bytes)
{
    place.address += bytes;
    place.column += bytes;
    if (rows.bytes != 0 && place.column == rows.bytes) {
        place.address += rows.stride - rows.bytes;
        place.column = 0;
    }
}

/* `count` bytes of `value` at `offset` of a message. */
PORT_COLD void store_bytes(const struct rows rows, uint64_t to, uint64_t offset, uint64_t count, struct vec4 value)
{
    struct row_place place = row_place_make(rows, to, offset);
    const bool in_words = ((place.address | place.column | rows.bytes | rows.stride) & 3) == 0;
    while (count > 0) {
        const uint64_t step = count < 4 ? count : 4;
        if (in_words && step == 4) {
            *reinterpret_cast<uint32_t *>(place.address) = value.x;
            row_place_advance(rows, place, 4);
        } else {
            for (uint32_t byte = 0; byte < step; byte++) {
                *reinterpret_cast<uint8_t *>(place.address) = (uint8_t)(value.x >> (8 * byte));
                row_place_advance(rows, place, 1);
            }
        }
        value = {value.y, value.z, value.w, 0};
        count -= step;
    }
}

template <class Message>
PORT_DEVICE void route_store(const Message &message, uint32_t peer, uint64_t offset, uint32_t word)
{
    const uint64_t to = route_destination(message, peer), bytes = route_bytes_from(message, peer);
    if (message.row_bytes == 0 && offset + 4 <= bytes && (to & 3) == 0) {
        *reinterpret_cast<uint32_t *>(to + offset) = word;
    } else if (offset < bytes) {
        store_bytes(rows_of(message), to, offset, bytes - offset < 4 ? bytes - offset : 4, {word, 0, 0, 0});
    }
}

/* Whether this rank's own part of the result is there already. */
template <class Message> PORT_DEVICE bool route_in_place(const Message &message)
{
    return message.row_bytes == 0 && route_source(message, message.rank) == route_destination(message, message.rank);
}

/* This rank's own part of the result, unless it is in place. */
template <class Message> PORT_DEVICE void route_keep(const Message &message, uint64_t offset)
{
    if (!route_in_place(message)) {
        route_store(message, message.rank, offset, route_load(message, message.rank, offset));
    }
}

/* Failed copies leave zeros, so that nothing downstream follows stale indices; a broadcast's root keeps its input. */
template <class Message> PORT_DEVICE void route_poison(const Message &message, uint32_t peer, uint64_t offset)
{
    if (message.kind != KIND_BROADCAST || message.root != message.rank) {
        route_store(message, peer, offset, 0);
    }
}

#endif
