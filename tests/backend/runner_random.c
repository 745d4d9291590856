/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner_random.c - the runner under random schedules, against a model of its states, counters and reasons.
 *
 *     runner_random processes | threads
 *
 * Two runners, one of them lazy, on two lanes of one communicator: runs (whole, by hand, both in turn), captures of all buckets and of one,
 * releases, captures that fail on one rank (refused, invalidated, on a wrong stream), the caller's own captures, good and broken, with
 * and without sessions, commits, memory suspended and resumed, a runner replaced by a new one. All ranks draw the same schedule; after
 * every step each compares every value and the model.
 */
#include <inttypes.h>
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/engine.h"
#include "harness/ranks.h"
#include "harness/replayed.h"

#define ENGINES 2
#define OWN_GRAPHS 4
#define BUCKETS 5
#define ROWS_MAX 40
static const size_t sizes[BUCKETS] = {1, 3, 8, 16, 31};

/* What a runner must say of itself. */
struct model {
    bool lazy, constant, warm;
    unsigned attempts;
    struct model_bucket {
        tutti_bucket_state state;
        unsigned tries;
        uint64_t captures, failed, replayed, eager;
    } buckets[BUCKETS], fixed;
    uint64_t runs, replayed, eager, oversize, warm_ups, captures, failed, released, commits, refused;
};

struct program {
    int rank, world;
    uint64_t draws;
    int step;
    tutti_comm *comm;
    struct engine engines[ENGINES];
    struct model models[ENGINES];
    /* The caller's own. */
    tutti_host_stream *stream;
    struct replayed graphs[OWN_GRAPHS];
    uint64_t number;
    int broken; /* captures of them that failed on some rank since the last commit */
    tutti_host_graph *left[8];
};

static uint32_t draw(struct program *program, uint32_t below)
{
    return (uint32_t)(ranks_random(&program->draws) % below);
}

/* `got` is what a call has just returned. */
static void expect(const struct program *program, tutti_status wanted, tutti_status got)
{
    CHECK(got == wanted, "rank %d, step %d: %s (%s) instead of %s", program->rank, program->step,
          tutti_status_name(got), tutti_last_error(), tutti_status_name(wanted));
}

static void good(const struct program *program, tutti_status got)
{
    expect(program, TUTTI_OK, got);
}

/* -- the model ----------------------------------------------------------------------------------------------------- */

static struct model_bucket *bucket_for(struct model *model, size_t rows)
{
    for (int index = 0; index < BUCKETS; index++) {
        if (sizes[index] >= rows) {
            return &model->buckets[index];
        }
    }
    return NULL;
}

static void model_commit(struct program *program, struct model *model)
{
    model->refused += program->broken > 0;
    model->commits++;
    program->broken = 0;
}

static void model_settle(struct model *model, struct model_bucket *bucket, bool fails)
{
    bucket->state = fails ? TUTTI_BUCKET_EAGER : TUTTI_BUCKET_CAPTURED;
    bucket->tries = fails ? bucket->tries + 1 : 0;
    bucket->failed += fails;
    bucket->captures += !fails;
    model->failed += fails;
    model->captures += !fails;
}

/* One round over what is not captured of `only` (NULL: all) and the fixed segments: captures fail as long as there are faults left. Whether
 * any did. */
static bool model_round(struct model *model, const struct model_bucket *only, int *faults)
{
    bool failed = false;
    for (int index = BUCKETS; index-- > 0;) {
        struct model_bucket *bucket = &model->buckets[index];
        if ((only == NULL || only == bucket) && bucket->state != TUTTI_BUCKET_CAPTURED) {
            bool fails = *faults > 0;
            *faults -= fails;
            failed = failed || fails;
            model_settle(model, bucket, fails);
        }
    }
    if (model->constant && model->fixed.state != TUTTI_BUCKET_CAPTURED) {
        model_settle(model, &model->fixed, false); /* nothing breaks that one */
    }
    return failed;
}

static void model_capture(struct program *program, struct model *model, const struct model_bucket *only, int faults,
                          bool in_session)
{
    model->warm_ups += !model->warm;
    model->warm = true;
    for (unsigned round = 0; round < model->attempts && model_round(model, only, &faults); round++) {
    }
    if (!in_session) {
        model_commit(program, model);
    }
}

