/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger.h - what a rank tells its peers at a commit: its graphs, their calls in order of capture, where the buffers lie; and the
 * verdict, which every rank comes to for itself from all ranks' ledgers, and which is the same on all.
 *
 *     head | graph[graphs] | call[calls] | allocation[allocations] | name[names]
 *
 * Before a resumption the ranks tell each other which calls they have suspended: ledgers of names alone.
 *
 * Pure: no driver, no waiting.
 */
#ifndef TUTTI_CAPTURE_LEDGER_H
#define TUTTI_CAPTURE_LEDGER_H

#include "capture/registry.h"
#include "memory/exports.h"

#define LEDGER_SENTENCE_BYTES 200

enum ledger_verb { LEDGER_COMMIT = 1, LEDGER_RESUME = 2 };
enum ledger_fate {
    FATE_WHOLE,
    FATE_GONE,  /* it gave no graph, or that has been destroyed */
    FATE_BROKEN /* its capture has failed, or was given up */
};
/* Where a buffer lies: an index of the rank's allocations, or one of these. Private: no peer reads or writes it. */
enum { WHERE_UNKNOWN = -1, WHERE_SYMMETRIC = -2, WHERE_UNALIGNED = -3, WHERE_PRIVATE = -4 };

struct ledger_head {
    uint32_t verb;
    int32_t status; /* TUTTI_OK, or why this rank cannot take part: `sentence` */
    uint32_t graphs, calls, allocations, names;
    uint64_t forgotten, last_commit;
    uint64_t abandoned;                   /* the session that this rank gives up; 0: none */
    uint64_t last_session;                /* the number of its last one */
    char sentence[LEDGER_SENTENCE_BYTES]; /* else: of the first broken graph */
};
struct ledger_graph {
    uint32_t fate, calls; /* calls: 0 unless it is whole */
    uint32_t captured;    /* how many calls it had, in any case */
    uint32_t reserved;
    uint64_t last; /* the last of them */
    uint64_t session;
};
struct ledger_buffer {
    int32_t where;
    uint32_t serial; /* symmetric */
    uint64_t offset;
};
struct ledger_call {
    uint64_t agreed; /* its name, once it has one */
    uint64_t signature, row_bytes;
    uint32_t lane;
    uint8_t has_slot, missing, reserved[2]; /* missing: this rank has no such ticket any more */
    struct ledger_buffer buffers[BUFFER_COUNT];
};
/* In runs: an allocation that is `joined` lies right behind the one before it in the list, and buffers reach over the border, so that peers
 * map them back to back. Buffers name the first one of a run; what is said of that one's shareability is said of all. */
struct ledger_allocation {
    int32_t shareable, has_descriptor;
    int32_t joined, reserved;
    struct memory_name name;
    char reason[LEDGER_SENTENCE_BYTES]; /* if it is not shareable */
};

/* A ledger under construction; all zero at first. */
struct ledger {
    struct ledger_head head;
    struct ledger_graph *graphs;
    struct ledger_call *calls;
    struct ledger_allocation *allocations;
    uint64_t *names; /* not owned */
    size_t graph_room, call_room, allocation_room;
};

/* Each adds one, zeroed; NULL without memory. The pointer is good until the next one is added. */
struct ledger_graph *ledger_add_graph(struct ledger *ledger);
struct ledger_call *ledger_add_call(struct ledger *ledger);
struct ledger_allocation *ledger_add_allocation(struct ledger *ledger);

/* This rank cannot take part: thread's last error says why. The first one counts. */
void ledger_refuse(struct ledger *ledger, tutti_status status);

/* As one run of bytes, which the caller frees. NULL without memory. */
unsigned char *ledger_pack(const struct ledger *ledger, size_t *bytes);
void ledger_free(struct ledger *ledger);

/* A ledger as it came from a rank. The bytes stay the caller's. */
struct ledger_view {
    struct ledger_head head;
    const struct ledger_graph *graphs;
    const struct ledger_call *calls;
    const struct ledger_allocation *allocations;
    const uint64_t *names;
};

/* `bytes` are aligned to 8. False if they are no ledger: a peer's mistake must not become ours. */
bool ledger_read(const unsigned char *bytes, size_t size, struct ledger_view *view);

/* What the ranks come to. */
struct verdict {
    bool mismatch; /* they captured different things: nothing that is pending will ever be direct */
    bool unsure;   /* some graph is gone on a rank and not on another, where its end may not have been heard of */
    bool *dropped; /* [own graphs]: given up on all ranks */
    bool *direct;  /* [calls] */
    uint32_t staged_count;
    char staged_why[LEDGER_SENTENCE_BYTES]; /* of the last call that stays staged */
};

/* Whether all ranks make the same call, and can. MISMATCH, and whatever a rank refused with; the same on all ranks. */
tutti_status ledger_judge_heads(const struct ledger_view *views, int world);

/* The same on every rank, with the same sentence: MISMATCH, CAPTURE (some graph was dropped), and whatever a rank refused with. The
 * verdict's arrays are good, and to be freed with verdict_free, unless there is no memory for them: then they are NULL, and the others
 * know nothing of that (SYSTEM). */
tutti_status ledger_judge(const struct ledger_view *views, int world, int own, struct verdict *verdict);
void verdict_free(struct verdict *verdict);

/* How many allocations the run has that begins with this one. */
uint32_t ledger_run(const struct ledger_view *view, uint32_t first);

/* Which of a rank's allocations, in whole runs, the direct calls use, into used[allocations]. */
void ledger_mark_used(const struct ledger_view *view, const struct verdict *verdict, bool *used);

#endif
