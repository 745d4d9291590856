/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "capture/share.h"
#include "collective/signature.h"

/* Room for what is recorded. Pages of it that nobody has used yet cost nothing. */
struct pool {
    struct pool *next;
    uint32_t tickets_used, recorded_used;
    struct ticket tickets[REGISTRY_AHEAD];
    struct recorded recorded[REGISTRY_AHEAD];
};

static bool pool_add(struct registry *registry)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return false;
    }
    pool->next = registry->pools;
    registry->pools = pool;
    return true;
}

struct registry *registry_create(uint32_t slots)
{
    struct registry *registry = calloc(1, sizeof(*registry));
    if (registry == NULL) {
        return NULL;
    }
    registry->slot_count = slots;
    atomic_init(&registry->counts.slots, slots);
    if (slots > 0) {
        registry->free_slots = calloc(slots, sizeof(*registry->free_slots));
        registry->entries = calloc(slots, sizeof(*registry->entries));
    }
    if (!pool_add(registry) || (slots > 0 && (registry->free_slots == NULL || registry->entries == NULL))) {
        registry_free(registry);
        return NULL;
    }
    return registry;
}

void registry_free(struct registry *registry)
{
    if (registry == NULL) {
        return;
    }
    while (registry->shares != NULL) {
        registry->shares->uses = 1;
        share_drop(registry, registry->shares);
    }
    while (registry->pools != NULL) {
        struct pool *next = registry->pools->next;
        free(registry->pools);
        registry->pools = next;
    }
    free(registry->entries);
    free(registry->free_slots);
    free(registry);
}

/* -- tickets ----------------------------------------------------------------------------------------- */

static _Atomic uint64_t *count_of(struct registry *registry, enum ticket_state state)
{
    struct registry_counts *counts = &registry->counts;
    _Atomic uint64_t *const by_state[] = {&counts->pending, &counts->direct, &counts->suspended, &counts->staged};
    return by_state[state];
}

void registry_move(struct registry *registry, struct ticket *ticket, enum ticket_state state)
{
    (void)atomic_fetch_sub(count_of(registry, ticket->state), 1);
    ticket->state = state;
    (void)atomic_fetch_add(count_of(registry, state), 1);
}

static struct ticket *ticket_new(struct registry *registry)
{
    struct ticket *ticket = registry->free_tickets;
    if (ticket != NULL) {
        registry->free_tickets = ticket->next;
    } else if (registry->pools->tickets_used < REGISTRY_AHEAD || pool_add(registry)) {
        ticket = &registry->pools->tickets[registry->pools->tickets_used++];
    }
    return ticket;
}

static uint32_t slot_new(struct registry *registry)
{
    uint32_t slot = SLOT_NONE;
    if (registry->free_slot_count > 0) {
        slot = registry->free_slots[--registry->free_slot_count];
    } else if (registry->fresh_slot < registry->slot_count) {
        slot = registry->fresh_slot++;
    }
    if (slot != SLOT_NONE) {
        (void)atomic_fetch_add(&registry->counts.slots_taken, 1);
    }
    return slot;
}

void registry_slot_return(struct registry *registry, struct ticket *ticket)
{
    if (ticket->slot != SLOT_NONE) {
        memset(&registry->entries[ticket->slot], 0, sizeof(registry->entries[0]));
        registry->free_slots[registry->free_slot_count++] = ticket->slot;
        ticket->slot = SLOT_NONE;
        (void)atomic_fetch_sub(&registry->counts.slots_taken, 1);
    }
}

/* -- graphs ------------------------------------------------------------------------------------------ */

void recorded_hold(struct recorded *recorded)
{
    if (atomic_fetch_add(&recorded->holders, 1) == 0) {
        (void)atomic_fetch_add(recorded->graphs, 1);
    }
}

