/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - one rank's engine: serves a trace, eagerly or from captured graphs. */
#ifndef TUTTI_TOOL_SERVE_H
#define TUTTI_TOOL_SERVE_H

#include "compute.h"
#include "model_forward.h"
#include "run_board.h"
#include "serve_schedule.h"

/* Decode steps run at these many rows: 1, 2, 4 .. 512. */
#define SERVE_BUCKETS 10

/* After so many failed captures a bucket stays eager. */
#define SERVE_CAPTURE_TRIES 3

struct serve;

/* Where a storm may interfere. Functions may be NULL. */
struct serve_faults {
    void *user;
    void (*before_step)(void *user, struct serve *serve);    /* inputs are filled, nothing is enqueued */
    void (*capture_begun)(void *user, struct serve *serve);  /* nothing is recorded yet */
    void (*capture_ending)(void *user, struct serve *serve); /* everything is recorded */
    bool commits_late;                                       /* the engine leaves commits to the functions above */
    bool
        direct_early; /* GPUs: collectives can be direct from a few KB on, so that commits matter to a storm's small ones */
    enum forward_exchange exchange;
    uint64_t secret_ranks; /* bit r: rank r's memory is EXCHANGE_SECRET instead */
};

struct serve_options {
    const struct trace *trace;
    const struct model_shape *shape;
    enum numerics numerics;
    const struct board *board;
    enum board_slot slot;              /* where to report */
    int board_rank;                    /* as whom */
    enum forward_exchange exchange;    /* in what memory the ranks' reductions are */
    bool graphs;                       /* decode steps are replayed */
    bool commits_late;                 /* captures are left to `faults` to be committed */
    bool padded;                       /* decode steps have the rows of a bucket; graphs imply it */
    const struct board_token *forced;  /* [outputs]: what to feed back instead of the own choice, or NULL */
    int16_t *routes;                   /* forward_limits.route_log: noted by the reference, given to all others */
    const struct serve_faults *faults; /* or NULL */
};

struct serve_graph {
    struct forward_plan *plan;
    void *graph; /* the computer's; NULL: not captured (yet) */
    bool met;    /* a step has wanted it */
    int failures;
};

struct serve {
    struct serve_options options;
    tutti_comm *comm;
    struct compute *compute; /* the model's */
    tutti_stream stream;
    struct model *model;
    struct kv_cache kv;
    struct forward forward;
    struct forward_plan *eager;
    struct serve_graph graphs[SERVE_BUCKETS];
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

/* Serves until everything is done. Otherwise the library's status, with the sentence; the schedule then still
 * knows what was generated. */
tutti_status serve_run(struct serve *serve);

/* Goes on after a failure with another communicator and shard: what was running is computed again from its
 * tokens. Both are borrowed. */
bool serve_reopen(struct serve *serve, tutti_comm *comm, struct model *model);

/* serve_graphs.c: the graph for `rows` real rows, captured if need be; NULL if this step must run eagerly. */
void *serve_graph_for(struct serve *serve, int bucket);
/* [collective] Takes in what was captured since the last time, so that large collectives of the graphs may be direct. The
 * graphs are right either way. */
tutti_status serve_commit(struct serve *serve);
void serve_graphs_destroy(struct serve *serve);
int serve_bucket(int rows); /* index of the smallest bucket that holds `rows` */

/* serve_record.c: what the step gave, to board and schedule. */
void serve_record(struct serve *serve);
void serve_note_arrivals(struct serve *serve);

/* Seconds of the monotonic clock. */
double serve_now_s(void);

#endif
