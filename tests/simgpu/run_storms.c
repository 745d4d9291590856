/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `tutti run --backend cuda --storm` on simulated devices (device_compute.c): every token right, and what commits, suspends, recycled
 * slots and memory that cannot be shared are about has really happened: calls were direct. Before that, a mixture of experts.
 */
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"
#include "harness/ranks.h"
#include "harness/report.h"

static void check_file(const char *path)
{
    cJSON *json = report_take(path);
    CHECK(report_item(json, "direct_calls")->valueint > 0, "no call was direct");
    report_check_storm(json, "graphs replayed in random order between eager calls", "every element right");
    report_check_storm(json, "a capture invalidated", "same tokens");
    report_check_storm(json, "a capture that fails on one rank", "same tokens");
    report_check_storm(json, "batches above the largest bucket", "same tokens");
    report_check_storm(json, "gathers and reductions interleaved in one capture",
                       " of them directly, every element right");
    report_check_storm(json, "slots recycled under an old graph", "4 slots served them all");
    report_check_storm(json, "a commit in the middle of serving", " calls of them directly: same tokens");
    report_check_storm(json, "memory remapped under captured graphs", " direct calls suspended, resumed)");
    report_check_storm(json, "one rank's memory cannot be shared", "VMM memory made without a type of handle");
    report_check_storm(json, "a rank killed while serving", "same tokens");
    cJSON_Delete(json);
}

/* Few requests: a simulated kernel is slow. */
static void write_trace(const char *path)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "%s", path);
    for (int request = 0; request < 4; request++) {
        CHECK(fprintf(file, "{\"prompt\": \"Number %d of four.\", \"output_tokens\": %d}\n", request, 14 + request) > 0,
              "%s", path);
    }
    CHECK(fclose(file) == 0, "%s", path);
}

static void check_experts(const char *trace)
{
    const char *arguments[] = {TUTTI_TOOL, "run",      "--backend", "cuda",    "--ranks", "2", "--model",
                               "tiny-moe", "--layers", "2",         "--trace", trace,     NULL};
    struct command_result result = command_run(arguments, NULL, 120);
    CHECK(result.code == 0, "exit code %d: %s%s", result.code, result.error, result.out);
    CHECK(strstr(result.out, "NO ") == NULL && strstr(result.out, "62 of 62") != NULL, "%s", result.out);
    command_free(&result);
}

int main(void)
{
    char folder[32];
    char path[64];
    char trace[64];
    char number[32];
    uint64_t seed = ranks_seed();
    command_make_folder(folder);
    CHECK(setenv("TMPDIR", folder, 1) == 0, "setenv");
    CHECK(setenv("TUTTI_GPU_DIRECT_BYTES_MIN", "4K", 1) == 0 && setenv("TUTTI_GPU_ONE_SHOT_BYTES_MAX", "2K", 1) == 0,
          "setenv");
    (void)snprintf(path, sizeof(path), "%s/out.json", folder);
    (void)snprintf(trace, sizeof(trace), "%s/trace.jsonl", folder);
    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)(seed % 1000000007u));
    write_trace(trace);
    check_experts(trace);
    const char *arguments[] = {TUTTI_TOOL, "run",         "--backend", "cuda",    "--ranks", "2",    "--layers",
                               "1",        "--trace",     trace,       "--storm", "--seed",  number, "--json",
                               path,       "--speculate", "3",         "--lazy",  NULL};
    struct command_result result = command_run(arguments, NULL, 280);
    CHECK(result.code == 0, "exit code %d: %s%s", result.code, result.error, result.out);
    check_file(path);
    command_free(&result);
    CHECK(unlink(trace) == 0 && rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
