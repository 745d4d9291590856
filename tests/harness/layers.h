/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layers.h - a model in small for tests of the runner, in which everything that padding can spoil is there: token ids that index a table,
 * a scale over all rows (as quantisation takes it), experts with room for so many rows, attention that leaves anything behind.
 *
 *   ids         graphable, padded: hidden = table[id]; an id out of the table fails the test
 *   embeddings  graphable, padded: hidden from vectors; the other way in
 *   dense       graphable, padded: all_reduce MAX of the largest value of all rows, then all_reduce SUM of quantised rows
 *   attention   eager: each real row sees those before it
 *   experts     graphable, padded: each expert takes 4 rows, the last ones first; masks by the row word; all_reduce
 *   local       graphable: no collective
 *   constant    fixed_rows: all_reduce of a vector that counts its own runs
 *
 * Values are no integers: what is compared, is compared bit by bit, with a run that has no padding at all.
 */
#ifndef TESTS_HARNESS_LAYERS_H
#define TESTS_HARNESS_LAYERS_H

#include <stdbool.h>

#include "tutti/host.h"
#include "tutti/runner.h"

#define LAYERS_WIDTH 8
#define LAYERS_FIXED 3

enum layers_segment {
    LAYERS_IDS,
    LAYERS_EMBEDDINGS,
    LAYERS_DENSE,
    LAYERS_ATTENTION,
    LAYERS_EXPERTS,
    LAYERS_LOCAL,
    LAYERS_CONSTANT,
    LAYERS_SEGMENTS
};

/* What padding holds before a run, and what attention leaves there. */
enum layers_poison { LAYERS_ZERO, LAYERS_NAN, LAYERS_INFINITY, LAYERS_HUGE, LAYERS_GARBAGE, LAYERS_POISONS };

struct layers_call;

struct layers {
    int rank, world;
    size_t rows_max; /* of the buffers */
    tutti_comm *comm;
    tutti_host_stream *stream;
    tutti_runner *runner;
    uint32_t lane;
    bool unmasked; /* experts take padding for rows, too */
    enum layers_poison poison;
    int32_t *ids;
    float *embedded, *hidden, *partial; /* [rows_max][LAYERS_WIDTH] */
    float scale, fixed[LAYERS_FIXED];
    uint64_t fixed_runs;
    int calls[LAYERS_SEGMENTS];            /* of the callbacks */
    size_t widest[LAYERS_SEGMENTS];        /* rows they were called for */
    void (*spy)(struct layers *, bool in); /* told when a callback begins and ends; or NULL */
    struct layers_call *arguments;         /* of what was enqueued or captured; freed with the layers */
};

/* On a communicator of the caller's, with a stream and a runner of its own. */
void layers_open(struct layers *layers, tutti_comm *comm, int rank, int world, uint32_t lane, size_t rows_max,
                 const tutti_runner_options *options);
void layers_close(struct layers *layers);

/* One with no padding ever: a runner whose only bucket is one row. */
void layers_open_plain(struct layers *layers, tutti_comm *comm, int rank, int world, uint32_t lane, size_t rows_max);

/* New inputs that depend on `step` for `rows` rows; everything else is poisoned. */
void layers_fill(struct layers *layers, size_t rows, int step);

/* begin; ids or embeddings, then two layers of dense, attention, experts, and local between them and at the end, then constant; end;
 * finish. */
void layers_run(struct layers *layers, size_t rows, bool by_ids);

/* fill and run of both with the same inputs; how many of the real rows' values differ, by their bits, and of the constant. */
int layers_differ(struct layers *layers, struct layers *plain, size_t rows, int step);

tutti_runner_stats_t layers_stats(const struct layers *layers);
tutti_runner_bucket_t layers_bucket(const struct layers *layers, size_t rows);

#endif
