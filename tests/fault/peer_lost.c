/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's process is killed: every survivor is told its number, at once, whatever it is doing at that moment, and also if
 * the other survivors leave as soon as they know; then the survivors go on with a new communicator. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"

#define WORLD 4

enum habit { WAITS_IN_COLLECTIVE, ASKS_STATUS, SPLITS, EXITS_AT_ONCE, HABITS };
static const char *const habit_names[HABITS] = {"waiting in a collective", "asking for the status", "splitting",
                                                "exiting at once"};

struct scene {
    enum habit habit;
    int victim;
    int victim_forks; /* the victim leaves a forked child behind that inherits everything */
    struct verdicts *verdicts;
    _Atomic pid_t *heirs; /* [1], shared: that child, which the test ends */
    char rendezvous[64];
};

static double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static tutti_status until_failure(tutti_comm *comm, enum habit habit)
{
    for (;;) {
        tutti_status status = TUTTI_OK;
        if (habit == ASKS_STATUS) {
            (void)usleep(500);
        } else if (habit == SPLITS) {
            tutti_comm *child = NULL;
            status = tutti_comm_split(comm, 0, 0, &child);
            tutti_comm_destroy(child);
        } else {
            float value = 1.0f;
            status = tutti_all_reduce(comm, &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL);
        }
        if (status == TUTTI_OK) {
            status = tutti_comm_status(comm);
        }
        if (status != TUTTI_OK) {
            return status;
        }
    }
}

static void die(const struct scene *scene, tutti_comm *comm)
{
    if (scene->victim_forks) {
        pid_t child = fork();
        CHECK(child >= 0, "fork");
        if (child == 0) {
            (void)alarm(120); /* in case this test fails */
            scene->heirs[0] = getpid();
            (void)pause();
            _exit(0);
        }
    }
    for (int call = 0; call < 5 && scene->habit != ASKS_STATUS && scene->habit != SPLITS; call++) {
        float value = 1.0f;
        CHECK_OK(tutti_all_reduce(comm, &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL));
    }
    (void)raise(SIGKILL);
}

static void check_info(tutti_comm *comm, const struct scene *scene)
{
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    double begun = seconds_now();
    do { /* the watchdog of this process may still be about to note what a faster one has told */
        CHECK_OK(tutti_comm_info(comm, &info));
    } while (info.lost_ranks == 0 && seconds_now() - begun < 5);
    CHECK(info.lost_ranks == (uint64_t)1 << scene->victim, "lost ranks 0x%llx", (unsigned long long)info.lost_ranks);
}

static void rank_main(int rank, struct scene *scene)
{
    (void)alarm(60);
    tutti_comm *comm = ranks_comm(rank, WORLD, scene->rendezvous);
    if (rank == scene->victim) {
        die(scene, comm);
    }
    double begun = seconds_now();
    tutti_status status = until_failure(comm, scene->habit);
    verdict_give(scene->verdicts, rank, status);
    CHECK(seconds_now() - begun < 30, "it took %f s", seconds_now() - begun);
    if (scene->habit == EXITS_AT_ONCE) {
        _exit(0); /* without a farewell: the others must not take it for the cause */
    }
    CHECK(tutti_comm_status(comm) == status, "the first failure is not final");
    if (scene->habit == ASKS_STATUS) {
        check_info(comm, scene);
    }
    tutti_comm_destroy(comm);
    /* The survivors, numbered anew, go on. */
    int new_rank = rank - (rank > scene->victim);
    comm = ranks_comm(new_rank, WORLD - 1, scene->rendezvous);
    float value = (float)(new_rank + 1);
    CHECK_OK(tutti_all_reduce(comm, &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL));
    CHECK(value == 6.0f, "%f", (double)value);
    tutti_comm_destroy(comm);
    _exit(0);
}

static void play(struct scene *scene)
{
    pid_t pids[WORLD];
    char directory[] = "/tmp/tutti-test-XXXXXX";
    CHECK(mkdtemp(directory) != NULL, "mkdtemp");
    (void)snprintf(scene->rendezvous, sizeof(scene->rendezvous), "unix:%s", directory);
    verdicts_clear(scene->verdicts);
    (void)fflush(NULL);
    for (int rank = 0; rank < WORLD; rank++) {
        pids[rank] = fork();
        CHECK(pids[rank] >= 0, "fork");
        if (pids[rank] == 0) {
            rank_main(rank, scene);
        }
    }
    for (int rank = 0; rank < WORLD; rank++) {
        int state = 0;
        CHECK(waitpid(pids[rank], &state, 0) == pids[rank], "waitpid");
        CHECK(rank == scene->victim || state == 0, "rank %d, %s, ended with 0x%x after rank %d was killed", rank,
              habit_names[scene->habit], (unsigned)state, scene->victim);
    }
    char named[64];
    (void)snprintf(named, sizeof(named), "process of rank %d (pid %ld) is gone", scene->victim,
                   (long)pids[scene->victim]);
    for (int rank = 0; rank < WORLD; rank++) {
        if (rank != scene->victim) {
            verdict_check(scene->verdicts, rank, TUTTI_ERR_PEER_LOST, named);
        }
    }
    CHECK(rmdir(directory) == 0, "something was left in %s", directory);
}

