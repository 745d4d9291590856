/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_engine.h - a model on a communicator as an engine has it: cache, buffers, and the runners that take rows through it.
 *
 * Three runners (tutti/runner.h), because three numbers vary: a decode step is one segment over as many rows as it has, the whole pass; a
 * prefill step is segments around eager attention, over the rows of its chunk; and the head that may follow a prefill works on as many rows as
 * have a next token. Functions that fail leave the sentence with the model's computer.
 */
#ifndef TUTTI_TOOL_SERVE_ENGINE_H
#define TUTTI_TOOL_SERVE_ENGINE_H

#include "compute.h"
#include "model_forward.h"
#include "run_board.h"
#include "tutti/runner.h"

enum engine_pass { ENGINE_DECODE, ENGINE_PREFILL, ENGINE_HEAD, ENGINE_PASSES };

enum engine_way {
    ENGINE_PLAIN,    /* nothing is captured nor padded: rows as they come */
    ENGINE_EAGER,    /* nothing is captured; padded as if it were, so that the bits can be compared */
    ENGINE_WHOLE,    /* decode steps are replayed */
    ENGINE_PIECEWISE /* and so are the dense parts of prefill steps, and their heads */
};

struct engine_options {
    const char *name; /* of its runners in sentences: "", "draft "; borrowed */
    enum engine_way way;
    bool lazy;                    /* buckets are captured when they are first met; else at once, by engine_capture */
    bool no_commit;               /* captures are left to somebody else's tutti_commit */
    int decode_max, prefill_max;  /* rows of the largest buckets, */
    int rows_max, picks_max;      /* and of the largest steps; rows_max: a multiple of ENGINE_TILE */
    int positions_max, slots_max; /* of the cache */
    bool headless;                /* nobody wants tokens of its prefill steps */
    enum forward_exchange exchange;
    int16_t *route_log; /* as in forward_limits */
    bool routes_given;
    unsigned attempts; /* to capture a bucket */
    /* Storms: called within the first capture of each bucket of `rows` rows, before and after something is recorded. What begun()
     * returns other than TUTTI_OK fails the capture. Or NULL. */
    tutti_status (*capture_begun)(void *user, size_t rows);
    void (*capture_ending)(void *user);
    void *user;
};

/* Steps above the largest bucket are padded to a multiple of this. */
#define ENGINE_TILE 64

struct engine;
struct engine_runner;

struct engine_segment {
    struct engine_runner *runner;
    int first, count; /* pieces of the pass */
    bool eager;
};

struct engine_runner {
    struct engine *engine;
    tutti_runner *runner;
    bool replays; /* it captures, or will */
    bool capturing;
    struct engine_segment *segments;
    int segment_count;
    struct forward_plan **plans; /* [bucket_count]: captured work goes by them as long as its graphs */
    size_t bucket_count;
    struct forward_plan *wide,
        *ragged; /* for steps of no bucket's size, and for eager segments: of the step under way */
};

struct engine {
    struct engine_options options;
    tutti_comm *comm;    /* borrowed, like */
    struct model *model; /* this one */
    tutti_stream stream;
    struct kv_cache kv;
    struct forward forward;
    struct engine_runner runners[ENGINE_PASSES];
};

/* [collective] if the exchange is symmetric. False: nothing is left. */
bool engine_create(struct engine *engine, const struct engine_options *options, tutti_comm *comm, struct model *model);
void engine_destroy(struct engine *engine); /* also of one that is all zero; its work must have completed */

/* [collective] At start: captures everything that the way replays, after one warm-up of each runner. */
tutti_status engine_capture(struct engine *engine);

/* Enqueues a step whose inputs are staged. */
tutti_status engine_run(struct engine *engine, enum engine_pass pass, int rows);
/* Waits; only if this is TUTTI_OK may rows be handed out. */
tutti_status engine_finish(struct engine *engine);
/* Both. */
tutti_status engine_step(struct engine *engine, enum engine_pass pass, int rows);

/* Why a bucket is eager that should not be; "" if none is. */
void engine_reason(const struct engine *engine, char *text, size_t text_bytes);

/* Adds what the runners counted, and appends their buckets, to a report; steps only if they are the trace's. */
void engine_report(const struct engine *engine, struct board_pass *report, bool steps);
void engine_report_buckets(const struct engine *engine, struct board_pass *report);

#endif
