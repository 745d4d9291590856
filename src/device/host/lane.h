/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane.h - how the ranks of the host backend meet: steps, and the staging that each step publishes.
 *
 * A lane's part of a segment, written by its owner and read by all:
 *
 *     line 0    step | call | signature[2] | src | dst | ballot[2]     one cache line: a waiting peer that sees the
 *     line 1    sleepers                                        step has the rest of it in its cache
 *     line 2..  half 0  (half_bytes)
 *               half 1  (half_bytes)
 *
 * A *step* is one meeting. For step s a rank fills half s & 1 of its own staging, publishes s (store with
 * release), waits until every peer has published s or more (load with acquire), and reads the peers' halves
 * s & 1. Every rank waits for every rank in every step, even when it needs no data from it.
 *
 * Why two halves suffice. A writes half s & 1 for step s after it has seen all peers publish s - 1.
 * What stood there was published with step s - 2 and is read between a peer's wait for s - 2 and its
 * publishing s - 1. So nobody reads it any more.
 *
 * Steps are numbered from 1 and never reset or reused (64 bits), so that zero means "nothing yet" and no
 * value can be stale. They live in the segment, not in a call: eager calls, replays and several graphs
 * interleave freely, as long as all ranks interleave them alike.
 */
#ifndef TUTTI_DEVICE_HOST_LANE_H
#define TUTTI_DEVICE_HOST_LANE_H

#include <stdalign.h>
#include <stdatomic.h>

#include "device/device.h"

struct lane_line {
    alignas(64) _Atomic uint64_t step;
    _Atomic uint64_t call;         /* number of the call in progress, or of the last one */
    _Atomic uint64_t signature[2]; /* of call c in [c & 1]: the next call cannot overwrite what is still compared */
    _Atomic uintptr_t src, dst;    /* direct protocol: this rank's buffers, valid within the process only */
    _Atomic uint64_t ballot[2];    /* direct.c */
    alignas(64) _Atomic uint32_t sleepers; /* peers that sleep on `step`, or are about to */
};

struct host_lane {
    _Atomic uint32_t busy;          /* a collective runs on it */
    uint64_t step, call;            /* last ones begun here; the shared copies are for the peers */
    struct lane_line *const *lines; /* [world] */
    unsigned char *const *staging;  /* [world] half 0; half 1 follows */
    struct lane_counts {
        _Atomic uint64_t calls[TUTTI_COLLECTIVE_COUNT];
        _Atomic uint64_t protocols[5];
        _Atomic uint64_t bytes, slept;
        _Atomic uint64_t direct_calls, direct_bytes, staged_calls, staged_bytes; /* of the direct protocol */
    } counts; /* written by whoever holds the lane, read by anyone */
};

struct group;

/* Bytes of one lane in a segment. */
size_t lane_shared_bytes(size_t half_bytes);

/* Begins the next call of the lane: from now on peers can see what this rank is doing. */
void lane_begin(struct host_lane *lane, int rank, uint64_t signature);

/* The half of `rank` that belongs to the step that is filled (before lane_publish) or read (after it). */
static inline unsigned char *lane_filling(const struct host_lane *lane, int rank, size_t half_bytes)
{
    return lane->staging[rank] + ((lane->step + 1) & 1) * half_bytes;
}

static inline unsigned char *lane_reading(const struct host_lane *lane, int rank, size_t half_bytes)
{
    return lane->staging[rank] + (lane->step & 1) * half_bytes;
}

/* Publishes the next step, and wakes whoever sleeps for it. */
void lane_publish(struct group *group, struct host_lane *lane);

/* Waits until all ranks have published this rank's last step. False: the communicator has failed (it may have
 * failed here, for want of patience), and nothing may be read. */
bool lane_wait(struct group *group, struct host_lane *lane);

/* After the first lane_wait of a call: true if all ranks are in the same call. Otherwise reports both calls. */
bool lane_agree(struct group *group, struct host_lane *lane);

/* Process-wide: asks the kernel to let sleepers order themselves against our publishing (see lane.c). True if
 * publishing then needs no fence of its own. */
bool lane_register_process(void);

#endif
