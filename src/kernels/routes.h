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

enum { KIND_ALL_GATHER = 2, KIND_BROADCAST = 3, KIND_ALL_TO_ALL = 4, KIND_BARRIER = 5 }; /* tutti_collective */

PORT_DEVICE uint64_t route_bytes_to(const struct kernel_arguments &arguments)
{
    bool sends =
        arguments.kind != KIND_BARRIER && (arguments.kind != KIND_BROADCAST || arguments.root == arguments.rank);
    return sends ? arguments.units : 0;
}

PORT_DEVICE uint64_t route_bytes_from(const struct kernel_arguments &arguments, uint32_t peer)
{
    bool comes = arguments.kind != KIND_BARRIER && (arguments.kind != KIND_BROADCAST || arguments.root == peer);
    return comes ? arguments.units : 0;
}

/* Four bytes from `offset` of what goes to `peer`; bytes beyond the end are 0. */
PORT_DEVICE uint32_t route_load(const struct kernel_arguments &arguments, uint32_t peer, uint64_t offset)
{
    uint64_t bytes = route_bytes_to(arguments);
    uint64_t at = arguments.src + (arguments.kind == KIND_ALL_TO_ALL ? peer * arguments.src_stride : 0) + offset;
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
PORT_DEVICE uint64_t route_destination(const struct kernel_arguments &arguments, uint32_t peer, uint64_t offset)
{
    if (arguments.row_bytes != 0) {
        uint64_t from_start = arguments.row_first + offset;
        uint64_t row = from_start / arguments.row_bytes;
        return arguments.dst + row * arguments.row_stride + peer * arguments.row_bytes +
               (from_start - row * arguments.row_bytes);
    }
    return arguments.dst + (arguments.kind == KIND_BROADCAST ? 0 : peer * arguments.dst_stride) + offset;
}

PORT_DEVICE void route_store(const struct kernel_arguments &arguments, uint32_t peer, uint64_t offset, uint32_t word)
{
    uint64_t bytes = route_bytes_from(arguments, peer);
    if (offset >= bytes) {
        return;
    }
    uint64_t at = route_destination(arguments, peer, offset);
    /* A row may end within the word. */
    bool together = arguments.row_bytes == 0 || (arguments.row_bytes & 3) == 0;
    if (together && offset + 4 <= bytes && (at & 3) == 0) {
        *reinterpret_cast<uint32_t *>(at) = word;
        return;
    }
    for (uint32_t byte = 0; byte < 4 && offset + byte < bytes; byte++) {
        *reinterpret_cast<uint8_t *>(route_destination(arguments, peer, offset + byte)) = (uint8_t)(word >> (8 * byte));
    }
}

/* This rank's own part of the result, unless it is in place. */
PORT_DEVICE void route_keep(const struct kernel_arguments &arguments, uint64_t offset)
{
    uint64_t from = arguments.src + (arguments.kind == KIND_ALL_TO_ALL ? arguments.rank * arguments.src_stride : 0);
    if (from + offset != route_destination(arguments, arguments.rank, offset)) {
        route_store(arguments, arguments.rank, offset, route_load(arguments, arguments.rank, offset));
    }
}

/* Failed copies leave zeros, so that nothing downstream follows stale indices; a broadcast's root keeps its input. */
PORT_DEVICE void route_poison(const struct kernel_arguments &arguments, uint32_t peer, uint64_t offset)
{
    if (arguments.kind != KIND_BROADCAST || arguments.root != arguments.rank) {
        route_store(arguments, peer, offset, 0);
    }
}

#endif
