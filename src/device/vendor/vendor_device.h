/* SPDX-License-Identifier: Apache-2.0 */
/* vendor_device.h - the vendor's collectives as a backend: what stands in struct device_ops, see there. */
#ifndef TUTTI_DEVICE_VENDOR_VENDOR_DEVICE_H
#define TUTTI_DEVICE_VENDOR_VENDOR_DEVICE_H

#include "device/device.h"

tutti_status vendor_group_create(const struct group_options *options, struct group **out);
tutti_status vendor_group_export(struct group *group, struct memory_export *mine);
tutti_status vendor_group_import(struct group *group, int rank, const struct memory_export *theirs);
tutti_status vendor_group_probe_begin(struct group *group, uint32_t limit_ms);
tutti_status vendor_group_probe_end(struct group *group);
void vendor_group_stats(struct group *group, tutti_stats *stats);
void vendor_group_plan(const struct group *group, const struct operation *operation, tutti_plan_t *plan);
tutti_status vendor_group_stream(struct group *group, const void *stream, struct device_stream *out);
tutti_status vendor_group_look(struct group *group, uint64_t address, struct memory_facts *facts);
void vendor_group_memory(const struct group *group, uint64_t *arena_bytes, uint64_t *mapped_bytes);
tutti_status vendor_group_call(struct group *group, const struct operation *operation, const tutti_call *call,
                               bool can_block);
bool vendor_group_poll(struct group *group);
void vendor_group_wake(struct group *group);
void vendor_group_abandon(struct group *group);
void vendor_group_destroy(struct group *group);

#endif
