/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/exports.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* All exports of the process. A list: engines share segments of an allocator, not tensors. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t hook_once = PTHREAD_ONCE_INIT;
static struct exported *exports;
static uint64_t last_identity;

static void list_acquire(void)
{
    (void)pthread_mutex_lock(&lock);
}

static void list_give_back(void)
{
    (void)pthread_mutex_unlock(&lock);
}

/* What a forked child holds in its copy of the list is its parent's: the driver does not survive a fork. */
static void list_forget(void)
{
    exports = NULL;
    (void)pthread_mutex_unlock(&lock);
}

static struct process_fork_hook hook = {list_acquire, list_give_back, list_forget, NULL};

static void hook_add(void)
{
    process_fork_hook_add(&hook);
}

/* Where the driver numbers allocations, the number tells; else what is held. Memory that has neither is never the same. */
static bool same_allocation(const struct exported *exported, uint64_t driver_identity, const struct memory_block *held)
{
    if (exported->driver_identity != driver_identity || !exported->ops->memory_alike(&exported->held, held)) {
        return false;
    }
    return driver_identity != 0 || held->object != NULL;
}

/* Under the lock. Takes over `held`, or gives it back. */
static tutti_status list_enter(const struct device_ops *ops, struct device *device, uint64_t driver_identity,
                               struct memory_block *held, struct exported **exported)
{
    struct exported *found = exports;
    while (found != NULL && (found->device != device || !same_allocation(found, driver_identity, held))) {
        found = found->next;
    }
    if (found != NULL) {
        ops->memory_release(device, held);
        found->references++;
        *exported = found;
        return TUTTI_OK;
    }
    struct exported *made = malloc(sizeof(*made));
    if (made == NULL) {
        ops->memory_release(device, held);
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the record of an allocation");
    }
    *made = (struct exported){ops, device, *held, ++last_identity, driver_identity, 1, exports};
    exports = made;
    *exported = made;
    return TUTTI_OK;
}

tutti_status exports_acquire(const struct device_ops *ops, struct device *device, const struct memory_facts *facts,
                             struct exported **exported)
{
    struct memory_block held;
    if (facts->class != MEMORY_FD && facts->class != MEMORY_IPC && facts->class != MEMORY_VMM) {
        return error_set(TUTTI_ERR_ARGUMENT, "memory of this class has nothing by which a peer could map it");
    }
    tutti_status status = ops->memory_hold(device, facts, &held);
    if (status != TUTTI_OK) {
        return status;
    }
    (void)pthread_once(&hook_once, hook_add);
    list_acquire();
    status = list_enter(ops, device, facts->identity, &held, exported);
    list_give_back();
    return status;
}

tutti_status exports_name(const struct exported *exported, struct memory_name *name, int *fd)
{
    struct memory_export words;
    struct memory_name made;
    memset(&made, 0, sizeof(made));
    memset(&words, 0, sizeof(words));
    words.fd = -1;
    tutti_status status = process_cookie(made.process);
    if (status == TUTTI_OK) {
        status = exported->ops->memory_export(exported->device, &exported->held, &words);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    made.identity = exported->identity;
    made.bytes = exported->held.bytes;
    memcpy(made.words, words.bytes, sizeof(made.words));
    *name = made;
    *fd = words.fd;
    return TUTTI_OK;
}

void exports_release(struct exported *exported)
{
    if (exported == NULL) {
        return;
    }
    list_acquire();
    bool last = --exported->references == 0;
    if (last) {
        struct exported **link = &exports;
        while (*link != exported) {
            link = &(*link)->next;
        }
        *link = exported->next;
    }
    list_give_back();
    if (last) {
        exported->ops->memory_release(exported->device, &exported->held);
        free(exported);
    }
}

size_t exports_count(void)
{
    size_t count = 0;
    list_acquire();
    for (const struct exported *each = exports; each != NULL; each = each->next) {
        count++;
    }
    list_give_back();
    return count;
}
