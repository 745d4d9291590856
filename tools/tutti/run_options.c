/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "compute.h"
#include "run.h"

/* tutti_comm_options.world */
#define GPU_RANKS_MAX 8

static const char help[] =
    "usage: tutti run --ranks N [OPTION]...\n"
    "\n"
    "Serves a request trace with a tensor-parallel transformer: on one rank, then on N ranks eagerly, with decode "
    "steps\n"
    "replayed as whole graphs, and with prefill steps replayed in pieces as well. Compares every token.\n"
    "\n"
    "  --ranks N               how many ranks share the model, 1 to 64\n"
    "  --backend NAME          host (default) or cuda: NVIDIA GPUs, rank r on device r\n"
    "  --share-device          ranks may share a GPU, if there are fewer than ranks; they take them in turn\n"
    "  --reference NAME        the backend of the one-rank run; as --backend. With host, exact numerics prove that a\n"
    "                          GPU computes the host's bits\n"
    "  --model NAME            tiny (default), llama-160m, llama-3-8b, qwen3-8b; tiny-moe and qwen3-30b-a3b are "
    "mixtures\n"
    "                          of experts: the shapes; weights are made up\n"
    "  --layers L              only the first L layers\n"
    "  --trace FILE            JSON lines {\"prompt\" | \"prompt_tokens\", \"output_tokens\", \"arrival_ms\"}\n"
    "  --numerics exact|real   exact (default): same bits for any rank count, proved; real: bf16 collectives,\n"
    "                          teacher-forced (tokens, and a mixture's experts), within a stated bound\n"
    "  --lazy                  graphs are captured when a step first needs them, while serving, not all at the start\n"
    "  --speculate K           once more, with a draft model that proposes K tokens for each sequence in a step; 1 to "
    "16\n"
    "  --draft-layers D        the draft is the model's first D layers; half of them. Made-up weights leave a draft "
    "little to\n"
    "                          guess by: how much it is right says nothing about real ones\n"
    "  --storm                 then let things go wrong on purpose, and show what a user sees\n"
    "  --seed S                of the storm; printed, so that a storm can be repeated\n"
    "  --json FILE             the results, written when everything is done\n"
    "\n"
    "TUTTI_CUBLAS_LIBRARY names the libcublas.so that multiplies matrices on cuda, if the dynamic linker does not find "
    "it.\n"
    "Exit code: 0 all checks held, 1 one did not or something failed, 2 a mistake on the command line.\n";

static const struct option long_options[] = {
    {"ranks", required_argument, NULL, 'r'},
    {"backend", required_argument, NULL, 'b'},
    {"share-device", no_argument, NULL, 'd'},
    {"reference", required_argument, NULL, 'R'},
    {"model", required_argument, NULL, 'm'},
    {"layers", required_argument, NULL, 'l'},
    {"trace", required_argument, NULL, 't'},
    {"numerics", required_argument, NULL, 'n'},
    {"lazy", no_argument, NULL, 'L'},
    {"speculate", required_argument, NULL, 'k'},
    {"draft-layers", required_argument, NULL, 'D'},
    {"storm", no_argument, NULL, 's'},
    {"seed", required_argument, NULL, 'S'},
    {"json", required_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

#define REFUSE(...)                                                                                                    \
    do {                                                                                                               \
        fprintf(stderr, "tutti run: " __VA_ARGS__);                                                                    \
        fputc('\n', stderr);                                                                                           \
        return EXIT_CODE_USAGE;                                                                                        \
    } while (0)

static bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *value)
{
    char *end = NULL;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] < '0' || text[0] > '9' || parsed < low || parsed > high) {
        return false;
    }
    *value = parsed;
    return true;
}

/* A whole number; "--name VALUE: must be ...". */
static int take_count(const char *name, const char *value, int high, int *count)
{
    uint64_t number = 0;
    if (!parse_number(value, 1, (uint64_t)high, &number)) {
        if (high == INT_MAX) {
            REFUSE("--%s %s: must be a number from 1", name, value);
        }
        REFUSE("--%s %s: must be a number from 1 to %d", name, value, high);
    }
    *count = (int)number;
    return EXIT_CODE_OK;
}

