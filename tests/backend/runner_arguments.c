/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner_arguments.c - every public call of runner.h with what it must refuse: one sentence that names the call, nothing touched, and the
 * runner as good as before. Calls from its own callbacks, from a forked child, and after its communicator.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/engine.h"
#include "harness/ranks.h"

#define LARGE (((size_t)1 << 32) + 1)

static tutti_runner *const untouched = (tutti_runner *)(uintptr_t)0x1234;

static void check_said(const char *part)
{
    CHECK(strstr(tutti_last_error(), part) != NULL, "\"%s\" lacks \"%s\"", tutti_last_error(), part);
}

/* `got` is what a call has just returned. */
static void refused(tutti_status expected, const char *part, tutti_status got)
{
    CHECK(got == expected, "got %s (%s), and not one with \"%s\"", tutti_status_name(got), tutti_last_error(), part);
    check_said(part);
}

static void good(tutti_status got)
{
    CHECK(got == TUTTI_OK, "%s: %s", tutti_status_name(got), tutti_last_error());
}

/* -- options ----------------------------------------------------------------------------------------------------- */

static void refuse_options(tutti_comm *comm, const tutti_runner_options *options, const char *part)
{
    tutti_runner *runner = untouched;
    refused(TUTTI_ERR_ARGUMENT, part, tutti_runner_create(comm, options, &runner));
    check_said("tutti_runner_create");
    CHECK(runner == untouched, "the output was touched");
}

static void lists(tutti_comm *comm)
{
    static const size_t falling[] = {4, 2}, twice[] = {4, 4}, zero[] = {0, 4}, large[] = {4, LARGE};
    static const size_t *const bad[] = {falling, twice, zero, large};
    static size_t many[TUTTI_RUNNER_BUCKETS_MAX + 1];
    tutti_runner_options options = {.struct_bytes = sizeof(options), .bucket_count = 2};
    for (size_t index = 0; index < sizeof(bad) / sizeof(bad[0]); index++) {
        options.buckets = bad[index];
        refuse_options(comm, &options, index == 2 ? "buckets[0]" : "buckets[1]");
    }
    options.buckets = NULL;
    refuse_options(comm, &options, "NULL");
    for (size_t index = 0; index <= TUTTI_RUNNER_BUCKETS_MAX; index++) {
        many[index] = 3 * index + 1;
    }
    options.buckets = many;
    options.bucket_count = 0;
    refuse_options(comm, &options, "bucket_count is 0");
    options.bucket_count = TUTTI_RUNNER_BUCKETS_MAX + 1;
    refuse_options(comm, &options, "too many");
    options.bucket_count = 2;
    options.rows_max = 7;
    refuse_options(comm, &options, "policy");
}

static void other_options(tutti_comm *comm)
{
    tutti_runner *runner = untouched;
    tutti_runner_options options = {.struct_bytes = sizeof(options), .flags = 0x100};
    refuse_options(comm, &options, "0x100");
    options.flags = 0;
    options.oversize_multiple = 65537;
    refuse_options(comm, &options, "65537");
    options.oversize_multiple = SIZE_MAX;
    refuse_options(comm, &options, "oversize_multiple");
    options.oversize_multiple = 0;
    options.rows_max = LARGE;
    refuse_options(comm, &options, "rows_max");
    options.rows_max = 100000;
    options.step = 1;
    refuse_options(comm, &options, "larger step");
    options.struct_bytes = 3;
    refuse_options(comm, &options, "struct_bytes");
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_runner_create(NULL, NULL, &runner));
    CHECK(runner == untouched, "the output was touched");
    refused(TUTTI_ERR_ARGUMENT, "tutti_runner_create", tutti_runner_create(comm, NULL, NULL));
}

