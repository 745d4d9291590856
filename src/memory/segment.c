/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/process.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3; older headers lack it */
#endif

#define ASK_FOR_ROOM_BYTES ((size_t)16 << 20) /* below, asking costs more than it can save */
#define SEALS_REQUIRED (F_SEAL_SHRINK | F_SEAL_GROW)

/* Every segment mapped into this process. A list: there are as many as ranks that this process meets. */
static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct segment *cache;
static pthread_once_t hook_once = PTHREAD_ONCE_INIT;

static void cache_acquire(void)
{
    (void)pthread_mutex_lock(&cache_lock);
}

static void cache_give_back(void)
{
    (void)pthread_mutex_unlock(&cache_lock);
}

static struct process_fork_hook hook = {cache_acquire, cache_give_back, cache_give_back, NULL};

static void hook_add(void)
{
    process_fork_hook_add(&hook);
}

static struct segment *cache_find(uint64_t device, uint64_t inode)
{
    struct segment *found = cache;
    while (found != NULL && (found->device != device || found->inode != inode)) {
        found = found->next;
    }
    return found;
}

/* Maps `fd` and enters it into the cache, or adds a reference to the entry that is there. */
static tutti_status segment_map(int fd, size_t bytes, bool keep_fd, struct segment **segment)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0) {
        return error_set_errno("fstat of a shared segment");
    }
    (void)pthread_once(&hook_once, hook_add);
    cache_acquire();
    tutti_status status = TUTTI_OK;
    struct segment *found = cache_find(stat.st_dev, stat.st_ino);
    if (found != NULL) {
        found->references++;
        goto done;
    }
    found = malloc(sizeof(*found));
    if (found == NULL) {
        status = error_set(TUTTI_ERR_SYSTEM, "out of memory for the record of a shared segment");
        goto done;
    }
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        status = error_set_errno("mapping a shared segment of %zu bytes", bytes);
        free(found);
        goto done;
    }
    *found = (struct segment){base, bytes, stat.st_dev, stat.st_ino, keep_fd ? fd : -1, 1, cache};
    cache = found;
done:
    cache_give_back();
    if (status == TUTTI_OK) {
        *segment = found;
    }
    return status;
}

static int memfd_open(void)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("tutti", flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) {
        fd = memfd_create("tutti", flags); /* Linux before 6.3 */
    }
    return fd;
}

/* The number behind `name` in a file of the kernel's, times `unit`; UINT64_MAX if there is none. */
static uint64_t kernel_number(const char *path, const char *name, uint64_t unit)
{
    char text[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    text[got > 0 ? got : 0] = 0;
    const char *found = strstr(text, name);
    if (found == NULL) {
        return UINT64_MAX;
    }
    char *end = NULL;
    unsigned long long number = strtoull(found + strlen(name), &end, 10);
    return end == found + strlen(name) || number > UINT64_MAX / unit ? UINT64_MAX : (uint64_t)number * unit;
}

/* Reserving more than there is does not fail: the kernel first kills processes to make room. So ask before. */
static tutti_status room_check(size_t bytes)
{
    if (bytes < ASK_FOR_ROOM_BYTES) {
        return TUTTI_OK;
    }
    uint64_t machine_bytes = kernel_number("/proc/meminfo", "MemAvailable:", 1024);
    uint64_t container_bytes = kernel_number("/sys/fs/cgroup/memory.max", "", 1);
    uint64_t room_bytes = machine_bytes < container_bytes ? machine_bytes : container_bytes;
    if (bytes <= room_bytes) {
        return TUTTI_OK;
    }
    return error_set(TUTTI_ERR_SYSTEM,
                     "no room for %zu bytes of shared memory, %llu are available: lower message_bytes_max or lanes",
                     bytes, (unsigned long long)room_bytes);
}

static tutti_status memfd_reserve(int fd, size_t bytes)
{
    tutti_status status = room_check(bytes);
    if (status != TUTTI_OK) {
        return status;
    }
    if (bytes > INT64_MAX || ftruncate(fd, (off_t)bytes) != 0) {
        return error_set_errno("a shared segment of %zu bytes", bytes);
    }
    int failed;
    do {
        failed = fallocate(fd, 0, 0, (off_t)bytes);
    } while (failed != 0 && errno == EINTR);
    if (failed != 0 && (errno == ENOSPC || errno == ENOMEM)) {
        return error_set(
            TUTTI_ERR_SYSTEM,
            "no room for %zu bytes of shared memory: lower message_bytes_max or lanes, or raise the memory "
            "limit of this process or container",
            bytes);
    }
    if (failed != 0) {
        return error_set_errno("reserving %zu bytes of shared memory", bytes);
    }
    if (fcntl(fd, F_ADD_SEALS, SEALS_REQUIRED | F_SEAL_SEAL) != 0) {
        return error_set_errno("sealing a shared segment");
    }
    return TUTTI_OK;
}

tutti_status segment_create(size_t bytes, struct segment **segment)
{
    int fd = memfd_open();
    if (fd < 0) {
        return error_set_errno("memfd_create");
    }
    tutti_status status = memfd_reserve(fd, bytes);
    if (status == TUTTI_OK) {
        status = segment_map(fd, bytes, true, segment);
    }
    if (status != TUTTI_OK) {
        (void)close(fd);
    }
    return status;
}

tutti_status segment_import(int fd, size_t bytes, struct segment **segment)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0) {
        return error_set_errno("fstat of a peer's segment");
    }
    int seals = fcntl(fd, F_GET_SEALS);
    if (!S_ISREG(stat.st_mode) || seals < 0) {
        return error_set(TUTTI_ERR_SYSTEM, "a peer passed something that is not shared memory");
    }
    if (stat.st_size < 0 || (uint64_t)stat.st_size != bytes) {
        return error_set(TUTTI_ERR_SYSTEM, "a peer's segment has %lld bytes instead of %zu", (long long)stat.st_size,
                         bytes);
    }
    if ((seals & SEALS_REQUIRED) != SEALS_REQUIRED) {
        return error_set(TUTTI_ERR_SYSTEM, "a peer's segment is not sealed: it could be cut off under us");
    }
    if ((uint64_t)stat.st_blocks * 512u < bytes) {
        return error_set(TUTTI_ERR_SYSTEM, "a peer's segment is not reserved: it could fail under us");
    }
    return segment_map(fd, bytes, false, segment);
}

struct segment *segment_find(uint64_t device, uint64_t inode, size_t bytes)
{
    cache_acquire();
    struct segment *found = cache_find(device, inode);
    if (found != NULL && found->bytes != bytes) {
        found = NULL;
    }
    if (found != NULL) {
        found->references++;
    }
    cache_give_back();
    return found;
}

struct segment *segment_at(const void *base)
{
    cache_acquire();
    struct segment *found = cache;
    while (found != NULL && found->base != base) {
        found = found->next;
    }
    if (found != NULL) {
        found->references++;
    }
    cache_give_back();
    return found;
}

int segment_fd(const struct segment *segment)
{
    return segment->fd;
}

void segment_fd_close(struct segment *segment)
{
    if (segment->fd >= 0) {
        (void)close(segment->fd);
        segment->fd = -1;
    }
}

void segment_release(struct segment *segment)
{
    if (segment == NULL) {
        return;
    }
    cache_acquire();
    bool last = --segment->references == 0;
    if (last) {
        struct segment **link = &cache;
        while (*link != segment) {
            link = &(*link)->next;
        }
        *link = segment->next;
    }
    cache_give_back();
    if (last) {
        segment_fd_close(segment);
        (void)munmap(segment->base, segment->bytes);
        free(segment);
    }
}
