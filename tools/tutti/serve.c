/* SPDX-License-Identifier: Apache-2.0 */
#include "serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model_weights.h"

double serve_now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool refuse(struct serve *serve, const char *what)
{
    (void)snprintf(serve->sentence, sizeof(serve->sentence), "%s", what);
    return false;
}

static tutti_status keep_sentence(struct serve *serve, tutti_status status)
{
    (void)snprintf(serve->sentence, sizeof(serve->sentence), "%s", serve->compute->sentence);
    return status;
}

static tutti_status capture_begun(void *user, size_t rows)
{
    struct serve *serve = user;
    const struct serve_faults *faults = serve->options.faults;
    return faults->capture_begun != NULL ? faults->capture_begun(faults->user, serve, rows) : TUTTI_OK;
}

static void capture_ending(void *user)
{
    struct serve *serve = user;
    const struct serve_faults *faults = serve->options.faults;
    if (faults->capture_ending != NULL) {
        faults->capture_ending(faults->user, serve);
    }
}

static int smaller(int left, int right)
{
    return left < right ? left : right;
}

/* Sizes go by what the trace can ask for at once. */
static struct engine_options engine_options_of(struct serve *serve)
{
    const struct serve_options *options = &serve->options;
    const struct schedule *schedule = &serve->schedule;
    struct engine_options made = {.name = "",
                                  .way = options->way,
                                  .lazy = options->lazy,
                                  .no_commit = options->commits_late,
                                  .decode_max = schedule->decode_max,
                                  .prefill_max = smaller(schedule->prefill_max, SERVE_PREFILL_MAX),
                                  .rows_max = (schedule->rows_max + ENGINE_TILE - 1) / ENGINE_TILE * ENGINE_TILE,
                                  .picks_max = schedule->decode_max,
                                  .positions_max = options->trace->length_max,
                                  .slots_max = TRACE_CONCURRENCY_MAX,
                                  .exchange = options->exchange,
                                  .route_log = options->routes,
                                  .routes_given = options->slot != BOARD_REFERENCE,
                                  .attempts = SERVE_CAPTURE_TRIES};
    if (options->small) {
        made.decode_max = (made.decode_max + 1) / 2;
        made.prefill_max = (smaller(options->trace->prompt_max, made.prefill_max) + 1) / 2;
    }
    if (options->faults != NULL) {
        made.capture_begun = capture_begun;
        made.capture_ending = capture_ending;
        made.user = serve;
    }
    return made;
}

/* A draft has a row for each sequence where the model has one for each proposal as well. */
static bool draft_create(struct serve *serve, const struct engine_options *target)
{
    struct compute *compute = serve->compute;
    if (serve->options.draft == NULL) {
        return true;
    }
    struct engine_options options = *target;
    options.name = "draft ";
    options.headless = true;
    options.decode_max = smaller(target->decode_max, serve->options.trace->concurrency_max);
    options.picks_max = smaller(target->picks_max, serve->options.trace->concurrency_max);
    options.route_log = NULL;
    options.capture_begun = NULL;
    options.capture_ending = NULL;
    return compute->ops->stream_create(compute, &serve->planning) == TUTTI_OK &&
           engine_create(&serve->draft, &options, serve->comm, serve->options.draft);
}

/* What depends on the communicator and the shard. */
static bool engines_create(struct serve *serve, tutti_comm *comm, struct model *model)
{
    serve->comm = comm;
    serve->compute = model->compute;
    serve->large = (tutti_stats){.struct_bytes = sizeof(serve->large)};
    (void)tutti_comm_stats(comm, &serve->large);
    const struct engine_options target = engine_options_of(serve);
    return (engine_create(&serve->target, &target, comm, model) && draft_create(serve, &target)) ||
           refuse(serve, serve->compute->sentence);
}

static void engines_destroy(struct serve *serve)
{
    engine_destroy(&serve->target);
    engine_destroy(&serve->draft);
    if (serve->planning != NULL) {
        serve->compute->ops->stream_destroy(serve->compute, serve->planning);
        serve->planning = NULL;
    }
}

