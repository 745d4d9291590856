/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/room.h"
#include "collective/signature.h"

#define ITEMS_MAX (1u << 20) /* of each kind: what a sane peer stays below */

/* -- writing ------------------------------------------------------------------------------------------ */

static void *add(void *array, size_t *room, uint32_t *count, size_t item_bytes)
{
    unsigned char *items = NULL;
    if (*count == ITEMS_MAX || !room_for(array, room, (size_t)*count + 1, item_bytes)) {
        return NULL;
    }
    memcpy(&items, array, sizeof(items));
    void *item = items + (*count)++ * item_bytes;
    memset(item, 0, item_bytes);
    return item;
}

struct ledger_graph *ledger_add_graph(struct ledger *ledger)
{
    return add(&ledger->graphs, &ledger->graph_room, &ledger->head.graphs, sizeof(*ledger->graphs));
}

struct ledger_call *ledger_add_call(struct ledger *ledger)
{
    return add(&ledger->calls, &ledger->call_room, &ledger->head.calls, sizeof(*ledger->calls));
}

struct ledger_allocation *ledger_add_allocation(struct ledger *ledger)
{
    return add(&ledger->allocations, &ledger->allocation_room, &ledger->head.allocations, sizeof(*ledger->allocations));
}

void ledger_refuse(struct ledger *ledger, tutti_status status)
{
    if (ledger->head.status == TUTTI_OK) {
        ledger->head.status = status;
        (void)snprintf(ledger->head.sentence, sizeof(ledger->head.sentence), "%.199s", tutti_last_error());
    }
}

static size_t packed_bytes(const struct ledger_head *head)
{
    return sizeof(*head) + head->graphs * sizeof(struct ledger_graph) + head->calls * sizeof(struct ledger_call) +
           head->allocations * sizeof(struct ledger_allocation) + head->names * sizeof(uint64_t);
}

static unsigned char *append(unsigned char *to, const void *items, size_t bytes)
{
    if (bytes > 0) {
        memcpy(to, items, bytes);
    }
    return to + bytes;
}

unsigned char *ledger_pack(const struct ledger *ledger, size_t *bytes)
{
    const struct ledger_head *head = &ledger->head;
    *bytes = packed_bytes(head);
    unsigned char *packed = malloc(*bytes);
    if (packed != NULL) {
        unsigned char *to = append(packed, head, sizeof(*head));
        to = append(to, ledger->graphs, head->graphs * sizeof(*ledger->graphs));
        to = append(to, ledger->calls, head->calls * sizeof(*ledger->calls));
        to = append(to, ledger->allocations, head->allocations * sizeof(*ledger->allocations));
        (void)append(to, ledger->names, head->names * sizeof(*ledger->names));
    }
    return packed;
}

void ledger_free(struct ledger *ledger)
{
    free(ledger->graphs);
    free(ledger->calls);
    free(ledger->allocations);
    memset(ledger, 0, sizeof(*ledger));
}

/* -- reading ------------------------------------------------------------------------------------------ */

_Static_assert(sizeof(struct ledger_head) % 8 == 0 && sizeof(struct ledger_graph) % 8 == 0 &&
                   sizeof(struct ledger_call) % 8 == 0 && sizeof(struct ledger_allocation) % 8 == 0,
               "every part begins aligned");

static bool calls_add_up(const struct ledger_view *view)
{
    uint64_t calls = 0;
    for (uint32_t graph = 0; graph < view->head.graphs; graph++) {
        calls += view->graphs[graph].calls;
        if (view->graphs[graph].fate != FATE_WHOLE && view->graphs[graph].calls != 0) {
            return false; /* the others' calls have to stay in step */
        }
    }
    return view->head.verb == LEDGER_RESUME ? view->head.graphs == 0 : calls == view->head.calls;
}

static bool buffers_exist(const struct ledger_view *view)
{
    bool exist = true;
    for (uint32_t call = 0; call < view->head.calls; call++) {
        for (int buffer = 0; buffer < BUFFER_COUNT; buffer++) {
            int64_t where = view->calls[call].buffers[buffer].where;
            exist = exist && where >= WHERE_PRIVATE && where < (int64_t)view->head.allocations &&
                    (where < 0 || view->allocations[where].joined == 0);
        }
    }
    return exist;
}

