/* SPDX-License-Identifier: Apache-2.0 */
/* Splits: who belongs together and in which order, trees of splits against a model, ranks that join none, children that
 * outlive their parents, and two splits of one family at the same time. */
#include <dirent.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/ranks.h"

static uint64_t seed;

/* The sum of the members' original numbers tells who is in a communicator; two calls, so that order counts too. */
static void check_members(tutti_comm *comm, const int *members, int count, int me, unsigned call)
{
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_comm_info(comm, &info));
    CHECK(info.world == count && members[info.rank] == me, "rank %d of %d is %d and not %d", info.rank, info.world,
          members[info.rank], me);
    int all[64];
    int mine = me * 1000 + (int)call;
    CHECK_OK(tutti_all_gather(comm, &mine, all, sizeof(mine), NULL));
    for (int rank = 0; rank < count; rank++) {
        CHECK(all[rank] == members[rank] * 1000 + (int)call, "place %d holds %d", rank, all[rank]);
    }
}

/* -- random trees --------------------------------------------------------------------------------------------- */

/* The model of a split: every rank computes the same from the shared seed. */
static int model_split(const int *members, int count, const int *colors, const int *keys, int me, int *result)
{
    int mine = 0;
    while (members[mine] != me) {
        mine++;
    }
    int found = 0;
    if (colors[mine] < 0) {
        return 0;
    }
    for (int rank = 0; rank < count; rank++) {
        if (colors[rank] != colors[mine]) {
            continue;
        }
        int place = found++;
        while (place > 0) {
            int before = 0; /* the index among members of result[place - 1] */
            while (members[before] != result[place - 1]) {
                before++;
            }
            if (keys[before] <= keys[rank]) {
                break;
            }
            result[place] = result[place - 1];
            place--;
        }
        result[place] = members[rank];
    }
    return found;
}

static void grow(tutti_comm *comm, const int *members, int count, int me, uint64_t state, int depth)
{
    check_members(comm, members, count, me, (unsigned)depth);
    if (depth == 3 || count == 1) {
        return;
    }
    int colors[64];
    int keys[64];
    int mine = 0;
    for (int rank = 0; rank < count; rank++) {
        colors[rank] = (int)(ranks_random(&state) % 3) - (ranks_random(&state) % 4 == 0 ? 5 : 0);
        keys[rank] = (int)(ranks_random(&state) % 5) - 2;
        mine = members[rank] == me ? rank : mine;
    }
    tutti_comm *child = (tutti_comm *)&child; /* a failure must not touch it, a negative color makes it NULL */
    CHECK_OK(tutti_comm_split(comm, colors[mine], keys[mine], &child));
    int child_members[64];
    int child_count = model_split(members, count, colors, keys, me, child_members);
    CHECK((child == NULL) == (child_count == 0), "color %d gave %p", colors[mine], (void *)child);
    if (child != NULL) {
        /* Deeper with a seed that only the child's members share. */
        grow(child, child_members, child_count, me, state + (uint64_t)colors[mine] * 977, depth + 1);
        tutti_comm_destroy(child);
    }
    check_members(comm, members, count, me, 100u + (unsigned)depth);
}

static void random_trees(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    int members[64];
    for (int index = 0; index < world; index++) {
        members[index] = index;
    }
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    int trees = effort() == EFFORT_QUICK ? 2 : 8;
    for (int tree = 0; tree < trees; tree++) {
        grow(comm, members, world, rank, seed + (uint64_t)tree * 31, 0);
    }
    tutti_comm_destroy(comm);
}

/* -- lives ----------------------------------------------------------------------------------------------------- */

static int descriptors_count(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL, "/proc/self/fd");
    while (readdir(directory) != NULL) {
        count++;
    }
    (void)closedir(directory);
    return count;
}

