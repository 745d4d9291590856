/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/mapping.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* Held while the driver maps: two users that come at the same time must not both map. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t hook_once = PTHREAD_ONCE_INIT;
static struct mapping *mappings;

static void cache_acquire(void)
{
    (void)pthread_mutex_lock(&lock);
}

static void cache_give_back(void)
{
    (void)pthread_mutex_unlock(&lock);
}

/* A forked child has its parent's mappings, but not the driver that made them. */
static void cache_forget(void)
{
    mappings = NULL;
    (void)pthread_mutex_unlock(&lock);
}

static struct process_fork_hook hook = {cache_acquire, cache_give_back, cache_forget, NULL};

static void hook_add(void)
{
    process_fork_hook_add(&hook);
}

static struct mapping *cache_find(const struct device *device, const struct memory_name *name)
{
    struct mapping *found = mappings;
    while (found != NULL && (found->device != device || found->identity != name->identity ||
                             memcmp(found->process, name->process, sizeof(name->process)) != 0)) {
        found = found->next;
    }
    return found;
}

/* Under the lock. */
static tutti_status cache_add(const struct device_ops *ops, struct device *device, const struct memory_name *name,
                              int fd, struct mapping **mapping)
{
    struct memory_export words;
    struct mapping *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the record of a mapping");
    }
    words.fd = fd;
    memcpy(words.bytes, name->words, sizeof(words.bytes));
    tutti_status status = ops->memory_import(device, &words, &made->block);
    if (status == TUTTI_OK && made->block.bytes != name->bytes) {
        status = error_set(TUTTI_ERR_SYSTEM, "a peer's allocation has %llu bytes instead of %llu",
                           (unsigned long long)made->block.bytes, (unsigned long long)name->bytes);
        ops->memory_release(device, &made->block);
    }
    if (status != TUTTI_OK) {
        free(made);
        return status;
    }
    made->ops = ops;
    made->device = device;
    memcpy(made->process, name->process, sizeof(made->process));
    made->identity = name->identity;
    made->next = mappings;
    mappings = made;
    *mapping = made;
    return TUTTI_OK;
}

tutti_status mapping_acquire(const struct device_ops *ops, struct device *device, const struct memory_name *name,
                             int fd, struct mapping **mapping)
{
    (void)pthread_once(&hook_once, hook_add);
    cache_acquire();
    struct mapping *found = cache_find(device, name);
    tutti_status status = found != NULL ? TUTTI_OK : cache_add(ops, device, name, fd, &found);
    if (found != NULL) {
        found->references++;
        *mapping = found;
    }
    cache_give_back();
    return status;
}

void mapping_release(struct mapping *mapping)
{
    if (mapping == NULL) {
        return;
    }
    cache_acquire();
    if (--mapping->references == 0) {
        struct mapping **link = &mappings;
        while (*link != mapping) {
            link = &(*link)->next;
        }
        *link = mapping->next;
        mapping->ops->memory_release(mapping->device, &mapping->block);
        free(mapping);
    }
    cache_give_back();
}

size_t mapping_count(void)
{
    size_t count = 0;
    cache_acquire();
    for (const struct mapping *each = mappings; each != NULL; each = each->next) {
        count++;
    }
    cache_give_back();
    return count;
}
