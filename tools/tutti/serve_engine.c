/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Prefill sizes vary more than others, and padding them costs more: powers of two up to a tile, from there on tiles. */
#define PREFILL_POWERS_MAX ENGINE_TILE
#define PREFILL_STEP ENGINE_TILE
/* Others: 1, 2, 4 .. 512, then steps of 256. */
#define DECODE_POWERS_MAX 512
#define DECODE_STEP 256

static const char *const pass_names[ENGINE_PASSES] = {"decode", "prefill", "head"};

/* -- segments ------------------------------------------------------------------------------------------- */

/* A bucket's rows have a plan of their own, others share one: no other step is under way. */
static const struct forward_plan *plan_for(const struct engine_segment *segment, int rows)
{
    const struct engine_runner *runner = segment->runner;
    size_t low = 0;
    size_t high = segment->eager ? 0 : runner->bucket_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (runner->plans[middle]->rows == rows) {
            return runner->plans[middle];
        }
        if (runner->plans[middle]->rows < rows) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    struct forward_plan *plan = segment->eager ? runner->ragged : runner->wide;
    if (plan->rows != rows) { /* the step's first work of it: nothing reads it yet */
        plan->rows = rows;
    }
    return plan;
}

/* What the runner calls: enqueued or captured, it is the same. */
static tutti_status segment_enqueue(void *user, size_t rows, tutti_stream stream)
{
    const struct engine_segment *segment = user;
    const struct engine_options *options = &segment->runner->engine->options;
    bool told = segment->runner->capturing && segment->first == segment->runner->segments[0].first;
    tutti_status status = TUTTI_OK;
    if (told && options->capture_begun != NULL) {
        status = options->capture_begun(options->user, rows);
    }
    if (status == TUTTI_OK) {
        status = forward_plan_enqueue(plan_for(segment, (int)rows), segment->first, segment->count, stream);
    }
    if (told && options->capture_ending != NULL) {
        options->capture_ending(options->user);
    }
    return status;
}

/* What a segment reads of the passes before it, and of steps before this one: rows that are not real have to be harmless there. */
static size_t padded_of(const struct forward *forward, const struct engine_segment *segment, tutti_padded list[3])
{
    const struct model *model = forward->model;
    int head = 2 * model->shape.layers + 1;
    size_t hidden = (size_t)model->shape.hidden * sizeof(float);
    size_t attended = (size_t)model->heads * (size_t)model->shape.head_dim * sizeof(float);
    int end = segment->first + segment->count;
    size_t count = 0;
    if (segment->first < head) {
        list[count++] = (tutti_padded){forward->hidden, hidden, 0};
    }
    if (segment->first < head && end > 1) {
        list[count++] = (tutti_padded){forward->attended, attended, 0};
    }
    if (end > head) {
        list[count++] = (tutti_padded){forward->picked, hidden, 0};
    }
    return count;
}

static tutti_status segment_add(struct engine_runner *runner, int first, int count, bool eager)
{
    struct engine_segment *segment = &runner->segments[runner->segment_count++];
    *segment = (struct engine_segment){runner, first, count, eager};
    tutti_padded padded[3];
    char name[32];
    if (count > 1 || first == 2 * runner->engine->model->shape.layers + 1) {
        (void)snprintf(name, sizeof(name), "%s", count > 1 ? "pass" : "head");
    } else {
        (void)snprintf(name, sizeof(name), "%s %d", eager ? "attention" : "dense", first / 2);
    }
    const tutti_segment described = {.struct_bytes = sizeof(described),
                                     .name = name,
                                     .fn = segment_enqueue,
                                     .user = segment,
                                     .flags = eager ? TUTTI_SEGMENT_EAGER : 0,
                                     .padded = padded,
                                     .padded_count = eager ? 0 : padded_of(&runner->engine->forward, segment, padded)};
    return tutti_runner_segment(runner->runner, &described, NULL);
}

static tutti_status segments_add(struct engine_runner *runner, enum engine_pass pass)
{
    int head = 2 * runner->engine->model->shape.layers + 1;
    runner->segments = calloc((size_t)head, sizeof(*runner->segments));
    if (runner->segments == NULL) {
        return TUTTI_ERR_SYSTEM;
    }
    if (pass == ENGINE_DECODE) {
        return segment_add(runner, 0, head + 1, false);
    }
    if (pass == ENGINE_HEAD) {
        return segment_add(runner, head, 1, false);
    }
    tutti_status status = TUTTI_OK;
    for (int piece = 0; piece < head && status == TUTTI_OK; piece++) {
        status = segment_add(runner, piece, 1, piece % 2 != 0);
    }
    return status;
}

