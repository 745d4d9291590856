/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `tutti bench --backend cuda` on simulated devices, beside the simulated NCCL: every operation and type, eager and from graphs,
 * all results right, and the rows of all competitors in the files; what it refuses; and an NCCL that is missing or breaks.
 */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/command.h"

#define ARGUMENTS_MAX 32
#define SECONDS 200

static struct command_result bench(const char *const *more)
{
    const char *arguments[ARGUMENTS_MAX] = {TUTTI_TOOL, "bench",    "--backend", "cuda",         "--calls",
                                            "3",        "--rounds", "1",         "--iterations", "6"};
    size_t used = 10;
    for (size_t i = 0; more[i] != NULL; i++) {
        arguments[used++] = more[i];
    }
    arguments[used] = NULL;
    return command_run(arguments, NULL, SECONDS);
}

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

/* How many rows the competitor has; each is right and whole. */
static int rows_of(const cJSON *results, const char *peer, bool graph)
{
    int rows = 0;
    const cJSON *row = NULL;
    cJSON_ArrayForEach(row, results)
    {
        if (strcmp(text(row, "peer"), peer) != 0) {
            continue;
        }
        rows++;
        bool barrier = strcmp(text(row, "op"), "barrier") == 0;
        CHECK(number(row, "wrong") == 0 && (barrier || number(row, "checked") > 0), "%s, %s: %g of %g wrong", peer,
              text(row, "op"), number(row, "wrong"), number(row, "checked"));
        CHECK(number(row, "us_p50") > 0 && number(row, "us_p99") >= number(row, "us_p50"), "%s: no time", peer);
        CHECK(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "graph")) == graph, "%s: graph", peer);
        CHECK(number(row, "samples") >= 2 && number(row, "ranks") == 2, "%s: samples", peer);
        CHECK(text(row, "dtype")[0] != 0 && number(row, "bytes") >= 0, "%s: size", peer);
    }
    return rows;
}

static void check_all(bool graph)
{
    const char *arguments[] = {"--op",
                               "all",
                               "--dtype",
                               "all",
                               "--sizes",
                               "12,3K",
                               "--peers",
                               "nccl,nccl-symmetric",
                               "--json",
                               "-",
                               "--ranks",
                               "2",
                               graph ? "--graph" : NULL,
                               NULL};
    struct command_result result = bench(arguments);
    CHECK(result.code == 0 && result.error[0] == 0, "%s", result.error);
    cJSON *json = cJSON_Parse(result.out);
    CHECK(json != NULL, "no JSON: %.200s", result.out);
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(json, "results");
    CHECK(strcmp(text(json, "backend"), "cuda") == 0, "backend");
    static const char *const peers[] = {"tutti", "nccl", "nccl-symmetric"};
    for (size_t i = 0; i < 3; i++) {
        int rows = rows_of(results, peers[i], graph);
        CHECK(rows == 5 * 3 * 2 + 1, "%s has %d rows", peers[i], rows);
    }
    cJSON_Delete(json);
    command_free(&result);
}

static void check_csv(void)
{
    const char *arguments[] = {"--dtype", "bf16", "--sizes", "1K,2K", "--peers", "nccl", "--graph", "--csv", "-", NULL};
    struct command_result result = bench(arguments);
    CHECK(result.code == 0 && command_lines(result.out) == 1 + 2 * 2, "%s%s", result.error, result.out);
    CHECK(strncmp(result.out, "op,dtype,bytes,ranks,peer,graph,us_p50,us_p99,wrong", 50) == 0, "%s", result.out);
    CHECK(strstr(result.out, "\nall_reduce,bf16,2048,2,nccl,1,") != NULL, "%s", result.out);
    command_free(&result);
}

