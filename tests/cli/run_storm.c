/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti run --storm`: everything that goes wrong on purpose is survived, and the JSON tells it. */
#include <cjson/cJSON.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"
#include "harness/effort.h"
#include "harness/ranks.h"

#define LAYERS (effort() == EFFORT_QUICK ? "1" : "2")

static char folder[32];

static void check_storm(const cJSON *storm, const char *name, const char *says)
{
    const cJSON *entry = NULL;
    cJSON_ArrayForEach(entry, storm)
    {
        const cJSON *found = cJSON_GetObjectItemCaseSensitive(entry, "name");
        if (found != NULL && strcmp(found->valuestring, name) == 0) {
            const cJSON *sentence = cJSON_GetObjectItemCaseSensitive(entry, "sentence");
            CHECK(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(entry, "ok")), "%s", name);
            CHECK(sentence != NULL && strstr(sentence->valuestring, says) != NULL, "%s: %s", name,
                  sentence != NULL ? sentence->valuestring : "no sentence");
            return;
        }
    }
    CHECK(0, "no storm is called '%s'", name);
}

static void check_file(const char *path)
{
    static char text[131072];
    memset(text, 0, sizeof(text));
    FILE *file = fopen(path, "r");
    CHECK(file != NULL && fread(text, 1, sizeof(text) - 1, file) > 0, "%s", path);
    (void)fclose(file);
    cJSON *json = cJSON_Parse(text);
    CHECK(json != NULL && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "verified")), "%s", text);
    const cJSON *storm = cJSON_GetObjectItemCaseSensitive(json, "storm");
    CHECK(cJSON_GetArraySize(storm) == 12, "%d storms", cJSON_GetArraySize(storm));
    check_storm(storm, "captures of one rank delayed", "same tokens");
    check_storm(storm, "graphs replayed in random order between eager calls", "every element right");
    check_storm(storm, "a capture invalidated", "tutti_host_stream_query");
    check_storm(storm, "a capture invalidated", "same tokens");
    check_storm(storm, "a capture that fails on one rank", "TUTTI_ERR_UNSUPPORTED");
    check_storm(storm, "a capture that fails on one rank", "same tokens");
    check_storm(storm, "batches above the largest bucket", "steps had more rows than any bucket and ran eagerly");
    check_storm(storm, "batches above the largest bucket", "same tokens");
    check_storm(storm, "garbage in every buffer that nobody should read", "same tokens");
    check_storm(storm, "gathers and reductions interleaved in one capture", "every element right");
    check_storm(storm, "slots recycled under an old graph", "6 capture sessions committed");
    check_storm(storm, "slots recycled under an old graph", "every element right");
    check_storm(storm, "a commit in the middle of serving", "before tutti_commit took in their");
    check_storm(storm, "a commit in the middle of serving", "same tokens");
    check_storm(storm, "memory remapped under captured graphs", "other pages were mapped");
    check_storm(storm, "memory remapped under captured graphs", "same tokens");
    check_storm(storm, "one rank's memory cannot be shared", "captured calls staged on every rank");
    check_storm(storm, "one rank's memory cannot be shared", "same tokens");
    check_storm(storm, "a rank killed while serving", "same tokens");
    cJSON_Delete(json);
    CHECK(unlink(path) == 0, "%s", path);
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
    check_run("4", "exact", seed);
    check_run("2", "exact", seed + 1); /* one survivor */
    check_run("6", "real", seed + 2);  /* 5 survivors: the model divides by 4 of them */
    CHECK(rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
