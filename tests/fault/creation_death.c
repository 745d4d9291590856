/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that do not come, or die on the way: the others fail in bounded time and name them; a rank that is killed at any
 * moment of its creation leaves no other rank waiting and nothing in any file system. */
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"

struct scene {
    int absent_mask;
    uint32_t timeout_ms;
    struct verdicts *verdicts;
};

static double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static tutti_status create(int rank, int world, const char *rendezvous, uint32_t timeout_ms, tutti_comm **comm)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options), .rank = rank, .world = world};
    options.rendezvous = rendezvous;
    options.timeout_ms = timeout_ms;
    return tutti_comm_create(&options, comm);
}

static void come_or_not(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    if ((scene->absent_mask >> rank & 1) != 0) {
        return;
    }
    tutti_comm *comm = NULL;
    double begun = seconds_now();
    tutti_status status = create(rank, world, rendezvous, scene->timeout_ms, &comm);
    CHECK(seconds_now() - begun >= 0.9 * scene->timeout_ms / 1000.0, "rank %d gave up after %f s", rank,
          seconds_now() - begun);
    verdict_give(scene->verdicts, rank, status);
}

static void test_missing(struct verdicts *verdicts)
{
    struct scene scene = {1 << 2, 400, verdicts};
    verdicts_clear(verdicts);
    ranks_run(RANKS_PROCESSES, 4, 30, come_or_not, &scene);
    verdict_check(verdicts, 0, TUTTI_ERR_TIMEOUT, "for rank 2 of 4");
    verdict_check(verdicts, 1, TUTTI_ERR_TIMEOUT, "for rank 2 of 4");
    verdict_check(verdicts, 3, TUTTI_ERR_TIMEOUT, "for rank 2 of 4");
    scene.absent_mask = 1 << 1 | 1 << 3;
    verdicts_clear(verdicts);
    ranks_run(RANKS_THREADS, 4, 30, come_or_not, &scene);
    verdict_check(verdicts, 0, TUTTI_ERR_TIMEOUT, "for ranks 1, 3 of 4");
    verdict_check(verdicts, 2, TUTTI_ERR_TIMEOUT, "for ranks 1, 3 of 4");
    scene.absent_mask = 1;
    verdicts_clear(verdicts);
    ranks_run(RANKS_PROCESSES, 3, 30, come_or_not, &scene);
    verdict_check(verdicts, 1, TUTTI_ERR_TIMEOUT, "rank 0 did not come");
    verdict_check(verdicts, 2, TUTTI_ERR_TIMEOUT, "rank 0 did not come");
}

/* -- killed at a random moment ------------------------------------------------------------------------------- */

#define WORLD 4

static int alone; /* in this test's own network namespace */

/* Entries whose names hold `part`. */
static int entries_count(const char *path, const char *part)
{
    DIR *directory = opendir(path);
    int count = 0;
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        count += strstr(entry->d_name, part) != NULL;
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    return count;
}

/* Of a network namespace that is this test's alone; elsewhere other programs' sockets would count. */
static int sockets_count(void)
{
    if (!alone) {
        return 0;
    }
    char line[512];
    int count = 0;
    FILE *file = fopen("/proc/net/unix", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        count += strstr(line, "@tutti-") != NULL;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return count;
}

static void survive(int rank, const char *rendezvous, struct verdicts *verdicts, int coming)
{
    (void)alarm(60);
    CHECK(write(coming, "", 1) == 1, "write");
    tutti_comm *comm = NULL;
    tutti_status status = create(rank, WORLD, rendezvous, 4000, &comm);
    while (status == TUTTI_OK) { /* the victim may die after creation: then the collectives end */
        status = tutti_barrier(comm, NULL);
        if (status != TUTTI_OK) {
            status = tutti_comm_status(comm);
        }
    }
    verdict_give(verdicts, rank, status);
    tutti_comm_destroy(comm);
    _exit(0);
}

static void die_sometime(int victim, long microseconds, const char *rendezvous, struct verdicts *verdicts)
{
    pid_t pids[WORLD];
    int coming[2];
    CHECK(pipe(coming) == 0, "pipe");
    verdicts_clear(verdicts);
    (void)fflush(NULL);
    for (int rank = 0; rank < WORLD; rank++) {
        pids[rank] = fork();
        CHECK(pids[rank] >= 0, "fork");
        if (pids[rank] == 0) {
            survive(rank, rendezvous, verdicts, coming[1]);
        }
    }
    char bytes[WORLD];
    for (ssize_t got = 0; got < WORLD;) {
        ssize_t more = read(coming[0], bytes, sizeof(bytes));
        CHECK(more > 0, "read");
        got += more;
    }
    (void)close(coming[0]);
    (void)close(coming[1]);
    struct timespec pause = {0, microseconds * 1000};
    (void)nanosleep(&pause, NULL);
    (void)kill(pids[victim], SIGKILL);
    for (int rank = 0; rank < WORLD; rank++) {
        int state = 0;
        CHECK(waitpid(pids[rank], &state, 0) == pids[rank], "waitpid");
        CHECK(rank == victim || state == 0, "rank %d ended with 0x%x after rank %d was killed at %ld us", rank,
              (unsigned)state, victim, microseconds);
    }
}

static char named[32];

static void test_killed(struct verdicts *verdicts)
{
    uint64_t seed = ranks_seed();
    char directory[] = "/tmp/tutti-test-XXXXXX";
    CHECK(mkdtemp(directory) != NULL, "mkdtemp");
    char rendezvous[64];
    (void)snprintf(rendezvous, sizeof(rendezvous), "unix:%s", directory);
    int rounds = effort() == EFFORT_QUICK ? 12 : effort() == EFFORT_NORMAL ? 60 : 600;
    int lost = 0;
    for (int round = 0; round < rounds; round++) {
        int victim = 1 + (int)(ranks_random(&seed) % (WORLD - 1));
        long microseconds = (long)(ranks_random(&seed) % 8000);
        die_sometime(victim, microseconds, rendezvous, verdicts);
        (void)snprintf(named, sizeof(named), "rank %d", victim);
        for (int rank = 0; rank < WORLD; rank++) {
            const struct verdict *verdict = &verdicts->ranks[rank];
            if (rank == victim) {
                continue;
            }
            /* Killed before it had called, it is a rank that does not come. */
            CHECK(verdict->given && (verdict->status == TUTTI_ERR_PEER_LOST || verdict->status == TUTTI_ERR_TIMEOUT) &&
                      strstr(verdict->sentence, named) != NULL,
                  "%s was killed at %ld us, rank %d heard %s: %s", named, microseconds, rank,
                  tutti_status_name(verdict->status), verdict->sentence);
            lost += verdict->status == TUTTI_ERR_PEER_LOST;
        }
    }
    CHECK(entries_count("/dev/shm", "tutti") == 0, "something was left in /dev/shm");
    CHECK(entries_count(directory, "") == 2, "something was left in %s", directory);
    CHECK(sockets_count() == 0, "%d sockets are left", sockets_count());
    CHECK(rmdir(directory) == 0, "rmdir");
    printf("%d rounds of 3 survivors; %d saw the rank die, the others that it did not come\n", rounds, lost);
}

int main(void)
{
    alone = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
    if (!alone) {
        printf("no network namespace to be had: left sockets are not looked for\n");
    }
    struct verdicts *verdicts = verdicts_create();
    test_missing(verdicts);
    test_killed(verdicts);
    return 0;
}
