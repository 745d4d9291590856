/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.c - one collective: checks that cost no more than a question to the driver, then its launches, all on the caller's
 * stream and on nothing else. Captured or not makes no difference to what is launched.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "collective/choice.h"
#include "collective/signature.h"
#include "device/gpu/context.h"
#include "device/gpu/group.h"
#include "device/gpu/operation_memory.h"

/* -- checking --------------------------------------------------------------------------------------- */

/* `can_block`: each rank has a thread of its own, and so a default stream of that thread. */
static tutti_status check_stream(const struct group *group, const struct operation *operation, const tutti_call *call,
                                 bool can_block)
{
    bool of_thread = call->stream == DRIVER_STREAM_PER_THREAD;
    bool common = call->stream == NULL || call->stream == DRIVER_STREAM_LEGACY || (of_thread && !can_block);
    if (!common || !group->shares_context) {
        return TUTTI_OK;
    }
    const char *stream = of_thread ? "thread's default stream" : "NULL stream";
    return error_set(TUTTI_ERR_ARGUMENT,
                     "%s on the %s: another rank of this process works on the same device and has the same %s, where "
                     "its part would wait behind this one for ever: pass a stream of its own for each rank",
                     operation_call_name(operation), stream, stream);
}

#define BALLOT_OFFSET_BITS 40 /* struct direct_route */

/* -- launching -------------------------------------------------------------------------------------- */

static driver_function function_for(const struct group *group, const struct operation *operation,
                                    enum gpu_protocol protocol)
{
    const struct kernels *kernels = &group->kernels;
    switch (protocol) {
    case GPU_ONE_SHOT:
        return kernels->one_shot[operation->dtype];
    case GPU_TWO_SHOT:
        return kernels->two_shot[operation->dtype];
    case GPU_DIRECT:
        return kernels->direct[operation->dtype];
    case GPU_DIRECT_SCATTER:
        return kernels->direct_scatter[operation->dtype];
    case GPU_DIRECT_GATHER:
        return kernels->direct_gather;
    case GPU_REDUCE_SCATTER:
        return kernels->reduce_scatter[operation->dtype];
    case GPU_WORDS:
        return kernels->words;
    case GPU_LOCAL:
    case GPU_COPIES:
    case GPU_PROTOCOL_COUNT:
        break;
    }
    return kernels->copies;
}

/* What does not change between the launches of a call. */
static void arguments_fill(const struct group *group, const struct operation *operation, uint32_t lane, bool eager,
                           struct kernel_arguments *arguments)
{
    uint64_t trial_ns = atomic_load_explicit(&group->trial_timeout_ns, memory_order_relaxed);
    size_t block_bytes = operation->count * choice_unit_bytes(operation);
    memset(arguments, 0, sizeof(*arguments));
    for (int rank = 0; rank < group->options.world; rank++) {
        arguments->lanes[rank] = group->arenas[rank].address + lane * group->lane_bytes;
    }
    arguments->own = arguments->lanes[group->options.rank];
    arguments->half_bytes = group->terms.half_bytes;
    arguments->rank = (uint32_t)group->options.rank;
    arguments->world = (uint32_t)group->options.world;
    arguments->op = (uint32_t)operation->op;
    arguments->kind = (uint32_t)operation->kind;
    arguments->flags = group->launch_flags | (eager ? KERNEL_EAGER : 0u);
    arguments->root = (uint32_t)operation->root;
    arguments->lane = lane;
    arguments->signature = signature_pack(operation);
    arguments->timeout_ns = trial_ns != 0 ? trial_ns : (uint64_t)group->options.timeout_ms * 1000000u;
    arguments->note = group->note;
    arguments->src_stride = block_bytes;
    arguments->dst_stride = block_bytes;
    arguments->row_bytes = operation->row_bytes;
    arguments->row_stride = operation->dst_stride_bytes;
}

static tutti_status launch(const struct group *group, driver_function function, struct gpu_geometry geometry,
                           struct kernel_arguments *arguments, driver_stream stream)
{
    const struct driver *driver = group->device->driver;
    void *parameters[] = {arguments};
    arguments->tile_shift = geometry.tile_shift;
    arguments->share = EPOCH_UNITS / geometry.blocks;
    if ((group->launch_flags & KERNEL_PROGRAMMATIC) == 0) {
        return DRIVER(driver, launch, function, geometry.blocks, 1, 1, geometry.threads, 1, 1, 0, stream, parameters,
                      NULL);
    }
    struct driver_launch_attribute attribute = {.id = DRIVER_LAUNCH_PROGRAMMATIC, .value = {.value = 1}};
    struct driver_launch configuration = {.grid = {geometry.blocks, 1, 1},
                                          .block = {geometry.threads, 1, 1},
                                          .stream = stream,
                                          .attributes = &attribute,
                                          .attribute_count = 1};
    return DRIVER(driver, launch_with, &configuration, function, parameters, NULL);
}

