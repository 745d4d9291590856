/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti run` given nonsense: one clear line, an exit code that is not 0, nothing on stdout, nothing left behind. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"

static char folder[32];

static const char *in_folder(const char *name)
{
    static char paths[4][96];
    static int next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static int folder_entries(void)
{
    DIR *directory = opendir(folder);
    CHECK(directory != NULL, "%s", folder);
    int entries = -2; /* . and .. */
    while (readdir(directory) != NULL) {
        entries++;
    }
    (void)closedir(directory);
    return entries;
}

#define REFUSED(says, ...)                                                                                             \
    do {                                                                                                               \
        const char *arguments[] = {TUTTI_TOOL, "run", __VA_ARGS__, NULL};                                              \
        check_refused(arguments, says);                                                                                \
    } while (0)

static void check_refused(const char *const *arguments, const char *says)
{
    int before = folder_entries();
    struct command_result result = command_run(arguments, NULL, 20);
    CHECK(result.code == 1 || result.code == 2, "exit code %d instead of \"%s\"", result.code, says);
    CHECK(strstr(result.error, says) != NULL, "\"%s\" does not say \"%s\"", result.error, says);
    CHECK(command_lines(result.error) == 1, "not one line: %s", result.error);
    CHECK(result.out[0] == '\0', "something on stdout: %s", result.out);
    CHECK(folder_entries() == before, "something was left in %s", folder);
    command_free(&result);
}

static void options(void)
{
    REFUSED("--ranks N is missing", "--model", "tiny");
    REFUSED("--ranks 0: must be a number from 1 to 64", "--ranks", "0");
    REFUSED("--ranks 65: must be a number from 1 to 64", "--ranks", "65");
    REFUSED("--ranks -1", "--ranks=-1");
    REFUSED("--ranks two", "--ranks", "two");
    REFUSED("'--ranks' needs a value", "--ranks");
    REFUSED("unknown option '--bogus'", "--ranks", "2", "--bogus");
    REFUSED("unexpected argument 'extra'", "--ranks", "2", "extra");
    REFUSED("unknown model 'gpt-9': choose tiny", "--ranks", "2", "--model", "gpt-9");
    REFUSED("backend 'abacus'", "--ranks", "2", "--backend", "abacus");
    REFUSED("unknown numerics 'roman'", "--ranks", "2", "--numerics", "roman");
    REFUSED("5 ranks cannot share the 24 query heads of tiny evenly", "--ranks", "5");
    REFUSED("--layers 99: tiny has", "--ranks", "2", "--layers", "99");
    REFUSED("--layers 0", "--ranks", "2", "--layers", "0");
    REFUSED("--storm needs at least 2 ranks", "--ranks", "1", "--storm");
    REFUSED("--speculate 0: must be a number from 1 to 16", "--ranks", "2", "--speculate", "0");
    REFUSED("--speculate 17", "--ranks", "2", "--speculate", "17");
    REFUSED("--draft-layers 3: the model has 2", "--ranks", "2", "--layers", "2", "--draft-layers", "3");
    REFUSED("--seed x", "--ranks", "2", "--seed", "x");
}

/* What a GPU needs is looked for before anything is printed or started. */
static void devices(void)
{
    CHECK(setenv("TUTTI_CUDA_LIBRARY", "/nonexistent/libcuda.so.1", 1) == 0, "setenv");
    REFUSED("backend 'cuda' cannot serve the model: no NVIDIA driver: /nonexistent/libcuda.so.1", "--ranks", "2",
            "--backend", "cuda");
    CHECK(unsetenv("TUTTI_CUDA_LIBRARY") == 0, "unsetenv");
    REFUSED("backend 'hip' cannot serve the model, 'host' and 'cuda' can", "--ranks", "2", "--backend", "hip");
    REFUSED("--ranks 12: at most 8 on GPUs", "--ranks", "12", "--backend", "cuda");
    REFUSED("--share-device is about GPUs", "--ranks", "2", "--share-device");
    REFUSED("--reference cuda: must be host, or the same as --backend", "--ranks", "2", "--reference", "cuda");
}

static void json_paths(void)
{
    REFUSED("No such file or directory", "--ranks", "2", "--json", "/nonexistent/folder/out.json");
    REFUSED("Is a directory", "--ranks", "2", "--json", folder);
    REFUSED("--json : No such file", "--ranks", "2", "--json", "");
}

/* A trace of these bytes is refused with this reason; a good line before and after does not help. The JSON file that
 * was asked for does not appear. */
static void trace_is_refused(const char *line, const char *says)
{
    const char *path = in_folder("trace.jsonl");
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "%s", path);
    (void)fprintf(file, "{\"prompt\": \"good\", \"output_tokens\": 2}\n%s\n{\"prompt\": \"x\", \"output_tokens\": 2}\n",
                  line);
    (void)fclose(file);
    char where[128];
    (void)snprintf(where, sizeof(where), "%s:2: ", path);
    REFUSED(where, "--ranks", "2", "--trace", path, "--json", in_folder("out.json"));
    REFUSED(says, "--ranks", "2", "--trace", path, "--json", in_folder("out.json"));
    CHECK(unlink(path) == 0, "%s", path);
}

static void traces(void)
{
    trace_is_refused("{\"prompt\": \"cut of", "not valid JSON");
    trace_is_refused("{\"prompt\": \"a\", \"output_tokens\": 2} rest", "not valid JSON");
    trace_is_refused("[1, 2]", "must be one JSON object");
    trace_is_refused("{\"output_tokens\": 2}", "neither \"prompt\" nor \"prompt_tokens\"");
    trace_is_refused("{\"prompt\": \"a\", \"prompt_tokens\": 3, \"output_tokens\": 2}", "exclude each other");
    trace_is_refused("{\"prompt\": \"a\"}", "\"output_tokens\" is missing");
    trace_is_refused("{\"prompt\": \"\", \"output_tokens\": 2}", "at least one byte");
    trace_is_refused("{\"prompt\": 7, \"output_tokens\": 2}", "\"prompt\" must be a text");
    trace_is_refused("{\"prompt\": \"a\", \"output_tokens\": 0}", "\"output_tokens\" must be a whole number from 1");
    trace_is_refused("{\"prompt\": \"a\", \"output_tokens\": 2.5}", "\"output_tokens\" must be a whole number");
    trace_is_refused("{\"prompt\": \"a\", \"output_tokens\": \"2\"}", "\"output_tokens\" must be a whole number");
    trace_is_refused("{\"prompt_tokens\": 99999999, \"output_tokens\": 2}", "\"prompt_tokens\" must be");
    trace_is_refused("{\"prompt\": \"a\", \"output_tokens\": 2, \"arrival_ms\": -1}", "\"arrival_ms\" must be");
    trace_is_refused("{\"prompt\": \"a\", \"output_tokens\": 2, \"arival_ms\": 1}", "unknown field \"arival_ms\"");
    trace_is_refused("{\"prompt\": \"a\", \"prompt\": \"b\", \"output_tokens\": 2}", "\"prompt\" is given twice");
    trace_is_refused("{\"prompt\": \"a\", \"output_tokens\": 2, \"input\": \"ears\"}", "\"input\" must be");
    trace_is_refused("{\"prompt\": \"a\", \"output_tokens\": 2, \"concurrency\": 513}", "\"concurrency\" must be");
    trace_is_refused("{\"prompt\": \"a\", \"output_tokens\": 2, \"speculate\": 17}", "\"speculate\" must be");
}

static void trace_files(void)
{
    REFUSED("No such file or directory", "--ranks", "2", "--trace", in_folder("absent.jsonl"));
    REFUSED("Is a directory", "--ranks", "2", "--trace", folder);
    const char *path = in_folder("empty.jsonl");
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "%s", path);
    (void)fputs("\n  \n", file);
    (void)fclose(file);
    REFUSED("no requests in it", "--ranks", "2", "--trace", path);
    CHECK(unlink(path) == 0, "%s", path);
    path = in_folder("zero.jsonl");
    file = fopen(path, "w");
    CHECK(file != NULL, "%s", path);
    (void)fwrite("{\"prompt\": \"a\0b\", \"output_tokens\": 2}\n", 1, 38, file);
    (void)fclose(file);
    REFUSED(":1: a zero byte in the line", "--ranks", "2", "--trace", path);
    CHECK(unlink(path) == 0, "%s", path);
}

/* Who cannot be told the results has no results. */
static void output_full(void)
{
    const char *arguments[] = {TUTTI_TOOL, "run",
                               "--ranks",  "1",
                               "--trace",  in_folder("t.jsonl"),
                               "--layers", "1",
                               "--json",   in_folder("out.json"),
                               NULL};
    FILE *file = fopen(in_folder("t.jsonl"), "w");
    CHECK(file != NULL, "t.jsonl");
    (void)fputs("{\"prompt\": \"a\", \"output_tokens\": 2}\n", file);
    (void)fclose(file);
    struct command_result result = command_run(arguments, "/dev/full", 60);
    CHECK(result.code == 1, "exit code %d", result.code);
    CHECK(strstr(result.error, "standard output") != NULL && command_lines(result.error) == 1, "%s", result.error);
    CHECK(unlink(in_folder("t.jsonl")) == 0, "t.jsonl");
    command_free(&result);
}

int main(void)
{
    command_make_folder(folder);
    CHECK(setenv("TMPDIR", folder, 1) == 0, "setenv"); /* where a run would leave something, if it did */
    options();
    devices();
    json_paths();
    traces();
    trace_files();
    output_full();
    CHECK(rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
