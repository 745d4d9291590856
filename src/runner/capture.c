/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture.c - graphs for buckets, on all ranks or on none.
 *
 *   1  exchange: all are going to capture the same thing, and all of them can
 *   2  once: the pass over the largest bucket, eagerly, so that whatever the engine does lazily is done
 *   3  each rank for itself: its segments, bucket by bucket, the largest first
 *   4  exchange: what failed where. Those buckets are given up on all ranks, before a commit compares what was captured
 *   5  one commit
 *
 * Captures run nothing: between two steps of serving, a rank that captures is only late.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "capture/registry.h"
#include "comm/commit.h"
#include "comm/session.h"
#include "runner/runner.h"

/* One call of the runner's, for one rank. */
struct campaign {
    tutti_runner *runner;
    tutti_stream stream;
    uint64_t begun_ns;
    size_t done, total;
    bool entered; /* a session of its own */
    uint32_t extension_ms;
    struct runner_verdict verdict;
};

static double ms_since(uint64_t begun_ns)
{
    return (double)(clock_now_ns() - begun_ns) * 1e-6;
}

static void tell(const struct campaign *campaign, tutti_runner_phase phase, size_t rows)
{
    const tutti_runner *runner = campaign->runner;
    const tutti_runner_progress_t progress = {.struct_bytes = sizeof(progress),
                                              .phase = phase,
                                              .rows = rows,
                                              .done = campaign->done,
                                              .total = campaign->total,
                                              .elapsed_ms = ms_since(campaign->begun_ns)};
    if (runner->progress != NULL) {
        runner->progress(runner->user, &progress);
    }
}

/* -- one graph --------------------------------------------------------------------------------------------------- */

/* Why the capture's graph cannot be complete, where its calls are counted; NULL: it is. */
static const char *capture_broken(const tutti_runner *runner, uint64_t capture)
{
    for (const struct recorded *each = runner->comm->registry->recorded; each != NULL && capture != 0;
         each = each->next) {
        if (each->capture == capture && each->broken) {
            return each->why;
        }
    }
    return NULL;
}

/* What invalidated it is known best there, too. */
static tutti_status capture_lost(const tutti_runner *runner, uint64_t capture, tutti_stream stream, tutti_status status)
{
    char said[ERROR_SENTENCE_BYTES];
    (void)snprintf(said, sizeof(said), "%s", tutti_last_error());
    if (capture != 0) {
        registry_invalidated(runner->comm->registry, capture, stream, "the end of the capture");
    }
    const char *why = capture_broken(runner, capture);
    return why != NULL ? error_set(status, "%.250s (%s)", why, said) : error_set(status, "%s", said);
}

static tutti_status graph_capture(tutti_runner *runner, const struct runner_segment *segment, size_t rows,
                                  tutti_stream stream, struct device_graph **graph, uint64_t *bytes)
{
    const tutti_comm *comm = runner->comm;
    struct device_stream state = {DEVICE_STREAM_IDLE, 0};
    bool fixed = segment->fixed_rows != 0;
    size_t width = fixed ? segment->fixed_rows : rows;
    tutti_status status = runner->graphs->capture_begin(runner->device, stream, graph);
    if (status != TUTTI_OK) {
        return status;
    }
    (void)comm->ops->group_stream(comm->group, stream, &state);
    tutti_status recorded = segment_enqueue(runner, segment, width, fixed ? width : 1, stream);
    char why[ERROR_SENTENCE_BYTES];
    (void)snprintf(why, sizeof(why), "%s", tutti_last_error());
    status = runner->graphs->capture_end(runner->device, stream, graph, bytes);
    if (status != TUTTI_OK) {
        return capture_lost(runner, state.capture, stream, status);
    }
    if (recorded == TUTTI_OK && capture_broken(runner, state.capture) != NULL) { /* and the callback took no notice */
        recorded = TUTTI_ERR_CAPTURE;
        (void)snprintf(why, sizeof(why), "%s", capture_broken(runner, state.capture));
    }
    if (recorded != TUTTI_OK) {
        runner->graphs->destroy(runner->device, *graph);
        *graph = NULL;
        return error_set(recorded, "%s", why);
    }
    return TUTTI_OK;
}

/* -- one bucket ---------------------------------------------------------------------------------------------------- */