static void generations(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    int before = descriptors_count();
    tutti_comm *parent = ranks_comm(rank, world, rendezvous);
    int with_parent = descriptors_count();
    tutti_comm *child = NULL;
    CHECK_OK(tutti_comm_split(parent, 0, -rank, &child));
    CHECK(ON_DEVICES || descriptors_count() == with_parent, "a split keeps %d descriptors of its own",
          descriptors_count() - with_parent);
    tutti_comm_destroy(parent);
    tutti_comm *grandchild = NULL;
    CHECK_OK(tutti_comm_split(child, rank % 2, 0, &grandchild));
    tutti_comm_destroy(child);
    int members[64];
    int count = 0;
    for (int index = world - 1; index >= 0; index--) { /* the child had them backwards */
        if (index % 2 == rank % 2) {
            members[count++] = index;
        }
    }
    for (unsigned call = 0; call < 50; call++) {
        check_members(grandchild, members, count, rank, call);
    }
    tutti_comm_destroy(grandchild);
    CHECK(ON_DEVICES || descriptors_count() == before, "%d descriptors instead of %d", descriptors_count(), before);
}

/* -- two at a time ------------------------------------------------------------------------------------------------ */

struct splitter {
    tutti_comm *comm;
    int rank, world;
};

static void *split_often(void *argument)
{
    const struct splitter *splitter = argument;
    for (int round = 0; round < 20; round++) {
        tutti_comm *child = NULL;
        CHECK_OK(tutti_comm_split(splitter->comm, (splitter->rank + round) % 2, 0, &child));
        int members[64];
        int count = 0;
        for (int index = 0; index < splitter->world; index++) {
            if ((index + round) % 2 == (splitter->rank + round) % 2) {
                members[count++] = index;
            }
        }
        check_members(child, members, count, splitter->rank, (unsigned)round);
        tutti_comm_destroy(child);
    }
    return NULL;
}

static void at_the_same_time(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct splitter splitters[2] = {{ranks_comm(rank, world, rendezvous), rank, world}, {NULL, rank, world}};
    CHECK_OK(tutti_comm_split(splitters[0].comm, 7, 0, &splitters[1].comm));
    pthread_t threads[2];
    for (int index = 0; index < 2; index++) {
        CHECK(pthread_create(&threads[index], NULL, split_often, &splitters[index]) == 0, "pthread_create");
    }
    for (int index = 0; index < 2; index++) {
        (void)pthread_join(threads[index], NULL);
        tutti_comm_destroy(splitters[index].comm);
    }
}

/* -- refusals -------------------------------------------------------------------------------------------------------- */

static void test_refusals(void)
{
    tutti_comm *comms[2];
    tutti_comm_options options = {.struct_bytes = sizeof(options)};
    tutti_comm *child = NULL;
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_split(NULL, 0, 0, &child));
    CHECK_OK(tutti_comm_create_all(&options, NULL, 2, comms));
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_split(comms[0], 0, 0, NULL));
    CHECK_STATUS(TUTTI_ERR_UNSUPPORTED, tutti_comm_split(comms[0], 0, 0, &child));
    CHECK(child == NULL && strstr(tutti_last_error(), "tutti_comm_create_all") != NULL, "%s", tutti_last_error());
    CHECK_OK(tutti_comm_abort(comms[0]));
    CHECK_STATUS(TUTTI_ERR_ABORTED, tutti_comm_split(comms[1], 0, 0, &child));
    tutti_comm_destroy(comms[0]);
    tutti_comm_destroy(comms[1]);
}

int main(void)
{
    seed = ranks_seed();
    ranks_run(RANKS_PROCESSES, 6, 120, random_trees, NULL);
    ranks_run(RANKS_THREADS, 7, 120, random_trees, NULL);
    ranks_run(RANKS_PROCESSES, 5, 60, generations, NULL);
    ranks_run(RANKS_PROCESSES, 4, 120, at_the_same_time, NULL);
    ranks_run(RANKS_THREADS, 4, 120, at_the_same_time, NULL);
    test_refusals();
    return 0;
}
