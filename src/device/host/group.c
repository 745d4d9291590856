/* SPDX-License-Identifier: Apache-2.0 */
#include "device/host/group.h"

#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "base/settings.h"
#include "capture/registry.h"
#include "collective/signature.h"
#include "device/host/capture.h"
#include "device/host/poison.h"
#include "device/host/protocol.h"
#include "device/host/simd/float_environment.h"
#include "device/host/simd/simd.h"
#include "device/host/stream.h"
#include "memory/symmetric.h"

#define SPIN_US 3
#define YIELD_US 300 /* a futex's round trip is 20 us and more on virtual machines */

/* A call as a stream or a graph holds it. */
struct held_call {
    struct group *group;
    uint32_t lane;
    bool captured;
    uint64_t capture;               /* that the stream is in; 0: none */
    const void *stream;             /* likewise */
    struct recorded *recorded;      /* the graph that holds it */
    struct symmetric_place *places; /* [2], or NULL; owned */
    struct operation operation;
};

static const char *const kind_names[TUTTI_COLLECTIVE_COUNT] = {"all_reduce", "reduce_scatter", "all_gather",
                                                               "broadcast",  "all_to_all",     "barrier"};

size_t group_shared_bytes(int world, int lanes, size_t message_bytes_max)
{
    return (size_t)lanes * lane_shared_bytes(choice_half_bytes(world, message_bytes_max));
}

/* -- creation and destruction ---------------------------------------------------------------- */

