/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trap.h - counts what libtutti asks for between arm() and disarm(): allocations, and apart from them mappings, threads, processes, files
 * and sockets, by who asks; on simulated devices also the driver calls of other threads. For a program of one file: it defines the C
 * library's functions anew.
 */
#ifndef TESTS_HARNESS_TRAP_H
#define TESTS_HARNESS_TRAP_H

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/library.h"

/* -- the trap ------------------------------------------------------------------------------------------------ */

static _Atomic int armed;
static _Atomic uint64_t allocations, others;
static const char *_Atomic first_other;

#if TRAPS

static bool from_library(const void *caller)
{
    return atomic_load(&armed) != 0 && library_has(caller);
}

static void note(const void *caller, const char *name)
{
    if (from_library(caller) && atomic_fetch_add(&others, 1) == 0) {
        atomic_store(&first_other, name);
    }
}

/* In place of the C library's, for all libraries of the process. */
#pragma GCC visibility push(default)

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static void note_memory(const void *caller)
{
    if (from_library(caller)) {
        (void)atomic_fetch_add(&allocations, 1);
    }
}

void *malloc(size_t bytes)
{
    note_memory(__builtin_return_address(0));
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    note_memory(__builtin_return_address(0));
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    note_memory(__builtin_return_address(0));
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    note_memory(__builtin_return_address(0));
    return __libc_memalign(alignment, bytes);
}

/* The C library's function of the same name, whose type `like` has. */
#define REAL(like, name)                                                                                               \
    __typeof__(like) *real = NULL;                                                                                     \
    void *found = dlsym(RTLD_NEXT, name);                                                                              \
    memcpy(&real, &found, sizeof(real))

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    REAL(mmap, "mmap");
    note(__builtin_return_address(0), "mmap");
    return real(address, bytes, protection, flags, fd, offset);
}

pid_t fork(void)
{
    REAL(fork, "fork");
    note(__builtin_return_address(0), "fork");
    return real();
}

int posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *restrict attributes, char *const arguments[restrict],
                char *const variables[restrict])
{
    REAL(posix_spawn, "posix_spawn");
    note(__builtin_return_address(0), "posix_spawn");
    return real(pid, path, actions, attributes, arguments, variables);
}

FILE *popen(const char *command, const char *mode)
{
    REAL(popen, "popen");
    note(__builtin_return_address(0), "popen");
    return real(command, mode);
}

FILE *fopen(const char *restrict path, const char *restrict mode)
{
    REAL(fopen, "fopen");
    note(__builtin_return_address(0), "fopen");
    return real(path, mode);
}

int open(const char *path, int flags, ...)
{
    REAL(open, "open");
    note(__builtin_return_address(0), "open");
    return real(path, flags, 0600);
}

int socket(int domain, int type, int protocol)
{
    REAL(socket, "socket");
    note(__builtin_return_address(0), "socket");
    return real(domain, type, protocol);
}

int memfd_create(const char *name, unsigned flags)
{
    REAL(memfd_create, "memfd_create");
    note(__builtin_return_address(0), "memfd_create");
    return real(name, flags);
}

void *dlopen(const char *path, int mode)
{
    REAL(dlopen, "dlopen");
    note(__builtin_return_address(0), "dlopen");
    return real(path, mode);
}

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes, void *(*body)(void *),
                   void *restrict argument)
{
    REAL(pthread_create, "pthread_create");
    note(__builtin_return_address(0), "pthread_create");
    return real(thread, attributes, body, argument);
}
#pragma GCC visibility pop
#endif

/* -- the simulated driver's part --------------------------------------------------------------------------------- */

static void (*driver_watch)(int on);
static uint64_t (*driver_strangers)(const char **first);

static void driver_find(void)
{
    const char *vendor = getenv("TUTTI_TEST_GPU");
    const char *path =
        getenv(vendor != NULL && strcmp(vendor, "hip") == 0 ? "TUTTI_HIP_LIBRARY" : "TUTTI_CUDA_LIBRARY");
    if (path == NULL) {
        return; /* a real one, which nobody can watch; but it invalidates captures (of this mode) for calls of other threads */
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL, "no simulated driver");
    void *watch = dlsym(library, "simgpu_watch");
    void *strangers = dlsym(library, "simgpu_strangers");
    CHECK(watch != NULL && strangers != NULL, "a driver that cannot be watched");
    memcpy(&driver_watch, &watch, sizeof(watch));
    memcpy(&driver_strangers, &strangers, sizeof(strangers));
}

static void arm(void)
{
    atomic_store(&allocations, 0);
    atomic_store(&others, 0);
    if (driver_watch != NULL) {
        driver_watch(1);
    }
    atomic_store(&armed, 1);
}

/* How often the library asked for memory. */
static uint64_t disarm(const char *when)
{
    const char *who = "";
    atomic_store(&armed, 0);
    uint64_t strangers = driver_strangers != NULL ? driver_strangers(&who) : 0;
    CHECK(strangers == 0, "%s: %llu driver calls from other threads, %s first", when, (unsigned long long)strangers,
          who);
    if (driver_watch != NULL) {
        driver_watch(0);
    }
    CHECK(atomic_load(&others) == 0, "%s: the library called %s", when, atomic_load(&first_other));
    return atomic_load(&allocations);
}

static void trap_set(void)
{
    library_find();
    if (ON_DEVICES) {
        driver_find();
    }
}

#endif
