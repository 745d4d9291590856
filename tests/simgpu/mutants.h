/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mutants.h - ways to break the protocols on purpose, each of which the explorer must notice.
 *
 * They are made by the simulated machine, so that the kernel sources stay free of them: a kernel that forgets to
 * empty its inbox is one whose emptying stores are swallowed.
 */
#ifndef TESTS_SIMGPU_MUTANTS_H
#define TESTS_SIMGPU_MUTANTS_H

#include <stdint.h>

namespace simgpu
{

enum mutant : uint32_t {
    MUTANT_NONE,
    MUTANT_SINGLE_BUFFER,        /* both halves are the same memory */
    MUTANT_MISSING_RESET,        /* inbox words are not emptied */
    MUTANT_WEAK_RESET,           /* they are, but with stores that outlive the kernel */
    MUTANT_WEAK_STORES,          /* nothing that a kernel stored is waited for at its end */
    MUTANT_SENTINEL_SENT,        /* data that looks like an empty slot is sent as it is */
    MUTANT_FIRST_WORD_CHECKED,   /* a vector counts as arrived when its first word has */
    MUTANT_TORN_PAIRS,           /* 8-byte accesses in two pieces */
    MUTANT_MISSING_FENCE,        /* fences order nothing */
    MUTANT_MISSING_RELEASE,      /* release stores are relaxed */
    MUTANT_MISSING_BARRIER,      /* barriers of a block hold nobody */
    MUTANT_EPOCH_BY_ONE_BLOCK,   /* block 0 advances the epoch for all blocks */
    MUTANT_EPOCH_WITHOUT_OTHERS, /* only block 0 advances it, by its own share */
    MUTANT_EPOCH_AT_ONCE,        /* a block advances the epoch when it reads it, not when it leaves */
    MUTANT_NO_PREDECESSOR_WAIT,  /* programmatic launch without waiting */
    MUTANT_EPOCH_FROM_ENDED,     /* programmatic launch, epoch taken from the counter of those that left */
    MUTANT_WEAK_COUNTER,         /* ... whose additions overtake the block's stores */
    MUTANT_SUCCESSOR_AT_ONCE,    /* successors let in before the last poll */
    MUTANT_DEAF_TO_ABORT,        /* the abort word reads as 0 */
    MUTANT_DEAF_TO_TIME,         /* the clock stands still */
    MUTANT_EACH_LOOKS,           /* each thread that sends a ballot looks into the call's slot itself */
    MUTANT_TICKET_IGNORED,       /* whose slot it is does not matter */
    MUTANT_COMMIT_FIRST,         /* the host commits, then writes the addresses */
    MUTANT_COMMIT_RELAXED,       /* a commit is loaded without acquire */
    MUTANT_NO_DONE,              /* who went directly does not wait until its peers have, too */
    MUTANT_DONE_RELAXED,         /* its flag for them is no release */
    MUTANT_PEER_IGNORED,         /* one peer's ballot does not count */
    MUTANT_COUNT,
};

inline const char *mutant_name(uint32_t mutant)
{
    static const char *const names[MUTANT_COUNT] = {
        "none",           "single_buffer",     "missing_reset",       "weak_reset",
        "weak_stores",    "sentinel_sent",     "first_word",          "torn_pairs",
        "missing_fence",  "missing_release",   "missing_barrier",     "one_block",
        "without_others", "epoch_at_once",     "no_predecessor_wait", "epoch_from_ended",
        "weak_counter",   "successor_at_once", "deaf_to_abort",       "deaf_to_time",
        "each_looks",     "ticket_ignored",    "commit_first",        "commit_relaxed",
        "no_done",        "done_relaxed",      "peer_ignored",
    };
    return mutant < MUTANT_COUNT ? names[mutant] : "?";
}

} // namespace simgpu

#endif
