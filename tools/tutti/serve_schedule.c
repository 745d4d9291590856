/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_schedule.h"

#include <stdlib.h>
#include <string.h>

/* Of one workload at a time; what a request has generated is prefilled, too, if its cache was lost. */
static int prefill_max_of(const struct trace *trace)
{
    int most = 1;
    for (int workload = 0; workload < trace->workload_count; workload++) {
        size_t tokens = 0;
        for (int i = 0; i < trace->count; i++) {
            const struct trace_request *request = &trace->requests[i];
            if (request->workload == workload) {
                tokens += (size_t)request->prompt_tokens + (size_t)request->output_tokens;
            }
        }
        size_t chunk = (size_t)trace->workloads[workload].chunk_tokens;
        int rows = (int)(tokens < chunk ? tokens : chunk);
        most = rows > most ? rows : most;
    }
    return most;
}

int schedule_proposals(const struct schedule *schedule, int workload)
{
    if (schedule->proposed == SCHEDULE_NO_PROPOSALS) {
        return 0;
    }
    return schedule->proposed != SCHEDULE_TRACE_PROPOSALS ? schedule->proposed
                                                          : schedule->trace->workloads[workload].speculate;
}

/* A request that runs has one row, and one for each proposal. */
static int decode_max_of(const struct schedule *schedule)
{
    const struct trace *trace = schedule->trace;
    int most = 1;
    for (int workload = 0; workload < trace->workload_count; workload++) {
        int count = 0;
        for (int i = 0; i < trace->count; i++) {
            count += trace->requests[i].workload == workload;
        }
        int slots = trace->workloads[workload].concurrency;
        count = (count < slots ? count : slots) * (1 + schedule_proposals(schedule, workload));
        most = count > most ? count : most;
    }
    return most;
}

bool schedule_create(struct schedule *schedule, struct step *step, const struct trace *trace, int proposed)
{
    memset(schedule, 0, sizeof(*schedule));
    memset(step, 0, sizeof(*step));
    schedule->trace = trace;
    schedule->proposed = proposed;
    schedule->requests = calloc((size_t)trace->count, sizeof(*schedule->requests));
    schedule->decode_max = decode_max_of(schedule);
    schedule->prefill_max = prefill_max_of(trace);
    schedule->rows_max = schedule->prefill_max > schedule->decode_max ? schedule->prefill_max : schedule->decode_max;
    size_t rows = schedule->rows_max > 0 ? (size_t)schedule->rows_max : 1;
    step->entries = calloc(rows, sizeof(*step->entries));
    step->picked = calloc(rows, sizeof(*step->picked));
    bool complete = schedule->requests != NULL && step->entries != NULL && step->picked != NULL;
    for (int i = 0; complete && i < trace->count; i++) {
        const struct trace_request *request = &trace->requests[i];
        struct schedule_request *state = &schedule->requests[i];
        state->tokens = calloc((size_t)request->prompt_tokens + (size_t)request->output_tokens, sizeof(int32_t));
        if (state->tokens == NULL) {
            complete = false;
            break;
        }
        memcpy(state->tokens, request->prompt, (size_t)request->prompt_tokens * sizeof(int32_t));
        state->length = request->prompt_tokens;
        state->prefill_until = state->length;
    }
    if (!complete) {
        schedule_destroy(schedule, step);
    }
    return complete;
}

void schedule_destroy(struct schedule *schedule, struct step *step)
{
    for (int i = 0; schedule->requests != NULL && i < schedule->trace->count; i++) {
        free(schedule->requests[i].tokens);
    }
    free(schedule->requests);
    free(step->entries);
    free(step->picked);
    schedule->requests = NULL;
    step->entries = NULL;
    step->picked = NULL;
}

static int free_slot(const struct schedule *schedule)
{
    int slots = schedule->trace->workloads[schedule->workload].concurrency;
    for (int slot = 0; slot < slots; slot++) {
        if (schedule->slot_users[slot] == 0) {
            return slot;
        }
    }
    return -1;
}

/* Requests whose time has come take free slots, in the order of the trace. Returns how many are running. */
static int admit(struct schedule *schedule)
{
    int running = 0;
    for (int i = 0; i < schedule->trace->count; i++) {
        struct schedule_request *state = &schedule->requests[i];
        const struct trace_request *request = &schedule->trace->requests[i];
        if (request->workload != schedule->workload || state->state == REQUEST_DONE) {
            continue;
        }
        state->arrived = state->arrived || request->arrival_ms <= schedule->clock_ms;
        if (state->state == REQUEST_WAITING && state->arrived) {
            int slot = free_slot(schedule);
            if (slot >= 0) {
                state->slot = slot;
                state->state = REQUEST_RUNNING;
                schedule->slot_users[slot] = i + 1;
            }
        }
        running += state->state == REQUEST_RUNNING;
    }
    return running;
}

