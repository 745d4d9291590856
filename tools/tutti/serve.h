/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - one rank serves a trace, with one engine, or with a small one beside it that proposes tokens. */
#ifndef TUTTI_TOOL_SERVE_H
#define TUTTI_TOOL_SERVE_H

#include "compute.h"
#include "run_board.h"
#include "serve_engine.h"
#include "serve_schedule.h"

/* Prefill steps of more rows are above the largest bucket, unless a storm says otherwise. */
#define SERVE_PREFILL_MAX 2048

/* After so many failed captures a bucket stays eager. */
#define SERVE_CAPTURE_TRIES 3

struct serve;

/* Where a storm may interfere. Functions may be NULL. */
struct serve_faults {
    void *user;
    void (*before_step)(void *user, struct serve *serve); /* inputs are filled, nothing is enqueued */
    /* In the first capture of each bucket: nothing is recorded yet, everything is. Not TUTTI_OK: the capture fails. */
    tutti_status (*capture_begun)(void *user, struct serve *serve, size_t rows);
    void (*capture_ending)(void *user, struct serve *serve);
    bool at_start;     /* buckets are captured at the start, not when they are met, */
    bool commits_late; /* and the commit is left to the functions above */
    bool
        direct_early; /* GPUs: collectives can be direct from a few KB on, so that commits matter to a storm's small ones */
    bool small;       /* the largest buckets are smaller than many steps */
    enum forward_exchange exchange;
    uint64_t secret_ranks; /* bit r: rank r's memory is EXCHANGE_SECRET instead */
};

struct serve_options {
    const struct trace *trace;
    const struct board *board;
    enum board_slot slot;              /* where to report */
    int board_rank;                    /* as whom */
    enum forward_exchange exchange;    /* in what memory the ranks' reductions are */
    enum engine_way way;               /* what is replayed */
    bool lazy;                         /* buckets are captured when they are first met, not at the start */
    bool commits_late;                 /* captures are left to `faults` to be committed */
    bool small;                        /* as in the faults */
    struct model *draft;               /* proposes tokens; borrowed; NULL: nobody does */
    int speculate;                     /* with a draft: tokens a step, 0: as the trace says */
    const struct board_token *forced;  /* [outputs]: what to feed back instead of the own choice, or NULL */
    int16_t *routes;                   /* forward_limits.route_log: noted by the reference, given to all others */
    const struct serve_faults *faults; /* or NULL */
};

/* A decode step with proposals. */
struct speculation {
    int count;              /* sequences, */
    struct step_row *bases; /* [count], and their last tokens, */
    int *firsts;            /* [count], which have these rows of the step, */
    int *proposals;         /* [count], and so many more behind */
    int32_t *proposed;      /* [rows_max]: the token of each row */
};

struct serve {
    struct serve_options options;
    tutti_comm *comm;
    struct compute *compute; /* the models' */
    struct engine target;
    struct engine draft;   /* all zero without one */
    tutti_stream planning; /* beside the engines' own; only with a draft */
    struct speculation speculation;
    struct schedule schedule;
    struct step step;
    int32_t *tokens;   /* [rows_max]: what the step generated */
    double *arrived_s; /* [requests]: wall clock; 0: not yet */
    double *first_s;
    tutti_stats large; /* of the communicator when it was taken */
    struct board_pass *report;
    char sentence[600]; /* why something failed; "" if nothing did */
};

/* Everything a rank needs, with `model` made for the comm's rank and world (borrowed, like comm). False, with
 * serve->sentence, on failure; nothing is left then. */
bool serve_open(struct serve *serve, const struct serve_options *options, tutti_comm *comm, struct model *model);
void serve_close(struct serve *serve);

/* Captures, unless that is done on the way, and serves until everything is done. Otherwise the library's status, with the sentence; the
 * schedule then still knows what was generated. */
tutti_status serve_run(struct serve *serve);

/* Goes on after a failure with another communicator and shard: what was running is computed again from its
 * tokens. Both are borrowed. */
bool serve_reopen(struct serve *serve, tutti_comm *comm, struct model *model);

/* [collective] Takes in what was captured since the last time, so that large collectives of the graphs may be direct. The
 * graphs are right either way. */
tutti_status serve_commit(struct serve *serve);

/* What the runners have counted so far, on the board. */
void serve_note_runners(struct serve *serve);

/* The engine's inputs are what the step says. */
void serve_fill_inputs(const struct serve *serve, struct engine *engine);

/* serve_record.c: what the step gave, to board and schedule. */
void serve_record(struct serve *serve);
/* What came out for one pick, to the board. Returns the token to feed back. */
int32_t serve_record_output(struct serve *serve, int request, int pick, double now);

/* serve_speculate.c. Widens the decode step by what the draft model proposes; the target's inputs are filled then. */
tutti_status serve_propose(struct serve *serve);
/* After the step: what of it is kept, to board and schedule. */
void serve_accept(struct serve *serve);
void serve_note_arrivals(struct serve *serve);

/* Seconds of the monotonic clock. */
double serve_now_s(void);

#endif
