/* SPDX-License-Identifier: Apache-2.0 */
/* Peers beside ours: where an MPI is installed it is measured and checked in the same run; where it is not, asking
 * for it fails before any work and says what to install. */
#include <cjson/cJSON.h>
#include <string.h>

#include "harness/check.h"
#include "harness/command.h"

static int rows_of(const cJSON *results, const char *peer)
{
    int rows = 0;
    const cJSON *row = NULL;
    cJSON_ArrayForEach(row, results)
    {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(row, "peer");
        const cJSON *wrong = cJSON_GetObjectItemCaseSensitive(row, "wrong");
        const cJSON *us = cJSON_GetObjectItemCaseSensitive(row, "us_p50");
        CHECK(cJSON_IsNumber(wrong) && wrong->valuedouble == 0, "%s: wrong results", name->valuestring);
        CHECK(cJSON_IsNumber(us) && us->valuedouble > 0, "%s: no time", name->valuestring);
        rows += strcmp(name->valuestring, peer) == 0;
    }
    return rows;
}

static void check_peer(const char *peer)
{
    const char *arguments[] = {TUTTI_TOOL, "bench",   "--op", "all",          "--dtype", "all",      "--sizes",
                               "6K",       "--peers", peer,   "--iterations", "1",       "--rounds", "1",
                               "--json",   "-",       NULL};
    struct command_result result = command_run(arguments, NULL, 120);
    if (result.code != 0) {
        CHECK(result.code == 1 && command_lines(result.error) == 1, "%s: %s", peer, result.error);
        CHECK(strstr(result.error, "apt-get install") != NULL && strstr(result.error, peer) != NULL, "%s",
              result.error);
        CHECK(result.out[0] == '\0', "%s: half a result: %.200s", peer, result.out);
        printf("%s is not installed here: only the refusal was checked\n", peer);
    } else {
        cJSON *json = cJSON_Parse(result.out);
        const cJSON *results = cJSON_GetObjectItemCaseSensitive(json, "results");
        CHECK(rows_of(results, peer) == 5 * 3 + 1 && rows_of(results, "tutti") == 5 * 3 + 1, "%.300s", result.out);
        cJSON_Delete(json);
    }
    command_free(&result);
}

int main(void)
{
    check_peer("openmpi");
    check_peer("mpich");
    return 0;
}