/* -- runners -------------------------------------------------------------------------------------------- */

static void note_progress(void *user, const tutti_runner_progress_t *progress)
{
    struct engine_runner *runner = user;
    runner->capturing = progress->phase == TUTTI_RUNNER_CAPTURE;
}

static tutti_status runner_make(struct engine_runner *runner, enum engine_pass pass)
{
    static const size_t one = 1;
    struct engine *engine = runner->engine;
    const struct engine_options *options = &engine->options;
    char name[64];
    (void)snprintf(name, sizeof(name), "%s%s", options->name, pass_names[pass]);
    runner->replays = options->way == ENGINE_PIECEWISE || (options->way == ENGINE_WHOLE && pass == ENGINE_DECODE);
    tutti_runner_options wanted = {.struct_bytes = sizeof(wanted),
                                   .name = name,
                                   .oversize_multiple = pass == ENGINE_PREFILL ? ENGINE_TILE : 1,
                                   .attempts = options->attempts,
                                   .progress = note_progress,
                                   .user = runner};
    wanted.flags =
        (runner->replays && options->lazy ? TUTTI_RUNNER_LAZY : 0) | (options->no_commit ? TUTTI_RUNNER_NO_COMMIT : 0);
    if (options->way == ENGINE_PLAIN) {
        wanted.buckets = &one;
        wanted.bucket_count = 1;
        wanted.oversize_multiple = 1;
    } else {
        int most = pass == ENGINE_PREFILL ? options->prefill_max : options->decode_max;
        wanted.rows_max = (size_t)(pass == ENGINE_HEAD && most > options->picks_max ? options->picks_max : most);
        wanted.powers_max = pass == ENGINE_PREFILL ? PREFILL_POWERS_MAX : DECODE_POWERS_MAX;
        wanted.step = pass == ENGINE_PREFILL ? PREFILL_STEP : DECODE_STEP;
    }
    return tutti_runner_create(engine->comm, &wanted, &runner->runner);
}

static bool plans_make(struct engine_runner *runner)
{
    struct forward *forward = &runner->engine->forward;
    const uint32_t *real = tutti_runner_rows(runner->runner);
    tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
    (void)tutti_runner_stats(runner->runner, &stats);
    runner->plans = calloc(stats.buckets, sizeof(struct forward_plan *));
    if (runner->plans == NULL) {
        return false;
    }
    runner->bucket_count = stats.buckets;
    bool room = true;
    for (size_t index = 0; index < runner->bucket_count && room; index++) {
        tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
        (void)tutti_runner_bucket(runner->runner, index, &bucket);
        runner->plans[index] = forward_plan_create(forward, real, (int)bucket.rows);
        room = runner->plans[index] != NULL;
    }
    runner->wide = forward_plan_create(forward, real, 1);
    runner->ragged = forward_plan_create(forward, real, 1);
    return room && runner->wide != NULL && runner->ragged != NULL;
}

static bool runner_create(struct engine *engine, enum engine_pass pass)
{
    struct engine_runner *runner = &engine->runners[pass];
    struct compute *compute = engine->model->compute;
    runner->engine = engine;
    if (compute_note(compute, runner_make(runner, pass)) != TUTTI_OK ||
        compute_note(compute, segments_add(runner, pass)) != TUTTI_OK) {
        return false;
    }
    if (!plans_make(runner)) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "out of memory for a runner's plans");
        return false;
    }
    return true;
}

static void runner_destroy(struct engine_runner *runner)
{
    tutti_runner_destroy(runner->runner);
    for (size_t index = 0; index < runner->bucket_count; index++) {
        forward_plan_destroy(runner->plans[index]);
    }
    forward_plan_destroy(runner->wide);
    forward_plan_destroy(runner->ragged);
    free(runner->plans);
    free(runner->segments);
}

/* -- engines -------------------------------------------------------------------------------------------- */