/* all: it enters the fixed segment, too. */
static void model_run(struct program *program, struct model *model, size_t rows, int faults, bool all)
{
    struct model_bucket *bucket = bucket_for(model, rows);
    model->runs++;
    model->warm = true;
    model->oversize += bucket == NULL;
    bool replays = bucket != NULL && bucket->state == TUTTI_BUCKET_CAPTURED;
    bool same = model->constant && model->fixed.state == TUTTI_BUCKET_CAPTURED;
    model->fixed.replayed += all && same;
    model->fixed.eager += all && model->constant && !same;
    bool late = bucket != NULL && !replays && bucket->tries < model->attempts;
    if (bucket != NULL) {
        model->replayed += replays;
        bucket->replayed += replays;
        model->eager += !replays;
        bucket->eager += !replays;
    }
    if (model->lazy && (late || (model->constant && model->fixed.state != TUTTI_BUCKET_CAPTURED))) {
        (void)model_round(model, late ? bucket : &model->fixed, &faults);
        model_commit(program, model);
    }
}

static void model_release(struct model *model, struct model_bucket *only)
{
    for (int index = -1; index < BUCKETS; index++) {
        struct model_bucket *bucket = index < 0 ? &model->fixed : &model->buckets[index];
        if (only == NULL || only == bucket) {
            model->released += bucket->state == TUTTI_BUCKET_CAPTURED;
            bucket->state = TUTTI_BUCKET_EMPTY;
            bucket->tries = 0;
        }
    }
}

static void same(const struct program *program, int which, const char *what, uint64_t got, uint64_t wanted)
{
    CHECK(got == wanted, "rank %d, step %d, engine %d: %s: %" PRIu64 ", not %" PRIu64, program->rank, program->step,
          which, what, got, wanted);
}

#define SAME(what, wanted) same(program, which, #what, (uint64_t)(what), (uint64_t)(wanted))

static void bucket_compare(const struct program *program, int which, size_t index, size_t rows,
                           const struct model_bucket *wanted)
{
    tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
    CHECK_OK(tutti_runner_bucket(program->engines[which].runner, index, &bucket));
    SAME(bucket.rows, rows);
    SAME(bucket.state, wanted->state);
    SAME(bucket.captures, wanted->captures);
    SAME(bucket.failed_captures, wanted->failed);
    SAME(bucket.replayed_runs, wanted->replayed);
    SAME(bucket.eager_runs, wanted->eager);
    CHECK(bucket.state != TUTTI_BUCKET_EAGER || strstr(bucket.reason, "rank ") != NULL, "\"%s\"", bucket.reason);
}

static void model_compare(const struct program *program, int which)
{
    const struct model *model = &program->models[which];
    tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_runner_stats(program->engines[which].runner, &stats));
    SAME(stats.runs, model->runs);
    SAME(stats.replayed_runs, model->replayed);
    SAME(stats.eager_runs, model->eager);
    SAME(stats.oversize_runs, model->oversize);
    SAME(stats.warm_ups, model->warm_ups);
    SAME(stats.captures, model->captures);
    SAME(stats.failed_captures, model->failed);
    SAME(stats.released, model->released);
    SAME(stats.commits, model->commits);
    SAME(stats.refused_commits, model->refused);
    if (model->constant) {
        bucket_compare(program, which, 0, 0, &model->fixed);
    }
    for (size_t index = 0; index < BUCKETS; index++) {
        bucket_compare(program, which, index + model->constant, sizes[index], &model->buckets[index]);
    }
}

/* -- runners ------------------------------------------------------------------------------------------------------------ */

static void engine_make(struct program *program, int which)
{
    struct model *model = &program->models[which];
    memset(model, 0, sizeof(*model));
    model->lazy = which == 1;
    model->constant = draw(program, 2) == 1;
    model->attempts = 1 + draw(program, 2);
    const tutti_runner_options options = {.struct_bytes = sizeof(options),
                                          .name = which == 0 ? "target" : "draft",
                                          .flags = model->lazy ? TUTTI_RUNNER_LAZY : 0,
                                          .buckets = sizes,
                                          .bucket_count = BUCKETS,
                                          .oversize_multiple = 1 + 3 * draw(program, 2),
                                          .attempts = model->attempts};
    engine_join(&program->engines[which], program->comm, program->rank, program->world, (uint32_t)which, &options,
                model->constant);
}

/* On one rank the next captures fail: how many of them. */
static int faults_plant(struct program *program, struct engine *engine)
{
    int faults = draw(program, 3) == 0 ? 1 + (int)draw(program, 4) : 0;
    int where = (int)draw(program, (uint32_t)program->world);
    engine->fault = (enum engine_fault)draw(program, 3);
    engine->fail_captures = where == program->rank ? faults : 0;
    return faults;
}

