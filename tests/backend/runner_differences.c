/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner_differences.c - ranks that do not agree about a capture: whatever one of them has wrong, all hear of it in one sentence, nothing has
 * been run or captured, and the next capture succeeds. And what is the caller's own beside it: sessions, captures that a commit
 * refuses, a peer that is gone.
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/engine.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"

#define WORLD 3
#define WIDTH 64
static const size_t sizes[] = {2, 4};

/* In memory of all ranks' processes. */
struct shared {
    struct verdicts verdicts;
    _Atomic int arrived;
};

/* Without the communicator, in whose session no barrier may be. */
static void meet(struct shared *shared)
{
    int all = (atomic_fetch_add(&shared->arrived, 1) / WORLD + 1) * WORLD;
    while (atomic_load(&shared->arrived) < all) {
        (void)usleep(200);
    }
}

/* `got` is what a call has just returned. */
static void expect(tutti_status wanted, tutti_status got)
{
    CHECK(got == wanted, "%s (%s) instead of %s", tutti_status_name(got), tutti_last_error(),
          tutti_status_name(wanted));
}

static void good(tutti_status got)
{
    expect(TUTTI_OK, got);
}

static void said(const char *sentence, const char *part)
{
    CHECK(strstr(sentence, part) != NULL, "\"%s\" lacks \"%s\"", sentence, part);
}

/* One rank's runner: a local segment, and one with a collective. */
struct party {
    int rank;
    tutti_comm *comm;
    tutti_host_stream *stream, *other;
    struct shared *shared;
    tutti_runner *runner;
    int calls, fail_local, die;
    tutti_status fails_with;
    float values[8 * WIDTH];
};

static tutti_status local(void *user, size_t rows, tutti_stream stream)
{
    struct party *party = user;
    (void)rows;
    (void)stream;
    party->calls++;
    if (party->fail_local > 0) {
        party->fail_local--;
        return party->fails_with;
    }
    return TUTTI_OK;
}

static tutti_status reduce(void *user, size_t rows, tutti_stream stream)
{
    struct party *party = user;
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    tutti_host_capture_status state;
    uint64_t id;
    CHECK_OK(tutti_host_capture_info(stream, &state, &id));
    if (party->die != 0 && state == TUTTI_HOST_CAPTURE_ACTIVE) {
        _exit(0);
    }
    return tutti_all_reduce(party->comm, party->values, party->values, rows * WIDTH, TUTTI_F32, TUTTI_SUM, &call);
}

static void segment_add(struct party *party, const char *name, tutti_segment_fn fn)
{
    const tutti_segment segment = {.struct_bytes = sizeof(segment), .name = name, .fn = fn, .user = party};
    CHECK_OK(tutti_runner_segment(party->runner, &segment, NULL));
}

static tutti_runner_options usual(void)
{
    const tutti_runner_options options = {
        .struct_bytes = sizeof(options), .name = "usual", .buckets = sizes, .bucket_count = 2};
    return options;
}

static void open_with(struct party *party, const tutti_runner_options *options)
{
    party->calls = 0;
    party->fails_with = TUTTI_ERR_UNSUPPORTED;
    good(tutti_runner_create(party->comm, options, &party->runner));
    segment_add(party, "local", local);
    segment_add(party, "reduce", reduce);
}

static tutti_runner_stats_t stats_of(const struct party *party)
{
    tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
    good(tutti_runner_stats(party->runner, &stats));
    return stats;
}

static void close_it(struct party *party)
{
    good(tutti_runner_finish(party->runner, party->stream));
    tutti_runner_destroy(party->runner);
}

/* All ranks heard the same. */
static void told(struct party *party, tutti_status wanted, const char *part, tutti_status got)
{
    verdict_give(&party->shared->verdicts, party->rank, got);
    meet(party->shared);
    verdicts_check(&party->shared->verdicts, WORLD, wanted, part);
    meet(party->shared);
}

/* And nothing has happened. */
static void refused(struct party *party, tutti_status wanted, const char *part, tutti_status got)
{
    told(party, wanted, part, got);
    tutti_runner_stats_t stats = stats_of(party);
    CHECK(stats.captures + stats.failed_captures + stats.warm_ups == 0 && party->calls == 0, "%d calls for \"%s\"",
          party->calls, part);
}

static tutti_status capture(const struct party *party)
{
    return tutti_runner_capture(party->runner, party->stream);
}

