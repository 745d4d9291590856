/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/holds.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/process.h"
#include "base/room.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct holds *open_ones;

static void list_acquire(void)
{
    (void)pthread_mutex_lock(&lock);
}

static void list_give_back(void)
{
    (void)pthread_mutex_unlock(&lock);
}

/* The parent's captures: a driver of the child's own would number other ones like them. */
static void list_forget(void)
{
    open_ones = NULL;
    (void)pthread_mutex_unlock(&lock);
}

static struct process_fork_hook hook = {list_acquire, list_give_back, list_forget, NULL};

static void hook_add(void)
{
    process_fork_hook_add(&hook);
}

tutti_status holds_prepare(struct holds *holds)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, hook_add);
    return room_for(&holds->recorded, &holds->room, 1, sizeof(struct recorded *))
               ? TUTTI_OK
               : error_set(TUTTI_ERR_SYSTEM, "out of memory for a graph");
}

void holds_open(struct holds *holds, const struct driver *driver, uint64_t capture)
{
    holds->driver = driver;
    holds->capture = capture;
    list_acquire();
    holds->next = open_ones;
    open_ones = holds;
    list_give_back();
}

void holds_close(struct holds *holds)
{
    list_acquire();
    struct holds **at = &open_ones;
    while (*at != NULL && *at != holds) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = holds->next;
    }
    list_give_back();
}

tutti_status holds_add(const struct driver *driver, uint64_t capture, struct recorded *recorded, bool *own)
{
    tutti_status status = TUTTI_OK;
    list_acquire();
    struct holds *found = open_ones;
    while (found != NULL && (found->driver != driver || found->capture != capture)) {
        found = found->next;
    }
    *own = found != NULL;
    if (found != NULL && !room_for(&found->recorded, &found->room, found->count + 1, sizeof(struct recorded *))) {
        status = error_set(TUTTI_ERR_SYSTEM, "out of memory to keep book of a graph");
    } else if (found != NULL) {
        recorded_hold(recorded);
        found->recorded[found->count++] = recorded;
    }
    list_give_back();
    return status;
}

void holds_let_go(struct holds *holds)
{
    while (holds->count > 0) {
        recorded_let_go(holds->recorded[--holds->count]);
    }
}

void holds_free(struct holds *holds)
{
    free(holds->recorded);
    *holds = (struct holds){0};
}
