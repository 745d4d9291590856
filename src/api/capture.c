/* SPDX-License-Identifier: Apache-2.0 */
/* capture.c - the public calls on what was captured. */
#include "base/error.h"
#include "comm/commit.h"
#include "comm/session.h"

static tutti_status check_alone(const char *call, const tutti_comm *comm)
{
    tutti_status status = comm_check(comm);
    if (status == TUTTI_OK && comm->one_thread_drives_all) {
        status = error_set(TUTTI_ERR_UNSUPPORTED,
                           "%s would wait for ranks that this thread has yet to call: use %s_all", call, call);
    }
    return status;
}

static tutti_status check_all(const char *call, tutti_comm *const *comms, int world)
{
    if (comms == NULL) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: comms is NULL", call);
    }
    if (world < 1 || world > TUTTI_WORLD_MAX) {
        return error_set(TUTTI_ERR_ARGUMENT, "%s: world %d is not from 1 to %d", call, world, TUTTI_WORLD_MAX);
    }
    for (int rank = 0; rank < world; rank++) {
        tutti_status status = comm_check(comms[rank]);
        if (status != TUTTI_OK) {
            return status;
        }
        if (!comm_is_of_family(comms[rank], comms[0], rank, world)) {
            return error_set(TUTTI_ERR_ARGUMENT,
                             "%s: comms[%d] is not rank %d of %d that one tutti_comm_create_all made", call, rank, rank,
                             world);
        }
    }
    return TUTTI_OK;
}

tutti_status tutti_commit(tutti_comm *comm)
{
    tutti_status status = check_alone("tutti_commit", comm);
    return status == TUTTI_OK ? comm_commit(&comm, 1) : status;
}

tutti_status tutti_resume(tutti_comm *comm)
{
    tutti_status status = check_alone("tutti_resume", comm);
    return status == TUTTI_OK ? comm_resume(&comm, 1) : status;
}

tutti_status tutti_commit_all(tutti_comm *const *comms, int world)
{
    tutti_status status = check_all("tutti_commit_all", comms, world);
    return status == TUTTI_OK ? comm_commit(comms, world) : status;
}

tutti_status tutti_resume_all(tutti_comm *const *comms, int world)
{
    tutti_status status = check_all("tutti_resume_all", comms, world);
    return status == TUTTI_OK ? comm_resume(comms, world) : status;
}

tutti_status tutti_suspend(tutti_comm *comm, const void *pointer, size_t bytes)
{
    tutti_status status = comm_check(comm);
    if (status == TUTTI_OK && (pointer == NULL || bytes == 0 || bytes > UINTPTR_MAX - (uintptr_t)pointer)) {
        status = error_set(TUTTI_ERR_ARGUMENT, "tutti_suspend: %zu bytes at %p are no memory", bytes, pointer);
    }
    return status == TUTTI_OK ? comm_suspend(comm, pointer, bytes) : status;
}

tutti_status tutti_capture_begin(tutti_comm *comm, tutti_stream stream, tutti_capture **capture)
{
    tutti_status status = comm_check(comm);
    if (status == TUTTI_OK && (stream == NULL || capture == NULL)) {
        status = error_set(TUTTI_ERR_ARGUMENT, "tutti_capture_begin: %s is NULL",
                           capture == NULL ? "capture" : "stream, and the NULL stream cannot be captured,");
    }
    return status == TUTTI_OK ? session_begin(comm, stream, capture) : status;
}

static tutti_status check_session(const char *call, const tutti_capture *capture)
{
    return capture == NULL ? error_set(TUTTI_ERR_ARGUMENT, "%s: capture is NULL", call)
                           : comm_check(session_comm(capture));
}

tutti_status tutti_capture_commit(tutti_capture *capture)
{
    tutti_status status = check_session("tutti_capture_commit", capture);
    return status == TUTTI_OK ? session_commit(capture) : status;
}

tutti_status tutti_capture_abort(tutti_capture *capture)
{
    tutti_status status = check_session("tutti_capture_abort", capture);
    return status == TUTTI_OK ? session_abort(capture) : status;
}

tutti_status tutti_capture_release(tutti_capture *capture)
{
    tutti_status status = check_session("tutti_capture_release", capture);
    return status == TUTTI_OK ? session_release(capture) : status;
}
