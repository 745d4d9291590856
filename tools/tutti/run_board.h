/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_board.h - what the rank processes report to their parent.
 *
 * One anonymous shared mapping, made before the ranks are forked: it needs no name that could be left behind, and
 * what a rank wrote stays readable after that rank was killed.
 */
#ifndef TUTTI_TOOL_RUN_BOARD_H
#define TUTTI_TOOL_RUN_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One generated token. */
struct board_token {
    int32_t token;
    float margin;     /* between the best and the second best logit */
    uint64_t hash;    /* of all logits */
    float deviation;  /* real numerics: of the logits from the reference's, largest */
    uint32_t written; /* 1 once this rank has produced it */
};

/* What the runners of one pass counted. Steps: a prefill's head is part of it. */
struct board_runners {
    uint64_t graph_replays, eager_steps; /* all steps, one or the other; of the eager ones */
    uint64_t oversize_steps;             /* these were above the largest bucket */
    uint64_t padding_rows, graph_launches;
    uint64_t captures, capture_failures, commits, commits_refused;
    double warm_up_ms, capture_ms, commit_ms;
};

/* tutti_runner_bucket_t */
struct board_bucket {
    char runner[24];
    size_t rows;
    int state;
    uint64_t captures, failures, replays, eager;
    double capture_ms;
    char reason[512];
};
#define BOARD_BUCKETS_MAX 192

/* What one rank says of one pass over the trace. */
struct board_pass {
    _Atomic uint64_t tokens_done; /* generated so far: the progress bar */
    uint64_t steps;
    struct board_runners runners;
    uint64_t direct_calls, staged_calls;      /* of the collectives that are large enough to be direct */
    uint64_t remaps, staged_for_good;         /* for storms */
    double start_ms, seconds;                 /* of captures at the start; of serving */
    uint64_t proposed, accepted, draft_steps; /* of a draft model; tokens */
    uint64_t late_commits;                    /* not a runner's */
    double late_commit_ms;
    struct board_bucket buckets[BOARD_BUCKETS_MAX];
    int bucket_count;
    int done;           /* the pass ended as it should */
    char sentence[640]; /* what went wrong, or what a storm wants to show */
};

enum board_slot {
    BOARD_REFERENCE,
    BOARD_EAGER,
    BOARD_GRAPH,
    BOARD_PIECEWISE,
    BOARD_SPECULATIVE,
    BOARD_STORM,
    BOARD_SLOTS
};

struct board {
    int ranks, requests;
    size_t outputs;
    size_t logits_kept;   /* per token, for real numerics; 0: none */
    size_t logits_stride; /* every logits_stride-th logit is kept */
    size_t routes;        /* how many experts of the reference are kept; 0: none */
    void *mapping;
    size_t mapping_bytes;
};

/* `logits` per token are wanted for comparison (0: none); if all outputs would take more than a gibibyte, only every
 * n-th is kept. `routes`: all of the reference's, over tokens, layers and places. False if memory ran out. */
bool board_create(struct board *board, int ranks, int requests, size_t outputs, size_t logits, size_t routes);
void board_destroy(struct board *board);

struct board_pass *board_pass(const struct board *board, enum board_slot slot, int rank);
/* [outputs] */
struct board_token *board_tokens(const struct board *board, enum board_slot slot, int rank);
/* [requests]: milliseconds from arrival to the first token, and from the first to the last. */
double *board_first_ms(const struct board *board, enum board_slot slot, int rank);
double *board_rest_ms(const struct board *board, enum board_slot slot, int rank);
/* [logits_kept] of the reference's output `output`. */
float *board_logits(const struct board *board, size_t output);

/* [routes]: what the reference's router chose; NULL if that is not kept. */
int16_t *board_routes(const struct board *board);

/* Forgets what the ranks said in this slot. */
void board_clear(const struct board *board, enum board_slot slot);

#endif
