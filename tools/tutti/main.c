/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the command `tutti`: finds the verb and hands over to it. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "tutti/tutti.h"

/* Weak: a build that leaves a verb out says so when it is asked for, instead of failing to link. */
#pragma weak bench_main
#pragma weak info_main

static const struct verb {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *summary;
} verbs[] = {
    {"run", run_main,
     "serve a request trace with a tensor-parallel model, eagerly and from captured graphs, and compare"},
    {"bench", bench_main, "time collectives, beside Open MPI and MPICH where installed"},
    {"info", info_main, "version, backends and why one is unusable, CPU features, settings"},
};

static void print_help(FILE *stream)
{
    fprintf(stream,
            "tutti %s - tensor-parallel collectives that a captured graph cannot break\n\n"
            "usage: tutti VERB [OPTION]...\n\n",
            tutti_version());
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        fprintf(stream, "  %-6s  %s\n", verbs[i].name, verbs[i].summary);
    }
    fprintf(stream, "\n`tutti VERB --help` lists a verb's options. Try: tutti run --ranks 4 --storm\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "tutti: a verb is missing: run, bench or info (tutti --help says more)\n");
        return EXIT_CODE_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return EXIT_CODE_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("tutti %s\n", tutti_version());
        return EXIT_CODE_OK;
    }
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(argv[1], verbs[i].name) == 0 && verbs[i].main == NULL) {
            fprintf(stderr, "tutti: this build has no '%s'\n", argv[1]);
            return EXIT_CODE_USAGE;
        }
        if (strcmp(argv[1], verbs[i].name) == 0) {
            return verbs[i].main(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "tutti: unknown verb '%s': choose run, bench or info (tutti --help says more)\n", argv[1]);
    return EXIT_CODE_USAGE;
}
