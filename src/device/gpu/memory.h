/* SPDX-License-Identifier: Apache-2.0 */
/* memory.h - device memory for the caller's data, made, held, named and mapped like the arenas (arena.h); the contracts are
 * those of device.h. A block's kind and origin are an arena's, its object the driver's handle of memory that is held. */
#ifndef TUTTI_DEVICE_GPU_MEMORY_H
#define TUTTI_DEVICE_GPU_MEMORY_H

#include "device/device.h"

tutti_status gpu_memory_create(struct device *device, size_t bytes, struct memory_block *block,
                               struct memory_facts *facts);
tutti_status gpu_memory_hold(struct device *device, const struct memory_facts *facts, struct memory_block *block);
bool gpu_memory_alike(const struct memory_block *held, const struct memory_block *other);
tutti_status gpu_memory_export(struct device *device, const struct memory_block *held, struct memory_export *mine);
tutti_status gpu_memory_import(struct device *device, const struct memory_export *theirs, struct memory_block *block);
void gpu_memory_release(struct device *device, struct memory_block *block);
tutti_status gpu_memory_reserve(struct device *device, uint64_t bytes, uint64_t *address);
void gpu_memory_unreserve(struct device *device, uint64_t address, uint64_t bytes);
tutti_status gpu_memory_place(struct device *device, const struct memory_export *theirs, uint64_t address,
                              struct memory_block *block);

#endif
