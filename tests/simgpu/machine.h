/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - the simulated GPUs of all ranks: streams, grids, blocks, threads.
 *
 * A machine lives on one OS thread. Everything that happens in it is a choice of its schedule, made from its seed, so
 * that a run can be repeated. A simulated thread can be interrupted at every access to shared memory, at
 * barriers, shuffles and clock readings, and nowhere else.
 *
 * Launch rules and where they come from:
 * - A grid starts when its predecessor in the stream has completed: its blocks have ended and its stores are performed
 *   (CUDA C++ Programming Guide, streams; the assumption is named in docs/protocols-gpu.md).
 * - A grid launched programmatically may start when every block of its predecessor has let it in or has ended, and
 *   nothing is promised until it waits; the wait ends when the predecessor has completed and its stores are visible
 *   (PTX ISA, griddepcontrol). What came before the predecessor is not waited for: a predecessor that never
 *   waited itself proves nothing about it.
 * - Blocks start in any order, when the device has room for them.
 * - Threads of a warp run independently (NVIDIA since Volta); under schedule.lockstep a thread that has left a
 *   polling loop does not go on before the others of its wavefront have left it too (AMD, and the compilers' reconvergence).
 */
#ifndef TESTS_SIMGPU_MACHINE_H
#define TESTS_SIMGPU_MACHINE_H

#include <memory>
#include <string>
#include <vector>

#include "kernels/portable.h"
#include "simgpu/fiber.h"
#include "simgpu/memory.h"
#include "simgpu/mutants.h"
#include "simgpu/random.h"
#include "simgpu/schedule.h"

namespace simgpu
{

enum class state { ready, polling, barrier, exchange, predecessor, ended };

struct block;
struct grid;

struct thread {
    struct simulated_place place;
    struct block *block;
    struct fiber *fiber;
    enum state state;
    size_t position; /* in machine.ready or machine.polling */
    uint32_t priority;
    struct store_buffer buffer;
    struct view seen;
    uint64_t floor; /* no load sees memory as it was before this time */
    /* Fruitless polling: the same load, the same answer. */
    uint64_t watched;
    uint32_t watched_bytes;
    uint8_t watched_value[16];
    uint32_t repeats;  /* how often it had the same answer */
    uint32_t restless; /* polls before it may rest again: a clock was turned */
    uint64_t clock_ns; /* live: what it last read */
    uint32_t slots; /* how many different places of an inbox it has looked at since the last barrier: how far it is */
    std::vector<uint64_t> looked; /* those that it has not emptied since */
    uint32_t exchanges;
    uint32_t exchanged[4];
};

/* Four neighbouring threads that pass values. */
struct quartet {
    uint32_t values[4];
    uint32_t arrived;
};

struct block {
    struct grid *grid;
    uint32_t number;
    std::vector<struct thread> threads;
    uint32_t live, arrived;
    bool any, gathering; /* the last barrier's answer; that of the one under way */
    uint32_t phase;      /* barriers passed */
    bool let_in, exchanges;
    uint64_t ballot[BALLOT_WORDS]; /* MUTANT_PEER_IGNORED: what it has last sent */
    struct store_buffer buffer;    /* stores of all its threads from before the last barrier */
    struct view seen;
    std::vector<struct quartet> quartets;
    std::vector<std::pair<const void *, std::unique_ptr<uint64_t[]>>> shared;
};

typedef void (*kernel_body)(const struct kernel_arguments &arguments);

struct grid {
    struct stream *stream;
    struct grid *predecessor; /* in its stream, or nullptr */
    struct grid *successor;
    kernel_body kernel;
    struct kernel_arguments arguments;
    uint32_t blocks, threads;
    bool programmatic;
    bool open; /* blocks may start */
    uint32_t started, let_in, ended;
    uint32_t outstanding; /* stores that are not performed */
    bool completed;
    uint64_t completed_at, floor;    /* machine.memory.now when it had completed; that its threads begin with */
    uint64_t first_step, last_step;  /* machine.steps when its first block started, when it had completed */
    std::vector<uint32_t> unstarted; /* block numbers */
    std::vector<std::unique_ptr<struct block>> running;
};

struct stream {
    int rank;
    std::vector<std::unique_ptr<struct grid>> grids;
    size_t next; /* the first that is not open */
};

struct machine_options {
    uint64_t seed;
    uint32_t warp;     /* 32 or 64 */
    uint32_t capacity; /* blocks that one rank's device holds at once */
    uint32_t mutant;
    uint64_t steps_max;  /* a run that takes more is a failure */
    uint64_t half_bytes; /* of the arenas, for mutants */
    /* Shared accesses of threads lie here, or the run has failed; 0: anywhere. */
    uint64_t memory_begin, memory_end;
    /* The peers are other threads and processes: time is real, and who finds everybody waiting waits. */
    bool live;
    /* An assumption, not a rule of the vendors' models: an addition to a counter is performed after what its block stored
     * before its last barrier. See FAMILY_FOREIGN. */
    bool counters_follow_stores;
    /* Called after every performed store, with its address; nullptr: nobody looks. */
    void (*observe)(void *user, uint64_t address);
    void *observer;
    struct schedule schedule;
};

struct machine {
    struct machine_options options;
    struct random random;
    struct memory memory;
    std::vector<std::unique_ptr<struct stream>> streams;
    std::vector<struct thread *> ready, polling;
    std::vector<struct grid *> open;          /* with blocks that have not started */
    std::vector<struct fiber *> fibers, idle; /* all, and those without a thread */
    struct fiber *outside;
    struct thread *current;
    uint32_t incomplete;                     /* grids */
    uint32_t resident[2 * KERNEL_WORLD_MAX]; /* the upper half: hosts, which take no device's room */
    uint64_t rank_steps[2 * KERNEL_WORLD_MAX];
    uint64_t steps, clock_ns;
    uint32_t rounds;     /* how often everybody was found waiting */
    std::string failure; /* empty: none */
};

/* Where kernels find their machine. */
extern __thread struct machine *machine_here;

struct machine *machine_create();
void machine_destroy(struct machine *machine);

/* Forgets everything but the stacks. */
void machine_reset(struct machine &machine, const struct machine_options &options);

/* A queue of grids on `rank`'s device. Owned by the machine. */
struct stream *machine_stream(struct machine &machine, int rank);

/* Appends a launch. `arguments` are copied. The grid is the machine's. */
struct grid *stream_launch(struct machine &machine, struct stream &stream, kernel_body kernel,
                           const struct kernel_arguments &arguments, uint32_t blocks, uint32_t threads,
                           bool programmatic);

/* Until every grid has completed and every store is performed. False: machine.failure says what went wrong. */
bool machine_run(struct machine &machine);

/* How many bytes of struct kernel_arguments a kernel's launches bring, and how many threads its blocks have at most. */
struct kernel_limits {
    uint32_t argument_bytes, threads;
};

/* The kernel called `name`, or nullptr. */
kernel_body kernel_find(const char *name, struct kernel_limits *limits = nullptr);

/* -- between the parts of the machine -- */

/* A point at which somebody else may run. */
void machine_pause(struct machine &machine);
/* The running thread cannot go on: it is in a state other than ready. Returns when it is ready again. */
void machine_rest(struct machine &machine, enum state state);
void machine_wake(struct machine &machine, struct thread &thread);
/* Ends the run at the next pause. The first failure counts. */
void machine_fail(struct machine &machine, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Starts a block that may start, if there is one: chosen by chance. */
bool machine_start_block(struct machine &machine);
/* Live: until something that is polled for has changed, or it is time to look at the clock. */
void live_wait(struct machine &machine);
uint64_t live_clock_ns(struct thread &thread);
/* Opens the grids that may start. */
void stream_advance(struct machine &machine, struct stream &stream);
/* The threads that wait in the block's barrier go on. */
void block_pass_barrier(struct machine &machine, struct block &block);
void grid_check_completed(struct machine &machine, struct grid &grid);

} // namespace simgpu

#endif
