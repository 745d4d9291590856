/* SPDX-License-Identifier: Apache-2.0 */
#include "device/vendor/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "device/gpu/context.h"
#include "device/gpu/memory_class.h"
#include "memory/segment.h"

#define PAUSE_NS 50000
#define SPINS 2000 /* looks at a call under way before the core is given away: the vendor needs microseconds */

/* What a rank tells its peers of itself. */
struct vendor_export {
    struct driver_uuid uuid;
    int32_t version; /* of the library */
};
_Static_assert(GPU_SHARED_OWN_BYTES + sizeof(struct vendor_shared) <= GPU_SHARED_BYTES, "it fits its place");
_Static_assert(sizeof(struct vendor_export) <= DEVICE_EXPORT_BYTES, "it fits a memory_export");

/* -- making a group ---------------------------------------------------------------------------------- */

static tutti_status page_make(struct group *group)
{
    const struct driver *driver = group->device->driver;
    void *page = NULL;
    tutti_status status = DRIVER(driver, host_alloc, &page, sizeof(*group->page), driver->vendor->host_flags);
    if (status != TUTTI_OK) {
        return status;
    }
    memset(page, 0, sizeof(*group->page));
    group->page = page;
    return DRIVER(driver, host_address, &group->page_address, page, 0);
}

static tutti_status scratch_make(struct group *group)
{
    const struct driver *driver = group->device->driver;
    size_t bytes = SCRATCH_BYTES * (size_t)group->options.lanes;
    return driver->alloc_with_flags != NULL ? DRIVER(driver, alloc_with_flags, &group->scratch, bytes, 0)
                                            : DRIVER(driver, alloc, &group->scratch, bytes);
}

static struct group *group_new(const struct group_options *options, const struct vendor_library *library)
{
    struct group *group = calloc(1, sizeof(*group));
    if (group == NULL) {
        return NULL;
    }
    group->options = *options;
    group->library = library;
    group->device = options->device;
    gpu_device_retain(group->device);
    (void)pthread_mutex_init(&group->lock, NULL);
    for (int rank = 0; rank < options->world; rank++) {
        struct segment *segment = options->segments[rank];
        group->segments[rank] = segment_find(segment->device, segment->inode, segment->bytes);
        group->shared[rank] = (struct vendor_shared *)((unsigned char *)options->shared[rank] + GPU_SHARED_OWN_BYTES);
    }
    for (int lane = 0; lane < options->lanes; lane++) {
        group->lanes[lane].group = group;
    }
    return group;
}

tutti_status vendor_group_create(const struct group_options *options, struct group **out)
{
    const struct vendor_library *library = NULL;
    vendor_sweep();
    tutti_status status = vendor_library_load(options->device->driver->vendor, &library);
    if (status != TUTTI_OK) {
        return status;
    }
    struct group *group = group_new(options, library);
    if (group == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "rank %d: out of memory for a group", options->rank);
    }
    struct context_scope scope;
    status = context_enter(options->device, CONTEXT_MANAGES, &scope);
    if (status == TUTTI_OK) {
        status = page_make(group);
        if (status == TUTTI_OK) {
            status = scratch_make(group);
        }
        if (status != TUTTI_OK) {
            group->options.registry = NULL; /* the caller's, still */
            vendor_group_dissolve(group);
        }
        context_leave(&scope);
    } else {
        group->options.registry = NULL;
        vendor_group_dissolve(group); /* which has nothing of the driver's yet */
    }
    if (status != TUTTI_OK) {
        gpu_device_close(options->device);
        return status;
    }
    *out = group;
    return TUTTI_OK;
}

void vendor_group_dissolve(struct group *group)
{
    const struct driver *driver = group->device->driver;
    if (group->stream != NULL) {
        (void)driver->stream_destroy(group->stream);
    }
    if (group->scratch != 0) {
        (void)driver->free(group->scratch);
    }
    if (group->page != NULL) {
        (void)driver->host_free(group->page);
    }
    for (int rank = 0; rank < group->options.world; rank++) {
        segment_release(group->segments[rank]);
    }
    (void)pthread_mutex_destroy(&group->lock);
    registry_free(group->options.registry);
    free(group);
}

