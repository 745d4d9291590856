/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit.c - captured calls become direct: for all ranks, or for none.
 *
 *   1  each for itself: what was captured since the last commit, and what its buffers lie in, exported
 *   2  exchange: the ledgers      all ranks come to the same verdict: which calls, or the first that differs
 *   3  pass descriptors, map the peers' allocations
 *   4  exchange: how that went    all have everything, or all give back what they got
 *   5  write the entries of the device's table: addresses first, then that they are good
 *   6  exchange: how that went    likewise
 *
 * No rank waits for another between 5 and 6 with anything but this: a kernel that finds the entry committed here and not yet there
 * takes the staged way on all ranks (kernels/direct.cu). So replays may run meanwhile.
 *
 * tutti_resume does the same for calls that have been committed before, under the names that they got then: it begins by asking
 * all ranks which these are.
 */
#include "comm/commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/room.h"
#include "capture/share.h"
#include "collective/signature.h"
#include "comm/commit_part.h"

void commit_note(struct commit *commit, tutti_status status)
{
    if (status != TUTTI_OK && commit->word.status == TUTTI_OK) {
        commit->word.status = status;
        (void)snprintf(commit->word.sentence, sizeof(commit->word.sentence), "%.199s", tutti_last_error());
    }
}

tutti_status commit_no_memory(void)
{
    return error_set(TUTTI_ERR_SYSTEM, "out of memory for a commit");
}

/* -- the end, either way ------------------------------------------------------------------------------------------ */

static bool is_of_commit(const struct ticket *ticket, const void *number)
{
    return ticket->agreed >> 32 == *(const uint64_t *)number;
}

/* Some rank could not write its table: those that could take it back. */
static void table_undo(struct commit *commit, tutti_status agreed)
{
    const uint64_t number = commit_number(commit);
    bool resumes = commit->ledger.head.verb == LEDGER_RESUME;
    char sentence[ERROR_SENTENCE_BYTES]; /* the one that all ranks agreed on */
    (void)snprintf(sentence, sizeof(sentence), "%s", tutti_last_error());
    tutti_status status =
        commit_withdraw(commit->comm, is_of_commit, &number, resumes ? TICKET_SUSPENDED : TICKET_PENDING);
    if (status != TUTTI_OK && status != TUTTI_ERR_ARGUMENT) { /* it can be neither kept nor taken back */
        struct failure failure = {status, commit->comm->rank, commit->comm->rank, ""};
        (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d: tutti_commit: %.200s", commit->comm->rank,
                       tutti_last_error());
        comm_fail(commit->comm, &failure);
    }
    (void)error_set(agreed, "%s", sentence);
    for (uint32_t call = 0; call < commit->ledger.head.calls; call++) {
        struct ticket *ticket = commit->tickets[call];
        if (ticket != NULL && ticket->state != TICKET_DIRECT) {
            ticket->agreed = commit->ledger.calls[call].agreed; /* which all ranks still know it by */
        }
    }
}

/* The sessions that all ranks were in are over. One that some rank could not begin there is missing in its count: from here on they count
 * alike again. */
static void sessions_count(struct commit *commit)
{
    struct registry *registry = commit->comm->registry;
    for (int rank = 0; rank < commit->comm->world; rank++) {
        uint64_t theirs = commit->views[rank].head.last_session;
        registry->last_session = theirs > registry->last_session ? theirs : registry->last_session;
    }
}

/* What the verdict left staged stays so; its slot goes to others. */
static void calls_settle(struct commit *commit)
{
    struct registry *registry = commit->comm->registry;
    for (uint32_t call = 0; call < commit->ledger.head.calls; call++) {
        struct ticket *ticket = commit->tickets[call];
        if (ticket != NULL && !commit->verdict.direct[call]) {
            registry_slot_return(registry, ticket);
            registry_move(registry, ticket, TICKET_STAGED);
        }
    }
    for (uint32_t graph = 0; graph < commit->ledger.head.graphs; graph++) {
        commit->graphs[graph]->pending = false;
    }
    if (commit->ledger.head.verb == LEDGER_COMMIT) {
        registry->session = 0; /* a commit ends the session that is open */
        sessions_count(commit);
        registry->forgotten = 0;
        (void)atomic_fetch_add(&registry->counts.commits, 1);
    }
    if (commit->ledger.head.calls > 0) {
        registry->staged_last = commit->verdict.staged_count;
        (void)snprintf(registry->staged_why, sizeof(registry->staged_why), "%.199s", commit->verdict.staged_why);
    }
    registry_sweep(registry);
}

