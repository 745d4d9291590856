/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.h - what a rank of a communicator has captured: graphs, and a ticket for each of their collectives.
 *
 * A ticket is a number that is handed out once. A call that could go directly gets a slot with it: an index into the table that
 * its kernel looks into whenever it runs (struct direct_entry). Both are final when the call has been recorded, so that nothing that
 * is captured later can shift them. A slot is handed out again after its ticket was given back; the entry says whose it is, and
 * a kernel with another ticket takes no notice of it.
 *
 *     pending     captured since the last commit             direct      committed: the entry holds all ranks' addresses
 *     suspended   was direct; tutti_resume makes it so again  staged      for good: by the commit's verdict, or given up
 *
 * Whatever the state, the call is right: only its way differs. All memory is made ahead, so that recording a call allocates nothing,
 * unless more than REGISTRY_AHEAD of them are recorded between two commits.
 *
 * The thread that uses the communicator, but for what is marked [any thread].
 */
#ifndef TUTTI_CAPTURE_REGISTRY_H
#define TUTTI_CAPTURE_REGISTRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"
#include "kernels/arguments.h"

#define SLOT_NONE UINT32_MAX
#define REGISTRY_AHEAD 8192u /* tickets, and graphs, that can be recorded before memory is asked for */
#define RECORDED_WHY_BYTES 200
#define REGISTRY_PENDING_MAX 65536u /* tickets of a program that never commits; above it, they are staged for good */

struct share;
struct pool;

enum ticket_state { TICKET_PENDING, TICKET_DIRECT, TICKET_SUSPENDED, TICKET_STAGED };
enum ticket_buffer { BUFFER_SRC, BUFFER_DST, BUFFER_COUNT };

struct ticket {
    uint64_t number;
    uint64_t agreed; /* what the ranks call it since it was committed: commit << 32 | place in it; 0: never */
    enum ticket_state state;
    uint32_t lane;
    uint32_t slot; /* SLOT_NONE: its way is always the staged one */
    struct operation operation;
    struct recorded *recorded; /* the graph that it is in */
    /* direct: what this rank holds for it, by rank; NULL where that is memory of tutti_alloc */
    struct share *shares[BUFFER_COUNT][KERNEL_WORLD_MAX];
    struct ticket *next; /* of the graph, in order of capture; or the next free one */
};

/* A graph, while it is captured and until all of it is gone. */
struct recorded {
    uint64_t capture;   /* the backend's number for its capture */
    const void *stream; /* on which its first call came */
    uint64_t session;   /* in which; 0: none */
    uint32_t count;
    bool pending; /* not seen by a commit */
    bool held;    /* the backend has taken its hold on the graph */
    bool broken;  /* its capture has failed: `why` */
    char why[RECORDED_WHY_BYTES];
    /* An invalidated capture that the driver did not name: it is this graph's if that is destroyed, else another one, which this
     * record without calls stands for. NULL: no such doubt. */
    struct recorded *doubted;
    const char *refused; /* of such a record: the call that was; static storage */
    struct ticket *first, *last;
    void *tails[TUTTI_LANES_MAX]; /* the backend's: what each lane's last call has left in the graph */
    _Atomic uint32_t holders;     /* of the backend: it lives while there are any */
    _Atomic uint32_t *graphs;     /* the registry's count of such */
    uint64_t serial;              /* the how many-th of its registry: never given twice */
    struct recorded *next;        /* in order of their first call; or the next free one */
};

struct registry_counts {
    _Atomic uint64_t slots, slots_taken, pending, direct, suspended, staged, commits, mappings;
};

