/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/memory_class.h"

#include <inttypes.h>

#include "base/error.h"
#include "device/gpu/graph_memory.h"
#include "memory/span.h"

/* The answers, each wide enough for any of them and zero before: the driver writes 1, 4 or 8 bytes. */
enum answer {
    TYPE,
    ORDINAL,
    MANAGED,
    START,
    BYTES,
    IPC,
    BUFFER,
    QUICK_COUNT,
    HANDLES = QUICK_COUNT,
    POOL,
    ANSWER_COUNT
};

static const int questions[ANSWER_COUNT] = {
    [TYPE] = DRIVER_POINTER_MEMORY_TYPE,   [ORDINAL] = DRIVER_POINTER_DEVICE_ORDINAL,
    [MANAGED] = DRIVER_POINTER_IS_MANAGED, [START] = DRIVER_POINTER_RANGE_START,
    [BYTES] = DRIVER_POINTER_RANGE_BYTES,  [IPC] = DRIVER_POINTER_IPC_CAPABLE,
    [BUFFER] = DRIVER_POINTER_BUFFER_ID,   [HANDLES] = DRIVER_POINTER_HANDLE_TYPES,
    [POOL] = DRIVER_POINTER_POOL,
};

/* ROCm's runtime answers RANGE_SIZE with the lower 32 bits of it. */
static void ask_range(const struct driver *driver, uint64_t address, uint64_t answers[ANSWER_COUNT])
{
    driver_address start = 0;
    size_t bytes = 0;
    if (driver->address_range != NULL && driver->address_range(&start, &bytes, address) == 0) {
        answers[START] = start;
        answers[BYTES] = bytes;
    }
}

static tutti_status ask(const struct device *device, uint64_t address, unsigned count, uint64_t answers[ANSWER_COUNT])
{
    int asked[ANSWER_COUNT];
    void *places[ANSWER_COUNT];
    for (unsigned index = 0; index < count; index++) {
        asked[index] = questions[index];
        answers[index] = 0;
        places[index] = &answers[index];
    }
    tutti_status status = DRIVER(device->driver, pointer_attributes, count, asked, places, address);
    if (status == TUTTI_OK) {
        ask_range(device->driver, address, answers);
    }
    return status;
}

static bool unknown(const struct device *device, const uint64_t answers[ANSWER_COUNT])
{
    if ((answers[MANAGED] & 1) != 0) {
        return false;
    }
    /* Where the memory type's numbers cannot be relied on, an allocation is known by its length. */
    return device->driver->vendor->memory_type_device < 0 ? answers[BYTES] == 0 : (uint32_t)answers[TYPE] == 0;
}

static bool on_host(const struct device *device, const uint64_t answers[ANSWER_COUNT])
{
    const struct driver *driver = device->driver;
    int host = driver->vendor->memory_type_host - (driver->version < driver->vendor->memory_types_since ? 1 : 0);
    bool known = driver->vendor->memory_type_device >= 0 || answers[BYTES] != 0;
    return known && (uint32_t)answers[TYPE] == (uint32_t)host;
}

static enum memory_class classify(const struct device *device, const uint64_t answers[ANSWER_COUNT])
{
    if (unknown(device, answers)) {
        return MEMORY_UNKNOWN;
    }
    if ((answers[MANAGED] & 1) != 0) {
        return MEMORY_MANAGED;
    }
    if (on_host(device, answers)) {
        return MEMORY_HOST;
    }
    if (answers[POOL] != 0) {
        return MEMORY_POOL; /* whatever its pool may export */
    }
    if ((answers[IPC] & 1) != 0) {
        return MEMORY_IPC;
    }
    return (answers[HANDLES] & DRIVER_HANDLE_FD) != 0 ? MEMORY_FD : MEMORY_VMM;
}

/* -- the extent of VMM memory: the driver's range is the reservation, in which many allocations may be mapped ------ */

static bool in_buffer(const struct device *device, uint64_t address, uint64_t buffer)
{
    uint64_t answers[ANSWER_COUNT];
    return ask(device, address, QUICK_COUNT, answers) == TUTTI_OK && answers[BUFFER] == buffer;
}

