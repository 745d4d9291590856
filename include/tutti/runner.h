/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner.h - a forward pass in pieces, replayed from graphs: capture sizes, padding, warm-up and the way out.
 *
 *     tutti_runner_options options = {.struct_bytes = sizeof(options), .rows_max = 512};
 *     tutti_runner_create(comm, &options, &runner);
 *     tutti_runner_segment(runner, &dense, NULL);       // graphable: products, norms, collectives
 *     tutti_runner_segment(runner, &attention, NULL);   // eager: over as many rows as there really are
 *     tutti_runner_capture(runner, stream);             // all ranks: every bucket, one commit
 *
 *     tutti_runner_run(runner, rows, stream);           // all ranks, every step
 *     tutti_runner_finish(runner, stream);              // rows may be handed out if this is TUTTI_OK
 *
 * The words. A *segment* is a part of the pass that the engine enqueues in a callback. A *graphable* one is captured once for each
 * *bucket*, a number of rows, and replayed for every run of at most so many rows: the rows above the real ones are *padding*. An
 * *eager* one is called in every run. A run above the largest bucket calls all of them.
 *
 * What is promised. Whatever the padding held before, real rows are the same bits: it is zeroed in front of every graphable segment.
 * Eager runs and replays give the same bits, so that a bucket that could not be captured, or not on every rank, is slower and
 * nothing else. No number of rows is refused. docs/runner.md tells an engine author the rest.
 *
 * A runner belongs to the thread that uses its communicator. Any number of runners may share one, and its lanes, as long as all ranks
 * run them in one order. Work goes to the stream that a call names and to no other.
 */
#ifndef TUTTI_RUNNER_H
#define TUTTI_RUNNER_H

#include "tutti/tutti.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tutti_runner tutti_runner;

/* Enqueues a segment's work on `stream`, or has it captured: it cannot tell, and need not. `rows`: of a graphable segment the rows
 * to work on, padding included, in runs that are not replayed too; of an eager one the real rows; of one with fixed_rows those. Called on
 * the thread that calls the runner. It must not wait for other ranks on the host: while they capture they are at other places, and skip
 * what follows a segment that failed. What it returns other than TUTTI_OK ends the run, or this capture, with the sentence in
 * tutti_last_error if the call came from this library. It may use the library, but not this runner: of its calls only tutti_runner_rows,
 * _stats and _bucket are legal in callbacks. */
typedef tutti_status (*tutti_segment_fn)(void *user, size_t rows, tutti_stream stream);

/* A matrix of which only the real rows mean something: row r begins at data + r * stride_bytes. */
typedef struct tutti_padded {
    void *data;          /* device memory; as long as the runner lives */
    size_t row_bytes;    /* of a row that are zeroed if it is padding; below 4 GiB */
    size_t stride_bytes; /* 0: row_bytes; at least that, and below 4 GiB */
} tutti_padded;

#define TUTTI_SEGMENT_EAGER 1u /* never captured: ragged lengths, host decisions, memory that moves */

typedef struct tutti_segment {
    size_t struct_bytes;
    const char *name; /* for sentences; copied; NULL: "segment 3" */
    tutti_segment_fn fn;
    void *user;
    uint32_t flags; /* TUTTI_SEGMENT_* */
    /* What the segment reads, and whose padding has to be harmless: zeroed in front of each run of it, up to the rows that `fn` gets.
     * Not for eager segments, which do not see padding, and not with fixed_rows. Copied. At least as many rows as the largest bucket,
     * and as the largest run, rounded up to oversize_multiple. */
    const tutti_padded *padded;
    size_t padded_count;
    /* Nonzero: nothing in the segment varies with the rows of a run. It is captured once for all buckets, and replayed in runs above
     * the largest one as well. `fn` gets this number. */
    size_t fixed_rows;
} tutti_segment;

/* What a capture is doing, for a progress bar; from within the call, on its thread. Of a runner's calls only tutti_runner_rows, _stats
 * and _bucket are legal in it, and nothing collective. */
typedef enum tutti_runner_phase {
    TUTTI_RUNNER_WARM_UP = 0, /* about to run the pass once, eagerly, over `rows` rows */
    TUTTI_RUNNER_CAPTURE = 1, /* about to capture the bucket of `rows` rows; 0: the segments with fixed_rows */
    TUTTI_RUNNER_COMMIT = 2,  /* about to agree with the other ranks */
    TUTTI_RUNNER_DONE = 3
} tutti_runner_phase;

