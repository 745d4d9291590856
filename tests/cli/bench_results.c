/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti bench` on every operation and type, eager and from graphs, ranks as processes and as threads: all results
 * are right, and the files hold what API promises to other programs. */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"
#include "harness/effort.h"

/* One element a rank or less, a small message and a chunked one; sanitizers do without the last. */
#define SIZES (effort() == EFFORT_QUICK ? "12,4K" : "12,4K,1M")
#define ROWS (5 * 3 * (effort() == EFFORT_QUICK ? 2 : 3) + 1)

static const struct variant {
    const char *ranks;
    const char *graph, *threads; /* the option, or NULL */
} variants[] = {
    {"1", NULL, NULL},
    {"2", NULL, NULL},
    {"3", NULL, NULL},
    {"2", "--graph", NULL},
    {"3", "--graph", NULL},
    {"2", NULL, "--threads"},
    {"3", "--graph", "--threads"},
};

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    CHECK(cJSON_IsNumber(item), "no number '%s'", name);
    return item->valuedouble;
}

static const char *text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    CHECK(cJSON_IsString(item), "no text '%s'", name);
    return item->valuestring;
}

static void check_row(const cJSON *row, const struct variant *variant)
{
    const char *op = text(row, "op");
    bool barrier = strcmp(op, "barrier") == 0;
    const cJSON *graph = cJSON_GetObjectItemCaseSensitive(row, "graph");
    CHECK(strcmp(text(row, "peer"), "tutti") == 0, "%s", text(row, "peer"));
    CHECK(cJSON_IsBool(graph) && cJSON_IsTrue(graph) == (variant->graph != NULL), "%s", op);
    CHECK(number(row, "ranks") == strtod(variant->ranks, NULL), "%s", op);
    CHECK(number(row, "wrong") == 0, "%s %s of %g bytes: %g elements wrong", op, text(row, "dtype"),
          number(row, "bytes"), number(row, "wrong"));
    CHECK(number(row, "us_p50") > 0 && number(row, "us_p99") >= number(row, "us_p50"), "%s", op);
    CHECK(number(row, "us_alone_p50") > 0 && number(row, "samples") > 0, "%s", op);
    if (barrier) {
        CHECK(number(row, "bytes") == 0 && number(row, "checked") == 0, "a barrier moves nothing");
        return;
    }
    CHECK(number(row, "bytes") > 0 && number(row, "payload_bytes") >= number(row, "bytes"), "%s", op);
    /* Every call leaves at least one element in every rank. */
    CHECK(number(row, "checked") >= number(row, "samples"), "%s: %g checked", op, number(row, "checked"));
    CHECK(number(row, "bytes_per_second") > 0, "%s", op);
}

static void check_json(const char *source, const struct variant *variant)
{
    cJSON *json = cJSON_Parse(source);
    CHECK(json != NULL, "no JSON: %.200s", source);
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(json, "results");
    CHECK(cJSON_GetArraySize(results) == ROWS, "%d rows", cJSON_GetArraySize(results));
    const cJSON *row = NULL;
    cJSON_ArrayForEach(row, results)
    {
        check_row(row, variant);
    }
    CHECK(text(json, "version")[0] != '\0', "no version");
    CHECK(strcmp(text(json, "ranks_are"), variant->threads != NULL ? "threads" : "processes") == 0, "ranks_are");
    CHECK(number(cJSON_GetObjectItemCaseSensitive(json, "machine"), "cores") >= 1, "no cores");
    cJSON_Delete(json);
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    CHECK(file != NULL, "%s", path);
    char *source = calloc(1, 1 << 20);
    CHECK(source != NULL && fread(source, 1, (1 << 20) - 1, file) > 0, "%s is empty", path);
    (void)fclose(file);
    return source;
}

static void check_variant(const struct variant *variant, const char *json, const char *csv)
{
    const char *arguments[24] = {TUTTI_TOOL,     "bench", "--op",     "all", "--dtype", "all",
                                 "--sizes",      SIZES,   "--json",   json,  "--csv",   csv,
                                 "--iterations", "1",     "--rounds", "1",   "--ranks", variant->ranks};
    size_t used = 18;
    if (variant->graph != NULL) {
        arguments[used++] = variant->graph;
    }
    if (variant->threads != NULL) {
        arguments[used++] = variant->threads;
    }
    struct command_result result = command_run(arguments, NULL, 120);
    CHECK(result.code == 0, "%s ranks: exit code %d: %s", variant->ranks, result.code, result.error);
    CHECK(result.error[0] == '\0', "%s", result.error);
    CHECK(strstr(result.out, "all_reduce, bf16") != NULL && strstr(result.out, "us p50") != NULL, "%s", result.out);
    char *source = read_file(json);
    check_json(source, variant);
    free(source);
    source = read_file(csv);
    CHECK(command_lines(source) == ROWS + 1, "%d lines", command_lines(source));
    CHECK(strncmp(source, "op,dtype,bytes,ranks,peer,graph,us_p50,us_p99,wrong", 51) == 0, "%.80s", source);
    free(source);
    command_free(&result);
}

int main(void)
{
    char folder[32];
    char json[64];
    char csv[64];
    command_make_folder(folder);
    (void)snprintf(json, sizeof(json), "%s/results.json", folder);
    (void)snprintf(csv, sizeof(csv), "%s/results.csv", folder);
    size_t step = effort() == EFFORT_QUICK ? 3 : 1; /* one rank, processes with graphs, threads with graphs */
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i += step) {
        check_variant(&variants[i], json, csv); /* from the second on, the files are replaced */
    }

    /* "-" is standard output, and then nothing else is on it. */
    const char *plain[] = {TUTTI_TOOL, "bench", "--sizes", "1K:4K:x4", "--iterations", "1", "--json", "-", NULL};
    struct command_result result = command_run(plain, NULL, 60);
    cJSON *parsed = cJSON_Parse(result.out);
    CHECK(result.code == 0 && parsed != NULL, "exit code %d, %.200s", result.code, result.out);
    CHECK(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(parsed, "results")) == 2, "1K and 4K");
    cJSON_Delete(parsed);
    command_free(&result);
    CHECK(unlink(json) == 0 && unlink(csv) == 0 && rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