struct registry {
    struct recorded *recorded, *recorded_last; /* all of them */
    struct recorded *free_recorded;
    struct ticket *free_tickets;
    struct pool *pools;   /* what they lie in; the first one has room left */
    uint32_t *free_slots; /* given back, as a stack */
    uint32_t slot_count, fresh_slot, free_slot_count;
    uint64_t last_ticket, last_commit, last_session, last_recorded;
    uint64_t forgotten; /* pending tickets given up for their number */
    /* The open session, or 0: calls come on this stream, or in what it captures. */
    uint64_t session;
    const void *session_stream;
    uint64_t abandoned_session; /* given up here, and the peers do not know yet; 0: none */
    _Atomic uint32_t graphs;    /* that hold calls and live */
    struct registry_counts counts;
    struct share *shares;         /* share.h */
    struct direct_entry *entries; /* [slot_count]: what the device's table holds, or will with the next write */
    uint32_t staged_last;         /* calls that could have gone directly and that the last commit left staged; */
    char staged_why[200];         /* why the last of them was; "" */
};

/* `slots`: how many entries the backend's table has; 0: it has none. NULL without memory. */
struct registry *registry_create(uint32_t slots);

/* Nothing of it is mapped or held any more, and no graph is left. NULL is allowed. */
void registry_free(struct registry *registry);

/* The graph that the capture makes: the one that is there, or a new one. NULL without memory. */
struct recorded *registry_graph(struct registry *registry, uint64_t capture, const void *stream);

/* A ticket for a call that is about to be recorded. `number` 0 if there is no memory for one: the call is staged for good. */
struct ticket_grant {
    uint64_t number;
    uint32_t slot;
};
void registry_take(struct registry *registry, struct recorded *recorded, const struct operation *operation,
                   uint32_t lane, bool wants_slot, struct ticket_grant *grant);

/* The graph cannot be completed: the sentence of this thread's last error says why. NULL is allowed. */
void recorded_break(struct recorded *recorded, const char *why);

/* What `recorded_break` is told if the capture was invalidated between its last call so far, if there is one, and `next`. */
void recorded_describe(const struct recorded *recorded, const char *next, char why[RECORDED_WHY_BYTES]);

/* The capture of `stream` was found to be invalid when `next` (static storage) came. `capture`: its number, or 0: drivers need not tell it. Its graph is
 * broken; without a call so far, one that has none stands for it, so that the ranks' graphs stay in step. */
void registry_invalidated(struct registry *registry, uint64_t capture, const void *stream, const char *next);

/* Drivers destroy a graph's hold later than they say: waits for it, for what is left of *ms. */
#define GONE_WAIT_MS 125 /* for one look */
#define GONE_LOOKS 8
void recorded_await(const struct recorded *recorded, int *ms);

/* Whose the invalid captures without a number were: for a commit, when all captures have ended. */
void registry_settle_doubts(struct registry *registry);

/* The backend's hold on a graph: as long as there is one, a launch may come. [any thread]; a destructor that may not call
 * anything may call it. */
void recorded_hold(struct recorded *recorded);
void recorded_let_go(struct recorded *recorded);
bool recorded_gone(const struct recorded *recorded);

/* A slot whose ticket is given back; its entry is zero from the next write on. */
void registry_slot_return(struct registry *registry, struct ticket *ticket);

/* Gives up all tickets of a graph, which lose what they hold (share.h) beforehand; the graph goes too if it is gone. */
void registry_forget(struct registry *registry, struct recorded *recorded);

/* Nothing of the graph will ever be direct: its calls are staged for good, and a commit does not look at it. */
void registry_settle(struct registry *registry, struct recorded *recorded);

/* The same for the pending ones with serials above `before` and up to `last`: captures of which some rank has none. By number, since
 * some of them may be gone. All captures have ended. */
void registry_settle_behind(struct registry *registry, uint64_t before, uint64_t last);

/* Frees what is gone and was seen by a commit. */
void registry_sweep(struct registry *registry);

/* Moves a ticket between states, with the counters. */
void registry_move(struct registry *registry, struct ticket *ticket, enum ticket_state state);

/* What became of the calls captured so far, as the end of a sentence that is there already: "; 3 calls wait .."; or "". */
void registry_explain(const struct registry *registry, char *text, size_t text_bytes);

/* Fills the fields of its own. [any thread] */
void registry_stats(const struct registry *registry, tutti_stats *stats);

#endif