static int usable_cores(void)
{
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

/* How long to poll, then to poll and give the core away in between, before sleeping. Local: it changes no result.
 * Whoever polls without giving way on a core that it shares with the rank it waits for keeps that rank from running; with
 * fewer cores than ranks that is certain, otherwise the scheduler may still have put two ranks on one core beside some other
 * program. Giving way costs a fraction of a microsecond on a core of one's own, so it begins early. */
static void choose_patience(struct group *group)
{
    group->crowded = group->options.world > usable_cores();
    uint64_t spin_us = group->crowded ? 0 : SPIN_US;
    if (settings_given(SETTING_HOST_SPIN_US)) {
        spin_us = settings_number(SETTING_HOST_SPIN_US);
    }
    group->spin_ns = spin_us * 1000;
    group->yield_ns = group->spin_ns + YIELD_US * 1000;
}

static void lay_out_lanes(struct group *group)
{
    size_t world = (size_t)group->options.world;
    size_t lane_bytes = lane_shared_bytes(group->terms.half_bytes);
    for (size_t lane = 0; lane < (size_t)group->options.lanes; lane++) {
        group->lanes[lane].lines = group->lines + lane * world;
        group->lanes[lane].staging = group->staging + lane * world;
        for (size_t rank = 0; rank < world; rank++) {
            unsigned char *base = (unsigned char *)group->options.shared[rank] + lane * lane_bytes;
            group->lines[lane * world + rank] = (struct lane_line *)(void *)base;
            group->staging[lane * world + rank] = base + sizeof(struct lane_line);
        }
    }
}

static void group_release(struct group *group)
{
    if (atomic_fetch_sub(&group->references, 1) == 1) {
        registry_free(group->options.registry);
        symmetric_free_all(group->kept);
        free(group->staging);
        free(group->lines);
        free(group->lanes);
        free(group);
    }
}

tutti_status group_create(const struct group_options *options, struct group **out)
{
    size_t lanes = (size_t)options->lanes;
    size_t lines = lanes * (size_t)options->world;
    struct group *group = calloc(1, sizeof(*group));
    if (group == NULL) {
        return error_set_errno("rank %d: host group", options->rank);
    }
    group->lanes = calloc(lanes, sizeof(*group->lanes));
    group->lines = calloc(lines, sizeof(*group->lines));
    group->staging = calloc(lines, sizeof(*group->staging));
    atomic_store(&group->references, 1);
    if (group->lanes == NULL || group->lines == NULL || group->staging == NULL) {
        group_release(group); /* the registry is the caller's, still */
        return error_set_errno("rank %d: host group of %d lanes", options->rank, options->lanes);
    }
    group->options = *options;
    group->terms = (struct choice_terms){
        .world = options->world,
        .processes = options->processes,
        .half_bytes = choice_half_bytes(options->world, options->message_bytes_max),
        .one_shot_bytes_max = choice_one_shot_bytes_max(options->world, options->processes),
    };
    group->simd = simd_table();
    group->fenced = !lane_register_process();
    choose_patience(group);
    lay_out_lanes(group);
    *out = group;
    return TUTTI_OK;
}

/* Sleeps until a counter of this process is zero; whoever brings it there after `closed` was set wakes us. */
static void wait_for_zero(_Atomic uint32_t *counter)
{
    for (uint32_t value = atomic_load(counter); value != 0; value = atomic_load(counter)) {
        (void)syscall(SYS_futex, counter, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
    }
}

static void count_down(_Atomic uint32_t *counter)
{
    if (atomic_fetch_sub(counter, 1) == 1) {
        (void)syscall(SYS_futex, counter, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
}

void group_settle(struct group *group)
{
    wait_for_zero(&group->queued);
}

void group_keep(struct group *group, struct symmetric *list)
{
    group->kept = list;
}

void group_destroy(struct group *group)
{
    group_settle(group);
    atomic_store(&group->closed, 1);
    for (int lane = 0; lane < group->options.lanes; lane++) {
        /* Only a graph launched elsewhere can still be at it, and its waits are bounded. */
        while (atomic_load(&group->lanes[lane].busy) != 0) {
            (void)usleep(100);
        }
    }
    group_release(group);
}

/* -- running ---------------------------------------------------------------------------------- */

/* A locked addition would cost more than the rest of a small call's bookkeeping; the lane's holder is the only writer. */
static void count_up(_Atomic uint64_t *counter, uint64_t amount)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + amount, memory_order_relaxed);
}

static void count_call(struct host_lane *lane, const struct operation *operation, enum protocol protocol)
{
    count_up(&lane->counts.calls[operation->kind], 1);
    count_up(&lane->counts.protocols[protocol], 1);
    count_up(&lane->counts.bytes, operation->count * choice_unit_bytes(operation));
}

static bool run_protocol(struct group *group, struct host_lane *lane, const struct operation *operation,
                         const struct symmetric_place *places)
{
    struct choice choice;
    choice_make(&choice, operation, &group->terms);
    count_call(lane, operation, choice.protocol);
    lane_begin(lane, group->options.rank, signature_pack(operation));
    struct float_environment environment;
    float_environment_enter(&environment);
    bool done = false;
    switch (choice.protocol) {
    case PROTOCOL_LOCAL:
        done = protocol_local(group, operation);
        break;
    case PROTOCOL_ONE_SHOT:
        done = protocol_one_shot(group, lane, operation, &choice);
        break;
    case PROTOCOL_TWO_SHOT:
        done = protocol_two_shot(group, lane, operation, &choice);
        break;
    case PROTOCOL_EXCHANGE:
        done = protocol_exchange(group, lane, operation, &choice);
        break;
    case PROTOCOL_DIRECT:
        done = protocol_direct(group, lane, operation, &choice, places);
        break;
    case PROTOCOL_COUNT:
        break;
    }
    float_environment_leave(&environment);
    if (done) {
        group->options.call_completed(group->options.user);
    }
    return done;
}

static void report_busy(const struct group *group, uint32_t lane, const struct operation *operation)
{
    struct failure failure = {
        .status = TUTTI_ERR_ARGUMENT, .reporter = group->options.rank, .culprit = group->options.rank};
    (void)snprintf(failure.sentence, sizeof(failure.sentence),
                   "rank %d: %s on lane %" PRIu32 " began while another call of this rank runs on that lane: order the "
                   "two by an event, or give them different lanes",
                   group->options.rank, kind_names[operation->kind], lane);
    group->options.fail(group->options.user, &failure);
}

/* What the holder of a lane does with it. */
static tutti_status run_held(struct group *group, struct host_lane *lane, const struct operation *operation,
                             const struct symmetric_place *places)
{
    if (atomic_load_explicit(&group->closed, memory_order_relaxed) != 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "a graph replayed %s of a communicator that has been destroyed",
                         kind_names[operation->kind]);
    }
    if (atomic_load_explicit(group->options.failed, memory_order_acquire) == 0 &&
        run_protocol(group, lane, operation, places)) {
        return TUTTI_OK;
    }
    return group->options.status(group->options.user);
}

tutti_status group_run(struct group *group, uint32_t index, const struct operation *operation,
                       const struct symmetric_place *places)
{
    struct host_lane *lane = &group->lanes[index];
    tutti_status status;
    /* Sequentially consistent: either destruction sees the lane taken, or this sees the group closed. */
    if (atomic_exchange(&lane->busy, 1) == 0) {
        status = run_held(group, lane, operation, places);
        atomic_store_explicit(&lane->busy, 0, memory_order_release);
    } else {
        report_busy(group, index, operation);
        status = group->options.status(group->options.user);
    }
    if (status != TUTTI_OK) {
        poison_result(operation, group->options.rank, group->options.world);
    }
    return status;
}

/* -- enqueueing ------------------------------------------------------------------------------- */

static tutti_status held_run(void *payload)
{
    const struct held_call *held = payload;
    return group_run(held->group, held->lane, &held->operation, held->places);
}

static void held_drop(void *payload)
{
    struct held_call *held = payload;
    if (!held->captured) {
        count_down(&held->group->queued);
    }
    if (held->recorded != NULL) {
        recorded_let_go(held->recorded);
    }
    group_release(held->group);
    free(held->places);
    free(held);
}

/* It waits for a launch now, which destruction does not wait for. */
static void held_recorded(void *payload)
{
    struct held_call *held = payload;
    struct registry *registry = held->group->options.registry;
    struct ticket_grant grant;
    held->captured = true;
    held->recorded = registry_graph(registry, held->capture, held->stream);
    if (held->recorded != NULL) {
        recorded_hold(held->recorded);
        registry_take(registry, held->recorded, &held->operation, held->lane, false, &grant);
    }
    atomic_fetch_add_explicit(&held->group->captured, 1, memory_order_relaxed);
    count_down(&held->group->queued);
}

tutti_status group_stream(struct group *group, const void *stream, struct device_stream *out)
{
    (void)group;
    tutti_host_capture_status status = TUTTI_HOST_CAPTURE_NONE;
    tutti_host_stream *asked = (tutti_host_stream *)(uintptr_t)stream;
    *out = (struct device_stream){DEVICE_STREAM_IDLE, 0};
    if (asked != NULL && capture_part_open(stream_part(asked))) {
        capture_ask(stream_part(asked), &status, &out->capture);
    }
    if (status == TUTTI_HOST_CAPTURE_ACTIVE) {
        out->state = DEVICE_STREAM_CAPTURING;
    } else if (status == TUTTI_HOST_CAPTURE_INVALIDATED) {
        out->state = DEVICE_STREAM_INVALIDATED;
    }
    return TUTTI_OK;
}

/* Where the buffers lie in tutti_alloc's memory. Now, by the thread that uses the communicator: others must not look. */
static bool places_find(const struct group *group, const struct operation *operation, struct symmetric_place places[2])
{
    const struct group_options *options = &group->options;
    size_t bytes = operation->count * choice_unit_bytes(operation);
    return operation->kind == TUTTI_ALL_REDUCE && bytes >= CHOICE_VOTE_BYTES_MIN && options->processes > 1 &&
           options->symmetric(options->user, operation->src, bytes, &places[0]) &&
           options->symmetric(options->user, operation->dst, bytes, &places[1]);
}

/* A call that could not be recorded, in a capture that goes on without it: the peers' graphs have it. */
static void call_missed(struct group *group, const struct device_stream *stream, const tutti_call *call)
{
    if (stream->state == DEVICE_STREAM_CAPTURING) {
        recorded_break(registry_graph(group->options.registry, stream->capture, call->stream), tutti_last_error());
    }
}

static tutti_status enqueue(struct group *group, const struct operation *operation, const tutti_call *call)
{
    struct device_stream stream;
    (void)group_stream(group, call->stream, &stream);
    struct held_call *held = malloc(sizeof(*held));
    if (held == NULL) {
        tutti_status status = error_set(TUTTI_ERR_SYSTEM, "%s: no memory to enqueue it", kind_names[operation->kind]);
        call_missed(group, &stream, call);
        return status;
    }
    *held = (struct held_call){group, call->lane, false, stream.capture, call->stream, NULL, NULL, *operation};
    struct symmetric_place places[2];
    if (places_find(group, operation, places)) {
        held->places = malloc(sizeof(places)); /* without it the call is staged */
        if (held->places != NULL) {
            memcpy(held->places, places, sizeof(places));
        }
    }
    struct work work = {
        .run = held_run,
        .drop = held_drop,
        .recorded = held_recorded,
        .payload = held,
        .name = kind_names[operation->kind],
        .chain = &group->lanes[call->lane],
        .collective = true,
    };
    /* Counted first: the stream may have run and dropped it before submit returns. */
    atomic_fetch_add(&group->references, 1);
    atomic_fetch_add(&group->queued, 1);
    tutti_status status = stream_submit(call->stream, &work);
    if (status != TUTTI_OK) {
        if (status == TUTTI_ERR_CAPTURE) {
            registry_invalidated(group->options.registry, stream.capture, call->stream, kind_names[operation->kind]);
        } else {
            call_missed(group, &stream, call);
        }
        held_drop(held);
    }
    return status;
}

tutti_status group_call(struct group *group, const struct operation *operation, const tutti_call *call, bool can_block)
{
    if (call->stream != NULL) {
        return enqueue(group, operation, call);
    }
    if (!can_block) {
        return error_set(
            TUTTI_ERR_ARGUMENT,
            "%s on the NULL stream would wait for ranks that this thread has yet to call: the communicator "
            "was made by tutti_comm_create_all, so pass a stream of its own for each rank",
            kind_names[operation->kind]);
    }
    struct symmetric_place places[2];
    return group_run(group, call->lane, operation, places_find(group, operation, places) ? places : NULL);
}

/* -- asking ----------------------------------------------------------------------------------- */

void group_stats(struct group *group, tutti_stats *stats)
{
    uint64_t protocols[PROTOCOL_COUNT] = {0};
    for (int lane = 0; lane < group->options.lanes; lane++) {
        const struct lane_counts *counts = &group->lanes[lane].counts;
        for (int kind = 0; kind < TUTTI_COLLECTIVE_COUNT; kind++) {
            stats->calls[kind] += atomic_load_explicit(&counts->calls[kind], memory_order_relaxed);
        }
        for (int protocol = 0; protocol < PROTOCOL_COUNT; protocol++) {
            protocols[protocol] += atomic_load_explicit(&counts->protocols[protocol], memory_order_relaxed);
        }
        stats->bytes += atomic_load_explicit(&counts->bytes, memory_order_relaxed);
        stats->direct_calls += atomic_load_explicit(&counts->direct_calls, memory_order_relaxed);
        stats->direct_bytes += atomic_load_explicit(&counts->direct_bytes, memory_order_relaxed);
        stats->staged_calls += atomic_load_explicit(&counts->staged_calls, memory_order_relaxed);
        stats->staged_bytes += atomic_load_explicit(&counts->staged_bytes, memory_order_relaxed);
        stats->waits_slept += atomic_load_explicit(&counts->slept, memory_order_relaxed);
    }
    stats->captured = atomic_load_explicit(&group->captured, memory_order_relaxed);
    stats->one_shot = protocols[PROTOCOL_ONE_SHOT];
    stats->two_shot = protocols[PROTOCOL_TWO_SHOT];
    stats->exchange = protocols[PROTOCOL_EXCHANGE];
    stats->direct = protocols[PROTOCOL_DIRECT];
    stats->local = protocols[PROTOCOL_LOCAL];
}

void group_plan(const struct group *group, const struct operation *operation, tutti_plan_t *plan)
{
    struct choice choice;
    choice_make(&choice, operation, &group->terms);
    plan->chunks = choice.rounds;
    (void)snprintf(plan->protocol, sizeof(plan->protocol), "%s", choice_protocol_name(choice.protocol));
    (void)snprintf(plan->reason, sizeof(plan->reason), "%s", choice.reason);
}
