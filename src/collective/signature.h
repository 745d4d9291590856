/* SPDX-License-Identifier: Apache-2.0 */
/* signature.h - a call in 64 bits: what all ranks must agree on, kept where peers can read it. */
#ifndef TUTTI_COLLECTIVE_SIGNATURE_H
#define TUTTI_COLLECTIVE_SIGNATURE_H

#include "device/device.h"

/* kind 4 | dtype 4 | op 2 | root 6 | count 48. */
uint64_t signature_pack(const struct operation *operation);

/* "all_reduce of 8192 bytes (f32 sum)", in at most SIGNATURE_TEXT_BYTES. */
#define SIGNATURE_TEXT_BYTES 72
void signature_describe(uint64_t signature, char *text, size_t text_bytes);

/* "all_reduce". Static storage. */
const char *signature_kind_name(tutti_collective kind);

#endif