static bool place_find(const struct group *group, const void *pointer, size_t bytes, uint64_t *ballot,
                       uint64_t addresses[KERNEL_WORLD_MAX])
{
    struct symmetric_place place;
    if (!group->options.symmetric(group->options.user, pointer, bytes, &place) || place.offset % 16 != 0 ||
        place.serial >> (64 - BALLOT_OFFSET_BITS) != 0 || place.offset / 16 >> BALLOT_OFFSET_BITS != 0) {
        return false;
    }
    *ballot = place.serial << BALLOT_OFFSET_BITS | place.offset / 16;
    for (int rank = 0; rank < group->options.world; rank++) {
        addresses[rank] = place.parts[rank] + place.offset;
    }
    return true;
}

/* Whether this rank could go directly through symmetric memory: its own affair, which the kernel puts to the vote. */
static void route_fill(const struct group *group, const struct operation *operation, struct direct_route *route)
{
    struct direct_route found;
    size_t block = operation->count * choice_unit_bytes(operation);
    size_t all = block * (size_t)group->options.world;
    bool gathers = operation->kind == TUTTI_ALL_GATHER, scatters = operation->kind == TUTTI_REDUCE_SCATTER;
    memset(&found, 0, sizeof(found));
    found.ballot[0] = found.ballot[1] = BALLOT_PRIVATE;
    if ((gathers || place_find(group, operation->src, scatters ? all : block, &found.ballot[0], found.src)) &&
        (scatters || place_find(group, operation->dst, gathers ? all : block, &found.ballot[1], found.dst))) {
        *route = found;
    }
}

/* The launches of one call, one after another. grant: of a captured call; NULL for an eager one. *launched: how many were made. */
static tutti_status launch_all(const struct group *group, const struct operation *operation, const tutti_call *call,
                               const struct gpu_choice *choice, const struct ticket_grant *grant, uint64_t *launched)
{
    struct kernel_arguments arguments;
    arguments_fill(group, operation, call->lane, grant == NULL, &arguments);
    if (grant != NULL && grant->slot != SLOT_NONE) {
        arguments.entry = group->table.address + grant->slot * sizeof(struct direct_entry);
        arguments.ticket = grant->number;
    }
    arguments.tally = group->note + offsetof(struct note_page, tallies) + call->lane * sizeof(struct direct_tally);
    driver_function function = function_for(group, operation, choice->protocol);
    bool direct = gpu_choice_is_direct(choice->protocol);
    if (direct) {
        arguments.rounds = choice->rounds;
        arguments.round_units = choice->launch_units;
        route_fill(group, operation, &arguments.route);
    }
    size_t unit_bytes = choice_unit_bytes(operation);
    tutti_status status = TUTTI_OK;
    for (uint64_t index = 0; index < choice->launches && status == TUTTI_OK; index++) {
        size_t first = (size_t)index * choice->launch_units;
        size_t left = operation->count - first;
        size_t units = left < choice->launch_units ? left : choice->launch_units;
        arguments.units = direct ? operation->count : units;
        arguments.src = (uint64_t)(uintptr_t)operation->src + first * unit_bytes;
        arguments.dst = (uint64_t)(uintptr_t)operation->dst + (operation->row_bytes != 0 ? 0 : first * unit_bytes);
        arguments.row_first = operation->row_bytes != 0 ? first : 0;
        struct gpu_geometry geometry =
            gpu_choice_geometry(choice->protocol, &group->terms, units * unit_bytes, call->max_blocks);
        status = launch(group, function, geometry, &arguments, call->stream);
        *launched += status == TUTTI_OK;
    }
    return status;
}

/* In a world of one rank every copy is the same. */
static struct operation as_copy(const struct operation *operation)
{
    struct operation copy = *operation;
    copy.kind = TUTTI_ALL_GATHER;
    return copy;
}

/* Part of a call is in the graph and the rest cannot follow: nobody must launch that. To ask a capturing stream how far it has
 * come is illegal in every mode, and is how to say so. */
static void recording_spoil(const struct driver *driver, driver_stream stream)
{
    (void)driver->stream_query(stream);
}

/* -- one call ---------------------------------------------------------------------------------------- */

static void call_count(struct group *group, const struct operation *operation, enum gpu_protocol protocol,
                       bool recording)
{
    struct group_counts *counts = &group->counts;
    if (recording) {
        atomic_fetch_add_explicit(&counts->captured, 1, memory_order_relaxed);
        return;
    }
    atomic_fetch_add_explicit(&counts->calls[operation->kind], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counts->protocols[protocol], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counts->bytes, operation->count * choice_unit_bytes(operation), memory_order_relaxed);
    group->options.call_completed(group->options.user); /* as far as the host can tell; a recorded one is yet to come */
}

