/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_peer.c - starts the ranks of another library.
 *
 * The library's own mpirun starts the peer program (bench/peers/mpi.c, built where its compiler is installed). Each of
 * its ranks connects to an abstract socket of the bench, which leaves no file behind, and says who it is.
 * Binding: MPICH's launcher binds nothing by default; Open MPI's binds to cores, which would put ranks of other
 * programs at a disadvantage or itself, so it is told not to. Everything else is as installed: Open MPI yields
 * when it sees more ranks than cores, MPICH spins.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench_team.h"
#include "bench_team_state.h"

#define START_MS 60000
#define POLL_MS 50

static const struct peer {
    const char *launcher; /* Debian's names, by which both can be installed at once */
    const char *program;
    const char *packages;
} peers[] = {
    [BENCH_PEER_OPENMPI] = {"mpirun.openmpi", "tutti-peer-openmpi", "openmpi-bin libopenmpi-dev"},
    [BENCH_PEER_MPICH] = {"mpirun.mpich", "tutti-peer-mpich", "mpich libmpich-dev"},
};

/* The peer program lies beside the tool. */
static int find_program(const struct peer *peer, char *path, size_t path_bytes)
{
    ssize_t length = readlink("/proc/self/exe", path, path_bytes - 1);
    if (length <= 0) {
        return -1;
    }
    path[length] = '\0';
    char *name = strrchr(path, '/') + 1;
    if ((size_t)(name - path) + strlen(peer->program) >= path_bytes) {
        return -1;
    }
    memcpy(name, peer->program, strlen(peer->program) + 1);
    return access(path, X_OK);
}

static bool launcher_installed(const char *launcher)
{
    char path[PATH_MAX];
    const char *rest = getenv("PATH");
    while (rest != NULL && *rest != '\0') {
        size_t length = strcspn(rest, ":");
        int written = snprintf(path, sizeof(path), "%.*s/%s", (int)length, rest, launcher);
        if (written > 0 && (size_t)written < sizeof(path) && access(path, X_OK) == 0) {
            return true;
        }
        rest += length + (rest[length] == ':');
    }
    return false;
}

static int listen_for_ranks(struct bench_team *team, char *name, size_t name_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timespec time;
    (void)clock_gettime(CLOCK_REALTIME, &time);
    (void)snprintf(name, name_bytes, "tutti-bench-%ld-%lld%09ld", (long)getpid(), (long long)time.tv_sec, time.tv_nsec);
    memcpy(address.sun_path + 1, name, strlen(name)); /* the leading zero: no file */
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, bytes) != 0 || listen(fd, TUTTI_WORLD_MAX) != 0) {
        (void)snprintf(team->sentence, sizeof(team->sentence), "%s: no socket for its ranks: %s", team->name,
                       strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        return -1;
    }
    return fd;
}

static _Noreturn void exec_launcher(enum bench_peer which, const char *program, const char *socket_name, int ranks,
                                    int log_fd)
{
    char count[16];
    const char *arguments[16];
    size_t used = 0;
    (void)snprintf(count, sizeof(count), "%d", ranks);
    arguments[used++] = peers[which].launcher;
    if (which == BENCH_PEER_OPENMPI) {
        if (geteuid() == 0) {
            arguments[used++] = "--allow-run-as-root";
        }
        arguments[used++] = "--oversubscribe";
        arguments[used++] = "--bind-to";
        arguments[used++] = "none";
    }
    arguments[used++] = "-n";
    arguments[used++] = count;
    arguments[used++] = program;
    arguments[used++] = socket_name;
    arguments[used] = NULL;
    int nothing = open("/dev/null", O_RDONLY);
    (void)dup2(nothing, STDIN_FILENO);
    (void)dup2(log_fd, STDOUT_FILENO);
    (void)dup2(log_fd, STDERR_FILENO);
    (void)setpgid(0, 0); /* Ctrl-C reaches the bench; its ranks then see it hang up and leave in order */
    union {              /* execvp does not write to them, but its type predates const */
        const char **given;
        char *const *taken;
    } vector = {.given = arguments};
    (void)execvp(arguments[0], vector.taken);
    _exit(127);
}

