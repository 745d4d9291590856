/* SPDX-License-Identifier: Apache-2.0 */
/*
 * note.c - failures, between the device and the communicator. The page is host memory that kernels write and read: a
 * kernel that loses patience fills in the note; the host says in it who is gone and how long to wait. Nothing
 * here calls the driver, so the watchdog may do it while anybody captures.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/error.h"
#include "collective/signature.h"
#include "device/gpu/group.h"

#define ALL_RANKS UINT64_MAX
#define GRACE_MS 2000u

static uint32_t note_state(const struct failure_note *note)
{
    return __atomic_load_n(&note->state, __ATOMIC_ACQUIRE);
}

/* Written here, read by kernels. */
static void note_tell(uint64_t *word, uint64_t value)
{
    _Atomic uint64_t *shared = (_Atomic uint64_t *)word;
    if (atomic_load_explicit(shared, memory_order_relaxed) != value) {
        atomic_store_explicit(shared, value, memory_order_release);
    }
}

static int peer_of(const struct group *group, const struct failure_note *note)
{
    return note->peer < (uint32_t)group->options.world ? (int)note->peer : group->options.rank;
}

static void sentence_departed(const struct group *group, const struct failure_note *note, const char *mine,
                              struct failure *failure)
{
    failure->status = TUTTI_ERR_PEER_LOST;
    (void)snprintf(failure->sentence, sizeof(failure->sentence),
                   "rank %d destroyed its communicator while rank %d waits for it in call %" PRIu64 " of lane %" PRIu32
                   ", %s",
                   failure->culprit, group->options.rank, note->call, note->lane, mine);
}

static void sentence_mismatch(const struct group *group, const struct failure_note *note, const char *mine,
                              const char *theirs, struct failure *failure)
{
    failure->status = TUTTI_ERR_MISMATCH;
    (void)snprintf(failure->sentence, sizeof(failure->sentence),
                   "ranks differ in call %" PRIu64 " of lane %" PRIu32 ": rank %d calls %s, rank %d calls %s",
                   note->call, note->lane, group->options.rank, mine, failure->culprit, theirs);
}

static void sentence_timeout(const struct group *group, const struct failure_note *note, const char *mine,
                             const char *theirs, struct failure *failure)
{
    failure->status = TUTTI_ERR_TIMEOUT;
    int used =
        snprintf(failure->sentence, sizeof(failure->sentence),
                 "rank %d waited %" PRIu64 " ms for rank %d in call %" PRIu64 " of lane %" PRIu32 ", %s; rank %d ",
                 group->options.rank, note->waited_ns / 1000000u, failure->culprit, note->call, note->lane, mine,
                 failure->culprit);
    size_t left = sizeof(failure->sentence) - (size_t)used;
    if (note->peer_signature == 0 && note->peer_call == 0) {
        (void)snprintf(failure->sentence + used, left, "has made no call yet");
    } else if (note->peer_call < note->call) {
        (void)snprintf(failure->sentence + used, left, "last made call %" PRIu64 ", %s", note->peer_call, theirs);
    } else {
        (void)snprintf(failure->sentence + used, left, "is in call %" PRIu64 ", %s", note->peer_call, theirs);
    }
}

/* The kernel's note as a failure. */
static void note_read(const struct group *group, const struct failure_note *note, struct failure *failure)
{
    char mine[SIGNATURE_TEXT_BYTES];
    char theirs[SIGNATURE_TEXT_BYTES];
    signature_describe(note->signature, mine, sizeof(mine));
    signature_describe(note->peer_signature, theirs, sizeof(theirs));
    *failure = (struct failure){.reporter = group->options.rank, .culprit = peer_of(group, note)};
    bool departed = (__atomic_load_n(&note->given_up, __ATOMIC_RELAXED) >> failure->culprit & 1) != 0;
    if (note->peer_call == note->call && note->peer_signature != 0 && note->peer_signature != note->signature) {
        sentence_mismatch(group, note, mine, theirs, failure);
    } else if (departed) {
        sentence_departed(group, note, mine, failure);
    } else {
        sentence_timeout(group, note, mine, theirs, failure);
    }
}

/* A rank withdraws its extension when it enqueues the call that it was for. Until that has come through, whoever has waited by
 * the extension's grace must go on waiting. */
static void tell_extension(struct group *group, uint64_t extra_ns)
{
    uint64_t *told_ns = &group->page->note.extra_ns;
    uint64_t grace_ms = group->options.timeout_ms < GRACE_MS ? group->options.timeout_ms : GRACE_MS;
    uint64_t since_ns = atomic_load_explicit(&group->withdrawn_ns, memory_order_relaxed);
    bool less = extra_ns < __atomic_load_n(told_ns, __ATOMIC_RELAXED);
    if (less && since_ns == 0) {
        atomic_store_explicit(&group->withdrawn_ns, clock_now_ns(), memory_order_relaxed);
    } else if (!less || clock_now_ns() - since_ns > grace_ms * 1000000u) {
        atomic_store_explicit(&group->withdrawn_ns, 0, memory_order_relaxed);
        note_tell(told_ns, extra_ns);
    }
}

static void tell_device(struct group *group)
{
    const struct group_options *options = &group->options;
    uint64_t given_up = 0;
    uint64_t extra_ms = 0;
    for (int rank = 0; rank < options->world; rank++) {
        if (rank == options->rank) {
            continue;
        }
        uint64_t more_ms = options->extension_ms(options->user, rank);
        extra_ms = more_ms > extra_ms ? more_ms : extra_ms;
        given_up |= (uint64_t)options->departed(options->user, rank) << rank;
    }
    if (atomic_load_explicit(options->failed, memory_order_acquire) != 0) {
        given_up = ALL_RANKS;
    }
    tell_extension(group, extra_ms * 1000000u);
    if (__atomic_load_n(&group->page->note.given_up, __ATOMIC_RELAXED) != ALL_RANKS) {
        note_tell(&group->page->note.given_up, given_up);
    }
}

bool gpu_group_poll(struct group *group)
{
    const struct failure_note *note = &group->page->note;
    bool trial = atomic_load_explicit(&group->trial_timeout_ns, memory_order_relaxed) != 0; /* reports for itself */
    if (!trial && note_state(note) == 2 && atomic_exchange(&group->reported, 1) == 0) {
        struct failure failure;
        note_read(group, note, &failure);
        group->options.fail(group->options.user, &failure);
    }
    tell_device(group);
    return !trial && __atomic_load_n(&note->poisoned, __ATOMIC_ACQUIRE) != 0;
}

void gpu_group_wake(struct group *group)
{
    note_tell(&group->page->note.given_up, ALL_RANKS);
}
