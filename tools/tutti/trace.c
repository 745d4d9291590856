/* SPDX-License-Identifier: Apache-2.0 */
#include "trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_weights.h"
#include "trace_line.h"

#define CONCURRENCY_DEFAULT 16
#define CHUNK_DEFAULT 2048

/* The workload called `name`, made if it is new; -1 if memory ran out. */
static int workload_index(struct trace *trace, const char *name)
{
    for (int i = 0; i < trace->workload_count; i++) {
        if (strcmp(trace->workloads[i].name, name) == 0) {
            return i;
        }
    }
    size_t count = (size_t)trace->workload_count + 1;
    struct trace_workload *grown = realloc(trace->workloads, count * sizeof(*grown));
    if (grown == NULL) {
        return -1;
    }
    trace->workloads = grown;
    struct trace_workload *workload = &grown[trace->workload_count];
    (void)snprintf(workload->name, sizeof(workload->name), "%s", name);
    workload->concurrency = CONCURRENCY_DEFAULT;
    workload->chunk_tokens = CHUNK_DEFAULT;
    workload->speculate = 0;
    return trace->workload_count++;
}

/* Made-up tokens, the same for the same place in the trace, like bytes of text. */
static void make_up_prompt(int32_t *prompt, int count, int request)
{
    for (int i = 0; i < count; i++) {
        prompt[i] = (int32_t)(weights_mix(((uint64_t)request << 32) + (uint64_t)i + 1) % 256);
    }
}

static bool fill_prompt(struct trace_request *request, struct trace_line *line, int index)
{
    request->prompt_tokens = line->prompt != NULL ? (int)strlen(line->prompt) : line->prompt_tokens;
    request->prompt = calloc((size_t)request->prompt_tokens, sizeof(int32_t));
    if (request->prompt == NULL) {
        return false;
    }
    if (line->prompt == NULL) {
        make_up_prompt(request->prompt, request->prompt_tokens, index);
        return true;
    }
    for (int i = 0; i < request->prompt_tokens; i++) {
        request->prompt[i] = (unsigned char)line->prompt[i];
    }
    request->text = line->prompt;
    line->prompt = NULL;
    return true;
}