static void captured(struct party *party)
{
    good(capture(party));
    CHECK(stats_of(party).captures == 2, "rank %d", party->rank);
    good(tutti_runner_run(party->runner, 3, party->stream));
    close_it(party);
}

/* -- other runners ------------------------------------------------------------------------------------------------- */

static void other_segments(struct party *party)
{
    const tutti_runner_options options = usual();
    party->calls = 0;
    good(tutti_runner_create(party->comm, &options, &party->runner));
    segment_add(party, party->rank == 1 ? "another" : "local", local);
    segment_add(party, "reduce", reduce);
    refused(party, TUTTI_ERR_MISMATCH, "rank 1 has other segments", capture(party));
    if (party->rank == 2) {
        segment_add(party, NULL, local);
    }
    tutti_status status = capture(party);
    CHECK(status == TUTTI_ERR_MISMATCH, "rank %d", party->rank);
    close_it(party);
    open_with(party, &options);
    if (party->rank == 2) {
        segment_add(party, NULL, local);
    }
    refused(party, TUTTI_ERR_MISMATCH, "rank 2 has 3 segments where rank 0 has 2", capture(party));
    close_it(party);
}

static void other_options(struct party *party)
{
    static const size_t others[] = {2, 5};
    tutti_runner_options options = usual();
    options.buckets = party->rank == 1 ? others : sizes;
    open_with(party, &options);
    refused(party, TUTTI_ERR_MISMATCH, "rank 1 has other buckets", capture(party));
    close_it(party);
    options = usual();
    options.attempts = party->rank == 2 ? 2 : 1;
    open_with(party, &options);
    refused(party, TUTTI_ERR_MISMATCH, "rank 2 has other flags or attempts", capture(party));
    close_it(party);
    options = usual();
    options.name = party->rank == 0 ? "draft" : "target";
    open_with(party, &options);
    expect(TUTTI_ERR_MISMATCH, capture(party));
    said(tutti_last_error(), party->rank == 0 ? "\"draft\"" : "\"target\"");
    close_it(party);
    options = usual();
    open_with(party, &options);
    refused(party, TUTTI_ERR_MISMATCH, "rank 1 has other buckets",
            tutti_runner_capture_rows(party->runner, party->rank == 1 ? 2 : 4, party->stream));
    refused(party, TUTTI_ERR_ARGUMENT, "rank 1 cannot capture: tutti_runner_capture_rows: no bucket holds 5",
            tutti_runner_capture_rows(party->runner, party->rank == 1 ? 5 : 4, party->stream));
    captured(party);
}

/* -- one rank cannot ------------------------------------------------------------------------------------------------- */

