/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti run --storm`: everything that goes wrong on purpose is survived, and the JSON tells it. */
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"
#include "harness/effort.h"
#include "harness/ranks.h"
#include "harness/report.h"

#define LAYERS (effort() == EFFORT_QUICK ? "1" : "2")

static char folder[32];

static void check_file(const char *path)
{
    cJSON *json = report_take(path);
    int storms = cJSON_GetArraySize(report_item(json, "storm"));
    CHECK(storms == 12, "%d storms", storms);
    report_check_storm(json, "captures of one rank delayed", "same tokens");
    report_check_storm(json, "graphs replayed in random order between eager calls", "every element right");
    report_check_storm(json, "a capture invalidated", "tutti_host_stream_query");
    report_check_storm(json, "a capture invalidated", "same tokens");
    report_check_storm(json, "a capture that fails on one rank", "TUTTI_ERR_UNSUPPORTED");
    report_check_storm(json, "a capture that fails on one rank", "same tokens");
    report_check_storm(json, "batches above the largest bucket", "steps had more rows than any bucket and ran eagerly");
    report_check_storm(json, "batches above the largest bucket", "same tokens");
    report_check_storm(json, "garbage in every buffer that nobody should read", "same tokens");
    report_check_storm(json, "gathers and reductions interleaved in one capture", "every element right");
    report_check_storm(json, "slots recycled under an old graph", "6 capture sessions committed");
    report_check_storm(json, "slots recycled under an old graph", "every element right");
    report_check_storm(json, "a commit in the middle of serving", "before tutti_commit took in their");
    report_check_storm(json, "a commit in the middle of serving", "same tokens");
    report_check_storm(json, "memory remapped under captured graphs", "other pages were mapped");
    report_check_storm(json, "memory remapped under captured graphs", "same tokens");
    report_check_storm(json, "one rank's memory cannot be shared", "captured calls staged on every rank");
    report_check_storm(json, "one rank's memory cannot be shared", "same tokens");
    report_check_storm(json, "a rank killed while serving", "same tokens");
    cJSON_Delete(json);
}

static void check_run(const char *ranks, const char *numerics, uint64_t seed)
{
    char path[64];
    char number[32];
    (void)snprintf(path, sizeof(path), "%s/out.json", folder);
    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)(seed % 1000000007u));
    const char *arguments[] = {TUTTI_TOOL,   "run",    "--ranks", ranks,  "--storm", "--layers", LAYERS,
                               "--numerics", numerics, "--seed",  number, "--json",  path,       NULL};
    struct command_result result = command_run(arguments, NULL, 240);
    CHECK(result.code == 0, "%s ranks: exit code %d: %s%s", ranks, result.code, result.error, result.out);
    CHECK(strstr(result.out, number) != NULL, "the seed is not printed: %s", result.out);
    check_file(path);
    command_free(&result);
}

int main(void)
{
    uint64_t seed = ranks_seed();
    command_make_folder(folder);
    CHECK(setenv("TMPDIR", folder, 1) == 0, "setenv");
    if (effort() != EFFORT_QUICK) {
        check_run("4", "exact", seed);
    }
    check_run("2", "exact", seed + 1); /* one survivor */
    check_run("6", "real", seed + 2);  /* 5 survivors: the model divides by 4 of them */
    CHECK(rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
