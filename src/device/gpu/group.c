/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "capture/registry.h"
#include "collective/signature.h"
#include "device/gpu/context.h"
#include "device/gpu/memory_class.h"
#include "memory/segment.h"
#include "memory/symmetric.h"

#define LANE_ALIGN 4096u
#define LANE_BLOCKS_WANTED 128u
#define MULTIPROCESSOR_BLOCKS 2 /* of any kernels, and of these at least */
#define TRIAL_PAUSE_NS 50000

/* What a rank tells its peers of itself. */
struct gpu_export {
    struct arena_ticket ticket;
    struct driver_uuid uuid;
    uint64_t lane_bytes;
    uint32_t resident_blocks; /* that a lane can count on */
};
_Static_assert(sizeof(struct gpu_shared) <= GPU_SHARED_OWN_BYTES, "it fits its place");
_Static_assert(sizeof(struct gpu_export) <= DEVICE_EXPORT_BYTES, "it fits a memory_export");
_Static_assert(sizeof(struct arena_head) <= ARENA_FLAGS_AT, "the head fits its place");
_Static_assert(ARENA_FLAGS_AT + sizeof(struct arena_flags) <= ARENA_HEAD_BYTES, "and so do the flags");

size_t gpu_group_shared_bytes(int world, int lanes, size_t message_bytes_max)
{
    (void)world;
    (void)lanes;
    (void)message_bytes_max;
    return GPU_SHARED_BYTES;
}

/* -- making a group ---------------------------------------------------------------------------------- */

struct kernel_name {
    const char *part, *stem;
    int threads;
};

static tutti_status kernel_find(struct group *group, const struct kernel_name *kernel, const char *name,
                                driver_function *function, unsigned *resident)
{
    struct device *device = group->device;
    int blocks = 0;
    tutti_status status =
        module_find(device->driver, &device->modules, kernel->part, name, kernel->threads, function, &blocks);
    if (status == TUTTI_OK && blocks < 1) {
        status = error_set(TUTTI_ERR_UNSUPPORTED, "%s: no block of %d threads fits a multiprocessor of %s", name,
                           kernel->threads, device->name);
    }
    if (status == TUTTI_OK) {
        blocks = blocks < MULTIPROCESSOR_BLOCKS ? blocks : MULTIPROCESSOR_BLOCKS;
        unsigned total = (unsigned)blocks * (unsigned)device->multiprocessors;
        *resident = total < *resident ? total : *resident;
    }
    return status;
}

/* All functions that this world may need, loaded for good. *resident: how many blocks of them the device holds at a time, mixed as
 * they may be. Where each alone fits twice, each takes half of a multiprocessor at most. So one on which no further block finds a
 * place has two already, wherever the device has put them: a block waits for a place only while there are two for each
 * multiprocessor. (To count threads instead is wrong: small blocks, one on each multiprocessor, shut large ones out.) */
