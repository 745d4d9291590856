/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#27163 and what ranks tell each other at a commit: a ledger arrives as it was packed; bytes that are none are refused, and do no
 * harm; all ranks come to the same verdict with the same sentence, and it names the first call that differs.
 */
#include "capture/ledger.h"

#include <string.h>

#include "base/error.h"
#include "collective/signature.h"
#include "harness/check.h"
#include "harness/effort.h"
#include "harness/ranks.h"

#define WORLD 3
#define WORLDS_MAX 8

static struct ledger ledgers[WORLDS_MAX];
static unsigned char *packed[WORLDS_MAX];
static size_t sizes[WORLDS_MAX];
static struct ledger_view views[WORLDS_MAX];

static void release(void)
{
    for (int rank = 0; rank < WORLDS_MAX; rank++) {
        ledger_free(&ledgers[rank]);
        free(packed[rank]);
        packed[rank] = NULL;
        memset(&ledgers[rank], 0, sizeof(ledgers[rank]));
        ledgers[rank].head.verb = LEDGER_COMMIT;
    }
}

static struct ledger_call *call_add(struct ledger *ledger, size_t count)
{
    const struct operation operation = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = count};
    struct ledger_call *call = ledger_add_call(ledger);
    CHECK(call != NULL, "no memory");
    call->signature = signature_pack(&operation);
    call->has_slot = 1;
    call->buffers[BUFFER_SRC].where = call->buffers[BUFFER_DST].where = 0;
    struct ledger_graph *graph = &ledger->graphs[ledger->head.graphs - 1];
    graph->calls++;
    graph->captured++;
    graph->last = call->signature;
    return call;
}

static struct ledger_graph *graph_add(struct ledger *ledger, uint64_t session, int calls)
{
    struct ledger_graph *graph = ledger_add_graph(ledger);
    CHECK(graph != NULL, "no memory");
    graph->session = session;
    for (int call = 0; call < calls; call++) {
        (void)call_add(ledger, (size_t)(1000 * ledger->head.graphs) + (size_t)call);
    }
    return &ledger->graphs[ledger->head.graphs - 1];
}

/* Two graphs of three and two calls on every rank, all in one allocation. */
static void alike(void)
{
    release();
    for (int rank = 0; rank < WORLD; rank++) {
        struct ledger_allocation *allocation = ledger_add_allocation(&ledgers[rank]);
        CHECK(allocation != NULL, "no memory");
        allocation->shareable = 1;
        (void)graph_add(&ledgers[rank], 1, 3);
        (void)graph_add(&ledgers[rank], 2, 2);
    }
}

/* No graph of this rank's has calls any more from this one on. */
static void graph_lose(struct ledger *ledger, uint32_t graph, uint32_t fate)
{
    struct ledger_graph *lost = &ledger->graphs[graph];
    uint32_t first = 0;
    for (uint32_t each = 0; each < graph; each++) {
        first += ledger->graphs[each].calls;
    }
    uint32_t left = ledger->head.calls - first - lost->calls;
    memmove(&ledger->calls[first], &ledger->calls[first + lost->calls], left * sizeof(*ledger->calls));
    ledger->head.calls -= lost->calls;
    lost->calls = 0;
    lost->fate = fate;
}

static void pack(int world)
{
    for (int rank = 0; rank < world; rank++) {
        free(packed[rank]);
        packed[rank] = ledger_pack(&ledgers[rank], &sizes[rank]);
        CHECK(packed[rank] != NULL && ledger_read(packed[rank], sizes[rank], &views[rank]), "rank %d's own ledger",
              rank);
    }
}

/* Every rank judges for itself. The last one's verdict is left. */
static void judge(int world, tutti_status expected, const char *says, struct verdict *verdict)
{
    char first[512] = "";
    pack(world);
    for (int rank = 0; rank < world; rank++) {
        if (rank > 0) {
            verdict_free(verdict);
        }
        (void)error_set(TUTTI_ERR_SYSTEM, "nothing yet");
        CHECK_STATUS(expected, ledger_judge(views, world, rank, verdict));
        CHECK(expected == TUTTI_OK || strstr(tutti_last_error(), says) != NULL, "\"%s\" lacks \"%s\"",
              tutti_last_error(), says);
        CHECK(rank == 0 || strcmp(first, tutti_last_error()) == 0, "rank %d says \"%s\", rank 0 \"%s\"", rank,
              tutti_last_error(), first);
        (void)snprintf(first, sizeof(first), "%s", tutti_last_error());
    }
}

