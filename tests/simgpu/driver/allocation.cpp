/* SPDX-License-Identifier: Apache-2.0 */
/*
 * allocation.cpp - memory. What may be shared how is what was measured (H100, driver 580; docs/memory.md): a plain allocation through IPC handles alone, VMM memory through file descriptors if it was made so, pools and
 * managed memory not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <map>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simgpu/driver/driver.h"

namespace simgpu
{

#define GRANULARITY ((size_t)2 << 20)
#define UNMAPPING_US 50
#define HANDLE_MAGIC 0x73696d676975u

/* Memory that is not an address. */
struct physical {
    int fd;
    size_t bytes;
    int ordinal;
    uint32_t handle_types;
    unsigned references;
    uint64_t drops = 0; /* of references */
};

struct allocation {
    size_t bytes;
    memory_class kind;
    int ordinal;
    int fd;                    /* plain */
    struct physical *physical; /* vmm, while mapped */
    uint64_t number = ++numbers;
    static uint64_t numbers;
};
uint64_t allocation::numbers;

struct ipc_payload {
    uint64_t magic, bytes, inode, offset;
    int32_t process, fd, physical;
};

struct memories {
    std::map<uint64_t, struct allocation> allocations; /* by address */
    std::map<uint64_t, size_t> reservations;
    std::map<uint64_t, std::pair<size_t, int>> of_graphs; /* bytes and device of what is there while a graph runs */
};
static struct memories &memories = *new struct memories();

/* The one that `address` lies in. */
static struct allocation *allocation_at(uint64_t address, uint64_t *start)
{
    auto found = memories.allocations.upper_bound(address);
    if (found == memories.allocations.begin()) {
        return nullptr;
    }
    --found;
    if (address - found->first >= found->second.bytes) {
        return nullptr;
    }
    *start = found->first;
    return &found->second;
}

