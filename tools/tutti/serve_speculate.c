/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_speculate.c - decode steps with a draft model beside: it proposes some tokens for each sequence, one after another; one pass
 * of the model over all of them says how many it would have chosen itself, and those are kept.
 *
 * Three streams. The draft's engine has one, the model's another, and on a third the model's next inputs are planned while the
 * draft is at work: all but the proposed tokens, which are not there yet. The two engines take turns, the host waits between them.
 */
#include <string.h>

#include "serve.h"

/* Of the sequence at `place` of the step. */
static int proposals_of(const struct serve *serve, const struct step_row *base)
{
    const struct schedule *schedule = &serve->schedule;
    int most = schedule_proposals(schedule, schedule->workload);
    int left = schedule->trace->requests[base->request].output_tokens - schedule->requests[base->request].produced;
    return most < left - 1 ? most : left - 1; /* the pass itself gives one more */
}

/* One row a sequence becomes one for its last token and one for each that will be proposed. */
static void step_widen(struct serve *serve)
{
    struct step *step = &serve->step;
    struct speculation *own = &serve->speculation;
    own->count = step->rows;
    memcpy(own->bases, step->entries, (size_t)step->rows * sizeof(*own->bases));
    step->rows = 0;
    step->picks = 0;
    for (int place = 0; place < own->count; place++) {
        const struct step_row *base = &own->bases[place];
        own->firsts[place] = step->rows;
        own->proposals[place] = proposals_of(serve, base);
        for (int ahead = 0; ahead <= own->proposals[place]; ahead++) {
            step->entries[step->rows] = (struct step_row){base->request, base->position + ahead, base->token};
            step->picked[step->picks++] = step->rows;
            own->proposed[step->rows++] = base->token;
        }
    }
}

/* On the planning stream. */
static void plan_inputs(void *argument)
{
    struct serve *serve = argument;
    serve_fill_inputs(serve, &serve->target);
}

/* One token further for every sequence that still has some to come. The draft's cache follows up to the last proposal, which is
 * why it works on that one as well. Returns how many sequences took part. */
static int draft_fill(struct serve *serve, int ahead)
{
    const struct speculation *own = &serve->speculation;
    struct forward_inputs *inputs = &serve->draft.forward.inputs;
    int rows = 0;
    for (int place = 0; place < own->count; place++) {
        if (own->proposals[place] == 0 || ahead > own->proposals[place]) {
            continue;
        }
        const struct step_row *base = &own->bases[place];
        inputs->tokens[rows] = own->proposed[own->firsts[place] + ahead];
        inputs->positions[rows] = base->position + ahead;
        inputs->slots[rows] = serve->schedule.requests[base->request].slot;
        inputs->embedded[rows] = 0;
        inputs->picks[rows] = rows;
        rows++;
    }
    inputs->real_rows = (uint32_t)rows;
    inputs->real_picks = (uint32_t)rows;
    return rows;
}

static void draft_take(struct serve *serve, int ahead)
{
    struct speculation *own = &serve->speculation;
    int row = 0;
    for (int place = 0; place < own->count; place++) {
        if (own->proposals[place] == 0 || ahead > own->proposals[place]) {
            continue;
        }
        if (ahead < own->proposals[place]) {
            own->proposed[own->firsts[place] + ahead + 1] = serve->draft.forward.outputs.picks[row].token;
        }
        row++;
    }
}

static tutti_status draft_run(struct serve *serve)
{
    struct engine *draft = &serve->draft;
    tutti_status status = TUTTI_OK;
    for (int ahead = 0; status == TUTTI_OK; ahead++) {
        int rows = draft_fill(serve, ahead);
        if (rows == 0) {
            break;
        }
        serve->compute->ops->stage(serve->compute, &draft->forward);
        status = engine_step(draft, ENGINE_DECODE, rows);
        if (status == TUTTI_OK) {
            draft_take(serve, ahead);
            serve->report->draft_steps++;
        }
    }
    return status;
}

tutti_status serve_propose(struct serve *serve)
{
    struct compute *compute = serve->compute;
    struct forward_inputs *inputs = &serve->target.forward.inputs;
    step_widen(serve);
    tutti_status planned = compute->ops->call(compute, serve->planning, plan_inputs, serve);
    tutti_status status = planned == TUTTI_OK ? draft_run(serve) : planned;
    if (planned == TUTTI_OK) {
        planned = compute->ops->synchronize(compute, serve->planning);
        status = status == TUTTI_OK ? planned : status;
    }
    for (int row = 0; row < serve->step.rows && status == TUTTI_OK; row++) {
        inputs->tokens[row] = serve->speculation.proposed[row];
    }
    return status;
}

void serve_accept(struct serve *serve)
{
    struct speculation *own = &serve->speculation;
    struct schedule *schedule = &serve->schedule;
    double now = serve_now_s();
    for (int place = 0; place < own->count; place++) {
        int request = own->bases[place].request;
        int row = own->firsts[place];
        int last = row + own->proposals[place];
        bool goes_on = true;
        int kept = 0;
        for (; goes_on; row++) {
            int32_t token = serve_record_output(serve, request, row, now);
            goes_on = row < last && own->proposed[row + 1] == token;
            serve->report->accepted += goes_on;
            schedule_append(schedule, request, token);
            kept++;
        }
        schedule->requests[request].cached += kept;
        serve->report->proposed += (uint64_t)own->proposals[place];
    }
    schedule_advance(schedule, &serve->step);
}
