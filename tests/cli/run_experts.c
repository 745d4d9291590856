/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti run` of a mixture of experts: any number of ranks plays the same tokens, also with garbage in the padding. */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"
#include "harness/effort.h"
#include "harness/ranks.h"

static char folder[32];
static char trace[64];

/* Several requests at once, whose number is seldom a bucket's size, and a prompt in chunks. */
static void write_trace(void)
{
    (void)snprintf(trace, sizeof(trace), "%s/trace.jsonl", folder);
    FILE *file = fopen(trace, "w");
    CHECK(file != NULL, "%s", trace);
    (void)fputs("{\"prompt\": \"Who plays the second violin?\", \"output_tokens\": 9}\n"
                "{\"prompt\": \"The viola.\", \"output_tokens\": 14}\n"
                "{\"prompt_tokens\": 3, \"output_tokens\": 6, \"arrival_ms\": 20}\n"
                "{\"prompt\": \"a\", \"output_tokens\": 11, \"arrival_ms\": 5}\n"
                "{\"prompt\": \"Embeddings\", \"output_tokens\": 7, \"input\": \"embeddings\"}\n"
                "{\"workload\": \"chunks\", \"prompt_tokens\": 50, \"output_tokens\": 3, \"chunk_tokens\": 16}\n",
                file);
    (void)fclose(file);
}

/* What the command printed of the tokens: the lines below "What they played". */
static char *played(const char *out)
{
    const char *from = strstr(out, "What they played");
    const char *to = from != NULL ? strstr(from, "  yes ") : NULL;
    CHECK(from != NULL && to != NULL, "%s", out);
    char *copy = strndup(from, (size_t)(to - from));
    CHECK(copy != NULL, "strndup");
    return copy;
}

static char *run(const char *ranks, const char *numerics, const char *layers, const char *more, const char *value)
{
    const char *arguments[] = {TUTTI_TOOL, "run",  "--model",    "tiny-moe", "--ranks", ranks, "--trace", trace,
                               "--layers", layers, "--numerics", numerics,   more,      value, NULL};
    struct command_result result = command_run(arguments, NULL, 240);
    CHECK(result.code == 0, "%s ranks, %s: exit code %d: %s%s", ranks, numerics, result.code, result.error, result.out);
    CHECK(strstr(result.out, "experts   32 in each layer, 4 of them for a token") != NULL, "%s", result.out);
    CHECK(strstr(result.out, "NO ") == NULL && strstr(result.out, "BAD") == NULL, "%s", result.out);
    char *tokens = played(result.out);
    command_free(&result);
    return tokens;
}

static void any_world(void)
{
    static const char *const ranks[] = {"1", "2", "3", "4", "6"};
    char *first = run("1", "exact", "3", NULL, NULL);
    size_t step = effort() == EFFORT_QUICK ? 2 : 1;
    for (size_t i = 1; i < sizeof(ranks) / sizeof(ranks[0]); i += step) {
        char *tokens = run(ranks[i], "exact", "3", NULL, NULL);
        CHECK(strcmp(first, tokens) == 0, "%s ranks play\n%sinstead of\n%s", ranks[i], tokens, first);
        free(tokens);
    }
    free(first);
    free(run("24", "exact", "1", NULL, NULL)); /* two ranks share each key-value head */
}

int main(void)
{
    char number[32];
    command_make_folder(folder);
    CHECK(setenv("TMPDIR", folder, 1) == 0, "setenv");
    (void)snprintf(number, sizeof(number), "--seed=%llu", (unsigned long long)(ranks_seed() % 1000000007u));
    write_trace();
    any_world();
    if (effort() != EFFORT_QUICK) {
        free(run("2", "real", "4", NULL, NULL));
    }
    free(run("3", "real", "3", NULL, NULL)); /* the reference's experts, too, are what ranks go on with */
    free(run("3", "exact", "2", "--storm", number));
    CHECK(unlink(trace) == 0 && rmdir(folder) == 0, "something was left in %s", folder);
    return 0;
}