typedef struct tutti_runner_progress_t {
    size_t struct_bytes;
    tutti_runner_phase phase;
    size_t rows;
    size_t done, total; /* buckets of this call */
    double elapsed_ms;  /* since the call began */
} tutti_runner_progress_t;

/* Buckets are captured when a run first needs them: that run is eager, and at its end the ranks capture and agree; later runs
 * replay. tutti_runner_capture is not needed then, and may still be called. Runs on the NULL stream capture nothing: on all ranks or on
 * none. All ranks' runners are lazy, or none: one that is waits for the others until the timeout. Not for communicators of
 * tutti_comm_create_all. */
#define TUTTI_RUNNER_LAZY 1u
/* Captures are left for the caller's own tutti_commit. */
#define TUTTI_RUNNER_NO_COMMIT 2u

#define TUTTI_RUNNER_BUCKETS_MAX 512

typedef struct tutti_runner_options {
    size_t struct_bytes;
    const char *name; /* for sentences: "draft"; copied; NULL: "runner" */
    uint32_t flags;   /* TUTTI_RUNNER_* */
    /* The buckets: a list in ascending order, each once, from 1 on (copied), */
    const size_t *buckets;
    size_t bucket_count;
    /* or without one a policy: the powers of two up to powers_max, from there on steps of `step` rows, up to rows_max. */
    size_t rows_max;   /* 0: 512 */
    size_t powers_max; /* 0: 256 */
    size_t step;       /* 0: 256 */
    /* Runs above the largest bucket are padded to a multiple of this: kernels that want whole tiles get them. 0: 1; at most 65536 */
    size_t oversize_multiple;
    /* So often is a bucket's capture tried before the bucket stays eager: by runs if the runner is lazy, and by each
     * tutti_runner_capture. 0: 1 */
    unsigned attempts;
    void (*progress)(void *user, const tutti_runner_progress_t *progress); /* or NULL */
    void *user;
} tutti_runner_options;

/* A runner without segments. Local. `options` NULL: all of them 0. It is destroyed before its communicator; afterwards it still can be,
 * and does nothing else.
 * Errors: ARGUMENT, UNSUPPORTED, SYSTEM, DRIVER, and the communicator's first failure. */
TUTTI_API tutti_status tutti_runner_create(tutti_comm *comm, const tutti_runner_options *options,
                                           tutti_runner **runner);

/* The runs' work must have completed, after an error too; their streams may be gone. NULL is allowed. In a callback of the runner's own it
 * does nothing. */
TUTTI_API void tutti_runner_destroy(tutti_runner *runner);

/* Adds a segment; all ranks add the same ones. *index (NULL is allowed): its number, from 0. Not once something has been captured, or
 * tried, until all of it is released, and not while a run is open. Local. ARGUMENT, SYSTEM. */
TUTTI_API tutti_status tutti_runner_segment(tutti_runner *runner, const tutti_segment *segment, int *index);

/* [collective] Captures on `stream` (not NULL) every bucket that is not captured, the largest first. If no run has been made since the
 * last segment was added, it first runs the pass once, eagerly, over the largest bucket's rows, all segments in their order, and waits
 * for it: the engine's buffers must hold something that can be computed with. Then the ranks agree: what one of them could not capture
 * is eager on all, with the reason (tutti_runner_bucket), and is no error; then one tutti_commit, unless a session of the caller's is
 * open for the stream, whose commit takes these graphs too. What the ranks' other captures are is the commit's business as well; if it
 * is refused on their account, the runner's graphs are right and staged (tutti_runner_stats_t.commit_sentence).
 * Errors, the same on all ranks, nothing has been run or captured then: MISMATCH (their runners differ, naming how), ARGUMENT, CAPTURE
 * (the stream captures, or another stream's session is open). Besides, whatever the warm-up ended with, and the communicator's first
 * failure. */
TUTTI_API tutti_status tutti_runner_capture(tutti_runner *runner, tutti_stream stream);

/* [collective] The same for the bucket that holds `rows` rows, and the segments with fixed_rows, alone: after tutti_runner_release, or while
 * serving. ARGUMENT: no bucket does. */
TUTTI_API tutti_status tutti_runner_capture_rows(tutti_runner *runner, size_t rows, tutti_stream stream);

/* tutti_runner_capture for the runners of communicators of one tutti_comm_create_all, in rank order: runners[world], streams[world]. */
TUTTI_API tutti_status tutti_runner_capture_all(tutti_runner *const *runners, const tutti_stream *streams, int world);