static tutti_status kernels_find(struct group *group, unsigned *resident)
{
    static const char *const dtypes[DTYPE_COUNT] = {"f32", "f16", "bf16"};
    static const struct kernel_name copies = {"copies", "copies", KERNEL_LARGE_THREADS_MAX};
    static const struct kernel_name words = {"words", "words", KERNEL_THREADS_MAX};
    static const struct kernel_name gather = {"direct_gather", "direct_gather", KERNEL_LARGE_THREADS_MAX};
    struct kernels *kernels = &group->kernels;
    tutti_status status = kernel_find(group, &copies, "tutti_copies", &kernels->copies, resident);
    if (status == TUTTI_OK) {
        status = kernel_find(group, &words, "tutti_words", &kernels->words, resident);
    }
    const bool direct = group->options.world > 1 && group->terms.direct_gather_bytes_min != 0;
    const int needed = group->options.world == 1 ? 1 : direct ? 5 : 3;
    if (status == TUTTI_OK && direct) {
        char name[64];
        (void)snprintf(name, sizeof(name), "tutti_direct_gather_%d", group->options.world);
        status = kernel_find(group, &gather, name, &kernels->direct_gather, resident);
    }
    for (int dtype = 0; dtype < DTYPE_COUNT && status == TUTTI_OK; dtype++) {
        struct {
            struct kernel_name kernel;
            driver_function *function;
        } const reductions[] = {
            {{"one_shot", "one_shot", KERNEL_THREADS_MAX}, &kernels->one_shot[dtype]},
            {{"two_shot", "two_shot", KERNEL_THREADS_MAX}, &kernels->two_shot[dtype]},
            {{"two_shot", "reduce_scatter", KERNEL_THREADS_MAX}, &kernels->reduce_scatter[dtype]},
            {{"direct", "direct", KERNEL_LARGE_THREADS_MAX}, &kernels->direct[dtype]},
            {{"direct_scatter", "direct_scatter", KERNEL_LARGE_THREADS_MAX}, &kernels->direct_scatter[dtype]},
        };
        for (int index = 0; index < needed && status == TUTTI_OK; index++) {
            const struct kernel_name *kernel = &reductions[index].kernel;
            char name[64];
            (void)snprintf(name, sizeof(name), "tutti_%s_%s_%d", kernel->stem, dtypes[dtype], group->options.world);
            status = kernel_find(group, kernel, name, reductions[index].function, resident);
        }
    }
    return status;
}

/* A grid waits for the same grid on the peers: it must be resident as a whole, with all others of this process that may wait
 * at the same time. */
static tutti_status residence_take(struct group *group, unsigned resident)
{
    unsigned lanes = (unsigned)group->options.lanes;
    unsigned grids =
        (group->options.flags & TUTTI_COMM_SHARE_DEVICE) != 0 ? (unsigned)group->options.world * lanes : lanes;
    unsigned wanted = LANE_BLOCKS_WANTED;
    while (grids > 1 && (uint64_t)wanted * 2 * grids > resident) {
        wanted /= 2;
    }
    group->blocks_taken = gpu_device_blocks_take(group->device, resident, wanted * lanes);
    group->terms.resident_blocks = lanes > 0 ? group->blocks_taken / lanes : 0;
    if (group->terms.resident_blocks > 0) {
        return TUTTI_OK;
    }
    return error_set(
        TUTTI_ERR_UNSUPPORTED,
        "%s (%s) holds %u blocks of these kernels at a time, too few for %u lane%s beside the communicators "
        "that this process has, each of which took up to half of what was left: destroy those that are not used, "
        "or use fewer lanes, or fewer ranks a device",
        group->device->name, group->device->uuid_text, resident, lanes, lanes == 1 ? "" : "s");
}

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
    return DRIVER(driver, host_address, &group->note, page, 0);
}

/* The arena, ready for the peers to write to: heads zero, halves empty. */
static tutti_status arena_make(struct group *group)
{
    const struct device *device = group->device;
    struct arena *own = &group->arenas[group->options.rank];
    size_t lanes = (size_t)group->options.lanes;
    tutti_status status = arena_create(device, group->lane_bytes * lanes, ARENA_POLLED, own);
    for (size_t lane = 0; lane < lanes && status == TUTTI_OK; lane++) {
        size_t at = lane * group->lane_bytes;
        status = arena_fill(device, own, at, ARENA_HEAD_BYTES, 0);
        if (status == TUTTI_OK) {
            status = arena_fill(device, own, at + ARENA_HEAD_BYTES, group->lane_bytes - ARENA_HEAD_BYTES, SENTINEL);
        }
    }
    return status;
}

static tutti_status group_build(struct group *group)
{
    unsigned resident = UINT32_MAX;
    tutti_status status = kernels_find(group, &resident);
    if (status == TUTTI_OK) {
        status = residence_take(group, resident);
    }
    if (status == TUTTI_OK) {
        status = page_make(group);
    }
    if (status == TUTTI_OK) {
        status = table_make(group);
    }
    return status == TUTTI_OK ? arena_make(group) : status;
}

