/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.c - `tutti bench`: times collectives, checks every result, and puts other libraries beside ours.
 *
 * What is measured. The headline, `us_p50` and `us_p99`, is the loop that an engine runs: calls back to back on
 * the same ranks, each on buffers of its own whose inputs are new. A call's time is from the moment when the
 * slowest rank had completed the call before it to the moment when the slowest rank has completed it. These times
 * add up to the elapsed time exactly, whichever rank was late, so that nothing can hide: the median of a rank's own
 * waiting times would call a library fast in which one rank waits long and the others never. It is the right
 * headline because layers follow each other without a pause, and because it holds with more ranks than cores,
 * where a single call behind a barrier mostly times the scheduler. That other number is shown too, as `alone`: a
 * barrier, then one call, from the last rank's start to the last rank's end. A call's inputs were just written
 * by its own core there, and the ranks have just met, which flatters everybody alike.
 *
 * With --graph the same calls (one per slot) are captured once and replayed: time of a replay between the slowest
 * ranks' stamps, divided by its calls; the percentiles are then over replays. MPI has no graphs; its columns
 * stay eager. In broadcast the root goes round, or it would run ahead and wait for nobody.
 *
 * Buffers. A rank goes through `slots` pairs of input and output: as many as make 1 MiB, about what a core's own cache
 * holds, as activations do that were just computed; at least 4 and at most 64, so that from 256 KiB on the set outgrows
 * the caches. All competitors use the same loop, sizes, buffers and checks, because they compile the same
 * source (bench_measure.c). They take turns size by size, `rounds` times; the median over the rounds is shown, so
 * that a disturbance of the machine meets all of them or is voted out.
 *
 * On GPUs (--backend cuda) a rank is a process with a device of its own, for every competitor, and the loop is that of
 * bench_gpu_measure.c. The unit is a run: 10 to 200 calls back to back on buffers of their own, as many as make 64 MiB, called
 * eagerly or, with --graph, one replay of a graph that holds them all. Runs follow each other without a pause and are timed by
 * the device's events; a run's time is the slowest rank's, a call's is the run's over its calls, the percentiles are over
 * runs. NCCL's graphs are captured and replayed like ours. Out of place, all results of the first and of the last run of every
 * turn are checked. `alone` and `bound` are not measured there.
 *
 * Checks. Inputs are a function of call, rank and index (bench_values.h). Every element of every call, timed or
 * not, is compared outside the timed part (on GPUs: of a turn's first and last run).
 *
 * The bound. For N ranks on one machine with inputs and outputs in private memory, a two-shot all-reduce of S
 * bytes must, in each rank, copy the shards of the others to where they can read them (load and store S (N-1)/N),
 * load all ranks' versions of its own shard (S) and store their sum for itself and for the others (2 S/N), and fetch
 * the other sums (load and store S (N-1)/N). That is S (3 - 2/N) loaded and 2 S stored, as much as 2.5 - 1/N
 * memcpy of S bytes; 2 for two ranks. The other operations likewise: reduce_scatter 1.5 - 0.5/N, all_gather
 * 1 + 1/N, all_to_all 2 - 1/N, broadcast 1, each of the rank's largest buffer. `bound_us` is that many times the
 * time of one memcpy (the C library's) of S, measured in the same rounds, by as many of the same rank processes at
 * once as there are processors, going through the same slots; with more ranks than processors, times ranks per
 * processor. It is plain, not sharp: a library whose staging memory stays in the cache can be below it at sizes
 * where the copies do not, and below about 16 KB it says nothing, because there latency is all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench_options.h"
#include "bench_report.h"
#include "bench_team.h"
#include "bench_time.h"
#include "commands.h"
#include "gpu.h"
#include "machine.h"
#include "output.h"

#define SLOTS_MIN 4
#define SLOTS_MAX 64
#define SLOTS_BYTES (1u << 20) /* of inputs and outputs together */
#define GPU_CALLS_MIN 10       /* of a run */
#define GPU_CALLS_MAX 200
#define GPU_RUNS_BYTES (64u << 20)
#define GPU_RUNS_MIN 5 /* of a turn; less would leave no percentiles */
#define GPU_RUNS_MAX 100
#define COPY_SAMPLE_BYTES (2u << 20) /* so that a sample outlasts the ranks' coming out of the barrier */
#define COPY_BATCHES 5
#define BATCHES_MAX 20000
#define ROUNDS_MAX 99
#define ALONE_SHARE 0.25 /* of a competitor's time */

struct contest {
    const struct bench_options *options;
    struct bench_team teams[BENCH_COMPETITORS];
    bool lost[BENCH_COMPETITORS]; /* failed; not asked again */
    struct bench_report report;
    struct bench_stamps stamps;
    double *scratch;
    size_t scratch_capacity;
    uint64_t next_call;
    bool table; /* standard output is the table's */
};

/* -- one order ------------------------------------------------------------------------------- */

/* Sends the order to a team and counts what it checked. 0, or -1 with the team's sentence. */
static int give(struct contest *contest, size_t team, struct bench_order *order, struct bench_result *result)
{
    order->first_call = contest->next_call;
    contest->next_call += (uint64_t)order->batches * order->slots;
    if (bench_team_order(&contest->teams[team], order, &contest->stamps) != 0) {
        return -1;
    }
    if (contest->stamps.per_rank > contest->scratch_capacity) {
        free(contest->scratch);
        contest->scratch_capacity = 0;
        contest->scratch = calloc(contest->stamps.per_rank, sizeof(*contest->scratch));
        if (contest->scratch == NULL) {
            (void)snprintf(contest->teams[team].sentence, sizeof(contest->teams[team].sentence),
                           "no memory for its times");
            return -1;
        }
        contest->scratch_capacity = contest->stamps.per_rank;
    }
    result->checked += contest->stamps.checked;
    result->wrong += contest->stamps.wrong;
    return 0;
}

static double now_seconds(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* -- how much -------------------------------------------------------------------------------- */

static struct bench_order order_of(const struct bench_options *options, const struct bench_row *row)
{
    uint64_t element_bytes = tutti_dtype_bytes(row->dtype);
    struct bench_order order = {.magic = BENCH_MAGIC, .collective = row->op, .dtype = row->dtype};
    uint64_t share = row->bytes / element_bytes;
    if (row->op != TUTTI_ALL_REDUCE && row->op != TUTTI_BROADCAST) {
        share = (share + (uint64_t)options->ranks - 1) / (uint64_t)options->ranks;
    }
    order.count = share;
    bool gpu = bench_on_gpu(options);
    uint64_t least = gpu ? GPU_CALLS_MIN : SLOTS_MIN;
    uint64_t most = gpu ? GPU_CALLS_MAX : SLOTS_MAX;
    uint64_t slots = row->bytes > 0 ? (gpu ? GPU_RUNS_BYTES : SLOTS_BYTES) / (2 * row->bytes) : most;
    order.slots = options->calls > 0 ? options->calls : (uint32_t)(slots < least ? least : slots > most ? most : slots);
    return order;
}

static uint64_t payload_bytes(const struct bench_options *options, const struct bench_row *row,
                              const struct bench_order *order)
{
    bool whole = row->op == TUTTI_ALL_REDUCE || row->op == TUTTI_BROADCAST;
    return order->count * tutti_dtype_bytes(row->dtype) * (whole ? 1 : (uint64_t)options->ranks);
}

/* How many batches fill `seconds`, given what one batch took. */
static uint32_t batches_for(double seconds, double batch_seconds)
{
    double batches = seconds / (batch_seconds > 1e-7 ? batch_seconds : 1e-7);
    return batches < 1 ? 1 : batches > BATCHES_MAX ? BATCHES_MAX : (uint32_t)batches;
}

/* Warms up and finds how many batches make a round. The first batch pays for buffers and first use. */
static int calibrate(struct contest *contest, size_t team, struct bench_order order, struct bench_result *result,
                     uint32_t *batches)
{
    const struct bench_options *options = contest->options;
    bool alone = order.loop == BENCH_LOOP_ALONE;
    double budget = options->seconds / options->rounds * (alone ? ALONE_SHARE : 1 - ALONE_SHARE);
    double took = 0;
    for (uint32_t tried = 1; tried <= (options->iterations > 0 ? 1 : 4); tried += 3) {
        order.batches = tried;
        double start = now_seconds();
        if (give(contest, team, &order, result) != 0) {
            return -1;
        }
        took = (now_seconds() - start) / tried;
        if (took > budget) {
            break;
        }
    }
    uint64_t per_batch = alone ? 1 : order.loop == BENCH_LOOP_TIGHT ? order.slots - 1 : order.slots;
    if (options->iterations > 0) {
        uint64_t needed = (options->iterations + per_batch - 1) / per_batch;
        *batches = (uint32_t)(needed > BATCHES_MAX ? BATCHES_MAX : needed);
    } else {
        *batches = batches_for(budget, took);
    }
    return 0;
}

/* On GPUs preparing and checking a turn take far longer than its runs, so the time goes by what the runs took. */
static int calibrate_gpu(struct contest *contest, size_t team, struct bench_order order, struct bench_result *result,
                         uint32_t *batches)
{
    const struct bench_options *options = contest->options;
    order.batches = GPU_RUNS_MIN;
    if (give(contest, team, &order, result) != 0) {
        return -1;
    }
    struct bench_times times = bench_time_calls(&order, &contest->stamps, options->ranks, contest->scratch);
    double run_seconds = times.us_p50 * 1e-6 * order.slots;
    uint64_t runs = options->iterations > 0 ? (options->iterations + order.slots - 1) / order.slots
                                            : batches_for(options->seconds / options->rounds, run_seconds);
    uint64_t least = options->iterations > 0 ? 2 : GPU_RUNS_MIN; /* the numbers of a turn's calls: two sets of inputs */
    *batches = (uint32_t)(runs < least ? least : runs > GPU_RUNS_MAX ? GPU_RUNS_MAX : runs);
    return 0;
}

/* -- one row --------------------------------------------------------------------------------- */

/* A competitor's turns at one size. */
struct turns {
    struct bench_order call, alone;
    double p50[ROUNDS_MAX], p99[ROUNDS_MAX], alone_p50[ROUNDS_MAX];
};

static int prepare_turns(struct contest *contest, size_t team, const struct bench_row *row, struct turns *turns,
                         struct bench_result *result)
{
    turns->call = order_of(contest->options, row);
    turns->alone = turns->call;
    if (bench_on_gpu(contest->options)) {
        result->graph = contest->options->graph;
        turns->call.loop = result->graph ? BENCH_LOOP_GRAPH : BENCH_LOOP_SPAN;
        return calibrate_gpu(contest, team, turns->call, result, &turns->call.batches);
    }
    result->graph = contest->options->graph && team == 0;
    turns->call.loop = result->graph ? BENCH_LOOP_GRAPH : BENCH_LOOP_TIGHT;
    turns->alone.loop = BENCH_LOOP_ALONE;
    if (calibrate(contest, team, turns->call, result, &turns->call.batches) != 0) {
        return -1;
    }
    return calibrate(contest, team, turns->alone, result, &turns->alone.batches);
}

static int take_turn(struct contest *contest, size_t team, struct turns *turns, unsigned round,
                     struct bench_result *result)
{
    int ranks = contest->options->ranks;
    if (give(contest, team, &turns->call, result) != 0) {
        return -1;
    }
    struct bench_times times = bench_time_calls(&turns->call, &contest->stamps, ranks, contest->scratch);
    turns->p50[round] = times.us_p50;
    turns->p99[round] = times.us_p99;
    result->samples += times.samples;
    result->sleeps_per_call = (double)contest->stamps.sleeps / ((double)turns->call.batches * turns->call.slots);
    turns->alone_p50[round] = 0;
    if (bench_on_gpu(contest->options)) {
        return 0;
    }
    if (give(contest, team, &turns->alone, result) != 0) {
        return -1;
    }
    times = bench_time_calls(&turns->alone, &contest->stamps, ranks, contest->scratch);
    turns->alone_p50[round] = times.us_p50;
    return 0;
}

/* Adds this round's memcpy time to us[round]. */
static int measure_copies(struct contest *contest, const struct bench_row *row, unsigned round, double *us)
{
    int ranks = contest->options->ranks;
    int cores = machine_cores();
    struct bench_result nothing = {0};
    struct bench_order order = order_of(contest->options, row);
    uint64_t pass_bytes = row->payload_bytes * order.slots;
    order.count = row->payload_bytes / tutti_dtype_bytes(row->dtype);
    order.loop = BENCH_LOOP_COPY;
    order.copiers = (uint32_t)(ranks < cores ? ranks : cores);
    order.copy_passes = (uint32_t)((COPY_SAMPLE_BYTES + pass_bytes - 1) / pass_bytes);
    order.batches = COPY_BATCHES;
    if (give(contest, 0, &order, &nothing) != 0) {
        return -1;
    }
    us[round] = bench_time_copy(&order, &contest->stamps, ranks, contest->scratch);
    return 0;
}

static void lose(struct contest *contest, size_t team)
{
    contest->lost[team] = true;
    _Static_assert(sizeof(contest->report.sentences[0]) == sizeof(contest->teams[0].sentence), "copied whole");
    memcpy(contest->report.sentences[team], contest->teams[team].sentence, sizeof(contest->teams[team].sentence));
    fprintf(stderr, "tutti bench: %s\n", contest->teams[team].sentence);
    bench_team_stop(&contest->teams[team]);
}

static void settle(struct turns *turns, unsigned rounds, struct bench_result *result)
{
    result->measured = true;
    result->us_p50 = bench_time_median(turns->p50, rounds);
    result->us_p99 = bench_time_median(turns->p99, rounds);
    result->us_alone_p50 = bench_time_median(turns->alone_p50, rounds);
}

/* Measures all competitors at one size. 0, or -1 if our own library failed; a peer that fails is out. */
static int measure_row(struct contest *contest, struct bench_row *row)
{
    struct turns turns[BENCH_COMPETITORS];
    double copy_us[ROUNDS_MAX];
    unsigned rounds = contest->options->rounds;
    size_t teams = contest->report.team_count;
    bool gpu = bench_on_gpu(contest->options);
    double copies = gpu ? 0 : bench_time_copies(row->op, contest->options->ranks);
    for (size_t team = 0; team < teams; team++) {
        if (!contest->lost[team] && prepare_turns(contest, team, row, &turns[team], &row->results[team]) != 0) {
            lose(contest, team);
        }
    }
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t team = 0; team < teams; team++) {
            if (!contest->lost[team] && take_turn(contest, team, &turns[team], round, &row->results[team]) != 0) {
                lose(contest, team);
            }
        }
        if (copies > 0 && !contest->lost[0] && measure_copies(contest, row, round, copy_us) != 0) {
            lose(contest, 0);
        }
    }
    for (size_t team = 0; team < teams; team++) {
        if (!contest->lost[team]) {
            settle(&turns[team], rounds, &row->results[team]);
        }
    }
    if (copies > 0 && !contest->lost[0]) {
        row->bound_us = copies * bench_time_median(copy_us, rounds);
    }
    return contest->lost[0] ? -1 : 0;
}

/* All sizes of one operation and type. */
static int measure_sizes(struct contest *contest, tutti_collective op, tutti_dtype dtype)
{
    const struct bench_options *options = contest->options;
    size_t sizes = op == TUTTI_BARRIER ? 1 : options->size_count;
    if (contest->table) {
        bench_report_print_columns(&contest->report, op, dtype);
    }
    for (size_t i = 0; i < sizes; i++) {
        struct bench_row *row = &contest->report.rows[contest->report.row_count];
        *row = (struct bench_row){.op = op, .dtype = dtype, .bytes = op == TUTTI_BARRIER ? 0 : options->sizes[i]};
        struct bench_order order = order_of(options, row);
        row->payload_bytes = payload_bytes(options, row, &order);
        if (measure_row(contest, row) != 0) {
            return -1;
        }
        contest->report.row_count++;
        if (contest->table) {
            bench_report_print_row(&contest->report, row);
        }
    }
    return 0;
}

static int measure_all(struct contest *contest)
{
    const struct bench_options *options = contest->options;
    contest->report.rows =
        calloc(options->op_count * options->dtype_count * options->size_count, sizeof(*contest->report.rows));
    if (contest->report.rows == NULL) {
        fprintf(stderr, "tutti bench: no memory for the results\n");
        return -1;
    }
    if (contest->table) {
        bench_report_print_head(&contest->report);
    }
    for (size_t i = 0; i < options->op_count; i++) {
        size_t dtypes = options->ops[i] == TUTTI_BARRIER ? 1 : options->dtype_count;
        for (size_t j = 0; j < dtypes; j++) {
            if (measure_sizes(contest, options->ops[i], options->dtypes[j]) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* -- before and after ------------------------------------------------------------------------ */

/* The driver must not be loaded here: it would not survive the fork of the ranks. */
static int check_gpu(const struct bench_options *options)
{
    struct gpu_probe probe;
    if (!gpu_probe(options->backend, &probe)) {
        fprintf(stderr, "tutti bench: backend %s cannot be used here: %s\n", options->backend, gpu_error());
        return -1;
    }
    if (options->ranks > probe.devices) {
        fprintf(stderr, "tutti bench: --ranks: %d ranks want a device each, and there %s %d\n", options->ranks,
                probe.devices == 1 ? "is" : "are", probe.devices);
        return -1;
    }
    return 0;
}

static int check_backend(const struct bench_options *options)
{
    tutti_backend_t backend = {.struct_bytes = sizeof(backend)};
    const char *name = options->backend;
    char known[128] = "";
    if (strcmp(name, "cuda") == 0 || strcmp(name, "hip") == 0) {
        return check_gpu(options);
    }
    for (size_t i = 0; tutti_backend(i, &backend) == TUTTI_OK; i++) {
        if (strcmp(backend.name, name) == 0) {
            return 0; /* the host's, which always can be */
        }
        size_t used = strlen(known);
        (void)snprintf(known + used, sizeof(known) - used, "%s%s", used > 0 ? ", " : "", backend.name);
    }
    fprintf(stderr, "tutti bench: --backend: this build has no backend '%s'; it has %s\n", name, known);
    return -1;
}

/* All competitors hold their buffers at the same time. */
static int check_memory(const struct bench_options *options)
{
    if (bench_on_gpu(options)) {
        return 0; /* the device says so itself */
    }
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < options->size_count; i++) {
        struct bench_row row = {.op = TUTTI_ALL_REDUCE, .dtype = options->dtypes[0], .bytes = options->sizes[i]};
        double slots = order_of(options, &row).slots;
        double needed = slots * 2 * (double)row.bytes * options->ranks * (double)(1 + options->peer_count);
        if (needed > 0.6 * memory) {
            fprintf(stderr,
                    "tutti bench: --sizes: %llu bytes with %d ranks and %zu peers need %.1f GiB of buffers; this "
                    "machine has %.1f GiB\n",
                    (unsigned long long)row.bytes, options->ranks, options->peer_count, needed / (1 << 30),
                    memory / (1 << 30));
            return -1;
        }
    }
    return 0;
}

static int check_outputs(const struct bench_options *options)
{
    char sentence[512];
    if ((options->json != NULL && output_check(options->json, sentence, sizeof(sentence)) != 0) ||
        (options->csv != NULL && output_check(options->csv, sentence, sizeof(sentence)) != 0)) {
        fprintf(stderr, "tutti bench: %s\n", sentence);
        return -1;
    }
    return 0;
}

static int start_team(struct bench_team *team, size_t index, const struct bench_options *options)
{
    if (index == 0) {
        return bench_team_start(team, "tutti", options,
                                bench_on_gpu(options) ? bench_gpu_ranks_serve : bench_ranks_serve);
    }
    enum bench_peer peer = options->peers[index - 1];
    if (peer == BENCH_PEER_NCCL) {
        return bench_team_start(team, bench_peer_name(peer), options, bench_nccl_serve);
    }
    if (peer == BENCH_PEER_NCCL_SYMMETRIC) {
        return bench_team_start(team, bench_peer_name(peer), options, bench_nccl_symmetric_serve);
    }
    if (peer == BENCH_PEER_STAGED) {
        return bench_team_start(team, bench_peer_name(peer), options, bench_gpu_staged_serve);
    }
    if (peer == BENCH_PEER_SYMMETRIC) {
        return bench_team_start(team, bench_peer_name(peer), options, bench_gpu_symmetric_serve);
    }
    return bench_team_start_peer(team, peer, options->ranks);
}

/* An MPI that is missing is a package to install, and nothing is measured without it. NCCL may be missing or too old on
 * a machine where nobody can install it: then its column says so, and the exit code. */
static int start_teams(struct contest *contest)
{
    const struct bench_options *options = contest->options;
    struct bench_report *report = &contest->report;
    for (size_t team = 0; team <= options->peer_count; team++) {
        int failed = start_team(&contest->teams[team], team, options);
        report->teams[report->team_count++] = &contest->teams[team];
        if (failed != 0 && team > 0 && bench_on_gpu(options)) {
            lose(contest, team);
        } else if (failed != 0) {
            fprintf(stderr, "tutti bench: %s\n", contest->teams[team].sentence);
            return -1;
        }
    }
    return 0;
}

static int write_file(const char *path, char *text)
{
    char sentence[512] = "no memory for the results";
    if (path == NULL) {
        return 0;
    }
    if (text == NULL || output_write(path, text, sentence, sizeof(sentence)) != 0) {
        fprintf(stderr, "tutti bench: %s\n", sentence);
        return -1;
    }
    return 0;
}

static int write_files(const struct bench_report *report)
{
    const struct bench_options *options = report->options;
    char *json = options->json != NULL ? bench_report_json(report) : NULL;
    char *csv = options->csv != NULL ? bench_report_csv(report) : NULL;
    int failed = write_file(options->json, json);
    failed |= write_file(options->csv, csv);
    free(json);
    free(csv);
    return failed;
}

/* 0 only if every competitor finished and every element was right. */
static int judge(const struct contest *contest)
{
    int failed = 0;
    for (size_t team = 0; team < contest->report.team_count; team++) {
        uint64_t wrong = 0;
        uint64_t checked = 0;
        for (size_t i = 0; i < contest->report.row_count; i++) {
            wrong += contest->report.rows[i].results[team].wrong;
            checked += contest->report.rows[i].results[team].checked;
        }
        if (wrong > 0) {
            fprintf(stderr, "tutti bench: %s: %llu of %llu elements were wrong\n", contest->report.teams[team]->name,
                    (unsigned long long)wrong, (unsigned long long)checked);
        }
        failed |= wrong > 0 || contest->lost[team];
    }
    return failed;
}

static int run_contest(struct contest *contest)
{
    int failed = start_teams(contest);
    if (failed == 0) {
        failed = measure_all(contest);
    }
    if (failed == 0) {
        failed = write_files(&contest->report); /* also where some were wrong: the files say so */
        failed |= judge(contest);
    }
    for (size_t team = 0; team < contest->report.team_count; team++) {
        bench_team_stop(&contest->teams[team]);
    }
    bench_stamps_free(&contest->stamps);
    free(contest->scratch);
    free(contest->report.rows);
    return failed;
}

static bool is_stdout(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

int bench_main(int argc, char **argv)
{
    struct bench_options options;
    static struct contest contest; /* large, and one is enough for a command */
    int parsed = bench_options_parse(&options, argc, argv);
    if (parsed != 0) {
        return parsed < 0 ? EXIT_CODE_USAGE : output_finish("tutti bench") == 0 ? EXIT_CODE_OK : EXIT_CODE_FAILED;
    }
    if (check_backend(&options) != 0 || check_memory(&options) != 0 || check_outputs(&options) != 0) {
        return EXIT_CODE_FAILED;
    }
    contest.options = &options;
    contest.report = (struct bench_report){.options = &options, .argc = argc, .argv = argv};
    contest.table = !is_stdout(options.json) && !is_stdout(options.csv);
    int failed = run_contest(&contest);
    if (output_finish("tutti bench") != 0) {
        failed = 1;
    }
    return failed == 0 ? EXIT_CODE_OK : EXIT_CODE_FAILED;
}