/* which: NULL means all of them. */
static void graphs_settle(struct commit *commit, const bool *which)
{
    for (uint32_t graph = 0; graph < commit->ledger.head.graphs; graph++) {
        if (which == NULL || which[graph]) {
            registry_settle(commit->comm->registry, commit->graphs[graph]);
        }
    }
    registry_sweep(commit->comm->registry);
}

static void commit_end(struct commit *commit)
{
    struct registry *registry = commit->comm->registry;
    for (uint32_t index = 0; commit->offered != NULL && index < commit->ledger.head.allocations; index++) {
        offered_drop(&commit->offered[index]);
    }
    for (int rank = 0; rank < KERNEL_WORLD_MAX && rank < commit->comm->world; rank++) {
        for (uint32_t index = 0; commit->shares[rank] != NULL && index < commit->views[rank].head.allocations;
             index++) {
            share_drop(registry, commit->shares[rank][index]);
        }
        free(commit->shares[rank]);
        mapping_release(commit->runs[rank].mapping);
    }
    verdict_free(&commit->verdict);
    ledger_free(&commit->ledger);
    free(commit->graphs);
    free(commit->tickets);
    free(commit->offered);
    free(commit->packed);
    free(commit->received);
    free(commit);
}

/* -- the ranks together: each in a thread or process of its own, or all in this one -------------------------------- */

/* Reads what all ranks have sent. Fails only with the communicator. */
static tutti_status ledgers_read(tutti_comm *comm, unsigned char *const *all, const uint64_t *sizes,
                                 struct ledger_view *views)
{
    for (int rank = 0; rank < comm->world; rank++) {
        if (!ledger_read(all[rank], sizes[rank], &views[rank])) {
            struct failure failure = {TUTTI_ERR_SYSTEM, comm->rank, rank, ""};
            (void)snprintf(failure.sentence, sizeof(failure.sentence),
                           "what rank %d sent for a commit of captured calls makes no sense", rank);
            comm_fail(comm, &failure);
            return comm_check(comm);
        }
    }
    return TUTTI_OK;
}

/* Fails with the communicator alone. */
static tutti_status ledgers_exchange(struct commit **commits, int count)
{
    struct commit *first = commits[0];
    if (count == 1) {
        uint64_t sizes[TUTTI_WORLD_MAX] = {0};
        unsigned char *all[TUTTI_WORLD_MAX] = {NULL};
        tutti_status status = comm_exchange_long(first->comm, first->packed, first->packed_bytes, all, sizes);
        if (status != TUTTI_OK) {
            return status;
        }
        first->received = all[0];
        return ledgers_read(first->comm, all, sizes, first->views);
    }
    for (int rank = 0; rank < count; rank++) {
        for (int other = 0; other < count; other++) {
            (void)ledger_read(commits[other]->packed, commits[other]->packed_bytes, &commits[rank]->views[other]);
        }
    }
    return TUTTI_OK;
}

/* How the last step went on all ranks. *failed: the communicator has failed. */
static tutti_status words_exchange(struct commit **commits, int count, bool *failed)
{
    tutti_comm *comm = commits[0]->comm;
    struct commit_word words[TUTTI_WORLD_MAX];
    bool resumes = commits[0]->ledger.head.verb == LEDGER_RESUME;
    *failed = false;
    if (count == 1) {
        tutti_status status = comm_exchange(comm, &commits[0]->word, words, sizeof(words[0]));
        if (status != TUTTI_OK) {
            *failed = true;
            return status;
        }
    }
    for (int rank = 0; rank < comm->world; rank++) {
        struct commit_word *word = &words[rank];
        if (count > 1) {
            *word = commits[rank]->word;
        }
        if (word->status != TUTTI_OK) {
            word->sentence[sizeof(word->sentence) - 1] = 0;
            bool legal = word->status < 0 && word->status >= TUTTI_ERR_ABORTED;
            return error_set(legal ? (tutti_status)word->status : TUTTI_ERR_SYSTEM,
                             "%s: rank %d: %s; nothing is committed, all of it stays staged",
                             resumes ? "tutti_resume" : "tutti_commit", rank, word->sentence);
        }
    }
    return TUTTI_OK;
}