/* -- families: a split communicator fails if, and only if, it has the lost rank ------------------------------------- */

static void family_main(int rank, struct scene *scene)
{
    (void)alarm(60);
    tutti_comm *parent = ranks_comm(rank, WORLD, scene->rendezvous);
    tutti_comm *child = NULL;
    CHECK_OK(tutti_comm_split(parent, rank % 2, -rank, &child));
    tutti_comm_destroy(parent); /* the child outlives it, with the connections */
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_comm_info(child, &info));
    CHECK(info.rank == (rank < 2) && info.world == 2, "rank %d of %d", info.rank, info.world);
    tutti_status status = tutti_barrier(child, NULL);
    /* On a device it is the communicator that is asked afterwards, and rank 0 may be gone by then. */
    CHECK(status == TUTTI_OK || (ON_DEVICES && rank == 1 && status == TUTTI_ERR_PEER_LOST), "%s", tutti_last_error());
    if (rank == 3) {
        (void)raise(SIGKILL);
    }
    if (rank == 1) {
        status = until_failure(child, WAITS_IN_COLLECTIVE);
        CHECK(status == TUTTI_ERR_PEER_LOST && strstr(tutti_last_error(), "process of rank 0 ") != NULL, "%s: %s",
              tutti_status_name(status), tutti_last_error());
    } else {
        double begun = seconds_now();
        while (seconds_now() - begun < 0.5) {
            CHECK_OK(tutti_barrier(child, NULL));
            float go_on = rank == 0 && seconds_now() - begun < 0.4;
            CHECK_OK(tutti_broadcast(child, &go_on, sizeof(go_on), 1, NULL)); /* rank 0 of the parent is 1 here */
            if (go_on == 0.0f) {
                break;
            }
        }
        CHECK_OK(tutti_comm_status(child));
    }
    tutti_comm_destroy(child);
    _exit(0);
}

static void test_family(void)
{
    struct scene scene = {.victim = 3};
    char directory[] = "/tmp/tutti-test-XXXXXX";
    pid_t pids[WORLD];
    CHECK(mkdtemp(directory) != NULL, "mkdtemp");
    (void)snprintf(scene.rendezvous, sizeof(scene.rendezvous), "unix:%s", directory);
    for (int rank = 0; rank < WORLD; rank++) {
        pids[rank] = fork();
        CHECK(pids[rank] >= 0, "fork");
        if (pids[rank] == 0) {
            family_main(rank, &scene);
        }
    }
    for (int rank = 0; rank < WORLD; rank++) {
        int state = 0;
        CHECK(waitpid(pids[rank], &state, 0) == pids[rank] && (rank == 3 || state == 0), "rank %d ended with 0x%x",
              rank, (unsigned)state);
    }
    CHECK(rmdir(directory) == 0, "rmdir");
}

int main(void)
{
    struct scene scene = {.verdicts = verdicts_create()};
    int rounds = effort() == EFFORT_QUICK ? 1 : effort() == EFFORT_NORMAL ? 4 : 40;
    for (int habit = 0; habit < HABITS; habit++) {
        for (scene.victim = 0; scene.victim < WORLD; scene.victim++) {
            scene.habit = (enum habit)habit;
            for (int round = 0; round < rounds; round++) {
                play(&scene);
            }
        }
        printf("%s: told\n", habit_names[habit]);
        (void)fflush(stdout);
    }
    scene.habit = WAITS_IN_COLLECTIVE;
    scene.victim = 1;
    scene.victim_forks = 1;
    scene.heirs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(scene.heirs != MAP_FAILED, "mmap");
    play(&scene);
    while (scene.heirs[0] == 0) {
        (void)usleep(1000);
    }
    CHECK(kill(scene.heirs[0], SIGKILL) == 0, "the child that inherited the victim's connections had ended");
    test_family();
    return 0;
}
