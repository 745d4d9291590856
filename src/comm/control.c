/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/control.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define WRITER_PATIENCE 200 /* milliseconds: a writer copies 300 bytes */

bool control_fail(struct control *control, const struct failure *failure)
{
    uint32_t state = CONTROL_SOUND;
    if (!atomic_compare_exchange_strong(&control->failure_state, &state, CONTROL_FAILING)) {
        return false;
    }
    control->failure_status = failure->status;
    control->failure_reporter = failure->reporter;
    control->failure_culprit = failure->culprit;
    memcpy(control->failure_sentence, failure->sentence, sizeof(control->failure_sentence));
    atomic_store_explicit(&control->failure_state, CONTROL_FAILED, memory_order_release);
    return true;
}

static bool rank_legal(int rank, int world)
{
    return rank >= 0 && rank < world;
}

bool control_failure(const struct control *control, int world, struct failure *failure)
{
    uint32_t state = atomic_load_explicit(&control->failure_state, memory_order_acquire);
    if (state == CONTROL_SOUND) {
        return false;
    }
    for (int waited_ms = 0; state != CONTROL_FAILED && waited_ms < WRITER_PATIENCE; waited_ms++) {
        struct timespec pause = {0, 1000000};
        (void)nanosleep(&pause, NULL);
        state = atomic_load_explicit(&control->failure_state, memory_order_acquire);
    }
    if (state != CONTROL_FAILED) {
        *failure = (struct failure){TUTTI_ERR_PEER_LOST, -1, -1, "a rank's process ended while it reported a failure"};
        return true;
    }
    int32_t status = control->failure_status;
    failure->status =
        status < 0 && status >= TUTTI_ERR_ABORTED ? (tutti_status)status : TUTTI_ERR_SYSTEM; /* a peer wrote it */
    failure->reporter = rank_legal(control->failure_reporter, world) ? control->failure_reporter : -1;
    failure->culprit = rank_legal(control->failure_culprit, world) ? control->failure_culprit : -1;
    memcpy(failure->sentence, control->failure_sentence, sizeof(failure->sentence));
    failure->sentence[sizeof(failure->sentence) - 1] = 0;
    return true;
}
