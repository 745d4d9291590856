/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_team.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench_team_state.h"

#define FDS_MAX 1024 /* more than all teams together have open */
#define START_MS 60000
#define REPLY_MS 300000
#define LEAVE_MS 5000
#define FAILED_LEAVE_MS 300 /* the other ranks may be waiting for the one that failed */

void bench_team_clear(struct bench_team *team, const char *name, int ranks)
{
    memset(team, 0, sizeof(*team));
    team->name = name;
    team->ranks = ranks;
    team->log_fd = -1;
    for (int rank = 0; rank < TUTTI_WORLD_MAX; rank++) {
        team->fds[rank] = -1;
    }
}

/* -- our ranks ------------------------------------------------------------------------------- */

struct rank_start {
    pthread_t thread;
    bench_serve *serve;
    struct bench_seat seat;
};

static void *rank_main(void *argument)
{
    struct rank_start *start = argument;
    int failed = start->serve(&start->seat);
    (void)shutdown(start->seat.fd, SHUT_RDWR); /* what close would tell if the rank were a process */
    return failed != 0 ? argument : NULL;
}

/* In the child: all that it has of the bench's and of other ranks', or they would not see the bench hang up. */
static void others_close(const int *rank_fds, int first, int end)
{
    for (int fd = STDERR_FILENO + 1; fd < FDS_MAX; fd++) {
        bool own = false;
        for (int rank = first; rank < end; rank++) {
            own = own || rank_fds[rank] == fd;
        }
        if (!own) {
            (void)close(fd);
        }
    }
}

/* The child's side: serves the ranks first..end-1 and leaves. */
static _Noreturn void child_main(const int *rank_fds, bench_serve *serve, const struct bench_seat *seat, int first,
                                 int end)
{
    struct rank_start starts[TUTTI_WORLD_MAX];
    int failed = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    others_close(rank_fds, first, end);
    int rank = first;
    do {
        starts[rank] = (struct rank_start){.serve = serve, .seat = *seat};
        starts[rank].seat.fd = rank_fds[rank];
        starts[rank].seat.rank = rank;
    } while (++rank < end);
    for (rank = first + 1; rank < end; rank++) {
        if (pthread_create(&starts[rank].thread, NULL, rank_main, &starts[rank]) != 0) {
            _exit(1);
        }
    }
    failed = rank_main(&starts[first]) != NULL;
    for (rank = first + 1; rank < end; rank++) {
        void *result = NULL;
        (void)pthread_join(starts[rank].thread, &result);
        failed |= result != NULL;
    }
    _exit(failed);
}

static int fork_ranks(struct bench_team *team, const int *rank_fds, bench_serve *serve, const struct bench_seat *seat,
                      int step)
{
    (void)fflush(NULL);
    for (int first = 0; first < team->ranks; first += step) {
        pid_t pid = fork();
        if (pid == 0) {
            child_main(rank_fds, serve, seat, first, first + step);
        }
        if (pid < 0) {
            (void)snprintf(team->sentence, sizeof(team->sentence), "rank %d could not be started: %s", first,
                           strerror(errno));
            return -1;
        }
        team->pids[first] = pid;
    }
    return 0;
}

static int connect_ours(struct bench_team *team, int *rank_fds)
{
    for (int rank = 0; rank < team->ranks; rank++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
            (void)snprintf(team->sentence, sizeof(team->sentence), "no socket for rank %d: %s", rank, strerror(errno));
            return -1;
        }
        team->fds[rank] = pair[0];
        rank_fds[rank] = pair[1];
    }
    return 0;
}

static void rank_fds_close(int *rank_fds)
{
    for (int rank = 0; rank < TUTTI_WORLD_MAX; rank++) {
        if (rank_fds[rank] >= 0) {
            (void)close(rank_fds[rank]);
        }
    }
}

