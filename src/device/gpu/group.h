/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.h - the GPU backends' side of one communicator.
 *
 *   group.c       making it, telling the peers, mapping theirs, the trial    note.c        failures: to and from the device
 *   call.c        one collective: checks, launches                           quarantine.c  leaving, and what outlives that
 *   table.c       the table of captured calls, written while kernels read it
 *   (recording.h: calls that become part of a graph)
 */
#ifndef TUTTI_DEVICE_GPU_GROUP_H
#define TUTTI_DEVICE_GPU_GROUP_H

#include <stdatomic.h>

#include "collective/choice_gpu.h"
#include "device/device.h"
#include "device/gpu/arena.h"
#include "device/gpu/gpu_device.h"
#include "device/gpu/recording.h"
#include "kernels/arguments.h"

struct segment;

#define DTYPE_COUNT 3

/* The functions for this group's world; those that are not needed in it are NULL. */
struct kernels {
    driver_function one_shot[DTYPE_COUNT], two_shot[DTYPE_COUNT], reduce_scatter[DTYPE_COUNT];
    driver_function direct[DTYPE_COUNT], direct_scatter[DTYPE_COUNT];
    driver_function copies, words, direct_gather;
};

/* A page of host memory that the device can write: the failure note, and room for counters on their way to the host. */
struct note_page {
    struct failure_note note;
    uint64_t counters[TUTTI_LANES_MAX];
    struct direct_tally tallies[TUTTI_LANES_MAX];
};

/* In the backend's part of a rank's segment. */
struct gpu_shared {
    _Atomic uint64_t closed_by; /* bit r: rank r will not touch this rank's arena any more */
};

struct group_counts {
    _Atomic uint64_t calls[TUTTI_COLLECTIVE_COUNT];
    _Atomic uint64_t protocols[GPU_PROTOCOL_COUNT];
    _Atomic uint64_t bytes, captured;
};

struct group {
    struct group_options options;
    struct device *device; /* a reference of its own: it may outlive the communicator */
    struct kernels kernels;
    struct gpu_terms terms;
    size_t lane_bytes;
    unsigned blocks_taken; /* from the device (gpu_device_blocks_take) */
    uint32_t launch_flags; /* KERNEL_PROGRAMMATIC, KERNEL_EARLY: of every launch, or of none */
    bool shares_context;   /* another rank of this process works on the same device */
    bool far_neighbour;    /* another rank of this process works on another device */
    driver_stream
        stream; /* NULL but for the trial and for looking at counters: streams share the device's few queues */
    struct note_page *page;
    driver_address note;                   /* page->note as the device sees it */
    struct arena table;                    /* struct direct_entry by slot; kind ARENA_NONE: there is none */
    struct arena arenas[KERNEL_WORLD_MAX]; /* [rank], as mapped here; own at [rank] */
    struct driver_uuid uuids[KERNEL_WORLD_MAX];
    struct segment *segments[KERNEL_WORLD_MAX]; /* references of its own */
    struct gpu_shared *shared[KERNEL_WORLD_MAX];

    /* The thread that uses the communicator. */
    uint64_t launched[TUTTI_LANES_MAX]; /* eager ones */
    _Atomic uint64_t trial_timeout_ns;  /* nonzero during the trial */

    struct group_counts counts;
    _Atomic uint32_t reported;     /* the failure note has been passed on */
    _Atomic uint64_t withdrawn_ns; /* when an extension that the device still knows of was; 0: none */
    uint64_t written_off;          /* bit r: the process of rank r is gone, and cannot touch anything */
    struct symmetric *kept;        /* tutti_alloc's memory, once the communicator is gone */
    struct group *next;            /* quarantine.c */
};

/* -- group.c -- */
size_t gpu_group_shared_bytes(int world, int lanes, size_t message_bytes_max);
tutti_status gpu_group_create(const struct group_options *options, struct group **out);
tutti_status gpu_group_export(struct group *group, struct memory_export *mine);
tutti_status gpu_group_import(struct group *group, int rank, const struct memory_export *theirs);
tutti_status gpu_group_probe_begin(struct group *group, uint32_t limit_ms);
tutti_status gpu_group_probe_end(struct group *group);
void gpu_group_stats(struct group *group, tutti_stats *stats);
void gpu_group_plan(const struct group *group, const struct operation *operation, tutti_plan_t *plan);
void gpu_group_memory(const struct group *group, uint64_t *arena_bytes, uint64_t *mapped_bytes);
tutti_status gpu_group_look(struct group *group, uint64_t address, struct memory_facts *facts);
tutti_status gpu_group_stream(struct group *group, const void *stream, struct device_stream *out);

/* The group's own stream, while it is needed. In the device's context. DRIVER. */
tutti_status group_stream_open(struct group *group);
void group_stream_close(struct group *group);

/* One counter of this rank's arena, at `offset` of each lane's head, over that stream. The device answers when it is through with what came
 * before. DRIVER. */
tutti_status group_counters_fetch(struct group *group, size_t offset, uint64_t counters[TUTTI_LANES_MAX]);

/* Undoes what creation has done so far, also half-way. Nobody uses the group's memory any more, and no kernel of it runs. In
 * the device's context. Frees the group. */
void group_dissolve(struct group *group);

/* -- call.c -- */
tutti_status gpu_group_call(struct group *group, const struct operation *operation, const tutti_call *call,
                            bool can_block);

/* Launches one barrier on lane 0, on the group's own stream. In the device's context. */
tutti_status call_trial(struct group *group);

/* -- note.c; none of them calls the driver -- */
bool gpu_group_poll(struct group *group);
void gpu_group_wake(struct group *group);

/* -- table.c -- */

/* In the device's context. */
tutti_status table_make(struct group *group);
void table_free(struct group *group);

tutti_status gpu_group_entries_write(struct group *group, const struct direct_entry *entries, uint32_t first,
                                     uint32_t count);
tutti_status gpu_group_quiesce(struct group *group);

/* -- quarantine.c -- */
void gpu_group_settle(struct group *group);
void gpu_group_keep(struct group *group, struct symmetric *list);
void gpu_group_destroy(struct group *group);

/* Frees groups that were destroyed and have since lost their last user. */
void quarantine_sweep(void);

#endif
