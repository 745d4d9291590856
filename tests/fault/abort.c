/* SPDX-License-Identifier: Apache-2.0 */
/* Abort from any thread ends the waits of all ranks; the first failure is final; who leaves while others wait is named; an
 * extension holds a timeout off for one call. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/ranks.h"

struct scene {
    int splits;            /* the ranks wait in a split, instead of in a collective */
    _Atomic int *arrivals; /* [1], shared by the ranks' processes: how many have come to the scene's meeting */
};

static double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static tutti_comm *create(int rank, int world, const char *rendezvous, uint32_t timeout_ms)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options), .rank = rank, .world = world};
    options.rendezvous = rendezvous;
    options.timeout_ms = timeout_ms;
    tutti_comm *comm = NULL;
    CHECK_OK(tutti_comm_create(&options, &comm));
    return comm;
}

/* Waits for `count` ranks without the library. A failure that one rank brings about also ends what a slower one is still in:
 * ranks meet here before they do something that fails. */
static void meet(const struct scene *scene, int count)
{
    atomic_fetch_add(scene->arrivals, 1);
    while (atomic_load(scene->arrivals) < count) {
        (void)usleep(200);
    }
}

static void *abort_later(void *comm)
{
    (void)usleep(100000);
    CHECK_OK(tutti_comm_abort(comm));
    CHECK_OK(tutti_comm_abort(comm)); /* twice is no error */
    return NULL;
}

/* All ranks but the last wait in a collective, or in a split; rank 0 has a second thread that aborts. */
static void abort_waiters(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    tutti_comm *comm = create(rank, world, rendezvous, 60000);
    meet(scene, world);
    double begun = seconds_now();
    if (rank == world - 1) {
        while (tutti_comm_status(comm) == TUTTI_OK) {
            (void)usleep(1000);
        }
    } else {
        pthread_t thread;
        CHECK(rank != 0 || pthread_create(&thread, NULL, abort_later, comm) == 0, "pthread_create");
        float value = 1.0f;
        tutti_comm *child = NULL;
        CHECK_STATUS(TUTTI_ERR_ABORTED, scene->splits
                                            ? tutti_comm_split(comm, 0, 0, &child)
                                            : tutti_all_reduce(comm, &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL));
        if (rank == 0) {
            (void)pthread_join(thread, NULL);
        }
    }
    CHECK(seconds_now() - begun < 20, "it took %f s", seconds_now() - begun);
    for (int again = 0; again < 2; again++) {
        float value = 1.0f;
        CHECK_STATUS(TUTTI_ERR_ABORTED, tutti_comm_status(comm));
        CHECK(strstr(tutti_last_error(), "rank 0 of") != NULL && strstr(tutti_last_error(), "tutti_comm_abort") != NULL,
              "%s", tutti_last_error());
        CHECK_STATUS(TUTTI_ERR_ABORTED, tutti_all_reduce(comm, &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL));
        CHECK_STATUS(TUTTI_ERR_ABORTED, tutti_comm_extend_deadline(comm, 1));
        tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
        CHECK_OK(tutti_comm_info(comm, &info));
        CHECK(info.lost_ranks == 0, "lost 0x%llx", (unsigned long long)info.lost_ranks);
    }
    begun = seconds_now();
    tutti_comm_destroy(comm);
    CHECK(seconds_now() - begun < 5, "destroying took %f s", seconds_now() - begun);
    comm = create(rank, world, rendezvous, 60000);
    CHECK_OK(tutti_barrier(comm, NULL));
    tutti_comm_destroy(comm);
}

/* Rank 0 leaves without making the call that the others wait in. It may do so while they are in the call before that. */
static void leave_early(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    tutti_comm *comm = create(rank, world, rendezvous, 60000);
    CHECK_OK(tutti_barrier(comm, NULL));
    if (rank != 0) {
        meet(scene, world - 1);
        float value = 1.0f;
        tutti_comm *child = NULL;
        double begun = seconds_now();
        CHECK_STATUS(TUTTI_ERR_PEER_LOST, scene->splits
                                              ? tutti_comm_split(comm, 0, 0, &child)
                                              : tutti_all_reduce(comm, &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL));
        CHECK(strstr(tutti_last_error(), "rank 0 ") != NULL, "%s", tutti_last_error());
        CHECK(seconds_now() - begun < 20, "it took %f s", seconds_now() - begun);
    }
    tutti_comm_destroy(comm);
}

