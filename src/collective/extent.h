/* SPDX-License-Identifier: Apache-2.0 */
/* extent.h - how far an operation's buffers reach. Pure. */
#ifndef TUTTI_COLLECTIVE_EXTENT_H
#define TUTTI_COLLECTIVE_EXTENT_H

#include "device/device.h"

/* Bytes of src, and of dst from its first to its last one. */
size_t extent_src_bytes(const struct operation *operation, size_t world);
size_t extent_dst_bytes(const struct operation *operation, size_t world);

#endif
