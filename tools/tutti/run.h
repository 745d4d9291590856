/* SPDX-License-Identifier: Apache-2.0 */
/* run.h - one `tutti run`: what was asked for, and what the passes share. */
#ifndef TUTTI_TOOL_RUN_H
#define TUTTI_TOOL_RUN_H

#include "run_board.h"
#include "serve.h"

#define RUN_STORMS_MAX 12

struct run_options {
    int ranks;
    const char *backend, *model, *trace, *json;
    const char *reference; /* the backend that computes the one-rank run */
    int layers;            /* 0: all */
    int speculate;         /* tokens that a draft model proposes in a step; 0: as the trace says */
    int draft_layers;      /* of it; 0: half of the model's */
    enum numerics numerics;
    bool storm;
    bool lazy;         /* buckets are captured when they are first met, not at the start */
    bool share_device; /* ranks may share a GPU */
    uint64_t seed;     /* of the storm */
};

struct storm_outcome {
    const char *name; /* static storage */
    bool ok;
    char sentence[1400];
};

struct run {
    struct run_options options;
    struct model_shape shape; /* with the layers asked for, */
    struct model_shape draft; /* and with the draft's */
    int devices;              /* that ranks take in turn; the host is one */
    char device_name[128];    /* of the first; "" for the host */
    struct trace trace;
    struct trace storm_trace; /* the beginning of it */
    struct board board;
    bool speculates;    /* some of the trace, with a draft model beside */
    char directory[64]; /* where ranks meet; "" if not made */
    struct storm_outcome storms[RUN_STORMS_MAX];
    int storm_count;
};

/* Parses the command line. EXIT_CODE_OK, EXIT_CODE_USAGE after one line on stderr, or -1 if --help was all. */
int run_options_parse(int argc, char **argv, struct run_options *options);

#endif
