/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing hellos: what no test can really make differ (machine, user, network, build, device) is named, by fixed rules
 * that do not depend on the rank that looks; and a hello of any bytes does no harm. */
#include "comm/hello.h"

#include <stddef.h>
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"

#define WORLD 5

static union hello_frame hellos[WORLD];

static void alike(void)
{
    for (int rank = 0; rank < WORLD; rank++) {
        memset(&hellos[rank], 0, sizeof(hellos[rank]));
        hello_fill(&hellos[rank].hello);
        hellos[rank].hello.rank = rank;
        hellos[rank].hello.world = WORLD;
        hellos[rank].hello.lanes = 1;
        (void)snprintf(hellos[rank].hello.backend, sizeof(hellos[rank].hello.backend), "host");
    }
    CHECK_OK(hello_compare(hellos, WORLD));
}

static void check(tutti_status status, const char *part)
{
    CHECK_STATUS(status, hello_compare(hellos, WORLD));
    CHECK(strstr(tutti_last_error(), part) != NULL, "\"%s\" lacks \"%s\"", tutti_last_error(), part);
}

static void test_differences(void)
{
    alike();
    strcpy(hellos[3].hello.machine, "elsewhere");
    hellos[4].hello.machine[0] = 'x';
    check(TUTTI_ERR_MISMATCH, "rank 3 runs on another machine");
    alike();
    hellos[2].hello.user++;
    check(TUTTI_ERR_MISMATCH, "rank 2 runs as user");
    alike();
    hellos[1].hello.network_namespace++;
    check(TUTTI_ERR_MISMATCH, "rank 1 has another network namespace");
    alike();
    strcat(hellos[4].hello.build, "x");
    check(TUTTI_ERR_MISMATCH, "rank 4 runs libtutti");
    alike();
    hellos[1].hello.magic ^= 1;
    check(TUTTI_ERR_MISMATCH, "rank 1 does not speak");
    alike();
    hellos[0].hello.magic ^= 1;
    check(TUTTI_ERR_MISMATCH, "rank 0 does not speak");
    alike();
    hellos[1].hello.rank = 2;
    check(TUTTI_ERR_MISMATCH, "in place 1");
    alike();
    hellos[2].hello.world = 9;
    check(TUTTI_ERR_MISMATCH, "rank 2 speaks of 9 ranks");
    alike();
    strcpy(hellos[1].hello.backend, "cuda");
    check(TUTTI_ERR_MISMATCH, "rank 1 uses backend cuda, rank 0 uses host");
    alike();
    hellos[4].hello.device_identity = 7;
    check(TUTTI_ERR_MISMATCH, "rank 4's device");
    alike();
    hellos[2].hello.driver_version = 13000;
    check(TUTTI_ERR_MISMATCH, "rank 2 has loaded another driver than rank 0: version 13000 there, 0 here");
    alike();
    strcpy(hellos[3].hello.settings, "");
    check(TUTTI_ERR_MISMATCH, "rank 3 has , rank 0 has TUTTI_");
    /* A rank in trouble is named before what follows from its trouble; a status that is none becomes one. */
    alike();
    hellos[2].hello.lanes = 0;
    hellos[2].hello.status = TUTTI_ERR_DRIVER;
    strcpy(hellos[2].hello.sentence, "the device fell off");
    check(TUTTI_ERR_DRIVER, "rank 2: the device fell off");
    hellos[2].hello.status = 77;
    check(TUTTI_ERR_SYSTEM, "rank 2: the device fell off");
    alike();
    hellos[2].hello.status = TUTTI_ERR_DRIVER;
    strcpy(hellos[4].hello.build, "0.0.1");
    check(TUTTI_ERR_MISMATCH, "0.0.1");
}

/* Never reads past a text, whatever came; under a sanitizer that is the test. */
static void test_garbage(void)
{
    uint64_t seed = ranks_seed();
    for (int round = 0; round < 2000; round++) {
        alike();
        union hello_frame *victim = &hellos[ranks_random(&seed) % WORLD];
        size_t from = round % 2 == 0 ? 0 : offsetof(struct hello, rank);
        for (size_t index = from; index < sizeof(*victim); index++) {
            victim->bytes[index] = (unsigned char)(ranks_random(&seed) | 1);
        }
        hello_terminate(&victim->hello);
        CHECK(hello_compare(hellos, WORLD) != TUTTI_OK, "garbage passed");
        CHECK(strlen(tutti_last_error()) > 10, "no sentence");
    }
}

int main(void)
{
    test_differences();
    test_garbage();
    return 0;
}
