/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/gpu_memory.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"

#define HOST_PORTABLE_MAPPED 3u
#define ATTACH_GLOBAL 1u

struct location {
    int type, id;
};

struct properties {
    int type, handle_types;
    struct location location;
    void *reserved_pointer;
    uint8_t reserved[8];
};

struct access {
    struct location location;
    int flags;
};

static struct {
    int (*alloc)(uint64_t *address, size_t bytes);
    int (*free)(uint64_t address);
    int (*pool_alloc)(uint64_t *address, size_t bytes, void *stream);
    int (*pool_free)(uint64_t address, void *stream);
    int (*managed_alloc)(uint64_t *address, size_t bytes, unsigned flags);
    int (*host_alloc)(void **memory, size_t bytes, unsigned flags);
    int (*host_free)(void *memory);
    int (*create)(uint64_t *piece, size_t bytes, const struct properties *properties, unsigned long long flags);
    int (*release)(uint64_t piece);
    int (*reserve)(uint64_t *address, size_t bytes, size_t alignment, uint64_t hint, unsigned long long flags);
    int (*unreserve)(uint64_t address, size_t bytes);
    int (*map)(uint64_t address, size_t bytes, size_t offset, uint64_t piece, unsigned long long flags);
    int (*unmap)(uint64_t address, size_t bytes);
    int (*set_access)(uint64_t address, size_t bytes, const struct access *access, size_t count);
} calls;

#define ENTRY(member, cuda, hip)                                                                                       \
    {                                                                                                                  \
        (char *)&calls.member - (char *)&calls, cuda, hip                                                              \
    }

static const char *backend_loaded;

static void load(const char *backend)
{
    const struct {
        ptrdiff_t offset;
        const char *cuda, *hip;
    } entries[] = {
        ENTRY(alloc, "cuMemAlloc_v2", "hipMalloc"),
        ENTRY(free, "cuMemFree_v2", "hipFree"),
        ENTRY(pool_alloc, "cuMemAllocAsync", "hipMallocAsync"),
        ENTRY(pool_free, "cuMemFreeAsync", "hipFreeAsync"),
        ENTRY(managed_alloc, "cuMemAllocManaged", "hipMallocManaged"),
        ENTRY(host_alloc, "cuMemHostAlloc", "hipHostMalloc"),
        ENTRY(host_free, "cuMemFreeHost", "hipHostFree"),
        ENTRY(create, "cuMemCreate", "hipMemCreate"),
        ENTRY(release, "cuMemRelease", "hipMemRelease"),
        ENTRY(reserve, "cuMemAddressReserve", "hipMemAddressReserve"),
        ENTRY(unreserve, "cuMemAddressFree", "hipMemAddressFree"),
        ENTRY(map, "cuMemMap", "hipMemMap"),
        ENTRY(unmap, "cuMemUnmap", "hipMemUnmap"),
        ENTRY(set_access, "cuMemSetAccess", "hipMemSetAccess"),
    };
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    bool cuda = strcmp(backend, "cuda") == 0;
    (void)pthread_mutex_lock(&lock);
    if (backend_loaded == NULL) {
        const char *given = getenv(cuda ? "TUTTI_CUDA_LIBRARY" : "TUTTI_HIP_LIBRARY");
        const char *usual = cuda ? "libcuda.so.1" : "libamdhip64.so";
        void *library = dlopen(given != NULL && given[0] != 0 ? given : usual, RTLD_NOW | RTLD_LOCAL);
        CHECK(library != NULL, "%s", dlerror());
        for (size_t index = 0; index < sizeof(entries) / sizeof(entries[0]); index++) {
            void *found = dlsym(library, cuda ? entries[index].cuda : entries[index].hip);
            memcpy((char *)&calls + entries[index].offset, &found, sizeof(found));
        }
        backend_loaded = backend;
    }
    (void)pthread_mutex_unlock(&lock);
}

