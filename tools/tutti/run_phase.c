/* SPDX-License-Identifier: Apache-2.0 */
#include "run_phase.h"

#include <cblas.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run_progress.h"

/* How often the parent looks, and how long ranks get to notice that one of them failed. */
#define LOOK_NS 20000000L
#define GRACE_S 20.0

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static void signals_set(void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    (void)sigaction(SIGPIPE, &action, NULL); /* `tutti run | head` */
}

bool phase_prepare(struct run *run, char *why, size_t why_bytes)
{
    const char *base = getenv("TMPDIR");
    if (base == NULL || strlen(base) > 30) {
        base = "/tmp";
    }
    (void)snprintf(run->directory, sizeof(run->directory), "%s/tutti-run-XXXXXX", base);
    if (mkdtemp(run->directory) == NULL) {
        (void)snprintf(why, why_bytes, "%s: %s", run->directory, strerror(errno));
        run->directory[0] = '\0';
        return false;
    }
    signals_set(on_signal);
    return true;
}

static const char *const meetings[] = {"all", "survivors"};

/* A rendezvous names a directory that exists; each phase has fresh ones. */
static bool meetings_make(const struct run *run, struct phase_rank *self, char *why, size_t why_bytes)
{
    char *const addresses[] = {self->meeting, self->survivors};
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(addresses[i], sizeof(self->meeting), "unix:%s/%s", run->directory, meetings[i]);
        if (mkdir(addresses[i] + strlen("unix:"), 0700) != 0 && errno != EEXIST) {
            (void)snprintf(why, why_bytes, "%s: %s", addresses[i] + strlen("unix:"), strerror(errno));
            return false;
        }
    }
    return true;
}

void phase_cleanup(struct run *run)
{
    if (run->directory[0] == '\0') {
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        char path[96];
        (void)snprintf(path, sizeof(path), "%s/%s", run->directory, meetings[i]);
        (void)rmdir(path);
    }
    (void)rmdir(run->directory);
    run->directory[0] = '\0';
}

/* In the child. The parent has not touched the library, so nothing of it was inherited half-alive. */
static void rank_main(const struct phase *phase, const struct phase_rank *self, pid_t parent)
{
    signals_set(SIG_DFL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    openblas_set_num_threads(1);
    bool good = phase->body(self);
    (void)fflush(NULL);
    _exit(good ? 0 : 1);
}

struct watch {
    pid_t pids[TUTTI_WORLD_MAX]; /* 0: ended */
    int left;
    int failed_rank; /* -1: none; the first that ended badly */
    int failed_state;
    double failed_s;
};

static void watch_kill(const struct watch *watch, int world)
{
    for (int rank = 0; rank < world; rank++) {
        if (watch->pids[rank] > 0) {
            (void)kill(watch->pids[rank], SIGKILL);
        }
    }
}

static void watch_look(struct watch *watch, const struct phase *phase)
{
    for (int rank = 0; rank < phase->world; rank++) {
        int state = 0;
        if (watch->pids[rank] <= 0 || waitpid(watch->pids[rank], &state, WNOHANG) == 0) {
            continue;
        }
        watch->pids[rank] = 0;
        watch->left--;
        if (state != 0 && watch->failed_rank < 0 && (phase->spared >> rank & 1u) == 0) {
            watch->failed_rank = rank;
            watch->failed_state = state;
            watch->failed_s = serve_now_s();
        }
    }
}

/* What the furthest rank has done, over all passes of the phase. */
static uint64_t tokens_done(const struct run *run, const struct phase *phase)
{
    uint64_t most = 0;
    for (int rank = 0; rank < phase->world; rank++) {
        uint64_t done = 0;
        for (int slot = (int)phase->slot; slot <= (int)phase->slot_last; slot++) {
            done += atomic_load(&board_pass(&run->board, (enum board_slot)slot, rank)->tokens_done);
        }
        most = done > most ? done : most;
    }
    return most;
}

/* Why a rank failed: what it left on the board of the pass that it did not finish. */
static const char *reason_of(const struct run *run, const struct phase *phase, int rank)
{
    for (int slot = (int)phase->slot; slot <= (int)phase->slot_last; slot++) {
        const struct board_pass *pass = board_pass(&run->board, (enum board_slot)slot, rank);
        if (pass->done == 0 && pass->sentence[0] != '\0') {
            return pass->sentence;
        }
    }
    return "ended without a reason";
}

static bool phase_judge(const struct run *run, const struct phase *phase, const struct watch *watch, char *why,
                        size_t why_bytes)
{
    if (interrupted != 0) {
        (void)snprintf(why, why_bytes, "interrupted by signal %d", (int)interrupted);
        return false;
    }
    if (watch->failed_rank < 0) {
        return true;
    }
    if (WIFSIGNALED(watch->failed_state)) {
        (void)snprintf(why, why_bytes, "rank %d of %d was ended by signal %d (%s)", watch->failed_rank, phase->world,
                       WTERMSIG(watch->failed_state), strsignal(WTERMSIG(watch->failed_state)));
    } else {
        (void)snprintf(why, why_bytes, "rank %d of %d: %s", watch->failed_rank, phase->world,
                       reason_of(run, phase, watch->failed_rank));
    }
    return false;
}

/* Waits for all ranks; those that outlast a failure by the grace period, or an interruption, are killed. */
static void watch_wait(struct watch *watch, const struct run *run, const struct phase *phase)
{
    while (watch->left > 0) {
        watch_look(watch, phase);
        bool late = watch->failed_rank >= 0 && serve_now_s() - watch->failed_s > GRACE_S;
        if (interrupted != 0 || late) {
            watch_kill(watch, phase->world);
        }
        if (phase->label != NULL) {
            progress_show(phase->label, tokens_done(run, phase), phase->outputs);
        }
        if (watch->left > 0) {
            (void)nanosleep(&(struct timespec){0, LOOK_NS}, NULL);
        }
    }
}

bool phase_run(struct run *run, const struct phase *phase, char *why, size_t why_bytes)
{
    struct watch watch = {.failed_rank = -1};
    struct phase_rank self = {.run = run, .world = phase->world, .user = phase->user};
    if (!meetings_make(run, &self, why, why_bytes)) {
        return false;
    }
    (void)fflush(NULL);
    pid_t parent = getpid();
    for (int rank = 0; rank < phase->world; rank++) {
        self.rank = rank;
        pid_t pid = fork();
        if (pid == 0) {
            rank_main(phase, &self, parent);
        }
        if (pid < 0) {
            (void)snprintf(why, why_bytes, "fork of rank %d: %s", rank, strerror(errno));
            watch_kill(&watch, rank);
            watch_wait(&watch, run, phase);
            return false;
        }
        watch.pids[rank] = pid;
        watch.left++;
    }
    watch_wait(&watch, run, phase);
    if (phase->label != NULL) {
        progress_clear();
    }
    return phase_judge(run, phase, &watch, why, why_bytes);
}
