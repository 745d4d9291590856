/* SPDX-License-Identifier: Apache-2.0 */
/* operation_memory.h - whether a device can use the buffers of a collective. */
#ifndef TUTTI_DEVICE_GPU_OPERATION_MEMORY_H
#define TUTTI_DEVICE_GPU_OPERATION_MEMORY_H

#include "device/gpu/gpu_device.h"

/* The public function behind it, "tutti_all_reduce". Static storage. */
const char *operation_call_name(const struct operation *operation);

/* In the device's context; legal in any capture. For a call on `stream`. ARGUMENT with a sentence that names call, argument and
 * what is wrong. */
tutti_status operation_check_memory(const struct device *device, int world, const struct operation *operation,
                                    driver_stream stream);

#endif
