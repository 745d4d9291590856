/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/arena.h"

#include <string.h>
#include <unistd.h>

#include "base/error.h"

#define PLAIN_ALIGN ((size_t)2 << 20)

/* -- VMM memory -------------------------------------------------------------------------------------- */

static struct driver_memory_properties vmm_properties(const struct device *device)
{
    struct driver_memory_properties properties;
    memset(&properties, 0, sizeof(properties));
    properties.type = 1; /* pinned: the only one */
    properties.handle_types = DRIVER_HANDLE_FD;
    properties.location = (struct driver_location){1, (int)device->handle};
    return properties;
}

/* Maps the memory at an address that is reserved, accessible to this device. */
static tutti_status vmm_place(const struct device *device, driver_memory memory, size_t bytes, driver_address address)
{
    const struct driver *driver = device->driver;
    tutti_status status = DRIVER(driver, memory_map, address, bytes, 0, memory, 0);
    if (status != TUTTI_OK) {
        return status;
    }
    struct driver_access access = {{1, (int)device->handle}, 3};
    status = DRIVER(driver, memory_access, address, bytes, &access, 1);
    if (status != TUTTI_OK) {
        (void)driver->memory_unmap(address, bytes);
    }
    return status;
}

/* The same at a fresh one. */
static tutti_status vmm_map(const struct device *device, driver_memory memory, size_t bytes, driver_address *address)
{
    driver_address found = 0;
    tutti_status status = arena_reserve(device, bytes, &found);
    if (status != TUTTI_OK) {
        return status;
    }
    status = vmm_place(device, memory, bytes, found);
    if (status != TUTTI_OK) {
        arena_unreserve(device, found, bytes);
        return status;
    }
    *address = found;
    return TUTTI_OK;
}

static tutti_status vmm_create(const struct device *device, size_t bytes, struct arena *arena)
{
    const struct driver *driver = device->driver;
    struct driver_memory_properties properties = vmm_properties(device);
    size_t granularity = 0;
    tutti_status status = DRIVER(driver, memory_granularity, &granularity, &properties, 0);
    if (status != TUTTI_OK) {
        return status;
    }
    size_t rounded = granularity > 0 ? (bytes + granularity - 1) / granularity * granularity : bytes;
    driver_memory memory = 0;
    driver_address address = 0;
    status = DRIVER(driver, memory_create, &memory, rounded, &properties, 0);
    if (status != TUTTI_OK) {
        return status;
    }
    status = vmm_map(device, memory, rounded, &address);
    if (status != TUTTI_OK) {
        (void)driver->memory_release(memory);
        return status;
    }
    *arena = (struct arena){ARENA_VMM, address, rounded, ARENA_OWN, memory};
    return TUTTI_OK;
}

static tutti_status vmm_export(const struct device *device, const struct arena *arena, int *fd)
{
    int made = -1;
    tutti_status status = DRIVER(device->driver, memory_export, &made, arena->memory, DRIVER_HANDLE_FD, 0);
    if (status == TUTTI_OK) {
        *fd = made;
    }
    return status;
}

static tutti_status vmm_import(const struct device *device, const struct arena_ticket *ticket, bool same_process,
                               int fd, driver_address place, struct arena *arena)
{
    const struct driver *driver = device->driver;
    driver_memory memory = 0;
    driver_address address = place;
    tutti_status status = same_process ? DRIVER(driver, memory_retain, &memory, (void *)(uintptr_t)ticket->address)
                                       : DRIVER(driver, memory_import, &memory, (void *)(intptr_t)fd, DRIVER_HANDLE_FD);
    if (status != TUTTI_OK) {
        return status;
    }
    status =
        place != 0 ? vmm_place(device, memory, ticket->bytes, place) : vmm_map(device, memory, ticket->bytes, &address);
    if (status != TUTTI_OK) {
        (void)driver->memory_release(memory);
        return status;
    }
    *arena = (struct arena){ARENA_VMM, address, ticket->bytes, place != 0 ? ARENA_PLACED : ARENA_IMPORTED, memory};
    return TUTTI_OK;
}

