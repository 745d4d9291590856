/* SPDX-License-Identifier: Apache-2.0 */
#include "run_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a sentence on the terminal, beside its indentation. */
#define LINE_BYTES 100

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static double median(double *values, size_t count)
{
    if (count == 0) {
        return 0.0;
    }
    qsort(values, count, sizeof(*values), compare_doubles);
    return count % 2 != 0 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

int report_ways(const struct run *run, struct way ways[WAYS_MAX])
{
    static const struct way all[WAYS_MAX] = {{BOARD_EAGER, "eager"},
                                             {BOARD_GRAPH, "whole graphs"},
                                             {BOARD_PIECEWISE, "piecewise"},
                                             {BOARD_SPECULATIVE, "speculative"}};
    int count = run->speculates ? WAYS_MAX : WAYS_MAX - 1;
    memcpy(ways, all, (size_t)count * sizeof(*ways));
    return count;
}

struct figures report_figures(const struct run *run, enum board_slot slot)
{
    const struct board_pass *pass = board_pass(&run->board, slot, 0);
    const double *first_ms = board_first_ms(&run->board, slot, 0);
    const double *rest_ms = board_rest_ms(&run->board, slot, 0);
    struct figures figures = {.seconds = pass->seconds,
                              .start_ms = pass->start_ms,
                              .steps = pass->steps,
                              .direct_calls = pass->direct_calls,
                              .staged_calls = pass->staged_calls,
                              .runners = pass->runners,
                              .proposed = pass->proposed,
                              .accepted = pass->accepted};
    figures.tokens_in_per_second = (double)run->trace.prompt_total / pass->seconds;
    figures.tokens_out_per_second = (double)run->trace.output_total / pass->seconds;
    double *values = calloc((size_t)run->trace.count, sizeof(*values));
    if (values == NULL) {
        return figures;
    }
    size_t count = (size_t)run->trace.count;
    memcpy(values, first_ms, count * sizeof(*values));
    figures.first_ms_p50 = median(values, count);
    size_t several = 0;
    for (size_t i = 0; i < count; i++) {
        if (run->trace.requests[i].output_tokens > 1) {
            values[several++] = rest_ms[i] / (run->trace.requests[i].output_tokens - 1);
        }
    }
    figures.rest_ms_p50 = median(values, several);
    free(values);
    return figures;
}

void report_header(const struct run *run)
{
    const struct model_shape *shape = &run->shape;
    printf("tutti %s\n\n", tutti_version());
    printf("  model     %s: %d layers, hidden %d, %d query and %d key-value heads, vocabulary %d\n", shape->name,
           shape->layers, shape->hidden, shape->heads, shape->kv_heads, shape->vocab);
    if (shape->experts > 0) {
        printf("  experts   %d in each layer, %d of them for a token\n", shape->experts, shape->top);
    }
    printf("  ranks     %d on %s, %s numerics\n", run->options.ranks, run->options.backend,
           run->options.numerics == NUMERICS_EXACT ? "exact" : "real");
    if (run->device_name[0] != '\0') {
        bool shared = run->devices < run->options.ranks;
        printf("  devices   %d x %s%s\n", run->devices, run->device_name,
               shared ? ", shared by the ranks in turn" : "");
    }
    if (strcmp(run->options.reference, run->options.backend) != 0) {
        printf("  compared  with one rank on %s\n", run->options.reference);
    }
    printf("  trace     %s: %d requests, %zu prompt tokens, %zu tokens to generate\n\n", run->trace.name,
           run->trace.count, run->trace.prompt_total, run->trace.output_total);
    (void)fflush(stdout);
}

/* A line of the table, for all ways. */
struct row {
    const char *name;
    int decimals;
    double values[WAYS_MAX];
};

static void print_rows(const struct row *rows, size_t count, int ways)
{
    for (size_t i = 0; i < count; i++) {
        printf("  %-31s", rows[i].name);
        for (int way = 0; way < ways; way++) {
            printf(" %12.*f", rows[i].decimals, rows[i].values[way]);
        }
        printf("\n");
    }
}

#define ROWS(f, field)                                                                                                 \
    {                                                                                                                  \
        (double)(f)[0].field, (double)(f)[1].field, (double)(f)[2].field, (double)(f)[3].field                         \
    }

static void print_table(const struct figures figures[WAYS_MAX], int ways)
{
    const struct row rows[] = {
        {"tokens per second in", 0, ROWS(figures, tokens_in_per_second)},
        {"tokens per second out", 0, ROWS(figures, tokens_out_per_second)},
        {"time to first token, p50, ms", 1, ROWS(figures, first_ms_p50)},
        {"time per output token, p50, ms", 2, ROWS(figures, rest_ms_p50)},
        {"steps", 0, ROWS(figures, steps)},
        {"  replayed", 0, ROWS(figures, runners.graph_replays)},
        {"  eager", 0, ROWS(figures, runners.eager_steps)},
        {"  of them above the buckets", 0, ROWS(figures, runners.oversize_steps)},
        {"buckets captured", 0, ROWS(figures, runners.captures)},
        {"  one warm-up each runner, ms", 1, ROWS(figures, runners.warm_up_ms)},
        {"  capturing, ms", 1, ROWS(figures, runners.capture_ms)},
        {"  committing, ms", 1, ROWS(figures, runners.commit_ms)},
    };
    print_rows(rows, sizeof(rows) / sizeof(rows[0]), ways);
    const struct row large[] = {
        {"large collectives, direct", 0, ROWS(figures, direct_calls)},
        {"  staged", 0, ROWS(figures, staged_calls)},
    };
    if (figures[0].direct_calls + figures[0].staged_calls + figures[1].direct_calls + figures[1].staged_calls > 0) {
        print_rows(large, sizeof(large) / sizeof(large[0]), ways);
    }
    const struct row seconds = {"seconds", 2, ROWS(figures, seconds)};
    print_rows(&seconds, 1, ways);
}

/* Of the last way: the buckets that a step met, two in a line; and why one is eager that should not be. */
static void print_buckets(const struct board_pass *pass, const char *way)
{
    static const char head[] = "rows captures replays eager    ms";
    int printed = 0;
    for (int i = 0; i < pass->bucket_count; i++) {
        const struct board_bucket *bucket = &pass->buckets[i];
        if (bucket->replays + bucket->eager == 0) {
            continue;
        }
        if (printed == 0) {
            printf("\n  %-13s %s   %-13s %s\n", way, head, "", head);
        }
        printf("%s%-13s %4zu %8" PRIu64 " %7" PRIu64 " %5" PRIu64 " %5.2f", printed % 2 == 0 ? "  " : "   ",
               bucket->runner, bucket->rows, bucket->captures, bucket->replays, bucket->eager, bucket->capture_ms);
        printed++;
        printf("%s", printed % 2 == 0 ? "\n" : "");
    }
    printf("%s", printed % 2 != 0 ? "\n" : "");
    for (int i = 0; i < pass->bucket_count; i++) {
        if (pass->buckets[i].reason[0] != '\0') {
            printf("  eager: %s\n", pass->buckets[i].reason);
        }
    }
}

void report_table(const struct run *run)
{
    struct way ways[WAYS_MAX];
    struct figures figures[WAYS_MAX] = {0};
    int count = report_ways(run, ways);
    printf("  %-31s", "");
    for (int way = 0; way < count; way++) {
        figures[way] = report_figures(run, ways[way].slot);
        printf(" %12s", ways[way].name);
    }
    printf("\n");
    print_table(figures, count);
    const struct figures *last = &figures[count - 1];
    if (run->speculates) {
        printf("\n  A draft of %d of the %d layers proposed %" PRIu64 " tokens; %" PRIu64 " (%.0f %%) were right.\n",
               run->draft.layers, run->shape.layers, last->proposed, last->accepted,
               last->proposed > 0 ? 100.0 * (double)last->accepted / (double)last->proposed : 0.0);
    }
    print_buckets(board_pass(&run->board, ways[count - 1].slot, 0), ways[count - 1].name);
    printf("\n");
}

static void print_verdict(const char *name, const char *what, const struct verdict *verdict, const char *more)
{
    printf("  %s %s: %s: %zu of %zu%s\n", verdict->held ? "yes" : "NO ", name, what, verdict->equal, verdict->total,
           more);
    if (!verdict->held) {
        printf("      first difference: %s\n", verdict->first);
    }
}

static void print_bound(const struct run *run, const struct run_verdicts *verdicts, int ways)
{
    float deviation = 0.0f;
    size_t excused = 0;
    for (int way = 0; way < ways; way++) {
        deviation = verdicts->of[way].deviation > deviation ? verdicts->of[way].deviation : deviation;
        excused += verdicts->of[way].excused;
    }
    printf("      largest deviation of a logit %.4f, bound %.4f; tokens that differ within the bound: %zu\n",
           (double)deviation, (double)verify_bound(&run->shape), excused);
}

void report_verdicts(const struct run *run, const struct run_verdicts *verdicts)
{
    struct way ways[WAYS_MAX];
    int count = report_ways(run, ways);
    bool exact = run->options.numerics == NUMERICS_EXACT;
    char more[96];
    (void)snprintf(more, sizeof(more), exact ? ", logits bit for bit, on all %d ranks" : ", on all %d ranks",
                   run->options.ranks);
    const char *what =
        exact ? "every token equal to the one-rank run" : "every token that of the one-rank run, within the bound";
    for (int way = 0; way < count; way++) {
        print_verdict(ways[way].name, what, &verdicts->of[way], more);
    }
    for (int way = 1; way < count; way++) {
        if (verdicts->same[way].total > 0) {
            print_verdict(ways[way].name, "the same bits as eager", &verdicts->same[way], "");
        }
    }
    if (!exact) {
        print_bound(run, verdicts, count);
    }
    printf("\n");
    (void)fflush(stdout);
}

/* The sentence, broken at spaces and indented. */
static void print_wrapped(const char *text)
{
    while (*text != '\0') {
        size_t bytes = strlen(text);
        if (bytes > LINE_BYTES) {
            for (bytes = LINE_BYTES; bytes > 0 && text[bytes] != ' '; bytes--) {
            }
            bytes = bytes > 0 ? bytes : LINE_BYTES;
        }
        printf("      %.*s\n", (int)bytes, text);
        text += bytes;
        text += *text == ' ';
    }
}

void report_storm(const struct storm_outcome *outcome)
{
    printf("  %s %s\n", outcome->ok ? "ok " : "BAD", outcome->name);
    print_wrapped(outcome->sentence);
    (void)fflush(stdout);
}