bool engine_create(struct engine *engine, const struct engine_options *options, tutti_comm *comm, struct model *model)
{
    const struct forward_limits limits = {.rows_max = options->rows_max,
                                          .picks_max = options->picks_max,
                                          .positions_max = options->positions_max,
                                          .exchange = options->exchange,
                                          .route_log = options->route_log,
                                          .routes_given = options->routes_given};
    struct compute *compute = model->compute;
    memset(engine, 0, sizeof(*engine));
    engine->options = *options;
    engine->comm = comm;
    engine->model = model;
    if (compute->ops->stream_create(compute, &engine->stream) != TUTTI_OK) {
        engine->model = NULL;
        return false;
    }
    bool good = kv_create(&engine->kv, model, options->slots_max);
    if (!good) {
        (void)snprintf(compute->sentence, sizeof(compute->sentence), "out of memory for the cache");
    }
    good = good && forward_create(&engine->forward, model, &engine->kv, comm, &limits);
    int passes = options->headless ? ENGINE_HEAD : ENGINE_PASSES;
    for (int pass = 0; pass < passes && good; pass++) {
        good = runner_create(engine, (enum engine_pass)pass);
    }
    if (!good) {
        engine_destroy(engine);
    }
    return good;
}

void engine_destroy(struct engine *engine)
{
    if (engine->model == NULL) {
        return;
    }
    struct compute *compute = engine->model->compute;
    compute->ops->stream_destroy(compute, engine->stream);
    for (int pass = 0; pass < ENGINE_PASSES; pass++) {
        runner_destroy(&engine->runners[pass]);
    }
    forward_destroy(&engine->forward);
    if (engine->kv.compute != NULL) {
        kv_destroy(&engine->kv);
    }
    memset(engine, 0, sizeof(*engine));
}

/* -- captures ------------------------------------------------------------------------------------------- */

/* Something that can be computed with: every row is the first of one sequence. */
static bool inputs_for_warm_up(struct engine *engine, int rows)
{
    struct forward_inputs *inputs = &engine->forward.inputs;
    struct compute *compute = engine->model->compute;
    for (int row = 0; row < rows; row++) {
        inputs->tokens[row] = 0;
        inputs->positions[row] = 0;
        inputs->slots[row] = 0;
        inputs->lines[row] = 0;
        inputs->embedded[row] = 0;
    }
    for (int pick = 0; pick < engine->options.picks_max; pick++) {
        inputs->picks[pick] = pick < rows ? pick : 0;
    }
    inputs->real_rows = (uint32_t)rows;
    inputs->real_picks = (uint32_t)engine->options.picks_max;
    if (!kv_open(&engine->kv, 0, -1, 1)) {
        return false;
    }
    compute->ops->stage(compute, &engine->forward);
    return true;
}

/* What the computer does lazily and a capture forbids, for every size. */
static bool warm(struct engine *engine, enum engine_pass pass)
{
    const struct engine_runner *runner = &engine->runners[pass];
    struct compute *compute = engine->model->compute;
    bool good = true;
    for (size_t index = 0; index < runner->bucket_count && good; index++) {
        int rows = runner->plans[index]->rows;
        good = compute->ops->warm(compute, &engine->forward, pass == ENGINE_HEAD ? 0 : rows,
                                  pass == ENGINE_PREFILL ? 0 : rows, engine->stream);
    }
    return good;
}

tutti_status engine_capture(struct engine *engine)
{
    struct compute *compute = engine->model->compute;
    tutti_status status = TUTTI_OK;
    for (int pass = 0; pass < ENGINE_PASSES && status == TUTTI_OK; pass++) {
        const struct engine_runner *runner = &engine->runners[pass];
        if (!runner->replays) {
            continue;
        }
        int rows = runner->plans[runner->bucket_count - 1]->rows;
        if (!warm(engine, (enum engine_pass)pass) || !inputs_for_warm_up(engine, rows)) {
            return TUTTI_ERR_SYSTEM;
        }
        status = compute_note(compute, tutti_runner_capture(runner->runner, engine->stream));
        kv_close(&engine->kv, 0);
    }
    return status;
}

/* -- steps ---------------------------------------------------------------------------------------------- */

/* Of a segment that failed in the computer, the library knows no more than the status. */
static tutti_status run_note(struct compute *compute, tutti_status status)
{
    char own[sizeof(compute->sentence)];
    (void)snprintf(own, sizeof(own), "%s", compute->sentence);
    if (compute_note(compute, status) != TUTTI_OK && own[0] != '\0' && strstr(compute->sentence, own) == NULL) {
        size_t at = strlen(compute->sentence);
        (void)snprintf(compute->sentence + at, sizeof(compute->sentence) - at, ": %s", own);
    }
    return status;
}