/* The handle goes after the mapping. A cuMemUnmap that takes the last of an allocation with it while another thread unmaps or
 * releases the same one damages the process's heap (libcuda 580.159; docs/memory.md); a cuMemRelease does not. */
static void vmm_release(const struct device *device, const struct arena *arena)
{
    if (arena->origin == ARENA_HELD || arena->origin == ARENA_HELD_HERE) {
        (void)device->driver->memory_release(arena->memory);
        return;
    }
    (void)device->driver->memory_unmap(arena->address, arena->bytes);
    (void)device->driver->memory_release(arena->memory);
    if (arena->origin != ARENA_PLACED) {
        arena_unreserve(device, arena->address, arena->bytes);
    }
}

/* -- plain allocations ------------------------------------------------------------------------------- */

static tutti_status plain_create(const struct device *device, size_t bytes, enum arena_use use, struct arena *arena)
{
    const struct driver *driver = device->driver;
    unsigned flag = use == ARENA_POLLED ? driver->vendor->uncached_flag : driver->vendor->coherent_flag;
    driver_address address = 0;
    /* Small allocations would share a page with others, and a handle opens the whole page. */
    size_t rounded = (bytes + PLAIN_ALIGN - 1) / PLAIN_ALIGN * PLAIN_ALIGN;
    tutti_status status = driver->alloc_with_flags != NULL ? DRIVER(driver, alloc_with_flags, &address, rounded, flag)
                                                           : DRIVER(driver, alloc, &address, rounded);
    if (status == TUTTI_OK) {
        *arena = (struct arena){ARENA_PLAIN, address, rounded, ARENA_OWN, 0};
    }
    return status;
}

static tutti_status plain_import(const struct device *device, const struct arena_ticket *ticket, bool same_process,
                                 struct arena *arena)
{
    const struct driver *driver = device->driver;
    driver_address address = ticket->address;
    tutti_status status = TUTTI_OK;
    if (!same_process) {
        status = DRIVER(driver, ipc_open, &address, ticket->ipc, DRIVER_IPC_LAZY_PEER_ACCESS);
    } else if (ticket->ordinal != device->ordinal && driver->peer_enable != NULL) {
        driver_result result = driver->peer_enable(ticket->ordinal, 0);
        if (result != DRIVER_PEER_ACCESS_ALREADY_ENABLED) {
            status = driver_check(driver, offsetof(struct driver, peer_enable), result);
        }
    } else if (ticket->ordinal != device->ordinal) {
        status = error_set(TUTTI_ERR_UNSUPPORTED,
                           "several devices in one process need VMM memory: use one process a device");
    }
    if (status == TUTTI_OK) {
        *arena = (struct arena){ARENA_PLAIN, address, ticket->bytes, same_process ? ARENA_BORROWED : ARENA_IMPORTED, 0};
    }
    return status;
}

static void plain_release(const struct device *device, const struct arena *arena)
{
    if (arena->origin == ARENA_OWN) {
        (void)device->driver->free(arena->address);
    } else if (arena->origin == ARENA_IMPORTED) {
        (void)device->driver->ipc_close(arena->address);
    }
}

/* -- either ------------------------------------------------------------------------------------------- */

tutti_status arena_reserve(const struct device *device, size_t bytes, driver_address *address)
{
    if (device->driver->address_reserve == NULL) {
        return error_set(TUTTI_ERR_UNSUPPORTED, "%s has no addresses without memory", device->name);
    }
    return DRIVER(device->driver, address_reserve, address, bytes, 0, 0, 0);
}

void arena_unreserve(const struct device *device, driver_address address, size_t bytes)
{
    (void)device->driver->address_free(address, bytes);
}

