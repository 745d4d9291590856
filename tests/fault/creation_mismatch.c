/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that differ: every rank fails, soon, with the same sentence, which names the first difference; and the same
 * rendezvous serves the next attempt. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"

#define WORLD 4

struct mismatch {
    const char *name;
    /* Makes the odd rank odd, before it has called the library. */
    void (*apply)(tutti_comm_options *options);
    int odd_rank; /* < 0: every rank is */
    tutti_status status;
    const char *part;
    struct verdicts *verdicts;
};

static void setting_differs(tutti_comm_options *options)
{
    (void)options;
    CHECK(setenv("TUTTI_HOST_CHUNK_BYTES", "64K", 1) == 0, "setenv");
}

static void setting_bad(tutti_comm_options *options)
{
    (void)options;
    CHECK(setenv("TUTTI_HOST_SIMD", "mmx", 1) == 0, "setenv");
}

static void lanes_differ(tutti_comm_options *options)
{
    options->lanes = 3;
}

static void lanes_bad(tutti_comm_options *options)
{
    options->lanes = 17;
}

static void message_differs(tutti_comm_options *options)
{
    options->message_bytes_max = 1 << 22;
}

static void timeout_differs(tutti_comm_options *options)
{
    options->timeout_ms = 30000;
}

static void flags_set(tutti_comm_options *options)
{
    options->flags = 1u << 30; /* none is defined there */
}

static void backend_unknown(tutti_comm_options *options)
{
    options->backend = "abacus";
}

static void device_unknown(tutti_comm_options *options)
{
    options->device = 11;
}

static void world_smaller(tutti_comm_options *options)
{
    options->world = WORLD - 1;
}

static void rank_twice(tutti_comm_options *options)
{
    options->rank = 1;
}

static void rank_zero_twice(tutti_comm_options *options)
{
    options->rank = 0;
}

static int descriptors_limit;

