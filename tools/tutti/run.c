/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - `tutti run`: the passes in order, and what they add up to. */
#include "run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "run_excerpt.h"
#include "run_json.h"
#include "run_phase.h"
#include "run_ranks.h"
#include "run_report.h"
#include "storm.h"

/* A storm serves this much of the trace each time. */
#define STORM_REQUESTS 8
#define STORM_OUTPUT_MAX 24

static int fail(const char *why)
{
    fprintf(stderr, "tutti run: %s\n", why);
    return EXIT_CODE_FAILED;
}

/* Available memory of the host; 0 if it does not say. */
static size_t available_bytes(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    if (file == NULL) {
        return 0;
    }
    char line[128];
    size_t kibibytes = 0;
    static const char name[] = "MemAvailable:";
    while (kibibytes == 0 && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kibibytes = strtoul(line + strlen(name), NULL, 10);
        }
    }
    (void)fclose(file);
    return kibibytes * 1024;
}

/* The most tokens whose keys and values can be in caches at once: a workload at a time is served. */
static size_t cached_tokens_max(const struct trace *trace)
{
    size_t most = 0;
    for (int workload = 0; workload < trace->workload_count; workload++) {
        size_t count = 0;
        size_t sum = 0;
        size_t longest = 0;
        for (int i = 0; i < trace->count; i++) {
            const struct trace_request *request = &trace->requests[i];
            if (request->workload == workload) {
                size_t length = (size_t)request->prompt_tokens + (size_t)request->output_tokens;
                count++;
                sum += length;
                longest = length > longest ? length : longest;
            }
        }
        size_t running = (size_t)trace->workloads[workload].concurrency;
        size_t tokens = count <= running ? sum : running * longest;
        most = tokens > most ? tokens : most;
    }
    return most;
}

/* All ranks together hold the model once, and the caches of the requests that run at once; the one-rank run has all of it on
 * one device. */
static bool memory_suffices(const struct run *run, const char *where, size_t available, char *why, size_t why_bytes)
{
    size_t expert_weight_bytes = strcmp(where, "host") == 0 ? sizeof(float) : sizeof(uint16_t);
    size_t needed = model_shape_weight_bytes(&run->shape, expert_weight_bytes) +
                    model_shape_kv_bytes(&run->shape) * cached_tokens_max(&run->trace);
    if (run->speculates && (run->options.ranks == 1 || run->devices < run->options.ranks)) {
        needed += model_shape_weight_bytes(&run->draft, expert_weight_bytes) +
                  model_shape_kv_bytes(&run->draft) * cached_tokens_max(&run->trace);
    }
    if (available == 0 || needed < available) {
        return true;
    }
    (void)snprintf(
        why, why_bytes,
        "%s with %d layers needs %.1f GB for weights and caches, %.1f GB are free on the %s: try fewer --layers",
        run->shape.name, run->shape.layers, (double)needed * 1e-9, (double)available * 1e-9, where);
    return false;
}

/* What the ranks will run on; opens a device as they will, so that whatever is missing is said now. */
static bool survey_devices(struct run *run, char *why, size_t why_bytes)
{
    const struct run_options *options = &run->options;
    run->devices = 1;
    if (strcmp(options->reference, "host") == 0 && !memory_suffices(run, "host", available_bytes(), why, why_bytes)) {
        return false;
    }
    if (strcmp(options->backend, "host") == 0) {
        return true;
    }
    struct compute_survey survey;
    if (!compute_survey(options->backend, &survey)) {
        (void)snprintf(why, why_bytes, "backend '%s' cannot serve the model: %s", options->backend, survey.why);
        return false;
    }
    if (survey.devices < options->ranks && !options->share_device) {
        (void)snprintf(why, why_bytes, "%d ranks need %d devices, and there %s %d: --share-device lets ranks share",
                       options->ranks, options->ranks, survey.devices == 1 ? "is" : "are", survey.devices);
        return false;
    }
    run->devices = survey.devices < options->ranks ? survey.devices : options->ranks;
    (void)snprintf(run->device_name, sizeof(run->device_name), "%s", survey.name);
    return memory_suffices(run, "device", survey.free_bytes, why, why_bytes);
}

