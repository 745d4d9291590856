/* SPDX-License-Identifier: Apache-2.0 */
/* memory_class.h - what a pointer is: asked of the driver for each call, never assumed, never cached. */
#ifndef TUTTI_DEVICE_GPU_MEMORY_CLASS_H
#define TUTTI_DEVICE_GPU_MEMORY_CLASS_H

#include "device/gpu/gpu_device.h"

/* Both in the device's context; legal in any capture. */

/* DRIVER. A pointer that the driver does not know is no error, but MEMORY_UNKNOWN. threads_reach is said of plain
 * allocations as if all ranks of the process were on their device. */
tutti_status memory_look(const struct device *device, uint64_t address, struct memory_facts *facts);

/* Whether the device can use `bytes` from `pointer`, which may span several allocations, in a call on `stream`: while that is
 * captured, memory that its graph allocates will do. ARGUMENT with a sentence that names the call, the argument ("src") and
 * what is wrong. Cheap: one question to the driver where one allocation holds it all. */
tutti_status memory_check(const struct device *device, const char *call, const char *argument, const void *pointer,
                          size_t bytes, driver_stream stream);

#endif
