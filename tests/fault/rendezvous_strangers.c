/* SPDX-License-Identifier: Apache-2.0 */
/* Strangers at the rendezvous: garbage, silence, half a greeting, hordes, another job's token, another user. None of them
 * harms the job or gets in. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"

#define TOKEN "0123456789abcdef0123456789ABCDEF"
#define OTHER_TOKEN "0123456789abcdef0123456789ABCDEE"

enum manners { SILENT, GARBAGE, HALF_A_GREETING, LONG_GARBAGE, HANGS_UP, MANNERS };

struct target {
    int tcp_port; /* 0: the Unix name */
    char name[96];
};

static int target_connect(const struct target *target)
{
    int fd;
    int failed;
    if (target->tcp_port != 0) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)target->tcp_port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        failed = connect(fd, (struct sockaddr *)&address, sizeof(address));
    } else {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t length = strlen(target->name);
        memcpy(address.sun_path + 1, target->name, length);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        failed =
            connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
    }
    if (failed != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* Connects again and again until killed, keeping up to 200 connections open. */
static void annoy(const struct target *target, uint64_t seed, _Atomic int *connected)
{
    int kept[200];
    size_t next = 0;
    memset(kept, -1, sizeof(kept));
    (void)signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = target_connect(target);
        if (fd < 0) {
            (void)usleep(200);
            continue;
        }
        (void)fcntl(fd, F_SETFL, O_NONBLOCK);
        atomic_fetch_add(connected, 1);
        unsigned char bytes[8192];
        for (size_t index = 0; index < sizeof(bytes); index++) {
            bytes[index] = (unsigned char)ranks_random(&seed);
        }
        static const char magic[8] = "tttirdv"; /* whoever knows the beginning still lacks the rest */
        ssize_t sent = 0;
        switch ((enum manners)(ranks_random(&seed) % MANNERS)) {
        case SILENT:
        case MANNERS:
            break;
        case GARBAGE:
            sent = write(fd, bytes, 100);
            break;
        case HALF_A_GREETING:
            memcpy(bytes, magic, sizeof(magic));
            sent = write(fd, bytes, 24);
            break;
        case LONG_GARBAGE:
            sent = write(fd, bytes, sizeof(bytes));
            break;
        case HANGS_UP:
            (void)close(fd);
            fd = -1;
            break;
        }
        (void)sent;
        if (kept[next % 200] >= 0) {
            (void)close(kept[next % 200]);
        }
        kept[next++ % 200] = fd;
        (void)usleep(100);
    }
}

static void unimpressed(int rank, int world, const char *rendezvous, void *user)
{
    const char *tcp = user;
    for (int round = 0; round < 5; round++) {
        if (round % 2 == 1 && rank == world - 1) {
            (void)usleep(30000); /* so that rank 0 listens for a while */
        }
        tutti_comm *comm = ranks_comm(rank, world, tcp != NULL ? tcp : rendezvous);
        int value = rank;
        CHECK_OK(tutti_broadcast(comm, &value, sizeof(value), world - 1, NULL));
        CHECK(value == world - 1, "%d", value);
        tutti_comm_destroy(comm);
    }
}

static void besiege(const struct target *target, const char *rendezvous)
{
    _Atomic int *connected = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(connected != MAP_FAILED, "mmap");
    uint64_t seed = ranks_seed();
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        annoy(target, seed, connected);
    }
    ranks_run(RANKS_PROCESSES, 4, 60, unimpressed, (void *)(uintptr_t)rendezvous);
    ranks_run(RANKS_THREADS, 3, 60, unimpressed, (void *)(uintptr_t)rendezvous);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    CHECK(atomic_load(connected) > 0, "no stranger ever got through");
    printf("%d strangers\n", atomic_load(connected));
    (void)munmap(connected, 4096);
}

/* A directory of ours, and the name that its rendezvous has. */
static void directory_target(char *directory, struct target *target, uid_t user)
{
    struct stat stat_of;
    CHECK(mkdtemp(directory) != NULL && stat(directory, &stat_of) == 0, "mkdtemp");
    target->tcp_port = 0;
    (void)snprintf(target->name, sizeof(target->name), "tutti-dir-%u-%llx-%llx", (unsigned)user,
                   (unsigned long long)stat_of.st_dev, (unsigned long long)stat_of.st_ino);
}

static int port_find(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "bind");
    CHECK(getsockname(fd, (struct sockaddr *)&address, &bytes) == 0, "getsockname");
    (void)close(fd);
    return ntohs(address.sin_port);
}

/* -- a rank of another job at our port ------------------------------------------------------------------------ */