/* A session that some rank has given up is over on all of them, and so is what was captured in it: nobody who commits it again would
 * find a partner. */
static void sessions_drop(struct commit *commit)
{
    struct registry *registry = commit->comm->registry;
    for (int rank = 0; rank < commit->comm->world; rank++) {
        if (commit->views[rank].head.verb != LEDGER_COMMIT) {
            return; /* who resumes says and hears nothing of sessions */
        }
    }
    bool given_up = false;
    registry->abandoned_session = 0; /* all ranks know */
    for (int rank = 0; rank < commit->comm->world; rank++) {
        uint64_t dropped = commit->views[rank].head.abandoned;
        for (struct recorded *each = registry->recorded; each != NULL && dropped != 0; each = each->next) {
            if (each->pending && each->session != 0 && each->session <= dropped) { /* it is past the ones before, too */
                registry_settle(registry, each);
            }
        }
        registry->session = registry->session <= dropped ? 0 : registry->session;
        given_up = given_up || dropped != 0;
    }
    if (given_up) {
        sessions_count(commit);
    }
}

/* Graphs that are gone on some rank are waited for on the others: where all ranks have destroyed them, that is no difference. */
static bool look_again(struct commit *commit, bool last)
{
    int ms = GONE_WAIT_MS;
    for (uint32_t graph = 0; !last && commit->verdict.unsure && graph < commit->ledger.head.graphs; graph++) {
        if (commit->verdict.dropped[graph]) {
            recorded_await(commit->graphs[graph], &ms);
        }
    }
    return !last && commit->verdict.unsure;
}

/* *again: the ranks are to begin anew. */
static tutti_status commits_judge(struct commit **commits, int count, bool last, bool *again)
{
    tutti_status status = TUTTI_OK;
    for (int each = 0; each < count; each++) {
        struct commit *commit = commits[each];
        struct registry *registry = commit->comm->registry;
        status = ledger_judge(commit->views, commit->comm->world, commit->comm->rank, &commit->verdict);
        if (commit->verdict.direct == NULL || commit->verdict.dropped == NULL) {
            return comm_give_up(commit->comm, "tutti_commit");
        }
        sessions_drop(commit);
        if (commit->verdict.mismatch) {
            registry->forgotten = 0; /* all ranks know */
            graphs_settle(commit, NULL);
        } else if (look_again(commit, last)) {
            *again = true;
        } else if (status != TUTTI_OK) {
            graphs_settle(commit, commit->verdict.dropped);
        }
    }
    return status;
}