tutti_status engine_run(struct engine *engine, enum engine_pass pass, int rows)
{
    struct compute *compute = engine->model->compute;
    compute->sentence[0] = '\0';
    return run_note(compute, tutti_runner_run(engine->runners[pass].runner, (size_t)rows, engine->stream));
}

tutti_status engine_finish(struct engine *engine)
{
    struct compute *compute = engine->model->compute;
    tutti_status status =
        compute_note(compute, tutti_runner_finish(engine->runners[ENGINE_DECODE].runner, engine->stream));
    if (status == TUTTI_OK) {
        compute->ops->collect(compute, &engine->forward);
    }
    return status;
}

tutti_status engine_step(struct engine *engine, enum engine_pass pass, int rows)
{
    tutti_status status = engine_run(engine, pass, rows);
    if (status != TUTTI_OK) {
        struct compute *compute = engine->model->compute;
        char why[sizeof(compute->sentence)];
        memcpy(why, compute->sentence, sizeof(why));
        (void)engine_finish(engine);
        memcpy(compute->sentence, why, sizeof(why));
        return status;
    }
    return engine_finish(engine);
}

void engine_reason(const struct engine *engine, char *text, size_t text_bytes)
{
    text[0] = '\0';
    for (int pass = 0; pass < ENGINE_PASSES; pass++) {
        const struct engine_runner *runner = &engine->runners[pass];
        for (size_t index = 0; index < runner->bucket_count; index++) {
            tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
            if (tutti_runner_bucket(runner->runner, index, &bucket) == TUTTI_OK && bucket.reason[0] != '\0') {
                (void)snprintf(text, text_bytes, "%s", bucket.reason);
            }
        }
    }
}

/* -- what is reported ------------------------------------------------------------------------------------- */

static struct board_bucket *bucket_append(const struct engine_runner *runner, int pass, struct board_pass *report)
{
    if (report->bucket_count == BOARD_BUCKETS_MAX) {
        return NULL;
    }
    struct board_bucket *entry = &report->buckets[report->bucket_count++];
    memset(entry, 0, sizeof(*entry));
    (void)snprintf(entry->runner, sizeof(entry->runner), "%s%s", runner->engine->options.name, pass_names[pass]);
    return entry;
}

static void buckets_report(const struct engine_runner *runner, int pass, struct board_pass *report)
{
    for (size_t index = 0; index < runner->bucket_count; index++) {
        tutti_runner_bucket_t bucket = {.struct_bytes = sizeof(bucket)};
        if (tutti_runner_bucket(runner->runner, index, &bucket) != TUTTI_OK) {
            return;
        }
        struct board_bucket *entry = bucket_append(runner, pass, report);
        if (entry != NULL) {
            entry->rows = bucket.rows;
            entry->state = (int)bucket.state;
            entry->captures = bucket.captures;
            entry->failures = bucket.failed_captures;
            entry->replays = bucket.replayed_runs;
            entry->eager = bucket.eager_runs;
            entry->capture_ms = bucket.capture_ms;
            (void)snprintf(entry->reason, sizeof(entry->reason), "%s", bucket.reason);
        }
    }
}

void engine_report(const struct engine *engine, struct board_pass *report, bool steps)
{
    for (int pass = 0; pass < ENGINE_PASSES; pass++) {
        const struct engine_runner *runner = &engine->runners[pass];
        tutti_runner_stats_t stats = {.struct_bytes = sizeof(stats)};
        if (runner->runner == NULL || tutti_runner_stats(runner->runner, &stats) != TUTTI_OK) {
            continue;
        }
        if (steps && pass != ENGINE_HEAD) { /* which is part of a step */
            report->runners.graph_replays += stats.replayed_runs;
            report->runners.eager_steps += stats.eager_runs + stats.oversize_runs;
            report->runners.oversize_steps += stats.oversize_runs;
            report->runners.padding_rows += stats.padding_rows;
        }
        report->runners.graph_launches += stats.graph_launches;
        report->runners.captures += stats.captures;
        report->runners.capture_failures += stats.failed_captures;
        report->runners.capture_ms += stats.capture_ms;
        report->runners.warm_up_ms += stats.warm_up_ms;
        report->runners.commits += stats.commits;
        report->runners.commits_refused += stats.refused_commits;
        report->runners.commit_ms += stats.commit_ms;
    }
}

void engine_report_buckets(const struct engine *engine, struct board_pass *report)
{
    for (int pass = 0; pass < ENGINE_PASSES; pass++) {
        buckets_report(&engine->runners[pass], pass, report);
    }
}
