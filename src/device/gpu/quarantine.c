/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quarantine.c - leaving a communicator, and what outlives that.
 *
 * Destruction waits for this rank's own eager calls: their count on the host against the counter that they leave in the
 * arena, so that no stream has to be known or synchronised. Then there may still be
 *
 *   - graphs that hold calls of the group. Their kernels have our addresses; until the last of them is gone, everything
 *     stays mapped, and a replay finds the mark that ends its waits.
 *   - peers that may write into this rank's arena or tutti_alloc's memory, after a failure above all. VMM memory lives for them as long as they map
 *     it; a plain allocation is kept until each of them has said that it is done, or is dead.
 *
 * Such groups wait here, in a list of the process that is swept whenever a communicator is made or destroyed. Nothing is ever
 * waited for.
 */
#include <pthread.h>
#include <time.h>

#include "base/process.h"
#include "device/gpu/context.h"
#include "device/gpu/group.h"
#include "memory/symmetric.h"

#define PAUSE_NS_FIRST 20000
#define PAUSE_NS_MOST 1000000
#define LEAVE_NS                                                                                                       \
    1000000 /* from a block's last act, which is to count, to the end of its grid: far more than it takes */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct group *quarantined;

/* -- waiting for this rank's own calls ----------------------------------------------------------------- */

/* Whether all eager calls have ended, or the device answers no more. */
static bool calls_over(struct group *group)
{
    uint64_t ended[TUTTI_LANES_MAX];
    bool answers = group_counters_fetch(group, offsetof(struct arena_head, eager), ended) == TUTTI_OK;
    bool complete = true;
    for (int lane = 0; lane < group->options.lanes && answers; lane++) {
        complete = complete && ended[lane] >= group->launched[lane] * EPOCH_UNITS;
    }
    return complete;
}

static void calls_await(struct group *group)
{
    long pause_ns = PAUSE_NS_FIRST;
    if (group_stream_open(group) != TUTTI_OK) {
        return; /* a device that gives no stream runs no kernel either */
    }
    while (!calls_over(group)) {
        const struct timespec pause = {0, pause_ns};
        (void)gpu_group_poll(group); /* a failure ends the waits of our kernels */
        (void)nanosleep(&pause, NULL);
        pause_ns = pause_ns < PAUSE_NS_MOST ? pause_ns * 2 : PAUSE_NS_MOST;
    }
    const struct timespec leave = {0, LEAVE_NS};
    (void)nanosleep(&leave, NULL);
    group_stream_close(group);
}

void gpu_group_settle(struct group *group)
{
    struct context_scope scope;
    if (context_enter(group->device, CONTEXT_MANAGES, &scope) == TUTTI_OK) {
        calls_await(group);
        context_leave(&scope);
    }
}

void gpu_group_keep(struct group *group, struct symmetric *list)
{
    group->kept = list;
}

/* -- the list ----------------------------------------------------------------------------------------- */

/* Unmaps the peers' arenas and tells them so. */
static void peers_close(struct group *group)
{
    int own = group->options.rank;
    symmetric_close_all(group->kept);
    for (int rank = 0; rank < group->options.world; rank++) {
        if (rank != own && group->arenas[rank].kind != ARENA_NONE) {
            arena_release(group->device, &group->arenas[rank]);
        }
        if (rank != own) {
            (void)atomic_fetch_or(&group->shared[rank]->closed_by, (uint64_t)1 << own);
        }
    }
}

static bool peers_closed(const struct group *group)
{
    uint64_t all = ((uint64_t)1 << group->options.world) - 1;
    uint64_t done = atomic_load(&group->shared[group->options.rank]->closed_by) | group->written_off |
                    (uint64_t)1 << group->options.rank;
    return (done & all) == all;
}

/* Memory that is gone for the peers, too, as soon as it is freed here. */
static bool holds_plain(const struct group *group)
{
    bool plain = group->arenas[group->options.rank].kind == ARENA_PLAIN;
    for (const struct symmetric *kept = group->kept; kept != NULL; kept = kept->next) {
        plain = plain || kept->own.kind == ARENA_PLAIN;
    }
    return plain;
}

/* Lets go of as much as nobody uses. True if the group is gone. */
static bool group_let_go(struct group *group)
{
    if (atomic_load(&group->options.registry->graphs) != 0 || group->device->generation != process_generation()) {
        return false;
    }
    struct context_scope scope;
    struct device *device = group->device;
    if (context_enter(device, CONTEXT_MANAGES, &scope) != TUTTI_OK) {
        return false; /* the context is beyond use; its memory goes with it */
    }
    peers_close(group);
    bool gone = !holds_plain(group) || peers_closed(group);
    if (gone) {
        group_dissolve(group);
    }
    context_leave(&scope);
    if (gone) {
        gpu_device_close(device);
    }
    return gone;
}

static void quarantine_add(struct group *group)
{
    (void)pthread_mutex_lock(&lock);
    group->next = quarantined;
    quarantined = group;
    (void)pthread_mutex_unlock(&lock);
}

/* Without the lock while it frees: a driver may wait for the device then, and the device for a rank that is a thread of this
 * process and wants the lock. */
void quarantine_sweep(void)
{
    (void)pthread_mutex_lock(&lock);
    struct group *group = quarantined;
    quarantined = NULL;
    (void)pthread_mutex_unlock(&lock);
    while (group != NULL) {
        struct group *next = group->next;
        if (!group_let_go(group)) {
            quarantine_add(group);
        }
        group = next;
    }
}

void gpu_group_destroy(struct group *group)
{
    gpu_group_settle(group);
    /* From here on drivers may wait for the whole device, where peers of this process may have kernels that wait for us. */
    group->options.leave(group->options.user);
    group->written_off = group->options.lost(group->options.user);
    gpu_group_wake(group); /* replays from now on do not wait for anybody */
    group->options.segments = NULL;
    group->options.shared = NULL;
    quarantine_add(group);
    quarantine_sweep();
}