static bool room_make(struct serve *serve)
{
    size_t requests = (size_t)serve->options.trace->count;
    size_t rows = (size_t)serve->schedule.rows_max;
    struct speculation *own = &serve->speculation;
    serve->tokens = calloc(rows, sizeof(*serve->tokens));
    serve->arrived_s = calloc(requests, sizeof(*serve->arrived_s));
    serve->first_s = calloc(requests, sizeof(*serve->first_s));
    own->bases = calloc(rows, sizeof(*own->bases));
    own->firsts = calloc(rows, sizeof(*own->firsts));
    own->proposals = calloc(rows, sizeof(*own->proposals));
    own->proposed = calloc(rows, sizeof(*own->proposed));
    return serve->tokens != NULL && serve->arrived_s != NULL && serve->first_s != NULL && own->bases != NULL &&
           own->firsts != NULL && own->proposals != NULL && own->proposed != NULL;
}

bool serve_open(struct serve *serve, const struct serve_options *options, tutti_comm *comm, struct model *model)
{
    memset(serve, 0, sizeof(*serve));
    serve->options = *options;
    serve->report = board_pass(options->board, options->slot, options->board_rank);
    int proposals = options->draft == NULL ? SCHEDULE_NO_PROPOSALS : options->speculate;
    if (!schedule_create(&serve->schedule, &serve->step, options->trace, proposals)) {
        return refuse(serve, "out of memory");
    }
    if (!room_make(serve)) {
        (void)refuse(serve, "out of memory");
        goto undo;
    }
    if (!engines_create(serve, comm, model)) {
        goto undo;
    }
    return true;
undo:
    serve_close(serve);
    return false;
}

void serve_close(struct serve *serve)
{
    engines_destroy(serve);
    schedule_destroy(&serve->schedule, &serve->step);
    free(serve->tokens);
    free(serve->arrived_s);
    free(serve->first_s);
    free(serve->speculation.bases);
    free(serve->speculation.firsts);
    free(serve->speculation.proposals);
    free(serve->speculation.proposed);
    serve->tokens = NULL;
    serve->arrived_s = NULL;
    serve->first_s = NULL;
    serve->speculation = (struct speculation){0};
}

bool serve_reopen(struct serve *serve, tutti_comm *comm, struct model *model)
{
    engines_destroy(serve);
    schedule_restart(&serve->schedule);
    return engines_create(serve, comm, model);
}

tutti_status serve_commit(struct serve *serve)
{
    double begun = serve_now_s();
    tutti_status status = compute_note(serve->compute, tutti_commit(serve->comm));
    serve->report->late_commit_ms += (serve_now_s() - begun) * 1e3;
    serve->report->late_commits += status == TUTTI_OK;
    return status;
}

void serve_note_runners(struct serve *serve)
{
    serve->report->runners = (struct board_runners){0};
    engine_report(&serve->target, serve->report, true);
    if (serve->draft.model != NULL) {
        engine_report(&serve->draft, serve->report, false);
    }
}

/* Cache slots follow the requests: opened when one starts to run, closed when it is done. */
static bool slots_follow(struct serve *serve, struct engine *engine)
{
    const struct schedule *schedule = &serve->schedule;
    struct kv_cache *kv = &engine->kv;
    for (int slot = 0; slot < kv->slot_count; slot++) {
        int request = schedule->slot_users[slot] - 1;
        bool open = kv->slots[slot].data != NULL;
        if (open && kv->slots[slot].owner != request) {
            kv_close(kv, slot);
            open = false;
        }
        if (request >= 0 && !open) {
            const struct trace_request *entry = &schedule->trace->requests[request];
            if (!kv_open(kv, slot, request, entry->prompt_tokens + entry->output_tokens)) {
                return refuse(serve, serve->compute->sentence);
            }
        }
    }
    return true;
}

void serve_fill_inputs(const struct serve *serve, struct engine *engine)
{
    struct forward_inputs *inputs = &engine->forward.inputs;
    const struct schedule *schedule = &serve->schedule;
    const struct step *step = &serve->step;
    size_t hidden = (size_t)engine->model->shape.hidden;
    for (int row = 0; row < step->rows; row++) {
        const struct step_row *entry = &step->entries[row];
        const struct trace_request *request = &schedule->trace->requests[entry->request];
        inputs->tokens[row] = entry->token;
        inputs->positions[row] = entry->position;
        inputs->lines[row] = (int32_t)request->first_token + entry->position;
        inputs->slots[row] = schedule->requests[entry->request].slot;
        inputs->embedded[row] = request->embeddings && entry->position < request->prompt_tokens;
        if (inputs->embedded[row]) {
            weights_embedding(inputs->embeddings + (size_t)row * hidden, entry->token, (int)hidden,
                              engine->model->numerics);
        }
    }
    for (int pick = 0; pick < step->picks; pick++) {
        inputs->picks[pick] = step->picked[pick];
    }
    inputs->real_rows = (uint32_t)step->rows;
    inputs->real_picks = (uint32_t)step->picks;
}

