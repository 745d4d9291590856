/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `tutti run --speculate K`: whatever a draft model proposes, the tokens are those without it. A draft that is the model itself is always
 * right, so that fewer steps are needed.
 */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"
#include "harness/effort.h"
#include "harness/report.h"

static char folder[32];

static cJSON *run(const char *trace, const char *const *more)
{
    char path[64];
    const char *arguments[24] = {TUTTI_TOOL, "run", "--layers", "2", "--trace", trace, "--json", path};
    (void)snprintf(path, sizeof(path), "%s/out.json", folder);
    for (size_t i = 0; more[i] != NULL; i++) {
        arguments[8 + i] = more[i];
    }
    struct command_result result = command_run(arguments, NULL, 240);
    CHECK(result.code == 0, "%s %s: exit code %d: %s%s", more[0], more[1], result.code, result.error, result.out);
    command_free(&result);
    return report_take(path);
}

/* Of the way with the draft. */
static int steps_of(const cJSON *json, int way)
{
    return report_item(cJSON_GetArrayItem(report_item(json, "ways"), way), "steps")->valueint;
}

static bool has_draft_bucket(const cJSON *json)
{
    const cJSON *entry = NULL;
    cJSON_ArrayForEach(entry, report_item(json, "buckets"))
    {
        if (strcmp(report_item(entry, "runner")->valuestring, "draft decode") == 0 &&
            report_item(entry, "replays")->valueint > 0) {
            return true;
        }
    }
    return false;
}

/* `right`: the draft is the model. */
static void check(const char *trace, const char *const *more, bool right)
{
    cJSON *json = run(trace, more);
    int proposed = report_item(json, "tokens_proposed")->valueint;
    int accepted = report_item(json, "tokens_accepted")->valueint;
    CHECK(cJSON_GetArraySize(report_item(json, "ways")) == 4 && has_draft_bucket(json), "no draft");
    CHECK(proposed > 0 && accepted <= proposed, "%d of %d", accepted, proposed);
    CHECK(right ? accepted == proposed : accepted < proposed, "%s ranks: %d of %d proposals were right", more[1],
          accepted, proposed);
    CHECK(!right || steps_of(json, 3) < steps_of(json, 2), "%d steps with a draft, %d without", steps_of(json, 3),
          steps_of(json, 2));
    cJSON_Delete(json);
}

static void write_trace(const char *path, const char *speculate)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "%s", path);
    (void)fprintf(file,
                  "{\"prompt\": \"The oboe gives the note.\", \"output_tokens\": 19%s}\n"
                  "{\"prompt\": \"a\", \"output_tokens\": 1, \"arrival_ms\": 30}\n"
                  "{\"prompt_tokens\": 75, \"output_tokens\": 2, \"arrival_ms\": 20, \"concurrency\": 3}\n"
                  "{\"prompt\": \"Embeddings\", \"output_tokens\": 16, \"input\": \"embeddings\"}\n"
                  "{\"workload\": \"chunks\", \"prompt_tokens\": 50, \"output_tokens\": 13, \"chunk_tokens\": 16}\n"
                  "{\"workload\": \"chunks\", \"prompt_tokens\": 5, \"output_tokens\": 8, \"arrival_ms\": 10}\n",
                  speculate);
    (void)fclose(file);
}

int main(void)
{
    char trace[64];
    command_make_folder(folder);
    CHECK(setenv("TMPDIR", folder, 1) == 0, "setenv");
    (void)snprintf(trace, sizeof(trace), "%s/trace.jsonl", folder);
    write_trace(trace, "");
    static const char *const ranks[] = {"1", "2", "3", "4"};
    for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++) {
        const char *const partly[] = {"--ranks", ranks[i], "--speculate", "3", NULL};
        const char *const wholly[] = {"--ranks", ranks[i], "--speculate", "5", "--draft-layers", "2", NULL};
        /* Quick: half of the pairs. */
        if (effort() != EFFORT_QUICK || i % 2 == 0) {
            check(trace, partly, false);
        }
        if (effort() != EFFORT_QUICK || i % 2 == 1) {
            check(trace, wholly, true);
        }
    }
    const char *const real[] = {"--ranks", "2", "--speculate", "1", "--numerics", "real", NULL};
    check(trace, real, false);
    const char *const lazy[] = {"--ranks", "3", "--speculate", "2", "--lazy", NULL};
    check(trace, lazy, false);
    write_trace(trace, ", \"speculate\": 4"); /* one workload of the two */
    const char *const as_the_trace_says[] = {"--ranks", "2", NULL};
    check(trace, as_the_trace_says, false);
    CHECK(unlink(trace) == 0 && rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
