/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - one collective through the vendor's functions, all on the caller's stream. */
#include <stdio.h>

#include "base/error.h"
#include "collective/choice.h"
#include "collective/signature.h"
#include "device/gpu/context.h"
#include "device/gpu/operation_memory.h"
#include "device/vendor/group.h"

#define ROWS_AT_ONCE 64 /* in one of the vendor's groups */

/* -- the vendor's functions ---------------------------------------------------------------------------- */

/* Calls a function of the vendor's; its result, with its name for the sentence. */
#define VENDOR(group, lane, function, ...)                                                                             \
    vendor_check((group), (lane), #function, (group)->library->function(__VA_ARGS__, (lane)->comm, stream))

static int dtype_of(const struct operation *operation)
{
    static const enum vendor_dtype dtypes[] = {
        [TUTTI_F32] = VENDOR_F32, [TUTTI_F16] = VENDOR_F16, [TUTTI_BF16] = VENDOR_BF16};
    return (int)dtypes[operation->dtype];
}

static int op_of(const struct operation *operation)
{
    static const enum vendor_op ops[] = {[TUTTI_SUM] = VENDOR_SUM, [TUTTI_MAX] = VENDOR_MAX, [TUTTI_MIN] = VENDOR_MIN};
    return (int)ops[operation->op];
}

static tutti_status group_begin(const struct group *group, const struct lane *lane)
{
    return vendor_check(group, lane, "group_start", group->library->group_start());
}

/* Also after a failure in between: the vendor counts. */
static tutti_status group_finish(const struct group *group, const struct lane *lane, tutti_status status)
{
    vendor_result result = group->library->group_end();
    return status != TUTTI_OK ? status : vendor_check(group, lane, "group_end", result);
}

/* What one of the vendor's groups holds: the parts for and from every rank. `send` and `receive`: of rank 0's part. */
static tutti_status exchange(struct group *group, const struct lane *lane, driver_stream stream,
                             const unsigned char *send, size_t send_stride, unsigned char *receive,
                             size_t receive_stride, size_t bytes)
{
    tutti_status status = group_begin(group, lane);
    if (status != TUTTI_OK) {
        return status;
    }
    for (int peer = 0; peer < group->options.world && status == TUTTI_OK; peer++) {
        status = VENDOR(group, lane, send, send + (size_t)peer * send_stride, bytes, VENDOR_BYTE, peer);
        if (status == TUTTI_OK) {
            status = VENDOR(group, lane, recv, receive + (size_t)peer * receive_stride, bytes, VENDOR_BYTE, peer);
        }
    }
    return group_finish(group, lane, status);
}

/* What is received would overwrite what is still to be sent: parts of it go through the lane's scratch. */
static tutti_status exchange_in_place(struct group *group, const struct operation *operation, struct lane *lane,
                                      driver_stream stream, uint32_t limit_ms)
{
    size_t world = (size_t)group->options.world;
    size_t most = SCRATCH_BYTES / world;
    driver_address scratch = group->scratch + (size_t)(lane - group->lanes) * SCRATCH_BYTES;
    unsigned char *dst = operation->dst;
    tutti_status status = TUTTI_OK;
    for (size_t first = 0; first < operation->count && status == TUTTI_OK; first += most) {
        size_t bytes = operation->count - first < most ? operation->count - first : most;
        for (size_t peer = 0; peer < world && status == TUTTI_OK; peer++) {
            driver_address from = (uint64_t)(uintptr_t)dst + peer * operation->count + first;
            status = DRIVER(group->device->driver, copy_on_device, scratch + peer * most, from, bytes, stream);
        }
        if (status == TUTTI_OK) {
            status = exchange(group, lane, stream, (const unsigned char *)(uintptr_t)scratch, most, dst + first,
                              operation->count, bytes);
        }
        if (status == TUTTI_OK) {
            status = vendor_await(group, lane, "all_to_all", limit_ms);
        }
    }
    return status;
}

/* Row by row: the ranks' rows follow one another in a row of dst, as the ranks' parts do in all_gather. */
static tutti_status gather_rows(struct group *group, const struct operation *operation, struct lane *lane,
                                driver_stream stream, uint32_t limit_ms)
{
    size_t rows = operation->count / operation->row_bytes;
    const unsigned char *src = operation->src;
    unsigned char *dst = operation->dst;
    tutti_status status = TUTTI_OK;
    for (size_t first = 0; first < rows && status == TUTTI_OK; first += ROWS_AT_ONCE) {
        size_t end = rows - first < ROWS_AT_ONCE ? rows : first + ROWS_AT_ONCE;
        status = group_begin(group, lane);
        if (status != TUTTI_OK) {
            return status;
        }
        for (size_t row = first; row < end && status == TUTTI_OK; row++) {
            status = VENDOR(group, lane, all_gather, src + row * operation->row_bytes,
                            dst + row * operation->dst_stride_bytes, operation->row_bytes, VENDOR_BYTE);
        }
        status = group_finish(group, lane, status);
        if (status == TUTTI_OK) {
            status = vendor_await(group, lane, "all_gather_rows", limit_ms);
        }
    }
    return status;
}

static tutti_status enqueue(struct group *group, const struct operation *operation, struct lane *lane,
                            driver_stream stream, uint32_t limit_ms)
{
    const void *src = operation->src;
    void *dst = operation->dst;
    size_t count = operation->count;
    void *word = (void *)(uintptr_t)(group->scratch + (size_t)(lane - group->lanes) * SCRATCH_BYTES);
    switch (operation->kind) {
    case TUTTI_ALL_REDUCE:
        return VENDOR(group, lane, all_reduce, src, dst, count, dtype_of(operation), op_of(operation));
    case TUTTI_REDUCE_SCATTER:
        return VENDOR(group, lane, reduce_scatter, src, dst, count, dtype_of(operation), op_of(operation));
    case TUTTI_ALL_GATHER:
        if (operation->row_bytes != 0) {
            return gather_rows(group, operation, lane, stream, limit_ms);
        }
        return VENDOR(group, lane, all_gather, src, dst, count, VENDOR_BYTE);
    case TUTTI_BROADCAST:
        return VENDOR(group, lane, broadcast, src, dst, count, VENDOR_BYTE, operation->root);
    case TUTTI_ALL_TO_ALL:
        if (src == dst) {
            return exchange_in_place(group, operation, lane, stream, limit_ms);
        }
        return exchange(group, lane, stream, src, count, dst, count, count);
    case TUTTI_BARRIER:
        break;
    }
    return VENDOR(group, lane, all_reduce, word, word, 1, VENDOR_F32, VENDOR_MAX);
}

tutti_status vendor_enqueue(struct group *group, const struct operation *operation, struct lane *lane,
                            driver_stream stream, uint32_t limit_ms)
{
    tutti_status status = enqueue(group, operation, lane, stream, limit_ms);
    return status == TUTTI_OK ? vendor_await(group, lane, signature_kind_name(operation->kind), limit_ms) : status;
}

/* -- one call ------------------------------------------------------------------------------------------ */

/* Writes the call's number where the watchdog looks, in stream order. */
static tutti_status mark(const struct group *group, size_t offset, uint32_t lane, driver_stream stream)
{
    driver_address at = group->page_address + offset + lane * sizeof(uint32_t);
    return DRIVER(group->device->driver, fill_words, at, group->lanes[lane].launched, 1, stream);
}

static tutti_status call_eager(struct group *group, const struct operation *operation, const tutti_call *call)
{
    struct lane *lane = &group->lanes[call->lane];
    struct vendor_shared *own = group->shared[group->options.rank];
    lane->launched++;
    tutti_status status = mark(group, offsetof(struct watch_page, began), call->lane, call->stream);
    if (status != TUTTI_OK) {
        lane->launched--;
        return status;
    }
    atomic_store_explicit(&own->lanes[call->lane].signature, signature_pack(operation), memory_order_relaxed);
    atomic_store_explicit(&own->lanes[call->lane].calls, lane->launched, memory_order_release);
    status = vendor_enqueue(group, operation, lane, call->stream, group->options.timeout_ms);
    tutti_status marked = mark(group, offsetof(struct watch_page, ended), call->lane, call->stream);
    return status != TUTTI_OK ? status : marked;
}

/* recorded: the graph that the call becomes part of; NULL: none. */
static tutti_status call_enqueue(struct group *group, const struct operation *operation, const tutti_call *call,
                                 struct recorded *recorded)
{
    const struct driver *driver = group->device->driver;
    struct lane *lane = &group->lanes[call->lane];
    if (group->abandoned) {
        return group->options.status(group->options.user);
    }
    tutti_status status = TUTTI_OK;
    if (recorded != NULL) {
        status = vendor_enqueue(group, operation, lane, call->stream, group->options.timeout_ms);
        return status == TUTTI_OK ? recording_end(driver, recorded, call->lane, call->stream) : status;
    }
    return call_eager(group, operation, call);
}

/* The vendor's communicator is of no use after an error, and the peers wait for this call in vain. */
static tutti_status call_broken(struct group *group, const struct operation *operation, tutti_status status)
{
    if (atomic_load_explicit(group->options.failed, memory_order_acquire) == 0) {
        struct failure failure = {.status = status, .reporter = group->options.rank, .culprit = group->options.rank};
        (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d could not enqueue %s: %.190s",
                       group->options.rank, operation_call_name(operation), tutti_last_error());
        group->options.fail(group->options.user, &failure);
    }
    return group->options.status(group->options.user);
}

static void call_count(struct group *group, const struct operation *operation, bool recording)
{
    if (recording) {
        atomic_fetch_add_explicit(&group->captured, 1, memory_order_relaxed);
        return;
    }
    atomic_fetch_add_explicit(&group->calls[operation->kind], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&group->bytes, operation->count * choice_unit_bytes(operation), memory_order_relaxed);
}

static tutti_status call_run(struct group *group, const struct operation *operation, const tutti_call *call)
{
    const struct driver *driver = group->device->driver;
    const char *name = operation_call_name(operation);
    struct registry *registry = group->options.registry;
    struct stream_state state;
    struct recorded *recorded = NULL;
    tutti_status status = operation_check_memory(group->device, group->options.world, operation, call->stream);
    if (status == TUTTI_ERR_CAPTURE) { /* it may be memory of the graph that was lost: the stream says more */
        (void)recording_look_for(driver, registry, call->stream, name, &state);
    }
    if (status == TUTTI_OK) {
        status = recording_look_for(driver, registry, call->stream, name, &state);
    }
    if (status == TUTTI_OK && state.recording) {
        status = recording_begin(driver, registry, call->lane, call->stream, &state, &recorded);
    }
    if (status != TUTTI_OK) {
        return status; /* nothing has been enqueued */
    }
    (void)pthread_mutex_lock(&group->lock);
    status = call_enqueue(group, operation, call, recorded);
    (void)pthread_mutex_unlock(&group->lock);
    if (status != TUTTI_OK) {
        return call_broken(group, operation, status);
    }
    if (recorded != NULL) {
        struct ticket_grant grant;
        registry_take(registry, recorded, operation, call->lane, false, &grant);
    }
    call_count(group, operation, state.recording);
    if (!state.recording) { /* else no peer has waited for it yet */
        group->options.call_completed(group->options.user);
    }
    return TUTTI_OK;
}

tutti_status vendor_group_call(struct group *group, const struct operation *operation, const tutti_call *call,
                               bool can_block)
{
    (void)can_block; /* where one thread drives all ranks there is no such group */
    if (operation->count == 0 && operation->kind != TUTTI_BARRIER) {
        return TUTTI_OK;
    }
    struct context_scope scope;
    /* The vendor allocates at the first use of an algorithm. */
    tutti_status status = context_enter(group->device, CONTEXT_MANAGES, &scope);
    if (status == TUTTI_OK) {
        status = call_run(group, operation, call);
        context_leave(&scope);
    }
    return status;
}