/* Once the last graph is counted out, the registry may be gone. */
void recorded_let_go(struct recorded *recorded)
{
    _Atomic uint32_t *graphs = recorded->graphs;
    if (atomic_fetch_sub(&recorded->holders, 1) == 1) {
        (void)atomic_fetch_sub(graphs, 1);
    }
}

bool recorded_gone(const struct recorded *recorded)
{
    return atomic_load(&recorded->holders) == 0;
}

void recorded_break(struct recorded *recorded, const char *why)
{
    if (recorded != NULL && !recorded->broken) {
        recorded->broken = true;
        (void)snprintf(recorded->why, sizeof(recorded->why), "%s", why);
    }
}

void recorded_describe(const struct recorded *recorded, const char *next, char why[RECORDED_WHY_BYTES])
{
    char last[SIGNATURE_TEXT_BYTES];
    if (recorded->last == NULL) {
        (void)snprintf(why, RECORDED_WHY_BYTES,
                       "the capture of stream %p was invalidated between its begin and its first call, %.60s",
                       recorded->stream, next);
        return;
    }
    signature_describe(signature_pack(&recorded->last->operation), last, sizeof(last));
    (void)snprintf(why, RECORDED_WHY_BYTES,
                   "the capture of stream %p was invalidated between %s (call %u of the graph) and %.60s",
                   recorded->stream, last, recorded->count, next);
}

/* A program that captures for ever and never commits must not fill the memory with what nobody asks for. The ranks reach the limit
 * at the same call, because they capture the same. */
static void pending_limit(struct registry *registry)
{
    if (atomic_load_explicit(&registry->counts.pending, memory_order_relaxed) < REGISTRY_PENDING_MAX) {
        return;
    }
    struct recorded *each = registry->recorded;
    while (each != NULL) {
        struct recorded *next = each->next;
        for (struct ticket *ticket = each->pending ? each->first : NULL; ticket != NULL; ticket = ticket->next) {
            registry_slot_return(registry, ticket);
            registry_move(registry, ticket, TICKET_STAGED);
            registry->forgotten++;
        }
        if (each->pending) {
            each->pending = false;
            each->doubted = NULL;
            if (recorded_gone(each)) { /* holds nothing, so this is legal in a capture */
                registry_forget(registry, each);
            }
        }
        each = next;
    }
}

static struct recorded *recorded_new(struct registry *registry)
{
    struct recorded *recorded = registry->free_recorded;
    if (recorded != NULL) {
        registry->free_recorded = recorded->next;
    } else if (registry->pools->recorded_used < REGISTRY_AHEAD || pool_add(registry)) {
        recorded = &registry->pools->recorded[registry->pools->recorded_used++];
    }
    return recorded;
}

/* The pending graph of a capture; NULL. */
static struct recorded *recorded_find(const struct registry *registry, uint64_t capture)
{
    struct recorded *recorded = registry->recorded_last;
    if (recorded != NULL && (recorded->capture != capture || !recorded->pending)) {
        recorded = registry->recorded; /* not the one of the call before */
        while (recorded != NULL && (recorded->capture != capture || !recorded->pending)) {
            recorded = recorded->next;
        }
    }
    return recorded;
}

static struct recorded *recorded_add(struct registry *registry, uint64_t capture, const void *stream)
{
    struct recorded *recorded = recorded_new(registry);
    if (recorded == NULL) {
        return NULL;
    }
    memset(recorded, 0, sizeof(*recorded));
    recorded->capture = capture;
    recorded->stream = stream;
    recorded->session = registry->session;
    recorded->pending = true;
    recorded->serial = ++registry->last_recorded;
    recorded->graphs = &registry->graphs;
    *(registry->recorded_last != NULL ? &registry->recorded_last->next : &registry->recorded) = recorded;
    registry->recorded_last = recorded;
    return recorded;
}

