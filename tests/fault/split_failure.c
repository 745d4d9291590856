/* SPDX-License-Identifier: Apache-2.0 */
/* One rank cannot take part in a split: all ranks of the parent are told so, also those that join no child, by one sentence;
 * nothing is left of the attempt, the parent works on, and the next split succeeds. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"

#define WORLD 4

static int descriptors_limit(int more)
{
    /* The limit counts numbers, so that gaps below the highest open one would do; there are none worth mentioning. */
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(lowest >= 0 && close(lowest) == 0, "open");
    return lowest + more;
}

struct scene {
    int more; /* how many descriptors the poor rank may still open */
    struct verdicts *verdicts;
};

static void split_in_poverty(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0, "getrlimit");
    if (rank == 1) {
        struct rlimit poor = {(rlim_t)descriptors_limit(scene->more), before.rlim_max};
        CHECK(setrlimit(RLIMIT_NOFILE, &poor) == 0, "setrlimit");
    }
    tutti_comm *child = NULL;
    int color = rank == world - 1 ? -1 : 0;
    tutti_status status = tutti_comm_split(comm, color, 0, &child);
    verdict_give(scene->verdicts, rank, status);
    CHECK(status != TUTTI_OK || (child == NULL) == (color < 0), "child %p", (void *)child);
    CHECK(status == TUTTI_OK || child == NULL, "a child in spite of %s", tutti_last_error());
    tutti_comm_destroy(child);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0, "setrlimit");
    int free_number = descriptors_limit(0);
    CHECK_OK(tutti_barrier(comm, NULL));
    CHECK_OK(tutti_comm_split(comm, color, 0, &child));
    CHECK(color < 0 || tutti_barrier(child, NULL) == TUTTI_OK, "%s", tutti_last_error());
    tutti_comm_destroy(child);
    CHECK(descriptors_limit(0) == free_number, "descriptors are left");
    tutti_comm_destroy(comm);
}

int main(void)
{
    struct scene scene = {0, verdicts_create()};
    int failures = 0;
    for (scene.more = 0; scene.more < 14; scene.more++) {
        verdicts_clear(scene.verdicts);
        ranks_run(RANKS_PROCESSES, WORLD, 60, split_in_poverty, &scene);
        tutti_status status = scene.verdicts->ranks[0].status;
        printf("%2d descriptors: %s\n", scene.more, status == TUTTI_OK ? "enough" : scene.verdicts->ranks[0].sentence);
        (void)fflush(stdout);
        if (status == TUTTI_OK) {
            for (int rank = 1; rank < WORLD; rank++) {
                CHECK(scene.verdicts->ranks[rank].status == TUTTI_OK, "rank %d: %s", rank,
                      scene.verdicts->ranks[rank].sentence);
            }
            continue;
        }
        failures++;
        verdicts_check(scene.verdicts, WORLD, status, "tutti_comm_split: rank ");
        CHECK(status == TUTTI_ERR_SYSTEM, "%s", tutti_status_name(status));
    }
    CHECK(failures > 2 && scene.verdicts->ranks[0].status == TUTTI_OK, "%d failures", failures);
    return 0;
}
