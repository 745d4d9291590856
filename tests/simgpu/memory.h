/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - the simulated GPUs' shared memory, as weak as the vendors allow.
 *
 * Rules, each with its source:
 *
 * 1. A store waits in its thread's buffer until the schedule performs it; stores to different addresses are performed
 *    in any order. Relaxed accesses order nothing but themselves (PTX ISA, Memory Consistency Model, causality order;
 *    LLVM, User Guide for AMDGPU, memory model: monotonic atomics need no waits or cache operations).
 * 2. Stores of a thread to one address keep their order, and a thread sees its own (both: coherence).
 * 3. An access of 4 or 8 bytes is performed at once; one of 16 bytes is four of 4 in no particular order (PTX: a vector
 *    access is a set of scalar accesses in unspecified order; AMDGPU: atomics go up to 64 bits).
 * 4. A load sees memory as it was at any time since the thread's last acquire, since its grid's predecessors
 *    completed, or since what it has itself seen or stored there (PTX: observation, coherence; AMDGPU: without an
 *    acquire, caches need not be invalidated). So loads may overtake each other.
 * 5. Before a release store is performed, everything must be that its thread stored before, or that its block stored
 *    before a barrier that both passed (PTX: release patterns, causality is transitive through barriers; AMDGPU:
 *    a system-scope release waits for all earlier vector memory operations and writes caches back).
 * 6. An acquire load lets no later load of the thread see anything older than itself.
 * 7. A barrier of the block shows what one of its threads stored or saw to all of them, and to nobody else (PTX:
 *    barriers synchronise at CTA scope; AMDGPU: work-group scope).
 * 8. Atomic read-modify-write operations act on the newest value at once, those that return nothing may wait in the
 *    buffer like stores.
 * 9. A grid has completed only when its stores are performed (CUDA C++ Programming Guide; HSA: a kernel dispatch packet's
 *    release fence at system scope).
 * 10. A fence of acquire and release performs what its thread stored before it, and its block before a barrier that the thread
 *    passed, before what the thread does next; it sees nothing older afterwards (PTX: fence.acq_rel; AMDGPU: fence).
 *
 * Stronger than the hardware: a performed store is visible to everybody at once, except by rule 4; a store is never
 * performed before an earlier load of its thread (no load buffering). docs/protocols-gpu.md needs neither.
 *
 * Addresses outside of the registered regions have no past: loads of them see the present (driver simulations, where
 * other processes store too).
 */
#ifndef TESTS_SIMGPU_MEMORY_H
#define TESTS_SIMGPU_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <vector>

namespace simgpu
{

struct machine;
struct thread;
struct block;

#define WORD_PAST 4

/* What a 4-byte word held: values[0] since times[0] until now, values[1] since times[1] until times[0], ... */
struct word {
    uint64_t times[WORD_PAST];
    uint32_t values[WORD_PAST];
};

enum class holds { arena, table }; /* struct arena_head and what follows it; an array of struct direct_entry */

struct region {
    uint64_t base, bytes;
    int owner; /* rank */
    enum holds holds;
    std::vector<struct word> words;
};

/* From when on a thread knows words: loads may not go back behind it. */
struct view {
    struct entry {
        const struct word *word;
        uint64_t time;
    };
    std::vector<entry> entries; /* open addressing; a power of two, or empty */
    size_t count = 0;
    uint64_t find(const struct word *word) const;
    void raise(const struct word *word, uint64_t time);
    void join(const struct view &other);
    void clear();
};

/* A store that is not performed yet. */
struct pending {
    uint64_t address, value;
    uint8_t bytes; /* 4 or 8 */
    bool add, release, orphan;
    uint32_t thread, phase; /* who stored it, after how many barriers of the block */
};

struct store_buffer {
    std::vector<struct pending> entries;
    struct block *block = nullptr;
    struct thread *thread = nullptr; /* nullptr: the block's own */
    size_t position = 0;             /* in memory.dirty, while entries is not empty */
};

struct memory {
    std::vector<struct region> regions;
    std::vector<struct store_buffer *> dirty;
    uint64_t now = 0; /* stores performed so far */
};

/* Words that `machine` must know the past of. Their contents now are their past. */
void memory_add_region(struct machine &machine, void *base, size_t bytes, int owner, enum holds holds = holds::arena);
struct region *memory_region(struct memory &memory, uint64_t address);

/* A load of 4 or 8 bytes by `thread`. */
uint64_t memory_load(struct machine &machine, struct thread &thread, uint64_t address, uint32_t bytes, bool acquire);
void memory_store(struct machine &machine, struct thread &thread, const struct pending &pending);
/* Performs `address`'s pending stores of this thread and returns the value before `change`. */
uint64_t memory_exchange(struct machine &machine, struct thread &thread, uint64_t address, uint32_t bytes,
                         uint64_t (*change)(uint64_t old, uint64_t operand), uint64_t operand);

/* Performs one pending store, of `rank` if that is not negative, chosen by chance. False: there is none. */
bool memory_perform_one(struct machine &machine, int except_rank);

/* Rule 10. */
void memory_fence(struct machine &machine, struct thread &thread);

/* Rule 7. */
void memory_barrier(struct machine &machine, struct block &block);

/* What is at `address` now, performed. */
uint64_t memory_present(uint64_t address, uint32_t bytes);

} // namespace simgpu

#endif
