/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elements.h - a rank's own buffers, 16 bytes at a time, whatever their alignment and length.
 *
 * A buffer's alignment is this rank's private matter: it decides how the rank reads and writes its own memory,
 * never what goes over the wire.
 */
#ifndef TUTTI_KERNELS_ELEMENTS_H
#define TUTTI_KERNELS_ELEMENTS_H

#include "kernels/portable.h"

struct span {
    uint64_t base;  /* address of the first byte */
    uint64_t bytes; /* valid from there; what a vector reads beyond is 0, what it writes beyond is dropped */
    bool aligned;   /* base is a multiple of 16 */
};

PORT_DEVICE struct span span_make(uint64_t base, uint64_t bytes)
{
    struct span span = {base, bytes, (base & 15) == 0};
    return span;
}

/* `width` (2 or 4) bytes at `offset`, which is a multiple of it. */
PORT_DEVICE uint32_t span_load_part(const struct span &span, uint64_t offset, uint32_t width)
{
    if (offset >= span.bytes) {
        return 0;
    }
    if (width == 4) {
        return *reinterpret_cast<const uint32_t *>(span.base + offset);
    }
    return *reinterpret_cast<const uint16_t *>(span.base + offset);
}

/* `whole` below: the caller knows that base and bytes are multiples of 16. That case has a kernel path of its own: the
 * code for all the others costs a tenth of a small message's time just by being there. */

/* Vector `index` of a buffer of elements of `element_bytes`. */
template <int element_bytes, bool whole> PORT_DEVICE struct vec4 span_load(const struct span &span, uint64_t index)
{
    uint64_t offset = index * 16;
    if (whole || (span.aligned && offset + 16 <= span.bytes)) {
        return *reinterpret_cast<const struct vec4 *>(span.base + offset);
    }
    uint32_t words[4];
#pragma unroll
    for (int word = 0; word < 4; word++) {
        uint64_t at = offset + 4 * (uint64_t)word;
        words[word] = span_load_part(span, at, element_bytes);
        if (element_bytes == 2) {
            words[word] |= span_load_part(span, at + 2, 2) << 16;
        }
    }
    struct vec4 value = {words[0], words[1], words[2], words[3]};
    return value;
}

/* Writes the 32-bit word at byte `offset` (a multiple of 4 from base). */
template <int element_bytes, bool whole>
PORT_DEVICE void span_store_word(const struct span &span, uint64_t offset, uint32_t word)
{
    if (offset >= span.bytes) {
        return;
    }
    if (whole || element_bytes == 4 || (span.aligned && offset + 4 <= span.bytes)) {
        *reinterpret_cast<uint32_t *>(span.base + offset) = word;
        return;
    }
    *reinterpret_cast<uint16_t *>(span.base + offset) = (uint16_t)word;
    if (offset + 2 < span.bytes) {
        *reinterpret_cast<uint16_t *>(span.base + offset + 2) = (uint16_t)(word >> 16);
    }
}

/* Writes vector `index`. */
template <int element_bytes, bool whole>
PORT_DEVICE void span_store(const struct span &span, uint64_t index, const struct vec4 &value)
{
    uint64_t offset = index * 16;
    if (whole || (span.aligned && offset + 16 <= span.bytes)) {
        *reinterpret_cast<struct vec4 *>(span.base + offset) = value;
        return;
    }
    span_store_word<element_bytes, whole>(span, offset, value.x);
    span_store_word<element_bytes, whole>(span, offset + 4, value.y);
    span_store_word<element_bytes, whole>(span, offset + 8, value.z);
    span_store_word<element_bytes, whole>(span, offset + 12, value.w);
}

#endif