static void step_run(struct program *program, int which)
{
    struct engine *engine = &program->engines[which];
    int rows = 1 + (int)draw(program, ROWS_MAX);
    bool by_hand = draw(program, 3) == 0;
    int faults = faults_plant(program, engine);
    int wrong = by_hand ? engine_step_by_hand(engine, rows, program->step) : engine_step(engine, rows, program->step);
    engine->fail_captures = 0;
    CHECK(wrong == 0, "rank %d, step %d: %d values of %d rows", program->rank, program->step, wrong, rows);
    model_run(program, &program->models[which], (size_t)rows, faults, !by_hand);
}

static void step_in_turn(struct program *program)
{
    int rows[ENGINES];
    for (int which = 0; which < ENGINES; which++) {
        rows[which] = 1 + (int)draw(program, ROWS_MAX);
    }
    int wrong = engine_steps_in_turn(&program->engines[0], rows[0], &program->engines[1], rows[1], program->step);
    CHECK(wrong == 0, "rank %d, step %d: %d values of %d and %d rows", program->rank, program->step, wrong, rows[0],
          rows[1]);
    for (int which = 0; which < ENGINES; which++) {
        model_run(program, &program->models[which], (size_t)rows[which], 0, false);
    }
}

/* Some of them within a session of the caller's, which then takes in what is captured. */
static void step_capture(struct program *program, int which)
{
    struct engine *engine = &program->engines[which];
    struct model *model = &program->models[which];
    tutti_capture *session = NULL;
    int faults = faults_plant(program, engine);
    int how = (int)draw(program, 6);
    size_t rows = draw(program, 2) == 0 ? 1 + draw(program, (uint32_t)sizes[BUCKETS - 1]) : 0;
    if (how < 2) {
        good(program, tutti_capture_begin(program->comm, engine->stream, &session));
    }
    good(program, rows == 0 ? tutti_runner_capture(engine->runner, engine->stream)
                            : tutti_runner_capture_rows(engine->runner, rows, engine->stream));
    engine->fail_captures = 0;
    model_capture(program, model, rows != 0 ? bucket_for(model, rows) : NULL, faults, session != NULL);
    if (how == 0) {
        expect(program, program->broken > 0 ? TUTTI_ERR_CAPTURE : TUTTI_OK, tutti_capture_commit(session));
        if (program->broken > 0) {
            good(program, tutti_capture_commit(session));
        }
        program->broken = 0;
        good(program, tutti_capture_release(session));
    } else if (how == 1) {
        good(program, tutti_capture_abort(
                          session)); /* its graphs stay right, staged; what is broken is the next commit's business */
    }
}

/* A session on another stream is in the way of all ranks, or of one. */
static void step_refused(struct program *program, int which)
{
    struct engine *engine = &program->engines[which];
    tutti_capture *session = NULL;
    good(program, tutti_capture_begin(program->comm, program->stream, &session));
    expect(program, TUTTI_ERR_CAPTURE, tutti_runner_capture(engine->runner, engine->stream));
    good(program, tutti_capture_abort(session));
}

static void step_release(struct program *program, int which)
{
    struct model *model = &program->models[which];
    size_t rows = draw(program, 3) > 0 ? 1 + draw(program, (uint32_t)sizes[BUCKETS - 1]) : 0;
    good(program, tutti_runner_release(program->engines[which].runner, rows));
    model_release(model, rows != 0 ? bucket_for(model, rows) : NULL);
}

static void step_replace(struct program *program, int which)
{
    engine_close(&program->engines[which]);
    engine_make(program, which);
}

/* -- the caller's own ----------------------------------------------------------------------------------------------------- */

static void step_own_graph(struct program *program)
{
    struct replayed *graph = &program->graphs[draw(program, OWN_GRAPHS)];
    if (graph->graph == NULL) {
        replayed_capture(graph, program->comm, program->stream);
    } else if (draw(program, 4) == 0) {
        replayed_drop(graph);
        return;
    }
    replayed_run(graph, program->stream, ++program->number, "beside runners", NULL);
}