bool ledger_read(const unsigned char *bytes, size_t size, struct ledger_view *view)
{
    if (size < sizeof(view->head)) {
        return false;
    }
    memcpy(&view->head, bytes, sizeof(view->head));
    struct ledger_head *head = &view->head;
    head->sentence[sizeof(head->sentence) - 1] = 0;
    if (head->graphs > ITEMS_MAX || head->calls > ITEMS_MAX || head->allocations > ITEMS_MAX ||
        head->names > ITEMS_MAX || size != packed_bytes(head) || head->status > 0 || head->status < TUTTI_ERR_ABORTED) {
        return false;
    }
    if (head->status != TUTTI_OK && head->graphs + head->calls + head->allocations + head->names != 0) {
        return false; /* who does not take part has nothing to say */
    }
    const void *at = bytes + sizeof(*head);
    view->graphs = at;
    at = view->graphs + head->graphs;
    view->calls = at;
    at = view->calls + head->calls;
    view->allocations = at;
    at = view->allocations + head->allocations;
    view->names = at;
    bool runs_begin = head->allocations == 0 || view->allocations[0].joined == 0;
    return calls_add_up(view) && runs_begin && buffers_exist(view);
}

/* -- judging ------------------------------------------------------------------------------------------ */

static const char *verb_name(uint32_t verb)
{
    return verb == LEDGER_COMMIT ? "tutti_commit" : verb == LEDGER_RESUME ? "tutti_resume" : "something else";
}

static tutti_status judge_verbs(const struct ledger_view *views, int world)
{
    for (int rank = 1; rank < world; rank++) {
        if (views[rank].head.verb != views[0].head.verb) {
            return error_set(TUTTI_ERR_MISMATCH, "rank 0 calls %s, rank %d calls %s", verb_name(views[0].head.verb),
                             rank, verb_name(views[rank].head.verb));
        }
    }
    return TUTTI_OK;
}

static tutti_status judge_heads(const struct ledger_view *views, int world)
{
    for (int rank = 0; rank < world; rank++) {
        const struct ledger_head *head = &views[rank].head;
        if (head->status != TUTTI_OK) {
            return error_set((tutti_status)head->status, "%s: rank %d: %s", verb_name(head->verb), rank,
                             head->sentence);
        }
    }
    return TUTTI_OK;
}

static void describe(const struct ledger_call *call, char *text, size_t text_bytes)
{
    char what[SIGNATURE_TEXT_BYTES];
    signature_describe(call->signature, what, sizeof(what));
    (void)snprintf(text, text_bytes, "%s on lane %u", what, call->lane);
}

/* One rank has a graph of this number, another has none. */
static tutti_status differ_in_number(const struct ledger_view *views, int rank, uint32_t graph)
{
    int has = graph < views[0].head.graphs ? 0 : rank;
    const struct ledger_graph *more = &views[has].graphs[graph];
    char last[SIGNATURE_TEXT_BYTES] = "nothing";
    if (more->captured > 0) {
        signature_describe(more->last, last, sizeof(last));
    }
    return error_set(TUTTI_ERR_MISMATCH,
                     "tutti_commit: ranks captured different things: rank %d has a graph %u since the last commit (%u "
                     "calls, the last is %s), rank %d has none; nothing is committed, all of them stay staged",
                     has, graph + 1, more->captured, last, has == 0 ? rank : 0);
}

static tutti_status differ(uint32_t graph, uint32_t number, const struct ledger_call *first, int rank,
                           const struct ledger_call *other)
{
    char mine[SIGNATURE_TEXT_BYTES + 16] = "nothing more";
    char theirs[SIGNATURE_TEXT_BYTES + 16] = "nothing more";
    if (first != NULL) {
        describe(first, mine, sizeof(mine));
    }
    if (other != NULL) {
        describe(other, theirs, sizeof(theirs));
    }
    return error_set(TUTTI_ERR_MISMATCH,
                     "tutti_commit: ranks captured different calls: call %u of graph %u since the last commit is %s on "
                     "rank 0, %s on rank %d; nothing is committed, all of them stay staged",
                     number + 1, graph + 1, mine, theirs, rank);
}

static bool same_call(const struct ledger_call *one, const struct ledger_call *other)
{
    return one->signature == other->signature && one->lane == other->lane && one->row_bytes == other->row_bytes;
}