/* The buckets that a policy comes to. */
static void policy(tutti_comm *comm, size_t most, size_t powers, size_t step, const size_t *wanted, size_t count)
{
    tutti_runner *runner = NULL;
    const tutti_runner_options options = {
        .struct_bytes = sizeof(options), .rows_max = most, .powers_max = powers, .step = step};
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    good(tutti_runner_create(comm, most != 0 ? &options : NULL, &runner));
    for (size_t index = 0; index < count; index++) {
        good(tutti_runner_bucket(runner, index, &bucket));
        CHECK(bucket.rows == wanted[index] && bucket.state == TUTTI_BUCKET_EMPTY, "bucket %zu of up to %zu is %zu",
              index, most, bucket.rows);
    }
    refused(TUTTI_ERR_ARGUMENT, "no bucket", tutti_runner_bucket(runner, count, &bucket));
    tutti_runner_destroy(runner);
}

static void policies(tutti_comm *comm)
{
    static const size_t usual[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
    static const size_t one[] = {1};
    static const size_t long_prompt[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1025};
    static const size_t odd[] = {1, 2, 4, 40, 80, 100}; /* powers up to 7, and then steps of 40 */
    static size_t most[TUTTI_RUNNER_BUCKETS_MAX];
    for (size_t index = 0; index < TUTTI_RUNNER_BUCKETS_MAX; index++) {
        most[index] = index + 1;
    }
    policy(comm, 0, 0, 0, usual, 10);
    policy(comm, 1, 0, 0, one, 1);
    policy(comm, 1025, 0, 0, long_prompt, 13);
    policy(comm, 100, 7, 40, odd, 6);
    policy(comm, TUTTI_RUNNER_BUCKETS_MAX, 1, 1, most, TUTTI_RUNNER_BUCKETS_MAX);
}

/* -- segments -------------------------------------------------------------------------------------------------------- */

static tutti_status nothing(void *user, size_t rows, tutti_stream stream)
{
    (void)user;
    (void)rows;
    (void)stream;
    return TUTTI_OK;
}

static void refuse_segment(tutti_runner *runner, const tutti_segment *segment, const char *part)
{
    int index = 77;
    refused(TUTTI_ERR_ARGUMENT, part, tutti_runner_segment(runner, segment, &index));
    CHECK(index == 77, "the output was touched");
}

static void segments(tutti_comm *comm, tutti_host_stream *stream)
{
    static float rows[4];
    tutti_runner *runner = NULL;
    tutti_padded padded = {rows, 4, 0};
    tutti_segment segment = {.struct_bytes = sizeof(segment)};
    int index = 77;
    good(tutti_runner_create(comm, NULL, &runner));
    refused(TUTTI_ERR_ARGUMENT, "no segments", tutti_runner_run(runner, 1, stream));
    refused(TUTTI_ERR_ARGUMENT, "no segments", tutti_runner_capture(runner, stream));
    refuse_segment(runner, &segment, "fn is NULL");
    refuse_segment(runner, NULL, "NULL");
    segment.fn = nothing;
    segment.flags = 2;
    refuse_segment(runner, &segment, "0x2");
    segment.flags = TUTTI_SEGMENT_EAGER;
    segment.padded_count = 1;
    refuse_segment(runner, &segment, "eager");
    segment.flags = 0;
    segment.fixed_rows = 5;
    segment.padded = &padded;
    refuse_segment(runner, &segment, "fixed_rows");
    segment.fixed_rows = 0;
    segment.padded = NULL;
    refuse_segment(runner, &segment, "NULL");
    segment.padded = &padded;
    padded.stride_bytes = 3;
    refuse_segment(runner, &segment, "3 apart");
    padded = (tutti_padded){rows, 0, 0};
    refuse_segment(runner, &segment, "0 bytes");
    padded = (tutti_padded){rows, 4, LARGE};
    refuse_segment(runner, &segment, "4 GiB");
    padded = (tutti_padded){rows, LARGE, 0};
    refuse_segment(runner, &segment, "4 GiB");
    padded = (tutti_padded){NULL, 4, 0};
    refuse_segment(runner, &segment, "padded[0]");
    segment.struct_bytes = 1;
    refuse_segment(runner, &segment, "struct_bytes");
    padded = (tutti_padded){rows, 4, 4};
    segment.struct_bytes = sizeof(segment);
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_runner_segment(NULL, &segment, NULL));
    good(tutti_runner_segment(runner, &segment, NULL));
    good(tutti_runner_segment(runner, &segment, &index));
    CHECK(index == 1, "the second segment is %d", index);
    good(tutti_runner_begin(runner, 1, stream));
    refuse_segment(runner, &segment, "a run is open");
    good(tutti_runner_end(runner));
    tutti_runner_destroy(runner);
}