static int memory_file(size_t bytes)
{
    int fd = memfd_create("simulated-gpu", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static uint64_t map_file(int fd, size_t bytes)
{
    void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? 0 : reinterpret_cast<uint64_t>(memory);
}

static int place(uint64_t address, size_t bytes, int protection, int flags, int fd)
{
    void *there = reinterpret_cast<void *>(address);
    return mmap(there, (bytes + 511) / 512 * 512, protection, flags | MAP_FIXED, fd, 0) == there ? SUCCESS
                                                                                                 : OUT_OF_MEMORY;
}

/* Half of the addresses come back soon, as they do from a driver: who remembers one must not take the new memory for the old. The rest never
 * do: who still uses one meets a fault. */
static void address_end(uint64_t address, size_t bytes)
{
    static uint64_t ended;
    bool retires = (++ended * 0x9e3779b97f4a7c15u >> 62 & 1) != 0; /* without a pattern */
    if (!retires || place(address, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1) != SUCCESS) {
        munmap(reinterpret_cast<void *>(address), (bytes + 511) / 512 * 512);
    }
}

/* -- plain ----------------------------------------------------------------------------------------- */

int allocation_make(uint64_t *address, size_t bytes, memory_class kind)
{
    guard held(driver_lock);
    struct device *device = device_current();
    int unsafe = kind == memory_class::pool ? 0 : capture_check_unsafe();
    if (device == nullptr || unsafe != 0 || bytes == 0) {
        return device == nullptr ? INVALID_CONTEXT : unsafe != 0 ? unsafe : INVALID_VALUE;
    }
    size_t rounded = (bytes + 511) / 512 * 512;
    int fd = memory_file(rounded);
    uint64_t made = fd < 0 ? 0 : map_file(fd, rounded);
    if (made == 0) {
        return OUT_OF_MEMORY;
    }
    memories.allocations[made] = {bytes, kind, device->ordinal, fd, nullptr};
    *address = made;
    return SUCCESS;
}

int allocation_free(uint64_t address, memory_class kind)
{
    guard held(driver_lock);
    if (address == 0) {
        return SUCCESS;
    }
    auto found = memories.allocations.find(address);
    bool host = kind == memory_class::host;
    if (found == memories.allocations.end() || (found->second.kind == memory_class::host) != host ||
        found->second.kind == memory_class::vmm || found->second.kind == memory_class::imported) {
        driver_misused("a free of memory");
    }
    int unsafe = capture_check_unsafe();
    if (unsafe != 0) {
        return unsafe;
    }
    device_drain(*device_at(found->second.ordinal), held); /* the vendors' frees wait, too */
    found = memories.allocations.find(address);
    if (found == memories.allocations.end()) {
        driver_misused("a second free, at the same time, of memory");
    }
    if (found->second.kind == memory_class::graph) {
        return graph_memory_vanish(address);
    }
    address_end(address, found->second.bytes);
    /* For other processes, too: one that still uses it ends there (SIGBUS). CUDA Driver API, cuIpcOpenMemHandle: freed before the
     * importing context has closed it "will result in undefined behavior". */
    if (ftruncate(found->second.fd, 0) != 0) {
        perror("ftruncate");
    }
    close(found->second.fd);
    memories.allocations.erase(found);
    return SUCCESS;
}

/* -- of graphs: no answer before the first launch, and none that names a pool or a handle (H100, driver 580) ------------ */

int graph_memory_reserve(uint64_t *address, size_t bytes, int ordinal)
{
    void *memory =
        bytes == 0 ? MAP_FAILED : mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return bytes == 0 ? INVALID_VALUE : OUT_OF_MEMORY;
    }
    *address = reinterpret_cast<uint64_t>(memory);
    memories.of_graphs[*address] = {bytes, ordinal};
    return SUCCESS;
}

int graph_memory_appear(uint64_t address)
{
    auto found = memories.of_graphs.find(address);
    if (found == memories.of_graphs.end() || memories.allocations.count(address) != 0) {
        return INVALID_VALUE; /* launched again, and not freed before */
    }
    int fd = memory_file((found->second.first + 511) / 512 * 512);
    if (fd < 0 || place(address, found->second.first, PROT_READ | PROT_WRITE, MAP_SHARED, fd) != SUCCESS) {
        return OUT_OF_MEMORY;
    }
    memories.allocations[address] = {found->second.first, memory_class::graph, found->second.second, fd, nullptr};
    return SUCCESS;
}

int graph_memory_vanish(uint64_t address)
{
    auto found = memories.allocations.find(address);
    if (found == memories.allocations.end() || found->second.kind != memory_class::graph) {
        return INVALID_VALUE;
    }
    close(found->second.fd);
    int result = place(address, found->second.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    memories.allocations.erase(found);
    return result;
}

struct memory_answer allocation_ask(uint64_t address)
{
    guard held(driver_lock);
    struct memory_answer answer = {};
    uint64_t start = 0;
    const struct allocation *found = allocation_at(address, &start);
    if (found == nullptr || (found->kind == memory_class::vmm && found->physical == nullptr)) {
        answer.ordinal = -2; /* cudaInvalidDeviceId */
        return answer;
    }
    answer.type = found->kind == memory_class::host ? 1 : 2;
    answer.managed = found->kind == memory_class::managed;
    answer.ipc_capable = found->kind == memory_class::plain;
    answer.ordinal = found->ordinal;
    answer.start = start;
    answer.bytes = found->bytes;
    /* Of VMM memory the driver names the reservation, not what is mapped there (H100, driver 580). */
    auto reservation = memories.reservations.upper_bound(address);
    if (found->kind == memory_class::vmm && reservation != memories.reservations.begin()) {
        --reservation;
        answer.start = reservation->first;
        answer.bytes = reservation->second;
    }
    answer.handle_types = found->kind == memory_class::vmm ? found->physical->handle_types : 0;
    answer.pooled = found->kind == memory_class::pool;
    answer.number = found->number;
    return answer;
}

uint64_t allocation_bytes(int ordinal)
{
    uint64_t bytes = 0;
    for (const auto &entry : memories.allocations) {
        bool counts = entry.second.kind != memory_class::host && entry.second.kind != memory_class::imported;
        bytes += counts && entry.second.ordinal == ordinal ? entry.second.bytes : 0;
    }
    return bytes;
}

/* -- IPC ------------------------------------------------------------------------------------------- */

int ipc_export(uint8_t handle[64], uint64_t address)
{
    guard held(driver_lock);
    uint64_t start = 0;
    const struct allocation *found = allocation_at(address, &start);
    struct stat facts;
    if (found == nullptr || found->kind != memory_class::plain || fstat(found->fd, &facts) != 0) {
        return INVALID_VALUE;
    }
    struct ipc_payload payload = {
        HANDLE_MAGIC, found->bytes, facts.st_ino, 0, getpid(), found->fd, device_at(found->ordinal)->physical};
    memset(handle, 0, 64);
    memcpy(handle, &payload, sizeof(payload));
    return SUCCESS;
}

int ipc_import(uint64_t *address, const uint8_t handle[64])
{
    struct ipc_payload payload;
    memcpy(&payload, handle, sizeof(payload));
    guard held(driver_lock);
    struct device *device = device_current();
    if (device == nullptr || payload.magic != HANDLE_MAGIC) {
        return device == nullptr ? INVALID_CONTEXT : INVALID_VALUE;
    }
    if (payload.process == getpid()) {
        return INVALID_CONTEXT; /* as CUDA has it: not in the process that exported it */
    }
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)payload.process, (int)payload.fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) != 0 || facts.st_ino != payload.inode || (uint64_t)facts.st_size < payload.bytes) {
        if (fd >= 0) {
            close(fd);
        }
        return INVALID_VALUE; /* the process is gone, or has freed the memory */
    }
    uint64_t made = map_file(fd, (payload.bytes + 511) / 512 * 512);
    if (made == 0) {
        close(fd);
        return OUT_OF_MEMORY;
    }
    memories.allocations[made] = {payload.bytes, memory_class::imported, device->ordinal, fd, nullptr};
    *address = made;
    return SUCCESS;
}