/* A capture whose record was settled while it was open goes on behind the same calls. */
static void tails_inherit(const struct registry *registry, struct recorded *recorded)
{
    for (const struct recorded *each = registry->recorded; each != recorded; each = each->next) {
        if (each->capture == recorded->capture) {
            memcpy(recorded->tails, each->tails, sizeof(recorded->tails));
        }
    }
}

struct recorded *registry_graph(struct registry *registry, uint64_t capture, const void *stream)
{
    struct recorded *recorded = recorded_find(registry, capture);
    if (recorded == NULL) {
        pending_limit(registry);
        recorded = recorded_add(registry, capture, stream);
        if (recorded != NULL) {
            tails_inherit(registry, recorded);
        }
    }
    return recorded;
}

static void recorded_remove(struct registry *registry, struct recorded *recorded)
{
    struct recorded *before = NULL;
    for (struct recorded *each = registry->recorded; each != recorded; each = each->next) {
        before = each;
    }
    *(before != NULL ? &before->next : &registry->recorded) = recorded->next;
    if (registry->recorded_last == recorded) {
        registry->recorded_last = before;
    }
    recorded->next = registry->free_recorded;
    registry->free_recorded = recorded;
}

/* -- captures that fail ---------------------------------------------------------------------------------- */

/* The latest graph that calls on this stream went to, if no commit has seen it. */
static struct recorded *recorded_latest(const struct registry *registry, const void *stream)
{
    struct recorded *latest = NULL;
    for (struct recorded *each = registry->recorded; each != NULL; each = each->next) {
        latest = each->pending && each->stream == stream ? each : latest;
    }
    return latest;
}

void registry_invalidated(struct registry *registry, uint64_t capture, const void *stream, const char *next)
{
    char why[RECORDED_WHY_BYTES];
    struct recorded *latest = recorded_latest(registry, stream);
    struct recorded *recorded = capture != 0 ? recorded_find(registry, capture) : NULL;
    int ms = GONE_WAIT_MS;
    if (capture == 0 && latest != NULL && (latest->broken || latest->doubted != NULL)) {
        return; /* the same one, as far as anybody can tell */
    }
    if (capture == 0 && latest != NULL) {
        recorded_await(latest, &ms);
    }
    if (recorded == NULL) {
        recorded = recorded_add(registry, capture, stream);
        if (recorded == NULL) {
            return;
        }
        /* A graph that is gone is not the one of a capture that has not been ended. */
        recorded->doubted = capture == 0 && latest != NULL && !recorded_gone(latest) ? latest : NULL;
        recorded->refused = next;
    }
    recorded_describe(recorded, next, why);
    recorded_break(recorded, why);
}

void recorded_await(const struct recorded *recorded, int *ms)
{
    const struct timespec pause = {0, 1000000};
    for (; *ms > 0 && !recorded_gone(recorded); (*ms)--) {
        (void)nanosleep(&pause, NULL);
    }
}

void registry_settle_doubts(struct registry *registry)
{
    char why[RECORDED_WHY_BYTES];
    int ms = GONE_LOOKS * GONE_WAIT_MS;
    struct recorded *each = registry->recorded;
    while (each != NULL) {
        struct recorded *next = each->next;
        if (each->doubted != NULL) {
            recorded_await(each->doubted, &ms);
            if (recorded_gone(each->doubted)) {
                recorded_describe(each->doubted, each->refused, why);
                recorded_break(each->doubted, why);
                registry_forget(registry, each);
            } else {
                each->doubted = NULL;
            }
        }
        each = next;
    }
}

/* -- giving out and taking back ------------------------------------------------------------------------ */

