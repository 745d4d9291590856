/* SPDX-License-Identifier: Apache-2.0 */
/* session.h - the calls behind tutti_capture_* and tutti_suspend (src/api/capture.c checks what a rank can check alone). */
#ifndef TUTTI_COMM_SESSION_H
#define TUTTI_COMM_SESSION_H

#include "comm/comm.h"

struct operation;

/* All but the commit are local; an abort ends with the collective commit unless one thread drives all ranks. */
tutti_status session_begin(tutti_comm *comm, tutti_stream stream, tutti_capture **capture);
tutti_status session_commit(tutti_capture *capture);
tutti_status session_abort(tutti_capture *capture);
tutti_status session_release(tutti_capture *capture);
tutti_comm *session_comm(const tutti_capture *capture);

/* A session without a handle, for captures of the library's own on `stream`, until session_exit or a commit. *entered: false within one that is
 * open for that stream. CAPTURE: another is open. */
tutti_status session_enter(tutti_comm *comm, tutti_stream stream, bool *entered);
void session_exit(tutti_comm *comm);

/* Whether a call on this stream is what the open session expects. CAPTURE. */
tutti_status session_admit(tutti_comm *comm, const struct operation *operation, const tutti_call *call);

/* All sessions of a communicator that goes away. */
void sessions_free(tutti_comm *comm);

tutti_status comm_suspend(tutti_comm *comm, const void *pointer, size_t bytes);

#endif