/* How many steps of `granule` (at most `most`), forward or back, stay in the buffer. Each mapping has one number, and lies in one
 * piece: so by doubling, then halving. */
static uint64_t reach(const struct device *device, uint64_t from, uint64_t granule, bool forward, uint64_t most,
                      uint64_t buffer)
{
    uint64_t inside = 0;
    uint64_t outside = 1;
    while (outside <= most &&
           in_buffer(device, forward ? from + outside * granule : from - outside * granule, buffer)) {
        inside = outside;
        outside *= 2;
    }
    outside = outside <= most ? outside : most + 1;
    while (outside - inside > 1) {
        uint64_t middle = inside + (outside - inside) / 2;
        bool same = in_buffer(device, forward ? from + middle * granule : from - middle * granule, buffer);
        inside = same ? middle : inside;
        outside = same ? outside : middle;
    }
    return inside;
}

static void narrow(const struct device *device, uint64_t address, struct memory_facts *facts)
{
    struct driver_memory_properties properties = {.type = 1, .location = {1, (int)device->handle}};
    size_t granule = 0;
    if (facts->identity == 0 || device->driver->memory_granularity == NULL ||
        device->driver->memory_granularity(&granule, &properties, 0) != 0 || granule == 0) {
        return;
    }
    uint64_t before = (address - facts->start) / granule;
    uint64_t from = facts->start + before * granule;
    uint64_t after = (facts->start + facts->bytes - from - 1) / granule;
    uint64_t back = reach(device, from, granule, false, before, facts->identity);
    uint64_t on = reach(device, from, granule, true, after, facts->identity);
    facts->start = from - back * granule;
    facts->bytes = (back + 1 + on) * granule;
}

/* What a graph has allocated for itself is memory of a pool, but the driver names none. No handle stands for it either; where
 * that cannot be asked, the worse is assumed. */
static bool pooled(const struct device *device, uint64_t address)
{
    const struct driver *driver = device->driver;
    driver_memory memory = 0;
    if (driver->memory_retain == NULL || driver->memory_retain(&memory, (void *)(uintptr_t)address) != 0) {
        return true;
    }
    (void)driver->memory_release(memory);
    return false;
}

/* -- one pointer --------------------------------------------------------------------------------------------------- */

tutti_status memory_look(const struct device *device, uint64_t address, struct memory_facts *facts)
{
    uint64_t answers[ANSWER_COUNT];
    tutti_status status = ask(device, address, ANSWER_COUNT, answers);
    if (status != TUTTI_OK) {
        return status;
    }
    enum memory_class class = classify(device, answers);
    class = class == MEMORY_VMM && pooled(device, address) ? MEMORY_POOL : class;
    bool off_device = class == MEMORY_UNKNOWN || class == MEMORY_HOST;
    int ordinal = off_device ? -1 : (int)(uint32_t)answers[ORDINAL];
    *facts = (struct memory_facts){
        .class = class,
        .usable = class == MEMORY_UNKNOWN ? device->reads_any_memory
                                          : ordinal < 0 || class == MEMORY_MANAGED || ordinal == device->ordinal,
        .threads_reach = class == MEMORY_VMM || class == MEMORY_FD || class == MEMORY_IPC,
        .ordinal = ordinal,
        .start = class == MEMORY_UNKNOWN ? 0 : answers[START],
        .bytes = class == MEMORY_UNKNOWN ? 0 : answers[BYTES],
        .identity = class == MEMORY_UNKNOWN ? 0 : answers[BUFFER],
    };
    if (class == MEMORY_VMM || class == MEMORY_FD) {
        narrow(device, address, facts);
    }
    return TUTTI_OK;
}

/* -- checking --------------------------------------------------------------------------------------- */

static tutti_status refuse_unknown(const struct device *device, const char *call, const char *argument,
                                   const void *pointer)
{
    return error_set(
        TUTTI_ERR_ARGUMENT,
        "%s: %s (%p) is not memory that %s device %d can use: an ordinary host pointer, memory that has been freed, or "
        "memory of another graph that was never launched",
        call, argument, pointer, device->driver->vendor->label, device->ordinal);
}