static void bucket_note(const tutti_runner *runner, struct runner_bucket *bucket, const struct runner_segment *segment)
{
    char why[ERROR_SENTENCE_BYTES];
    (void)snprintf(why, sizeof(why), "%s", tutti_last_error());
    bucket->failed = true;
    int room = (int)sizeof(bucket->reason);
    int used = snprintf(bucket->reason, (size_t)room, "rank %d, bucket of %zu rows, %.63s: ", runner->comm->rank,
                        bucket->rows, segment != NULL ? segment->name : "its graphs");
    (void)snprintf(bucket->reason + used, (size_t)(room - used), "%.*s", room - used - 1, why);
}

static uint64_t used_bytes(const tutti_runner *runner)
{
    return runner->graphs->used_bytes != NULL ? runner->graphs->used_bytes(runner->device) : 0;
}

static void bucket_capture(tutti_runner *runner, struct runner_bucket *bucket, tutti_stream stream)
{
    uint64_t begun_ns = clock_now_ns();
    uint64_t used = used_bytes(runner);
    uint64_t bytes = 0;
    bucket->before = runner->comm->registry->last_recorded;
    bucket->graphs = calloc((size_t)runner->segment_count, sizeof(struct device_graph *));
    if (bucket->graphs == NULL) {
        (void)error_set(TUTTI_ERR_SYSTEM, "out of memory");
        bucket_note(runner, bucket, NULL);
    }
    for (int index = 0; index < runner->segment_count && !bucket->failed; index++) {
        const struct runner_segment *segment = &runner->segments[index];
        uint64_t more = 0;
        if (!bucket_has(bucket, segment)) {
            continue;
        }
        if (graph_capture(runner, segment, bucket->rows, stream, &bucket->graphs[index], &more) != TUTTI_OK) {
            bucket_note(runner, bucket, segment);
        }
        bytes += more;
    }
    bucket->last = runner->comm->registry->last_recorded;
    uint64_t now = used_bytes(runner);
    bucket->graph_bytes = now > used ? now - used : bytes;
    bucket->capture_ms = ms_since(begun_ns);
    runner->stats.capture_ms += bucket->capture_ms;
}

/* The largest first: graphs of smaller ones find memory that the driver has set aside already. */
static void buckets_capture(struct campaign *campaign)
{
    tutti_runner *runner = campaign->runner;
    for (size_t index = bucket_total(runner); index-- > 0;) {
        struct runner_bucket *bucket = bucket_at(runner, index);
        if (bucket->chosen) {
            tell(campaign, TUTTI_RUNNER_CAPTURE, bucket->rows);
            bucket_capture(runner, bucket, campaign->stream);
            campaign->done++;
        }
    }
}

/* After the ranks have agreed. */
static void bucket_settle(tutti_runner *runner, struct runner_bucket *bucket)
{
    bucket->chosen = false;
    if (bucket->failed) {
        bucket_clear(runner, bucket);
        registry_settle_behind(runner->comm->registry, bucket->before, bucket->last);
        bucket->state = TUTTI_BUCKET_EAGER;
        bucket->tries++;
        bucket->failed_captures++;
        runner->stats.failed_captures++;
    } else {
        bucket->state = TUTTI_BUCKET_CAPTURED;
        bucket->tries = 0;
        bucket->reason[0] = 0;
        bucket->captures++;
        runner->stats.captures++;
        runner->stats.graph_memory_bytes += bucket->graph_bytes;
    }
    bucket->failed = false;
    bucket->before = bucket->last = 0;
}

/* -- all of it ------------------------------------------------------------------------------------------------------- */

static bool is_wanted(const tutti_runner *runner, const struct capture_order *order, size_t index)
{
    return order->only == BUCKET_ALL || order->only == index ||
           (order->fixed && bucket_at(runner, index) == &runner->fixed);
}

static size_t choose(tutti_runner *runner, const struct capture_order *order)
{
    size_t chosen = 0;
    for (size_t index = 0; index < bucket_total(runner); index++) {
        struct runner_bucket *bucket = bucket_at(runner, index);
        bucket->failed = false;
        bucket->chosen = is_wanted(runner, order, index) && bucket->state != TUTTI_BUCKET_CAPTURED;
        chosen += bucket->chosen;
    }
    return chosen;
}

static void choose_none(tutti_runner *runner)
{
    const struct capture_order nothing = {.only = BUCKET_NONE};
    (void)choose(runner, &nothing);
}

