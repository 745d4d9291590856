/* SPDX-License-Identifier: Apache-2.0 */
#include "device/host/lane.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "collective/signature.h"
#include "device/host/group.h"

/*
 * Sleeping without a fence in the publisher.
 *
 * A sleeper announces itself (sleepers + 1), looks at the step once more, and sleeps. A publisher stores the
 * step and looks at `sleepers`. Each must not miss the other, which takes a full fence between store and load on
 * both sides; but publishing is the hot path, and a fence there waits until the line that all peers poll has come
 * back. So the sleeper pays for both: membarrier(2) makes every running thread of the processes that
 * registered execute a fence. If it is not to be had (an old kernel, a strict container), publishers fence
 * themselves; a process cannot know which of its peers could register, so each publisher decides by its own
 * registration, and every sleeper calls membarrier and sleeps briefly if that fails.
 */
#define SLEEP_NS_MAX CLOCK_STEP_NS_MAX
#define SLEEP_NS_UNFENCED 200000u

#define POLLS_BEFORE_CLOCK 64

size_t lane_shared_bytes(size_t half_bytes)
{
    return sizeof(struct lane_line) + 2 * half_bytes;
}

bool lane_register_process(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline bool has_arrived(const struct lane_line *line, uint64_t step)
{
    return atomic_load_explicit(&line->step, memory_order_acquire) >= step;
}

/* The futex word: the half of `step` that changes. */
static uint32_t *step_word(struct lane_line *line)
{
    uint32_t *words = (uint32_t *)(void *)&line->step;
    return words + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 1 : 0);
}

