/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c - the GPU backends' entries in the list of backends, and the devices that this process has open.
 *
 * Asking (probe) initialises the driver and nothing else: no context is made before a communicator wants the device.
 */
#include "device/device.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "device/gpu/context.h"
#include "device/gpu/gpu_device.h"
#include "device/gpu/gpu_graphs.h"
#include "device/gpu/group.h"
#include "device/gpu/known_bad.h"
#include "device/gpu/memory.h"
#include "device/vendor/vendor_device.h"

static pthread_mutex_t devices_lock = PTHREAD_MUTEX_INITIALIZER;
static struct device *devices;

void gpu_uuid_print(const struct driver_uuid *uuid, char text[GPU_UUID_TEXT_BYTES])
{
    size_t used = (size_t)snprintf(text, GPU_UUID_TEXT_BYTES, "GPU-");
    for (int index = 0; index < DRIVER_UUID_BYTES; index++) {
        const char *dash = index == 4 || index == 6 || index == 8 || index == 10 ? "-" : "";
        used += (size_t)snprintf(text + used, GPU_UUID_TEXT_BYTES - used, "%s%02x", dash, uuid->bytes[index]);
    }
}

/* -- probing -------------------------------------------------------------------------------------- */

/* "8 x NVIDIA H200, driver 13.0, kernels for sm_80 sm_90" */
static void machine_describe(const struct driver *driver, int count, const char *targets, char *text, size_t text_bytes)
{
    char name[64] = "unnamed device";
    driver_device device;
    if (driver->device_get(&device, 0) == 0) {
        (void)driver->device_name(name, (int)sizeof(name), device);
    }
    int unit = driver->vendor->version_unit;
    const char *caution = known_bad(driver->vendor, driver->version);
    (void)snprintf(text, text_bytes, "%d x %.63s, driver version %d.%d%s%s%s, kernels for %s", count, name,
                   driver->version / unit, driver->version % unit / (unit / 100), caution != NULL ? " (" : "",
                   caution != NULL ? caution : "", caution != NULL ? ")" : "", targets);
}

static int probe(const struct driver_vendor *vendor, char *text, size_t text_bytes)
{
    const struct driver *driver = NULL;
    char targets[128];
    int count = 0;
    tutti_status status = driver_load(vendor, &driver);
    if (status == TUTTI_OK) {
        status = DRIVER(driver, device_count, &count);
    }
    if (status == TUTTI_OK && count == 0) {
        status = error_set(TUTTI_ERR_UNSUPPORTED, "the %s driver sees no device", vendor->label);
    }
    if (status == TUTTI_OK) {
        status = module_targets(vendor, targets, sizeof(targets));
    }
    if (status != TUTTI_OK) {
        (void)snprintf(text, text_bytes, "%s", tutti_last_error());
        return 0;
    }
    machine_describe(driver, count, targets, text, text_bytes);
    return count;
}

/* -- opening -------------------------------------------------------------------------------------- */

static int attribute(const struct device *device, enum driver_attribute which)
{
    int number = device->driver->vendor->attributes[which];
    int value = 0;
    if (number < 0 || device->driver->device_attribute(&value, number, device->handle) != 0) {
        return 0; /* a driver that does not know the attribute has not got it */
    }
    return value;
}

