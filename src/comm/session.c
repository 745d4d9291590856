/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - capture sessions: a name for what is captured between two points, and the checks that only a stream that is
 * known makes possible. The stream lives as long as its session is open, so it may be asked about.
 */
#include "comm/session.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"
#include "capture/registry.h"
#include "capture/share.h"
#include "collective/extent.h"
#include "collective/signature.h"
#include "comm/commit.h"

/* Of sessions that the library opens for itself: callers' are numbered, and the ranks know each other's by the number. One rank may come to
 * open its own where another does not. */
#define SESSION_OWN UINT64_MAX

struct tutti_capture {
    tutti_comm *comm;
    uint64_t session;
    struct tutti_capture *next; /* of the communicator */
};

tutti_comm *session_comm(const tutti_capture *capture)
{
    return capture->comm;
}

static bool is_open(const tutti_capture *capture)
{
    return capture->comm->registry->session == capture->session;
}

static void session_free(tutti_capture *capture)
{
    struct tutti_capture **link = &capture->comm->captures;
    while (*link != capture) {
        link = &(*link)->next;
    }
    *link = capture->next;
    free(capture);
}

void sessions_free(tutti_comm *comm)
{
    while (comm->captures != NULL) {
        session_free(comm->captures);
    }
}

tutti_status session_enter(tutti_comm *comm, tutti_stream stream, bool *entered)
{
    struct registry *registry = comm->registry;
    *entered = false;
    if (registry->session != 0 && registry->session_stream == stream) {
        return TUTTI_OK; /* the caller's own session is meant to take it in */
    }
    if (registry->session != 0) {
        return error_set(TUTTI_ERR_CAPTURE,
                         "rank %d: a capture session is open for stream %p, and this capture is on %p", comm->rank,
                         registry->session_stream, stream);
    }
    registry->session = SESSION_OWN;
    registry->session_stream = stream;
    *entered = true;
    return TUTTI_OK;
}

void session_exit(tutti_comm *comm)
{
    comm->registry->session = 0;
}

/* The graph of a capture that was open before the session is given back, or up, with the session. */
static void graph_adopt(struct registry *registry, uint64_t capture)
{
    for (struct recorded *each = registry->recorded; each != NULL; each = each->next) {
        if (each->pending && each->capture == capture) {
            each->session = registry->session;
        }
    }
}

tutti_status session_begin(tutti_comm *comm, tutti_stream stream, tutti_capture **capture)
{
    struct registry *registry = comm->registry;
    struct device_stream state;
    if (registry->session != 0) {
        return error_set(TUTTI_ERR_CAPTURE,
                         "tutti_capture_begin: the session of stream %p is still open: commit or abort it first",
                         registry->session_stream);
    }
    tutti_status status = comm->ops->group_stream(comm->group, stream, &state);
    if (status == TUTTI_OK && state.state == DEVICE_STREAM_INVALIDATED) {
        status = error_set(TUTTI_ERR_CAPTURE, "tutti_capture_begin: the capture of stream %p is invalid: end it first",
                           stream);
    }
    struct tutti_capture *made = status == TUTTI_OK ? calloc(1, sizeof(*made)) : NULL;
    if (made == NULL) {
        return status != TUTTI_OK ? status : error_set(TUTTI_ERR_SYSTEM, "out of memory for a capture session");
    }
    registry->session = ++registry->last_session;
    registry->session_stream = stream;
    if (state.state == DEVICE_STREAM_CAPTURING) {
        graph_adopt(registry, state.capture);
    }
    *made = (struct tutti_capture){comm, registry->session, comm->captures};
    comm->captures = made;
    *capture = made;
    return TUTTI_OK;
}

static tutti_status refuse_closed(const tutti_capture *capture, const char *call)
{
    return is_open(capture)
               ? TUTTI_OK
               : error_set(TUTTI_ERR_ARGUMENT,
                           "%s: the session is not open: it has been committed, or a peer has aborted it", call);
}

tutti_status session_commit(tutti_capture *capture)
{
    tutti_comm *comm = capture->comm;
    tutti_status status = refuse_closed(capture, "tutti_capture_commit");
    if (status == TUTTI_OK && comm->one_thread_drives_all) {
        status = error_set(TUTTI_ERR_UNSUPPORTED,
                           "tutti_capture_commit would wait for ranks that this thread has yet to call: use "
                           "tutti_commit_all, which commits the open sessions of all ranks");
    }
    return status == TUTTI_OK ? comm_commit(&comm, 1) : status;
}

