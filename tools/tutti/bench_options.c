/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const op_names[TUTTI_COLLECTIVE_COUNT] = {"all_reduce", "reduce_scatter", "all_gather",
                                                             "broadcast",  "all_to_all",     "barrier"};
static const char *const dtype_names[BENCH_DTYPES] = {"f32", "f16", "bf16"};
static const char *const peer_names[BENCH_PEERS] = {"openmpi",        "mpich",        "nccl",
                                                    "nccl-symmetric", "tutti-staged", "tutti-symmetric"};

const char *bench_op_name(tutti_collective op)
{
    return op_names[op];
}

const char *bench_dtype_name(tutti_dtype dtype)
{
    return dtype_names[dtype];
}

const char *bench_peer_name(enum bench_peer peer)
{
    return peer_names[peer];
}

static const char help_text[] =
    "usage: tutti bench [OPTION]...\n"
    "Times collectives, checks every result, and puts other libraries beside ours.\n\n"
    "  --backend NAME     host (default), or cuda, hip: one process and one device for each rank\n"
    "  --op LIST          all_reduce (default), reduce_scatter, all_gather, broadcast, all_to_all, barrier; or all\n"
    "  --dtype LIST       f32 (default), f16, bf16; or all\n"
    "  --ranks N          1 to 64 (2)\n"
    "  --sizes LIST       bytes of the largest buffer of a rank: 4K, or a range 1K:16M by powers of two (default),\n"
    "                     or 1K:16M:x4, or several with commas\n"
    "  --graph            replay captured graphs instead of calling eagerly; MPI has none and calls eagerly\n"
    "  --threads          our ranks are threads of one process instead of processes\n"
    "  --peers LIST       openmpi, mpich; with --backend cuda nccl, nccl-symmetric (found at run time, see the "
    "setting\n"
    "                     TUTTI_NCCL_LIBRARY): their own processes, alternating with ours in this run. On GPUs also\n"
    "                     ourselves: tutti-staged, whose graphs no tutti_commit makes direct, and tutti-symmetric, in\n"
    "                     memory of tutti_alloc\n"
    "  --seconds S        time for each size and competitor (0.6)\n"
    "  --iterations N     instead: at least N timed calls in each round\n"
    "  --calls N          on GPUs: calls of one run or graph (200, fewer of large messages, at least 10)\n"
    "  --rounds N         how often all competitors take turns; medians over the rounds are shown (3)\n"
    "  --json FILE        all results, '-' for standard output instead of the table\n"
    "  --csv FILE         the same as comma-separated values\n"
    "  --help             this text\n\n"
    "A call's time is from the completion of the call before it on the slowest rank to its own completion on the\n"
    "slowest rank, in a loop of calls back to back (us p50, p99). 'alone' is one call behind a barrier, from the\n"
    "last rank's start to the last rank's end. 'bound' is what plain memcpy needs for the bytes that must move.\n"
    "On GPUs a run of 10 to 200 calls, eager or one replay, is timed by events of the device, the slowest rank's, and\n"
    "divided by its calls; the percentiles are over runs.\n";

/* Says why the options are refused, after a format with literal text. */
#define refuse(...) (fprintf(stderr, "tutti bench: " __VA_ARGS__), fputc('\n', stderr), -1)

/* Picks names out of a comma-separated list into an array of indices, each once. 0, or -1 with the unknown one. */
static int parse_names(const char *list, const char *const *names, size_t name_count, int *picked, size_t *count,
                       char unknown[64])
{
    char copy[256]; /* the command line itself is reported later */
    *count = 0;
    if (strcmp(list, "all") == 0) {
        for (size_t i = 0; i < name_count; i++) {
            picked[(*count)++] = (int)i;
        }
        return 0;
    }
    (void)snprintf(copy, sizeof(copy), "%s", list);
    for (char *rest = copy; rest != NULL;) {
        const char *item = strsep(&rest, ",");
        size_t index = 0;
        while (index < name_count && strcmp(item, names[index]) != 0) {
            index++;
        }
        if (index == name_count) {
            (void)snprintf(unknown, 64, "%s", item);
            return -1;
        }
        bool known = false;
        for (size_t i = 0; i < *count; i++) {
            known = known || picked[i] == (int)index;
        }
        if (!known) {
            picked[(*count)++] = (int)index;
        }
    }
    return 0;
}