/* Whether a draft model takes part in the step. */
static bool speculates(const struct serve *serve)
{
    const struct schedule *schedule = &serve->schedule;
    return serve->draft.model != NULL && schedule_proposals(schedule, schedule->workload) > 0;
}

/* The draft follows what is prefilled. */
static tutti_status draft_prefill(struct serve *serve)
{
    struct engine *draft = &serve->draft;
    serve_fill_inputs(serve, draft);
    serve->compute->ops->stage(serve->compute, &draft->forward);
    return engine_step(draft, ENGINE_PREFILL, serve->step.rows);
}

/* The model's inputs; what a draft has to do first is done. */
static tutti_status step_prepare(struct serve *serve)
{
    if (speculates(serve) && !serve->step.prefill) {
        return serve_propose(serve);
    }
    serve_fill_inputs(serve, &serve->target);
    return speculates(serve) ? draft_prefill(serve) : TUTTI_OK;
}

/* A decode step is one segment with the head; a prefill step is followed by the head if it completes a prompt. */
static tutti_status step_run(struct serve *serve)
{
    const struct step *step = &serve->step;
    struct engine *engine = &serve->target;
    serve->compute->ops->stage(serve->compute, &engine->forward);
    if (!step->prefill) {
        return engine_step(engine, ENGINE_DECODE, step->rows);
    }
    if (step->picks == 0) {
        return engine_step(engine, ENGINE_PREFILL, step->rows);
    }
    tutti_status status = engine_run(engine, ENGINE_PREFILL, step->rows);
    return status == TUTTI_OK ? engine_step(engine, ENGINE_HEAD, step->picks) : status;
}

static tutti_status run_step(struct serve *serve)
{
    const struct serve_faults *faults = serve->options.faults;
    tutti_status status = step_prepare(serve);
    if (status == TUTTI_OK && faults != NULL && faults->before_step != NULL) {
        faults->before_step(faults->user, serve);
    }
    if (status == TUTTI_OK) {
        status = step_run(serve);
    }
    return status == TUTTI_OK ? TUTTI_OK : keep_sentence(serve, status);
}

static void step_record(struct serve *serve)
{
    serve->report->steps++;
    if (speculates(serve) && !serve->step.prefill) {
        serve_accept(serve);
    } else {
        serve_record(serve);
    }
}

/* Since the communicator was made; a pass that follows another one takes the difference. */
static void note_large_calls(struct serve *serve)
{
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    if (tutti_comm_stats(serve->comm, &stats) == TUTTI_OK) {
        serve->report->direct_calls = stats.direct_calls - serve->large.direct_calls;
        serve->report->staged_calls = stats.staged_calls - serve->large.staged_calls;
    }
}

/* As engines do, before the first request is looked at. */
static tutti_status start(struct serve *serve)
{
    double begun = serve_now_s();
    tutti_status status = serve->options.lazy ? TUTTI_OK : engine_capture(&serve->target);
    if (status == TUTTI_OK && !serve->options.lazy && serve->draft.model != NULL) {
        status = engine_capture(&serve->draft);
    }
    serve->report->start_ms += (serve_now_s() - begun) * 1e3;
    return status == TUTTI_OK ? TUTTI_OK : keep_sentence(serve, status);
}

tutti_status serve_run(struct serve *serve)
{
    tutti_status status = start(serve);
    double begun = serve_now_s();
    while (status == TUTTI_OK && schedule_next(&serve->schedule, &serve->step)) {
        serve_note_arrivals(serve);
        if (!slots_follow(serve, &serve->target) || (speculates(serve) && !slots_follow(serve, &serve->draft))) {
            return TUTTI_ERR_SYSTEM;
        }
        status = run_step(serve);
        if (status == TUTTI_OK) {
            step_record(serve);
        }
        serve_note_runners(serve);
    }
    serve->report->seconds += serve_now_s() - begun;
    note_large_calls(serve);
    serve_note_runners(serve);
    engine_report_buckets(&serve->target, serve->report);
    if (serve->draft.model != NULL) {
        engine_report_buckets(&serve->draft, serve->report);
    }
    return status;
}
