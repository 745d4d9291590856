/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti info`: its JSON, its settings, and that it does not answer 0 when it failed. */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <string.h>

#include "harness/check.h"
#include "harness/command.h"
#include "tutti/tutti.h"

static struct command_result info(const char *first, const char *second)
{
    const char *arguments[] = {TUTTI_TOOL, "info", first, second, NULL};
    return command_run(arguments, NULL, 20);
}

static const cJSON *item(const cJSON *object, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, name);
    CHECK(found != NULL, "no '%s'", name);
    return found;
}

static void check_settings(const cJSON *settings)
{
    tutti_setting_t setting;
    int count = 0;
    for (;; count++) {
        memset(&setting, 0, sizeof(setting));
        setting.struct_bytes = sizeof(setting);
        if (tutti_setting((size_t)count, &setting) != TUTTI_OK) {
            break;
        }
        const cJSON *row = cJSON_GetArrayItem(settings, count);
        CHECK(strcmp(item(row, "name")->valuestring, setting.name) == 0, "%s", setting.name);
        CHECK(strcmp(item(row, "default")->valuestring, setting.default_value) == 0, "%s", setting.name);
        CHECK(cJSON_IsTrue(item(row, "agreed")) == setting.agreed, "%s", setting.name);
        CHECK(item(row, "description")->valuestring[0] != '\0', "%s", setting.name);
        bool given = strcmp(setting.name, "TUTTI_TIMEOUT_MS") == 0;
        CHECK(cJSON_IsTrue(item(row, "from_environment")) == given, "%s", setting.name);
        if (given) {
            CHECK(strcmp(item(row, "value")->valuestring, "12345") == 0, "%s", item(row, "value")->valuestring);
        }
    }
    CHECK(count > 0 && cJSON_GetArraySize(settings) == count, "%d settings", cJSON_GetArraySize(settings));
}

static void check_json(void)
{
    struct command_result result = info("--json", NULL);
    cJSON *json = cJSON_Parse(result.out);
    CHECK(result.code == 0 && json != NULL, "exit code %d: %s%.200s", result.code, result.error, result.out);
    CHECK(strcmp(item(json, "version")->valuestring, tutti_version()) == 0, "version");
    CHECK(item(item(json, "machine"), "cores")->valueint >= 1, "cores");
    CHECK(cJSON_IsArray(item(item(json, "machine"), "features")), "features");
    bool host = false;
    const cJSON *backend = NULL;
    cJSON_ArrayForEach(backend, item(json, "backends"))
    {
        bool usable = cJSON_IsTrue(item(backend, "usable"));
        CHECK(item(backend, usable ? "description" : "reason")->valuestring[0] != '\0', "a backend says nothing");
        host = host || (usable && strcmp(item(backend, "name")->valuestring, "host") == 0);
    }
    CHECK(host, "no usable host backend");
    CHECK(item(item(json, "taken"), "timeout_ms")->valueint == 12345, "the setting is not in force");
    bool library = false;
    const cJSON *path = NULL;
    cJSON_ArrayForEach(path, item(json, "libraries"))
    {
        library = library || strstr(path->valuestring, "libtutti.so") != NULL;
    }
    CHECK(library, "it does not say where libtutti.so came from");
    check_settings(item(json, "settings"));
    cJSON_Delete(json);
    command_free(&result);
}

static void check_refusal(const char *first, const char *second, const char *says)
{
    struct command_result result = info(first, second);
    CHECK(result.code == 2 && result.out[0] == '\0', "%s: exit code %d", first, result.code);
    CHECK(strstr(result.error, says) != NULL && command_lines(result.error) == 1, "%s: %s", first, result.error);
    command_free(&result);
}

static void check_text(void)
{
    struct command_result result = info("--settings", NULL);
    CHECK(result.code == 0 && strstr(result.out, "TUTTI_TIMEOUT_MS") != NULL, "%s", result.error);
    CHECK(strstr(result.out, "12345") != NULL && strstr(result.out, "[set here]") != NULL, "%s", result.out);
    CHECK(strstr(result.out, tutti_version()) != NULL && strstr(result.out, "host") != NULL, "%s", result.out);
    command_free(&result);

    /* A document: what this machine or environment has does not show. */
    struct command_result page = info("--settings", "--markdown");
    CHECK(page.code == 0 && strstr(page.out, "| `TUTTI_TIMEOUT_MS` |") != NULL, "%s", page.error);
    CHECK(strstr(page.out, "12345") == NULL, "the environment is in the document");
    command_free(&page);
}

int main(void)
{
    CHECK(setenv("TUTTI_TIMEOUT_MS", "12345", 1) == 0, "setenv");
    check_json();
    check_text();
    check_refusal("--bogus", NULL, "unknown option '--bogus'");
    check_refusal("extra", NULL, "unexpected argument 'extra'");
    check_refusal("--markdown", NULL, "--markdown goes with --settings");

    const char *arguments[] = {TUTTI_TOOL, "info", "--json", NULL};
    struct command_result result = command_run(arguments, "/dev/full", 20);
    CHECK(result.code == 1 && strstr(result.error, "could not be written") != NULL, "exit code %d: %s", result.code,
          result.error);
    command_free(&result);

    CHECK(setenv("TUTTI_BACKEND", "abacus", 1) == 0, "setenv");
    result = info(NULL, NULL);
    CHECK(result.code == 1 && strstr(result.error, "abacus") != NULL, "exit code %d: %s", result.code, result.error);
    command_free(&result);
    return 0;
}