static int parse_ops(struct bench_options *options, const char *list)
{
    int picked[TUTTI_COLLECTIVE_COUNT];
    char unknown[64];
    if (parse_names(list, op_names, TUTTI_COLLECTIVE_COUNT, picked, &options->op_count, unknown) != 0) {
        return refuse("--op: unknown operation '%s'; choose from all_reduce, reduce_scatter, all_gather, broadcast, "
                      "all_to_all, barrier, or all",
                      unknown);
    }
    for (size_t i = 0; i < options->op_count; i++) {
        options->ops[i] = (tutti_collective)picked[i];
    }
    return 0;
}

static int parse_dtypes(struct bench_options *options, const char *list)
{
    int picked[BENCH_DTYPES];
    char unknown[64];
    if (parse_names(list, dtype_names, BENCH_DTYPES, picked, &options->dtype_count, unknown) != 0) {
        return refuse("--dtype: unknown type '%s'; choose from f32, f16, bf16, or all", unknown);
    }
    for (size_t i = 0; i < options->dtype_count; i++) {
        options->dtypes[i] = (tutti_dtype)picked[i];
    }
    return 0;
}

static int parse_peers(struct bench_options *options, const char *list)
{
    int picked[BENCH_PEERS];
    char unknown[64];
    if (parse_names(list, peer_names, BENCH_PEERS, picked, &options->peer_count, unknown) != 0) {
        return refuse("--peers: unknown peer '%s'; choose from openmpi, mpich, nccl, nccl-symmetric, "
                      "tutti-staged, tutti-symmetric",
                      unknown);
    }
    for (size_t i = 0; i < options->peer_count; i++) {
        options->peers[i] = (enum bench_peer)picked[i];
    }
    return 0;
}

static int parse_whole(const char *option, const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value < least || value > most) {
        return refuse("%s: '%s' is no whole number from %llu to %llu", option, text, (unsigned long long)least,
                      (unsigned long long)most);
    }
    *number = value;
    return 0;
}

static int parse_seconds(struct bench_options *options, const char *text)
{
    char *end = NULL;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds > 0 && seconds <= 3600)) {
        return refuse("--seconds: '%s' is no number above 0 and up to 3600", text);
    }
    options->seconds = seconds;
    return 0;
}

static int parse_sizes(struct bench_options *options, const char *text)
{
    char sentence[256];
    options->size_count = 0;
    if (bench_sizes_parse(text, options->sizes, &options->size_count, sentence, sizeof(sentence)) != 0) {
        return refuse("--sizes: %s", sentence);
    }
    return 0;
}

bool bench_on_gpu(const struct bench_options *options)
{
    return strcmp(options->backend, "host") != 0;
}

/* Peers that measure something else than the backend does. */
static int check_peers(const struct bench_options *options)
{
    for (size_t i = 0; i < options->peer_count; i++) {
        bool ours = options->peers[i] == BENCH_PEER_STAGED || options->peers[i] == BENCH_PEER_SYMMETRIC;
        bool nccl = options->peers[i] == BENCH_PEER_NCCL || options->peers[i] == BENCH_PEER_NCCL_SYMMETRIC;
        const char *name = peer_names[options->peers[i]];
        if (nccl && strcmp(options->backend, "cuda") != 0) {
            return refuse("--peers: %s runs on NVIDIA GPUs: it needs --backend cuda, not %s", name, options->backend);
        }
        if (ours && !bench_on_gpu(options)) {
            return refuse("--peers: %s is about GPUs: it needs --backend cuda or hip, not %s", name, options->backend);
        }
        if (!nccl && !ours && bench_on_gpu(options)) {
            return refuse("--peers: %s is measured in the host's memory: it needs --backend host, not %s", name,
                          options->backend);
        }
    }
    return 0;
}

/* What only all options together tell. */
static int check_together(const struct bench_options *options)
{
    if (check_peers(options) != 0) {
        return -1;
    }
    if (options->calls > 0 && !bench_on_gpu(options)) {
        return refuse("--calls: on the host there are no runs; it needs --backend cuda or hip");
    }
    if (options->threads && bench_on_gpu(options)) {
        return refuse("--threads: on GPUs each rank is a process of its own");
    }
    if (options->json != NULL && options->csv != NULL && strcmp(options->json, options->csv) == 0) {
        return refuse("--json and --csv name the same file, %s", options->json);
    }
    for (size_t i = 0; i < options->dtype_count; i++) {
        size_t element_bytes = tutti_dtype_bytes(options->dtypes[i]);
        for (size_t j = 0; j < options->size_count; j++) {
            if (options->sizes[j] % element_bytes != 0) {
                return refuse("--sizes: %llu bytes are no whole number of %s elements",
                              (unsigned long long)options->sizes[j], dtype_names[options->dtypes[i]]);
            }
        }
    }
    return 0;
}

