/* SPDX-License-Identifier: Apache-2.0 */
/* commit.h - the calls behind tutti_commit and its kin (src/api/capture.c checks what a rank can check alone). */
#ifndef TUTTI_COMM_COMMIT_H
#define TUTTI_COMM_COMMIT_H

#include "capture/registry.h"
#include "comm/comm.h"

/* [collective] Of one rank (count 1); or of all ranks, by the one thread that drives them (count: the world). */
tutti_status comm_commit(tutti_comm *const *comms, int count);
tutti_status comm_resume(tutti_comm *const *comms, int count);

/* Local: takes the tickets for which `chosen` says so off the direct way and waits until no kernel of this process uses what they hold;
 * then gives that back. They are in `state` afterwards; suspended ones, too, if that is staged. ARGUMENT: that has been done, but memory that
 * peers had mapped was another by then. DRIVER: everything is as before. */
tutti_status commit_withdraw(tutti_comm *comm, bool (*chosen)(const struct ticket *ticket, const void *user),
                             const void *user, enum ticket_state state);

#endif
