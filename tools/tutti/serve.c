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

/* What depends on the communicator and the shard. */
static bool engines_create(struct serve *serve, tutti_comm *comm, struct model *model)
{
    serve->comm = comm;
    serve->compute = model->compute;
    serve->large = (tutti_stats){.struct_bytes = sizeof(serve->large)};
    (void)tutti_comm_stats(comm, &serve->large);
    const struct engine_options target = engine_options_of(serve);
    return engine_create(&serve->target, &target, comm, model) || refuse(serve, serve->compute->sentence);
}

static void engines_destroy(struct serve *serve)
{
    engine_destroy(&serve->target);
}

bool serve_open(struct serve *serve, const struct serve_options *options, tutti_comm *comm, struct model *model)
{
    memset(serve, 0, sizeof(*serve));
    serve->options = *options;
    serve->report = board_pass(options->board, options->slot, options->board_rank);
    size_t requests = (size_t)options->trace->count;
    if (!schedule_create(&serve->schedule, &serve->step, options->trace)) {
        return refuse(serve, "out of memory");
    }
    serve->tokens = calloc((size_t)serve->schedule.rows_max, sizeof(*serve->tokens));
    serve->arrived_s = calloc(requests, sizeof(*serve->arrived_s));
    serve->first_s = calloc(requests, sizeof(*serve->first_s));
    if (serve->tokens == NULL || serve->arrived_s == NULL || serve->first_s == NULL) {
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
    serve->tokens = NULL;
    serve->arrived_s = NULL;
    serve->first_s = NULL;
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
    engine_report(&serve->target, serve->report);
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

static void fill_inputs(struct serve *serve, struct engine *engine)
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

/* A decode step is one segment with the head; a prefill step is followed by the head if it completes a prompt. */
static tutti_status step_enqueue(struct serve *serve, struct engine *engine)
{
    const struct step *step = &serve->step;
    if (!step->prefill) {
        return engine_run(engine, ENGINE_DECODE, step->rows);
    }
    tutti_status status = engine_run(engine, ENGINE_PREFILL, step->rows);
    return status == TUTTI_OK && step->picks > 0 ? engine_run(engine, ENGINE_HEAD, step->picks) : status;
}

static tutti_status run_step(struct serve *serve)
{
    const struct serve_faults *faults = serve->options.faults;
    struct compute *compute = serve->compute;
    struct engine *engine = &serve->target;
    fill_inputs(serve, engine);
    if (faults != NULL && faults->before_step != NULL) {
        faults->before_step(faults->user, serve);
    }
    compute->ops->stage(compute, &engine->forward);
    tutti_status status = step_enqueue(serve, engine);
    if (status != TUTTI_OK) {
        (void)keep_sentence(serve, status);
        (void)engine_finish(engine, ENGINE_DECODE);
        return status;
    }
    status = engine_finish(engine, ENGINE_DECODE);
    return status == TUTTI_OK ? TUTTI_OK : keep_sentence(serve, status);
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
    serve->report->start_ms += (serve_now_s() - begun) * 1e3;
    return status == TUTTI_OK ? TUTTI_OK : keep_sentence(serve, status);
}

tutti_status serve_run(struct serve *serve)
{
    tutti_status status = start(serve);
    double begun = serve_now_s();
    while (status == TUTTI_OK && schedule_next(&serve->schedule, &serve->step)) {
        serve_note_arrivals(serve);
        if (!slots_follow(serve, &serve->target)) {
            return TUTTI_ERR_SYSTEM;
        }
        status = run_step(serve);
        if (status == TUTTI_OK) {
            serve->report->steps++;
            serve_record(serve);
        }
        serve_note_runners(serve);
    }
    serve->report->seconds += serve_now_s() - begun;
    note_large_calls(serve);
    serve_note_runners(serve);
    engine_report_buckets(&serve->target, serve->report);
    return status;
}
