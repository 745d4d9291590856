/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_device.h - one device of a vendor's driver, as the GPU backends hold it: opened once per process however many
 * communicators use it, with its primary context retained and the kernels loaded.
 */
#ifndef TUTTI_DEVICE_GPU_GPU_DEVICE_H
#define TUTTI_DEVICE_GPU_GPU_DEVICE_H

#include "device/device.h"
#include "device/gpu/driver.h"
#include "device/gpu/module.h"

#define GPU_UUID_TEXT_BYTES 48

/* The backends' part of a rank's segment, and how much at its beginning is struct gpu_shared's (group.h); the rest is for the
 * vendor's collectives (device/vendor/group.h). */
#define GPU_SHARED_BYTES 4096u
#define GPU_SHARED_OWN_BYTES 64u

struct device {
    /* Constant while it is open. */
    const struct driver *driver;
    int ordinal;
    driver_device handle;
    driver_context context; /* CUDA */
    char name[64];
    struct driver_uuid uuid;
    char uuid_text[GPU_UUID_TEXT_BYTES]; /* "GPU-4ab0..." */
    int multiprocessors, capability;     /* 90 for 9.0 */
    bool has_vmm, has_fd_export, reads_any_memory;
    struct module_set modules;
    tutti_status kernels;        /* whether they could be loaded; a group that needs them fails with it */
    char kernels_sentence[256];  /* and with this */
    struct row_words *row_words; /* gpu_graphs.c's, under its lock; NULL until there is a runner */
    /* Private to device.c, under its lock. */
    unsigned references;
    uint64_t generation;      /* the process that opened it: a driver does not survive a fork */
    unsigned places;          /* blocks of the kernels of all groups that have some promised, at the same time */
    unsigned blocks_promised; /* to groups */
    struct device *next;
};

/* Another reference to an open device; given back with device_close. */
void gpu_device_retain(struct device *device);
void gpu_device_close(struct device *device);

/* Sets aside blocks for grids that wait for peers, and so must be resident whatever else of this process is: at most
 * `wanted`, and at most half of what is left, so that there is something left for one more communicator. `places`: how many blocks of the
 * caller's kernels the device holds at a time; what has been promised to others counts against the least of all such numbers. `wanted` halved
 * as often as needed; 0 if nothing is left. Given back with gpu_device_blocks_return. */
unsigned gpu_device_blocks_take(struct device *device, unsigned places, unsigned wanted);
void gpu_device_blocks_return(struct device *device, unsigned blocks);

void gpu_uuid_print(const struct driver_uuid *uuid, char text[GPU_UUID_TEXT_BYTES]);

#endif
