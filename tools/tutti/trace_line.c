/* SPDX-License-Identifier: Apache-2.0 */
#include "trace_line.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REFUSE(...)                                                                                                    \
    do {                                                                                                               \
        (void)snprintf(why, why_bytes, __VA_ARGS__);                                                                   \
        return false;                                                                                                  \
    } while (0)

static bool take_integer(const cJSON *field, int low, int high, int *out, char *why, size_t why_bytes)
{
    double value = field->valuedouble;
    if (!cJSON_IsNumber(field) || !(value >= low && value <= high) || floor(value) < value) {
        REFUSE("\"%s\" must be a whole number from %d to %d", field->string, low, high);
    }
    *out = (int)value;
    return true;
}

static bool take_prompt(const cJSON *field, struct trace_line *line, char *why, size_t why_bytes)
{
    if (!cJSON_IsString(field) || field->valuestring[0] == '\0') {
        REFUSE("\"prompt\" must be a text of at least one byte");
    }
    if (strlen(field->valuestring) > TRACE_PROMPT_MAX) {
        REFUSE("\"prompt\" is longer than %d bytes", TRACE_PROMPT_MAX);
    }
    free(line->prompt);
    line->prompt = strdup(field->valuestring);
    if (line->prompt == NULL) {
        REFUSE("out of memory");
    }
    return true;
}

static bool take_workload(const cJSON *field, struct trace_line *line, char *why, size_t why_bytes)
{
    if (!cJSON_IsString(field) || field->valuestring[0] == '\0' ||
        strlen(field->valuestring) >= sizeof(line->workload)) {
        REFUSE("\"workload\" must be a text of 1 to %zu bytes", sizeof(line->workload) - 1);
    }
    (void)snprintf(line->workload, sizeof(line->workload), "%s", field->valuestring);
    return true;
}

static bool take_field(const cJSON *field, struct trace_line *line, char *why, size_t why_bytes)
{
    const char *name = field->string;
    if (strcmp(name, "prompt") == 0) {
        return take_prompt(field, line, why, why_bytes);
    }
    if (strcmp(name, "prompt_tokens") == 0) {
        return take_integer(field, 1, TRACE_PROMPT_MAX, &line->prompt_tokens, why, why_bytes);
    }
    if (strcmp(name, "output_tokens") == 0) {
        return take_integer(field, 1, TRACE_OUTPUT_MAX, &line->output_tokens, why, why_bytes);
    }
    if (strcmp(name, "concurrency") == 0) {
        return take_integer(field, 1, TRACE_CONCURRENCY_MAX, &line->concurrency, why, why_bytes);
    }
    if (strcmp(name, "chunk_tokens") == 0) {
        return take_integer(field, 1, TRACE_CHUNK_MAX, &line->chunk_tokens, why, why_bytes);
    }
    if (strcmp(name, "speculate") == 0) {
        return take_integer(field, 0, TRACE_SPECULATE_MAX, &line->speculate, why, why_bytes);
    }
    if (strcmp(name, "workload") == 0) {
        return take_workload(field, line, why, why_bytes);
    }
    if (strcmp(name, "arrival_ms") == 0) {
        if (!cJSON_IsNumber(field) || !(field->valuedouble >= 0 && field->valuedouble <= 1e9)) {
            REFUSE("\"arrival_ms\" must be a number from 0 to 1e9");
        }
        line->arrival_ms = field->valuedouble;
        return true;
    }
    if (strcmp(name, "input") == 0) {
        bool embeddings = cJSON_IsString(field) && strcmp(field->valuestring, "embeddings") == 0;
        if (!embeddings && !(cJSON_IsString(field) && strcmp(field->valuestring, "tokens") == 0)) {
            REFUSE("\"input\" must be \"tokens\" or \"embeddings\"");
        }
        line->embeddings = embeddings;
        return true;
    }
    REFUSE("unknown field \"%.60s\"", name);
}

static bool check_twice(const cJSON *root, const cJSON *field, char *why, size_t why_bytes)
{
    for (const cJSON *earlier = root->child; earlier != field; earlier = earlier->next) {
        if (strcmp(earlier->string, field->string) == 0) {
            REFUSE("\"%.60s\" is given twice", field->string);
        }
    }
    return true;
}

static bool take_object(const cJSON *root, struct trace_line *line, char *why, size_t why_bytes)
{
    if (!cJSON_IsObject(root)) {
        REFUSE("a line must be one JSON object");
    }
    const cJSON *field = NULL;
    cJSON_ArrayForEach(field, root)
    {
        if (!check_twice(root, field, why, why_bytes) || !take_field(field, line, why, why_bytes)) {
            return false;
        }
    }
    if (line->prompt == NULL && line->prompt_tokens < 0) {
        REFUSE("neither \"prompt\" nor \"prompt_tokens\" is given");
    }
    if (line->prompt != NULL && line->prompt_tokens >= 0) {
        REFUSE("\"prompt\" and \"prompt_tokens\" exclude each other");
    }
    if (line->output_tokens < 0) {
        REFUSE("\"output_tokens\" is missing");
    }
    return true;
}

bool trace_line_parse(const char *text, struct trace_line *line, char *why, size_t why_bytes)
{
    struct trace_line parsed = {
        .prompt_tokens = -1, .output_tokens = -1, .concurrency = -1, .chunk_tokens = -1, .speculate = -1};
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithOpts(text, &end, 1);
    if (root == NULL) {
        REFUSE("not valid JSON at byte %td", end != NULL ? end - text + 1 : (ptrdiff_t)1);
    }
    bool good = take_object(root, &parsed, why, why_bytes);
    cJSON_Delete(root);
    if (!good) {
        trace_line_free(&parsed);
        return false;
    }
    *line = parsed;
    return true;
}

void trace_line_free(struct trace_line *line)
{
    free(line->prompt);
    line->prompt = NULL;
}
