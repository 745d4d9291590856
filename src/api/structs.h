/* SPDX-License-Identifier: Apache-2.0 */
/*
 * structs.h - structs that callers pass with their own idea of the size. An older program's struct is shorter: what it
 * lacks is zero, and what it has no room for is not written. A newer program's is longer: what we do not know must
 * be zero.
 */
#ifndef TUTTI_API_STRUCTS_H
#define TUTTI_API_STRUCTS_H

#include <stddef.h>

#include "tutti/tutti.h"

/* Copies the caller's struct, whose first member is struct_bytes, into `ours`. `least`: the size of its first version;
 * `name`: the call and its argument for the sentence, "tutti_comm_create: options".
 * ARGUMENT, UNSUPPORTED (a newer header, with members set that we do not know). */
tutti_status struct_read(const char *name, const void *theirs, void *ours, size_t ours_bytes, size_t least);

/* Whether the caller's struct can be written to. ARGUMENT. */
tutti_status struct_check(const char *name, const void *theirs, size_t least);

/* Copies `ours` to the caller, as far as both reach, and leaves his struct_bytes as it was; what only he knows becomes
 * zero. */
void struct_write(void *theirs, const void *ours, size_t ours_bytes);

#endif
