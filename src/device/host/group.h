/* SPDX-License-Identifier: Apache-2.0 */
/* group.h - the host backend's side of one communicator. */
#ifndef TUTTI_DEVICE_HOST_GROUP_H
#define TUTTI_DEVICE_HOST_GROUP_H

#include "collective/choice.h"
#include "device/device.h"
#include "device/host/lane.h"

struct simd_table;

struct group {
    struct group_options options;
    struct choice_terms terms;
    const struct simd_table *simd;
    /* Waiting: poll for spin_ns, then give the core away between polls until yield_ns, then sleep. */
    uint64_t spin_ns, yield_ns;
    bool crowded; /* more ranks than cores: a peer's caches may be this rank's */
    bool fenced;  /* publishing needs a fence of its own (lane.c) */
    struct host_lane *lanes;
    struct lane_line **lines;    /* [lanes][world] */
    unsigned char **staging;     /* [lanes][world] */
    _Atomic uint32_t references; /* the communicator, and every call that is enqueued or captured */
    _Atomic uint32_t queued;     /* calls enqueued on streams and not yet dropped */
    _Atomic uint32_t closed;     /* the communicator is gone: captured calls that outlive it must not touch anything */
    _Atomic uint64_t captured;
    struct symmetric
        *kept; /* tutti_alloc's memory, once the communicator is gone: graphs that outlive it poison results */
};

tutti_status group_create(const struct group_options *options, struct group **group);
tutti_status group_stream(struct group *group, const void *stream, struct device_stream *out);
void group_settle(struct group *group);
void group_keep(struct group *group, struct symmetric *list);
void group_destroy(struct group *group);
tutti_status group_call(struct group *group, const struct operation *operation, const tutti_call *call, bool can_block);
void group_wake(struct group *group);
void group_stats(struct group *group, tutti_stats *stats);
void group_plan(const struct group *group, const struct operation *operation, tutti_plan_t *plan);
size_t group_shared_bytes(int world, int lanes, size_t message_bytes_max);

/* Runs one operation on the calling thread, from taking the lane to giving it back. places: as in protocol_direct. */
tutti_status group_run(struct group *group, uint32_t lane, const struct operation *operation,
                       const struct symmetric_place *places);

#endif
