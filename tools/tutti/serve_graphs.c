/* SPDX-License-Identifier: Apache-2.0 */
/* serve_graphs.c - one graph per decode bucket, captured when the bucket is first met. */
#include <stdio.h>
#include <string.h>

#include "serve.h"

int serve_bucket(int rows)
{
    int bucket = 0;
    while (1 << bucket < rows) {
        bucket++;
    }
    return bucket;
}

static void interfere(const struct serve_faults *faults, struct serve *serve, bool ending)
{
    if (faults == NULL) {
        return;
    }
    void (*fault)(void *, struct serve *) = ending ? faults->capture_ending : faults->capture_begun;
    if (fault != NULL) {
        fault(faults->user, serve);
    }
}

/* Records one whole decode step. A capture that fails at an operation must still be ended: the stream leaves the
 * capture, and the sentence of the end says what invalidated it. */
static tutti_status capture(struct serve *serve, struct serve_graph *entry)
{
    struct compute *compute = serve->compute;
    tutti_status status = compute->ops->capture_begin(compute, serve->stream);
    if (status != TUTTI_OK) {
        return status;
    }
    interfere(serve->options.faults, serve, false);
    tutti_status recorded = forward_plan_enqueue(entry->plan, serve->stream);
    interfere(serve->options.faults, serve, true);
    status = compute->ops->capture_end(compute, serve->stream, &entry->graph);
    if (status == TUTTI_OK && recorded != TUTTI_OK) {
        compute->ops->graph_destroy(compute, entry->graph);
        entry->graph = NULL;
        return recorded;
    }
    return status;
}

static void capture_bucket(struct serve *serve, struct serve_graph *entry, int bucket)
{
    if (entry->plan == NULL) {
        entry->plan = forward_plan_create(&serve->forward, 1 << bucket, 1 << bucket);
    }
    struct compute *compute = serve->compute;
    if (entry->plan == NULL ||
        !compute->ops->warm(compute, &serve->forward, entry->plan->rows, entry->plan->picks, serve->stream)) {
        return;
    }
    double begun = serve_now_s();
    tutti_status status = capture(serve, entry);
    serve->report->capture_ms += (serve_now_s() - begun) * 1e3;
    if (status != TUTTI_OK) {
        /* This step runs eagerly, beside peers that may replay theirs; the next one tries again. */
        entry->failures++;
        serve->report->capture_failures++;
        (void)snprintf(serve->report->sentence, sizeof(serve->report->sentence), "%s", compute->sentence);
        return;
    }
    serve->report->captures++;
}

/* All ranks refuse a commit together, where one of them has captured something else than the others or nothing: what was captured
 * is staged then, and served from all the same. */
tutti_status serve_commit(struct serve *serve)
{
    double begun = serve_now_s();
    tutti_status status = compute_note(serve->compute, tutti_commit(serve->comm));
    serve->report->commit_ms += (serve_now_s() - begun) * 1e3;
    serve->report->commits += status == TUTTI_OK;
    serve->report->commits_refused += status != TUTTI_OK;
    return status;
}

void *serve_graph_for(struct serve *serve, int bucket)
{
    struct serve_graph *entry = &serve->graphs[bucket];
    bool first = !entry->met;
    entry->met = true;
    if (entry->graph == NULL && entry->failures < SERVE_CAPTURE_TRIES) {
        capture_bucket(serve, entry, bucket);
    }
    if (first && !serve->options.commits_late) {
        (void)serve_commit(serve); /* all ranks meet a bucket in the same step, whatever became of their captures */
    }
    return entry->graph;
}

void serve_graphs_destroy(struct serve *serve)
{
    for (int bucket = 0; bucket < SERVE_BUCKETS; bucket++) {
        struct serve_graph *entry = &serve->graphs[bucket];
        if (entry->graph != NULL) {
            serve->compute->ops->graph_destroy(serve->compute, entry->graph);
        }
        forward_plan_destroy(entry->plan);
        memset(entry, 0, sizeof(*entry));
    }
}