/* Everything that can be wrong with the input is found here, before any rank starts. */
static bool prepare(struct run *run, char *why, size_t why_bytes)
{
    const struct run_options *options = &run->options;
    run->shape = *model_shape_find(options->model);
    run->shape.layers = options->layers > 0 ? options->layers : run->shape.layers;
    run->draft = run->shape;
    run->draft.layers = options->draft_layers > 0 ? options->draft_layers : (run->shape.layers + 1) / 2;
    bool read = options->trace != NULL ? trace_read(options->trace, &run->trace, why, why_bytes)
                                       : trace_builtin(&run->trace, why, why_bytes);
    run->speculates = read && (options->speculate > 0 || run->trace.speculate_max > 0);
    if (!read || !survey_devices(run, why, why_bytes)) {
        return false;
    }
    size_t logits = options->numerics == NUMERICS_REAL ? (size_t)run->shape.vocab : 0;
    size_t tokens = run->trace.prompt_total + run->trace.output_total;
    size_t routes = logits > 0 ? tokens * (size_t)run->shape.layers * (size_t)run->shape.top : 0;
    if (!trace_part(&run->trace, STORM_REQUESTS, STORM_OUTPUT_MAX, &run->storm_trace) ||
        !board_create(&run->board, options->ranks, run->trace.count, run->trace.output_total, logits, routes)) {
        (void)snprintf(why, why_bytes, "out of memory");
        return false;
    }
    return phase_prepare(run, why, why_bytes);
}

static void dispose(struct run *run)
{
    phase_cleanup(run);
    board_destroy(&run->board);
    trace_part_free(&run->storm_trace);
    trace_free(&run->trace);
}

/* The reference, then both passes of the ranks. */
static bool serve_all(struct run *run, char *why, size_t why_bytes)
{
    struct phase phase = {.label = "one rank, eager",
                          .world = 1,
                          .body = run_rank_reference,
                          .slot = BOARD_REFERENCE,
                          .slot_last = BOARD_REFERENCE,
                          .outputs = run->trace.output_total};
    if (!phase_run(run, &phase, why, why_bytes)) {
        return false;
    }
    char label[48];
    (void)snprintf(label, sizeof(label), "%d ranks, %s", run->options.ranks,
                   run->speculates ? "four ways" : "three ways");
    phase.label = label;
    phase.world = run->options.ranks;
    phase.body = run_rank_serve;
    phase.slot = BOARD_EAGER;
    phase.slot_last = run->speculates ? BOARD_SPECULATIVE : BOARD_PIECEWISE;
    phase.outputs *= run->speculates ? 4 : 3;
    return phase_run(run, &phase, why, why_bytes);
}

static bool verify_all(const struct run *run)
{
    int ranks = run->options.ranks;
    uint64_t all = ranks == 64 ? ~(uint64_t)0 : ((uint64_t)1 << ranks) - 1;
    struct run_verdicts verdicts = {0};
    struct way ways[WAYS_MAX];
    bool held = true;
    int count = report_ways(run, ways);
    for (int way = 0; way < count; way++) {
        verdicts.of[way] = verify_against_reference(run, &run->trace, ways[way].slot, all);
        held = held && verdicts.of[way].held;
        /* Speculation works on other rows at a time, which in real numerics may be rounded elsewhere. */
        bool alike = ways[way].slot != BOARD_SPECULATIVE || run->options.numerics == NUMERICS_EXACT;
        if (way > 0 && alike) {
            verdicts.same[way] = verify_same_bits(run, ways[0].slot, ways[way].slot);
            held = held && verdicts.same[way].held;
        }
    }
    report_verdicts(run, &verdicts);
    return held;
}

static int run_all(struct run *run, struct run_json *json)
{
    char why[1024];
    report_header(run);
    if (!serve_all(run, why, sizeof(why))) {
        return fail(why);
    }
    report_table(run);
    excerpt_print(run);
    bool verified = verify_all(run);
    if (run->options.storm) {
        verified = storm_run(run) && verified;
    }
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        return fail("standard output could not be written");
    }
    if (!run_json_finish(json, run, verified, why, sizeof(why))) {
        return fail(why);
    }
    return verified ? EXIT_CODE_OK : EXIT_CODE_FAILED;
}

int run_main(int argc, char **argv)
{
    struct run *run = calloc(1, sizeof(*run));
    if (run == NULL) {
        return fail("out of memory");
    }
    struct run_json json = {.fd = -1};
    char why[1024];
    int code = run_options_parse(argc, argv, &run->options);
    if (code != EXIT_CODE_OK) {
        free(run);
        return code < 0 ? EXIT_CODE_OK : code;
    }
    if (!run_json_begin(&json, run->options.json, why, sizeof(why)) || !prepare(run, why, sizeof(why))) {
        code = fail(why);
    } else {
        code = run_all(run, &json);
    }
    run_json_abandon(&json);
    dispose(run);
    free(run);
    return code;
}