static void wake_sleepers(struct lane_line *line)
{
    (void)syscall(SYS_futex, step_word(line), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void group_wake(struct group *group)
{
    size_t lines = (size_t)group->options.lanes * (size_t)group->options.world;
    for (size_t index = 0; index < lines; index++) {
        wake_sleepers(group->lines[index]);
    }
}

void lane_begin(struct host_lane *lane, int rank, uint64_t signature)
{
    struct lane_line *line = lane->lines[rank];
    lane->call++;
    atomic_store_explicit(&line->signature[lane->call & 1], signature, memory_order_relaxed);
    atomic_store_explicit(&line->call, lane->call, memory_order_relaxed);
}

void lane_publish(struct group *group, struct host_lane *lane)
{
    struct lane_line *line = lane->lines[group->options.rank];
    lane->step++;
    atomic_store_explicit(&line->step, lane->step, memory_order_release);
    if (group->fenced) {
        atomic_thread_fence(memory_order_seq_cst);
    } else {
        atomic_signal_fence(memory_order_seq_cst); /* keeps the compiler's order; the sleeper does the rest */
    }
    if (atomic_load_explicit(&line->sleepers, memory_order_relaxed) != 0) {
        wake_sleepers(line);
    }
}

static bool has_failed(const struct group *group)
{
    return atomic_load_explicit(group->options.failed, memory_order_acquire) != 0;
}

/* Sleeps until the peer publishes, the communicator fails, or a little time has passed. */
static void sleep_for(const struct group *group, struct lane_line *line, uint64_t step)
{
    atomic_fetch_add_explicit(&line->sleepers, 1, memory_order_seq_cst);
    bool ordered = syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
    uint64_t seen = atomic_load_explicit(&line->step, memory_order_seq_cst);
    if (seen < step && !has_failed(group)) {
        struct timespec most = {0, ordered ? SLEEP_NS_MAX : SLEEP_NS_UNFENCED};
        (void)syscall(SYS_futex, step_word(line), FUTEX_WAIT, (uint32_t)seen, &most, NULL, 0);
    }
    atomic_fetch_sub_explicit(&line->sleepers, 1, memory_order_relaxed);
}

static void report_departed(const struct group *group, const struct host_lane *lane, int peer)
{
    char mine[SIGNATURE_TEXT_BYTES];
    uint64_t signature = atomic_load(&lane->lines[group->options.rank]->signature[lane->call & 1]);
    signature_describe(signature, mine, sizeof(mine));
    struct failure failure = {.status = TUTTI_ERR_PEER_LOST, .reporter = group->options.rank, .culprit = peer};
    (void)snprintf(failure.sentence, sizeof(failure.sentence),
                   "rank %d destroyed its communicator while rank %d waits for it in call %" PRIu64 ", %s", peer,
                   group->options.rank, lane->call, mine);
    group->options.fail(group->options.user, &failure);
}

static void report_timeout(const struct group *group, const struct host_lane *lane, int peer, uint64_t waited_ms)
{
    const struct lane_line *line = lane->lines[peer];
    uint64_t call = atomic_load(&line->call);
    char mine[SIGNATURE_TEXT_BYTES];
    char theirs[SIGNATURE_TEXT_BYTES];
    signature_describe(atomic_load(&lane->lines[group->options.rank]->signature[lane->call & 1]), mine, sizeof(mine));
    signature_describe(atomic_load(&line->signature[call & 1]), theirs, sizeof(theirs));
    struct failure failure = {.status = TUTTI_ERR_TIMEOUT, .reporter = group->options.rank, .culprit = peer};
    int used = snprintf(failure.sentence, sizeof(failure.sentence),
                        "rank %d waited %" PRIu64 " ms for rank %d in call %" PRIu64 ", %s; rank %d ",
                        group->options.rank, waited_ms, peer, lane->call, mine, peer);
    size_t left = sizeof(failure.sentence) - (size_t)used;
    if (call == 0) {
        (void)snprintf(failure.sentence + used, left, "has made no call yet");
    } else if (call < lane->call) {
        (void)snprintf(failure.sentence + used, left, "last made call %" PRIu64 ", %s", call, theirs);
    } else {
        (void)snprintf(failure.sentence + used, left, "is in call %" PRIu64 ", %s", call, theirs);
    }
    group->options.fail(group->options.user, &failure);
}

/* False after reporting that waiting on is pointless. */
static bool may_wait_on(const struct group *group, const struct host_lane *lane, int peer, uint64_t waited_ns)
{
    const struct group_options *options = &group->options;
    uint64_t waited_ms = waited_ns / 1000000u;
    if (waited_ms >= options->timeout_ms &&
        waited_ms >= (uint64_t)options->timeout_ms + options->extension_ms(options->user, peer)) {
        report_timeout(group, lane, peer, waited_ms);
        return false;
    }
    /* It may have published its last step just before it left. */
    if (options->departed(options->user, peer) && !has_arrived(lane->lines[peer], lane->step)) {
        report_departed(group, lane, peer);
        return false;
    }
    return true;
}

static bool wait_long(struct group *group, struct host_lane *lane, int peer)
{
    struct lane_line *line = lane->lines[peer];
    struct patience patience;
    patience_begin(&patience);
    for (uint64_t waited_ns = 0;; waited_ns = patience_look(&patience)) {
        if (waited_ns < group->spin_ns) {
            for (int poll = 0; poll < POLLS_BEFORE_CLOCK && !has_arrived(line, lane->step); poll++) {
                relax();
            }
        } else if (waited_ns < group->yield_ns) {
            (void)sched_yield();
        } else {
            atomic_fetch_add_explicit(&lane->counts.slept, 1, memory_order_relaxed);
            sleep_for(group, line, lane->step);
        }
        if (has_arrived(line, lane->step)) {
            return true;
        }
        if (has_failed(group)) {
            return false;
        }
        if (waited_ns >= group->yield_ns && !may_wait_on(group, lane, peer, waited_ns)) {
            return false;
        }
    }
}

bool lane_wait(struct group *group, struct host_lane *lane)
{
    int world = group->options.world;
    /* From the next rank on, so that not all ranks wait for the same one first. */
    for (int offset = 1; offset < world; offset++) {
        int peer = group->options.rank + offset;
        peer -= peer >= world ? world : 0;
        if (!has_arrived(lane->lines[peer], lane->step) && !wait_long(group, lane, peer)) {
            return false;
        }
    }
    return true;
}

bool lane_agree(struct group *group, struct host_lane *lane)
{
    int rank = group->options.rank;
    uint64_t mine = atomic_load_explicit(&lane->lines[rank]->signature[lane->call & 1], memory_order_relaxed);
    for (int peer = 0; peer < group->options.world; peer++) {
        uint64_t theirs = atomic_load_explicit(&lane->lines[peer]->signature[lane->call & 1], memory_order_relaxed);
        if (theirs == mine) {
            continue;
        }
        char texts[2][SIGNATURE_TEXT_BYTES];
        signature_describe(mine, texts[0], sizeof(texts[0]));
        signature_describe(theirs, texts[1], sizeof(texts[1]));
        struct failure failure = {.status = TUTTI_ERR_MISMATCH, .reporter = rank, .culprit = peer};
        (void)snprintf(failure.sentence, sizeof(failure.sentence),
                       "ranks differ in call %" PRIu64 " of lane %d: rank %d calls %s, rank %d calls %s", lane->call,
                       (int)(lane - group->lanes), rank, texts[0], peer, texts[1]);
        group->options.fail(group->options.user, &failure);
        return false;
    }
    return true;
}
