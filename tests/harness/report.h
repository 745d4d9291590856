/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - what `tutti run --json` has written, for tests that look into it; with cJSON. */
#ifndef TESTS_HARNESS_REPORT_H
#define TESTS_HARNESS_REPORT_H

#include <cjson/cJSON.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"

static inline const cJSON *report_item(const cJSON *object, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, name);
    CHECK(found != NULL, "no '%s'", name);
    return found;
}

/* Of a run whose tokens were verified. Removes the file; the caller deletes what it gets. */
static inline cJSON *report_take(const char *path)
{
    static char text[131072];
    memset(text, 0, sizeof(text));
    FILE *file = fopen(path, "r");
    CHECK(file != NULL && fread(text, 1, sizeof(text) - 1, file) > 0, "%s was not written", path);
    (void)fclose(file);
    CHECK(unlink(path) == 0, "%s", path);
    cJSON *report = cJSON_Parse(text);
    CHECK(report != NULL && cJSON_IsTrue(report_item(report, "verified")), "%s", text);
    return report;
}

/* The storm of this name went well, and one of its entries says so with this in its sentence. */
static inline void report_check_storm(const cJSON *report, const char *name, const char *says)
{
    const cJSON *entry = NULL;
    cJSON_ArrayForEach(entry, report_item(report, "storm"))
    {
        const char *sentence = report_item(entry, "sentence")->valuestring;
        if (strcmp(report_item(entry, "name")->valuestring, name) == 0) {
            CHECK(cJSON_IsTrue(report_item(entry, "ok")), "%s: %s", name, sentence);
            CHECK(strstr(sentence, says) != NULL, "%s: \"%s\" lacks \"%s\"", name, sentence, says);
            return;
        }
    }
    CHECK(0, "no storm is called '%s'", name);
}

#endif