static void one_cannot(struct party *party)
{
    const tutti_runner_options options = usual();
    tutti_host_graph *graph = NULL;
    tutti_capture *session = NULL;
    open_with(party, &options);
    refused(party, TUTTI_ERR_ARGUMENT, "rank 1 cannot capture: tutti_runner_capture: stream is NULL",
            tutti_runner_capture(party->runner, party->rank == 1 ? NULL : party->stream));
    if (party->rank == 2) {
        good(tutti_runner_begin(party->runner, 1, party->stream));
    }
    refused(party, TUTTI_ERR_ARGUMENT, "rank 2 cannot capture: tutti_runner_capture: a run is open", capture(party));
    if (party->rank == 2) {
        good(tutti_runner_end(party->runner));
    }
    close_it(party);
    open_with(party, &options);
    if (party->rank == 0) {
        good(tutti_host_capture_begin(party->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    }
    refused(party, TUTTI_ERR_CAPTURE, "rank 0 cannot capture", capture(party));
    if (party->rank == 0) {
        good(tutti_host_capture_end(party->stream, &graph));
        tutti_host_graph_destroy(graph);
    }
    good(tutti_capture_begin(party->comm, party->rank == 1 ? party->other : party->stream, &session));
    refused(party, TUTTI_ERR_CAPTURE, "rank 1 cannot capture", capture(party));
    good(tutti_capture_abort(session));
    captured(party);
}

/* A capture that not all ranks came to begin has taken none of the numbers by which they know each other's sessions. */
static void sessions_are_still_known(struct party *party)
{
    const tutti_runner_options options = usual();
    tutti_capture *session = NULL;
    open_with(party, &options);
    refused(party, TUTTI_ERR_ARGUMENT, "rank 1 cannot capture: tutti_runner_capture: stream is NULL",
            tutti_runner_capture(party->runner, party->rank == 1 ? NULL : party->stream));
    for (int round = 0; round < 2; round++) {
        good(tutti_capture_begin(party->comm, party->stream, &session));
        if (party->rank == 1) {
            good(tutti_capture_abort(session));
        } else {
            expect(TUTTI_ERR_CAPTURE, tutti_capture_commit(session));
            said(tutti_last_error(), "rank 1 has given up its capture session");
            good(tutti_capture_release(session));
        }
    }
    captured(party);
}

/* The first run failed on one rank, so that it alone has to be warmed up: all ranks are. */
static void one_is_cold(struct party *party)
{
    const tutti_runner_options options = usual();
    open_with(party, &options);
    party->fail_local = party->rank == 1;
    good(tutti_runner_begin(party->runner, 2, party->stream));
    tutti_status status = tutti_runner_enter(party->runner, 0);
    CHECK(status == (party->rank == 1 ? TUTTI_ERR_UNSUPPORTED : TUTTI_OK), "rank %d", party->rank);
    CHECK(party->rank != 1 || strstr(tutti_last_error(), "rank 1: usual, segment \"local\" over 2 rows") != NULL, "%s",
          tutti_last_error());
    CHECK(tutti_runner_end(party->runner) == (party->rank == 1 ? TUTTI_ERR_ARGUMENT : TUTTI_OK), "rank %d",
          party->rank);
    good(capture(party));
    CHECK(stats_of(party).warm_ups == 1 && stats_of(party).captures == 2, "rank %d", party->rank);
    close_it(party);
}

/* A callback that fails on all ranks ends the run, and nothing else: the next one is whole. So with the warm-up, and the next capture. */
static void all_fail(struct party *party)
{
    const tutti_runner_options options = usual();
    open_with(party, &options);
    party->fail_local = 1;
    expect(TUTTI_ERR_UNSUPPORTED, capture(party));
    said(tutti_last_error(), "usual: rank 0 cannot capture: rank 0: usual, segment \"local\" over 4 rows: its callback "
                             "returned TUTTI_ERR_UNSUPPORTED");
    CHECK(stats_of(party).captures == 0 && stats_of(party).warm_ups == 0, "rank %d", party->rank);
    good(capture(party));
    CHECK(stats_of(party).captures == 2 && stats_of(party).warm_ups == 1, "rank %d", party->rank);
    party->fail_local = 1;
    expect(TUTTI_ERR_UNSUPPORTED, tutti_runner_run(party->runner, 7, party->stream));
    expect(TUTTI_ERR_ARGUMENT, tutti_runner_end(party->runner));
    CHECK(stats_of(party).runs == 0, "rank %d: a run that failed is counted", party->rank);
    party->fail_local = 1;
    party->fails_with = (tutti_status)700; /* a driver's */
    expect((tutti_status)700, tutti_runner_run(party->runner, 7, party->stream));
    said(tutti_last_error(), "segment \"local\" over 7 rows: its callback returned 700");
    good(tutti_runner_run(party->runner, 7, party->stream));
    good(tutti_runner_run(party->runner, 3, party->stream));
    CHECK(stats_of(party).runs == 2, "rank %d", party->rank);
    close_it(party);
}

/* Two ranks fail, one of them twice: of each bucket all ranks hear the same, what the first one says that failed there. */
static void every_reason_is_told(struct party *party)
{
    static const char *const reasons[] = {
        "rank 1, bucket of 2 rows, local: its callback returned TUTTI_ERR_UNSUPPORTED",
        "rank 0, bucket of 4 rows, local: its callback returned TUTTI_ERR_UNSUPPORTED"};
    const tutti_runner_options options = usual();
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    open_with(party, &options);
    good(tutti_runner_run(party->runner, 1, party->stream));
    party->fail_local = party->rank == 2 ? 0 : party->rank + 1; /* buckets: the largest first */
    good(capture(party));
    for (size_t index = 0; index < 2; index++) {
        good(tutti_runner_bucket(party->runner, index, &bucket));
        CHECK(bucket.state == TUTTI_BUCKET_EAGER && strcmp(bucket.reason, reasons[index]) == 0, "rank %d: \"%s\"",
              party->rank, bucket.reason);
    }
    captured(party);
}

/* -- the caller's own ------------------------------------------------------------------------------------------------------ */

static void own_captures_differ(struct party *party)
{
    const tutti_runner_options options = usual();
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = party->stream};
    tutti_host_graph *graph = NULL;
    open_with(party, &options);
    good(tutti_host_capture_begin(party->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    good(tutti_all_reduce(party->comm, party->values, party->values, party->rank == 1 ? 7 : 8, TUTTI_F32, TUTTI_SUM,
                          &call));
    good(tutti_host_capture_end(party->stream, &graph));
    good(capture(party));
    tutti_runner_stats_t stats = stats_of(party);
    CHECK(stats.captures == 2 && stats.refused_commits == 1 && stats.commits == 0, "rank %d", party->rank);
    said(stats.commit_sentence, "all_reduce");
    good(tutti_runner_run(party->runner, 3, party->stream));
    close_it(party);
    tutti_host_graph_destroy(graph);
}

/* A session of the caller's takes the graphs in, and goes on; without commits, the caller's next one does. */
static void own_commits(struct party *party)
{
    tutti_runner_options options = usual();
    tutti_capture *session = NULL;
    open_with(party, &options);
    good(tutti_capture_begin(party->comm, party->stream, &session));
    good(capture(party));
    CHECK(stats_of(party).commits == 0 && stats_of(party).captures == 2, "rank %d", party->rank);
    good(tutti_capture_commit(session));
    good(tutti_capture_release(session));
    close_it(party);
    options.flags = TUTTI_RUNNER_NO_COMMIT;
    open_with(party, &options);
    good(capture(party));
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    good(tutti_comm_stats(party->comm, &stats));
    CHECK(stats.pending_calls == 2 && stats_of(party).commits == 0, "rank %d: %d wait", party->rank,
          (int)stats.pending_calls);
    good(tutti_commit(party->comm));
    good(tutti_comm_stats(party->comm, &stats));
    CHECK(stats.pending_calls == 0, "rank %d: %d wait", party->rank, (int)stats.pending_calls);
    close_it(party);
}

/* A lazy capture that cannot begin is no error of the run; it is tried again. */
static void lazy_beside_a_session(struct party *party)
{
    tutti_runner_options options = usual();
    tutti_capture *session = NULL;
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    options.flags = TUTTI_RUNNER_LAZY;
    good(tutti_runner_create(party->comm, &options, &party->runner));
    segment_add(party, "local", local);
    good(tutti_capture_begin(party->comm, party->other, &session));
    for (int run = 0; run < 2; run++) {
        good(tutti_runner_run(party->runner, 1, party->stream));
        good(tutti_runner_bucket(party->runner, 0, &bucket));
        CHECK(bucket.state == TUTTI_BUCKET_EMPTY && strstr(bucket.reason, "session") != NULL, "\"%s\"", bucket.reason);
    }
    good(tutti_capture_abort(session));
    good(tutti_runner_run(party->runner, 1, party->stream));
    good(tutti_runner_run(party->runner, 1, party->stream));
    good(tutti_runner_bucket(party->runner, 0, &bucket));
    CHECK(bucket.state == TUTTI_BUCKET_CAPTURED && bucket.eager_runs == 3 && bucket.replayed_runs == 1, "rank %d",
          party->rank);
    close_it(party);
}

/* What the runners differ in is found once; then no rank waits for others that do not try as often. */
static void lazy_with_other_attempts(struct party *party)
{
    tutti_runner_options options = usual();
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    options.flags = TUTTI_RUNNER_LAZY;
    options.attempts = party->rank == 2 ? 3 : 1;
    open_with(party, &options);
    for (size_t run = 0; run < 8; run++) {
        good(tutti_runner_run(party->runner, run % 4 + 1, party->stream));
    }
    good(tutti_runner_bucket(party->runner, 0, &bucket));
    CHECK(bucket.state == TUTTI_BUCKET_EMPTY && strstr(bucket.reason, "rank 2 has other flags or attempts") != NULL,
          "rank %d: \"%s\"", party->rank, bucket.reason);
    CHECK(stats_of(party).captures == 0 && stats_of(party).eager_runs == 8, "rank %d", party->rank);
    close_it(party);
}

/* Nobody compares row counts but ranks that meet: then the run fails on all of them, and the next one is whole. */
static void lazy_with_other_rows(struct party *party)
{
    static const size_t rows[2][3] = {{3, 4, 3}, {2, 2, 3}}; /* of one bucket, and of two */
    tutti_runner_options options = usual();
    options.flags = TUTTI_RUNNER_LAZY;
    options.name = "draft";
    good(tutti_runner_create(party->comm, &options, &party->runner));
    segment_add(party, "local", local);
    for (size_t run = 0; run < 2; run++) {
        told(party, TUTTI_ERR_MISMATCH,
             run == 0 ? "draft: rank 1 has run 4 rows and rank 0 3" : "draft: rank 2 has run 3 rows and rank 0 2",
             tutti_runner_run(party->runner, rows[run][party->rank], party->stream));
    }
    told(party, TUTTI_ERR_MISMATCH, "rank 1 captures by a call of its own, rank 0 at the end of a run",
         party->rank == 1 ? tutti_runner_capture_rows(party->runner, 3, party->stream)
                          : tutti_runner_run(party->runner, 3, party->stream));
    CHECK(stats_of(party).captures + stats_of(party).failed_captures == 0, "rank %d", party->rank);
    good(tutti_runner_run(party->runner, 3, party->stream));
    CHECK(stats_of(party).captures == 1, "rank %d", party->rank);
    close_it(party);
}

/* Ranks that run another runner than their peers: neither of the two is worse for it. */
static void lazy_with_another_runner(struct party *party)
{
    tutti_runner *runners[2] = {NULL, NULL};
    tutti_runner_options options = usual();
    options.flags = TUTTI_RUNNER_LAZY;
    for (size_t which = 0; which < 2; which++) {
        options.name = which == 0 ? "draft" : "target";
        good(tutti_runner_create(party->comm, &options, &party->runner));
        segment_add(party, "local", local);
        runners[which] = party->runner;
    }
    expect(TUTTI_ERR_MISMATCH, tutti_runner_run(runners[party->rank == 1], 3, party->stream));
    said(tutti_last_error(), "rank 1 captures another runner than rank 0");
    for (size_t which = 0; which < 2; which++) {
        party->runner = runners[which];
        good(tutti_runner_run(party->runner, 3, party->stream));
        CHECK(stats_of(party).captures == 1, "rank %d", party->rank);
        close_it(party);
    }
}

/* -- a peer that is gone -------------------------------------------------------------------------------------------------------- */

static void peer_is_gone(struct party *party)
{
    const tutti_runner_options options = usual();
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    open_with(party, &options);
    party->die = party->rank == WORLD - 1;
    expect(TUTTI_ERR_PEER_LOST, capture(party));
    said(tutti_last_error(), "rank 2");
    good(tutti_runner_bucket(party->runner, 0, &bucket));
    CHECK(bucket.state == TUTTI_BUCKET_EAGER && strstr(bucket.reason, "rank 2") != NULL, "\"%s\"", bucket.reason);
    expect(TUTTI_ERR_PEER_LOST, tutti_runner_run(party->runner, 1, party->stream));
    expect(TUTTI_ERR_PEER_LOST, tutti_runner_finish(party->runner, party->stream));
    tutti_runner_destroy(party->runner);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    static void (*const scenes[])(struct party *) = {other_segments,
                                                     other_options,
                                                     one_cannot,
                                                     sessions_are_still_known,
                                                     one_is_cold,
                                                     all_fail,
                                                     every_reason_is_told,
                                                     own_commits,
                                                     lazy_beside_a_session,
                                                     lazy_with_other_attempts,
                                                     lazy_with_other_rows,
                                                     lazy_with_another_runner,
                                                     peer_is_gone};
    static struct party party;
    party.rank = rank;
    party.comm = ranks_comm(rank, world, rendezvous);
    party.shared = user;
    good(tutti_host_stream_create(&party.stream));
    good(tutti_host_stream_create(&party.other));
    own_captures_differ(&party);
    for (size_t scene = 0; scene < sizeof(scenes) / sizeof(scenes[0]); scene++) {
        scenes[scene](&party);
    }
    tutti_host_stream_destroy(party.stream);
    tutti_host_stream_destroy(party.other);
    tutti_comm_destroy(party.comm);
}

int main(void)
{
    void *shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED, "mmap");
    ranks_run(RANKS_PROCESSES, WORLD, 60, run_rank, shared);
    return 0;
}