/* Where rank 0 and `rank` first differ in a graph that is whole on both. */
static tutti_status compare_graph(const struct ledger_view *views, int rank, uint32_t graph, const uint32_t *first)
{
    const struct ledger_view *mine = &views[0];
    const struct ledger_view *theirs = &views[rank];
    for (uint32_t number = 0;; number++) {
        bool has_mine = number < mine->graphs[graph].calls;
        bool has_theirs = number < theirs->graphs[graph].calls;
        const struct ledger_call *one = has_mine ? &mine->calls[first[0] + number] : NULL;
        const struct ledger_call *other = has_theirs ? &theirs->calls[first[rank] + number] : NULL;
        if (one == NULL && other == NULL) {
            return TUTTI_OK;
        }
        if (one == NULL || other == NULL || !same_call(one, other)) {
            return differ(graph, number, one, rank, other);
        }
    }
}

static bool whole_everywhere(const struct ledger_view *views, int world, uint32_t graph)
{
    bool whole = true;
    for (int rank = 0; rank < world; rank++) {
        uint32_t fate = graph < views[rank].head.graphs ? views[rank].graphs[graph].fate : FATE_WHOLE;
        whole = whole && fate == FATE_WHOLE;
    }
    return whole;
}

static tutti_status compare_graphs(const struct ledger_view *views, int world)
{
    uint32_t first[TUTTI_WORLD_MAX] = {0};
    for (int rank = 1; rank < world; rank++) {
        if (views[rank].head.forgotten != views[0].head.forgotten) {
            return error_set(
                TUTTI_ERR_MISMATCH,
                "tutti_commit: rank 0 has given up %llu captured calls for their number, rank %d %llu: ranks "
                "captured different things",
                (unsigned long long)views[0].head.forgotten, rank, (unsigned long long)views[rank].head.forgotten);
        }
    }
    for (uint32_t graph = 0;; graph++) {
        bool whole = whole_everywhere(views, world, graph);
        bool more = graph < views[0].head.graphs;
        tutti_status status = TUTTI_OK;
        for (int rank = 1; rank < world && status == TUTTI_OK; rank++) {
            bool theirs = graph < views[rank].head.graphs;
            if (more != theirs) {
                status = differ_in_number(views, rank, graph);
            } else if (more && whole) {
                status = compare_graph(views, rank, graph, first);
            }
        }
        if (status != TUTTI_OK || !more) {
            return status;
        }
        for (int rank = 0; rank < world; rank++) {
            first[rank] += views[rank].graphs[graph].calls;
        }
    }
}

/* What became of it nobody can tell: either way no graph is left that a user object belongs to. */
static tutti_status differ_in_life(const struct ledger_view *view, int rank, uint32_t graph)
{
    const struct ledger_graph *gone = &view->graphs[graph];
    char last[SIGNATURE_TEXT_BYTES];
    signature_describe(gone->last, last, sizeof(last));
    return error_set(
        TUTTI_ERR_CAPTURE,
        "tutti_commit: rank %d has no graph %u since the last commit: its capture was invalidated after %s "
        "(call %u of it), or it has been destroyed; all ranks have dropped it, and the others wait for the "
        "next commit",
        rank, graph + 1, last, gone->captured);
}

/* Graphs that some rank does not have. It is nobody's fault if none has it any more. */
static tutti_status drop_graphs(const struct ledger_view *views, int world, struct verdict *verdict)
{
    tutti_status status = TUTTI_OK;
    for (uint32_t graph = 0; graph < views[0].head.graphs; graph++) {
        int gone = 0;
        for (int rank = 0; rank < world; rank++) {
            uint32_t fate = views[rank].graphs[graph].fate;
            gone += fate == FATE_GONE;
            verdict->dropped[graph] = verdict->dropped[graph] || fate != FATE_WHOLE;
            if (fate == FATE_BROKEN && status == TUTTI_OK) {
                status =
                    error_set(TUTTI_ERR_CAPTURE,
                              "tutti_commit: rank %d: %s; all ranks have dropped that graph, and the others wait for "
                              "the next commit",
                              rank, views[rank].head.sentence);
            }
        }
        for (int rank = 0; rank < world && gone > 0 && gone < world && status == TUTTI_OK; rank++) {
            if (views[rank].graphs[graph].fate == FATE_GONE) {
                status = differ_in_life(&views[rank], rank, graph);
                verdict->unsure = true;
            }
        }
    }
    return status;
}

/* Why a call cannot go directly for this rank's part; NULL: it can. */
static const char *obstacle(const struct ledger_view *view, const struct ledger_call *call)
{
    if (call->missing != 0) {
        return "has released the graph";
    }
    if (call->has_slot == 0) {
        return "has no slot left for it";
    }
    for (int buffer = 0; buffer < BUFFER_COUNT; buffer++) {
        int32_t where = call->buffers[buffer].where;
        if (where == WHERE_UNALIGNED) {
            return "has a buffer that does not begin at a multiple of 16 bytes, or is not as long as one";
        }
        if (where == WHERE_UNKNOWN) {
            return "has a buffer that lies neither in one allocation nor in VMM memory that is mapped without a gap";
        }
        if (where >= 0 && view->allocations[where].shareable == 0) {
            return view->allocations[where].reason;
        }
    }
    return NULL;
}

