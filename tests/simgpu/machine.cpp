/* SPDX-License-Identifier: Apache-2.0 */
#include "simgpu/machine.h"

#include <stdarg.h>
#include <stdio.h>

namespace simgpu
{

#define STACK_BYTES ((size_t)64 << 10)

__thread struct machine *machine_here;

/* -- lists of threads ------------------------------------------------------------------------------ */

static void list_add(std::vector<struct thread *> &list, struct thread &thread)
{
    thread.position = list.size();
    list.push_back(&thread);
}

static void list_remove(std::vector<struct thread *> &list, struct thread &thread)
{
    list[thread.position] = list.back();
    list[thread.position]->position = thread.position;
    list.pop_back();
}

static void thread_leave_lists(struct machine &machine, struct thread &thread)
{
    if (thread.state == state::ready) {
        list_remove(machine.ready, thread);
    } else if (thread.state == state::polling) {
        list_remove(machine.polling, thread);
    }
}

void machine_wake(struct machine &machine, struct thread &thread)
{
    thread_leave_lists(machine, thread);
    thread.state = state::ready;
    list_add(machine.ready, thread);
}

/* -- switching ------------------------------------------------------------------------------------- */

static void go(struct machine &machine, struct fiber *from, struct thread *to)
{
    if (to != nullptr) {
        machine.current = to;
        simulated_here = &to->place;
    }
    fiber_switch(from, to != nullptr ? to->fiber : machine.outside);
}

static void choose_and_go(struct machine &machine)
{
    struct thread *self = machine.current;
    struct thread *next = schedule_next(machine);
    if (next != self) {
        go(machine, self->fiber, next);
    }
}

void machine_pause(struct machine &machine)
{
    machine.clock_ns += 20;
    machine.rank_steps[machine.current->block->grid->stream->rank]++;
    if (++machine.steps > machine.options.steps_max) {
        machine_fail(machine, "more than %llu steps", (unsigned long long)machine.options.steps_max);
    }
    choose_and_go(machine);
}

void machine_rest(struct machine &machine, enum state state)
{
    struct thread &self = *machine.current;
    thread_leave_lists(machine, self);
    self.state = state;
    if (state == state::polling) {
        list_add(machine.polling, self);
    }
    choose_and_go(machine);
}

void machine_fail(struct machine &machine, const char *format, ...)
{
    if (machine.failure.empty()) {
        char text[512];
        va_list list;
        va_start(list, format);
        vsnprintf(text, sizeof(text), format, list);
        va_end(list);
        machine.failure = text;
    }
}

/* -- grids ----------------------------------------------------------------------------------------- */

static bool may_open(const struct stream &stream, const struct grid &grid)
{
    const struct grid *before = grid.predecessor;
    if (before == nullptr || (grid.programmatic && before->let_in == before->blocks)) {
        return true;
    }
    for (size_t at = 0; at < stream.next; at++) {
        if (!stream.grids[at]->completed) {
            return false;
        }
    }
    return true;
}

void stream_advance(struct machine &machine, struct stream &stream)
{
    while (stream.next < stream.grids.size() && may_open(stream, *stream.grids[stream.next])) {
        struct grid &grid = *stream.grids[stream.next++];
        if (grid.predecessor != nullptr) {
            grid.floor = grid.predecessor->completed ? grid.predecessor->completed_at : grid.predecessor->floor;
        }
        grid.open = true;
        machine.open.push_back(&grid);
    }
}

/* Mutants: stores that nobody waits for. */
static void orphan_stores(struct machine &machine, struct grid &grid)
{
    bool all = machine.options.mutant == MUTANT_WEAK_STORES;
    for (const std::unique_ptr<struct block> &block : grid.running) {
        for (size_t at = 0; at <= block->threads.size(); at++) {
            struct store_buffer &buffer = at == 0 ? block->buffer : block->threads[at - 1].buffer;
            for (struct pending &entry : buffer.entries) {
                if (!entry.orphan && (all || (uint32_t)entry.value == SENTINEL)) {
                    entry.orphan = true;
                    grid.outstanding--;
                }
            }
        }
    }
}

void grid_check_completed(struct machine &machine, struct grid &grid)
{
    if (grid.completed || grid.ended < grid.blocks) {
        return;
    }
    if (machine.options.mutant == MUTANT_WEAK_STORES || machine.options.mutant == MUTANT_WEAK_RESET) {
        orphan_stores(machine, grid);
    }
    if (grid.outstanding != 0) {
        return;
    }
    grid.completed = true;
    grid.completed_at = machine.memory.now;
    grid.last_step = machine.steps;
    machine.incomplete--;
    if (grid.successor != nullptr) {
        for (const std::unique_ptr<struct block> &block : grid.successor->running) {
            for (struct thread &thread : block->threads) {
                if (thread.state == state::predecessor) {
                    machine_wake(machine, thread);
                }
            }
        }
    }
    stream_advance(machine, *grid.stream);
}

void block_pass_barrier(struct machine &machine, struct block &block)
{
    memory_barrier(machine, block);
    block.phase++;
    block.arrived = 0;
    block.any = block.gathering;
    block.gathering = false;
    for (struct thread &thread : block.threads) {
        thread.slots = 0;
        thread.looked.clear();
        if (thread.state == state::barrier) {
            machine_wake(machine, thread);
        }
    }
}

/* NVIDIA's shuffles name all threads of the warp, and each must come to all of them; AMD's move values between four neighbours alone. */
static void check_exchanges(struct machine &machine, const struct block &block)
{
    const size_t together = machine.options.warp == 32 ? 32 : 4;
    for (size_t at = 1; at < block.threads.size() && block.exchanges; at++) {
        if (at % together != 0 && block.threads[at].exchanges != block.threads[at - 1].exchanges) {
            machine_fail(machine, "threads %zu and %zu did not take part in the same shuffles", at - 1, at);
        }
    }
}

static void thread_end(struct machine &machine, struct thread &thread)
{
    struct block &block = *thread.block;
    struct grid &grid = *block.grid;
    thread_leave_lists(machine, thread);
    thread.state = state::ended;
    block.live--;
    if (block.live != 0) {
        if (block.arrived == block.live) {
            block_pass_barrier(machine, block);
        }
        return;
    }
    check_exchanges(machine, block);
    machine.resident[grid.stream->rank]--;
    grid.ended++;
    grid.let_in += !block.let_in;
    block.let_in = true;
    grid_check_completed(machine, grid);
    stream_advance(machine, *grid.stream);
}

static void thread_main(void *user)
{
    struct thread &thread = *static_cast<struct thread *>(user);
    struct machine &machine = *machine_here;
    thread.block->grid->kernel(thread.block->grid->arguments);
    thread_end(machine, thread);
    go(machine, thread.fiber, nullptr); /* machine_run takes the fiber back */
}

static struct fiber *take_fiber(struct machine &machine)
{
    if (machine.idle.empty()) {
        struct fiber *fiber = fiber_create(STACK_BYTES);
        if (fiber == nullptr) {
            return nullptr;
        }
        machine.fibers.push_back(fiber);
        return fiber;
    }
    struct fiber *fiber = machine.idle.back();
    machine.idle.pop_back();
    return fiber;
}

static void thread_start(struct machine &machine, struct block &block, uint32_t number)
{
    struct thread &thread = block.threads[number];
    thread.place = {number, block.grid->threads, block.number, block.grid->blocks};
    thread.block = &block;
    thread.priority = (uint32_t)(machine.random.next() >> 33) + (1u << 31);
    thread.buffer.block = &block;
    thread.buffer.thread = &thread;
    thread.floor = block.grid->floor;
    thread.fiber = take_fiber(machine);
    if (thread.fiber == nullptr) {
        machine_fail(machine, "no memory for a stack");
        return;
    }
    fiber_prepare(thread.fiber, thread_main, &thread);
    thread.state = state::ready;
    list_add(machine.ready, thread);
}

bool machine_start_block(struct machine &machine)
{
    size_t count = machine.open.size();
    size_t first = count == 0 ? 0 : machine.random.below(count);
    for (size_t turn = 0; turn < count; turn++) {
        size_t at = (first + turn) % count;
        struct grid &grid = *machine.open[at];
        int rank = grid.stream->rank;
        if (machine.resident[rank] >= machine.options.capacity || schedule_stalls(machine, rank)) {
            continue;
        }
        size_t pick = machine.random.below(grid.unstarted.size());
        std::unique_ptr<struct block> block(new struct block());
        block->grid = &grid;
        block->number = grid.unstarted[pick];
        grid.unstarted[pick] = grid.unstarted.back();
        grid.unstarted.pop_back();
        if (grid.unstarted.empty()) {
            machine.open[at] = machine.open.back();
            machine.open.pop_back();
        }
        block->buffer.block = block.get();
        block->live = grid.threads;
        block->quartets.resize((grid.threads + 3) / 4);
        block->threads.resize(grid.threads);
        machine.resident[rank]++;
        grid.first_step = grid.started++ == 0 ? machine.steps : grid.first_step;
        for (uint32_t number = 0; number < grid.threads; number++) {
            thread_start(machine, *block, number);
        }
        grid.running.push_back(std::move(block));
        return true;
    }
    return false;
}

/* -- machines -------------------------------------------------------------------------------------- */

struct machine *machine_create()
{
    struct machine *machine = new struct machine();
    machine->outside = fiber_adopt();
    return machine;
}

void machine_destroy(struct machine *machine)
{
    for (struct fiber *fiber : machine->fibers) {
        fiber_destroy(fiber);
    }
    fiber_destroy(machine->outside);
    delete machine;
}

void machine_reset(struct machine &machine, const struct machine_options &options)
{
    machine.options = options;
    machine.random.state = options.seed;
    machine.memory = {};
    machine.streams.clear();
    machine.ready.clear();
    machine.polling.clear();
    machine.open.clear();
    machine.idle = machine.fibers;
    machine.current = nullptr;
    machine.incomplete = 0;
    for (int rank = 0; rank < 2 * KERNEL_WORLD_MAX; rank++) {
        machine.resident[rank] = 0;
        machine.rank_steps[rank] = 0;
    }
    machine.steps = 0;
    machine.clock_ns = 1;
    machine.rounds = 0;
    machine.failure.clear();
}

struct stream *machine_stream(struct machine &machine, int rank)
{
    machine.streams.push_back(std::unique_ptr<struct stream>(new struct stream()));
    machine.streams.back()->rank = rank;
    return machine.streams.back().get();
}

struct grid *stream_launch(struct machine &machine, struct stream &stream, kernel_body kernel,
                           const struct kernel_arguments &arguments, uint32_t blocks, uint32_t threads,
                           bool programmatic)
{
    std::unique_ptr<struct grid> grid(new struct grid());
    grid->stream = &stream;
    grid->kernel = kernel;
    grid->arguments = arguments;
    grid->blocks = blocks;
    grid->threads = threads;
    grid->programmatic = programmatic;
    for (uint32_t number = 0; number < blocks; number++) {
        grid->unstarted.push_back(number);
    }
    if (!stream.grids.empty()) {
        grid->predecessor = stream.grids.back().get();
        grid->predecessor->successor = grid.get();
    }
    stream.grids.push_back(std::move(grid));
    machine.incomplete++;
    return stream.grids.back().get();
}

bool machine_run(struct machine &machine)
{
    machine_here = &machine;
    for (const std::unique_ptr<struct stream> &stream : machine.streams) {
        stream_advance(machine, *stream);
    }
    for (struct thread *next = schedule_next(machine); next != nullptr; next = schedule_next(machine)) {
        go(machine, machine.outside, next);
        if (machine.current->state == state::ended) {
            machine.idle.push_back(machine.current->fiber);
        }
    }
    machine_here = nullptr;
    return machine.failure.empty();
}

} // namespace simgpu
