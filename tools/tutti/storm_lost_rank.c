/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_lost_rank.c - one rank is killed while serving; the survivors go on with a smaller communicator.
 *
 * A step may have completed on one survivor and failed on another, so they first agree how far they all got; tokens
 * beyond that are generated again. Shards are made for the new rank count, unfinished requests are prefilled
 * from prompt and tokens so far. In exact numerics the rest of every answer must be what it would have been.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "run_ranks.h"
#include "storm.h"

#define STEPS_MORE 2

/* What a rank lives to tell; in memory shared with the parent. */
struct lost_report {
    double died_s;      /* the victim: when it was killed */
    double noticed_s;   /* a survivor: when the failure was returned to it */
    int world;          /* ranks of the new communicator; 0: this rank has no part in it */
    uint64_t rewound;   /* tokens it had and generated again, because a peer had not */
    char sentence[512]; /* the library's */
};

struct lost_rank {
    int victim;
    uint64_t step;               /* during which it dies */
    long delay_us;               /* after that step's beginning */
    uint64_t steps;              /* seen so far */
    struct lost_report *reports; /* [TUTTI_WORLD_MAX] */
};

static void *killer(void *argument)
{
    const struct lost_rank *lost = argument;
    (void)nanosleep(&(struct timespec){0, lost->delay_us * 1000L}, NULL);
    lost->reports[lost->victim].died_s = serve_now_s();
    (void)kill(getpid(), SIGKILL);
    return NULL;
}

/* The victim dies a moment after it began a step, wherever it is then. A busy machine may keep the killer from a processor for
 * longer than the rest of the trace takes: after some more steps the victim waits for it. */
static void die_later(void *user, struct serve *serve)
{
    struct lost_rank *lost = user;
    if (serve->options.board_rank != lost->victim) {
        return;
    }
    uint64_t step = lost->steps++;
    pthread_t thread;
    if (step == lost->step && pthread_create(&thread, NULL, killer, lost) != 0) {
        (void)killer(lost);
    }
    while (step > lost->step + STEPS_MORE) {
        (void)pause();
    }
}

/* How many ranks below `rank` are left: a survivor's new rank, and for `rank` == world all survivors. */
static int survivors_below(uint64_t lost_ranks, int rank)
{
    int below = 0;
    for (int other = 0; other < rank; other++) {
        below += (lost_ranks >> other & 1u) == 0;
    }
    return below;
}

/* Replaces numbers by the smallest that any rank has. */
static bool smallest(struct serve *serve, tutti_comm *comm, float *numbers, size_t count)
{
    struct compute *compute = serve->compute;
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = serve->target.stream};
    size_t bytes = count * sizeof(*numbers);
    float *shared = compute->ops->alloc(compute, bytes);
    bool good =
        shared != NULL && compute->ops->put(compute, shared, numbers, bytes) &&
        compute_note(compute, tutti_all_reduce(comm, shared, shared, count, TUTTI_F32, TUTTI_MIN, &call)) == TUTTI_OK &&
        compute->ops->synchronize(compute, serve->target.stream) == TUTTI_OK &&
        compute_note(compute, tutti_comm_status(comm)) == TUTTI_OK &&
        compute->ops->get(compute, numbers, shared, bytes);
    compute->ops->release(compute, shared);
    return good;
}

/* A workload's clock starts anew: both in one number, which orders moments. Whole milliseconds are exact in fp32. */
#define WORKLOAD_MS (1 << 20)

/* The smallest `produced` of each request, and the earliest moment, over all survivors; then everybody goes back to
 * it. */
