/* SPDX-License-Identifier: Apache-2.0 */
/* What `tutti bench` refuses: one clear line, an exit code that is not 0, and nothing left behind. */
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"

#define ARGUMENTS_MAX 8

static const struct refusal {
    const char *arguments[ARGUMENTS_MAX];
    int code;
    const char *says;
} refusals[] = {
    {{"--ranks", "0"}, 2, "--ranks: '0'"},
    {{"--ranks", "65"}, 2, "--ranks: '65'"},
    {{"--ranks", "two"}, 2, "--ranks: 'two'"},
    {{"--ranks", "-1"}, 2, "--ranks: '-1'"},
    {{"--ranks"}, 2, "--ranks needs a value"},
    {{"--op", "sum"}, 2, "unknown operation 'sum'"},
    {{"--op", "all_reduce,"}, 2, "unknown operation ''"},
    {{"--dtype", "f64"}, 2, "unknown type 'f64'"},
    {{"--sizes", "1Q"}, 2, "'1Q'"},
    {{"--sizes", ""}, 2, "''"},
    {{"--sizes", "0"}, 2, "'0'"},
    {{"--sizes", "16K:1K"}, 2, "'16K:1K'"},
    {{"--sizes", "1K:2K:x1"}, 2, "'1K:2K:x1'"},
    {{"--sizes", "1K:2K:4"}, 2, "'1K:2K:4'"},
    {{"--sizes", "18446744073709551616"}, 2, "'18446744073709551616'"},
    {{"--sizes", "1022"}, 2, "whole number of f32"},
    {{"--dtype", "bf16", "--sizes", "1K,1023"}, 2, "whole number of bf16"},
    {{"--sizes", "64G"}, 1, "GiB of buffers"},
    {{"--peers", "nccl"}, 2, "it needs --backend cuda"},
    {{"--peers", "openmpi,nccl-symmetric"}, 2, "it needs --backend cuda"},
    {{"--calls", "3"}, 2, "it needs --backend cuda"},
    {{"--peers", "lam"}, 2, "unknown peer 'lam'"},
    {{"--backend", "abacus"}, 1, "no backend 'abacus'"},
    {{"--seconds", "0"}, 2, "--seconds: '0'"},
    {{"--seconds", "nan"}, 2, "--seconds: 'nan'"},
    {{"--iterations", "1.5"}, 2, "--iterations: '1.5'"},
    {{"--rounds", "100"}, 2, "--rounds: '100'"},
    {{"--json", "/nonexistent/results.json"}, 1, "/nonexistent/results.json: No such file"},
    {{"--csv", "/tmp"}, 1, "/tmp: Is a directory"},
    {{"--json", "-", "--csv", "-"}, 2, "the same file"},
    {{"--bogus"}, 2, "unknown option '--bogus'"},
    {{"extra"}, 2, "unexpected argument 'extra'"},
};

static void check_refusal(const struct refusal *refusal, const char *json)
{
    const char *arguments[ARGUMENTS_MAX + 6] = {TUTTI_TOOL, "bench"};
    size_t used = 2;
    if (strcmp(refusal->arguments[0], "--json") != 0) { /* a result that must not appear */
        arguments[used++] = "--json";
        arguments[used++] = json;
    }
    for (size_t i = 0; i < ARGUMENTS_MAX && refusal->arguments[i] != NULL; i++) {
        arguments[used++] = refusal->arguments[i];
    }
    struct command_result result = command_run(arguments, NULL, 20);
    const char *what = refusal->arguments[0];
    CHECK(result.code == refusal->code, "%s (%s): exit code %d: %s", what, refusal->says, result.code, result.error);
    CHECK(strstr(result.error, refusal->says) != NULL, "%s: no '%s' in: %s", what, refusal->says, result.error);
    CHECK(command_lines(result.error) == 1, "%s: not one line: %s", what, result.error);
    CHECK(result.out[0] == '\0', "%s: printed: %s", what, result.out);
    CHECK(access(json, F_OK) != 0, "%s: left %s", what, json);
    command_free(&result);
}

/* The work was done, but its results went nowhere: not a success. */
static void check_lost_output(const char *json, const char *out_path, const char *says)
{
    const char *arguments[] = {TUTTI_TOOL, "bench",  "--sizes", "1K", "--iterations", "1", "--rounds",
                               "1",        "--json", json,      NULL};
    struct command_result result = command_run(arguments, out_path, 60);
    CHECK(result.code == 1, "exit code %d: %s", result.code, result.error);
    CHECK(strstr(result.error, says) != NULL, "%s", result.error);
    CHECK(command_lines(result.error) == 1, "%s", result.error);
    command_free(&result);
}

int main(void)
{
    char folder[32];
    char json[64];
    command_make_folder(folder);
    (void)snprintf(json, sizeof(json), "%s/results.json", folder);
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        check_refusal(&refusals[i], json);
    }
    check_lost_output("/dev/full", NULL, "cannot write /dev/full: No space left");
    check_lost_output(json, "/dev/full",
                      "standard output could not be written"); /* the table is lost, the file is whole */
    CHECK(unlink(json) == 0, "%s was not written", json);

    const char *help[] = {TUTTI_TOOL, "bench", "--help", NULL};
    struct command_result result = command_run(help, NULL, 20);
    CHECK(result.code == 0 && strstr(result.out, "--sizes") != NULL && result.error[0] == '\0', "%s", result.error);
    command_free(&result);
    result = command_run(help, "/dev/full", 20);
    CHECK(result.code == 1, "help to a full device: exit code %d", result.code);
    command_free(&result);
    CHECK(rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
