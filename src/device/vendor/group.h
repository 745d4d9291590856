/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.h - one communicator whose collectives are the vendor's (library.h). Devices, streams and memory are those of the GPU
 * backends (device/gpu); this takes their place where ranks cannot share memory, or no kernel fits a device.
 *
 *   library.c  the vendor's functions          watch.c   how long calls last, errors that the vendor notices later
 *   group.c    making it, the first calls      leave.c   leaving, and what outlives that
 *   call.c     one collective
 *
 * A lane is a communicator of the vendor's: calls of different lanes may come in different orders on different ranks, and calls
 * of one vendor communicator must not. The vendor's communicators are nonblocking ones: what they do with their peers happens on
 * threads of the vendor's, so that this rank's waits for it have an end.
 *
 * NVLink multicast and the like are the vendor's own choice, by its own environment variables (NCCL_NVLS_ENABLE): nothing here
 * sets them.
 */
#ifndef TUTTI_DEVICE_VENDOR_GROUP_H
#define TUTTI_DEVICE_VENDOR_GROUP_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "device/device.h"
#include "device/gpu/gpu_device.h"
#include "device/gpu/recording.h"
#include "device/vendor/library.h"
#include "device/vendor/vendor_device.h"

/* Device memory of a lane: the barrier's word, and where all_to_all in place puts what it is about to overwrite. */
#define SCRATCH_BYTES ((size_t)4 << 20)

/* In the backend's part of a rank's segment, behind what the own kernels' group has there (struct gpu_shared), which may still
 * be in use. */
struct vendor_shared {
    struct {
        _Atomic uint32_t calls; /* eager ones that the rank has enqueued, counted from 1 */
        _Atomic uint64_t signature;
    } lanes[TUTTI_LANES_MAX];
    _Atomic uint32_t left;                 /* 1: this rank's calls are complete, and it makes no more */
    struct vendor_id ids[TUTTI_LANES_MAX]; /* rank 0's */
};

/* Host memory that the device writes, in stream order around each eager call: the number of the last call that began, and of the
 * last that ended. */
struct watch_page {
    _Atomic uint32_t began[TUTTI_LANES_MAX], ended[TUTTI_LANES_MAX];
};

struct lane {
    struct group *group;
    vendor_comm comm;         /* NULL: not made, or aborted */
    uint32_t launched;        /* eager calls; the thread that uses the communicator */
    struct patience patience; /* watch.c: since `watched` was seen to be under way */
    uint32_t watched;
};

struct group {
    struct group_options options;
    struct device *device; /* a reference of its own: it may outlive the communicator */
    const struct vendor_library *library;
    struct segment *segments[TUTTI_WORLD_MAX]; /* references of its own */
    struct vendor_shared *shared[TUTTI_WORLD_MAX];
    struct driver_uuid uuids[TUTTI_WORLD_MAX];
    driver_address scratch; /* [lanes], SCRATCH_BYTES each */
    struct watch_page *page;
    driver_address page_address;
    driver_stream stream; /* NULL but for the trial */
    uint32_t trial_ms;

    pthread_mutex_t lock; /* of the vendor's communicators: its functions are not for two threads at once */
    struct lane lanes[TUTTI_LANES_MAX];
    bool ready;                /* under the lock: the vendor's communicators are complete */
    _Atomic bool abandoned;    /* written under the lock: they are being aborted */
    _Atomic uint32_t aborting; /* threads that are at it */
    atomic_flag watching;      /* somebody is looking how long calls last; who does, uses these two: */
    uint64_t granted_ms;       /* the longest extension, also for a while after it was withdrawn */
    uint64_t withdrawn_ns;     /* when that was; 0: it was not */
    _Atomic uint32_t reported; /* an error of the vendor's, or a wait that was too long */

    _Atomic uint64_t calls[TUTTI_COLLECTIVE_COUNT];
    _Atomic uint64_t bytes, captured;
    uint64_t written_off; /* bit r: the process of rank r is gone */
    struct group *next;   /* leave.c */
};

/* -- group.c -- */

/* Frees all but the vendor's communicators, which are gone. In the device's context. Frees the group. */
void vendor_group_dissolve(struct group *group);

/* TUTTI_OK for success and for "in progress". Else DRIVER with a sentence that names the call. */
tutti_status vendor_check(const struct group *group, const struct lane *lane, const char *call, vendor_result result);

/* Until the vendor has done on its threads what it was asked for: then what it enqueues is on the stream. Ends with the
 * communicator's failure, or after limit_ms (and what peers have asked for on top). With the lock. */
tutti_status vendor_await(struct group *group, const struct lane *lane, const char *what, uint32_t limit_ms);

/* -- call.c -- */

/* The vendor's functions for one operation, and the wait for its threads. In the device's context. */
tutti_status vendor_enqueue(struct group *group, const struct operation *operation, struct lane *lane,
                            driver_stream stream, uint32_t limit_ms);

/* -- leave.c -- */

/* Frees groups that were destroyed and have since lost their last user. */
void vendor_sweep(void);

#endif