int bench_team_start(struct bench_team *team, const char *name, const struct bench_options *options, bench_serve *serve)
{
    int rank_fds[TUTTI_WORLD_MAX];
    char directory[] = "/tmp/tutti-bench-XXXXXX";
    char rendezvous[64];
    bench_team_clear(team, name, options->ranks);
    for (int rank = 0; rank < TUTTI_WORLD_MAX; rank++) {
        rank_fds[rank] = -1;
    }
    void *meeting = mmap(NULL, BENCH_MEETING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (meeting == MAP_FAILED || mkdtemp(directory) == NULL) { /* only its name is used: unique, and ours */
        (void)snprintf(team->sentence, sizeof(team->sentence), "no meeting point %s: %s", directory, strerror(errno));
        return -1;
    }
    (void)snprintf(rendezvous, sizeof(rendezvous), "unix:%s", directory);
    int failed = connect_ours(team, rank_fds);
    if (failed == 0) {
        const struct bench_seat seat = {
            .ranks = options->ranks, .backend = options->backend, .rendezvous = rendezvous, .meeting = meeting};
        failed = fork_ranks(team, rank_fds, serve, &seat, options->threads ? options->ranks : 1);
    }
    rank_fds_close(rank_fds);
    if (failed == 0) {
        failed = bench_team_greet(team);
    }
    (void)rmdir(directory);
    (void)munmap(meeting, BENCH_MEETING_BYTES);
    if (failed != 0) {
        bench_team_stop(team);
    }
    return failed;
}

/* -- talking --------------------------------------------------------------------------------- */

static int fail(struct bench_team *team, int rank, const char *what)
{
    (void)snprintf(team->sentence, sizeof(team->sentence), "rank %d of %s: %s", rank, team->name, what);
    bench_team_add_log(team);
    return -1;
}

/* Waits until one of the ranks that are still to answer says something, so that the first to fail is heard even if the
 * others wait for it. Returns the rank, and takes it off the list; or -1 with a sentence. */
static int await_rank(struct bench_team *team, bool *pending, int timeout_ms)
{
    struct pollfd waits[TUTTI_WORLD_MAX];
    int ready = 0;
    int silent = 0;
    for (int rank = 0; rank < team->ranks; rank++) {
        waits[rank] = (struct pollfd){.fd = pending[rank] ? team->fds[rank] : -1, .events = POLLIN};
        silent = pending[rank] ? rank : silent;
    }
    do {
        ready = poll(waits, (nfds_t)team->ranks, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    for (int rank = 0; rank < team->ranks && ready > 0; rank++) {
        if (waits[rank].revents != 0) {
            pending[rank] = false;
            return rank;
        }
    }
    return fail(team, silent, "did not answer in time");
}

static int take_hello(struct bench_team *team, int rank, struct bench_stamps *stamps)
{
    struct bench_hello hello;
    (void)stamps;
    if (bench_wire_receive(team->fds[rank], &hello, sizeof(hello)) != 0) {
        return fail(team, rank, "ended before it had started");
    }
    if (hello.magic != BENCH_MAGIC || hello.rank != rank || hello.ranks != team->ranks) {
        return fail(team, rank, "is of another build than the bench");
    }
    hello.text[sizeof(hello.text) - 1] = '\0';
    hello.device_text[sizeof(hello.device_text) - 1] = '\0';
    if (hello.failed != 0) {
        return fail(team, rank, hello.text);
    }
    (void)snprintf(team->version, sizeof(team->version), "%s", hello.text);
    (void)snprintf(team->device, sizeof(team->device), "%s", hello.device_text);
    return 0;
}

/* Calls take for every rank, in the order in which they answer. */
static int for_answers(struct bench_team *team, int timeout_ms,
                       int (*take)(struct bench_team *team, int rank, struct bench_stamps *stamps),
                       struct bench_stamps *stamps)
{
    bool pending[TUTTI_WORLD_MAX];
    for (int rank = 0; rank < team->ranks; rank++) {
        pending[rank] = true;
    }
    for (int left = team->ranks; left > 0; left--) {
        int rank = await_rank(team, pending, timeout_ms);
        if (rank < 0 || take(team, rank, stamps) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Reads every rank's hello, which tells whether its library has started. */
int bench_team_greet(struct bench_team *team)
{
    return for_answers(team, START_MS, take_hello, NULL);
}

static int make_room(struct bench_team *team, struct bench_stamps *stamps, int rank, uint64_t per_rank)
{
    if (stamps->per_rank == 0) { /* the first to answer */
        stamps->per_rank = per_rank;
        uint64_t all = per_rank * (uint64_t)team->ranks;
        if (all > stamps->capacity) {
            free(stamps->by_rank);
            stamps->capacity = 0;
            stamps->by_rank = calloc(all, sizeof(*stamps->by_rank));
            if (stamps->by_rank == NULL) {
                return fail(team, rank, "no memory for its time stamps");
            }
            stamps->capacity = all;
        }
    }
    return stamps->per_rank == per_rank ? 0 : fail(team, rank, "measured another number of calls than the others");
}

static int take_reply(struct bench_team *team, int rank, struct bench_stamps *stamps)
{
    struct bench_reply reply;
    if (bench_wire_receive(team->fds[rank], &reply, sizeof(reply)) != 0 || reply.magic != BENCH_MAGIC) {
        return fail(team, rank, "ended in the middle of the measurement");
    }
    if (reply.failed != 0) {
        reply.text[sizeof(reply.text) - 1] = '\0';
        return fail(team, rank, reply.text);
    }
    if (make_room(team, stamps, rank, reply.stamps) != 0) {
        return -1;
    }
    stamps->checked += reply.checked;
    stamps->wrong += reply.wrong;
    stamps->sleeps += reply.sleeps;
    uint64_t *to = stamps->by_rank + (uint64_t)rank * stamps->per_rank;
    if (bench_wire_receive(team->fds[rank], to, reply.stamps * sizeof(*to)) != 0) {
        return fail(team, rank, "ended in the middle of its answer");
    }
    return 0;
}

int bench_team_order(struct bench_team *team, const struct bench_order *order, struct bench_stamps *stamps)
{
    stamps->checked = stamps->wrong = stamps->sleeps = 0;
    for (int rank = 0; rank < team->ranks; rank++) {
        if (bench_wire_send(team->fds[rank], order, sizeof(*order)) != 0) {
            return fail(team, rank, "has ended");
        }
    }
    stamps->per_rank = 0;
    return for_answers(team, REPLY_MS, take_reply, stamps);
}

/* -- the end --------------------------------------------------------------------------------- */

/* Whether the process ended within the time. */
static bool await_process(pid_t pid, int timeout_ms)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    for (int waited_ms = 0; waited_ms < timeout_ms; waited_ms += 2) {
        pid_t ended = waitpid(pid, NULL, WNOHANG);
        if (ended == pid || (ended < 0 && errno != EINTR)) {
            return true;
        }
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

static void end_process(pid_t pid, bool failed)
{
    if (await_process(pid, failed ? FAILED_LEAVE_MS : LEAVE_MS)) {
        return;
    }
    (void)kill(pid, SIGTERM); /* a launcher takes its ranks with it */
    if (!await_process(pid, LEAVE_MS)) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
}

void bench_team_stop(struct bench_team *team)
{
    for (int rank = 0; rank < TUTTI_WORLD_MAX; rank++) {
        if (team->fds[rank] >= 0) {
            (void)close(team->fds[rank]);
            team->fds[rank] = -1;
        }
    }
    for (int i = 0; i < TUTTI_WORLD_MAX; i++) {
        if (team->pids[i] > 0) {
            end_process(team->pids[i], team->sentence[0] != '\0');
            team->pids[i] = 0;
        }
    }
    if (team->log_fd >= 0) {
        (void)close(team->log_fd);
        team->log_fd = -1;
    }
}

void bench_stamps_free(struct bench_stamps *stamps)
{
    free(stamps->by_rank);
    memset(stamps, 0, sizeof(*stamps));
}
