/* SPDX-License-Identifier: Apache-2.0 */
#include "simgpu/schedule.h"

#include "simgpu/machine.h"

namespace simgpu
{

#define ROUNDS_MAX 400

bool schedule_stalls(const struct machine &machine, int rank)
{
    const struct schedule &schedule = machine.options.schedule;
    return schedule.stalled == rank && machine.rank_steps[rank] >= schedule.stall_at;
}

static uint32_t one_of(struct random &random, const uint32_t *values, uint32_t count)
{
    return values[random.below(count)];
}

struct schedule schedule_draw(struct random &random)
{
    static const uint32_t switches[] = {800, 4000, 16000};
    static const uint32_t performs[] = {0, 300, 4000, 20000, 60000};
    static const uint32_t stales[] = {0, 4000, 20000, 50000};
    static const uint32_t starts[] = {0, 1000, 8000, 65535};
    struct schedule schedule = {};
    schedule.strategy = static_cast<enum strategy>(random.below(3));
    schedule.switch_chance = one_of(random, switches, 3);
    schedule.perform_chance = one_of(random, performs, 5);
    schedule.stale_chance = one_of(random, stales, 4);
    schedule.start_chance = one_of(random, starts, 4);
    schedule.turns = 1 + random.below(6);
    schedule.turns_within = 300u << random.below(5);
    schedule.stalled = -1;
    schedule.stall_stores = random.chance(32768);
    schedule.lockstep = random.chance(16384);
    return schedule;
}

/* Under lockstep: somebody of the same wavefront still polls where this thread has been served. */
static bool held_back(const struct machine &machine, const struct thread &thread)
{
    uint32_t first = thread.place.thread / machine.options.warp * machine.options.warp;
    const std::vector<struct thread> &threads = thread.block->threads;
    for (uint32_t at = first; at < threads.size() && at < first + machine.options.warp; at++) {
        const struct thread &other = threads[at];
        bool polls = other.state == state::polling || (other.state == state::ready && other.repeats != 0);
        if (polls && other.slots < thread.slots) {
            return true;
        }
    }
    return false;
}

static bool may_run(const struct machine &machine, const struct thread &thread)
{
    return !schedule_stalls(machine, thread.block->grid->stream->rank) &&
           !(machine.options.schedule.lockstep && held_back(machine, thread));
}

static struct thread *any(struct machine &machine)
{
    size_t count = machine.ready.size();
    size_t first = count == 0 ? 0 : machine.random.below(count);
    for (size_t turn = 0; turn < count; turn++) {
        struct thread *thread = machine.ready[first + turn < count ? first + turn : first + turn - count];
        if (may_run(machine, *thread)) {
            return thread;
        }
    }
    return nullptr;
}

static struct thread *first_by_priority(struct machine &machine)
{
    struct thread *best = nullptr;
    for (struct thread *thread : machine.ready) {
        if ((best == nullptr || thread->priority > best->priority) && may_run(machine, *thread)) {
            best = thread;
        }
    }
    return best;
}

static struct thread *choose(struct machine &machine)
{
    const struct schedule &schedule = machine.options.schedule;
    struct thread *current = machine.current;
    bool can_stay = current != nullptr && current->state == state::ready;
    if (schedule.strategy == strategy::priority) {
        if (can_stay && machine.random.chance((uint32_t)(65536 * schedule.turns / schedule.turns_within))) {
            current->priority = machine.random.below(1u << 31); /* below everybody who has not been turned down */
        }
        return first_by_priority(machine);
    }
    if (schedule.strategy == strategy::bursts && can_stay && !machine.random.chance(schedule.switch_chance) &&
        may_run(machine, *current)) {
        return current;
    }
    return any(machine);
}

/* Everybody polls: time passes, until they look at the clock. */
static void turn_clock(struct machine &machine)
{
    if (++machine.rounds > ROUNDS_MAX) {
        machine_fail(machine, "everybody polls for ever");
    }
    machine.clock_ns += 4000000 + machine.random.below(8000000);
    while (!machine.polling.empty()) {
        struct thread *thread = machine.polling.back();
        thread->restless = POLLS_PER_LOOK + 1 + machine.random.below(8);
        machine_wake(machine, *thread);
    }
}

static const char *state_name(enum state state)
{
    static const char *const names[] = {"ready", "polling", "barrier", "shuffle", "predecessor", "ended"};
    return names[static_cast<int>(state)];
}

static void describe_deadlock(struct machine &machine)
{
    for (const std::unique_ptr<struct stream> &stream : machine.streams) {
        for (const std::unique_ptr<struct grid> &grid : stream->grids) {
            for (const std::unique_ptr<struct block> &block : grid->running) {
                for (const struct thread &thread : block->threads) {
                    if (thread.state != state::ended) {
                        machine_fail(machine, "deadlock: rank %d, block %u, thread %u waits for ever (%s)",
                                     stream->rank, block->number, thread.place.thread, state_name(thread.state));
                    }
                }
            }
        }
    }
    machine_fail(machine, "deadlock: a grid never starts");
}

/* Nobody can run as things are. False: it is over. */
static bool unstick(struct machine &machine)
{
    struct schedule &schedule = machine.options.schedule;
    bool stalls = schedule.stalled >= 0 && schedule_stalls(machine, schedule.stalled);
    int kept = stalls && schedule.stall_stores ? schedule.stalled : -1;
    if (machine_start_block(machine) || memory_perform_one(machine, kept)) {
        return true;
    }
    if (stalls && (machine.rounds >= schedule.stall_rounds || machine.polling.empty())) {
        schedule.stalled = -1;
        return true;
    }
    if (machine.options.live && !machine.polling.empty()) {
        live_wait(machine);
        return true;
    }
    if (!machine.polling.empty() || !machine.ready.empty()) {
        turn_clock(machine);
        return machine.failure.empty();
    }
    if (machine.incomplete != 0) {
        describe_deadlock(machine);
    }
    return false;
}

struct thread *schedule_next(struct machine &machine)
{
    const struct schedule &schedule = machine.options.schedule;
    while (machine.failure.empty()) {
        if (machine.random.chance(schedule.start_chance)) {
            machine_start_block(machine);
        }
        if (!machine.memory.dirty.empty() && machine.random.chance(schedule.perform_chance)) {
            bool kept = schedule.stalled >= 0 && schedule.stall_stores && schedule_stalls(machine, schedule.stalled);
            memory_perform_one(machine, kept ? schedule.stalled : -1);
        }
        struct thread *next = choose(machine);
        if (next != nullptr) {
            return next;
        }
        if (!unstick(machine)) {
            break;
        }
    }
    return nullptr;
}

} // namespace simgpu
