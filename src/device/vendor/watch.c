/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - what the watchdog sees of calls that are the vendor's: errors that the vendor has noted, and eager calls that last
 * too long. None of it calls the driver. A replayed graph leaves no mark of when it began, so its waits are not timed; a
 * dead peer is noticed by its connection, as ever.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "collective/signature.h"
#include "device/vendor/group.h"

#define GRACE_MS 2000u

static void report(struct group *group, const struct failure *failure)
{
    if (atomic_exchange(&group->reported, 1) == 0) {
        group->options.fail(group->options.user, failure);
    }
}

/* -- errors ------------------------------------------------------------------------------------------- */

/* With the lock. False, with the failure filled in, if the vendor has noted an error. */
static bool lanes_sound(struct group *group, struct failure *failure)
{
    for (int index = 0; index < group->options.lanes; index++) {
        const struct lane *lane = &group->lanes[index];
        vendor_result state = VENDOR_SUCCESS;
        vendor_result asked = group->library->async_error(lane->comm, &state);
        tutti_status status = vendor_check(group, lane, "on its own thread", asked != VENDOR_SUCCESS ? asked : state);
        if (status != TUTTI_OK) {
            *failure = (struct failure){.status = status, .reporter = group->options.rank, .culprit = -1};
            (void)snprintf(failure->sentence, sizeof(failure->sentence), "rank %d: %.230s", group->options.rank,
                           tutti_last_error());
            return false;
        }
    }
    return true;
}

static void errors_look(struct group *group)
{
    struct failure failure;
    bool sound = true;
    if (pthread_mutex_trylock(&group->lock) != 0) {
        return; /* whoever holds it asks the vendor himself */
    }
    if (group->ready && !group->abandoned) {
        sound = lanes_sound(group, &failure);
    }
    (void)pthread_mutex_unlock(&group->lock);
    if (!sound) {
        report(group, &failure);
    }
}

/* -- calls that last ------------------------------------------------------------------------------------ */

static uint64_t limit_ns(struct group *group)
{
    uint64_t most_ms = 0;
    for (int rank = 0; rank < group->options.world; rank++) {
        uint64_t more_ms = rank != group->options.rank ? group->options.extension_ms(group->options.user, rank) : 0;
        most_ms = more_ms > most_ms ? more_ms : most_ms;
    }
    /* Withdrawn by the call that it was for, which has yet to come through. */
    uint64_t grace_ms = group->options.timeout_ms < GRACE_MS ? group->options.timeout_ms : GRACE_MS;
    if (most_ms < group->granted_ms && group->withdrawn_ns == 0) {
        group->withdrawn_ns = clock_now_ns();
    } else if (most_ms >= group->granted_ms || clock_now_ns() - group->withdrawn_ns > grace_ms * 1000000u) {
        group->withdrawn_ns = 0;
        group->granted_ms = most_ms;
    }
    return (group->options.timeout_ms + group->granted_ms) * 1000000u;
}

static void call_describe(const struct group *group, int rank, int lane, char text[SIGNATURE_TEXT_BYTES])
{
    uint64_t signature = atomic_load_explicit(&group->shared[rank]->lanes[lane].signature, memory_order_relaxed);
    signature_describe(signature, text, SIGNATURE_TEXT_BYTES);
}

/* Who has not come to call `number` of the lane, or has come with another one; -1 if the host sees nothing of the kind. */
static int culprit_find(const struct group *group, int lane, uint32_t number, bool *differs)
{
    const struct vendor_shared *own = group->shared[group->options.rank];
    for (int rank = 0; rank < group->options.world; rank++) {
        const struct vendor_shared *theirs = group->shared[rank];
        uint32_t calls = atomic_load_explicit(&theirs->lanes[lane].calls, memory_order_acquire);
        *differs = calls == number && atomic_load_explicit(&own->lanes[lane].calls, memory_order_relaxed) == number &&
                   atomic_load_explicit(&theirs->lanes[lane].signature, memory_order_relaxed) !=
                       atomic_load_explicit(&own->lanes[lane].signature, memory_order_relaxed);
        if (calls < number || *differs) {
            return rank;
        }
    }
    return -1;
}

static void report_late(struct group *group, int lane, uint32_t number, uint64_t waited_ns)
{
    bool differs = false;
    char theirs[SIGNATURE_TEXT_BYTES];
    char mine[SIGNATURE_TEXT_BYTES];
    struct failure failure = {.status = TUTTI_ERR_TIMEOUT, .reporter = group->options.rank};
    failure.culprit = culprit_find(group, lane, number, &differs);
    int rank = failure.culprit;
    call_describe(group, group->options.rank, lane, mine);
    call_describe(group, rank >= 0 ? rank : group->options.rank, lane, theirs);
    if (differs) {
        failure.status = TUTTI_ERR_MISMATCH;
        (void)snprintf(failure.sentence, sizeof(failure.sentence),
                       "ranks differ in call %" PRIu32 " of lane %d: rank %d calls %s, rank %d calls %s", number, lane,
                       group->options.rank, mine, rank, theirs);
    } else if (rank >= 0) {
        uint32_t calls = atomic_load_explicit(&group->shared[rank]->lanes[lane].calls, memory_order_relaxed);
        (void)snprintf(failure.sentence, sizeof(failure.sentence),
                       "rank %d waited %" PRIu64 " ms for rank %d in call %" PRIu32 " of lane %d; rank %d %s %" PRIu32
                       "%s%s",
                       group->options.rank, waited_ns / 1000000u, rank, number, lane, rank,
                       calls == 0 ? "has made no call yet:" : "last made call", calls, calls == 0 ? "" : ", ",
                       calls == 0 ? "" : theirs);
    } else {
        (void)snprintf(failure.sentence, sizeof(failure.sentence),
                       "rank %d waited %" PRIu64 " ms in call %" PRIu32
                       " of lane %d, which all ranks have enqueued: one of their devices has not come to it",
                       group->options.rank, waited_ns / 1000000u, number, lane);
    }
    report(group, &failure);
}

static void calls_look(struct group *group)
{
    for (int index = 0; index < group->options.lanes; index++) {
        struct lane *lane = &group->lanes[index];
        uint32_t ended = atomic_load_explicit(&group->page->ended[index], memory_order_acquire);
        uint32_t began = atomic_load_explicit(&group->page->began[index], memory_order_acquire);
        if (began == ended || began != lane->watched) {
            lane->watched = began;
            patience_begin(&lane->patience);
        } else if (patience_look(&lane->patience) > limit_ns(group)) {
            report_late(group, index, began, lane->patience.waited_ns);
        }
    }
}

bool vendor_group_poll(struct group *group)
{
    if (atomic_load_explicit(group->options.failed, memory_order_acquire) == 0) {
        errors_look(group);
    }
    /* One thread at a time: the watchdog's, or one that asks for the status. */
    if (atomic_flag_test_and_set(&group->watching)) {
        return false;
    }
    calls_look(group);
    atomic_flag_clear(&group->watching);
    return false; /* the failures that it finds, it reports */
}

void vendor_group_wake(struct group *group)
{
    (void)group; /* whoever waits on the host looks at the mark by himself, and the device is told by group_abandon */
}
