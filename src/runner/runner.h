/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner.h - a forward pass in segments, and for each bucket of rows a graph of each.
 *
 *   create.c   runners and their segments, release            capture.c  warm-up, captures, commit
 *   buckets.c  which sizes, and which one holds a run: pure   agree.c    what the ranks tell each other of a capture
 *   run.c      runs                                           stats.c    what is counted
 *
 * A bucket of 0 rows stands for the segments in which nothing varies.
 *
 * Why ranks need so little agreement: a replay and an eager run over the same rows make the same collectives in the same order, so
 * that a rank may do one while its peers do the other. What they must agree on is who captures when, since a commit waits
 * for all, and that a bucket is captured everywhere or nowhere, since a commit compares what was.
 */
#ifndef TUTTI_RUNNER_RUNNER_H
#define TUTTI_RUNNER_RUNNER_H

#include <stdbool.h>

#include "comm/comm.h"
#include "device/graphs.h"

#define RUNNER_NAME_BYTES 64
#define RUNNER_REASON_BYTES 512

struct runner_segment {
    char name[RUNNER_NAME_BYTES];
    tutti_segment_fn fn;
    void *user;
    uint32_t flags;
    size_t fixed_rows;
    tutti_padded *padded; /* owned */
    size_t padded_count;
};

struct runner_bucket {
    size_t rows;
    tutti_bucket_state state;
    struct device_graph **graphs; /* [segment_count], NULL where there is none; NULL: nothing is captured */
    unsigned tries;               /* in vain, since it was captured or released last */
    uint64_t captures, failed_captures, replayed_runs, eager_runs, graph_bytes;
    double capture_ms;
    char reason[RUNNER_REASON_BYTES];
    /* Of the capture under way: whether it is in question, and failed here; what the registry recorded for it has serials above
     * `before`, up to `last`. */
    bool chosen, failed;
    uint64_t before, last;
};

/* The run that is open. */
struct runner_pass {
    bool open, counted; /* counted: not the warm-up */
    tutti_stream stream;
    size_t rows, width;           /* real ones; with padding */
    struct runner_bucket *bucket; /* NULL: above the largest */
    bool replays;
    bool fixed;   /* a segment with fixed_rows has been entered */
    bool differs; /* from the peers': found when the ranks met to capture at its end */
};

struct tutti_runner {
    tutti_comm *comm; /* NULL once that has been destroyed */
    struct comm_follower follower;
    struct device *device;
    const struct graph_ops *graphs;
    char name[RUNNER_NAME_BYTES];
    uint32_t flags;
    size_t oversize_multiple;
    unsigned attempts;
    void (*progress)(void *user, const tutti_runner_progress_t *progress);
    void *user;

    struct runner_segment *segments;
    int segment_count, fixed_count; /* fixed_count: of them, those with fixed_rows that are captured */
    struct runner_bucket *buckets;  /* [bucket_count], ascending */
    size_t bucket_count;
    struct runner_bucket fixed; /* of 0 rows */
    uint32_t *word;             /* the device's: real rows of the run it is at */
    bool warm;                  /* a pass has been enqueued, since the last segment was added */
    unsigned inside; /* callbacks of the engine's, and captures, that are under way: most calls are refused */
    struct runner_pass pass;
    tutti_runner_stats_t stats; /* the counters of it */
};

/* -- buckets.c -- */

/* The options' sizes, in ascending order, which the caller frees. ARGUMENT, SYSTEM. */
tutti_status buckets_list(const tutti_runner_options *options, size_t **rows, size_t *count);

/* The smallest that holds `rows`; NULL: none does. */
struct runner_bucket *bucket_find(const tutti_runner *runner, size_t rows);

/* The index-th of all, the one of 0 rows first if there are segments for it. NULL past the last one. */
struct runner_bucket *bucket_at(const tutti_runner *runner, size_t index);
size_t bucket_total(const tutti_runner *runner);

/* Whether the segment's graphs are those of this bucket. */
bool bucket_has(const struct runner_bucket *bucket, const struct runner_segment *segment);

/* -- create.c -- */
tutti_status runner_create(tutti_comm *comm, const tutti_runner_options *options, tutti_runner **runner);
void runner_destroy(tutti_runner *runner);
tutti_status runner_segment_add(tutti_runner *runner, const tutti_segment *segment, int *index);
/* Destroys the bucket's graphs; its calls are given back by the next commit. */
void bucket_clear(tutti_runner *runner, struct runner_bucket *bucket);

/* -- run.c -- */
tutti_status runner_begin(tutti_runner *runner, const char *call, size_t rows, tutti_stream stream);
tutti_status runner_enter(tutti_runner *runner, int segment);
tutti_status runner_end(tutti_runner *runner);
tutti_status runner_run(tutti_runner *runner, size_t rows, tutti_stream stream);
tutti_status runner_finish(tutti_runner *runner, tutti_stream stream);
/* The whole pass over a bucket's rows, called and not replayed. */
tutti_status runner_warm_up(tutti_runner *runner, size_t rows, tutti_stream stream);
/* Enqueues or captures a segment over `width` rows, its padding zeroed first if there can be any: `real` rows are known to be real.
 * There is a sentence for every failure, the callback's own if it left one. */
tutti_status segment_enqueue(tutti_runner *runner, const struct runner_segment *segment, size_t width, size_t real,
                             tutti_stream stream);
/* ARGUMENT, CAPTURE: nothing of the runner's can be enqueued on the stream now. */
tutti_status runner_stream_check(const tutti_runner *runner, const char *call, tutti_stream stream);

/* -- capture.c -- */

#define BUCKET_ALL SIZE_MAX
#define BUCKET_NONE (SIZE_MAX - 1)
struct capture_order {
    size_t only;        /* the index, as bucket_at counts, of the one bucket in question; or BUCKET_ALL, BUCKET_NONE */
    bool fixed;         /* and besides, the one of 0 rows, if there is one */
    unsigned rounds;    /* how often what fails is tried */
    bool serving;       /* at the end of a run, whose results are still wanted: nothing is warmed up */
    tutti_status given; /* not TUTTI_OK: why this rank cannot take part, with its sentence; the others hear of it */
};

/* [collective] Of one rank (count 1), or of all by the one thread that drives them. */
tutti_status runner_capture(tutti_runner *const *runners, const tutti_stream *streams, int count,
                            const struct capture_order *order);

/* -- agree.c -- */

/* What a rank has to say beforehand. */
struct runner_verdict {
    tutti_status status; /* TUTTI_OK, or why it cannot take part: `sentence` */
    bool in_session;     /* within a session of the caller's, whose commit it is going to be */
    size_t rows;         /* of the run at whose end it captures; 0: there is none */
    char sentence[RUNNER_REASON_BYTES];
};

/* What holds if it does for one of them. */
struct runner_accord {
    bool cold; /* no pass has been run */
    bool in_session;
    bool runs_differ; /* they have run other runners or rows: for all of them */
};

/* [collective] What became of the buckets in question, on all ranks: a bucket that failed on one is `failed` on all, with the reason.
 * `mine`: [count]. The same error, with the same sentence, on all ranks: MISMATCH, and the first rank's that is not TUTTI_OK. */
tutti_status runners_agree(tutti_runner *const *runners, const struct runner_verdict *mine, int count,
                           struct runner_accord *accord);

/* -- stats.c -- */
void runner_stats(const tutti_runner *runner, tutti_runner_stats_t *stats);
void bucket_stats(const struct runner_bucket *bucket, tutti_runner_bucket_t *out);

#endif
