/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `tutti run` on the workloads that the reports name (traces/seeds.jsonl): every way gives every token of the one-rank run, bit for bit.
 * `make test-long` takes all of it; otherwise the model has one layer, the largest decode batches are left out, and the chunk above the
 * largest bucket is one that is not much larger.
 */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"
#include "harness/effort.h"
#include "harness/report.h"

static char folder[32];

static bool is_left_out(const char *line)
{
    static const char *const names[] = {"decode bucket 64", "decode bucket 128", "decode bucket 256",
                                        "decode bucket 512"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char field[64];
        (void)snprintf(field, sizeof(field), "\"workload\": \"%s\"", names[i]);
        if (strstr(line, field) != NULL) {
            return true;
        }
    }
    return false;
}

/* 8192 tokens become 2192. */
static void write_line(FILE *to, char *line)
{
    for (char *found = strstr(line, " 8192"); found != NULL; found = strstr(found, " 8192")) {
        found[1] = '2';
        found[2] = '1';
        found[3] = '9';
        found[4] = '2';
    }
    (void)fputs(line, to);
}

static void write_less(const char *path)
{
    char line[512];
    FILE *from = fopen(TUTTI_SEEDS, "r");
    FILE *to = fopen(path, "w");
    int lines = 0;
    CHECK(from != NULL && to != NULL, "%s, %s", TUTTI_SEEDS, path);
    while (fgets(line, sizeof(line), from) != NULL) {
        if (!is_left_out(line)) {
            write_line(to, line);
            lines++;
        }
    }
    CHECK(lines > 100 && fclose(to) == 0, "%d lines", lines);
    (void)fclose(from);
}

static void check_json(const char *path)
{
    cJSON *json = report_take(path);
    const cJSON *ways = report_item(json, "ways");
    CHECK(cJSON_GetArraySize(ways) == 4, "%d ways: the trace has a workload with a draft model",
          cJSON_GetArraySize(ways));
    const cJSON *way = NULL;
    cJSON_ArrayForEach(way, ways)
    {
        CHECK(report_item(way, "oversize_steps")->valueint > 0, "%s: no chunk was above the largest bucket",
              report_item(way, "name")->valuestring);
    }
    CHECK(report_item(json, "tokens_proposed")->valueint > 0, "the draft has proposed nothing");
    cJSON_Delete(json);
}

static void check_run(const char *trace, const char *ranks, const char *layers, int seconds)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/out.json", folder);
    const char *arguments[] = {TUTTI_TOOL, "run", "--ranks",  ranks,  "--trace", trace,
                               "--json",   path,  "--layers", layers, NULL};
    struct command_result result = command_run(arguments, NULL, seconds);
    CHECK(result.code == 0, "%s ranks: exit code %d: %s%s", ranks, result.code, result.error, result.out);
    check_json(path);
    command_free(&result);
}

int main(void)
{
    static const char *const ranks[] = {"3", "2", "4"};
    bool all = effort() == EFFORT_LONG;
    char less[64];
    if (effort() == EFFORT_QUICK) {
        SKIP("sanitizers see the same code in cli/run_tokens, run_speculate and run_storm");
    }
    command_make_folder(folder);
    CHECK(setenv("TMPDIR", folder, 1) == 0, "setenv");
    (void)snprintf(less, sizeof(less), "%s/less.jsonl", folder);
    write_less(less);
    size_t count = all ? sizeof(ranks) / sizeof(ranks[0]) : 2;
    for (size_t i = 0; i < count; i++) {
        check_run(all ? TUTTI_SEEDS : less, ranks[i], all ? "4" : "1", all ? 3000 : 280);
    }
    CHECK(unlink(less) == 0 && rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