/* Takes over what `line` owns. False if memory ran out. */
static bool add_request(struct trace *trace, struct trace_line *line)
{
    struct trace_request *grown = realloc(trace->requests, ((size_t)trace->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    trace->requests = grown;
    int workload = workload_index(trace, line->workload);
    if (workload < 0) {
        return false;
    }
    struct trace_request *request = &grown[trace->count];
    *request = (struct trace_request){.output_tokens = line->output_tokens,
                                      .arrival_ms = line->arrival_ms,
                                      .workload = workload,
                                      .embeddings = line->embeddings};
    if (!fill_prompt(request, line, trace->count)) {
        return false;
    }
    trace->count++;
    if (line->concurrency > 0) {
        trace->workloads[workload].concurrency = line->concurrency;
    }
    if (line->speculate > 0) {
        trace->workloads[workload].speculate = line->speculate;
    }
    if (line->chunk_tokens > 0) {
        trace->workloads[workload].chunk_tokens = line->chunk_tokens;
    }
    return true;
}

static bool comes_after(const struct trace_request *a, const struct trace_request *b)
{
    return a->workload != b->workload ? a->workload > b->workload : a->arrival_ms > b->arrival_ms;
}

/* Sorts (insertion: stable, and traces are nearly sorted) and counts. */
static void finish(struct trace *trace)
{
    for (int i = 1; i < trace->count; i++) {
        struct trace_request request = trace->requests[i];
        int place = i;
        for (; place > 0 && comes_after(&trace->requests[place - 1], &request); place--) {
            trace->requests[place] = trace->requests[place - 1];
        }
        trace->requests[place] = request;
    }
    for (int i = 0; i < trace->count; i++) {
        struct trace_request *request = &trace->requests[i];
        int length = request->prompt_tokens + request->output_tokens;
        request->first_output = trace->output_total;
        request->first_token = trace->prompt_total + trace->output_total;
        trace->prompt_total += (size_t)request->prompt_tokens;
        trace->output_total += (size_t)request->output_tokens;
        trace->length_max = length > trace->length_max ? length : trace->length_max;
        trace->prompt_max = request->prompt_tokens > trace->prompt_max ? request->prompt_tokens : trace->prompt_max;
    }
    for (int i = 0; i < trace->workload_count; i++) {
        const struct trace_workload *workload = &trace->workloads[i];
        trace->concurrency_max =
            workload->concurrency > trace->concurrency_max ? workload->concurrency : trace->concurrency_max;
        trace->speculate_max = workload->speculate > trace->speculate_max ? workload->speculate : trace->speculate_max;
        trace->chunk_max = workload->chunk_tokens > trace->chunk_max ? workload->chunk_tokens : trace->chunk_max;
    }
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

static bool read_lines(FILE *file, const char *path, struct trace *trace, char *why, size_t why_bytes)
{
    char *text = NULL;
    size_t text_bytes = 0;
    bool good = true;
    ssize_t length = 0;
    for (int number = 1; good && (length = getline(&text, &text_bytes, file)) >= 0; number++) {
        char reason[200];
        struct trace_line line;
        if (strlen(text) != (size_t)length) {
            (void)snprintf(why, why_bytes, "%s:%d: a zero byte in the line", path, number);
            good = false;
        } else if (!is_blank(text) && !trace_line_parse(text, &line, reason, sizeof(reason))) {
            (void)snprintf(why, why_bytes, "%s:%d: %s", path, number, reason);
            good = false;
        } else if (!is_blank(text)) {
            good = add_request(trace, &line);
            trace_line_free(&line);
            if (!good) {
                (void)snprintf(why, why_bytes, "%s:%d: out of memory", path, number);
            }
        }
    }
    free(text);
    if (good && ferror(file)) {
        (void)snprintf(why, why_bytes, "%s: %s", path, strerror(errno));
        return false;
    }
    return good;
}

bool trace_read(const char *path, struct trace *trace, char *why, size_t why_bytes)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        (void)snprintf(why, why_bytes, "%s: %s", path, strerror(errno));
        return false;
    }
    struct trace made = {.name = strdup(path)};
    bool good = read_lines(file, path, &made, why, why_bytes);
    (void)fclose(file);
    if (good && made.count == 0) {
        (void)snprintf(why, why_bytes, "%s: no requests in it", path);
        good = false;
    }
    if (!good) {
        trace_free(&made);
        return false;
    }
    finish(&made);
    *trace = made;
    return true;
}

bool trace_builtin(struct trace *trace, char *why, size_t why_bytes)
{
    struct trace made = {.name = strdup("built-in")};
    for (int i = 0; i < 12; i++) {
        struct trace_line line = {.prompt_tokens = 24 + i * 37 % 90,
                                  .output_tokens = 16 + i * 11 % 32,
                                  .arrival_ms = i * 40,
                                  .concurrency = 8,
                                  .speculate = -1,
                                  .chunk_tokens = -1};
        if (!add_request(&made, &line)) {
            (void)snprintf(why, why_bytes, "out of memory");
            trace_free(&made);
            return false;
        }
    }
    finish(&made);
    *trace = made;
    return true;
}

bool trace_part(const struct trace *whole, int count, int output_max, struct trace *part)
{
    struct trace made = {.count = count < whole->count ? count : whole->count, .workload_count = 1};
    made.requests = calloc((size_t)made.count, sizeof(*made.requests));
    made.workloads = calloc(1, sizeof(*made.workloads));
    if (made.requests == NULL || made.workloads == NULL) {
        trace_part_free(&made);
        return false;
    }
    for (int i = 0; i < made.count; i++) {
        struct trace_request *request = &made.requests[i];
        *request = whole->requests[i];
        request->workload = 0;
        request->output_tokens = request->output_tokens < output_max ? request->output_tokens : output_max;
        made.prompt_total += (size_t)request->prompt_tokens;
        made.output_total += (size_t)request->output_tokens;
        made.prompt_max = request->prompt_tokens > made.prompt_max ? request->prompt_tokens : made.prompt_max;
    }
    made.name = whole->name;
    made.workloads[0] = whole->workloads[0];
    made.length_max = whole->length_max;
    made.concurrency_max = made.workloads[0].concurrency;
    made.chunk_max = made.workloads[0].chunk_tokens;
    *part = made;
    return true;
}

void trace_part_free(struct trace *part)
{
    free(part->requests);
    free(part->workloads);
}

void trace_free(struct trace *trace)
{
    for (int i = 0; i < trace->count; i++) {
        free(trace->requests[i].prompt);
        free(trace->requests[i].text);
    }
    free(trace->name);
    trace_part_free(trace);
}
