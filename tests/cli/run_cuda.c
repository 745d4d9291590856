/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `tutti run --backend cuda` on the devices there are, shared by the ranks if they are fewer: every token is that of one rank,
 * and that of the host's processor, bit for bit.
 */
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"
#include "harness/report.h"

static char folder[32];

static void check_json(const char *path)
{
    cJSON *json = report_take(path);
    const char *backend = report_item(json, "backend")->valuestring;
    CHECK(strcmp(backend, "cuda") == 0, "%s", backend);
    CHECK(report_item(json, "graph_replays")->valueint > 0, "no replays");
    const cJSON *entry = NULL;
    cJSON_ArrayForEach(entry, report_item(json, "storm"))
    {
        CHECK(cJSON_IsTrue(report_item(entry, "ok")), "%s", report_item(entry, "sentence")->valuestring);
    }
    cJSON_Delete(json);
}

/* Skips the test if this machine, or this build, cannot. */
static void check_run(const char *ranks, const char *more, const char *value)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/out.json", folder);
    const char *arguments[] = {TUTTI_TOOL, "run", "--backend", "cuda", "--share-device",
                               "--ranks",  ranks, "--layers",  "2",    "--json",
                               path,       more,  value,       NULL};
    struct command_result result = command_run(arguments, NULL, 240);
    if (result.code == 1 && strstr(result.error, "cannot serve the model: ") != NULL) {
        CHECK(command_lines(result.error) == 1 && result.out[0] == '\0', "%s%s", result.error, result.out);
        CHECK(rmdir(folder) == 0, "something was left in %s", folder);
        SKIP("%.*s", (int)strcspn(result.error, "\n"), result.error);
    }
    CHECK(result.code == 0, "%s ranks, %s: exit code %d: %s%s", ranks, more, result.code, result.error, result.out);
    check_json(path);
    command_free(&result);
}

int main(void)
{
    command_make_folder(folder);
    CHECK(setenv("TMPDIR", folder, 1) == 0, "setenv");
    check_run("2", "--reference", "host");
    check_run("4", "--numerics", "real");
    check_run("3", "--storm", NULL);
    check_run("4", "--model", "tiny-moe");
    CHECK(rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
