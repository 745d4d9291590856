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

struct figures report_figures(const struct run *run, enum board_slot slot)
{
    const struct board_pass *pass = board_pass(&run->board, slot, 0);
    const double *first_ms = board_first_ms(&run->board, slot, 0);
    const double *rest_ms = board_rest_ms(&run->board, slot, 0);
    struct figures figures = {.seconds = pass->seconds,
                              .capture_ms = pass->capture_ms,
                              .steps = pass->steps,
                              .graph_replays = pass->graph_replays,
                              .eager_steps = pass->eager_steps,
                              .captures = pass->captures,
                              .commit_ms = pass->commit_ms,
                              .commits = pass->commits,
                              .direct_calls = pass->direct_calls,
                              .staged_calls = pass->staged_calls};
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

static void table_row(const char *name, double eager, double graph, int decimals)
{
    printf("  %-34s %12.*f %12.*f\n", name, decimals, eager, decimals, graph);
}

void report_table(const struct run *run)
{
    struct figures eager = report_figures(run, BOARD_EAGER);
    struct figures graph = report_figures(run, BOARD_GRAPH);
    printf("  %-34s %12s %12s\n", "", "eager", "graphs");
    table_row("tokens per second in", eager.tokens_in_per_second, graph.tokens_in_per_second, 0);
    table_row("tokens per second out", eager.tokens_out_per_second, graph.tokens_out_per_second, 0);
    table_row("time to first token, p50, ms", eager.first_ms_p50, graph.first_ms_p50, 1);
    table_row("time per output token, p50, ms", eager.rest_ms_p50, graph.rest_ms_p50, 2);
    table_row("steps", (double)eager.steps, (double)graph.steps, 0);
    table_row("  replayed from a graph", (double)eager.graph_replays, (double)graph.graph_replays, 0);
    table_row("  eager", (double)eager.eager_steps, (double)graph.eager_steps, 0);
    table_row("captures", (double)eager.captures, (double)graph.captures, 0);
    table_row("capture time, ms", eager.capture_ms, graph.capture_ms, 2);
    table_row("commits", (double)eager.commits, (double)graph.commits, 0);
    table_row("commit time, ms", eager.commit_ms, graph.commit_ms, 2);
    if (eager.direct_calls + eager.staged_calls + graph.direct_calls + graph.staged_calls > 0) {
        table_row("large collectives, direct", (double)eager.direct_calls, (double)graph.direct_calls, 0);
        table_row("  staged", (double)eager.staged_calls, (double)graph.staged_calls, 0);
    }
    table_row("seconds", eager.seconds, graph.seconds, 2);
    printf("\n");
}

static void print_verdict(const char *what, const struct verdict *verdict, const char *more)
{
    printf("  %s %s: %zu of %zu%s\n", verdict->held ? "yes" : "NO ", what, verdict->equal, verdict->total, more);
    if (!verdict->held) {
        printf("      first difference: %s\n", verdict->first);
    }
}

static void print_bound(const struct run *run, const struct run_verdicts *verdicts)
{
    float deviation =
        verdicts->eager.deviation > verdicts->graphs.deviation ? verdicts->eager.deviation : verdicts->graphs.deviation;
    printf("      largest deviation of a logit %.4f, bound %.4f; tokens that differ within the bound: %zu eager, "
           "%zu graphs\n",
           (double)deviation, (double)verify_bound(&run->shape), verdicts->eager.excused, verdicts->graphs.excused);
}

void report_verdicts(const struct run *run, const struct run_verdicts *verdicts)
{
    bool exact = run->options.numerics == NUMERICS_EXACT;
    char more[96];
    (void)snprintf(more, sizeof(more), exact ? ", logits bit for bit, on all %d ranks" : ", on all %d ranks",
                   run->options.ranks);
    const char *eager = exact ? "eager: every token equal to the one-rank run"
                              : "eager: every token that of the one-rank run, within the bound";
    const char *graphs = exact ? "graphs: every token equal to the one-rank run"
                               : "graphs: every token that of the one-rank run, within the bound";
    print_verdict(eager, &verdicts->eager, more);
    print_verdict(graphs, &verdicts->graphs, more);
    print_verdict("graphs against eager: the same bits", &verdicts->same_bits, "");
    if (!exact) {
        print_bound(run, verdicts);
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