static tutti_status properties_read(struct device *device, int ordinal)
{
    const struct driver *driver = device->driver;
    int count = 0;
    tutti_status status = DRIVER(driver, device_count, &count);
    if (status == TUTTI_OK && (ordinal < 0 || ordinal >= count)) {
        return error_set(TUTTI_ERR_ARGUMENT, "device %d: this process sees %d %s device%s, numbered from 0", ordinal,
                         count, driver->vendor->label, count == 1 ? "" : "s");
    }
    if (status == TUTTI_OK) {
        status = DRIVER(driver, device_get, &device->handle, ordinal);
    }
    if (status == TUTTI_OK) {
        status = DRIVER(driver, device_name, device->name, (int)sizeof(device->name), device->handle);
    }
    if (status == TUTTI_OK) {
        status = DRIVER(driver, device_uuid, &device->uuid, device->handle);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    device->ordinal = ordinal;
    device->name[sizeof(device->name) - 1] = 0;
    gpu_uuid_print(&device->uuid, device->uuid_text);
    device->multiprocessors = attribute(device, DRIVER_MULTIPROCESSORS);
    device->capability = 10 * attribute(device, DRIVER_CAPABILITY_MAJOR) + attribute(device, DRIVER_CAPABILITY_MINOR);
    device->has_vmm = attribute(device, DRIVER_HAS_VMM) != 0;
    device->has_fd_export = attribute(device, DRIVER_HAS_FD_EXPORT) != 0;
    device->reads_any_memory = attribute(device, DRIVER_HOST_PAGE_TABLES) != 0;
    return TUTTI_OK;
}

static void context_release(struct device *device)
{
    if (device->driver->primary_release != NULL) {
        (void)device->driver->primary_release(device->handle);
    }
}

static tutti_status context_and_modules(struct device *device)
{
    const struct driver *driver = device->driver;
    tutti_status status = TUTTI_OK;
    if (driver->primary_retain != NULL) {
        status = DRIVER(driver, primary_retain, &device->context, device->handle);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    struct context_scope scope;
    status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        context_release(device);
        return status;
    }
    /* Without them the vendor's collectives may still do, so that this is not the end. */
    device->kernels = module_load(driver, &device->modules);
    if (device->kernels != TUTTI_OK) {
        (void)snprintf(device->kernels_sentence, sizeof(device->kernels_sentence), "%.255s", tutti_last_error());
    }
    context_leave(&scope);
    return TUTTI_OK;
}

/* Under the lock. */
static tutti_status device_make(const struct driver *driver, int ordinal, struct device **out)
{
    struct device *device = calloc(1, sizeof(*device));
    if (device == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for device %d", ordinal);
    }
    device->driver = driver;
    device->generation = process_generation();
    tutti_status status = properties_read(device, ordinal);
    if (status == TUTTI_OK) {
        status = context_and_modules(device);
    }
    if (status != TUTTI_OK) {
        free(device);
        return status;
    }
    device->next = devices;
    devices = device;
    *out = device;
    return TUTTI_OK;
}

static tutti_status open_device(const struct driver_vendor *vendor, int ordinal, struct device **out)
{
    const struct driver *driver = NULL;
    tutti_status status = driver_load(vendor, &driver);
    if (status != TUTTI_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&devices_lock);
    struct device *found = devices;
    while (found != NULL &&
           (found->driver != driver || found->ordinal != ordinal || found->generation != process_generation())) {
        found = found->next;
    }
    if (found == NULL) {
        status = device_make(driver, ordinal, &found);
    }
    if (found != NULL) {
        found->references++;
        *out = found;
    }
    (void)pthread_mutex_unlock(&devices_lock);
    return status;
}

void gpu_device_retain(struct device *device)
{
    (void)pthread_mutex_lock(&devices_lock);
    device->references++;
    (void)pthread_mutex_unlock(&devices_lock);
}

void gpu_device_close(struct device *device)
{
    (void)pthread_mutex_lock(&devices_lock);
    if (--device->references == 0) {
        struct device **link = &devices;
        while (*link != device) {
            link = &(*link)->next;
        }
        *link = device->next;
        struct context_scope scope;
        if (context_enter(device, CONTEXT_MANAGES, &scope) == TUTTI_OK) {
            row_words_free(device);
            module_unload(device->driver, &device->modules);
            context_leave(&scope);
        }
        context_release(device);
        free(device);
    }
    (void)pthread_mutex_unlock(&devices_lock);
}

static void describe(const struct device *device, struct device_description *description)
{
    memcpy(description->name, device->name, sizeof(description->name));
    description->version = device->driver->version;
    description->caution = known_bad(device->driver->vendor, device->driver->version);
    description->identity = 0; /* whether two devices reach each other is tried, not concluded from what they are */
}

/* -- residence -------------------------------------------------------------------------------------- */

unsigned gpu_device_blocks_take(struct device *device, unsigned places, unsigned wanted)
{
    (void)pthread_mutex_lock(&devices_lock);
    const unsigned least = device->blocks_promised != 0 && device->places < places ? device->places : places;
    const unsigned left = least > device->blocks_promised ? least - device->blocks_promised : 0;
    unsigned blocks = wanted;
    while (blocks > left / 2) {
        blocks /= 2;
    }
    if (blocks != 0) {
        device->places = least;
        device->blocks_promised += blocks;
    }
    (void)pthread_mutex_unlock(&devices_lock);
    return blocks;
}

void gpu_device_blocks_return(struct device *device, unsigned blocks)
{
    (void)pthread_mutex_lock(&devices_lock);
    device->blocks_promised -= blocks;
    (void)pthread_mutex_unlock(&devices_lock);
}

/* -- the two backends -------------------------------------------------------------------------------- */

static int cuda_probe(char *text, size_t text_bytes)
{
    return probe(&driver_cuda, text, text_bytes);
}

static int hip_probe(char *text, size_t text_bytes)
{
    return probe(&driver_hip, text, text_bytes);
}

static tutti_status cuda_open(int ordinal, struct device **device)
{
    return open_device(&driver_cuda, ordinal, device);
}

static tutti_status hip_open(int ordinal, struct device **device)
{
    return open_device(&driver_hip, ordinal, device);
}

/* What a backend has in common with its vendor's collectives. */
#define DEVICE_OPS(name_of, probe_of, open_of)                                                                         \
    .abi = DEVICE_ABI, .name = (name_of), .probe = (probe_of), .open = (open_of), .close = gpu_device_close,           \
    .describe = describe, .shared_bytes = gpu_group_shared_bytes, .graphs = &gpu_graph_ops

#define GROUP_OPS                                                                                                      \
    .deterministic = true, .group_create = gpu_group_create, .group_export = gpu_group_export,                         \
    .group_import = gpu_group_import, .group_probe_begin = gpu_group_probe_begin,                                      \
    .group_probe_end = gpu_group_probe_end, .group_poll = gpu_group_poll, .group_memory = gpu_group_memory,            \
    .group_destroy = gpu_group_destroy, .group_call = gpu_group_call, .group_wake = gpu_group_wake,                    \
    .group_stats = gpu_group_stats, .group_plan = gpu_group_plan, .group_look = gpu_group_look,                        \
    .group_settle = gpu_group_settle, .group_keep = gpu_group_keep, .memory_create = gpu_memory_create,                \
    .memory_hold = gpu_memory_hold, .memory_alike = gpu_memory_alike, .memory_export = gpu_memory_export,              \
    .memory_import = gpu_memory_import, .memory_release = gpu_memory_release, .memory_reserve = gpu_memory_reserve,    \
    .memory_unreserve = gpu_memory_unreserve, .memory_place = gpu_memory_place, .group_stream = gpu_group_stream,      \
    .group_entries_write = gpu_group_entries_write, .group_quiesce = gpu_group_quiesce

#define VENDOR_OPS                                                                                                     \
    .group_create = vendor_group_create, .group_export = vendor_group_export, .group_import = vendor_group_import,     \
    .group_probe_begin = vendor_group_probe_begin, .group_probe_end = vendor_group_probe_end,                          \
    .group_poll = vendor_group_poll, .group_abandon = vendor_group_abandon, .group_memory = vendor_group_memory,       \
    .group_destroy = vendor_group_destroy, .group_call = vendor_group_call, .group_wake = vendor_group_wake,           \
    .group_stats = vendor_group_stats, .group_plan = vendor_group_plan, .group_look = vendor_group_look,               \
    .group_stream = vendor_group_stream

static const struct device_ops nccl_ops = {DEVICE_OPS("cuda", cuda_probe, cuda_open), VENDOR_OPS};
static const struct device_ops rccl_ops = {DEVICE_OPS("hip", hip_probe, hip_open), VENDOR_OPS};

const struct device_ops device_cuda_ops = {DEVICE_OPS("cuda", cuda_probe, cuda_open), GROUP_OPS, .vendor = &nccl_ops};
const struct device_ops device_hip_ops = {DEVICE_OPS("hip", hip_probe, hip_open), GROUP_OPS, .vendor = &rccl_ops};