/* One that is never captured has no share in the bucket of 0 rows. */
static void eager_and_fixed(tutti_comm *comm, tutti_host_stream *stream)
{
    tutti_runner *runner = NULL;
    const tutti_segment segment = {
        .struct_bytes = sizeof(segment), .fn = nothing, .flags = TUTTI_SEGMENT_EAGER, .fixed_rows = 3};
    tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
    good(tutti_runner_create(comm, NULL, &runner));
    good(tutti_runner_segment(runner, &segment, NULL));
    good(tutti_runner_capture_rows(runner, 1, stream));
    good(tutti_runner_stats(runner, &stats));
    CHECK(stats.buckets == 10 && stats.captures == 1, "%d buckets", (int)stats.buckets);
    tutti_runner_destroy(runner);
}

/* -- captures and runs ------------------------------------------------------------------------------------------------- */

static void captures(struct engine *engine)
{
    tutti_runner *runner = engine->runner;
    const tutti_segment late = {.struct_bytes = sizeof(late), .fn = nothing};
    tutti_capture *session = NULL;
    tutti_host_stream *other = NULL;
    tutti_host_graph *graph = NULL;
    good(tutti_host_stream_create(&other));
    refused(TUTTI_ERR_ARGUMENT, "NULL", tutti_runner_capture(runner, NULL));
    refused(TUTTI_ERR_ARGUMENT, "NULL", tutti_runner_capture(NULL, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "no bucket", tutti_runner_capture_rows(runner, 0, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "no bucket holds 17 rows", tutti_runner_capture_rows(runner, 17, engine->stream));
    good(tutti_host_capture_begin(engine->stream, TUTTI_HOST_CAPTURE_RELAXED));
    refused(TUTTI_ERR_CAPTURE, "capturing", tutti_runner_capture(runner, engine->stream));
    refused(TUTTI_ERR_CAPTURE, "capturing", tutti_runner_run(runner, 3, engine->stream));
    refused(TUTTI_ERR_CAPTURE, "capturing", tutti_runner_finish(runner, engine->stream));
    good(tutti_host_capture_end(engine->stream, &graph));
    tutti_host_graph_destroy(graph);
    good(tutti_capture_begin(engine->comm, other, &session));
    refused(TUTTI_ERR_CAPTURE, "session", tutti_runner_capture(runner, engine->stream));
    good(tutti_capture_abort(session));
    CHECK(engine->mix_calls == 0, "refused captures have called a segment");
    good(tutti_runner_capture(runner, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "captured", tutti_runner_segment(runner, &late, NULL));
    CHECK(engine_step(engine, 3, 1) == 0, "after refusals");
    tutti_host_stream_destroy(other);
}

static void runs(struct engine *engine)
{
    tutti_runner *runner = engine->runner;
    refused(TUTTI_ERR_ARGUMENT, "tutti_runner_run: a run has 1 row or more, and fewer than 2^32: not 0",
            tutti_runner_run(runner, 0, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "tutti_runner_begin: a run has 1 row or more",
            tutti_runner_begin(runner, 0, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "2^32", tutti_runner_run(runner, LARGE, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "tutti_runner_run", tutti_runner_run(NULL, 1, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "no run", tutti_runner_enter(runner, 0));
    refused(TUTTI_ERR_ARGUMENT, "no run", tutti_runner_end(runner));
    refused(TUTTI_ERR_ARGUMENT, "no bucket", tutti_runner_release(runner, 17));
    good(tutti_runner_begin(runner, 3, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "open", tutti_runner_begin(runner, 2, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "open", tutti_runner_run(runner, 2, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "open", tutti_runner_capture(runner, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, "open", tutti_runner_release(runner, 0));
    refused(TUTTI_ERR_ARGUMENT, "no segment 3", tutti_runner_enter(runner, 3));
    refused(TUTTI_ERR_ARGUMENT, "no segment -1", tutti_runner_enter(runner, -1));
    good(tutti_runner_enter(runner, engine->constant)); /* the run is still open */
    good(tutti_runner_end(runner));
    good(tutti_runner_finish(runner, engine->stream));
    CHECK(engine_step(engine, 5, 2) == 0, "after refusals");
}

static void counters(struct engine *engine)
{
    tutti_runner_stats_t stats = {.struct_bytes = 4};
    tutti_runner_bucket_t bucket = {.struct_bytes = 4};
    refused(TUTTI_ERR_ARGUMENT, "stats", tutti_runner_stats(engine->runner, &stats));
    refused(TUTTI_ERR_ARGUMENT, "stats", tutti_runner_stats(engine->runner, NULL));
    refused(TUTTI_ERR_ARGUMENT, "NULL", tutti_runner_stats(NULL, &stats));
    refused(TUTTI_ERR_ARGUMENT, "bucket", tutti_runner_bucket(engine->runner, 0, &bucket));
    refused(TUTTI_ERR_ARGUMENT, "no runner", tutti_runner_bucket(NULL, 0, &bucket));
    refused(TUTTI_ERR_ARGUMENT, "NULL", tutti_runner_finish(NULL, NULL));
    refused(TUTTI_ERR_ARGUMENT, "NULL", tutti_runner_release(NULL, 0));
    refused(TUTTI_ERR_ARGUMENT, "NULL", tutti_runner_begin(NULL, 1, NULL));
    CHECK(tutti_runner_rows(NULL) == NULL, "rows of no runner");
    tutti_runner_destroy(NULL);
}

/* -- callbacks that call their own runner ---------------------------------------------------------------------------------- */

struct meddler {
    tutti_runner *runner;
    tutti_host_stream *stream;
    int calls, told;
};

static void meddle(struct meddler *meddler)
{
    tutti_runner *runner = meddler->runner;
    tutti_stream stream = meddler->stream;
    const tutti_segment more = {.struct_bytes = sizeof(more), .fn = nothing};
    tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
    refused(TUTTI_ERR_ARGUMENT, "callback", tutti_runner_run(runner, 1, stream));
    refused(TUTTI_ERR_ARGUMENT, "callback", tutti_runner_begin(runner, 1, stream));
    refused(TUTTI_ERR_ARGUMENT, "callback", tutti_runner_enter(runner, 0));
    refused(TUTTI_ERR_ARGUMENT, "callback", tutti_runner_end(runner));
    refused(TUTTI_ERR_ARGUMENT, "callback", tutti_runner_finish(runner, stream));
    refused(TUTTI_ERR_ARGUMENT, "callback", tutti_runner_capture(runner, stream));
    refused(TUTTI_ERR_ARGUMENT, "callback", tutti_runner_capture_rows(runner, 1, stream));
    refused(TUTTI_ERR_ARGUMENT, "callback", tutti_runner_release(runner, 0));
    refused(TUTTI_ERR_ARGUMENT, "callback", tutti_runner_segment(runner, &more, NULL));
    tutti_runner_destroy(runner); /* it is needed yet */
    good(tutti_runner_stats(runner, &stats));
    CHECK(stats.segments == 2 && tutti_runner_rows(runner) != NULL, "%llu segments",
          (unsigned long long)stats.segments);
}

static tutti_status meddling(void *user, size_t rows, tutti_stream stream)
{
    struct meddler *meddler = user;
    (void)rows;
    (void)stream;
    meddle(meddler);
    meddler->calls++;
    return TUTTI_OK;
}

static void meddling_progress(void *user, const tutti_runner_progress_t *progress)
{
    struct meddler *meddler = user;
    CHECK(progress->struct_bytes == sizeof(*progress) && progress->done <= progress->total, "progress");
    meddle(meddler);
    meddler->told |= 1 << progress->phase;
}

static void callbacks(tutti_comm *comm, tutti_host_stream *stream)
{
    struct meddler meddler = {.stream = stream};
    static const size_t sizes[] = {2, 4};
    const tutti_runner_options options = {.struct_bytes = sizeof(options),
                                          .buckets = sizes,
                                          .bucket_count = 2,
                                          .progress = meddling_progress,
                                          .user = &meddler};
    const tutti_segment one = {.struct_bytes = sizeof(one), .fn = meddling, .user = &meddler};
    const tutti_segment other = {
        .struct_bytes = sizeof(other), .fn = meddling, .user = &meddler, .flags = TUTTI_SEGMENT_EAGER};
    good(tutti_runner_create(comm, &options, &meddler.runner));
    good(tutti_runner_segment(meddler.runner, &one, NULL));
    good(tutti_runner_segment(meddler.runner, &other, NULL));
    good(tutti_runner_capture(meddler.runner, stream));
    CHECK(meddler.calls == 4 && meddler.told == 0xf, "%d calls, told of 0x%x", meddler.calls, (unsigned)meddler.told);
    good(tutti_runner_run(meddler.runner, 3, stream));
    good(tutti_runner_run(meddler.runner, 5, stream));
    good(tutti_runner_finish(meddler.runner, stream));
    CHECK(meddler.calls == 7, "%d calls", meddler.calls);
    tutti_runner_destroy(meddler.runner);
}

/* -- children, and runners that are left behind -------------------------------------------------------------------------------- */

static void refused_all(struct engine *engine, const char *part)
{
    tutti_runner *runner = engine->runner;
    refused(TUTTI_ERR_ARGUMENT, part, tutti_runner_run(runner, 1, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, part, tutti_runner_begin(runner, 1, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, part, tutti_runner_capture(runner, engine->stream));
    refused(TUTTI_ERR_ARGUMENT, part, tutti_runner_release(runner, 0));
    refused(TUTTI_ERR_ARGUMENT, part, tutti_runner_finish(runner, engine->stream));
}

static void child(struct engine *engine, bool runner_first)
{
    int state = 0;
    (void)fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        (void)alarm(20);
        refused_all(engine, "forked");
        if (runner_first) {
            tutti_runner_destroy(engine->runner);
            tutti_comm_destroy(engine->comm);
        } else {
            tutti_comm_destroy(engine->comm);
            refused_all(engine, "destroyed");
            tutti_runner_destroy(engine->runner);
        }
        _exit(0);
    }
    CHECK(waitpid(pid, &state, 0) == pid && state == 0, "a forked child ended with 0x%x", (unsigned)state);
    CHECK(engine_step(engine, 4, 9) == 0, "the parent, after a fork");
}

static void left_behind(struct engine *engine)
{
    tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    good(tutti_host_stream_synchronize(engine->stream));
    tutti_comm_destroy(engine->comm);
    engine->comm = NULL;
    refused_all(engine, "destroyed");
    good(tutti_runner_stats(engine->runner, &stats));
    good(tutti_runner_bucket(engine->runner, 1, &bucket));
    CHECK(stats.captures > 0 && bucket.state == TUTTI_BUCKET_EMPTY, "%d", bucket.state);
    CHECK(tutti_runner_rows(engine->runner) == NULL, "the word is left");
    engine_close(engine);
}

/* -- one thread that drives all ranks -------------------------------------------------------------------------------------------- */

/* As nothing(), but for a number of captures that fail. */
static tutti_status reluctant(void *user, size_t rows, tutti_stream stream)
{
    int *captures = user;
    tutti_host_capture_status state;
    uint64_t id;
    (void)rows;
    CHECK_OK(tutti_host_capture_info(stream, &state, &id));
    return state == TUTTI_HOST_CAPTURE_ACTIVE && (*captures)-- > 0 ? TUTTI_ERR_UNSUPPORTED : TUTTI_OK;
}

/* Rank 1 fails with the three largest buckets, of 512, 256 and 128 rows. */
static void all_by_one_fail(tutti_runner *const *runners, const tutti_stream *streams)
{
    char wanted[96];
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    good(tutti_runner_capture_all(runners, streams, 2));
    for (int rank = 0; rank < 2; rank++) {
        for (size_t index = 0; index < 10; index++) {
            good(tutti_runner_bucket(runners[rank], index, &bucket));
            (void)snprintf(wanted, sizeof(wanted), "rank 1, bucket of %zu rows, segment 0: its callback", bucket.rows);
            CHECK(strncmp(bucket.reason, index < 7 ? "" : wanted, index < 7 ? 1 : strlen(wanted)) == 0,
                  "rank %d, bucket of %zu rows: \"%s\"", rank, bucket.rows, bucket.reason);
        }
    }
}

static void all_by_one(tutti_host_stream *stream)
{
    static const int devices[2] = {0, 0};
    tutti_comm *comms[2] = {NULL, NULL};
    tutti_runner *runners[2] = {NULL, NULL};
    tutti_host_stream *streams[2] = {stream, NULL};
    const tutti_stream all[2] = {streams[0], streams[0]};
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host", .world = 2};
    const tutti_runner_options lazy = {.struct_bytes = sizeof(lazy), .flags = TUTTI_RUNNER_LAZY};
    int failures[2] = {0, 3};
    tutti_segment segment = {.struct_bytes = sizeof(segment), .fn = reluctant};
    good(tutti_comm_create_all(&options, devices, 2, comms));
    refused(TUTTI_ERR_UNSUPPORTED, "tutti_runner_capture_all", tutti_runner_create(comms[0], &lazy, &runners[0]));
    for (int rank = 0; rank < 2; rank++) {
        good(tutti_runner_create(comms[rank], NULL, &runners[rank]));
        segment.user = &failures[rank];
        good(tutti_runner_segment(runners[rank], &segment, NULL));
    }
    refused(TUTTI_ERR_UNSUPPORTED, "tutti_runner_capture_all", tutti_runner_capture(runners[0], stream));
    refused(TUTTI_ERR_UNSUPPORTED, "tutti_runner_capture_all", tutti_runner_capture_rows(runners[0], 1, stream));
    refused(TUTTI_ERR_ARGUMENT, "world", tutti_runner_capture_all(runners, all, 0));
    refused(TUTTI_ERR_ARGUMENT, "world", tutti_runner_capture_all(runners, NULL, 2));
    refused(TUTTI_ERR_ARGUMENT, "runners[0]", tutti_runner_capture_all(runners, all, 1));
    tutti_runner *const swapped[2] = {runners[1], runners[0]};
    refused(TUTTI_ERR_ARGUMENT, "runners[0]", tutti_runner_capture_all(swapped, all, 2));
    tutti_runner *const half[2] = {runners[0], NULL};
    refused(TUTTI_ERR_ARGUMENT, "NULL", tutti_runner_capture_all(half, all, 2));
    all_by_one_fail(runners, all);
    for (int rank = 0; rank < 2; rank++) {
        tutti_runner_destroy(runners[rank]);
        tutti_comm_destroy(comms[rank]);
    }
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    static const size_t sizes[] = {2, 8, 16};
    const tutti_runner_options options = {.struct_bytes = sizeof(options), .buckets = sizes, .bucket_count = 3};
    struct engine engine;
    (void)user;
    engine_open(&engine, rank, world, rendezvous, &options, true);
    lists(engine.comm);
    other_options(engine.comm);
    policies(engine.comm);
    segments(engine.comm, engine.stream);
    eager_and_fixed(engine.comm, engine.stream);
    captures(&engine);
    runs(&engine);
    counters(&engine);
    callbacks(engine.comm, engine.stream);
    if (!ON_DEVICES) { /* a driver does not live through a fork */
        child(&engine, true);
        child(&engine, false);
        all_by_one(engine.stream);
    }
    left_behind(&engine);
}

int main(void)
{
    ranks_run(RANKS_PROCESSES, 1, 60, run_rank, NULL);
    return 0;
}
