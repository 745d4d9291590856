/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.h - who runs next, whose stores are performed when, how old a load's answer may be: by chance, or by malice. */
#ifndef TESTS_SIMGPU_SCHEDULE_H
#define TESTS_SIMGPU_SCHEDULE_H

#include <stdint.h>

namespace simgpu
{

struct machine;
struct thread;

enum class strategy {
    random,   /* any thread, each step */
    bursts,   /* a thread goes on for a while */
    priority, /* the first of a random order, which changes a few times (Burckhardt and others, ASPLOS 2010) */
};

/* Chances are out of 65536. */
struct schedule {
    enum strategy strategy;
    uint32_t switch_chance;  /* bursts: per step */
    uint32_t perform_chance; /* per step, that a store is performed */
    uint32_t stale_chance;   /* per load, that it sees something old where it may */
    uint32_t start_chance;   /* per step, that a block starts if one can */
    uint32_t turns;          /* priority: how often the order changes */
    uint64_t turns_within;   /* ... within this many steps */
    /* Rank `stalled` does nothing after its step `stall_at`, until nobody else can do anything. -1: none */
    int stalled;
    uint64_t stall_at;
    bool stall_stores;     /* and its stores are not performed */
    uint32_t stall_rounds; /* ... and until everybody was found waiting so often */
    bool lockstep;
};

/* Draws a schedule, except for the stalled rank. */
struct random;
struct schedule schedule_draw(struct random &random);

/* Whether `rank` may not do anything at the moment. */
bool schedule_stalls(const struct machine &machine, int rank);

/* The thread to run now; nullptr: all is over, or machine.failure is set. */
struct thread *schedule_next(struct machine &machine);

} // namespace simgpu

#endif
