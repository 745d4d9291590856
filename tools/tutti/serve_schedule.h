/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_schedule.h - continuous batching: which rows the next step computes.
 *
 * Every rank runs its own copy and takes the same decisions, because time here is a virtual clock that advances with
 * steps: nothing depends on how fast a machine, a rank or a pass is.
 */
#ifndef TUTTI_TOOL_SERVE_SCHEDULE_H
#define TUTTI_TOOL_SERVE_SCHEDULE_H

#include "trace.h"

/* What one step advances the virtual clock by. */
#define SCHEDULE_STEP_MS 10.0

enum request_state { REQUEST_WAITING, REQUEST_RUNNING, REQUEST_DONE };

struct schedule_request {
    enum request_state state;
    int32_t *tokens;   /* prompt, then what was generated */
    int length;        /* tokens known */
    int cached;        /* tokens whose keys and values are in the cache */
    int prefill_until; /* while cached is below, the request is prefilling */
    int produced;      /* tokens generated */
    int slot;          /* of the KV cache, while running */
    bool arrived;      /* the virtual clock has passed its arrival */
};

struct step_row {
    int request, position;
    int32_t token;
};

struct step {
    bool prefill;
    int rows, picks;
    struct step_row *entries; /* [rows_max] */
    int *picked;              /* [rows_max]: rows whose next token is wanted */
};

struct schedule {
    const struct trace *trace;
    struct schedule_request *requests;
    int workload;
    double clock_ms;
    bool last_was_prefill;
    int proposed;                          /* as schedule_create was told */
    int decode_max, prefill_max;           /* the most rows that a step of each kind can have */
    int rows_max;                          /* of both */
    int slot_users[TRACE_CONCURRENCY_MAX]; /* request + 1, 0: free */
};

/* How many tokens are proposed for a sequence in a decode step, whose rows may then be so many more: */
#define SCHEDULE_NO_PROPOSALS (-1)
#define SCHEDULE_TRACE_PROPOSALS 0 /* as each workload says; any other number: so many */

/* False if memory ran out; nothing is left then. Borrows the trace. */
bool schedule_create(struct schedule *schedule, struct step *step, const struct trace *trace, int proposed);
void schedule_destroy(struct schedule *schedule, struct step *step);

/* Fills *step; false if everything is done. Requests become running here: their state says which slot they take. */
bool schedule_next(struct schedule *schedule, struct step *step);

/* The step has run: tokens[i] is what follows row picked[i]. Requests that are complete are done now. */
void schedule_complete(struct schedule *schedule, const struct step *step, const int32_t *tokens);

/* The same in parts, for steps that give several tokens of a request or none. */
void schedule_append(struct schedule *schedule, int request, int32_t token);
void schedule_advance(struct schedule *schedule, const struct step *step);

int schedule_proposals(const struct schedule *schedule, int workload);

/* All caches are lost: running requests wait again and will be computed from prompt and tokens so far. */
void schedule_restart(struct schedule *schedule);

/* Forgets tokens beyond the first `produced` of a request (peers had not seen them yet). */
void schedule_rewind(struct schedule *schedule, int request, int produced);

/* Back to an earlier moment: what has arrived since then has not. */
void schedule_set_clock(struct schedule *schedule, int workload, double clock_ms);

#endif