static tutti_status commits_run(struct commit **commits, int count, bool last, bool *again)
{
    bool failed = false;
    tutti_status status = ledgers_exchange(commits, count);
    if (status == TUTTI_OK) {
        status = commits_judge(commits, count, last, again);
    }
    for (int each = 0; each < count && status == TUTTI_OK; each++) {
        status = commit_take_allocations(commits[each]);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    status = words_exchange(commits, count, &failed);
    for (int each = 0; each < count && status == TUTTI_OK; each++) {
        commits[each]->comm->registry->last_commit =
            commit_number(commits[each]); /* never used again, whatever happens */
        commit_note(commits[each], commit_write_table(commits[each]));
    }
    if (status != TUTTI_OK) {
        return status;
    }
    status = words_exchange(commits, count, &failed);
    for (int each = 0; each < count && !failed; each++) {
        if (status == TUTTI_OK) {
            calls_settle(commits[each]);
        } else {
            table_undo(commits[each], status);
        }
    }
    return status;
}

/* -- the calls ------------------------------------------------------------------------------------------------------- */

static struct commit *commit_begin(tutti_comm *comm)
{
    struct commit *commit = calloc(1, sizeof(*commit));
    if (commit != NULL) {
        commit->comm = comm;
    }
    return commit;
}

static bool commit_pack(struct commit *commit)
{
    commit->packed = ledger_pack(&commit->ledger, &commit->packed_bytes);
    return commit->packed != NULL;
}

static tutti_status commits_try(tutti_comm *const *comms, int count, void (*collect)(struct commit *, const void *),
                                const void *user, bool last, bool *again)
{
    struct commit *commits[TUTTI_WORLD_MAX] = {NULL};
    bool ready = true;
    for (int each = 0; each < count && ready; each++) {
        commits[each] = commit_begin(comms[each]);
        if (commits[each] != NULL) {
            collect(commits[each], user);
        }
        ready = commits[each] != NULL && commit_pack(commits[each]);
    }
    tutti_status status = ready        ? commits_run(commits, count, last, again)
                          : count == 1 ? comm_give_up(comms[0], "tutti_commit")
                                       : commit_no_memory();
    for (int each = 0; each < count; each++) {
        if (commits[each] != NULL) {
            commit_end(commits[each]);
        }
    }
    return status;
}

/* The commits of all ranks that this thread drives, one or all of them; `collect` fills their ledgers. */
static tutti_status commits_make(tutti_comm *const *comms, int count, void (*collect)(struct commit *, const void *),
                                 const void *user)
{
    bool again = false;
    if (count < 1) {
        return TUTTI_OK; /* nobody commits nothing */
    }
    tutti_status status = commits_try(comms, count, collect, user, false, &again);
    for (int looks = 2; again; looks++) { /* while one ends, the next one may: several can be on their way */
        again = false;
        status = commits_try(comms, count, collect, user, looks == GONE_LOOKS, &again);
    }
    return status;
}

static void collect_pending(struct commit *commit, const void *user)
{
    (void)user;
    commit_collect_pending(commit);
}

/* One thread drives all ranks, and has aborted the same session on each of them: nobody is left to be told. */
static void abandoned_by_all(tutti_comm *const *comms, int count)
{
    const uint64_t session = comms[0]->registry->abandoned_session;
    for (int each = 0; each < count; each++) {
        if (session == 0 || comms[each]->registry->abandoned_session != session) {
            return;
        }
    }
    for (int each = 0; each < count; each++) {
        struct registry *registry = comms[each]->registry;
        registry->abandoned_session = 0;
        for (struct recorded *graph = registry->recorded; graph != NULL; graph = graph->next) {
            if (graph->pending && graph->session != 0 && graph->session <= session) { /* and those given up before it */
                registry_settle(registry, graph);
            }
        }
    }
}

tutti_status comm_commit(tutti_comm *const *comms, int count)
{
    if (count > 0 && comms[0]->one_thread_drives_all) {
        abandoned_by_all(comms, count);
    }
    return commits_make(comms, count, collect_pending, NULL);
}

/* -- resuming -------------------------------------------------------------------------------------------------------- */

struct names {
    uint64_t *names;
    size_t count, room;
};

static bool names_add(struct names *names, uint64_t name)
{
    bool room = room_for(&names->names, &names->room, names->count + 1, sizeof(name));
    if (room) {
        names->names[names->count++] = name;
    }
    return room;
}

/* This rank's suspended calls. */
static bool names_collect(const tutti_comm *comm, struct names *names)
{
    bool room = true;
    for (const struct recorded *each = comm->registry->recorded; each != NULL; each = each->next) {
        for (const struct ticket *ticket = each->first; ticket != NULL && room; ticket = ticket->next) {
            room = ticket->state != TICKET_SUSPENDED || names_add(names, ticket->agreed);
        }
    }
    return room;
}

static int names_compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one;
    uint64_t b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

/* Sorted, each once: so the ranks go through them in one order. */
static void names_unite(struct names *names)
{
    size_t kept = 0;
    if (names->count > 0) {
        qsort(names->names, names->count, sizeof(*names->names), names_compare);
    }
    for (size_t index = 0; index < names->count; index++) {
        if (kept == 0 || names->names[kept - 1] != names->names[index]) {
            names->names[kept++] = names->names[index];
        }
    }
    names->count = kept;
}

/* Adds the other ranks' suspended calls. */
static tutti_status names_unpack(tutti_comm *comm, const struct ledger_view *views, struct names *names)
{
    tutti_status status = ledger_judge_heads(views, comm->world);
    bool room = true;
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        for (uint32_t index = 0; index < views[rank].head.names && rank != comm->rank && room; index++) {
            room = names_add(names, views[rank].names[index]);
        }
    }
    return room ? status : comm_give_up(comm, "tutti_resume");
}

