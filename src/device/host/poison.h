/* SPDX-License-Identifier: Apache-2.0 */
/* poison.h - what a failed collective leaves in its output. */
#ifndef TUTTI_DEVICE_HOST_POISON_H
#define TUTTI_DEVICE_HOST_POISON_H

#include "device/device.h"

/* Fills the result with canonical NaN (reductions) or zero (copies), so that nothing downstream takes stale
 * bytes for a result or for indices. A broadcast's root keeps its buffer, which is its input. */
void poison_result(const struct operation *operation, int rank, int world);

#endif