/* What it captured is given up on all ranks. */
tutti_status session_abort(tutti_capture *capture)
{
    tutti_comm *comm = capture->comm;
    struct registry *registry = comm->registry;
    tutti_status status = refuse_closed(capture, "tutti_capture_abort");
    if (status != TUTTI_OK) {
        return status;
    }
    for (struct recorded *each = registry->recorded; each != NULL; each = each->next) {
        if (each->pending && each->session == capture->session) {
            recorded_break(each, "its capture session was given up");
        }
    }
    registry->abandoned_session = capture->session;
    registry->session = 0;
    if (!comm->one_thread_drives_all) {
        status = comm_commit(&comm, 1);
        status =
            status == TUTTI_ERR_CAPTURE ? comm_check(comm) : status; /* that it was given up is what was asked for */
    }
    session_free(capture);
    return status;
}

static bool is_of_session(const struct ticket *ticket, const void *session)
{
    return ticket->recorded->session == *(const uint64_t *)session;
}

tutti_status session_release(tutti_capture *capture)
{
    struct registry *registry = capture->comm->registry;
    if (is_open(capture)) {
        return error_set(TUTTI_ERR_CAPTURE,
                         "tutti_capture_release: the session of stream %p is still open: commit or abort it",
                         registry->session_stream);
    }
    tutti_status status = commit_withdraw(capture->comm, is_of_session, &capture->session, TICKET_STAGED);
    if (status != TUTTI_OK && status != TUTTI_ERR_ARGUMENT) {
        return status; /* nothing has been given back */
    }
    session_free(capture);
    return status;
}

/* -- the checks ------------------------------------------------------------------------------------------------------ */

/* The stream itself, capturing or not, or another one that takes part in its capture. */
tutti_status session_admit(tutti_comm *comm, const struct operation *operation, const tutti_call *call)
{
    const struct registry *registry = comm->registry;
    struct device_stream here;
    struct device_stream there;
    if (registry->session == 0 || call->stream == registry->session_stream) {
        return TUTTI_OK;
    }
    tutti_status status = comm->ops->group_stream(comm->group, call->stream, &here);
    if (status == TUTTI_OK) {
        status = comm->ops->group_stream(comm->group, registry->session_stream, &there);
    }
    if (status != TUTTI_OK || (here.capture != 0 && here.capture == there.capture)) {
        return status;
    }
    char what[SIGNATURE_TEXT_BYTES];
    signature_describe(signature_pack(operation), what, sizeof(what));
    return error_set(
        TUTTI_ERR_CAPTURE,
        "%s on stream %p (%s): a capture session is open for stream %p, of whose capture this stream is no "
        "part; nothing was enqueued",
        what, call->stream, here.capture != 0 ? "in another capture" : "not capturing", registry->session_stream);
}

/* -- memory that goes away --------------------------------------------------------------------------------------------- */

struct range {
    uint64_t address, bytes;
    size_t world;
    int rank;
};

static bool overlaps(const struct range *range, const void *pointer, uint64_t bytes)
{
    uint64_t address = (uint64_t)(uintptr_t)pointer;
    return address < range->address + range->bytes && range->address < address + bytes;
}

/* Peers have the whole run mapped: none of its allocations can go while a call uses any. */
static bool run_overlaps(const struct range *range, const struct share *share)
{
    if (share == NULL || share->count < 2) {
        return false;
    }
    const struct memory_facts *first = &share->parts[0].facts;
    const struct memory_facts *last = &share->parts[share->count - 1].facts;
    return overlaps(range, (const void *)(uintptr_t)first->start, last->start + last->bytes - first->start);
}

static bool is_in_range(const struct ticket *ticket, const void *user)
{
    const struct range *range = user;
    const struct operation *operation = &ticket->operation;
    return run_overlaps(range, ticket->shares[BUFFER_SRC][range->rank]) ||
           run_overlaps(range, ticket->shares[BUFFER_DST][range->rank]) ||
           overlaps(range, operation->src, extent_src_bytes(operation, range->world)) ||
           overlaps(range, operation->dst, extent_dst_bytes(operation, range->world));
}

tutti_status comm_suspend(tutti_comm *comm, const void *pointer, size_t bytes)
{
    const struct range range = {(uint64_t)(uintptr_t)pointer, bytes, (size_t)comm->world, comm->rank};
    return commit_withdraw(comm, is_in_range, &range, TICKET_SUSPENDED);
}