static void descriptors_short(tutti_comm_options *options)
{
    (void)options;
    struct rlimit limit = {(rlim_t)descriptors_limit, (rlim_t)descriptors_limit};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

static const struct mismatch mismatches[] = {
    {"setting differs", setting_differs, 2, TUTTI_ERR_MISMATCH,
     "rank 2 has TUTTI_HOST_CHUNK_BYTES=65536, rank 0 has TUTTI_HOST_CHUNK_BYTES=0: set it alike", NULL},
    {"setting of rank 0 differs", setting_differs, 0, TUTTI_ERR_MISMATCH, "rank 1 has TUTTI_HOST_CHUNK_BYTES=0", NULL},
    {"setting bad", setting_bad, 3, TUTTI_ERR_ARGUMENT, "rank 3: TUTTI_HOST_SIMD=mmx", NULL},
    {"setting of rank 0 bad", setting_bad, 0, TUTTI_ERR_ARGUMENT, "rank 0: TUTTI_HOST_SIMD=mmx", NULL},
    {"lanes differ", lanes_differ, 1, TUTTI_ERR_MISMATCH, "rank 1 asks for 3 lanes, rank 0 for 1", NULL},
    {"lanes bad", lanes_bad, 1, TUTTI_ERR_ARGUMENT, "rank 1: options->lanes is 17", NULL},
    {"lanes bad everywhere", lanes_bad, -1, TUTTI_ERR_ARGUMENT, "rank 0: options->lanes is 17", NULL},
    {"message size differs", message_differs, 2, TUTTI_ERR_MISMATCH, "rank 2 gives message_bytes_max 4194304", NULL},
    {"timeout differs", timeout_differs, 3, TUTTI_ERR_MISMATCH, "rank 3 has a timeout of 30000 ms", NULL},
    {"flags set", flags_set, 1, TUTTI_ERR_ARGUMENT, "rank 1: options->flags is 0x40000000", NULL},
    {"backend unknown", backend_unknown, 1, TUTTI_ERR_UNSUPPORTED, "rank 1: there is no backend \"abacus\"", NULL},
    {"device unknown", device_unknown, 2, TUTTI_ERR_ARGUMENT, "rank 2: device 11", NULL},
    {"world differs", world_smaller, 1, TUTTI_ERR_MISMATCH, "rank 1 expects 3 ranks", NULL},
    {"two of one number", rank_twice, 2, TUTTI_ERR_MISMATCH, "call themselves rank 1 of 4", NULL},
    {"two of number 0", rank_zero_twice, 3, TUTTI_ERR_MISMATCH, "call themselves rank 0 of 4", NULL},
};

static void differ(int rank, int world, const char *rendezvous, void *user)
{
    const struct mismatch *mismatch = user;
    tutti_comm_options options = {.struct_bytes = sizeof(options), .timeout_ms = 20000};
    options.rank = rank;
    options.world = world;
    options.rendezvous = rendezvous;
    if (mismatch->odd_rank < 0 || mismatch->odd_rank == rank) {
        mismatch->apply(&options);
    }
    tutti_comm *comm = NULL;
    tutti_status status = tutti_comm_create(&options, &comm);
    CHECK((comm == NULL) == (status != TUTTI_OK), "%p came with %s", (void *)comm, tutti_status_name(status));
    tutti_comm_destroy(comm);
    verdict_give(mismatch->verdicts, rank, status);
}

static void create_again(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm_options options = {
        .struct_bytes = sizeof(options), .rank = rank, .world = world, .rendezvous = rendezvous};
    tutti_comm *comm = NULL;
    options.lanes = rank == 1 ? 2 : 1;
    CHECK_STATUS(TUTTI_ERR_MISMATCH, tutti_comm_create(&options, &comm));
    options.lanes = 1;
    CHECK_OK(tutti_comm_create(&options, &comm));
    CHECK_OK(tutti_barrier(comm, NULL));
    tutti_comm_destroy(comm);
}

/* Rank 2 runs out of descriptors, at every step at which it can: with ever more of them it gets ever further. All ranks
 * hear of its trouble, until it has enough. With none at all it cannot even call, and is a rank that does not come. */
static void test_descriptors(struct verdicts *verdicts)
{
    struct mismatch shortage = {"descriptors", descriptors_short, 2, TUTTI_ERR_SYSTEM, "rank 2", verdicts};
    int lowest = open("/dev/null", O_RDONLY);
    CHECK(lowest >= 0 && close(lowest) == 0, "open");
    int failures = 0;
    int succeeded = 0;
    for (int more = 1; more < (ON_DEVICES ? 24 : 16); more++) { /* a simulated allocation is one, too */
        descriptors_limit = lowest + more;
        verdicts_clear(verdicts);
        ranks_run(RANKS_PROCESSES, WORLD, 30, differ, &shortage);
        succeeded = verdicts->ranks[0].status == TUTTI_OK;
        failures += !succeeded;
        for (int rank = 0; rank < WORLD; rank++) {
            const struct verdict *verdict = &verdicts->ranks[rank];
            CHECK(verdict->given && (verdict->status == TUTTI_OK) == succeeded, "%d more: rank %d: %s", more, rank,
                  verdict->sentence);
            CHECK(succeeded || strstr(verdict->sentence, "rank 2") != NULL, "%d more: rank %d: %s", more, rank,
                  verdict->sentence);
        }
        printf("%2d descriptors: %s\n", more, succeeded ? "enough" : verdicts->ranks[2].sentence);
        (void)fflush(stdout);
    }
    CHECK(succeeded && failures > 3, "%d failures", failures);
}

int main(void)
{
    struct verdicts *verdicts = verdicts_create();
    for (size_t index = 0; index < sizeof(mismatches) / sizeof(mismatches[0]); index++) {
        struct mismatch mismatch = mismatches[index];
        mismatch.verdicts = verdicts;
        verdicts_clear(verdicts);
        printf("%s\n", mismatch.name);
        (void)fflush(stdout);
        ranks_run(RANKS_PROCESSES, WORLD, 30, differ, &mismatch);
        verdicts_check(verdicts, WORLD, mismatch.status, mismatch.part);
    }
    test_descriptors(verdicts);
    ranks_run(RANKS_PROCESSES, WORLD, 30, create_again, NULL);
    ranks_run(RANKS_THREADS, WORLD, 30, create_again, NULL);
    return 0;
}
