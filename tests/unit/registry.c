/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#27163 and tickets: a number is handed out once, a slot belongs to one living ticket at a time and comes back, whatever the
 * order in which graphs are captured, committed, released and destroyed. A model beside the registry says what must hold.
 */
#include "capture/registry.h"

#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/ranks.h"

#define SLOTS 40
#define GRAPHS 24
#define STREAMS 3

struct model_graph {
    struct recorded *recorded; /* NULL: none */
    bool open, committed, held;
    uint32_t calls;
};

static struct registry *registry;
static struct model_graph graphs[GRAPHS];
static uint64_t last_ticket, captures;
static uint64_t owner[SLOTS]; /* the ticket that has the slot; 0: nobody */
static int streams[STREAMS];

static const struct operation operation = {.kind = TUTTI_ALL_REDUCE, .count = 4096};

static void counts_check(void)
{
    uint64_t expected[4] = {0};
    uint64_t taken = 0;
    uint32_t living = 0;
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    for (int index = 0; index < GRAPHS; index++) {
        const struct recorded *recorded = graphs[index].recorded;
        uint32_t calls = 0;
        living += recorded != NULL && graphs[index].held;
        for (const struct ticket *ticket = recorded != NULL ? recorded->first : NULL; ticket != NULL;
             ticket = ticket->next) {
            calls++;
            expected[ticket->state]++;
            CHECK(ticket->recorded == recorded, "ticket %llu is another graph's", (unsigned long long)ticket->number);
            if (ticket->slot != SLOT_NONE) {
                taken++;
                CHECK(owner[ticket->slot] == ticket->number, "slot %u is of ticket %llu, and of %llu", ticket->slot,
                      (unsigned long long)owner[ticket->slot], (unsigned long long)ticket->number);
            }
        }
        CHECK(recorded == NULL || (calls == graphs[index].calls && calls == recorded->count), "%u calls, not %u", calls,
              graphs[index].calls);
    }
    registry_stats(registry, &stats);
    CHECK(stats.pending_calls == expected[TICKET_PENDING] && stats.committed_calls == expected[TICKET_DIRECT] &&
              stats.suspended_calls == expected[TICKET_SUSPENDED] &&
              stats.staged_for_good_calls == expected[TICKET_STAGED],
          "the calls do not add up");
    CHECK(stats.slots_taken == taken && stats.slots == SLOTS, "%llu slots taken, not %llu",
          (unsigned long long)stats.slots_taken, (unsigned long long)taken);
    CHECK(registry->graphs == living, "%u graphs live, not %u", registry->graphs, living);
}

static void slots_forget(const struct recorded *recorded)
{
    for (const struct ticket *ticket = recorded->first; ticket != NULL; ticket = ticket->next) {
        if (ticket->slot != SLOT_NONE) {
            owner[ticket->slot] = 0;
        }
    }
}

/* -- what may happen ----------------------------------------------------------------------------------- */

static void graph_begin(struct model_graph *graph, uint64_t random)
{
    const void *stream = &streams[random % STREAMS];
    *graph = (struct model_graph){.open = true, .held = true};
    graph->recorded = registry_graph(registry, ++captures, stream);
    CHECK(graph->recorded != NULL && graph->recorded->first == NULL && graph->recorded->pending, "a new graph");
    recorded_hold(graph->recorded);
}

static void graph_record(struct model_graph *graph, bool wants_slot)
{
    struct ticket_grant grant;
    CHECK(registry_graph(registry, graph->recorded->capture, graph->recorded->stream) == graph->recorded,
          "its second call goes to another graph");
    registry_take(registry, graph->recorded, &operation, 0, wants_slot, &grant);
    CHECK(grant.number == last_ticket + 1, "ticket %llu after %llu", (unsigned long long)grant.number,
          (unsigned long long)last_ticket);
    last_ticket = grant.number;
    graph->calls++;
    if (grant.slot != SLOT_NONE) {
        CHECK(wants_slot && grant.slot < SLOTS && owner[grant.slot] == 0,
              "slot %u was given to ticket %llu, and is %llu's", grant.slot, (unsigned long long)grant.number,
              (unsigned long long)owner[grant.slot]);
        owner[grant.slot] = grant.number;
        return;
    }
    for (uint32_t slot = 0; slot < SLOTS && wants_slot; slot++) {
        CHECK(owner[slot] != 0, "no slot was given, and %u is free", slot);
    }
}

static void graph_commit(struct model_graph *graph, uint64_t random)
{
    graph->open = false;
    graph->committed = true;
    graph->recorded->pending = false;
    for (struct ticket *ticket = graph->recorded->first; ticket != NULL; ticket = ticket->next) {
        bool staged = ticket->slot == SLOT_NONE || random % 5 == 0;
        if (staged && ticket->slot != SLOT_NONE) {
            owner[ticket->slot] = 0;
            registry->entries[ticket->slot].ticket = ticket->number;
            registry_slot_return(registry, ticket);
        }
        registry_move(registry, ticket, staged ? TICKET_STAGED : TICKET_DIRECT);
        random /= 5;
    }
}

static void graph_suspend(struct model_graph *graph)
{
    for (struct ticket *ticket = graph->recorded->first; ticket != NULL; ticket = ticket->next) {
        if (ticket->state == TICKET_DIRECT) {
            registry_move(registry, ticket, TICKET_SUSPENDED);
        }
    }
}

/* Those that nobody can launch any more go, if a commit has seen them; the others stay. */
static void sweep(void)
{
    for (int index = 0; index < GRAPHS; index++) {
        struct model_graph *graph = &graphs[index];
        if (graph->recorded != NULL && graph->committed && !graph->held) {
            slots_forget(graph->recorded);
            graph->recorded = NULL;
        }
    }
    registry_sweep(registry);
}