static void judge_as(tutti_status expected, const char *says, bool first_dropped, bool second_dropped)
{
    struct verdict verdict;
    judge(WORLD, expected, says, &verdict);
    CHECK(verdict.mismatch == (expected == TUTTI_ERR_MISMATCH), "a mismatch is %d", verdict.mismatch);
    if (views[WORLD - 1].head.graphs > 1) {
        CHECK(verdict.dropped[0] == first_dropped && verdict.dropped[1] == second_dropped, "dropped %d %d",
              verdict.dropped[0], verdict.dropped[1]);
    }
    verdict_free(&verdict);
}

static bool reads(const unsigned char *bytes, size_t size)
{
    struct ledger_view view;
    return ledger_read(bytes, size, &view);
}

/* -- what the ranks agree on --------------------------------------------------------------------------------- */

static void agreement(void)
{
    struct verdict verdict;
    alike();
    ledgers[1].calls[1].has_slot = 0;
    ledgers[2].calls[3].buffers[BUFFER_DST].where = WHERE_UNALIGNED;
    for (int rank = 0; rank < WORLD; rank++) {
        ledgers[rank].calls[4].has_slot = 0; /* nobody expected it */
    }
    judge(WORLD, TUTTI_OK, "", &verdict);
    const bool expected[] = {true, false, true, false, false};
    for (int call = 0; call < 5; call++) {
        CHECK(verdict.direct[call] == expected[call], "call %d: %d", call, verdict.direct[call]);
    }
    CHECK(verdict.staged_count == 2, "%u staged", verdict.staged_count);
    CHECK(strstr(verdict.staged_why, "rank 2: has a buffer that does not begin") != NULL, "%s", verdict.staged_why);
    bool used[1] = {false};
    ledger_mark_used(&views[0], &verdict, used);
    CHECK(used[0], "the allocation is used");
    verdict_free(&verdict);
    (void)snprintf(ledgers[0].allocations[0].reason, sizeof(ledgers[0].allocations[0].reason), "no handle type");
    ledgers[0].allocations[0].shareable = 0;
    judge(WORLD, TUTTI_OK, "", &verdict);
    for (int call = 0; call < 5; call++) {
        CHECK(!verdict.direct[call], "call %d goes directly, and rank 0 cannot", call);
    }
    CHECK(strcmp(verdict.staged_why, "rank 0: no handle type") == 0, "%s", verdict.staged_why);
    verdict_free(&verdict);
}

/* Allocations that are mapped back to back are used as one. */
static void runs(void)
{
    struct verdict verdict;
    alike();
    for (int index = 1; index < 5; index++) { /* 0 | 1 2 3 | 4 */
        struct ledger_allocation *allocation = ledger_add_allocation(&ledgers[0]);
        CHECK(allocation != NULL, "no memory");
        allocation->shareable = 1;
        allocation->joined = index == 2 || index == 3;
    }
    ledgers[0].calls[3].buffers[BUFFER_SRC].where = 1;
    judge(WORLD, TUTTI_OK, "", &verdict);
    bool used[5] = {false};
    static const bool expected[5] = {true, true, true, true, false};
    ledger_mark_used(&views[0], &verdict, used);
    CHECK(memcmp(used, expected, sizeof(used)) == 0, "all of a run is used, or nothing of it");
    CHECK(ledger_run(&views[0], 0) == 1 && ledger_run(&views[0], 1) == 3 && ledger_run(&views[0], 4) == 1, "lengths");
    verdict_free(&verdict);
    ledgers[0].allocations[1].shareable = 0;
    judge(WORLD, TUTTI_OK, "", &verdict);
    CHECK(!verdict.direct[3] && verdict.direct[2], "what is said of the first is said of all");
    verdict_free(&verdict);
    ledgers[0].calls[3].buffers[BUFFER_SRC].where = 2;
    free(packed[0]);
    packed[0] = ledger_pack(&ledgers[0], &sizes[0]);
    CHECK(packed[0] != NULL && !reads(packed[0], sizes[0]), "a buffer that begins within a run");
    ledgers[0].calls[3].buffers[BUFFER_SRC].where = 1;
    ledgers[0].allocations[0].joined = 1;
    free(packed[0]);
    packed[0] = ledger_pack(&ledgers[0], &sizes[0]);
    CHECK(packed[0] != NULL && !reads(packed[0], sizes[0]), "a run that has no first one");
}

