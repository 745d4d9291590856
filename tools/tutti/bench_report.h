/* SPDX-License-Identifier: Apache-2.0 */
/* bench_report.h - what the bench found: rows, and their form as table, JSON and CSV. */
#ifndef TOOLS_BENCH_REPORT_H
#define TOOLS_BENCH_REPORT_H

#include "bench_options.h"
#include "bench_team.h"

#define BENCH_COMPETITORS (1 + BENCH_PEERS) /* 0 is tutti */

/* One competitor at one size. */
struct bench_result {
    bool measured;         /* 0: the peer had failed before */
    bool graph;            /* replayed from a graph */
    double us_p50, us_p99; /* back to back: medians over the rounds */
    double us_alone_p50;   /* behind a barrier: median over the rounds */
    size_t samples;        /* timed calls (graph: replays), all rounds */
    uint64_t checked, wrong;
    double sleeps_per_call;
};

struct bench_row {
    tutti_collective op;
    tutti_dtype dtype;
    uint64_t bytes;         /* asked for: the largest buffer of a rank */
    uint64_t payload_bytes; /* moved: shares are rounded up to whole elements */
    double bound_us;        /* 0: none */
    struct bench_result results[BENCH_COMPETITORS];
};

struct bench_report {
    const struct bench_options *options;
    int argc;
    char **argv;
    const struct bench_team *teams[BENCH_COMPETITORS]; /* those taking part, ours first */
    size_t team_count;
    char sentences[BENCH_COMPETITORS][900]; /* why a competitor failed; "" if it did not */
    struct bench_row *rows;
    size_t row_count;
};

/* The table on standard output, line by line as results come. */
void bench_report_print_head(const struct bench_report *report);
void bench_report_print_columns(const struct bench_report *report, tutti_collective op, tutti_dtype dtype);
void bench_report_print_row(const struct bench_report *report, const struct bench_row *row);

/* Whole files as text, which the caller frees; NULL without memory. */
char *bench_report_json(const struct bench_report *report);
char *bench_report_csv(const struct bench_report *report);

#endif
