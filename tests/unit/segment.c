/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: sealed, reserved, zero, mapped once per process; what is not like that is refused before it is mapped. */
#include "memory/segment.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check.h"

#define BYTES ((size_t)1 << 20)

static void check_refused(int fd, const char *part)
{
    struct segment *segment = NULL;
    CHECK_STATUS(TUTTI_ERR_SYSTEM, segment_import(fd, BYTES, &segment));
    CHECK(segment == NULL && strstr(tutti_last_error(), part) != NULL, "\"%s\" lacks \"%s\"", tutti_last_error(), part);
}

static void test_made(void)
{
    struct segment *segment = NULL;
    CHECK_OK(segment_create(BYTES, &segment));
    const unsigned char *bytes = segment->base;
    for (size_t index = 0; index < BYTES; index++) {
        CHECK(bytes[index] == 0, "byte %zu is %d", index, bytes[index]);
    }
    int fd = segment_fd(segment);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "a child program would inherit it");
    CHECK(ftruncate(fd, 4096) != 0 && ftruncate(fd, 2 * BYTES) != 0, "its size can be changed");
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0, "more seals can be added");
    segment_fd_close(segment);
    CHECK(segment_fd(segment) == -1 && fcntl(fd, F_GETFD) == -1, "the descriptor is still open");
    segment_fd_close(segment);
    segment_release(segment);
    segment_release(NULL);
}

static void test_one_mapping(void)
{
    struct segment *first = NULL;
    struct segment *second = NULL;
    CHECK_OK(segment_create(BYTES, &first));
    CHECK_OK(segment_import(segment_fd(first), BYTES, &second));
    CHECK(first == second, "mapped twice");
    CHECK(segment_find(first->device, first->inode, BYTES) == first, "not found");
    CHECK(segment_find(first->device, first->inode, BYTES / 2) == NULL, "found with another size");
    CHECK(segment_find(first->device, first->inode + 1, BYTES) == NULL, "found another one");
    uint64_t device = first->device;
    uint64_t inode = first->inode;
    volatile unsigned char *base = first->base;
    segment_release(first);
    segment_release(first);
    base[BYTES - 1] = 1; /* the third reference still maps it */
    segment_release(first);
    CHECK(segment_find(device, inode, BYTES) == NULL, "found after its last release");
    CHECK(msync((void *)(uintptr_t)base, BYTES, MS_ASYNC) != 0, "still mapped after its last release");
}

static void test_across_processes(void)
{
    struct segment *mine = NULL;
    CHECK_OK(segment_create(BYTES, &mine));
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        /* The child's inherited record must not be mistaken for a mapping of a stranger's segment. */
        struct segment *again = NULL;
        CHECK_OK(segment_import(segment_fd(mine), BYTES, &again));
        ((unsigned char *)again->base)[17] = 42;
        segment_release(again);
        segment_release(mine);
        _exit(0);
    }
    int state = 0;
    CHECK(waitpid(child, &state, 0) == child && state == 0, "the child ended with 0x%x", (unsigned)state);
    CHECK(((unsigned char *)mine->base)[17] == 42, "the child's write did not arrive");
    segment_release(mine);
}

static int memfd(size_t bytes, int reserve, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0, "memfd");
    CHECK(!reserve || fallocate(fd, 0, 0, (off_t)bytes) == 0, "fallocate");
    CHECK(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0, "seals");
    return fd;
}

static void test_refused(void)
{
    int pipes[2];
    CHECK(pipe(pipes) == 0, "pipe");
    check_refused(pipes[0], "not shared memory");
    (void)close(pipes[0]);
    (void)close(pipes[1]);

    char path[] = "/tmp/tutti-test-segment-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0 && ftruncate(fd, (off_t)BYTES) == 0, "mkstemp");
    /* A file of a tmpfs can be asked for its seals and has none that matter; any other cannot be asked. */
    struct segment *segment = NULL;
    CHECK_STATUS(TUTTI_ERR_SYSTEM, segment_import(fd, BYTES, &segment));
    (void)close(fd);

    fd = memfd(BYTES, 1, 0);
    check_refused(fd, "not sealed");
    (void)close(fd);
    fd = memfd(BYTES, 1, F_SEAL_SHRINK);
    check_refused(fd, "not sealed");
    (void)close(fd);
    fd = memfd(BYTES / 2, 1, F_SEAL_SHRINK | F_SEAL_GROW);
    check_refused(fd, "524288 bytes instead of 1048576");
    (void)close(fd);
    fd = memfd(2 * BYTES, 1, F_SEAL_SHRINK | F_SEAL_GROW);
    check_refused(fd, "2097152 bytes");
    (void)close(fd);
    fd = memfd(BYTES, 0, F_SEAL_SHRINK | F_SEAL_GROW);
    check_refused(fd, "not reserved");
    (void)close(fd);
    check_refused(-1, "fstat");
}

/* Want of memory is an error here, not a SIGBUS at the first touch. */
static void test_no_room(void)
{
    struct segment *segment = NULL;
    /* Far above any machine: it must be refused by asking, for the kernel would kill processes to make room. */
    CHECK_STATUS(TUTTI_ERR_SYSTEM, segment_create((size_t)1 << 60, &segment));
    CHECK(segment == NULL && strstr(tutti_last_error(), "message_bytes_max") != NULL, "%s", tutti_last_error());
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        struct rlimit limit = {BYTES, BYTES};
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR, "setrlimit");
        CHECK_STATUS(TUTTI_ERR_SYSTEM, segment_create(2 * BYTES, &segment));
        CHECK(segment == NULL && strstr(tutti_last_error(), "2097152") != NULL, "%s", tutti_last_error());
        _exit(0);
    }
    int state = 0;
    CHECK(waitpid(child, &state, 0) == child && state == 0, "the child ended with 0x%x", (unsigned)state);
}

int main(void)
{
    test_made();
    test_one_mapping();
    test_across_processes();
    test_refused();
    test_no_room();
    return 0;
}