tutti_status arena_create(const struct device *device, size_t bytes, enum arena_use use, struct arena *arena)
{
    const char *wish = settings_text(SETTING_GPU_ARENA);
    bool can_vmm = device->driver->memory_create != NULL && device->has_vmm && device->has_fd_export;
    if (strcmp(wish, "vmm") == 0 && !can_vmm) {
        return error_set(TUTTI_ERR_UNSUPPORTED,
                         "TUTTI_GPU_ARENA=vmm, but %s has no memory that can be shared through file descriptors",
                         device->name);
    }
    if (strcmp(wish, "ipc") == 0 || !can_vmm) {
        return plain_create(device, bytes, use, arena);
    }
    tutti_status status = vmm_create(device, bytes, arena);
    if (status != TUTTI_OK && strcmp(wish, "auto") == 0) {
        status = plain_create(device, bytes, use, arena); /* some containers forbid the former */
    }
    return status;
}

tutti_status arena_hold(const struct device *device, enum arena_kind kind, bool leaves, driver_address address,
                        size_t bytes, struct arena *arena)
{
    driver_memory memory = 0;
    if (kind == ARENA_VMM) {
        tutti_status status = DRIVER(device->driver, memory_retain, &memory, (void *)(uintptr_t)address);
        if (status != TUTTI_OK) {
            return status;
        }
    }
    *arena = (struct arena){kind, address, bytes, leaves ? ARENA_HELD : ARENA_HELD_HERE, memory};
    return TUTTI_OK;
}

tutti_status arena_fill(const struct device *device, const struct arena *arena, size_t offset, size_t bytes,
                        uint32_t word)
{
    const struct driver *driver = device->driver;
    driver_stream stream = NULL;
    tutti_status status = DRIVER(driver, stream_create, &stream, DRIVER_STREAM_NON_BLOCKING);
    if (status != TUTTI_OK) {
        return status;
    }
    status = DRIVER(driver, fill_words, arena->address + offset, word, bytes / sizeof(word), stream);
    if (status == TUTTI_OK) {
        status = DRIVER(driver, stream_synchronize, stream);
    }
    (void)driver->stream_destroy(stream);
    return status;
}

tutti_status arena_export(const struct device *device, const struct arena *arena, struct arena_ticket *ticket, int *fd)
{
    struct arena_ticket made;
    int made_fd = -1;
    memset(&made, 0, sizeof(made));
    made.kind = (uint32_t)arena->kind;
    made.ordinal = device->ordinal;
    made.address = arena->address;
    made.bytes = arena->bytes;
    tutti_status status = process_cookie(made.process);
    if (status == TUTTI_OK && arena->origin == ARENA_HELD_HERE) {
        *ticket = made; /* enough for threads of this process */
        *fd = -1;
        return TUTTI_OK;
    }
    if (status == TUTTI_OK && arena->kind == ARENA_VMM) {
        status = vmm_export(device, arena, &made_fd);
    } else if (status == TUTTI_OK) {
        status = DRIVER(device->driver, ipc_get, &made.ipc, arena->address);
    }
    if (status == TUTTI_OK) {
        *ticket = made;
        *fd = made_fd;
    }
    return status;
}

tutti_status arena_import(const struct device *device, const struct arena_ticket *ticket, int fd, driver_address place,
                          struct arena *arena)
{
    uint8_t process[PROCESS_COOKIE_BYTES];
    tutti_status status = process_cookie(process);
    if (status != TUTTI_OK) {
        return status;
    }
    bool same_process = memcmp(process, ticket->process, sizeof(process)) == 0;
    if (ticket->kind == ARENA_VMM && (same_process || fd >= 0)) {
        return vmm_import(device, ticket, same_process, fd, place, arena);
    }
    if (ticket->kind == ARENA_PLAIN && place == 0) {
        return plain_import(device, ticket, same_process, arena);
    }
    return error_set(TUTTI_ERR_SYSTEM, "the description of its device memory arrived without the memory");
}

void arena_release(const struct device *device, struct arena *arena)
{
    if (arena->kind == ARENA_VMM) {
        vmm_release(device, arena);
    } else if (arena->kind == ARENA_PLAIN) {
        plain_release(device, arena);
    }
    memset(arena, 0, sizeof(*arena));
}
