/* SPDX-License-Identifier: Apache-2.0 */
#include "device/gpu/memory_class.h"

#include <inttypes.h>

#include "base/error.h"

/* The answers, each wide enough for any of them and zero before: the driver writes 1, 4 or 8 bytes. */
enum answer { TYPE, ORDINAL, MANAGED, START, BYTES, QUICK_COUNT, IPC = QUICK_COUNT, HANDLES, POOL, ANSWER_COUNT };

static const int questions[ANSWER_COUNT] = {
    [TYPE] = DRIVER_POINTER_MEMORY_TYPE,     [ORDINAL] = DRIVER_POINTER_DEVICE_ORDINAL,
    [MANAGED] = DRIVER_POINTER_IS_MANAGED,   [START] = DRIVER_POINTER_RANGE_START,
    [BYTES] = DRIVER_POINTER_RANGE_BYTES,    [IPC] = DRIVER_POINTER_IPC_CAPABLE,
    [HANDLES] = DRIVER_POINTER_HANDLE_TYPES, [POOL] = DRIVER_POINTER_POOL,
};

static tutti_status ask(const struct device *device, uint64_t address, unsigned count, uint64_t answers[ANSWER_COUNT])
{
    int asked[ANSWER_COUNT];
    void *places[ANSWER_COUNT];
    for (unsigned index = 0; index < count; index++) {
        asked[index] = questions[index];
        answers[index] = 0;
        places[index] = &answers[index];
    }
    return DRIVER(device->driver, pointer_attributes, count, asked, places, address);
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
    int host = device->driver->vendor->memory_type_host;
    return host >= 0 && (uint32_t)answers[TYPE] == (uint32_t)host;
}

tutti_status memory_look(const struct device *device, const void *pointer, struct memory_facts *facts)
{
    uint64_t answers[ANSWER_COUNT];
    tutti_status status = ask(device, (uint64_t)(uintptr_t)pointer, ANSWER_COUNT, answers);
    if (status != TUTTI_OK) {
        return status;
    }
    facts->ordinal = (int)(uint32_t)answers[ORDINAL];
    facts->start = answers[START];
    facts->bytes = answers[BYTES];
    if (unknown(device, answers)) {
        facts->class = MEMORY_UNKNOWN;
    } else if ((answers[MANAGED] & 1) != 0) {
        facts->class = MEMORY_MANAGED;
    } else if (on_host(device, answers)) {
        facts->class = MEMORY_HOST;
    } else if (answers[POOL] != 0) {
        facts->class = MEMORY_STAGED; /* whatever its pool may export: memory of a pool can go and come any time */
    } else if ((answers[IPC] & 1) != 0) {
        facts->class = MEMORY_IPC;
    } else {
        facts->class = (answers[HANDLES] & DRIVER_HANDLE_FD) != 0 ? MEMORY_FD : MEMORY_STAGED;
    }
    return TUTTI_OK;
}

const char *memory_class_name(enum memory_class class)
{
    switch (class) {
    case MEMORY_UNKNOWN:
        return "memory that the driver does not know";
    case MEMORY_HOST:
        return "page-locked host memory";
    case MEMORY_MANAGED:
        return "managed memory";
    case MEMORY_IPC:
        return "device memory";
    case MEMORY_FD:
        return "exportable VMM memory";
    case MEMORY_STAGED:
        return "device memory that cannot be shared";
    }
    return "memory";
}

/* -- checking --------------------------------------------------------------------------------------- */

static tutti_status refuse_unknown(const struct device *device, const char *call, const char *argument,
                                   const void *pointer)
{
    return error_set(
        TUTTI_ERR_ARGUMENT,
        "%s: %s (%p) is not memory that %s device %d can use: an ordinary host pointer, or memory that has "
        "been freed",
        call, argument, pointer, device->driver->vendor->label, device->ordinal);
}

static tutti_status check_place(const struct device *device, const char *call, const char *argument,
                                const void *pointer, const uint64_t answers[ANSWER_COUNT])
{
    if (unknown(device, answers)) {
        return device->reads_any_memory ? TUTTI_OK : refuse_unknown(device, call, argument, pointer);
    }
    int ordinal = (int)(uint32_t)answers[ORDINAL];
    if ((answers[MANAGED] & 1) != 0 || on_host(device, answers) || ordinal == device->ordinal || ordinal < 0) {
        return TUTTI_OK;
    }
    return error_set(TUTTI_ERR_ARGUMENT, "%s: %s (%p) lies on device %d, but the communicator's device is %d", call,
                     argument, pointer, ordinal, device->ordinal);
}

tutti_status memory_check(const struct device *device, const char *call, const char *argument, const void *pointer,
                          size_t bytes)
{
    uint64_t answers[ANSWER_COUNT];
    uint64_t address = (uint64_t)(uintptr_t)pointer;
    tutti_status status = ask(device, address, QUICK_COUNT, answers);
    if (status == TUTTI_OK) {
        status = check_place(device, call, argument, pointer, answers);
    }
    uint64_t end = answers[START] + answers[BYTES];
    if (status != TUTTI_OK || answers[BYTES] == 0 || address + bytes <= end) {
        return status;
    }
    /* Longer than its allocation: another may follow without a gap, as in expandable segments. */
    status = ask(device, address + bytes - 1, QUICK_COUNT, answers);
    if (status == TUTTI_OK && unknown(device, answers)) {
        status =
            error_set(TUTTI_ERR_ARGUMENT, "%s: %s (%p) shall hold %zu bytes, but its allocation ends after %" PRIu64,
                      call, argument, pointer, bytes, end - address);
    }
    return status;
}
