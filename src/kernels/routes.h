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

/* Four bytes from `offset` of what goes to `peer`; bytes beyond the end are 0. */
template <class Message> PORT_DEVICE uint32_t route_load(const Message &message, uint32_t peer, uint64_t offset)
{
    uint64_t bytes = route_bytes_to(message);
    uint64_t at = message.src + (message.kind == KIND_ALL_TO_ALL ? peer * message.src_stride : 0) + offset;
    if (offset + 4 <= bytes && (at & 3) == 0) {
        return *reinterpret_cast<const uint32_t *>(at);
    }
    uint32_t word = 0;
    for (uint32_t byte = 0; byte < 4 && offset + byte < bytes; byte++) {
        word |= (uint32_t) * reinterpret_cast<const uint8_t *>(at + byte) << (8 * byte);
    }
    return word;
}

/* Address of byte `offset` of what comes from `peer`. */
template <class Message> PORT_DEVICE uint64_t route_destination(const Message &message, uint32_t peer, uint64_t offset)
{
    if (message.row_bytes != 0) {
        uint64_t from_start = message.row_first + offset;
        uint64_t row = from_start / message.row_bytes;
        return message.dst + row * message.row_stride + peer * message.row_bytes +
               (from_start - row * message.row_bytes);
    }
    return message.dst + (message.kind == KIND_BROADCAST ? 0 : peer * message.dst_stride) + offset;
}

template <class Message>
PORT_DEVICE void route_store(const Message &message, uint32_t peer, uint64_t offset, uint32_t word)
{
    uint64_t bytes = route_bytes_from(message, peer);
    if (offset >= bytes) {
        return;
    }
    uint64_t at = route_destination(message, peer, offset);
    /* A row may end within the word. */
    bool together = message.row_bytes == 0 || (message.row_bytes & 3) == 0;
    if (together && offset + 4 <= bytes && (at & 3) == 0) {
        *reinterpret_cast<uint32_t *>(at) = word;
        return;
    }
    for (uint32_t byte = 0; byte < 4 && offset + byte < bytes; byte++) {
        *reinterpret_cast<uint8_t *>(route_destination(message, peer, offset + byte)) = (uint8_t)(word >> (8 * byte));
    }
}

/* This rank's own part of the result, unless it is in place. */
template <class Message> PORT_DEVICE void route_keep(const Message &message, uint64_t offset)
{
    uint64_t from = message.src + (message.kind == KIND_ALL_TO_ALL ? message.rank * message.src_stride : 0);
    if (from + offset != route_destination(message, message.rank, offset)) {
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