static void segments_retain(struct group *group)
{
    for (int rank = 0; rank < group->options.world; rank++) {
        struct segment *segment = group->options.segments[rank];
        group->segments[rank] = segment_find(segment->device, segment->inode, segment->bytes);
        group->shared[rank] = group->options.shared[rank];
    }
}

/* The flags of every launch: KERNEL_PROGRAMMATIC, and KERNEL_EARLY with it. */
static uint32_t launch_flags(const struct group_options *options)
{
    const struct device *device = options->device;
    bool early = (options->flags & TUTTI_COMM_ONLY_COLLECTIVE_STREAM) != 0;
    if (device->capability < 90 || device->driver->launch_with == NULL ||
        (!early && settings_number(SETTING_GPU_PROGRAMMATIC) == 0)) {
        return 0;
    }
    return KERNEL_PROGRAMMATIC | (early ? KERNEL_EARLY : 0u);
}

static struct group *group_new(const struct group_options *options)
{
    struct group *group = calloc(1, sizeof(*group));
    if (group == NULL) {
        return NULL;
    }
    group->options = *options;
    group->device = options->device;
    gpu_device_retain(group->device);
    group->terms.world = options->world;
    group->terms.half_bytes = gpu_choice_half_bytes(options->world, options->message_bytes_max);
    group->terms.one_shot_bytes_max = gpu_choice_one_shot_bytes_max(options->world);
    /* Whether peers' accesses to ordinary memory are coherent on AMD is not known, nobody has run it there: only on request. */
    bool direct = options->device->driver->vendor == &driver_cuda || settings_number(SETTING_GPU_DIRECT_BYTES_MIN) > 0;
    group->terms.direct_reduce_bytes_min = direct ? gpu_choice_direct_bytes_min(TUTTI_ALL_REDUCE) : 0;
    group->terms.direct_gather_bytes_min = direct ? gpu_choice_direct_bytes_min(TUTTI_ALL_GATHER) : 0;
    group->lane_bytes = (ARENA_HEAD_BYTES + 2 * group->terms.half_bytes + LANE_ALIGN - 1) / LANE_ALIGN * LANE_ALIGN;
    group->launch_flags = launch_flags(options);
    segments_retain(group);
    return group;
}

tutti_status gpu_group_create(const struct group_options *options, struct group **out)
{
    if (options->world > KERNEL_WORLD_MAX) {
        return error_set(TUTTI_ERR_UNSUPPORTED, "%d ranks: the %s backend joins up to %d", options->world,
                         options->device->driver->vendor->backend, KERNEL_WORLD_MAX);
    }
    if (options->device->kernels != TUTTI_OK) {
        return error_set(options->device->kernels, "%s", options->device->kernels_sentence);
    }
    quarantine_sweep();
    struct group *group = group_new(options);
    if (group == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "rank %d: out of memory for a group", options->rank);
    }
    struct context_scope scope;
    tutti_status status = context_enter(options->device, CONTEXT_MANAGES, &scope);
    if (status == TUTTI_OK) {
        status = group_build(group);
        if (status == TUTTI_OK) {
            *out = group;
        } else {
            group->options.registry = NULL; /* the caller's, still */
            group_dissolve(group);
        }
        context_leave(&scope);
    } else {
        group->options.registry = NULL;
        group_dissolve(group); /* which has nothing of the driver's yet */
    }
    if (status != TUTTI_OK) {
        gpu_device_close(options->device);
    }
    return status;
}

tutti_status group_stream_open(struct group *group)
{
    return group->stream != NULL
               ? TUTTI_OK
               : DRIVER(group->device->driver, stream_create, &group->stream, DRIVER_STREAM_NON_BLOCKING);
}

void group_stream_close(struct group *group)
{
    if (group->stream != NULL) {
        (void)group->device->driver->stream_destroy(group->stream);
        group->stream = NULL;
    }
}