static void step(uint64_t *random)
{
    struct model_graph *graph = &graphs[ranks_random(random) % GRAPHS];
    uint64_t choice = ranks_random(random) % 12;
    if (graph->recorded == NULL) {
        graph_begin(graph, ranks_random(random));
    } else if (choice < 6 && graph->open) {
        graph_record(graph, ranks_random(random) % 4 != 0);
    } else if (choice < 8 && !graph->committed) {
        graph_commit(graph, ranks_random(random));
    } else if (choice == 8 && graph->committed) {
        graph_suspend(graph);
    } else if (choice < 11 && graph->held && !graph->open) {
        graph->held = false;
        recorded_let_go(graph->recorded);
    } else if (choice == 11) {
        sweep();
    }
}

static void random_programs(uint64_t seed)
{
    uint64_t random = seed;
    int steps = effort() == EFFORT_QUICK ? 20000 : 200000;
    registry = registry_create(SLOTS);
    CHECK(registry != NULL, "no memory");
    for (int count = 0; count < steps; count++) {
        step(&random);
        if (count % 16 == 0) {
            counts_check();
        }
    }
    for (int index = 0; index < GRAPHS; index++) {
        struct model_graph *graph = &graphs[index];
        if (graph->recorded != NULL && !graph->committed) {
            graph_commit(graph, 0);
        }
        if (graph->recorded != NULL && graph->held) {
            graph->held = false;
            recorded_let_go(graph->recorded);
        }
    }
    sweep();
    counts_check();
    CHECK(registry->recorded == NULL && registry->counts.slots_taken == 0, "something is left");
    registry_free(registry);
}

/* -- programs that never commit ----------------------------------------------------------------------------- */

#define CALLS 16

static struct recorded *captured(uint64_t capture, const void *stream, int calls)
{
    struct ticket_grant grant;
    struct recorded *recorded = registry_graph(registry, capture, stream);
    CHECK(recorded != NULL, "no graph");
    recorded_hold(recorded);
    for (int call = 0; call < calls; call++) {
        registry_take(registry, recorded, &operation, 0, true, &grant);
        CHECK(grant.number != 0, "no ticket");
    }
    return recorded;
}

/* Captures for ever, each destroyed at once: memory and slots come back without a commit. */
static void never_commits(void)
{
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    registry = registry_create(SLOTS);
    CHECK(registry != NULL, "no memory");
    for (uint64_t count = 0; count < 3 * (uint64_t)REGISTRY_PENDING_MAX; count += CALLS) {
        struct recorded *recorded = captured(++captures, streams, CALLS);
        recorded_let_go(recorded);
    }
    registry_stats(registry, &stats);
    CHECK(stats.pending_calls + stats.staged_for_good_calls <= REGISTRY_PENDING_MAX,
          "%llu calls of graphs that are gone",
          (unsigned long long)(stats.pending_calls + stats.staged_for_good_calls));
    CHECK(registry->forgotten == 2 * (uint64_t)REGISTRY_PENDING_MAX, "%llu forgotten",
          (unsigned long long)registry->forgotten);
    registry_free(registry);
}

/* A capture that is open meanwhile goes on behind the calls that it has. */
static void open_meanwhile(void)
{
    static int node;
    registry = registry_create(SLOTS);
    CHECK(registry != NULL, "no memory");
    struct recorded *open = captured(++captures, streams, 1);
    uint64_t capture = captures;
    open->tails[3] = &node;
    while (registry->forgotten == 0) {
        recorded_let_go(captured(++captures, streams, CALLS));
    }
    struct recorded *other = captured(++captures, streams, 1);
    struct recorded *later = captured(capture, streams, 1);
    CHECK(later != open && later->count == 1, "the calls that were given up are the graph's still");
    CHECK(later->tails[3] == &node && later->tails[0] == NULL, "its order is lost");
    CHECK(other->tails[3] == NULL, "another graph's node");
    registry_free(registry);
}

/* -- captures that fail -------------------------------------------------------------------------------------- */

/* Drivers need not say which capture is invalid: the one whose graph is gone, or one that never came to its first call. */
static void doubts(bool named)
{
    registry = registry_create(SLOTS);
    CHECK(registry != NULL, "no memory");
    struct recorded *whole = captured(1, streams, 2);
    registry_invalidated(registry, named ? 2 : 0, streams, "tutti_barrier");
    registry_invalidated(registry, named ? 2 : 0, streams, "tutti_barrier");
    CHECK(whole->next != NULL && whole->next->next == NULL, "one failed capture, one record");
    registry_settle_doubts(registry);
    CHECK(!whole->broken && whole->next != NULL && whole->next->broken, "the wrong one is broken");
    CHECK(strstr(whole->next->why, "its first call, tutti_barrier") != NULL, "%s", whole->next->why);

    struct recorded *broken = captured(3, streams, 2);
    registry_invalidated(registry, named ? 3 : 0, streams, "tutti_barrier");
    recorded_let_go(broken);
    registry_settle_doubts(registry);
    CHECK(broken->broken && broken->next == NULL, "the second one is broken, and nothing stands for another");
    CHECK(strstr(broken->why, "all_reduce of 16384 bytes (f32 sum) (call 2 of the graph) and tutti_barrier") != NULL,
          "%s", broken->why);
    CHECK(!whole->broken, "the first one still is whole");
    registry_free(registry);
}

int main(void)
{
    random_programs(ranks_seed());
    never_commits();
    open_meanwhile();
    doubts(true);
    doubts(false);
    return 0;
}