static void verdict_note(struct campaign *campaign, tutti_status status)
{
    struct runner_verdict *verdict = &campaign->verdict;
    verdict->status = status;
    (void)snprintf(verdict->sentence, sizeof(verdict->sentence), "%.511s",
                   status != TUTTI_OK ? tutti_last_error() : "");
}

static tutti_status agree(struct campaign *campaigns, int count, struct runner_accord *accord)
{
    tutti_runner *runners[TUTTI_WORLD_MAX] = {NULL};
    struct runner_verdict verdicts[TUTTI_WORLD_MAX] = {{.status = TUTTI_OK}};
    for (int index = 0; index < count; index++) {
        runners[index] = campaigns[index].runner;
        verdicts[index] = campaigns[index].verdict;
    }
    return runners_agree(runners, verdicts, count, accord);
}

/* A session of its own tells calls on other streams from those that are captured. */
static void campaign_enter(struct campaign *campaign)
{
    verdict_note(campaign, session_enter(campaign->runner->comm, campaign->stream, &campaign->entered));
    campaign->verdict.in_session = campaign->verdict.status == TUTTI_OK && !campaign->entered;
}

static void campaign_exit(struct campaign *campaign)
{
    if (campaign->entered) {
        session_exit(campaign->runner->comm);
    }
    campaign->entered = false;
}

/* What the caller has asked the peers to grant (tutti_comm_extend_deadline) is meant for all of this call; each of its steps
 * would end it. */
static uint32_t extension_get(const tutti_runner *runner)
{
    const tutti_comm *comm = runner->comm;
    return atomic_load_explicit(&comm->controls[comm->rank]->extension_ms, memory_order_relaxed);
}

static void extension_keep(const struct campaign *campaign)
{
    const tutti_comm *comm = campaign->runner->comm;
    if (extension_get(campaign->runner) < campaign->extension_ms) {
        atomic_store_explicit(&comm->controls[comm->rank]->extension_ms, campaign->extension_ms, memory_order_relaxed);
    }
}

/* Nothing has been run or captured if this fails. */
static tutti_status campaigns_begin(struct campaign *campaigns, int count, const struct capture_order *order,
                                    struct runner_accord *accord)
{
    for (int index = 0; index < count; index++) {
        struct campaign *campaign = &campaigns[index];
        verdict_note(campaign, order->given);
        campaign->verdict.rows = order->serving ? campaign->runner->pass.rows : 0;
        campaign->total = choose(campaign->runner, order);
        if (campaign->verdict.status == TUTTI_OK) {
            verdict_note(campaign, runner_stream_check(campaign->runner, "tutti_runner_capture", campaign->stream));
        }
        if (campaign->verdict.status == TUTTI_OK) {
            campaign_enter(campaign); /* whether it can; a pass may use streams that a session would refuse */
            campaign_exit(campaign);
        }
    }
    tutti_status status = agree(campaigns, count, accord);
    for (int index = 0; index < count && status != TUTTI_OK; index++) {
        choose_none(campaigns[index].runner);
        campaigns[index].runner->pass.differs = order->serving && accord->runs_differ;
    }
    return status;
}

/* All ranks' passes are enqueued before one of them is waited for. */
static void warm_up(struct campaign *campaigns, int count)
{
    for (int index = 0; index < count; index++) {
        struct campaign *campaign = &campaigns[index];
        tutti_runner *runner = campaign->runner;
        size_t rows = runner->buckets[runner->bucket_count - 1].rows;
        extension_keep(campaign);
        tell(campaign, TUTTI_RUNNER_WARM_UP, rows);
        verdict_note(campaign, runner_warm_up(runner, rows, campaign->stream));
    }
    for (int index = 0; index < count; index++) {
        struct campaign *campaign = &campaigns[index];
        tutti_runner *runner = campaign->runner;
        if (campaign->verdict.status == TUTTI_OK) {
            verdict_note(campaign, runner_finish(runner, campaign->stream));
        }
        runner->warm = campaign->verdict.status == TUTTI_OK;
        runner->stats.warm_ups += runner->warm;
        runner->stats.warm_up_ms += ms_since(campaign->begun_ns);
    }
}