tutti_status group_counters_fetch(struct group *group, size_t offset, uint64_t counters[TUTTI_LANES_MAX])
{
    const struct driver *driver = group->device->driver;
    const struct arena *own = &group->arenas[group->options.rank];
    tutti_status status = TUTTI_OK;
    for (int lane = 0; lane < group->options.lanes && status == TUTTI_OK; lane++) {
        driver_address from = own->address + (size_t)lane * group->lane_bytes + offset;
        status = DRIVER(driver, copy_to_host, &group->page->counters[lane], from, sizeof(uint64_t), group->stream);
    }
    if (status == TUTTI_OK) {
        status = DRIVER(driver, stream_synchronize, group->stream);
    }
    for (int lane = 0; lane < group->options.lanes && status == TUTTI_OK; lane++) {
        counters[lane] = __atomic_load_n(&group->page->counters[lane], __ATOMIC_RELAXED);
    }
    return status;
}

void group_dissolve(struct group *group)
{
    struct device *device = group->device;
    const struct driver *driver = device->driver;
    registry_free(group->options.registry);
    symmetric_free_all(group->kept);
    table_free(group);
    for (int rank = 0; rank < group->options.world; rank++) {
        arena_release(device, &group->arenas[rank]);
        segment_release(group->segments[rank]);
    }
    if (group->page != NULL) {
        (void)driver->host_free(group->page);
    }
    group_stream_close(group);
    gpu_device_blocks_return(device, group->blocks_taken);
    free(group);
}

/* -- sharing ----------------------------------------------------------------------------------------- */

tutti_status gpu_group_export(struct group *group, struct memory_export *mine)
{
    struct gpu_export export;
    int fd = -1;
    memset(&export, 0, sizeof(export));
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = arena_export(group->device, &group->arenas[group->options.rank], &export.ticket, &fd);
    context_leave(&scope);
    if (status != TUTTI_OK) {
        return status;
    }
    export.uuid = group->device->uuid;
    export.lane_bytes = group->lane_bytes;
    export.resident_blocks = group->terms.resident_blocks;
    memcpy(mine->bytes, &export, sizeof(export));
    mine->fd = fd;
    return TUTTI_OK;
}

/* The same pair is found first on every rank, so that all give the same reason. */
static tutti_status check_sharing(struct group *group, int rank, const struct gpu_export *theirs)
{
    group->uuids[rank] = theirs->uuid;
    for (int before = 0; before < rank; before++) {
        if (memcmp(&group->uuids[before], &theirs->uuid, sizeof(theirs->uuid)) != 0) {
            continue;
        }
        if ((group->options.flags & TUTTI_COMM_SHARE_DEVICE) == 0) {
            char text[GPU_UUID_TEXT_BYTES];
            gpu_uuid_print(&theirs->uuid, text);
            return error_set(TUTTI_ERR_ARGUMENT,
                             "ranks %d and %d are on one device, %s: give each rank its own, or pass "
                             "TUTTI_COMM_SHARE_DEVICE if that is meant",
                             before, rank, text);
        }
    }
    return TUTTI_OK;
}