void registry_take(struct registry *registry, struct recorded *recorded, const struct operation *operation,
                   uint32_t lane, bool wants_slot, struct ticket_grant *grant)
{
    struct ticket *ticket = ticket_new(registry);
    *grant = (struct ticket_grant){0, SLOT_NONE};
    if (ticket == NULL) {
        recorded_break(recorded, "there was no memory to keep book of a call");
        return;
    }
    memset(ticket, 0, sizeof(*ticket));
    ticket->number = ++registry->last_ticket;
    ticket->state = TICKET_PENDING;
    ticket->lane = lane;
    ticket->slot = wants_slot ? slot_new(registry) : SLOT_NONE;
    ticket->operation = *operation;
    ticket->recorded = recorded;
    *(recorded->last != NULL ? &recorded->last->next : &recorded->first) = ticket;
    recorded->last = ticket;
    recorded->count++;
    (void)atomic_fetch_add(&registry->counts.pending, 1);
    *grant = (struct ticket_grant){ticket->number, ticket->slot};
}

void registry_forget(struct registry *registry, struct recorded *recorded)
{
    while (recorded->first != NULL) {
        struct ticket *ticket = recorded->first;
        recorded->first = ticket->next;
        shares_drop(registry, ticket);
        registry_slot_return(registry, ticket);
        (void)atomic_fetch_sub(count_of(registry, ticket->state), 1);
        ticket->number = 0;
        ticket->next = registry->free_tickets;
        registry->free_tickets = ticket;
    }
    recorded->last = NULL;
    recorded->count = 0;
    recorded->pending = false;
    if (recorded_gone(recorded)) {
        recorded_remove(registry, recorded);
    }
}

void registry_settle(struct registry *registry, struct recorded *recorded)
{
    for (struct ticket *ticket = recorded->first; ticket != NULL; ticket = ticket->next) {
        registry_slot_return(registry, ticket);
        registry_move(registry, ticket, TICKET_STAGED);
    }
    recorded->pending = false;
}

void registry_settle_behind(struct registry *registry, uint64_t before, uint64_t last)
{
    for (struct recorded *each = registry->recorded; each != NULL; each = each->next) {
        if (each->pending && each->serial > before && each->serial <= last) {
            registry_settle(registry, each);
            each->doubted = NULL; /* whose capture it was is known: the one that is given up here */
        }
    }
}

void registry_sweep(struct registry *registry)
{
    struct recorded *each = registry->recorded;
    while (each != NULL) {
        struct recorded *next = each->next;
        if (!each->pending && recorded_gone(each)) {
            registry_forget(registry, each);
        }
        each = next;
    }
}

void registry_stats(const struct registry *registry, tutti_stats *stats)
{
    const struct registry_counts *counts = &registry->counts;
    stats->pending_calls = atomic_load(&counts->pending);
    stats->committed_calls = atomic_load(&counts->direct);
    stats->suspended_calls = atomic_load(&counts->suspended);
    stats->staged_for_good_calls = atomic_load(&counts->staged);
    stats->slots = atomic_load(&counts->slots);
    stats->slots_taken = atomic_load(&counts->slots_taken);
    stats->mappings = atomic_load(&counts->mappings);
    stats->commits = atomic_load(&counts->commits);
}

void registry_explain(const struct registry *registry, char *text, size_t text_bytes)
{
    const struct registry_counts *counts = &registry->counts;
    unsigned long long pending = atomic_load(&counts->pending);
    unsigned long long suspended = atomic_load(&counts->suspended);
    char waiting[80] = "";
    char resting[80] = "";
    char staged[280] = "";
    if (pending > 0) {
        (void)snprintf(waiting, sizeof(waiting), "; %llu captured %s for tutti_commit", pending,
                       pending == 1 ? "call waits" : "calls wait");
    }
    if (suspended > 0) {
        (void)snprintf(resting, sizeof(resting), "; %llu %s suspended until tutti_resume", suspended,
                       suspended == 1 ? "call is" : "calls are");
    }
    if (registry->staged_last > 0) {
        (void)snprintf(staged, sizeof(staged), "; the last commit left %u %s staged: %s", registry->staged_last,
                       registry->staged_last == 1 ? "call" : "calls", registry->staged_why);
    }
    (void)snprintf(text, text_bytes, "%s%s%s", staged, waiting, resting);
}