static void campaign_settle(struct campaign *campaign, bool failed)
{
    tutti_runner *runner = campaign->runner;
    campaign_exit(campaign);
    for (size_t at = 0; at < bucket_total(runner); at++) {
        struct runner_bucket *bucket = bucket_at(runner, at);
        if (bucket->chosen) {
            if (failed && !bucket->failed) { /* with all of them */
                (void)snprintf(bucket->reason, sizeof(bucket->reason), "%.511s", tutti_last_error());
            }
            bucket->failed = bucket->failed || failed;
            bucket_settle(runner, bucket);
        }
    }
}

/* One round for all ranks here: captures what is chosen and settles what became of it. */
static tutti_status round_run(struct campaign *campaigns, int count, const struct capture_order *order)
{
    struct runner_accord accord;
    for (int index = 0; index < count; index++) {
        struct campaign *campaign = &campaigns[index];
        campaign->total = choose(campaign->runner, order);
        campaign->done = 0;
        extension_keep(campaign);
        if (campaign->verdict.status == TUTTI_OK) {
            campaign_enter(campaign);
        }
        if (campaign->verdict.status == TUTTI_OK) {
            buckets_capture(campaign);
        }
        tell(campaign, TUTTI_RUNNER_COMMIT, 0);
    }
    tutti_status status = agree(campaigns, count, &accord);
    for (int index = 0; index < count; index++) {
        campaign_settle(&campaigns[index], status != TUTTI_OK);
    }
    return status;
}

/* What other graphs of the caller's a commit refuses is his to hear from his own next one: this one drops them, and the second takes
 * ours. */
static tutti_status commit(struct campaign *campaigns, int count)
{
    tutti_comm *comms[TUTTI_WORLD_MAX] = {NULL};
    uint64_t begun_ns = clock_now_ns();
    for (int index = 0; index < count; index++) {
        comms[index] = campaigns[index].runner->comm;
    }
    tutti_status status = comm_commit(comms, count);
    bool refused = status != TUTTI_OK;
    char why[ERROR_SENTENCE_BYTES];
    (void)snprintf(why, sizeof(why), "%s", tutti_last_error());
    if (status == TUTTI_ERR_CAPTURE) {
        status = comm_commit(comms, count);
    }
    for (int index = 0; index < count; index++) {
        tutti_runner_stats_t *stats = &campaigns[index].runner->stats;
        stats->commits += status == TUTTI_OK;
        stats->refused_commits += refused;
        stats->commit_ms += ms_since(begun_ns);
        if (refused) {
            (void)snprintf(stats->commit_sentence, sizeof(stats->commit_sentence), "%.255s", why);
        }
    }
    return comm_check(comms[0]);
}

static bool any_failed(const tutti_runner *runner, const struct capture_order *order)
{
    for (size_t index = 0; index < bucket_total(runner); index++) {
        if (is_wanted(runner, order, index) && bucket_at(runner, index)->state == TUTTI_BUCKET_EAGER) {
            return true;
        }
    }
    return false;
}

static tutti_status campaigns_run(struct campaign *campaigns, int count, const tutti_runner *first,
                                  const struct capture_order *order)
{
    struct runner_accord accord = {false, false, false};
    tutti_status status = campaigns_begin(campaigns, count, order, &accord);
    if (status != TUTTI_OK) {
        return status;
    }
    if (accord.cold && !order->serving) {
        warm_up(campaigns, count);
    }
    status = round_run(campaigns, count, order);
    for (unsigned round = 1; round < order->rounds && status == TUTTI_OK && any_failed(first, order); round++) {
        status = round_run(campaigns, count, order);
    }
    if (status == TUTTI_OK && !accord.in_session && (first->flags & TUTTI_RUNNER_NO_COMMIT) == 0) {
        status = commit(campaigns, count);
    }
    for (int index = 0; index < count && status == TUTTI_OK; index++) {
        tell(&campaigns[index], TUTTI_RUNNER_DONE, 0);
    }
    return status;
}

tutti_status runner_capture(tutti_runner *const *runners, const tutti_stream *streams, int count,
                            const struct capture_order *order)
{
    struct campaign campaigns[TUTTI_WORLD_MAX] = {{.runner = NULL}};
    for (int index = 0; index < count; index++) {
        campaigns[index] = (struct campaign){.runner = runners[index],
                                             .stream = streams[index],
                                             .begun_ns = clock_now_ns(),
                                             .extension_ms = extension_get(runners[index])};
        runners[index]->inside++;
    }
    tutti_status status = campaigns_run(campaigns, count, runners[0], order);
    for (int index = 0; index < count; index++) {
        runners[index]->inside--;
    }
    return status;
}