static void check_table(void)
{
    const char *arguments[] = {"--dtype", "bf16", "--sizes", "1K", "--peers", "nccl-symmetric", NULL};
    struct command_result result = bench(arguments);
    CHECK(result.code == 0, "%s", result.error);
    CHECK(strstr(result.out, "Simulated NVIDIA GPU") != NULL && strstr(result.out, "called eagerly") != NULL, "%s",
          result.out);
    CHECK(strstr(result.out, "buffers in symmetric windows") != NULL, "%s", result.out);
    command_free(&result);
}

/* Ours is measured all the same, the peer's column says why it is not, and so does the exit code. */
static void check_lost(const char *variable, const char *value, const char *says)
{
    const char *arguments[] = {"--dtype", "bf16", "--sizes", "1K,2K", "--peers", "nccl", "--json", "-", NULL};
    const char *former = getenv(variable);
    char *kept = former != NULL ? strdup(former) : NULL;
    CHECK(setenv(variable, value, 1) == 0, "setenv");
    struct command_result result = bench(arguments);
    CHECK(result.code == 1 && command_lines(result.error) == 1, "exit code %d: %s", result.code, result.error);
    CHECK(strstr(result.error, says) != NULL, "no '%s' in: %s", says, result.error);
    cJSON *json = cJSON_Parse(result.out);
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(json, "results");
    CHECK(rows_of(results, "tutti", false) == 2 && rows_of(results, "nccl", false) == 0, "%s", result.out);
    const cJSON *nccl = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, "competitors"), 1);
    CHECK(strstr(text(nccl, "error"), says) != NULL, "%s", text(nccl, "error"));
    cJSON_Delete(json);
    command_free(&result);
    CHECK((kept != NULL ? setenv(variable, kept, 1) : unsetenv(variable)) == 0, "setenv");
    free(kept);
}

static const struct refusal {
    const char *arguments[6];
    int code;
    const char *says;
} refusals[] = {
    {{"--peers", "openmpi"}, 2, "--peers: openmpi is measured in the host's memory: it needs --backend host, not cuda"},
    {{"--backend", "host"}, 2, "--calls: on the host there are no runs"},
    {{"--backend", "hip", "--peers", "nccl"}, 2, "--peers: nccl runs on NVIDIA GPUs: it needs --backend cuda, not hip"},
    {{"--threads"}, 2, "--threads: on GPUs each rank is a process"},
    {{"--ranks", "9"}, 1, "--ranks: 9 ranks want a device each, and there are 8"},
    {{"--calls", "0"}, 2, "--calls: '0'"},
};

static void check_refusal(const struct refusal *refusal)
{
    struct command_result result = bench(refusal->arguments);
    CHECK(result.code == refusal->code && result.out[0] == 0 && command_lines(result.error) == 1,
          "%s: exit code %d: %s", refusal->says, result.code, result.error);
    CHECK(strstr(result.error, refusal->says) != NULL, "no '%s' in: %s", refusal->says, result.error);
    command_free(&result);
}

static void check_no_driver(void)
{
    const char *arguments[] = {"--sizes", "1K", NULL};
    CHECK(setenv("TUTTI_CUDA_LIBRARY", "/nowhere/libcuda.so.1", 1) == 0, "setenv");
    struct command_result result = bench(arguments);
    CHECK(result.code == 1 && command_lines(result.error) == 1 && result.out[0] == 0, "%s", result.error);
    CHECK(strstr(result.error, "backend cuda cannot be used here: ") != NULL, "%s", result.error);
    command_free(&result);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        check_refusal(&refusals[i]);
    }
    check_all(true);
    check_all(false);
    check_csv();
    check_table();
    check_lost("TUTTI_NCCL_LIBRARY", "/nowhere/libnccl.so.2", "no NCCL: ");
    check_lost("SIMNCCL_FAULTS", "ncclGetUniqueId=2", "ncclGetUniqueId: unhandled system error");
    check_lost("SIMNCCL_FAULTS", "ncclAllReduce=2", "ncclAllReduce: unhandled system error");
    check_no_driver();
    return 0;
}
