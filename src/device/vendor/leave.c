/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leave.c - leaving a communicator of the vendor's, and what outlives that.
 *
 * The vendor has two ways out. Its orderly one waits for the other ranks of the machine, which this library's does not. Its
 * abort is local and ends what waits on the device; but peers may still be reading this rank's memory after their last
 * call began, so without a failure it comes only when all ranks have said that their calls are complete, or are gone.
 *
 * Abort waits until graphs that hold the vendor's communicator are destroyed, and has to be called to end what hangs, so it
 * has a thread to itself, one for each lane. These threads exist after a failure and at the end only, begin with a call of the
 * program's (tutti_comm_status, tutti_comm_abort, tutti_comm_destroy) and leave captures of other threads alone (CONTEXT_MANAGES).
 *
 * A group whose peers or graphs are not done yet waits in a list of the process that is swept whenever a communicator is made
 * or destroyed.
 */
#include <signal.h>
#include <time.h>

#include "device/gpu/context.h"
#include "device/vendor/group.h"

#define PAUSE_NS 200000
#define PEERS_MS 1000 /* how long leaving waits for peers that leave too: so long memory may as well be held */

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct group *leaving;

/* -- abort -------------------------------------------------------------------------------------------- */

static void *abort_run(void *argument)
{
    struct lane *lane = argument;
    struct group *group = lane->group;
    struct context_scope scope;
    if (context_enter(group->device, CONTEXT_MANAGES, &scope) == TUTTI_OK) {
        (void)group->library->abort(lane->comm);
        context_leave(&scope);
    }
    (void)atomic_fetch_sub(&group->aborting, 1); /* the last that this thread does with the group */
    return NULL;
}

static void abort_start(struct lane *lane)
{
    sigset_t all;
    sigset_t former;
    pthread_t thread;
    (void)sigfillset(&all);
    (void)atomic_fetch_add(&lane->group->aborting, 1);
    (void)pthread_sigmask(SIG_SETMASK, &all, &former);
    if (pthread_create(&thread, NULL, abort_run, lane) == 0) {
        (void)pthread_detach(thread);
    } else {
        (void)abort_run(lane); /* here, then; it may last */
    }
    (void)pthread_sigmask(SIG_SETMASK, &former, NULL);
}

static void abort_all(struct group *group)
{
    (void)pthread_mutex_lock(&group->lock);
    bool first = !group->abandoned;
    group->abandoned = true;
    (void)pthread_mutex_unlock(&group->lock);
    for (int index = 0; index < group->options.lanes && first; index++) {
        if (group->lanes[index].comm != NULL) {
            abort_start(&group->lanes[index]);
        }
    }
}

void vendor_group_abandon(struct group *group)
{
    abort_all(group);
}

/* -- leaving ------------------------------------------------------------------------------------------- */

static bool failed(const struct group *group)
{
    return !group->ready || group->abandoned ||
           (group->options.failed != NULL && atomic_load_explicit(group->options.failed, memory_order_acquire) != 0);
}

/* Eager calls of this rank; graphs are the caller's to wait for. */
static bool calls_complete(const struct group *group)
{
    for (int lane = 0; lane < group->options.lanes; lane++) {
        if (atomic_load_explicit(&group->page->ended[lane], memory_order_acquire) != group->lanes[lane].launched) {
            return false;
        }
    }
    return true;
}

static bool peers_left(const struct group *group)
{
    for (int rank = 0; rank < group->options.world; rank++) {
        bool gone = (group->written_off >> rank & 1) != 0;
        if (!gone && atomic_load_explicit(&group->shared[rank]->left, memory_order_acquire) == 0) {
            return false;
        }
    }
    return true;
}

/* Lets go of as much as nobody uses. True if the group is gone. */
static bool group_let_go(struct group *group)
{
    if (!group->abandoned && atomic_load(&group->options.registry->graphs) == 0 && peers_left(group)) {
        abort_all(group);
    }
    if (!group->abandoned || atomic_load(&group->aborting) != 0 || atomic_load(&group->options.registry->graphs) != 0) {
        return false;
    }
    struct device *device = group->device;
    struct context_scope scope;
    if (context_enter(device, CONTEXT_MANAGES, &scope) != TUTTI_OK) {
        return false; /* the context is beyond use; its memory goes with it */
    }
    vendor_group_dissolve(group);
    context_leave(&scope);
    gpu_device_close(device);
    return true;
}

void vendor_sweep(void)
{
    (void)pthread_mutex_lock(&list_lock);
    for (struct group **link = &leaving; *link != NULL;) {
        struct group *group = *link;
        struct group *next = group->next;
        if (group_let_go(group)) {
            *link = next;
        } else {
            link = &group->next;
        }
    }
    (void)pthread_mutex_unlock(&list_lock);
}

/* Whether waiting a little longer may let the group go. */
static bool about_to_go(struct group *group)
{
    bool there = false;
    (void)pthread_mutex_lock(&list_lock);
    for (const struct group *other = leaving; other != NULL; other = other->next) {
        there = there || (other == group && atomic_load(&other->options.registry->graphs) == 0);
    }
    (void)pthread_mutex_unlock(&list_lock);
    return there;
}

void vendor_group_destroy(struct group *group)
{
    const struct timespec pause = {0, PAUSE_NS};
    while (!failed(group) && !calls_complete(group)) {
        (void)vendor_group_poll(group); /* an error, a wait that is too long */
        (void)nanosleep(&pause, NULL);
    }
    if (failed(group)) {
        abort_all(group);
    }
    group->written_off = group->options.lost(group->options.user);
    atomic_store_explicit(&group->shared[group->options.rank]->left, 1, memory_order_release);
    group->options.failed = NULL; /* the communicator's, which goes now */
    (void)pthread_mutex_lock(&list_lock);
    group->next = leaving;
    leaving = group;
    (void)pthread_mutex_unlock(&list_lock);
    struct patience patience;
    patience_begin(&patience);
    vendor_sweep();
    while (about_to_go(group) && patience_look(&patience) < PEERS_MS * (uint64_t)1000000) {
        (void)nanosleep(&pause, NULL);
        vendor_sweep();
    }
}