/* -- what they do not ---------------------------------------------------------------------------------------- */

static void differences(void)
{
    alike();
    ledgers[2].calls[4].signature++;
    judge_as(TUTTI_ERR_MISMATCH,
             "call 2 of graph 2 since the last commit is all_reduce of 4002 bytes (bf16 sum) on lane 0 on rank 0, "
             "all_reduce of 4004 bytes (bf16 sum) on lane 0 on rank 2",
             false, false);
    ledgers[1].calls[2].lane = 3; /* comes first */
    judge_as(TUTTI_ERR_MISMATCH,
             "call 3 of graph 1 since the last commit is all_reduce of 2004 bytes (bf16 sum) on lane 0", false, false);
    alike();
    (void)call_add(&ledgers[1], 77);
    judge_as(TUTTI_ERR_MISMATCH, "nothing more on rank 0, all_reduce of 154 bytes (bf16 sum) on lane 0 on rank 1",
             false, false);
    alike();
    (void)graph_add(&ledgers[0], 0, 1);
    judge_as(TUTTI_ERR_MISMATCH, "rank 0 has a graph 3 since the last commit (1 calls, the last is all_reduce of 6000",
             false, false);
    graph_lose(&ledgers[0], 2, FATE_GONE); /* and nothing of it is left to be read */
    judge_as(TUTTI_ERR_MISMATCH, "rank 0 has a graph 3 since the last commit (1 calls", false, false);
    alike();
    ledgers[1].head.forgotten = 65536;
    judge_as(TUTTI_ERR_MISMATCH, "rank 0 has given up 0 captured calls for their number, rank 1 65536", false, false);
    alike();
    ledgers[2].head.verb = LEDGER_RESUME;
    graph_lose(&ledgers[2], 1, FATE_GONE);
    graph_lose(&ledgers[2], 0, FATE_GONE);
    ledgers[2].head.graphs = 0;
    pack(WORLD);
    struct verdict verdict;
    CHECK_STATUS(TUTTI_ERR_MISMATCH, ledger_judge(views, WORLD, 0, &verdict));
    CHECK(strcmp(tutti_last_error(), "rank 0 calls tutti_commit, rank 2 calls tutti_resume") == 0, "%s",
          tutti_last_error());
    CHECK(!verdict.mismatch, "what was captured is not to blame");
    verdict_free(&verdict);
}

static void graphs_lost(void)
{
    alike();
    graph_lose(&ledgers[1], 1, FATE_BROKEN);
    (void)snprintf(ledgers[1].head.sentence, sizeof(ledgers[1].head.sentence), "the wind blew it away");
    judge_as(TUTTI_ERR_CAPTURE, "rank 1: the wind blew it away; all ranks have dropped that graph", false, true);
    graph_lose(&ledgers[2], 0, FATE_GONE);
    judge_as(TUTTI_ERR_CAPTURE,
             "rank 2 has no graph 1 since the last commit: its capture was invalidated after all_reduce of "
             "2004 bytes (bf16 sum) (call 3 of it)",
             true, true);
    alike();
    for (int rank = 0; rank < WORLD; rank++) {
        graph_lose(&ledgers[rank], 0, FATE_GONE); /* everybody has thrown it away: nobody's fault */
    }
    judge_as(TUTTI_OK, "", true, false);
    graph_lose(&ledgers[0], 1, FATE_BROKEN);
    (void)snprintf(ledgers[0].head.sentence, sizeof(ledgers[0].head.sentence), "and this one broke");
    judge_as(TUTTI_ERR_CAPTURE, "rank 0: and this one broke", true, true);
}

static void sessions_given_up(void)
{
    alike();
    ledgers[1].head.abandoned = 2;
    (void)graph_add(&ledgers[2], 2, 4); /* whoever gives up has captured less: that is no mismatch */
    judge_as(TUTTI_ERR_CAPTURE, "rank 1 has given up its capture session", false, false);
    ledgers[0].head.abandoned = 1;
    judge_as(TUTTI_ERR_CAPTURE, "rank 0 has given up its capture session", false, false);
    ledgers[2].head.graphs = ledgers[2].head.calls = ledgers[2].head.allocations = 0;
    (void)error_set(TUTTI_ERR_DRIVER, "the driver is tired");
    ledger_refuse(&ledgers[2], TUTTI_ERR_DRIVER);
    (void)error_set(TUTTI_ERR_SYSTEM, "too late");
    ledger_refuse(&ledgers[2], TUTTI_ERR_SYSTEM);
    judge_as(TUTTI_ERR_CAPTURE, "rank 0 has given up its capture session", false, false);
    ledgers[0].head.abandoned = ledgers[1].head.abandoned = 0;
    judge_as(TUTTI_ERR_DRIVER, "tutti_commit: rank 2: the driver is tired", false, false);
}