static int take_option(int letter, const char *value, struct run_options *options)
{
    switch (letter) {
    case 'r':
        return take_count("ranks", value, TUTTI_WORLD_MAX, &options->ranks);
    case 'l':
        return take_count("layers", value, INT_MAX, &options->layers);
    case 'k':
        return take_count("speculate", value, TRACE_SPECULATE_MAX, &options->speculate);
    case 'D':
        return take_count("draft-layers", value, INT_MAX, &options->draft_layers);
    case 'S':
        if (!parse_number(value, 0, UINT64_MAX, &options->seed)) {
            REFUSE("--seed %s: must be a number", value);
        }
        return EXIT_CODE_OK;
    case 'n':
        if (strcmp(value, "exact") != 0 && strcmp(value, "real") != 0) {
            REFUSE("unknown numerics '%s': choose exact or real", value);
        }
        options->numerics = strcmp(value, "exact") == 0 ? NUMERICS_EXACT : NUMERICS_REAL;
        return EXIT_CODE_OK;
    case 'b':
        options->backend = value;
        return EXIT_CODE_OK;
    case 'R':
        options->reference = value;
        return EXIT_CODE_OK;
    case 'd':
        options->share_device = true;
        return EXIT_CODE_OK;
    case 'L':
        options->lazy = true;
        return EXIT_CODE_OK;
    case 'm':
        options->model = value;
        return EXIT_CODE_OK;
    case 't':
        options->trace = value;
        return EXIT_CODE_OK;
    case 'j':
        options->json = value;
        return EXIT_CODE_OK;
    default:
        options->storm = true;
        return EXIT_CODE_OK;
    }
}

static int check_backends(const struct run_options *options)
{
    if (!compute_knows(options->backend)) {
        REFUSE("backend '%s' cannot serve the model, 'host' and 'cuda' can (tutti info lists the backends)",
               options->backend);
    }
    if (strcmp(options->reference, options->backend) != 0 && strcmp(options->reference, "host") != 0) {
        REFUSE("--reference %s: must be host, or the same as --backend", options->reference);
    }
    bool gpu = strcmp(options->backend, "host") != 0;
    if (gpu && options->ranks > GPU_RANKS_MAX) {
        REFUSE("--ranks %d: at most %d on GPUs", options->ranks, GPU_RANKS_MAX);
    }
    if (!gpu && options->share_device) {
        REFUSE("--share-device is about GPUs: the host's ranks always share it");
    }
    return EXIT_CODE_OK;
}

static int check_options(const struct run_options *options)
{
    if (options->ranks == 0) {
        REFUSE("--ranks N is missing (1 to %d)", TUTTI_WORLD_MAX);
    }
    int code = check_backends(options);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    const struct model_shape *shape = model_shape_find(options->model);
    if (shape == NULL) {
        REFUSE("unknown model '%s': choose %s", options->model, model_shape_names());
    }
    if (options->layers > shape->layers) {
        REFUSE("--layers %d: %s has %d", options->layers, shape->name, shape->layers);
    }
    int layers = options->layers > 0 ? options->layers : shape->layers;
    if (options->draft_layers > layers) {
        REFUSE("--draft-layers %d: the model has %d", options->draft_layers, layers);
    }
    char why[160];
    if (!model_shape_divides(shape, options->ranks, why, sizeof(why))) {
        REFUSE("%s", why);
    }
    if (options->storm && options->ranks < 2) {
        REFUSE("--storm needs at least 2 ranks: one of them will be killed");
    }
    return EXIT_CODE_OK;
}

int run_options_parse(int argc, char **argv, struct run_options *options)
{
    struct run_options parsed = {.backend = "host", .model = "tiny", .numerics = NUMERICS_EXACT};
    parsed.seed = (uint64_t)time(NULL) * 1000u % 1000000007u + (uint64_t)getpid();
    opterr = 0;
    optind = 1;
    int letter = 0;
    while ((letter = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
        if (letter == 'h') {
            fputs(help, stdout);
            return -1;
        }
        if (letter == ':') {
            REFUSE("option '%s' needs a value (tutti run --help)", argv[optind - 1]);
        }
        if (letter == '?') {
            REFUSE("unknown option '%s' (tutti run --help)", argv[optind - 1]);
        }
        int code = take_option(letter, optarg, &parsed);
        if (code != EXIT_CODE_OK) {
            return code;
        }
    }
    if (optind < argc) {
        REFUSE("unexpected argument '%s' (tutti run --help)", argv[optind]);
    }
    parsed.reference = parsed.reference != NULL ? parsed.reference : parsed.backend;
    int code = check_options(&parsed);
    if (code == EXIT_CODE_OK) {
        *options = parsed;
    }
    return code;
}
