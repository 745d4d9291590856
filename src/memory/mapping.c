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

/* -- the list, under its lock --------------------------------------------------------------------------------------- */

static bool alike(const struct mapping *one, const struct mapping *other)
{
    bool same = one->device == other->device && one->count == other->count;
    for (size_t index = 0; index < one->count && same; index++) {
        const struct mapping_part *mine = &one->parts[index];
        const struct mapping_part *theirs = &other->parts[index];
        same = mine->identity == theirs->identity && memcmp(mine->process, theirs->process, sizeof(mine->process)) == 0;
    }
    return same;
}

/* With one user more; NULL if there is none like it. */
static struct mapping *list_find(const struct mapping *wanted)
{
    struct mapping *found = mappings;
    while (found != NULL && !alike(found, wanted)) {
        found = found->next;
    }
    if (found != NULL) {
        found->references++;
    }
    return found;
}

static void list_add(struct mapping *mapping)
{
    mapping->complete = true;
    mapping->next = mappings;
    mappings = mapping;
}

static void list_remove(struct mapping *mapping)
{
    struct mapping **link = &mappings;
    while (*link != mapping) {
        link = &(*link)->next;
    }
    *link = mapping->next;
}

/* -- making and unmaking --------------------------------------------------------------------------------------------- */

static struct mapping *mapping_make(const struct device_ops *ops, struct device *device,
                                    const struct memory_name *names, size_t count)
{
    struct mapping *made = calloc(1, sizeof(*made) + count * sizeof(made->parts[0]));
    if (made == NULL) {
        (void)error_set(TUTTI_ERR_SYSTEM, "out of memory for the record of a mapping");
        return NULL;
    }
    made->ops = ops;
    made->device = device;
    made->references = 1;
    made->count = count;
    for (size_t index = 0; index < count; index++) {
        memcpy(made->parts[index].process, names[index].process, sizeof(names[index].process));
        made->parts[index].identity = names[index].identity;
    }
    return made;
}

static void mapping_unmake(struct mapping *mapping)
{
    const struct device_ops *ops = mapping->ops;
    for (size_t index = 0; index < mapping->placed; index++) {
        ops->memory_release(mapping->device, &mapping->parts[index].block);
    }
    if (mapping->count > 1) {
        ops->memory_unreserve(mapping->device, mapping->block.address, mapping->block.bytes);
    }
    free(mapping);
}

/* Maps the next of its allocations; place: 0 for anywhere. */
static tutti_status part_map(struct mapping *mapping, const struct memory_name *name, int fd, uint64_t place)
{
    struct memory_export words;
    struct memory_block *block = &mapping->parts[mapping->placed].block;
    words.fd = fd;
    memcpy(words.bytes, name->words, sizeof(words.bytes));
    tutti_status status = place == 0 ? mapping->ops->memory_import(mapping->device, &words, block)
                                     : mapping->ops->memory_place(mapping->device, &words, place, block);
    if (status == TUTTI_OK && block->bytes != name->bytes) {
        status = error_set(TUTTI_ERR_SYSTEM, "a peer's allocation has %llu bytes instead of %llu",
                           (unsigned long long)block->bytes, (unsigned long long)name->bytes);
        mapping->ops->memory_release(mapping->device, block);
    }
    mapping->placed += status == TUTTI_OK;
    return status;
}

/* -- one allocation -------------------------------------------------------------------------------------------------- */

tutti_status mapping_acquire(const struct device_ops *ops, struct device *device, const struct memory_name *name,
                             int fd, struct mapping **mapping)
{
    struct mapping *made = mapping_make(ops, device, name, 1);
    tutti_status status = TUTTI_OK;
    if (made == NULL) {
        return TUTTI_ERR_SYSTEM;
    }
    (void)pthread_once(&hook_once, hook_add);
    cache_acquire();
    struct mapping *found = list_find(made);
    if (found == NULL) {
        status = part_map(made, name, fd, 0);
    }
    if (found == NULL && status == TUTTI_OK) {
        made->block = made->parts[0].block;
        list_add(made);
        found = made;
    }
    cache_give_back();
    if (found != made) {
        free(made);
    }
    if (status == TUTTI_OK) {
        *mapping = found;
    }
    return status;
}

/* -- runs ------------------------------------------------------------------------------------------------------------ */

/* Addresses for all of it. */
static tutti_status run_reserve(struct mapping *run, const struct memory_name *names)
{
    uint64_t bytes = 0;
    for (size_t index = 0; index < run->count; index++) {
        if (names[index].bytes > UINT64_MAX - bytes) { /* a peer said it */
            return error_set(TUTTI_ERR_SYSTEM, "allocations of a peer are too large to be mapped back to back");
        }
        bytes += names[index].bytes;
    }
    run->block.bytes = bytes;
    return run->ops->memory_reserve(run->device, bytes, &run->block.address);
}

tutti_status mapping_run_begin(const struct device_ops *ops, struct device *device, const struct memory_name *names,
                               size_t count, struct mapping **run)
{
    if (ops->memory_place == NULL) {
        return error_set(TUTTI_ERR_UNSUPPORTED, "memory of this backend cannot be mapped back to back");
    }
    struct mapping *made = mapping_make(ops, device, names, count);
    tutti_status status = TUTTI_OK;
    if (made == NULL) {
        return TUTTI_ERR_SYSTEM;
    }
    (void)pthread_once(&hook_once, hook_add);
    cache_acquire();
    struct mapping *found = list_find(made);
    cache_give_back();
    if (found == NULL) {
        status = run_reserve(made, names);
        found = status == TUTTI_OK ? made : NULL;
    }
    if (found != made) {
        free(made);
    }
    if (status == TUTTI_OK) {
        *run = found;
    }
    return status;
}

tutti_status mapping_run_add(struct mapping *run, const struct memory_name *name, int fd)
{
    if (run->complete) {
        return TUTTI_OK;
    }
    if (run->placed == run->count || run->parts[run->placed].identity != name->identity) {
        return error_set(TUTTI_ERR_SYSTEM, "allocations of a run come in another order than they were named in");
    }
    uint64_t place = run->block.address;
    for (size_t index = 0; index < run->placed; index++) {
        place += run->parts[index].block.bytes;
    }
    return part_map(run, name, fd, place);
}

void mapping_run_finish(struct mapping **run)
{
    struct mapping *mine = *run;
    if (mine->complete) {
        return;
    }
    cache_acquire();
    struct mapping *found = list_find(mine);
    if (found == NULL) {
        list_add(mine);
    } else {
        mapping_unmake(mine);
        *run = found;
    }
    cache_give_back();
}

void mapping_release(struct mapping *mapping)
{
    if (mapping == NULL) {
        return;
    }
    if (!mapping->complete) {
        mapping_unmake(mapping);
        return;
    }
    cache_acquire();
    if (--mapping->references == 0) {
        list_remove(mapping);
        mapping_unmake(mapping);
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
