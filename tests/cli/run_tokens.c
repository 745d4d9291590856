/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti run` on several rank counts and both numerics: every token verified, all fields of the JSON there. */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"
#include "harness/effort.h"
#include "harness/report.h"

static char folder[32];

/* One way's figures make sense. Returns how many steps it replayed. */
static int check_way(const cJSON *json, const cJSON *way, const char *name)
{
    int replays = report_item(way, "graph_replays")->valueint;
    int steps = report_item(way, "steps")->valueint;
    CHECK(strcmp(report_item(way, "name")->valuestring, name) == 0, "%s", report_item(way, "name")->valuestring);
    CHECK(replays + report_item(way, "eager_steps")->valueint == steps, "%s", name);
    CHECK(steps == report_item(json, "steps")->valueint, "%s: %d steps", name, steps);
    CHECK(report_item(way, "failed_captures")->valueint == 0, "%s: failed captures", name);
    return replays;
}

/* The schedule decides, so the counts do not vary: eagerly nothing is replayed, with whole graphs decode steps are, and in pieces all that
 * fit a bucket. */
static void check_ways(const cJSON *json)
{
    const cJSON *ways = report_item(json, "ways");
    const cJSON *pieces = cJSON_GetArrayItem(ways, 2);
    CHECK(cJSON_GetArraySize(ways) == 3, "%d ways", cJSON_GetArraySize(ways));
    int eager = check_way(json, cJSON_GetArrayItem(ways, 0), "eager");
    int whole = check_way(json, cJSON_GetArrayItem(ways, 1), "whole graphs");
    int all = check_way(json, pieces, "piecewise");
    CHECK(eager == 0 && whole == report_item(json, "graph_replays")->valueint, "%d, %d replays", eager, whole);
    CHECK(all == report_item(json, "steps")->valueint, "all steps fit a bucket, and %d were replayed", all);
    CHECK(report_item(pieces, "commits")->valueint == 3, "one commit a runner");
    CHECK(report_item(pieces, "graph_launches")->valueint > all, "prefill steps have several graphs");
    CHECK(report_item(pieces, "padding_rows")->valueint > 0, "no padding");
}

/* All runners' buckets are captured once, and what was replayed is what the steps were. */
static void check_buckets(const cJSON *json)
{
    int replays = 0;
    const cJSON *entry = NULL;
    cJSON_ArrayForEach(entry, report_item(json, "buckets"))
    {
        CHECK(strcmp(report_item(entry, "state")->valuestring, "captured") == 0, "%s",
              report_item(entry, "reason")->valuestring);
        CHECK(report_item(entry, "captures")->valueint == 1 && report_item(entry, "eager_runs")->valueint == 0,
              "%s of %d rows", report_item(entry, "runner")->valuestring, report_item(entry, "rows")->valueint);
        bool head = strcmp(report_item(entry, "runner")->valuestring, "head") == 0;
        replays += head ? 0 : report_item(entry, "replays")->valueint;
    }
    CHECK(replays == report_item(json, "steps")->valueint, "%d replays of %d steps", replays,
          report_item(json, "steps")->valueint);
}

static void check_whole_graphs(const cJSON *json)
{
    int steps = report_item(json, "steps")->valueint;
    int replays = report_item(json, "graph_replays")->valueint;
    int eager = report_item(json, "eager_steps")->valueint;
    CHECK(replays > 0 && eager > 0 && replays + eager == steps, "%d = %d + %d", steps, replays, eager);
    CHECK(report_item(json, "captures")->valueint > 0 && report_item(json, "commits")->valueint == 1, "%d commits",
          report_item(json, "commits")->valueint);
    CHECK(report_item(json, "capture_ms")->valuedouble > 0.0 && report_item(json, "commit_ms")->valuedouble > 0.0,
          "times");
    CHECK(report_item(json, "direct_calls")->valueint >= 0 && report_item(json, "staged_calls")->valueint == 0,
          "what is reduced lies in memory that all ranks have");
}

static void check_json(cJSON *json, const char *ranks, const char *numerics)
{
    CHECK(strcmp(report_item(json, "backend")->valuestring, "host") == 0, "backend");
    CHECK(report_item(json, "ranks")->valueint == (int)strtol(ranks, NULL, 10), "ranks");
    CHECK(strcmp(report_item(json, "model")->valuestring, "tiny") == 0, "model");
    CHECK(strcmp(report_item(json, "numerics")->valuestring, numerics) == 0, "numerics");
    check_whole_graphs(json);
    check_ways(json);
    check_buckets(json);
    static const char *const figures[] = {"tokens_per_second_eager", "tokens_per_second_graph",
                                          "tokens_per_second_piecewise", "ttft_ms_p50", "tpot_ms_p50"};
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        CHECK(report_item(json, figures[i])->valuedouble > 0.0, "%s", figures[i]);
    }
    CHECK(cJSON_IsArray(report_item(json, "storm")) && cJSON_GetArraySize(report_item(json, "storm")) == 0, "storm");
    CHECK(cJSON_GetArraySize(json) == 22, "%d fields", cJSON_GetArraySize(json));
    cJSON_Delete(json);
}

static void check_run(const char *trace, const char *ranks, const char *numerics, const char *layers)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/out.json", folder);
    const char *arguments[] = {TUTTI_TOOL, "run",        "--ranks", ranks,    "--trace", trace, "--layers",
                               layers,     "--numerics", numerics,  "--json", path,      NULL};
    struct command_result result = command_run(arguments, NULL, 240);
    CHECK(result.code == 0, "%s ranks, %s: exit code %d: %s%s", ranks, numerics, result.code, result.error, result.out);
    CHECK(result.error[0] == '\0', "%s", result.error);
    CHECK(strstr(result.out, "NO ") == NULL && strstr(result.out, "\033") == NULL, "%s", result.out);
    check_json(report_take(path), ranks, numerics);
    command_free(&result);
}

/* Uneven arrivals and lengths, one-token prompts and outputs, embeddings, two workloads, a prompt in chunks. */
static void write_trace(const char *path)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "%s", path);
    (void)fputs("{\"prompt\": \"The oboe gives the note.\", \"output_tokens\": 9}\n"
                "{\"prompt\": \"a\", \"output_tokens\": 1, \"arrival_ms\": 30}\n"
                "{\"prompt_tokens\": 75, \"output_tokens\": 7, \"arrival_ms\": 20, \"concurrency\": 4}\n"
                "{\"prompt_tokens\": 1, \"output_tokens\": 12}\n"
                "\n"
                "{\"prompt\": \"Embeddings\", \"output_tokens\": 6, \"input\": \"embeddings\", \"arrival_ms\": 5000}\n"
                "{\"prompt\": \"Tschüß, 音\", \"output_tokens\": 5}\n"
                "{\"workload\": \"chunks\", \"prompt_tokens\": 50, \"output_tokens\": 3, \"chunk_tokens\": 16}\n"
                "{\"workload\": \"chunks\", \"prompt_tokens\": 5, \"output_tokens\": 8, \"arrival_ms\": 10}\n",
                file);
    (void)fclose(file);
}

int main(void)
{
    command_make_folder(folder);
    CHECK(setenv("TMPDIR", folder, 1) == 0, "setenv");
    char trace[64];
    (void)snprintf(trace, sizeof(trace), "%s/trace.jsonl", folder);
    write_trace(trace);
    static const char *const ranks[] = {"1", "2", "3", "4", "6"};
    for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++) {
        /* Quick: half of the pairs. */
        if (effort() != EFFORT_QUICK || i % 2 == 0) {
            check_run(trace, ranks[i], "exact", "2");
        }
        if (effort() != EFFORT_QUICK || i % 2 == 1) {
            check_run(trace, ranks[i], "real", "2");
        }
    }
    check_run(trace, "12", "exact", "1");
    CHECK(unlink(trace) == 0, "%s", trace);
    CHECK(rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