static bool agree(struct serve *serve, tutti_comm *comm, uint64_t *rewound)
{
    struct schedule *schedule = &serve->schedule;
    size_t count = (size_t)schedule->trace->count;
    float *numbers = calloc(count + 1, sizeof(*numbers));
    if (numbers == NULL) {
        (void)snprintf(serve->compute->sentence, sizeof(serve->compute->sentence), "out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (float)schedule->requests[i].produced;
    }
    numbers[count] = (float)(schedule->workload * WORKLOAD_MS + (int)schedule->clock_ms);
    bool good = smallest(serve, comm, numbers, count + 1);
    for (size_t i = 0; good && i < count; i++) {
        *rewound += (uint64_t)schedule->requests[i].produced - (uint64_t)numbers[i];
        schedule_rewind(schedule, (int)i, (int)numbers[i]);
    }
    if (good) {
        int moment = (int)numbers[count];
        schedule_set_clock(schedule, moment / WORKLOAD_MS, moment % WORKLOAD_MS);
    }
    free(numbers);
    return good;
}

/* A survivor's second life. `old` stays open until the new communicator stands, so that nobody mistakes a survivor
 * for a second victim. */
static bool go_on(const struct phase_rank *self, struct serve *serve, int rank, int world, uint64_t *rewound)
{
    struct compute *compute = serve->compute;
    tutti_comm *comm = run_rank_comm(self, compute, rank, world, self->survivors, BOARD_STORM);
    if (comm == NULL) {
        return false;
    }
    struct model *model = run_rank_model(self, compute, rank, world, BOARD_STORM);
    bool good = model != NULL;
    if (good && !agree(serve, comm, rewound)) {
        good = run_rank_fail(self, BOARD_STORM, compute->sentence);
    }
    good = good && (serve_reopen(serve, comm, model) || run_rank_fail(self, BOARD_STORM, serve->sentence));
    good = good && (serve_run(serve) == TUTTI_OK || run_rank_fail(self, BOARD_STORM, serve->sentence));
    serve_close(serve); /* before what it borrows goes */
    model_destroy(model);
    tutti_comm_destroy(comm);
    return good;
}

/* Which ranks are gone. A failure may arrive by word of a peer before this process has seen the socket close, so
 * this waits a moment for its own eyes. 0 if nobody is. */
static uint64_t lost_ranks(tutti_comm *comm)
{
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    for (int look = 0; look < 2000 && info.lost_ranks == 0; look++) {
        if (tutti_comm_info(comm, &info) != TUTTI_OK) {
            return 0;
        }
        if (info.lost_ranks == 0) {
            (void)nanosleep(&(struct timespec){0, 1000000L}, NULL);
        }
    }
    return info.lost_ranks;
}

/* What this rank saw, and the place it takes among the survivors. The shape may not divide by their number: then
 * the last of them have no part in what follows. */
static bool survive(const struct phase_rank *self, struct serve *serve, tutti_status failed, tutti_comm *old)
{
    const struct lost_rank *lost = self->user;
    struct lost_report *report = &lost->reports[self->rank];
    report->noticed_s = serve_now_s();
    (void)snprintf(report->sentence, sizeof(report->sentence), "%.500s", serve->sentence);
    uint64_t gone = failed == TUTTI_ERR_PEER_LOST ? lost_ranks(old) : 0;
    if (gone == 0) {
        return run_rank_fail(self, BOARD_STORM, serve->sentence);
    }
    int world = model_shape_world_below(&self->run->shape, survivors_below(gone, self->world));
    int rank = survivors_below(gone, self->rank);
    if (rank >= world) {
        return true;
    }
    report->world = world;
    return go_on(self, serve, rank, world, &report->rewound);
}

static bool lost_body(const struct phase_rank *self)
{
    struct lost_rank *lost = self->user;
    const struct serve_faults faults = {.user = lost, .before_step = die_later};
    struct serve serve = {0};
    struct run_rank rank;
    bool good = run_rank_open(&rank, self, BOARD_STORM);
    struct serve_options options = run_rank_options(self, BOARD_STORM);
    options.way = ENGINE_PIECEWISE;
    options.lazy = true;
    options.forced = run_rank_forced(self->run);
    options.faults = &faults;
    good = good &&
           (serve_open(&serve, &options, rank.comm, rank.model) || run_rank_fail(self, BOARD_STORM, serve.sentence));
    if (good) {
        tutti_status status = serve_run(&serve);
        good = status == TUTTI_OK ? run_rank_fail(self, BOARD_STORM, "nothing happened: the rank was killed too late")
                                  : survive(self, &serve, status, rank.comm);
        serve_close(&serve);
    }
    run_rank_close(&rank);
    return good;
}

/* How many steps the storm's trace took in the storms before: the victim dies in the middle of them. */
static void choose_moment(const struct run *run, struct lost_rank *lost)
{
    uint64_t state = run->options.seed + 3;
    uint64_t steps = board_pass(&run->board, BOARD_STORM, 0)->steps;
    lost->victim = (int)(storm_random(&state) % (uint64_t)run->options.ranks);
    lost->step = steps / 3 + storm_random(&state) % (steps / 3 + 1);
    lost->delay_us = (long)(storm_random(&state) % 1000);
}

static void tell(const struct run *run, const struct lost_rank *lost, struct storm_outcome *outcome)
{
    uint64_t kept = 0;
    int teller = -1;
    for (int rank = 0; rank < run->options.ranks; rank++) {
        if (lost->reports[rank].world > 0) {
            kept |= (uint64_t)1 << rank;
            teller = teller < 0 ? rank : teller;
        }
    }
    char tokens[256] = "nobody survived";
    outcome->ok = kept != 0 && storm_tokens(run, kept, tokens, sizeof(tokens));
    if (teller < 0) {
        (void)snprintf(outcome->sentence, sizeof(outcome->sentence), "%s", tokens);
        return;
    }
    const struct lost_report *report = &lost->reports[teller];
    (void)snprintf(outcome->sentence, sizeof(outcome->sentence),
                   "rank %d was killed in step %" PRIu64 "; after %.1f ms rank %d was told \"%s\"; %d rank%s went on "
                   "with new shards: %s",
                   lost->victim, lost->step, (report->noticed_s - lost->reports[lost->victim].died_s) * 1e3, teller,
                   report->sentence, report->world, report->world == 1 ? "" : "s", tokens);
}

void storm_lost_rank(struct run *run, struct storm_outcome *outcome)
{
    outcome->name = "a rank killed while serving";
    size_t bytes = TUTTI_WORLD_MAX * sizeof(struct lost_report);
    struct lost_rank lost = {0};
    void *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        (void)snprintf(outcome->sentence, sizeof(outcome->sentence), "out of memory");
        return;
    }
    lost.reports = shared;
    choose_moment(run, &lost);
    board_clear(&run->board, BOARD_STORM);
    const struct phase phase = {.label = outcome->name,
                                .world = run->options.ranks,
                                .body = lost_body,
                                .user = &lost,
                                .slot = BOARD_STORM,
                                .slot_last = BOARD_STORM,
                                .outputs = run->storm_trace.output_total,
                                .spared = (uint64_t)1 << lost.victim};
    if (phase_run(run, &phase, outcome->sentence, sizeof(outcome->sentence))) {
        tell(run, &lost, outcome);
    }
    (void)munmap(shared, bytes);
}