static void other_job(int rank, int world, const char *rendezvous, void *user)
{
    (void)rendezvous;
    (void)world;
    struct verdicts *verdicts = user;
    const char *text = getenv("TEST_RENDEZVOUS");
    tutti_comm_options options = {.struct_bytes = sizeof(options), .rank = rank % 2, .world = 2, .rendezvous = text};
    options.timeout_ms = 5000;
    tutti_comm *comm = NULL;
    if (rank == 3) { /* a second rank 1, with another token: the job of ranks 0 and 1 must not notice */
        CHECK(setenv("TUTTI_SESSION_TOKEN", OTHER_TOKEN, 1) == 0, "setenv");
        verdict_give(verdicts, rank, tutti_comm_create(&options, &comm));
        return;
    }
    if (rank == 2) {
        return;
    }
    if (rank == 1) {
        (void)usleep(100000);
    }
    CHECK_OK(tutti_comm_create(&options, &comm));
    CHECK_OK(tutti_barrier(comm, NULL));
    tutti_comm_destroy(comm);
}

static void test_other_token(void)
{
    struct verdicts *verdicts = verdicts_create();
    char text[64];
    (void)snprintf(text, sizeof(text), "tcp:127.0.0.1:%d", port_find());
    CHECK(setenv("TEST_RENDEZVOUS", text, 1) == 0, "setenv");
    ranks_run(RANKS_PROCESSES, 4, 30, other_job, verdicts);
    verdict_check(verdicts, 3, TUTTI_ERR_MISMATCH, "session token");
}

/* -- something else at our port ----------------------------------------------------------------------------------- */

static void test_alien_server(void)
{
    int port = port_find();
    char text[64];
    (void)snprintf(text, sizeof(text), "tcp:127.0.0.1:%d", port);
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        int on = 1;
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 8) == 0, "listen");
        for (;;) {
            int caller = accept(fd, NULL, NULL);
            static const char page[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            ssize_t sent = write(caller, page, sizeof(page) - 1);
            (void)sent;
            (void)usleep(50000);
            (void)close(caller);
        }
    }
    (void)usleep(100000);
    tutti_comm *comm = NULL;
    tutti_comm_options options = {.struct_bytes = sizeof(options), .rank = 1, .world = 2, .rendezvous = text};
    options.timeout_ms = 1500;
    CHECK_STATUS(TUTTI_ERR_MISMATCH, tutti_comm_create(&options, &comm));
    CHECK(strstr(tutti_last_error(), "is not rank 0") != NULL, "%s", tutti_last_error());
    options.rank = 0;
    tutti_status status = tutti_comm_create(&options, &comm);
    CHECK(status == TUTTI_ERR_MISMATCH || status == TUTTI_ERR_TIMEOUT, "%s", tutti_last_error());
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

/* -- another user ----------------------------------------------------------------------------------------------------- */

/* Takes our job's name before us: we must not talk to it. And calls us: we must not listen. */
static void test_other_user(void)
{
    char directory[] = "/tmp/tutti-test-XXXXXX";
    struct target target;
    directory_target(directory, &target, geteuid());
    char text[64];
    (void)snprintf(text, sizeof(text), "unix:%s", directory);
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        CHECK(setgid(65534) == 0 && setuid(65534) == 0, "setuid");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t length = strlen(target.name);
        memcpy(address.sun_path + 1, target.name, length);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        CHECK(bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)) ==
                      0 &&
                  listen(fd, 8) == 0,
              "listen");
        (void)pause();
    }
    (void)usleep(100000);
    tutti_comm *comm = NULL;
    tutti_comm_options options = {.struct_bytes = sizeof(options), .rank = 1, .world = 2, .rendezvous = text};
    options.timeout_ms = 3000;
    CHECK_STATUS(TUTTI_ERR_SYSTEM, tutti_comm_create(&options, &comm));
    CHECK(strstr(tutti_last_error(), "held by user 65534") != NULL, "%s", tutti_last_error());
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    CHECK(rmdir(directory) == 0, "rmdir");
}

int main(void)
{
    CHECK(setenv("TUTTI_SESSION_TOKEN", TOKEN, 1) == 0, "setenv");
    test_other_token(); /* first: settings are read once, and this process must not have read them before it forks */
    char directory[] = "/tmp/tutti-test-XXXXXX";
    char text[64];
    struct target target;
    directory_target(directory, &target, geteuid());
    (void)snprintf(text, sizeof(text), "unix:%s", directory);
    /* ranks_run's own rendezvous would have a name that nobody here knows. */
    besiege(&target, text);
    CHECK(rmdir(directory) == 0, "something was left in %s", directory);
    target.tcp_port = port_find();
    (void)snprintf(text, sizeof(text), "tcp:127.0.0.1:%d", target.tcp_port);
    besiege(&target, text);
    test_alien_server();
    if (geteuid() == 0) {
        test_other_user();
    } else {
        printf("not root: no other user to try\n");
    }
    return 0;
}