/* Forgets the graphs of the bucket that holds `rows` rows, or with 0 all graphs: runs are eager until they are captured again, by
 * tutti_runner_capture or lazily. All ranks do it, at the same place between runs; nothing is waited for. The graphs' launches must have
 * completed. ARGUMENT. */
TUTTI_API tutti_status tutti_runner_release(tutti_runner *runner, size_t rows);

/* [collective] One pass over `rows` real rows (1 or more, the same on all ranks: nothing compares them in a run, and if they differ rows
 * can be wrong without an error), its segments in the order in which they were added; enqueued on `stream`, which must be ordered behind
 * the runner's earlier runs. Legal in no capture.
 * Errors: ARGUMENT, CAPTURE, DRIVER, MISMATCH (the ranks met to capture at the end of this run, and their row counts or runners differ: the
 * same error on all of them), what a segment returned (the sentence names it; the pass is then incomplete, and ranks that wait
 * for its collectives do so until the timeout, unless the communicator is aborted), and the communicator's first failure. */
TUTTI_API tutti_status tutti_runner_run(tutti_runner *runner, size_t rows, tutti_stream stream);

/* The same pass under the engine's own control flow: segments are entered in any order, any number of times, from anywhere between
 * begin and end; on all ranks in the same order. An enter that fails for another reason than its arguments ends the run. */
TUTTI_API tutti_status tutti_runner_begin(tutti_runner *runner, size_t rows, tutti_stream stream);
TUTTI_API tutti_status tutti_runner_enter(tutti_runner *runner, int segment);
TUTTI_API tutti_status tutti_runner_end(tutti_runner *runner);

/* Waits for what was enqueued on `stream`. TUTTI_OK: no collective of it has failed, and its rows may be handed out. Else the
 * communicator's first failure, or DRIVER. Local; legal in no capture. Who has waited in another way asks tutti_comm_status. */
TUTTI_API tutti_status tutti_runner_finish(tutti_runner *runner, tutti_stream stream);

/* The real rows of the run that the device is at: a word in the memory of the device, for the engine's kernels, which have to mask
 * padding wherever zeros are not enough (expert routing, sampling). It changes in the order of the stream. NULL for no runner. */
TUTTI_API const uint32_t *tutti_runner_rows(const tutti_runner *runner);

typedef struct tutti_runner_stats_t {
    size_t struct_bytes;
    uint64_t segments, buckets;                             /* as tutti_runner_bucket counts them */
    uint64_t runs;                                          /* all of them: */
    uint64_t replayed_runs;                                 /* from graphs, */
    uint64_t eager_runs;                                    /* eager, although a bucket is large enough, */
    uint64_t oversize_runs;                                 /* and eager because none is */
    uint64_t graph_launches;                                /* of segments */
    uint64_t segment_calls;                                 /* of callbacks, in runs */
    uint64_t warm_ups, captures, failed_captures, released; /* captures: of buckets */
    uint64_t commits, refused_commits;
    uint64_t rows, padding_rows; /* of runs, without eager segments' */
    uint64_t graph_memory_bytes; /* what captures took; on GPUs as the device counts its memory */
    double warm_up_ms, capture_ms, commit_ms;
    char commit_sentence[256]; /* why the last refused commit was; "" */
} tutti_runner_stats_t;
TUTTI_API tutti_status tutti_runner_stats(const tutti_runner *runner, tutti_runner_stats_t *stats);

typedef enum tutti_bucket_state {
    TUTTI_BUCKET_EMPTY = 0,    /* not captured, or released */
    TUTTI_BUCKET_CAPTURED = 1, /* on all ranks */
    TUTTI_BUCKET_EAGER = 2     /* some rank's capture failed: `reason` */
} tutti_bucket_state;

typedef struct tutti_runner_bucket_t {
    size_t struct_bytes;
    size_t rows;
    tutti_bucket_state state;
    uint64_t captures, failed_captures;
    uint64_t replayed_runs, eager_runs; /* of segments with fixed_rows: runs that entered one */
    uint64_t graph_memory_bytes;        /* of its present graphs, as above */
    double capture_ms;                  /* of its last capture, without the commit */
    char reason[512]; /* of the last failed capture: which rank, which segment, why; "". The same on all ranks */
} tutti_runner_bucket_t;

/* The index-th bucket, in ascending order of rows; one of 0 rows stands for segments with fixed_rows, if there are any. ARGUMENT past
 * the last one. */
TUTTI_API tutti_status tutti_runner_bucket(const tutti_runner *runner, size_t index, tutti_runner_bucket_t *bucket);

#ifdef __cplusplus
}
#endif

#endif