static tutti_status names_exchange(tutti_comm *comm, struct names *names)
{
    struct ledger ledger = {.head = {.verb = LEDGER_RESUME, .names = (uint32_t)names->count}, .names = names->names};
    struct ledger_view views[TUTTI_WORLD_MAX];
    unsigned char *all[TUTTI_WORLD_MAX] = {NULL};
    uint64_t sizes[TUTTI_WORLD_MAX] = {0};
    size_t bytes = 0;
    unsigned char *packed = ledger_pack(&ledger, &bytes);
    if (packed == NULL) {
        return comm_give_up(comm, "tutti_resume");
    }
    tutti_status status = comm_exchange_long(comm, packed, bytes, all, sizes);
    free(packed);
    if (status != TUTTI_OK) {
        return status;
    }
    status = ledgers_read(comm, all, sizes, views);
    if (status == TUTTI_OK) {
        status = names_unpack(comm, views, names);
    }
    free(all[0]);
    return status;
}

static void collect_named(struct commit *commit, const void *user)
{
    const struct names *names = user;
    commit_collect_named(commit, names->names, names->count);
}

tutti_status comm_resume(tutti_comm *const *comms, int count)
{
    struct names names = {NULL, 0, 0};
    tutti_status status = TUTTI_OK;
    bool room = true;
    for (int each = 0; each < count && room; each++) {
        room = names_collect(comms[each], &names);
    }
    if (!room) {
        status = count == 1 ? comm_give_up(comms[0], "tutti_resume") : commit_no_memory();
    } else if (count == 1) {
        status = names_exchange(comms[0], &names);
    }
    if (status == TUTTI_OK) {
        names_unite(&names);
        status = commits_make(comms, count, collect_named, &names);
    }
    free(names.names);
    return status;
}

/* -- taking back ----------------------------------------------------------------------------------------------------- */

typedef bool (*ticket_chooser)(const struct ticket *ticket, const void *user);

/* Calls `visit` for the direct tickets that are chosen. How many there are. */
static uint32_t each_direct(tutti_comm *comm, ticket_chooser chosen, const void *user,
                            void (*visit)(tutti_comm *, struct ticket *, void *), void *visitor)
{
    uint32_t count = 0;
    for (struct recorded *each = comm->registry->recorded; each != NULL; each = each->next) {
        for (struct ticket *ticket = each->first; ticket != NULL; ticket = ticket->next) {
            if (ticket->state == TICKET_DIRECT && chosen(ticket, user)) {
                visit(comm, ticket, visitor);
                count++;
            }
        }
    }
    return count;
}

struct range {
    uint32_t first, end;
};

static void entry_close(tutti_comm *comm, struct ticket *ticket, void *visitor)
{
    struct range *range = visitor;
    comm->registry->entries[ticket->slot].commit = 0;
    range->first = ticket->slot < range->first ? ticket->slot : range->first;
    range->end = ticket->slot + 1 > range->end ? ticket->slot + 1 : range->end;
}

static void entry_reopen(tutti_comm *comm, struct ticket *ticket, void *visitor)
{
    (void)visitor;
    comm->registry->entries[ticket->slot].commit = ticket->agreed;
}

static void looks_forget(tutti_comm *comm)
{
    for (struct share *share = comm->registry->shares; share != NULL; share = share->next) {
        share->looked = false;
    }
}

static bool part_changed(const tutti_comm *comm, const struct memory_facts *committed)
{
    struct memory_facts now;
    return comm->ops->group_look(comm->group, committed->start, &now) != TUTTI_OK || now.class != committed->class ||
           now.identity != committed->identity || now.bytes != committed->bytes;
}