tutti_status gpu_group_import(struct group *group, int rank, const struct memory_export *theirs)
{
    struct gpu_export export;
    memcpy(&export, theirs->bytes, sizeof(export));
    tutti_status status = check_sharing(group, rank, &export);
    if (status != TUTTI_OK) {
        return status;
    }
    if (export.lane_bytes != group->lane_bytes ||
        export.ticket.bytes < group->lane_bytes * (size_t)group->options.lanes) {
        return error_set(TUTTI_ERR_MISMATCH, "rank %d's device memory has another layout than rank %d's", rank,
                         group->options.rank);
    }
    if (export.resident_blocks < group->terms.resident_blocks) {
        group->terms.resident_blocks = export.resident_blocks;
    }
    if (rank == group->options.rank) {
        return TUTTI_OK;
    }
    uint8_t process[PROCESS_COOKIE_BYTES];
    struct context_scope scope;
    status = process_cookie(process);
    if (status == TUTTI_OK) {
        status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    bool same_process = memcmp(process, export.ticket.process, sizeof(process)) == 0;
    group->far_neighbour = group->far_neighbour || (same_process && export.ticket.ordinal != group->device->ordinal);
    group->shares_context = group->shares_context || (same_process && export.ticket.ordinal == group->device->ordinal);
    status = arena_import(group->device, &export.ticket, theirs->fd, 0, &group->arenas[rank]);
    if (status != TUTTI_OK) {
        char text[GPU_UUID_TEXT_BYTES];
        gpu_uuid_print(&export.uuid, text);
        status = error_set(status, "%s cannot map the memory of rank %d (%s): %.200s", group->device->uuid_text, rank,
                           text, tutti_last_error());
    }
    context_leave(&scope);
    return status;
}

/* -- the trial: a barrier of all ranks, because drivers have said yes to peer access that did not work ------------- */

tutti_status gpu_group_probe_begin(struct group *group, uint32_t limit_ms)
{
    if (group->options.world == 1) {
        return TUTTI_OK;
    }
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    if (status == TUTTI_OK) {
        atomic_store(&group->trial_timeout_ns, (uint64_t)limit_ms * 1000000u);
        status = group_stream_open(group);
        if (status == TUTTI_OK) {
            status = call_trial(group);
        }
        context_leave(&scope);
    }
    return status;
}

/* Waits for the stream. The kernel ends by itself; a device that does not even start it is given twice the time. */
static tutti_status trial_await(struct group *group, uint64_t limit_ns)
{
    const struct driver *driver = group->device->driver;
    const struct timespec pause = {0, TRIAL_PAUSE_NS};
    struct patience patience;
    patience_begin(&patience);
    for (;;) {
        driver_result result = driver->stream_query(group->stream);
        if (result != DRIVER_NOT_READY) {
            return driver_check(driver, offsetof(struct driver, stream_query), result);
        }
        if (patience_look(&patience) > 2 * limit_ns) {
            return error_set(TUTTI_ERR_TIMEOUT, "%s (%s) did not run a kernel within %llu ms: it is busy, or hangs",
                             group->device->name, group->device->uuid_text,
                             (unsigned long long)(2 * limit_ns / 1000000u));
        }
        (void)nanosleep(&pause, NULL);
    }
}

static tutti_status trial_judge(const struct group *group)
{
    const struct failure_note *note = &group->page->note;
    if (__atomic_load_n(&note->state, __ATOMIC_ACQUIRE) == 0) {
        return TUTTI_OK;
    }
    char text[GPU_UUID_TEXT_BYTES];
    uint32_t peer = note->peer < (uint32_t)group->options.world ? note->peer : 0;
    gpu_uuid_print(&group->uuids[peer], text);
    return error_set(TUTTI_ERR_UNSUPPORTED,
                     "nothing that rank %u (%s) writes reaches %s within %llu ms: peer-to-peer traffic does not work, "
                     "whatever the driver says (IOMMU or ACS settings, virtual machine)",
                     peer, text, group->device->uuid_text, (unsigned long long)(note->waited_ns / 1000000u));
}

tutti_status gpu_group_probe_end(struct group *group)
{
    if (group->options.world == 1) {
        return TUTTI_OK;
    }
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = trial_await(group, atomic_load(&group->trial_timeout_ns));
    if (status == TUTTI_OK) {
        group_stream_close(group);
    }
    context_leave(&scope);
    if (status == TUTTI_OK) {
        status = trial_judge(group);
    }
    if (status == TUTTI_OK) {
        atomic_store(&group->trial_timeout_ns, 0);
    }
    return status;
}

/* -- asking ------------------------------------------------------------------------------------------ */

void gpu_group_stats(struct group *group, tutti_stats *stats)
{
    const struct group_counts *counts = &group->counts;
    uint64_t protocols[GPU_PROTOCOL_COUNT];
    for (int kind = 0; kind < TUTTI_COLLECTIVE_COUNT; kind++) {
        stats->calls[kind] = atomic_load_explicit(&counts->calls[kind], memory_order_relaxed);
    }
    for (int protocol = 0; protocol < GPU_PROTOCOL_COUNT; protocol++) {
        protocols[protocol] = atomic_load_explicit(&counts->protocols[protocol], memory_order_relaxed);
    }
    stats->bytes = atomic_load_explicit(&counts->bytes, memory_order_relaxed);
    stats->captured = atomic_load_explicit(&counts->captured, memory_order_relaxed);
    stats->one_shot = protocols[GPU_ONE_SHOT];
    stats->two_shot = protocols[GPU_TWO_SHOT];
    stats->direct = protocols[GPU_DIRECT] + protocols[GPU_DIRECT_SCATTER] + protocols[GPU_DIRECT_GATHER];
    stats->exchange = protocols[GPU_WORDS] + protocols[GPU_REDUCE_SCATTER] + protocols[GPU_COPIES];
    stats->local = protocols[GPU_LOCAL];
    for (int lane = 0; lane < group->options.lanes; lane++) {
        const struct direct_tally *tally = &group->page->tallies[lane];
        stats->direct_calls += __atomic_load_n(&tally->direct_calls, __ATOMIC_RELAXED);
        stats->direct_bytes += __atomic_load_n(&tally->direct_bytes, __ATOMIC_RELAXED);
        stats->staged_calls += __atomic_load_n(&tally->staged_calls, __ATOMIC_RELAXED);
        stats->staged_bytes += __atomic_load_n(&tally->staged_bytes, __ATOMIC_RELAXED);
    }
}

/* "from 2 MiB on: " */
static void from_on(size_t bytes, char *text, size_t text_bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB"};
    unsigned unit = 0;
    while (unit < 3 && bytes >= 1024 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(text, text_bytes, "from %zu %s on: ", bytes, units[unit]);
}

/* A direct call goes as its buffers allow: the reason says from which size on, how, and what the last commit found. */
void gpu_group_plan(const struct group *group, const struct operation *operation, tutti_plan_t *plan)
{
    struct gpu_choice choice;
    gpu_choice_make(&choice, operation, &group->terms);
    plan->chunks = choice.launches * choice.rounds;
    (void)snprintf(plan->protocol, sizeof(plan->protocol), "%s", gpu_choice_protocol_name(choice.protocol));
    char from[48] = "";
    char more[320] = "";
    if (strcmp(plan->protocol, "direct") == 0) {
        bool gathers = operation->kind == TUTTI_ALL_GATHER;
        from_on(gathers ? group->terms.direct_gather_bytes_min : group->terms.direct_reduce_bytes_min, from,
                sizeof(from));
        registry_explain(group->options.registry, more, sizeof(more));
    }
    (void)snprintf(plan->reason, sizeof(plan->reason), "%s%s%s", from, choice.reason, more);
}

void gpu_group_memory(const struct group *group, uint64_t *arena_bytes, uint64_t *mapped_bytes)
{
    *arena_bytes += group->arenas[group->options.rank].bytes;
    for (int rank = 0; rank < group->options.world; rank++) {
        *mapped_bytes += group->arenas[rank].bytes;
    }
}

tutti_status gpu_group_look(struct group *group, uint64_t address, struct memory_facts *facts)
{
    const struct driver *driver = group->device->driver;
    struct context_scope scope;
    tutti_status status = context_enter(group->device, CONTEXT_ENQUEUES, &scope);
    if (status == TUTTI_OK) {
        status = memory_look(group->device, address, facts);
        context_leave(&scope);
    }
    /* Without peer-enabled contexts a plain allocation's address means nothing to other devices. */
    if (status == TUTTI_OK && facts->class == MEMORY_IPC && group->far_neighbour && driver->peer_enable == NULL) {
        facts->threads_reach = false;
    }
    return status;
}

tutti_status gpu_group_stream(struct group *group, const void *stream, struct device_stream *out)
{
    return recording_ask(group->device, stream, out);
}