/* -- meeting ------------------------------------------------------------------------------------------ */

tutti_status vendor_group_export(struct group *group, struct memory_export *mine)
{
    struct vendor_export export;
    memset(&export, 0, sizeof(export));
    export.uuid = group->device->uuid;
    export.version = group->library->version;
    memcpy(mine->bytes, &export, sizeof(export));
    if (group->options.rank != 0) {
        return TUTTI_OK;
    }
    /* Too large for the words that ranks exchange, and visible to them once those have been. */
    tutti_status status = TUTTI_OK;
    for (int lane = 0; lane < group->options.lanes && status == TUTTI_OK; lane++) {
        status = vendor_check(group, NULL, "ncclGetUniqueId", group->library->unique_id(&group->shared[0]->ids[lane]));
    }
    return status;
}

tutti_status vendor_group_import(struct group *group, int rank, const struct memory_export *theirs)
{
    struct vendor_export export;
    memcpy(&export, theirs->bytes, sizeof(export));
    group->uuids[rank] = export.uuid;
    if (export.version != group->library->version) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d has %s version %d, rank %d version %d: use one on all ranks",
                         rank, group->library->name, export.version, group->options.rank, group->library->version);
    }
    for (int before = 0; before < rank; before++) {
        if (memcmp(&group->uuids[before], &export.uuid, sizeof(export.uuid)) == 0) {
            char text[GPU_UUID_TEXT_BYTES];
            gpu_uuid_print(&export.uuid, text);
            return error_set(TUTTI_ERR_UNSUPPORTED, "ranks %d and %d are on one device, %s, where %s allows one only",
                             before, rank, text, group->library->name);
        }
    }
    return TUTTI_OK;
}

tutti_status vendor_check(const struct group *group, const struct lane *lane, const char *call, vendor_result result)
{
    const struct vendor_library *library = group->library;
    if (result == VENDOR_SUCCESS || result == VENDOR_IN_PROGRESS) {
        return TUTTI_OK;
    }
    const char *more = library->last_error(lane != NULL ? lane->comm : NULL);
    return error_set(TUTTI_ERR_DRIVER, "%s, %s: %s%s%.120s", library->name, call, library->error_text(result),
                     more != NULL && more[0] != 0 ? ": " : "", more != NULL ? more : "");
}

static uint64_t extension_ms(const struct group *group)
{
    uint64_t most = 0;
    for (int rank = 0; rank < group->options.world; rank++) {
        uint64_t more = rank != group->options.rank ? group->options.extension_ms(group->options.user, rank) : 0;
        most = more > most ? more : most;
    }
    return most;
}

tutti_status vendor_await(struct group *group, const struct lane *lane, const char *what, uint32_t limit_ms)
{
    const struct group_options *options = &group->options;
    const struct timespec pause = {0, PAUSE_NS};
    struct patience patience;
    patience_begin(&patience);
    for (unsigned spins = 0;; spins++) {
        vendor_result state = VENDOR_SUCCESS;
        vendor_result asked = group->library->async_error(lane->comm, &state);
        tutti_status status = vendor_check(group, lane, what, asked != VENDOR_SUCCESS ? asked : state);
        if (status != TUTTI_OK || state != VENDOR_IN_PROGRESS) {
            return status;
        }
        if (atomic_load_explicit(options->failed, memory_order_acquire) != 0) {
            return options->status(options->user);
        }
        if (patience_look(&patience) / 1000000u > limit_ms + extension_ms(group)) {
            return error_set(TUTTI_ERR_TIMEOUT, "%s, %s: some rank has not joined within %u ms", group->library->name,
                             what, limit_ms);
        }
        if (spins > SPINS) {
            (void)nanosleep(&pause, NULL);
        }
    }
}

/* -- the vendor's communicators, and a first collective on each: a trial, and the connections are there --------------- */

static tutti_status stream_open(struct group *group)
{
    return DRIVER(group->device->driver, stream_create, &group->stream, DRIVER_STREAM_NON_BLOCKING);
}

