/* SPDX-License-Identifier: Apache-2.0 */
/* tutti_alloc where one rank cannot take part, for want of descriptors: all ranks are told so by one sentence, nothing is left, and
 * the next call succeeds. And where a rank dies while the others wait for it, in tutti_alloc and in tutti_free: they are told, and
 * their communicators end without leaving anything. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/footprint.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"

#define WORLD 4

struct scene {
    int more; /* how many descriptors the poor rank may still open */
    int call; /* what the dying rank does not make: 0 tutti_alloc, 1 tutti_free */
    struct verdicts *verdicts;
};

static int descriptors_limit(int more)
{
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(lowest >= 0 && close(lowest) == 0, "open");
    return lowest + more;
}

static void alloc_in_poverty(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    struct footprint footprint = footprint_take(comm);
    struct rlimit before;
    void *memory = NULL;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0, "getrlimit");
    if (rank == 1) {
        struct rlimit poor = {(rlim_t)descriptors_limit(scene->more), before.rlim_max};
        CHECK(setrlimit(RLIMIT_NOFILE, &poor) == 0, "setrlimit");
    }
    tutti_status status = tutti_alloc(comm, 123456, &memory);
    verdict_give(scene->verdicts, rank, status);
    CHECK((status == TUTTI_OK) == (memory != NULL), "%p after %s", memory, tutti_last_error());
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0, "setrlimit");
    if (status == TUTTI_OK) {
        CHECK_OK(tutti_free(comm, memory));
    }
    struct footprint left = footprint_take(comm);
    footprint_same(&footprint, &left, "after a failure");
    CHECK_OK(tutti_barrier(comm, NULL));
    CHECK_OK(tutti_alloc(comm, 123456, &memory));
    CHECK_OK(tutti_free(comm, memory));
    tutti_comm_destroy(comm);
    (void)world;
}

static void test_poverty(struct verdicts *verdicts)
{
    struct scene scene = {0, 0, verdicts};
    int failures = 0;
    for (scene.more = 0; scene.more < 8; scene.more++) {
        verdicts_clear(verdicts);
        ranks_run(RANKS_PROCESSES, WORLD, 60, alloc_in_poverty, &scene);
        tutti_status status = verdicts->ranks[0].status;
        printf("%2d descriptors: %s\n", scene.more, status == TUTTI_OK ? "enough" : verdicts->ranks[0].sentence);
        (void)fflush(stdout);
        if (status != TUTTI_OK) {
            failures++;
            verdicts_check(verdicts, WORLD, TUTTI_ERR_SYSTEM, "tutti_alloc: rank 1: ");
        }
    }
    /* Its own descriptor, and one from each peer; the limit counts numbers, and there may be a gap below the highest. */
    CHECK(failures >= WORLD && failures <= WORLD + 1 && verdicts->ranks[0].status == TUTTI_OK, "%d failures", failures);
}

static void die(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    void *first = NULL;
    void *second = NULL;
    (void)world;
    struct footprint before = footprint_take(NULL);
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    CHECK_OK(tutti_alloc(comm, 50000, &first));
    CHECK_OK(tutti_barrier(comm, NULL));
    if (rank == 2) {
        _exit(0);
    }
    tutti_status status = scene->call == 0 ? tutti_alloc(comm, 50000, &second) : tutti_free(comm, first);
    verdict_give(scene->verdicts, rank, status);
    CHECK(second == NULL, "the output was touched");
    CHECK_STATUS(TUTTI_ERR_PEER_LOST, tutti_alloc(comm, 50000, &second));
    CHECK_STATUS(TUTTI_ERR_PEER_LOST, tutti_free(comm, first));
    tutti_comm_destroy(comm);
    struct footprint after = footprint_take(NULL);
    CHECK(after.mappings == before.mappings, "%d files are mapped, %d were", after.mappings, before.mappings);
}

int main(void)
{
    struct verdicts *verdicts = verdicts_create();
    test_poverty(verdicts);
    for (int call = 0; call < 2; call++) {
        struct scene scene = {0, call, verdicts};
        verdicts_clear(verdicts);
        ranks_run(RANKS_PROCESSES, WORLD, 60, die, &scene);
        for (int rank = 0; rank < WORLD; rank++) {
            if (rank != 2) {
                verdict_check(verdicts, rank, TUTTI_ERR_PEER_LOST, "rank 2");
            }
        }
    }
    return 0;
}
