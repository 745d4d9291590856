/* SPDX-License-Identifier: Apache-2.0 */
/* verdicts.h - what each rank was told, in memory that the ranks' processes share, for tests in which ranks fail. */
#ifndef TESTS_HARNESS_VERDICTS_H
#define TESTS_HARNESS_VERDICTS_H

#include <string.h>
#include <sys/mman.h>

#include "harness/check.h"
#include "tutti/tutti.h"

#define VERDICTS_MAX 64

struct verdict {
    int given;
    tutti_status status;
    char sentence[512];
};

struct verdicts {
    struct verdict ranks[VERDICTS_MAX];
};

/* Never unmapped: it is the test program's. */
static inline struct verdicts *verdicts_create(void)
{
    void *memory = mmap(NULL, sizeof(struct verdicts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED, "mmap");
    return memory;
}

static inline void verdicts_clear(struct verdicts *verdicts)
{
    memset(verdicts, 0, sizeof(*verdicts));
}

/* Of the calling thread's last call. */
static inline void verdict_give(struct verdicts *verdicts, int rank, tutti_status status)
{
    struct verdict *verdict = &verdicts->ranks[rank];
    verdict->status = status;
    (void)snprintf(verdict->sentence, sizeof(verdict->sentence), "%s", tutti_last_error());
    verdict->given = 1;
}

/* The rank heard this status, with a sentence that has `part` in it. */
static inline void verdict_check(const struct verdicts *verdicts, int rank, tutti_status status, const char *part)
{
    const struct verdict *verdict = &verdicts->ranks[rank];
    CHECK(verdict->given, "rank %d has said nothing", rank);
    CHECK(verdict->status == status, "rank %d: %s (%s) instead of %s", rank, tutti_status_name(verdict->status),
          verdict->sentence, tutti_status_name(status));
    CHECK(strstr(verdict->sentence, part) != NULL, "rank %d: \"%s\" lacks \"%s\"", rank, verdict->sentence, part);
}

/* All of ranks 0..world-1 heard the same. */
static inline void verdicts_check(const struct verdicts *verdicts, int world, tutti_status status, const char *part)
{
    for (int rank = 0; rank < world; rank++) {
        verdict_check(verdicts, rank, status, part);
        CHECK(strcmp(verdicts->ranks[rank].sentence, verdicts->ranks[0].sentence) == 0,
              "rank %d heard \"%s\", rank 0 heard \"%s\"", rank, verdicts->ranks[rank].sentence,
              verdicts->ranks[0].sentence);
    }
}

#endif