/* Whether the memory that the ticket's calls use here is the one that was committed. Asks once for each allocation. */
static void memory_look(tutti_comm *comm, struct ticket *ticket, void *visitor)
{
    const struct ticket **changed = visitor;
    for (int which = 0; which < BUFFER_COUNT; which++) {
        struct share *share = ticket->shares[which][comm->rank];
        bool other = false;
        if (share == NULL || share->looked || *changed != NULL) {
            continue;
        }
        share->looked = true;
        for (size_t part = 0; part < share->count && !other; part++) {
            other = part_changed(comm, &share->parts[part].facts);
        }
        if (other) {
            int ms = GONE_LOOKS * GONE_WAIT_MS;
            recorded_await(ticket->recorded, &ms);            /* whose buffers may go with it */
            share->looked = !recorded_gone(ticket->recorded); /* else another graph may have something to say of it */
            *changed = share->looked ? ticket : NULL;
        }
    }
}

static void ticket_withdraw(tutti_comm *comm, struct ticket *ticket, void *visitor)
{
    const enum ticket_state *state = visitor;
    shares_drop(comm->registry, ticket);
    if (*state == TICKET_STAGED) {
        registry_slot_return(comm->registry, ticket);
    }
    registry_move(comm->registry, ticket, *state);
}

/* Nothing is held for them any more, but their slots. */
static void suspended_give_up(tutti_comm *comm, ticket_chooser chosen, const void *user)
{
    for (struct recorded *each = comm->registry->recorded; each != NULL; each = each->next) {
        for (struct ticket *ticket = each->first; ticket != NULL; ticket = ticket->next) {
            if (ticket->state == TICKET_SUSPENDED && chosen(ticket, user)) {
                registry_slot_return(comm->registry, ticket);
                registry_move(comm->registry, ticket, TICKET_STAGED);
            }
        }
    }
}

/* The device hears that the entries of the range are closed, and no kernel uses them any more; or they are open again. */
static tutti_status range_close(tutti_comm *comm, ticket_chooser chosen, const void *user, const struct range *range)
{
    const struct direct_entry *entries = &comm->registry->entries[range->first];
    const uint32_t count = range->end - range->first;
    tutti_status status = comm->ops->group_entries_write(comm->group, entries, range->first, count);
    if (status == TUTTI_OK) {
        status = comm->ops->group_quiesce(comm->group);
    }
    if (status != TUTTI_OK) {
        char sentence[ERROR_SENTENCE_BYTES]; /* of what failed first */
        (void)snprintf(sentence, sizeof(sentence), "%s", tutti_last_error());
        (void)each_direct(comm, chosen, user, entry_reopen, NULL);
        (void)comm->ops->group_entries_write(comm->group, entries, range->first, count);
        (void)error_set(status, "%s", sentence);
    }
    return status;
}

tutti_status commit_withdraw(tutti_comm *comm, ticket_chooser chosen, const void *user, enum ticket_state state)
{
    struct range range = {UINT32_MAX, 0};
    const struct ticket *changed = NULL;
    registry_sweep(comm->registry);
    tutti_status status =
        each_direct(comm, chosen, user, entry_close, &range) > 0 ? range_close(comm, chosen, user, &range) : TUTTI_OK;
    if (status != TUTTI_OK) {
        return status;
    }
    if (state == TICKET_STAGED) { /* not before anything can fail */
        suspended_give_up(comm, chosen, user);
    }
    looks_forget(comm);
    (void)each_direct(comm, chosen, user, memory_look, &changed);
    char what[SIGNATURE_TEXT_BYTES] = "";
    if (changed != NULL) {
        signature_describe(signature_pack(&changed->operation), what, sizeof(what));
    }
    (void)each_direct(comm, chosen, user, ticket_withdraw, &state);
    return changed == NULL
               ? TUTTI_OK
               : error_set(TUTTI_ERR_ARGUMENT,
                           "rank %d: memory of a captured %s was freed or mapped anew while peers had it "
                           "mapped; it is given back now, but what was replayed since has used the old pages: "
                           "call tutti_suspend or tutti_capture_release before that",
                           comm->rank, what);
}