static tutti_status refuse_far(const struct device *device, const char *call, const char *argument, uint64_t address,
                               int ordinal)
{
    return error_set(TUTTI_ERR_ARGUMENT, "%s: %s (%p) lies on device %d, but the communicator's device is %d", call,
                     argument, (void *)(uintptr_t)address, ordinal, device->ordinal);
}

static tutti_status check_place(const struct device *device, const char *call, const char *argument,
                                const void *pointer, const uint64_t answers[ANSWER_COUNT])
{
    int ordinal = (int)(uint32_t)answers[ORDINAL];
    if ((answers[MANAGED] & 1) != 0 || on_host(device, answers) || ordinal == device->ordinal || ordinal < 0) {
        return TUTTI_OK;
    }
    return refuse_far(device, call, argument, (uint64_t)(uintptr_t)pointer, ordinal);
}

struct checking {
    const struct device *device;
    const char *call, *argument;
    const void *pointer;
    size_t bytes;
};

/* `end`: of the allocation. */
static tutti_status refuse_short(const struct checking *checking, uint64_t end)
{
    return error_set(TUTTI_ERR_ARGUMENT, "%s: %s (%p) shall hold %zu bytes, but its allocation ends after %" PRIu64,
                     checking->call, checking->argument, checking->pointer, checking->bytes,
                     end - (uint64_t)(uintptr_t)checking->pointer);
}

static tutti_status look_on(void *where, uint64_t address, struct memory_facts *facts)
{
    return memory_look(where, address, facts);
}

static tutti_status check_part(void *user, uint64_t address, const struct span_part *part)
{
    const struct checking *checking = user;
    if (part->bytes == 0) {
        return refuse_short(checking, address);
    }
    return part->facts.usable
               ? TUTTI_OK
               : refuse_far(checking->device, checking->call, checking->argument, address, part->facts.ordinal);
}

/* Whether one allocation holds the whole range. Only of plain allocations the driver's range says so at once; of others the last
 * byte must have the number that the first has. */
static bool holds_all(const struct device *device, uint64_t address, size_t bytes, const uint64_t answers[ANSWER_COUNT])
{
    if (answers[BYTES] == 0 || bytes > answers[START] + answers[BYTES] - address) {
        return answers[BYTES] == 0; /* memory of the process, whose extent nobody knows */
    }
    return (answers[IPC] & 1) != 0 || answers[BUFFER] == 0 || in_buffer(device, address + bytes - 1, answers[BUFFER]);
}

/* Memory that the driver does not know may belong to the graph that the call is about to become a part of. */
static tutti_status check_recorded(const struct checking *checking, driver_stream stream)
{
    const struct device *device = checking->device;
    uint64_t address = (uint64_t)(uintptr_t)checking->pointer;
    struct graph_memory memory;
    tutti_status status = graph_memory_find(device->driver, stream, address, &memory);
    if (status != TUTTI_OK) {
        return status;
    }
    if (memory.bytes == 0) {
        return refuse_unknown(device, checking->call, checking->argument, checking->pointer);
    }
    if (memory.ordinal != device->ordinal) {
        return refuse_far(device, checking->call, checking->argument, address, memory.ordinal);
    }
    uint64_t end = memory.start + memory.bytes;
    return checking->bytes <= end - address ? TUTTI_OK : refuse_short(checking, end);
}

tutti_status memory_check(const struct device *device, const char *call, const char *argument, const void *pointer,
                          size_t bytes, driver_stream stream)
{
    uint64_t answers[ANSWER_COUNT];
    uint64_t address = (uint64_t)(uintptr_t)pointer;
    struct checking checking = {device, call, argument, pointer, bytes};
    tutti_status status = ask(device, address, QUICK_COUNT, answers);
    if (status == TUTTI_OK && unknown(device, answers)) {
        return device->reads_any_memory ? TUTTI_OK : check_recorded(&checking, stream);
    }
    if (status == TUTTI_OK) {
        status = check_place(device, call, argument, pointer, answers);
    }
    if (status != TUTTI_OK || bytes == 0 || holds_all(device, address, bytes, answers)) {
        return status;
    }
    /* Longer than its allocation: others may follow without a gap, as in expandable segments. */
    return span_walk(look_on, (void *)(uintptr_t)device, address, bytes, check_part, &checking);
}