/* -- bytes that are no ledger --------------------------------------------------------------------------------- */

/* Whatever one rank sends, the others read it or refuse it, and judge what they have read: under sanitizers, that shows. */
static void corrupted(uint64_t seed)
{
    uint64_t random = seed;
    int tries = effort() == EFFORT_QUICK ? 20000 : 200000;
    int refused = 0;
    struct verdict verdict;
    alike();
    pack(WORLD);
    for (size_t size = 0; size < sizes[1]; size++) {
        CHECK(!reads(packed[1], size), "%zu of %zu bytes were read", size, sizes[1]);
    }
    unsigned char *bytes = malloc(sizes[1]); /* of this size, so that a read beyond it shows */
    CHECK(bytes != NULL, "no memory");
    for (int count = 0; count < tries; count++) {
        memcpy(bytes, packed[1], sizes[1]);
        for (uint64_t flips = 1 + ranks_random(&random) % 3; flips > 0; flips--) {
            bytes[ranks_random(&random) % sizes[1]] ^= (unsigned char)(1u << ranks_random(&random) % 8);
        }
        if (!ledger_read(bytes, sizes[1], &views[1])) {
            refused++;
            continue;
        }
        bool used[1] = {false};
        if (ledger_judge(views, WORLD, 1, &verdict) == TUTTI_OK) {
            ledger_mark_used(&views[1], &verdict, used);
        }
        verdict_free(&verdict);
    }
    CHECK(refused > tries / 50, "only %d of %d were refused", refused, tries);
    free(bytes);
}

/* Fields that have to fit each other. */
static void impossible(void)
{
    static const int32_t nowhere[] = {1, INT32_MAX, WHERE_PRIVATE - 1, INT32_MIN};
    for (size_t index = 0; index < sizeof(nowhere) / sizeof(nowhere[0]); index++) {
        alike();
        ledgers[1].calls[2].buffers[BUFFER_SRC].where = nowhere[index];
        packed[1] = ledger_pack(&ledgers[1], &sizes[1]);
        CHECK(packed[1] != NULL && !reads(packed[1], sizes[1]), "a buffer in allocation %d", nowhere[index]);
    }
    alike();
    ledgers[1].graphs[0].calls = 4;
    packed[1] = ledger_pack(&ledgers[1], &sizes[1]);
    CHECK(!reads(packed[1], sizes[1]), "a graph with another's calls");
    alike();
    ledgers[1].graphs[0].fate = FATE_GONE;
    packed[1] = ledger_pack(&ledgers[1], &sizes[1]);
    CHECK(!reads(packed[1], sizes[1]), "calls of a graph that is gone");
    alike();
    ledgers[1].head.status = TUTTI_ERR_DRIVER;
    packed[1] = ledger_pack(&ledgers[1], &sizes[1]);
    CHECK(!reads(packed[1], sizes[1]), "a rank that takes no part, and has calls");
}

/* A resumption in which one rank speaks of fewer calls. */
static void fewer_names(void)
{
    alike();
    for (int rank = 0; rank < WORLD; rank++) {
        ledgers[rank].head.verb = LEDGER_RESUME;
        ledgers[rank].head.graphs = 0;
    }
    struct verdict verdict;
    judge(WORLD, TUTTI_OK, "", &verdict);
    CHECK(verdict.direct[4], "the last call");
    verdict_free(&verdict);
    ledgers[2].head.calls = 1;
    judge(WORLD, TUTTI_ERR_MISMATCH, "tutti_resume: rank 0 speaks of 5 calls, rank 2 of 1", &verdict);
    CHECK(!verdict.mismatch, "what was captured is not to blame");
    verdict_free(&verdict);
}

int main(void)
{
    agreement();
    runs();
    differences();
    graphs_lost();
    sessions_given_up();
    impossible();
    fewer_names();
    corrupted(ranks_seed());
    release();
    return 0;
}
