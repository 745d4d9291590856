/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/memory.h"

#include <string.h>

#include "base/error.h"
#include "device/gpu/arena.h"
#include "device/gpu/context.h"
#include "device/gpu/memory_class.h"

_Static_assert(sizeof(struct arena_ticket) <= DEVICE_EXPORT_BYTES, "a ticket fits a memory_export");

static struct memory_block block_of(const struct arena *arena)
{
    return (struct memory_block){arena->address, arena->bytes, (int)arena->kind, (int)arena->origin,
                                 (void *)(uintptr_t)arena->memory};
}

static struct arena arena_of(const struct memory_block *block)
{
    return (struct arena){(enum arena_kind)block->kind, block->address, (size_t)block->bytes,
                          (enum arena_origin)block->origin, (driver_memory)(uintptr_t)block->object};
}

/* In the device's context. */
static tutti_status make(const struct device *device, size_t bytes, struct arena *arena, struct memory_facts *facts)
{
    tutti_status status = arena_create(device, bytes, ARENA_DATA, arena);
    if (status == TUTTI_OK) {
        status = arena_fill(device, arena, 0, arena->bytes, 0);
    }
    if (status == TUTTI_OK) {
        status = memory_look(device, arena->address, facts);
    }
    if (status != TUTTI_OK) {
        arena_release(device, arena);
        return status;
    }
    /* How it was made says more than what a driver answers of it. */
    facts->class = arena->kind == ARENA_VMM ? MEMORY_FD : MEMORY_IPC;
    facts->start = arena->address;
    facts->bytes = arena->bytes;
    return TUTTI_OK;
}

tutti_status gpu_memory_create(struct device *device, size_t bytes, struct memory_block *block,
                               struct memory_facts *facts)
{
    struct context_scope scope;
    struct arena arena = {0};
    tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = make(device, bytes, &arena, facts);
    context_leave(&scope);
    if (status == TUTTI_OK) {
        *block = block_of(&arena);
    }
    return status;
}

tutti_status gpu_memory_hold(struct device *device, const struct memory_facts *facts, struct memory_block *block)
{
    struct context_scope scope;
    struct arena arena;
    tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = arena_hold(device, facts->class == MEMORY_IPC ? ARENA_PLAIN : ARENA_VMM, facts->class != MEMORY_VMM,
                        facts->start, (size_t)facts->bytes, &arena);
    context_leave(&scope);
    if (status == TUTTI_OK) {
        *block = block_of(&arena);
    }
    return status;
}

bool gpu_memory_alike(const struct memory_block *held, const struct memory_block *other)
{
    return held->kind == other->kind && held->address == other->address && held->bytes == other->bytes &&
           held->object == other->object;
}

tutti_status gpu_memory_export(struct device *device, const struct memory_block *held, struct memory_export *mine)
{
    struct context_scope scope;
    struct arena arena = arena_of(held);
    struct arena_ticket ticket;
    int fd = -1;
    tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = arena_export(device, &arena, &ticket, &fd);
    context_leave(&scope);
    if (status == TUTTI_OK) {
        memset(mine->bytes, 0, sizeof(mine->bytes));
        memcpy(mine->bytes, &ticket, sizeof(ticket));
        mine->fd = fd;
    }
    return status;
}

/* place: 0 for anywhere. */
static tutti_status import(struct device *device, const struct memory_export *theirs, uint64_t place,
                           struct memory_block *block)
{
    struct context_scope scope;
    struct arena arena = {0};
    struct arena_ticket ticket;
    memcpy(&ticket, theirs->bytes, sizeof(ticket));
    tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = arena_import(device, &ticket, theirs->fd, place, &arena);
    context_leave(&scope);
    if (status == TUTTI_OK) {
        *block = block_of(&arena);
    }
    return status;
}

tutti_status gpu_memory_import(struct device *device, const struct memory_export *theirs, struct memory_block *block)
{
    return import(device, theirs, 0, block);
}

tutti_status gpu_memory_place(struct device *device, const struct memory_export *theirs, uint64_t address,
                              struct memory_block *block)
{
    return import(device, theirs, address, block);
}

tutti_status gpu_memory_reserve(struct device *device, uint64_t bytes, uint64_t *address)
{
    struct context_scope scope;
    tutti_status status = context_enter(device, CONTEXT_MANAGES, &scope);
    if (status == TUTTI_OK) {
        status = arena_reserve(device, (size_t)bytes, address);
        context_leave(&scope);
    }
    return status;
}

void gpu_memory_unreserve(struct device *device, uint64_t address, uint64_t bytes)
{
    struct context_scope scope;
    if (context_enter(device, CONTEXT_MANAGES, &scope) == TUTTI_OK) {
        arena_unreserve(device, address, (size_t)bytes);
        context_leave(&scope);
    }
}

void gpu_memory_release(struct device *device, struct memory_block *block)
{
    struct context_scope scope;
    struct arena arena = arena_of(block);
    if (context_enter(device, CONTEXT_MANAGES, &scope) == TUTTI_OK) {
        arena_release(device, &arena);
        context_leave(&scope);
    }
    memset(block, 0, sizeof(*block));
}
