/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - the control page: the first bytes of every rank's segment, where the ranks of a communicator
 * tell each other what is not payload: failures, departures, extensions, and small messages.
 *
 * A page belongs to its rank. Peers write only the failure record (by compare-and-swap: the first wins) and read
 * the rest. Whoever reads a peer's page bounds what he reads: a peer may be of any mind, or half dead.
 * All zero is the initial state.
 */
#ifndef TUTTI_COMM_CONTROL_H
#define TUTTI_COMM_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/device.h"

#define CONTROL_BYTES 4096u
#define CONTROL_MAIL_BYTES 1024u

enum control_failure_state { CONTROL_SOUND = 0, CONTROL_FAILING = 1, CONTROL_FAILED = 2 };

struct control_mail {
    _Atomic uint32_t round; /* what `data` holds; futex word */
    uint32_t bytes;
    unsigned char data[CONTROL_MAIL_BYTES];
};

struct control {
    /* The failure record. Nonzero state ends every wait; FAILED: the rest of the record is complete. */
    _Atomic uint32_t failure_state;
    int32_t failure_status;
    int32_t failure_reporter;
    int32_t failure_culprit;
    char failure_sentence[256];

    _Alignas(64) _Atomic uint32_t departed; /* 1: this rank has left for good */
    _Atomic uint32_t extension_ms;          /* how much longer peers wait for this rank's next call */

    /* Round n of an exchange lies in mail[n & 1]. Two suffice: a rank posts n + 2 after it has collected
     * n + 1, which every peer posted after it had collected n. */
    _Alignas(64) struct control_mail mail[2];
};
_Static_assert(sizeof(struct control) <= CONTROL_BYTES, "the control page is one page");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "control words are shared between processes");

/* Records the failure unless there is one. True if this call was the first. */
bool control_fail(struct control *control, const struct failure *failure);

/* Copies the record into *failure, with every field made legal for `world`. False if the page is sound. A record
 * that stays half written (its writer died) is reported as such. */
bool control_failure(const struct control *control, int world, struct failure *failure);

#endif