/* Whoever knows the name may connect: only ranks of the same user count. */
static bool same_user(int fd)
{
    struct ucred who;
    socklen_t bytes = sizeof(who);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 && who.uid == geteuid();
}

/* Takes one connection and files it under the rank that its hello names, leaving the hello to be read. */
static int take_rank(struct bench_team *team, int listener)
{
    struct bench_hello hello;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || !same_user(fd) || recv(fd, &hello, sizeof(hello), MSG_PEEK | MSG_WAITALL) != sizeof(hello) ||
        hello.magic != BENCH_MAGIC || hello.rank < 0 || hello.rank >= team->ranks || team->fds[hello.rank] >= 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return 0; /* none of ours: goes on waiting */
    }
    team->fds[hello.rank] = fd;
    return 1;
}

static int await_ranks(struct bench_team *team, int listener)
{
    int connected = 0;
    for (int waited_ms = 0; connected < team->ranks;) {
        struct pollfd wait = {.fd = listener, .events = POLLIN};
        if (poll(&wait, 1, POLL_MS) > 0) {
            connected += take_rank(team, listener);
            continue;
        }
        waited_ms += POLL_MS;
        if (waitpid(team->pids[0], NULL, WNOHANG) == team->pids[0]) {
            team->pids[0] = 0;
            (void)snprintf(team->sentence, sizeof(team->sentence), "%s: its ranks did not start", team->name);
            bench_team_add_log(team);
            return -1;
        }
        if (waited_ms > START_MS) {
            (void)snprintf(team->sentence, sizeof(team->sentence), "%s: only %d of %d ranks started in %d s",
                           team->name, connected, team->ranks, START_MS / 1000);
            bench_team_add_log(team);
            return -1;
        }
    }
    return 0;
}

int bench_team_start_peer(struct bench_team *team, enum bench_peer which, int ranks)
{
    const struct peer *peer = &peers[which];
    char program[PATH_MAX];
    char socket_name[80];
    bench_team_clear(team, bench_peer_name(which), ranks);
    if (find_program(peer, program, sizeof(program)) != 0 || !launcher_installed(peer->launcher)) {
        (void)snprintf(team->sentence, sizeof(team->sentence),
                       "%s: %s is missing: apt-get install %s, then build again", team->name,
                       launcher_installed(peer->launcher) ? peer->program : peer->launcher, peer->packages);
        return -1;
    }
    int listener = listen_for_ranks(team, socket_name, sizeof(socket_name));
    if (listener < 0) {
        return -1;
    }
    team->log_fd = memfd_create("tutti-bench-log", MFD_CLOEXEC);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        exec_launcher(which, program, socket_name, ranks, team->log_fd);
    }
    int failed = 0;
    if (pid < 0) {
        (void)snprintf(team->sentence, sizeof(team->sentence), "%s: fork: %s", team->name, strerror(errno));
        failed = -1;
    } else {
        team->pids[0] = pid;
        failed = await_ranks(team, listener) != 0 || bench_team_greet(team) != 0 ? -1 : 0;
    }
    (void)close(listener);
    if (failed != 0) {
        bench_team_stop(team);
    }
    return failed;
}

void bench_team_add_log(struct bench_team *team)
{
    char log[513];
    if (team->log_fd < 0) {
        return;
    }
    off_t end = lseek(team->log_fd, 0, SEEK_END);
    off_t from = end > 512 ? end - 512 : 0;
    ssize_t length = pread(team->log_fd, log, sizeof(log) - 1, from);
    if (length <= 0) {
        return;
    }
    log[length] = '\0';
    for (char *c = log; *c != '\0'; c++) {
        if (*c == '\n') {
            *c = ' ';
        }
    }
    size_t used = strlen(team->sentence);
    (void)snprintf(team->sentence + used, sizeof(team->sentence) - used, " (it wrote: %s)", log);
}