/* Invalidated on one rank; its peers keep theirs until a commit has dropped it. */
static void step_own_broken(struct program *program)
{
    int where = (int)draw(program, (uint32_t)program->world);
    int done = 0;
    if (program->broken == (int)(sizeof(program->left) / sizeof(program->left[0]))) {
        return;
    }
    tutti_host_graph **graph = &program->left[program->broken];
    tutti_host_graph_destroy(*graph);
    *graph = NULL;
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = program->stream};
    good(program, tutti_host_capture_begin(program->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    good(program, job_issue(&program->graphs[0].jobs[0], program->comm, &call));
    if (where == program->rank) {
        expect(program, TUTTI_ERR_CAPTURE, tutti_host_stream_query(program->stream, &done));
        expect(program, TUTTI_ERR_CAPTURE, job_issue(&program->graphs[0].jobs[0], program->comm, &call));
    }
    expect(program, where == program->rank ? TUTTI_ERR_CAPTURE : TUTTI_OK,
           tutti_host_capture_end(program->stream, graph));
    program->broken++;
}

static void step_commit(struct program *program)
{
    expect(program, program->broken > 0 ? TUTTI_ERR_CAPTURE : TUTTI_OK, tutti_commit(program->comm));
    program->broken = 0;
}

/* On some ranks; what is suspended on one is resumed by all. */
static void step_suspend(struct program *program, int which)
{
    struct engine *engine = &program->engines[which];
    if ((draw(program, 16) >> (program->rank % 4) & 1) != 0) {
        good(program, tutti_suspend(program->comm, engine->partial, sizeof(engine->partial)));
    }
    if (draw(program, 2) == 0) {
        int rows = 1 + (int)draw(program, ROWS_MAX);
        CHECK(engine_step(engine, rows, program->step) == 0, "rank %d, while suspended", program->rank);
        model_run(program, &program->models[which], (size_t)rows, 0, true);
    }
    good(program, tutti_resume(program->comm));
}

/* -- programs --------------------------------------------------------------------------------------------------------------- */

static void step(struct program *program)
{
    int which = (int)draw(program, ENGINES);
    switch (draw(program, 16)) {
    case 0:
    case 1:
        step_capture(program, which);
        break;
    case 2:
        step_release(program, which);
        break;
    case 3:
        step_own_graph(program);
        break;
    case 4:
        step_own_broken(program);
        break;
    case 5:
        step_commit(program);
        break;
    case 6:
        step_suspend(program, which);
        break;
    case 7:
        step_refused(program, which);
        break;
    case 8:
        if (draw(program, 3) == 0) {
            step_replace(program, which);
        }
        break;
    case 9:
    case 10:
        step_in_turn(program);
        break;
    default:
        step_run(program, which);
        break;
    }
    for (which = 0; which < ENGINES; which++) {
        model_compare(program, which);
    }
}

static tutti_comm *comm_make(int rank, int world, const char *rendezvous)
{
    tutti_comm *comm = NULL;
    const tutti_comm_options options = {.struct_bytes = sizeof(options),
                                        .backend = "host",
                                        .rank = rank,
                                        .world = world,
                                        .rendezvous = rendezvous,
                                        .lanes = ENGINES + 1};
    CHECK_OK(tutti_comm_create(&options, &comm));
    return comm;
}

struct plan {
    uint64_t seed;
    int steps;
};

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const struct plan *plan = user;
    const struct job large = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = 40000};
    const struct job small = {.kind = TUTTI_ALL_GATHER, .count = 100};
    struct program *program = calloc(1, sizeof(*program));
    CHECK(program != NULL, "rank %d is out of memory", rank);
    program->rank = rank;
    program->world = world;
    program->draws = plan->seed;
    program->comm = comm_make(rank, world, rendezvous);
    program->stream = replayed_stream();
    for (int graph = 0; graph < OWN_GRAPHS; graph++) {
        replayed_add(&program->graphs[graph], graph % 2 == 0 ? &large : &small, rank, world);
    }
    for (int which = 0; which < ENGINES; which++) {
        engine_make(program, which);
    }
    for (program->step = 1; program->step <= plan->steps; program->step++) {
        step(program);
    }
    for (int which = 0; which < ENGINES; which++) {
        engine_close(&program->engines[which]);
    }
    for (int graph = 0; graph < OWN_GRAPHS; graph++) {
        replayed_destroy(&program->graphs[graph]);
    }
    for (size_t index = 0; index < sizeof(program->left) / sizeof(program->left[0]); index++) {
        tutti_host_graph_destroy(program->left[index]);
    }
    tutti_host_stream_destroy(program->stream);
    tutti_comm_destroy(program->comm);
    free(program);
}

int main(int argc, char **argv)
{
    static const int worlds[] = {1, 2, 2, 3, 3, 4, 5, 8};
    static const int programs[] = {2, 20, 1000}, steps[] = {50, 150, 400};
    enum ranks_mode mode = argc > 1 && strcmp(argv[1], "threads") == 0 ? RANKS_THREADS : RANKS_PROCESSES;
    uint64_t seed = ranks_seed();
    for (int number = 0; number < programs[effort()]; number++) {
        struct plan plan = {.seed = seed + (uint64_t)number, .steps = steps[effort()]};
        uint64_t draws = plan.seed;
        int world = worlds[ranks_random(&draws) % (sizeof(worlds) / sizeof(worlds[0]))];
        printf("program %d: seed %" PRIu64 ", %d ranks\n", number, plan.seed, world);
        (void)fflush(stdout);
        ranks_run(mode, world, 240, run_rank, &plan);
    }
    return 0;
}
