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

/* What depends on the communicator and the shard. */
static bool engine_create(struct serve *serve, tutti_comm *comm, struct model *model)
{
    const struct trace *trace = serve->options.trace;
    int rows_max = serve->schedule.rows_max;
    struct compute *compute = model->compute;
    serve->comm = comm;
    serve->model = model;
    serve->compute = compute;
    serve->large = (tutti_stats){.struct_bytes = sizeof(serve->large)};
    (void)tutti_comm_stats(comm, &serve->large);
    if (compute->ops->stream_create(compute, &serve->stream) != TUTTI_OK) {
        return refuse(serve, compute->sentence);
    }
    if (!kv_create(&serve->kv, model, TRACE_CONCURRENCY_MAX)) {
        return refuse(serve, "out of memory for the engine's buffers");
    }
    const struct forward_limits limits = {.rows_max = rows_max,
                                          .picks_max = TRACE_CONCURRENCY_MAX,
                                          .positions_max = trace->length_max,
                                          .exchange = serve->options.exchange,
                                          .route_log = serve->options.routes,
                                          .routes_given = serve->options.slot != BOARD_REFERENCE};
    if (!forward_create(&serve->forward, model, &serve->kv, comm, &limits)) {
        return refuse(serve, compute->sentence);
    }
    serve->eager = forward_plan_create(&serve->forward, 1, 1);
    return serve->eager != NULL || refuse(serve, "out of memory");
}

static void engine_destroy(struct serve *serve)
{
    if (serve->compute != NULL) {
        serve->compute->ops->stream_destroy(serve->compute, serve->stream);
    }
    serve->stream = NULL;
    serve_graphs_destroy(serve);
    forward_plan_destroy(serve->eager);
    serve->eager = NULL;
    forward_destroy(&serve->forward);
    kv_destroy(&serve->kv);
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
    if (!engine_create(serve, comm, model)) {
        goto undo;
    }
    return true;
undo:
    serve_close(serve);
    return false;
}

void serve_close(struct serve *serve)
{
    engine_destroy(serve);
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
    engine_destroy(serve);
    schedule_restart(&serve->schedule);
    return engine_create(serve, comm, model);
}

/* Cache slots follow the requests: opened when one starts to run, closed when it is done. */
static bool slots_follow(struct serve *serve)
{
    const struct schedule *schedule = &serve->schedule;
    for (int slot = 0; slot < serve->kv.slot_count; slot++) {
        int request = schedule->slot_users[slot] - 1;
        bool open = serve->kv.slots[slot].data != NULL;
        if (open && serve->kv.slots[slot].owner != request) {
            kv_close(&serve->kv, slot);
            open = false;
        }
        if (request >= 0 && !open) {
            const struct trace_request *entry = &schedule->trace->requests[request];
            if (!kv_open(&serve->kv, slot, request, entry->prompt_tokens + entry->output_tokens)) {
                return refuse(serve, serve->compute->sentence);
            }
        }
    }
    return true;
}

static void fill_inputs(struct serve *serve)
{
    struct forward_inputs *inputs = &serve->forward.inputs;
    const struct schedule *schedule = &serve->schedule;
    const struct step *step = &serve->step;
    size_t hidden = (size_t)serve->model->shape.hidden;
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
                              serve->model->numerics);
        }
    }
    for (int pick = 0; pick < step->picks; pick++) {
        inputs->picks[pick] = step->picked[pick];
    }
    inputs->real_rows = (uint32_t)step->rows;
    inputs->real_picks = (uint32_t)step->picks;
}

static tutti_status keep_sentence(struct serve *serve, tutti_status status)
{
    (void)snprintf(serve->sentence, sizeof(serve->sentence), "%s", serve->compute->sentence);
    return status;
}

/* Enqueues the step, from a graph if there is one. */
static tutti_status start_step(struct serve *serve)
{
    int rows = serve->step.rows;
    int picks = serve->step.picks;
    if (!serve->step.prefill && (serve->options.padded || serve->options.graphs)) {
        int bucket = serve_bucket(rows);
        rows = 1 << bucket;
        picks = rows;
        void *graph = serve->options.graphs ? serve_graph_for(serve, bucket) : NULL;
        if (graph != NULL) {
            serve->report->graph_replays++;
            return serve->compute->ops->graph_launch(serve->compute, graph, serve->stream);
        }
    }
    serve->report->eager_steps++;
    forward_plan_resize(serve->eager, rows, picks);
    return forward_plan_enqueue(serve->eager, serve->stream);
}

static tutti_status run_step(struct serve *serve)
{
    const struct serve_faults *faults = serve->options.faults;
    struct compute *compute = serve->compute;
    fill_inputs(serve);
    if (faults != NULL && faults->before_step != NULL) {
        faults->before_step(faults->user, serve);
    }
    compute->ops->stage(compute, &serve->forward);
    tutti_status status = start_step(serve);
    if (status != TUTTI_OK) {
        (void)keep_sentence(serve, status);
        (void)compute->ops->synchronize(compute, serve->stream);
        return status;
    }
    status = compute->ops->synchronize(compute, serve->stream);
    if (status == TUTTI_OK) {
        compute->ops->collect(compute, &serve->forward);
        /* Rows are handed out only if no collective of the step failed. */
        status = compute_note(compute, tutti_comm_status(serve->comm));
    }
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

tutti_status serve_run(struct serve *serve)
{
    double begun = serve_now_s();
    tutti_status status = TUTTI_OK;
    while (status == TUTTI_OK && schedule_next(&serve->schedule, &serve->step)) {
        serve_note_arrivals(serve);
        if (!slots_follow(serve)) {
            return TUTTI_ERR_SYSTEM;
        }
        status = run_step(serve);
        if (status == TUTTI_OK) {
            serve->report->steps++;
            serve_record(serve);
        }
    }
    serve->report->seconds += serve_now_s() - begun;
    note_large_calls(serve);
    return status;
}