int ipc_close(uint64_t address)
{
    guard held(driver_lock);
    auto found = memories.allocations.find(address);
    if (found == memories.allocations.end() || found->second.kind != memory_class::imported) {
        driver_misused("a close of an IPC handle's memory");
    }
    address_end(address, found->second.bytes);
    close(found->second.fd);
    memories.allocations.erase(found);
    return SUCCESS;
}

/* -- VMM ------------------------------------------------------------------------------------------- */

size_t vmm_granularity()
{
    return GRANULARITY;
}

static struct physical *physical_of(uint64_t memory)
{
    struct physical *physical = reinterpret_cast<struct physical *>(memory);
    return handle_is(physical) ? physical : nullptr;
}

static uint64_t physical_add(int fd, size_t bytes, int ordinal, uint32_t handle_types)
{
    struct physical *physical = new simgpu::physical{fd, bytes, ordinal, handle_types, 1};
    handle_add(physical);
    return reinterpret_cast<uint64_t>(physical);
}

static void physical_drop(struct physical *physical)
{
    physical->drops++;
    if (--physical->references == 0) {
        close(physical->fd);
        handle_remove(physical);
        delete physical;
    }
}

int vmm_create(uint64_t *memory, size_t bytes, int ordinal, uint32_t handle_types)
{
    guard held(driver_lock);
    if (device_at(ordinal) == nullptr || bytes == 0 || bytes % GRANULARITY != 0) {
        return device_at(ordinal) == nullptr ? INVALID_DEVICE : INVALID_VALUE;
    }
    int fd = memory_file(bytes);
    if (fd < 0) {
        return OUT_OF_MEMORY;
    }
    *memory = physical_add(fd, bytes, ordinal, handle_types);
    return SUCCESS;
}

int vmm_release(uint64_t memory)
{
    guard held(driver_lock);
    struct physical *physical = physical_of(memory);
    if (physical == nullptr) {
        driver_misused("a release of a memory handle");
    }
    physical_drop(physical);
    return SUCCESS;
}

int vmm_retain(uint64_t *memory, uint64_t address)
{
    guard held(driver_lock);
    uint64_t start = 0;
    struct allocation *found = allocation_at(address, &start);
    if (found == nullptr || found->physical == nullptr) {
        return INVALID_VALUE;
    }
    found->physical->references++;
    *memory = reinterpret_cast<uint64_t>(found->physical);
    return SUCCESS;
}

int vmm_export(int *fd, uint64_t memory, int handle_type)
{
    guard held(driver_lock);
    struct physical *physical = physical_of(memory);
    if (physical == nullptr || handle_type != 1 || (physical->handle_types & 1) == 0) {
        return INVALID_VALUE;
    }
    *fd = fcntl(physical->fd, F_DUPFD_CLOEXEC, 0);
    return *fd < 0 ? OUT_OF_MEMORY : SUCCESS;
}