enum option_key {
    KEY_BACKEND = 256,
    KEY_OP,
    KEY_DTYPE,
    KEY_RANKS,
    KEY_SIZES,
    KEY_GRAPH,
    KEY_THREADS,
    KEY_PEERS,
    KEY_SECONDS,
    KEY_ITERATIONS,
    KEY_CALLS,
    KEY_ROUNDS,
    KEY_JSON,
    KEY_CSV
};

static const struct option long_options[] = {
    {"backend", required_argument, NULL, KEY_BACKEND},
    {"op", required_argument, NULL, KEY_OP},
    {"dtype", required_argument, NULL, KEY_DTYPE},
    {"ranks", required_argument, NULL, KEY_RANKS},
    {"sizes", required_argument, NULL, KEY_SIZES},
    {"graph", no_argument, NULL, KEY_GRAPH},
    {"threads", no_argument, NULL, KEY_THREADS},
    {"peers", required_argument, NULL, KEY_PEERS},
    {"seconds", required_argument, NULL, KEY_SECONDS},
    {"iterations", required_argument, NULL, KEY_ITERATIONS},
    {"calls", required_argument, NULL, KEY_CALLS},
    {"rounds", required_argument, NULL, KEY_ROUNDS},
    {"json", required_argument, NULL, KEY_JSON},
    {"csv", required_argument, NULL, KEY_CSV},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int apply(struct bench_options *options, int key)
{
    uint64_t number = 0;
    switch (key) {
    case KEY_BACKEND:
        options->backend = optarg;
        return 0;
    case KEY_OP:
        return parse_ops(options, optarg);
    case KEY_DTYPE:
        return parse_dtypes(options, optarg);
    case KEY_RANKS:
        if (parse_whole("--ranks", optarg, 1, TUTTI_WORLD_MAX, &number) != 0) {
            return -1;
        }
        options->ranks = (int)number;
        return 0;
    case KEY_SIZES:
        return parse_sizes(options, optarg);
    case KEY_GRAPH:
        options->graph = true;
        return 0;
    case KEY_THREADS:
        options->threads = true;
        return 0;
    case KEY_PEERS:
        return parse_peers(options, optarg);
    case KEY_SECONDS:
        return parse_seconds(options, optarg);
    case KEY_ITERATIONS:
        return parse_whole("--iterations", optarg, 1, 1000000, &options->iterations);
    case KEY_CALLS:
        if (parse_whole("--calls", optarg, 1, 10000, &number) != 0) {
            return -1;
        }
        options->calls = (uint32_t)number;
        return 0;
    case KEY_ROUNDS:
        if (parse_whole("--rounds", optarg, 1, 99, &number) != 0) {
            return -1;
        }
        options->rounds = (unsigned)number;
        return 0;
    case KEY_JSON:
        options->json = optarg;
        return 0;
    case KEY_CSV:
        options->csv = optarg;
        return 0;
    default:
        return refuse("see tutti bench --help"); /* unreached: getopt's refusals end the loop */
    }
}

int bench_options_parse(struct bench_options *options, int argc, char **argv)
{
    *options = (struct bench_options){.backend = "host",
                                      .ops = {TUTTI_ALL_REDUCE},
                                      .op_count = 1,
                                      .dtypes = {TUTTI_F32},
                                      .dtype_count = 1,
                                      .ranks = 2,
                                      .seconds = 0.6,
                                      .rounds = 3};
    if (parse_sizes(options, "1K:16M") != 0) {
        return -1;
    }
    opterr = 0;
    optind = 0; /* glibc: begin anew */
    for (int key; (key = getopt_long(argc, argv, ":h", long_options, NULL)) != -1;) {
        if (key == 'h') {
            return fputs(help_text, stdout) < 0 ? -1 : 1;
        }
        if (key == ':') {
            return refuse("%s needs a value (tutti bench --help)", argv[optind - 1]);
        }
        if (key == '?') {
            return refuse("unknown option '%s' (tutti bench --help)", argv[optind - 1]);
        }
        if (apply(options, key) != 0) {
            return -1;
        }
    }
    if (optind < argc) {
        return refuse("unexpected argument '%s' (tutti bench --help)", argv[optind]);
    }
    return check_together(options);
}