/* Part of the call has been enqueued and the rest cannot be: the peers wait for it in vain. */
static void call_torn(const struct group *group, const struct operation *operation, tutti_status status)
{
    struct failure failure = {.status = status, .reporter = group->options.rank, .culprit = group->options.rank};
    (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d could enqueue only a part of %s: %.150s",
                   group->options.rank, signature_kind_name(operation->kind), tutti_last_error());
    group->options.fail(group->options.user, &failure);
}

static tutti_status call_refused(const struct group *group, const struct operation *operation, const tutti_call *call,
                                 tutti_status status)
{
    if (status == TUTTI_ERR_CAPTURE) {
        return error_set(status, "%s on stream %p: %.300s", operation_call_name(operation), call->stream,
                         tutti_last_error());
    }
    return error_set(
        status,
        "%s on stream %p, for %s device %d: %.200s (does the stream belong to the communicator's device and "
        "to its primary context?)",
        operation_call_name(operation), call->stream, group->device->driver->vendor->label, group->device->ordinal,
        tutti_last_error());
}

/* What the stream does. */
static tutti_status stream_look(const struct group *group, const struct operation *operation, const tutti_call *call,
                                struct stream_state *state)
{
    tutti_status status = recording_look_for(group->device->driver, group->options.registry, call->stream,
                                             operation_call_name(operation), state);
    return status == TUTTI_OK ? TUTTI_OK : call_refused(group, operation, call, status);
}

static tutti_status call_enqueue(struct group *group, const struct operation *operation, const tutti_call *call,
                                 const struct gpu_choice *choice)
{
    const struct driver *driver = group->device->driver;
    struct stream_state state;
    struct recorded *recorded = NULL;
    struct ticket_grant grant;
    tutti_status status = stream_look(group, operation, call, &state);
    if (status != TUTTI_OK) {
        return status;
    }
    if (choice->launches == 0) {
        call_count(group, operation, GPU_LOCAL, state.recording);
        return TUTTI_OK;
    }
    if (state.recording) {
        status = recording_begin(driver, group->options.registry, call->lane, call->stream, &state, &recorded);
    }
    if (status != TUTTI_OK) {
        return call_refused(group, operation, call, status);
    }
    uint64_t launched = 0;
    if (state.recording) {
        bool can_be_direct = gpu_choice_is_direct(choice->protocol) && group->table.kind != ARENA_NONE;
        registry_take(group->options.registry, recorded, operation, call->lane, can_be_direct, &grant);
    }
    status = launch_all(group, operation, call, choice, state.recording ? &grant : NULL, &launched);
    if (status != TUTTI_OK) {
        recorded_break(recorded, tutti_last_error());
    }
    if (status != TUTTI_OK && launched > 0 && state.recording) {
        recording_spoil(driver, call->stream);
    }
    if (!state.recording) {
        group->launched[call->lane] += launched;
    }
    if (status != TUTTI_OK) {
        status = call_refused(group, operation, call, status);
    }
    if (status != TUTTI_OK && launched > 0 && !state.recording) {
        call_torn(group, operation, status);
    }
    if (status == TUTTI_OK && state.recording) {
        status = recording_end(driver, recorded, call->lane, call->stream);
        if (status != TUTTI_OK) {
            recorded_break(recorded, tutti_last_error());
        }
    }
    if (status == TUTTI_OK) {
        call_count(group, operation, choice->protocol, state.recording);
    }
    return status;
}

tutti_status gpu_group_call(struct group *group, const struct operation *operation, const tutti_call *call,
                            bool can_block)
{
    struct gpu_choice choice;
    struct operation copy;
    gpu_choice_make(&choice, operation, &group->terms);
    struct context_scope scope;
    tutti_status status = check_stream(group, operation, call, can_block);
    if (status == TUTTI_OK) {
        status = context_enter(group->device, CONTEXT_ENQUEUES, &scope);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    status = operation_check_memory(group->device, group->options.world, operation, call->stream);
    if (status == TUTTI_ERR_CAPTURE) { /* it may be memory of the graph that was lost: the stream says more */
        struct stream_state state;
        (void)stream_look(group, operation, call, &state);
    }
    if (status == TUTTI_OK && choice.protocol == GPU_LOCAL && choice.launches > 0) {
        copy = as_copy(operation);
        operation = &copy;
        gpu_choice_make(&choice, operation, &group->terms);
    }
    if (status == TUTTI_OK) {
        status = call_enqueue(group, operation, call, &choice);
    }
    context_leave(&scope);
    return status;
}

tutti_status call_trial(struct group *group)
{
    const struct operation barrier = {.kind = TUTTI_BARRIER};
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = group->stream};
    struct gpu_choice choice;
    uint64_t launched = 0;
    gpu_choice_make(&choice, &barrier, &group->terms);
    tutti_status status = launch_all(group, &barrier, &call, &choice, NULL, &launched);
    group->launched[0] += launched;
    return status;
}