#define DO(call)                                                                                                       \
    do {                                                                                                               \
        int do_result = calls.call;                                                                                    \
        CHECK(do_result == 0, "%s: driver error %d", #call, do_result);                                                \
    } while (0)

const char *gpu_memory_name(enum gpu_memory_kind kind)
{
    static const char *const names[GPU_KIND_COUNT] = {
        "a plain allocation",   "VMM memory without a handle type", "exportable VMM memory",
        "VMM memory in pieces", "VMM memory with a hole behind it", "a pool's memory",
        "managed memory",       "page-locked host memory"};
    return names[kind];
}

static uint64_t piece_make(int ordinal, size_t bytes, bool exportable)
{
    struct properties properties = {.type = 1, .handle_types = exportable, .location = {1, ordinal}};
    uint64_t piece = 0;
    DO(create(&piece, bytes, &properties, 0));
    return piece;
}

static void piece_map(int ordinal, uint64_t address, size_t bytes, uint64_t piece)
{
    struct access access = {{1, ordinal}, 3};
    DO(map(address, bytes, 0, piece, 0));
    DO(set_access(address, bytes, &access, 1));
}

/* One page more than is mapped is reserved, so that nothing follows. */
static uint64_t vmm_make(int ordinal, struct gpu_memory *memory)
{
    uint64_t address = 0;
    bool whole = memory->kind == GPU_VMM_BARE || memory->kind == GPU_VMM_FD;
    memory->piece_count = whole ? 1 : (int)(memory->bytes / GPU_PAGE_BYTES);
    CHECK(memory->piece_count <= GPU_PIECES_MAX, "%d pieces", memory->piece_count);
    size_t piece_bytes = memory->bytes / (size_t)memory->piece_count;
    DO(reserve(&address, memory->bytes + GPU_PAGE_BYTES, 0, 0, 0));
    for (int index = 0; index < memory->piece_count; index++) {
        if (memory->kind == GPU_VMM_HOLE && index == 1) {
            continue;
        }
        memory->pieces[index] = piece_make(ordinal, piece_bytes, memory->kind != GPU_VMM_BARE);
        piece_map(ordinal, address + (size_t)index * piece_bytes, piece_bytes, memory->pieces[index]);
    }
    return address;
}

bool gpu_memory_exists(const char *backend, enum gpu_memory_kind kind)
{
    load(backend);
    bool vmm = kind == GPU_VMM_BARE || kind == GPU_VMM_FD || kind == GPU_VMM_PAIR || kind == GPU_VMM_HOLE;
    return vmm ? calls.create != NULL : kind != GPU_POOL || calls.pool_alloc != NULL;
}

bool gpu_memory_make(const char *backend, int ordinal, enum gpu_memory_kind kind, size_t bytes, tutti_stream stream,
                     struct gpu_memory *memory)
{
    uint64_t address = 0;
    void *host = NULL;
    load(backend);
    *memory = (struct gpu_memory){.kind = kind, .bytes = bytes};
    switch (kind) {
    case GPU_PLAIN:
        DO(alloc(&address, bytes));
        break;
    case GPU_POOL:
        if (calls.pool_alloc == NULL) {
            return false;
        }
        DO(pool_alloc(&address, bytes, stream));
        break;
    case GPU_MANAGED:
        DO(managed_alloc(&address, bytes, ATTACH_GLOBAL));
        break;
    case GPU_PINNED:
        DO(host_alloc(&host, bytes, HOST_PORTABLE_MAPPED));
        address = (uint64_t)(uintptr_t)host;
        break;
    case GPU_VMM_BARE:
    case GPU_VMM_FD:
    case GPU_VMM_PAIR:
    case GPU_VMM_HOLE:
    case GPU_KIND_COUNT:
        if (calls.create == NULL) {
            return false;
        }
        memory->bytes = (bytes + GPU_PAGE_BYTES - 1) / GPU_PAGE_BYTES * GPU_PAGE_BYTES;
        address = vmm_make(ordinal, memory);
        break;
    }
    memory->address = (unsigned char *)(uintptr_t)address;
    return true;
}

void gpu_memory_free(struct gpu_memory *memory, tutti_stream stream)
{
    uint64_t address = (uint64_t)(uintptr_t)memory->address;
    size_t piece_bytes = memory->piece_count > 0 ? memory->bytes / (size_t)memory->piece_count : 0;
    for (int index = 0; index < memory->piece_count; index++) {
        if (memory->pieces[index] != 0) {
            DO(unmap(address + (size_t)index * piece_bytes, piece_bytes));
            DO(release(memory->pieces[index]));
        }
    }
    if (memory->piece_count > 0) {
        DO(unreserve(address, memory->bytes + GPU_PAGE_BYTES));
    } else if (memory->kind == GPU_POOL) {
        DO(pool_free(address, stream));
    } else if (memory->kind == GPU_PINNED) {
        DO(host_free(memory->address));
    } else {
        DO(free(address));
    }
    memory->address = NULL;
}

void gpu_memory_remap_piece(int ordinal, struct gpu_memory *memory, int piece)
{
    size_t bytes = memory->bytes / (size_t)memory->piece_count;
    uint64_t address = (uint64_t)(uintptr_t)memory->address + (size_t)piece * bytes;
    CHECK(piece < memory->piece_count && memory->kind != GPU_VMM_HOLE, "only VMM memory is remapped");
    DO(unmap(address, bytes));
    DO(release(memory->pieces[piece]));
    memory->pieces[piece] = piece_make(ordinal, bytes, memory->kind != GPU_VMM_BARE);
    piece_map(ordinal, address, bytes, memory->pieces[piece]);
}

void gpu_memory_remap(int ordinal, struct gpu_memory *memory)
{
    CHECK(memory->piece_count > 0, "only VMM memory is remapped");
    for (int piece = 0; piece < memory->piece_count; piece++) {
        gpu_memory_remap_piece(ordinal, memory, piece);
    }
}