/* Rank 0 is late by more than the timeout, once with and once without having said so. */
static void be_late(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    tutti_comm *comm = create(rank, world, rendezvous, 1000);
    CHECK_OK(tutti_barrier(comm, NULL));
    for (int extended = 1; extended >= 0; extended--) {
        CHECK_OK(tutti_barrier(comm, NULL));
        if (rank == 0) {
            if (extended) {
                CHECK_OK(tutti_comm_extend_deadline(comm, 15000));
                CHECK_OK(tutti_comm_extend_deadline(comm, 15000));
            }
            (void)usleep(2500000);
        }
        tutti_comm *child = NULL;
        tutti_status status = scene->splits ? tutti_comm_split(comm, 0, 0, &child) : tutti_barrier(comm, NULL);
        CHECK(status == (extended ? TUTTI_OK : TUTTI_ERR_TIMEOUT), "extended %d: %s: %s", extended,
              tutti_status_name(status), tutti_last_error());
        tutti_comm_destroy(child);
    }
    CHECK_STATUS(TUTTI_ERR_TIMEOUT, tutti_comm_status(comm));
    CHECK(strstr(tutti_last_error(), "rank 0") != NULL, "%s", tutti_last_error());
    tutti_comm_destroy(comm);
}

/* A forked child must not use what it inherited, may destroy it, and may make communicators of its own. */
static void forked_child(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = create(rank, world, rendezvous, 60000);
    tutti_comm *split = NULL;
    CHECK_OK(tutti_comm_split(comm, 0, 0, &split));
    CHECK_OK(tutti_barrier(comm, NULL));
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        (void)alarm(30);
        float value = 1.0f;
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_all_reduce(comm, &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL));
        CHECK(strstr(tutti_last_error(), "fork") != NULL, "%s", tutti_last_error());
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_status(comm));
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_abort(comm));
        tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_info(comm, &info));
        tutti_comm_destroy(comm);
        tutti_comm_destroy(split);
#ifdef __SANITIZE_THREAD__
        _exit(0); /* ThreadSanitizer does not let a forked child have threads */
#endif
        comm = create(rank, world, rendezvous, 60000); /* the children meet each other */
        CHECK_OK(tutti_all_reduce(comm, &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL));
        CHECK(value == (float)world, "%f", (double)value);
        tutti_comm_destroy(comm);
        _exit(0);
    }
    int state = 0;
    CHECK(waitpid(pid, &state, 0) == pid && state == 0, "the child of rank %d ended with 0x%x", rank, (unsigned)state);
    CHECK_OK(tutti_barrier(comm, NULL)); /* the parents did not notice */
    CHECK_OK(tutti_barrier(split, NULL));
    tutti_comm_destroy(split);
    tutti_comm_destroy(comm);
}

static void play(enum ranks_mode mode, int world, rank_body body, struct scene *scene)
{
    atomic_store(scene->arrivals, 0);
    ranks_run(mode, world, 60, body, scene);
}

int main(void)
{
    struct scene scene = {0};
    scene.arrivals = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(scene.arrivals != MAP_FAILED, "mmap");
    for (scene.splits = 0; scene.splits <= 1; scene.splits++) {
        play(RANKS_PROCESSES, 4, abort_waiters, &scene);
        play(RANKS_THREADS, 4, abort_waiters, &scene);
        play(RANKS_PROCESSES, 3, leave_early, &scene);
        play(RANKS_THREADS, 3, leave_early, &scene);
        play(RANKS_PROCESSES, 3, be_late, &scene);
    }
    play(RANKS_PROCESSES, 3, forked_child, &scene);
    return 0;
}
