/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/ranks.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/check.h"

#define WORLD_MAX 64

struct rank_thread {
    pthread_t thread;
    int rank, world;
    const char *rendezvous;
    rank_body body;
    void *user;
};

static void *rank_thread_main(void *argument)
{
    struct rank_thread *self = argument;
    self->body(self->rank, self->world, self->rendezvous, self->user);
    return NULL;
}

static void run_threads(int world, const char *rendezvous, rank_body body, void *user)
{
    struct rank_thread threads[WORLD_MAX];
    for (int rank = 0; rank < world; rank++) {
        threads[rank] = (struct rank_thread){0, rank, world, rendezvous, body, user};
        CHECK(pthread_create(&threads[rank].thread, NULL, rank_thread_main, &threads[rank]) == 0, "rank %d", rank);
    }
    for (int rank = 0; rank < world; rank++) {
        (void)pthread_join(threads[rank].thread, NULL);
    }
}

static void run_processes(int world, int seconds, const char *rendezvous, rank_body body, void *user)
{
    pid_t pids[WORLD_MAX];
    (void)fflush(NULL);
    for (int rank = 0; rank < world; rank++) {
        pids[rank] = fork();
        CHECK(pids[rank] >= 0, "fork of rank %d", rank);
        if (pids[rank] == 0) {
            (void)alarm((unsigned)seconds); /* SIGALRM ends a rank that hangs */
            body(rank, world, rendezvous, user);
            exit(0);
        }
    }
    int failed_rank = -1;
    int failed_state = 0;
    for (int left = world; left > 0;) {
        int state = 0;
        pid_t pid = waitpid(-1, &state, 0);
        for (int rank = 0; rank < world; rank++) {
            if (pids[rank] != pid) {
                continue;
            }
            pids[rank] = 0;
            left--;
            if (state != 0 && failed_rank < 0) {
                failed_rank = rank;
                failed_state = state;
                for (int other = 0; other < world; other++) {
                    if (pids[other] > 0) {
                        (void)kill(pids[other], SIGKILL);
                    }
                }
            }
        }
    }
    CHECK(failed_rank < 0, "rank %d of %d ended with wait status 0x%x%s", failed_rank, world, (unsigned)failed_state,
          WIFSIGNALED(failed_state) && WTERMSIG(failed_state) == SIGALRM ? " (hung)" : "");
}

/* How many real devices tests/simgpu/host_on_gpu.c runs the program on; 0: none. */
static int devices(void)
{
    const char *text = getenv("TEST_DEVICES");
    return text != NULL ? atoi(text) : 0;
}

int ranks_most(int world)
{
    return devices() > 0 && devices() < world ? devices() : world;
}

/* A process that has used a driver could not fork any more. */
static void run_threads_in_child(int world, int seconds, const char *rendezvous, rank_body body, void *user)
{
    int state = 0;
    (void)fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        (void)alarm((unsigned)seconds);
        run_threads(world, rendezvous, body, user);
        exit(0);
    }
    CHECK(waitpid(child, &state, 0) == child && state == 0, "%d threads ended with wait status 0x%x", world,
          (unsigned)state);
}

void ranks_run(enum ranks_mode mode, int world, int seconds, rank_body body, void *user)
{
    char directory[] = "/tmp/tutti-test-XXXXXX";
    if (ranks_most(world) < world) {
        SKIP("%d devices, and %d ranks want one each", devices(), world);
    }
    CHECK(mkdtemp(directory) != NULL, "%s", directory);
    char rendezvous[64];
    (void)snprintf(rendezvous, sizeof(rendezvous), "unix:%s", directory);
    if (mode == RANKS_THREADS && devices() > 0) {
        run_threads_in_child(world, seconds, rendezvous, body, user);
    } else if (mode == RANKS_THREADS) {
        run_threads(world, rendezvous, body, user);
    } else {
        run_processes(world, seconds, rendezvous, body, user);
    }
    CHECK(rmdir(directory) == 0, "something was left in %s", directory);
}

tutti_comm *ranks_comm(int rank, int world, const char *rendezvous)
{
    tutti_comm_options options;
    memset(&options, 0, sizeof(options));
    options.struct_bytes = sizeof(options);
    options.backend = "host";
    options.rank = rank;
    options.world = world;
    options.rendezvous = rendezvous;
    tutti_comm *comm = NULL;
    CHECK_OK(tutti_comm_create(&options, &comm));
    return comm;
}

uint64_t ranks_random(uint64_t *state)
{
    /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t word = (*state += 0x9e3779b97f4a7c15u);
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

uint64_t ranks_seed(void)
{
    const char *given = getenv("TUTTI_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
    printf("seed %" PRIu64 " (repeat with TUTTI_TEST_SEED=%" PRIu64 ")\n", seed, seed);
    (void)fflush(stdout);
    return seed;
}