int vmm_import(uint64_t *memory, int fd)
{
    guard held(driver_lock);
    struct device *device = device_current();
    struct stat facts;
    int own = fstat(fd, &facts) == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (own < 0 || device == nullptr || facts.st_size == 0) {
        return device == nullptr ? INVALID_CONTEXT : INVALID_VALUE;
    }
    *memory = physical_add(own, (size_t)facts.st_size, device->ordinal, 1);
    return SUCCESS;
}

int vmm_reserve(uint64_t *address, size_t bytes)
{
    guard held(driver_lock);
    if (bytes == 0 || bytes % GRANULARITY != 0) {
        return INVALID_VALUE;
    }
    void *memory = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return OUT_OF_MEMORY;
    }
    *address = reinterpret_cast<uint64_t>(memory);
    memories.reservations[*address] = bytes;
    return SUCCESS;
}

int vmm_unreserve(uint64_t address, size_t bytes)
{
    guard held(driver_lock);
    auto found = memories.reservations.find(address);
    uint64_t start = 0;
    if (found == memories.reservations.end() || found->second != bytes || allocation_at(address, &start) != nullptr) {
        driver_misused("a free of addresses, mapped or of another length or");
    }
    address_end(address, bytes);
    memories.reservations.erase(found);
    return SUCCESS;
}

static bool reserved(uint64_t address, size_t bytes)
{
    auto found = memories.reservations.upper_bound(address);
    if (found == memories.reservations.begin()) {
        return false;
    }
    --found;
    return address + bytes <= found->first + found->second;
}

/* No access before vmm_access: whoever forgets that meets a fault, as on a device. */
int vmm_map(uint64_t address, size_t bytes, size_t offset, uint64_t memory)
{
    guard held(driver_lock);
    struct physical *physical = physical_of(memory);
    uint64_t start = 0;
    if (physical == nullptr || offset != 0 || bytes > physical->bytes || bytes % GRANULARITY != 0 ||
        !reserved(address, bytes)) {
        return INVALID_VALUE;
    }
    if (allocation_at(address, &start) != nullptr) {
        return ALREADY_MAPPED;
    }
    void *mapped = mmap(reinterpret_cast<void *>(address), bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, physical->fd, 0);
    if (mapped == MAP_FAILED) {
        return OUT_OF_MEMORY;
    }
    physical->references++;
    memories.allocations[address] = {bytes, memory_class::vmm, physical->ordinal, -1, physical};
    return SUCCESS;
}

static struct allocation *mapped_at(uint64_t address, size_t bytes)
{
    auto found = memories.allocations.find(address);
    if (found == memories.allocations.end() || found->second.kind != memory_class::vmm ||
        found->second.bytes != bytes) {
        driver_misused("an unmapping");
    }
    return &found->second;
}

static uint64_t drops_before(uint64_t address, size_t bytes)
{
    guard held(driver_lock);
    return mapped_at(address, bytes)->physical->drops;
}

/* libcuda damages the process's heap where an unmapping takes the last of an allocation with it, and another thread has unmapped or released
 * the same one in the meantime (docs/memory.md). */
int vmm_unmap(uint64_t address, size_t bytes)
{
    const uint64_t drops = drops_before(address, bytes);
    usleep(UNMAPPING_US);
    guard held(driver_lock);
    struct physical *physical = mapped_at(address, bytes)->physical;
    if (physical->references == 1 && physical->drops != drops) {
        driver_misused("an order of two threads' unmappings of one allocation");
    }
    mmap(reinterpret_cast<void *>(address), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
         -1, 0);
    physical_drop(physical);
    memories.allocations.erase(address);
    return SUCCESS;
}

int vmm_access(uint64_t address, size_t bytes, int ordinal, bool writes)
{
    guard held(driver_lock);
    uint64_t start = 0;
    struct allocation *found = allocation_at(address, &start);
    if (found == nullptr || found->kind != memory_class::vmm || start + found->bytes < address + bytes ||
        device_at(ordinal) == nullptr) {
        return INVALID_VALUE;
    }
    int protection = writes ? PROT_READ | PROT_WRITE : PROT_READ;
    return mprotect(reinterpret_cast<void *>(address), bytes, protection) == 0 ? SUCCESS : INVALID_VALUE;
}

} // namespace simgpu