/* Returns at once: the vendor's threads do the rest. */
tutti_status vendor_group_probe_begin(struct group *group, uint32_t limit_ms)
{
    group->trial_ms = limit_ms;
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = stream_open(group);
    (void)pthread_mutex_lock(&group->lock);
    for (int index = 0; index < group->options.lanes && status == TUTTI_OK; index++) {
        struct lane *lane = &group->lanes[index];
        struct vendor_config config = {sizeof(config), VENDOR_CONFIG_MAGIC, VENDOR_CONFIG_VERSION, 0};
        vendor_result result = group->library->init(&lane->comm, group->options.world, group->shared[0]->ids[index],
                                                    group->options.rank, &config);
        status = vendor_check(group, lane, "ncclCommInitRankConfig", result);
    }
    (void)pthread_mutex_unlock(&group->lock);
    context_leave(&scope);
    return status;
}

static tutti_status stream_await(struct group *group)
{
    const struct driver *driver = group->device->driver;
    const struct timespec pause = {0, PAUSE_NS};
    struct patience patience;
    patience_begin(&patience);
    for (;;) {
        driver_result result = driver->stream_query(group->stream);
        if (result != DRIVER_NOT_READY) {
            return driver_check(driver, offsetof(struct driver, stream_query), result);
        }
        if (patience_look(&patience) / 1000000u > group->trial_ms) {
            return error_set(TUTTI_ERR_TIMEOUT, "%s: a first barrier of all ranks did not end within %u ms",
                             group->library->name, group->trial_ms);
        }
        (void)nanosleep(&pause, NULL);
    }
}

static tutti_status trial(struct group *group)
{
    const struct operation barrier = {.kind = TUTTI_BARRIER};
    tutti_status status = TUTTI_OK;
    for (int lane = 0; lane < group->options.lanes && status == TUTTI_OK; lane++) {
        status = vendor_await(group, &group->lanes[lane], "making its communicator", group->trial_ms);
        if (status == TUTTI_OK) {
            status = vendor_enqueue(group, &barrier, &group->lanes[lane], group->stream, group->trial_ms);
        }
        if (status == TUTTI_OK) {
            status = stream_await(group);
        }
    }
    return status;
}

tutti_status vendor_group_probe_end(struct group *group)
{
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&group->lock);
    status = trial(group);
    if (status == TUTTI_OK) {
        (void)group->device->driver->stream_destroy(group->stream);
        group->stream = NULL;
        group->ready = true;
    }
    (void)pthread_mutex_unlock(&group->lock);
    context_leave(&scope);
    return status;
}

/* -- asking ------------------------------------------------------------------------------------------ */

void vendor_group_stats(struct group *group, tutti_stats *stats)
{
    for (int kind = 0; kind < TUTTI_COLLECTIVE_COUNT; kind++) {
        stats->calls[kind] = atomic_load_explicit(&group->calls[kind], memory_order_relaxed);
    }
    stats->bytes = atomic_load_explicit(&group->bytes, memory_order_relaxed);
    stats->captured = atomic_load_explicit(&group->captured, memory_order_relaxed);
}

void vendor_group_plan(const struct group *group, const struct operation *operation, tutti_plan_t *plan)
{
    (void)operation; /* the vendor chooses for itself */
    int version = group->library->version;
    plan->chunks = 1;
    (void)snprintf(plan->protocol, sizeof(plan->protocol), "%s", group->library->protocol);
    (void)snprintf(plan->reason, sizeof(plan->reason), "%s %d.%d.%d: %.170s", group->library->name, version / 10000,
                   version / 100 % 100, version % 100, group->options.reason);
}

void vendor_group_memory(const struct group *group, uint64_t *arena_bytes, uint64_t *mapped_bytes)
{
    uint64_t scratch_bytes = SCRATCH_BYTES * (uint64_t)group->options.lanes; /* what the vendor takes it does not say */
    *arena_bytes += scratch_bytes;
    *mapped_bytes += scratch_bytes;
}

tutti_status vendor_group_look(struct group *group, uint64_t address, struct memory_facts *facts)
{
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_ENQUEUES, &scope);
    if (status == TUTTI_OK) {
        status = memory_look(group->device, address, facts);
        context_leave(&scope);
    }
    return status;
}

tutti_status vendor_group_stream(struct group *group, const void *stream, struct device_stream *out)
{
    return recording_ask(group->device, stream, out);
}