static void judge_calls(const struct ledger_view *views, int world, struct verdict *verdict)
{
    for (uint32_t call = 0; call < views[0].head.calls; call++) {
        bool wanted = false;
        verdict->direct[call] = true;
        for (int rank = 0; rank < world; rank++) {
            wanted = wanted || views[rank].calls[call].has_slot != 0;
        }
        for (int rank = 0; rank < world; rank++) {
            const char *why = obstacle(&views[rank], &views[rank].calls[call]);
            if (why != NULL && verdict->direct[call]) {
                verdict->direct[call] = false;
                verdict->staged_count += wanted;
            }
            if (why != NULL && wanted) {
                (void)snprintf(verdict->staged_why, sizeof(verdict->staged_why), "rank %d: %.180s", rank, why);
                break;
            }
        }
    }
}

tutti_status ledger_judge_heads(const struct ledger_view *views, int world)
{
    tutti_status status = judge_verbs(views, world);
    return status == TUTTI_OK ? judge_heads(views, world) : status;
}

/* Sessions are numbered alike on all ranks. */
static tutti_status judge_sessions(const struct ledger_view *views, int world)
{
    for (int rank = 0; rank < world; rank++) {
        if (views[rank].head.abandoned != 0) {
            return error_set(
                TUTTI_ERR_CAPTURE,
                "rank %d has given up its capture session; all ranks have dropped what they captured in it, and "
                "the session is closed",
                rank);
        }
    }
    return TUTTI_OK;
}

/* The calls of a resumption are named by all ranks alike. */
static tutti_status compare_names(const struct ledger_view *views, int world)
{
    for (int rank = 1; rank < world; rank++) {
        if (views[rank].head.calls != views[0].head.calls) {
            return error_set(TUTTI_ERR_MISMATCH, "tutti_resume: rank 0 speaks of %u calls, rank %d of %u",
                             views[0].head.calls, rank, views[rank].head.calls);
        }
    }
    return TUTTI_OK;
}

tutti_status ledger_judge(const struct ledger_view *views, int world, int own, struct verdict *verdict)
{
    memset(verdict, 0, sizeof(*verdict));
    verdict->dropped = calloc((size_t)views[own].head.graphs + 1, sizeof(*verdict->dropped));
    verdict->direct = calloc((size_t)views[0].head.calls + 1, sizeof(*verdict->direct));
    if (verdict->dropped == NULL || verdict->direct == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for a verdict on %u calls", views[0].head.calls);
    }
    tutti_status status = judge_verbs(views, world);
    if (status == TUTTI_OK) {
        status = judge_sessions(views, world);
    }
    if (status == TUTTI_OK) {
        status = judge_heads(views, world);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    if (views[0].head.verb == LEDGER_COMMIT) {
        status = compare_graphs(views, world);
        verdict->mismatch = status != TUTTI_OK;
        if (status == TUTTI_OK) {
            status = drop_graphs(views, world, verdict);
        }
    } else {
        status = compare_names(views, world);
    }
    if (status == TUTTI_OK) {
        judge_calls(views, world, verdict);
    }
    return status;
}

void verdict_free(struct verdict *verdict)
{
    free(verdict->dropped);
    free(verdict->direct);
    memset(verdict, 0, sizeof(*verdict));
}

uint32_t ledger_run(const struct ledger_view *view, uint32_t first)
{
    uint32_t end = first + 1;
    while (end < view->head.allocations && view->allocations[end].joined != 0) {
        end++;
    }
    return end - first;
}

void ledger_mark_used(const struct ledger_view *view, const struct verdict *verdict, bool *used)
{
    for (uint32_t call = 0; call < view->head.calls; call++) {
        for (int buffer = 0; buffer < BUFFER_COUNT && verdict->direct[call]; buffer++) {
            int32_t where = view->calls[call].buffers[buffer].where;
            if (where >= 0) {
                used[where] = true;
            }
        }
    }
    for (uint32_t index = 1; index < view->head.allocations; index++) {
        if (view->allocations[index].joined != 0) {
            used[index] = used[index - 1];
        }
    }
}