/* The next arrival of the current workload, or negative if none is left. */
static double next_arrival_ms(const struct schedule *schedule)
{
    double next = -1.0;
    for (int i = 0; i < schedule->trace->count; i++) {
        const struct trace_request *request = &schedule->trace->requests[i];
        if (request->workload == schedule->workload && schedule->requests[i].state == REQUEST_WAITING &&
            (next < 0.0 || request->arrival_ms < next)) {
            next = request->arrival_ms;
        }
    }
    return next;
}

/* Makes sure that something runs: lets the clock jump over idle time, goes on to the next workload. */
static bool wake(struct schedule *schedule)
{
    while (admit(schedule) == 0) {
        double next = next_arrival_ms(schedule);
        if (next >= 0.0) {
            schedule->clock_ms = next;
        } else if (schedule->workload + 1 < schedule->trace->workload_count) {
            schedule->workload++;
            schedule->clock_ms = 0.0;
        } else {
            return false;
        }
    }
    return true;
}

static void add_row(const struct schedule *schedule, struct step *step, int request, int position)
{
    const struct schedule_request *state = &schedule->requests[request];
    step->entries[step->rows] = (struct step_row){request, position, state->tokens[position]};
    if (position == state->length - 1) {
        step->picked[step->picks++] = step->rows;
    }
    step->rows++;
}

static void fill_prefill(const struct schedule *schedule, struct step *step)
{
    int chunk = schedule->trace->workloads[schedule->workload].chunk_tokens;
    for (int i = 0; i < schedule->trace->count; i++) {
        const struct schedule_request *state = &schedule->requests[i];
        if (state->state != REQUEST_RUNNING) {
            continue;
        }
        for (int position = state->cached; position < state->prefill_until && step->rows < chunk; position++) {
            add_row(schedule, step, i, position);
        }
    }
}

static void fill_decode(const struct schedule *schedule, struct step *step)
{
    for (int i = 0; i < schedule->trace->count; i++) {
        const struct schedule_request *state = &schedule->requests[i];
        if (state->state == REQUEST_RUNNING && state->cached >= state->prefill_until) {
            add_row(schedule, step, i, state->cached);
        }
    }
}

bool schedule_next(struct schedule *schedule, struct step *step)
{
    if (!wake(schedule)) {
        return false;
    }
    int prefilling = 0;
    int decoding = 0;
    for (int i = 0; i < schedule->trace->count; i++) {
        const struct schedule_request *state = &schedule->requests[i];
        if (state->state == REQUEST_RUNNING) {
            prefilling += state->cached < state->prefill_until;
            decoding += state->cached >= state->prefill_until;
        }
    }
    step->rows = 0;
    step->picks = 0;
    /* Turn by turn, so that neither newcomers nor running requests starve. */
    step->prefill = prefilling > 0 && (decoding == 0 || !schedule->last_was_prefill);
    if (step->prefill) {
        fill_prefill(schedule, step);
    } else {
        fill_decode(schedule, step);
    }
    return true;
}

void schedule_append(struct schedule *schedule, int request, int32_t token)
{
    struct schedule_request *state = &schedule->requests[request];
    state->tokens[state->length++] = token;
    state->produced++;
    if (state->produced == schedule->trace->requests[request].output_tokens) {
        state->state = REQUEST_DONE;
        schedule->slot_users[state->slot] = 0;
    }
}

void schedule_advance(struct schedule *schedule, const struct step *step)
{
    schedule->last_was_prefill = step->prefill;
    schedule->clock_ms += SCHEDULE_STEP_MS;
}

void schedule_complete(struct schedule *schedule, const struct step *step, const int32_t *tokens)
{
    for (int row = 0; row < step->rows; row++) {
        schedule->requests[step->entries[row].request].cached++;
    }
    for (int pick = 0; pick < step->picks; pick++) {
        schedule_append(schedule, step->entries[step->picked[pick]].request, tokens[pick]);
    }
    schedule_advance(schedule, step);
}

void schedule_restart(struct schedule *schedule)
{
    for (int i = 0; i < schedule->trace->count; i++) {
        struct schedule_request *state = &schedule->requests[i];
        if (state->state == REQUEST_RUNNING) {
            state->state = REQUEST_WAITING;
            state->cached = 0;
            state->prefill_until = state->length;
        }
    }
    memset(schedule->slot_users, 0, sizeof(schedule->slot_users));
    schedule->last_was_prefill = false;
}

void schedule_rewind(struct schedule *schedule, int request, int produced)
{
    struct schedule_request *state = &schedule->requests[request];
    if (state->produced <= produced) {
        return;
    }
    state->length -= state->produced - produced;
    state->produced = produced;
    state->prefill_until = state->length;
    if (state->state == REQUEST_DONE) {
        state->state = REQUEST_WAITING;
        state->cached = 0;
    }
}

void schedule_set_clock(struct schedule *schedule, int workload, double clock_ms)
{
    schedule->workload = workload;
    schedule->clock_ms = clock_ms;
    for (int i = 0; i < schedule->trace->count; i++) {
        const struct trace_request *request = &schedule->trace->requests[i];
        bool now = request->workload < workload || (request->workload == workload && request->arrival_ms <= clock_ms);
        schedule->requests[i].arrived = now || schedule->requests[i].produced > 0;
    }
}
