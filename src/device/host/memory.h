/* SPDX-License-Identifier: Apache-2.0 */
/* memory.h - what a pointer is on the host backend, and memory for the caller's data that all ranks map: segments. The contracts
 * are those of device.h; a block's object is its segment. */
#ifndef TUTTI_DEVICE_HOST_MEMORY_H
#define TUTTI_DEVICE_HOST_MEMORY_H

#include "device/device.h"

tutti_status host_group_look(struct group *group, uint64_t address, struct memory_facts *facts);
tutti_status host_memory_create(struct device *device, size_t bytes, struct memory_block *block,
                                struct memory_facts *facts);
tutti_status host_memory_hold(struct device *device, const struct memory_facts *facts, struct memory_block *block);
bool host_memory_alike(const struct memory_block *held, const struct memory_block *other);
tutti_status host_memory_export(struct device *device, const struct memory_block *held, struct memory_export *mine);
tutti_status host_memory_import(struct device *device, const struct memory_export *theirs, struct memory_block *block);
void host_memory_release(struct device *device, struct memory_block *block);

#endif
