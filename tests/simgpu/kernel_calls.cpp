/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_calls.cpp - the functions that simulated kernels call (kernels/portable_simulated.h), and the mutants. */
#include <algorithm>
#include <stddef.h>
#include <string.h>

#include "simgpu/machine.h"

__thread const struct simulated_place *simulated_here;

namespace simgpu
{

/* -- kernels by name ------------------------------------------------------------------------------- */

struct named_kernel {
    const char *name;
    kernel_body kernel;
    struct kernel_limits limits;
};

/* Filled before main: must not depend on the order of initialisation. */
static std::vector<struct named_kernel> &named_kernels()
{
    static std::vector<struct named_kernel> kernels;
    return kernels;
}

kernel_body kernel_find(const char *name, struct kernel_limits *limits)
{
    for (const struct named_kernel &named : named_kernels()) {
        if (strcmp(named.name, name) == 0) {
            if (limits != nullptr) {
                *limits = named.limits;
            }
            return named.kernel;
        }
    }
    return nullptr;
}

/* -- where an address is --------------------------------------------------------------------------- */

struct target {
    uint64_t address;
    bool known;      /* in a rank's registered memory */
    bool own;        /* ... this rank's */
    uint64_t offset; /* ... there */
    bool inbox;      /* ... behind the arena's head */
    bool table;      /* in a table of captured calls instead: */
    uint64_t field;  /* offset in an entry */
};

/* Anything else would end the program. */
static void check_inside(struct machine &machine, const void *pointer, uint32_t bytes)
{
    uint64_t address = reinterpret_cast<uint64_t>(pointer), end = machine.options.memory_end;
    if (end != 0 && (address < machine.options.memory_begin || address > end || bytes > end - address)) {
        machine_fail(machine, "an access to memory that nobody has");
        machine_pause(machine);
    }
}

static struct target find_target(struct machine &machine, const void *pointer)
{
    struct target target = {reinterpret_cast<uint64_t>(pointer), false, false, 0, false, false, 0};
    const struct region *region = memory_region(machine.memory, target.address);
    if (region == nullptr) {
        return target;
    }
    if (region->holds == holds::table) {
        target.table = true;
        target.field = (target.address - region->base) % sizeof(struct direct_entry);
        return target;
    }
    target.known = true;
    target.own = region->owner == machine.current->block->grid->stream->rank;
    target.offset = target.address - region->base;
    target.inbox = target.offset >= ARENA_HEAD_BYTES;
    uint64_t half_bytes = machine.options.half_bytes;
    if (machine.options.mutant == MUTANT_SINGLE_BUFFER && target.offset >= ARENA_HEAD_BYTES + half_bytes) {
        target.address -= half_bytes;
    }
    return target;
}

static bool is(const struct machine &machine, uint32_t mutant)
{
    return machine.options.mutant == mutant;
}

/* -- flags of the direct protocols ------------------------------------------------------------------- */

enum class flag { none, ballot, done };
struct flag_place {
    enum flag flag;
    uint32_t writer, word;
};

static struct flag_place find_flag(const struct target &target)
{
    const uint64_t start_bytes = offsetof(struct arena_flags, done), one = sizeof(arena_flags::start[0][0]);
    struct flag_place place = {flag::none, 0, 0};
    if (!target.known || target.offset - ARENA_FLAGS_AT >= sizeof(struct arena_flags)) {
        return place;
    }
    uint64_t offset = target.offset - ARENA_FLAGS_AT;
    place.flag = flag::done;
    if (offset < start_bytes) {
        place.word = (uint32_t)(offset % one / 8);
        place.writer = (uint32_t)(offset / one % KERNEL_WORLD_MAX);
        place.flag = flag::ballot;
    }
    return place;
}

static const uint64_t part_mask = ((uint64_t)1 << BALLOT_PART_BITS) - 1;

/* What a thread that looks for itself finds in the slot of its call, and sends; the others' share is in `value`. */
static uint64_t look_again(struct machine &machine, uint32_t word, uint64_t value)
{
    struct thread &self = *machine.current;
    const struct kernel_arguments &arguments = self.block->grid->arguments;
    const uint32_t parts = 64 / BALLOT_PART_BITS;
    if (arguments.entry == 0 || ((arguments.src | arguments.dst) & 15) != 0) {
        return value;
    }
    uint64_t commit = memory_load(machine, self, arguments.entry + offsetof(struct direct_entry, commit), 8, true);
    uint64_t ticket = memory_load(machine, self, arguments.entry + offsetof(struct direct_entry, ticket), 8, false);
    uint64_t ballot = arguments.route.ballot[word / parts];
    if (commit != 0 && ticket == arguments.ticket) {
        ballot = word < parts ? commit : (uint64_t)BALLOT_COMMITTED;
    }
    return (value & ~part_mask) | (ballot >> (word % parts * BALLOT_PART_BITS) & part_mask);
}

static uint64_t spoil_ballot(struct machine &machine, const struct flag_place &place, uint64_t value)
{
    if (place.flag == flag::ballot && is(machine, MUTANT_EACH_LOOKS)) {
        value = look_again(machine, place.word, value);
    }
    if (place.flag == flag::ballot) {
        machine.current->block->ballot[place.word] = value;
    }
    return value;
}

/* Flags as they are not. */
static void spoil_flag(const struct machine &machine, const struct target &target, void *value)
{
    const struct block &block = *machine.current->block;
    const struct kernel_arguments &arguments = block.grid->arguments;
    struct flag_place place = find_flag(target);
    uint32_t ignored = (arguments.rank + 1) % (arguments.world == 0 ? 1 : arguments.world);
    if (place.flag == flag::ballot && is(machine, MUTANT_PEER_IGNORED) && place.writer == ignored) {
        uint64_t word = 0;
        memcpy(&word, value, 8);
        word = (word & ~part_mask) | (block.ballot[place.word] & part_mask);
        memcpy(value, &word, 8);
    }
    if (place.flag == flag::done && is(machine, MUTANT_NO_DONE)) {
        uint64_t ended = memory_present(arguments.own + offsetof(struct arena_head, ended), 8);
        uint64_t wanted = ended / EPOCH_UNITS + 1;
        memcpy(value, &wanted, 8);
    }
}

static bool acquires(const struct machine &machine, const struct target &target, enum simulated_order order)
{
    bool dropped = is(machine, MUTANT_COMMIT_RELAXED) && target.table;
    return order == SIMULATED_ACQUIRE && !dropped;
}

static bool releases(const struct machine &machine, const struct target &target, enum simulated_order order)
{
    bool dropped = is(machine, MUTANT_DONE_RELAXED) && find_flag(target).flag == flag::done;
    return order == SIMULATED_RELEASE && !dropped;
}

/* -- polling --------------------------------------------------------------------------------------- */

static void forget_polling(struct thread &thread)
{
    thread.repeats = 0;
    thread.watched_bytes = 0;
}

/* What it empties, a later look at is another one. */
static void note_emptied(struct thread &self, const struct target &target)
{
    self.looked.erase(std::remove(self.looked.begin(), self.looked.end(), target.address), self.looked.end());
}

/* The same answer at the same place as the last time, and nothing newer there: rests until that changes. */
static void note_poll(struct machine &machine, const struct target &target, const void *value, uint32_t bytes)
{
    struct thread &self = *machine.current;
    if (target.inbox && std::find(self.looked.begin(), self.looked.end(), target.address) == self.looked.end()) {
        self.looked.push_back(target.address);
        self.slots++;
    }
    bool same =
        self.watched == target.address && self.watched_bytes == bytes && memcmp(self.watched_value, value, bytes) == 0;
    self.watched = target.address;
    self.watched_bytes = bytes;
    memcpy(self.watched_value, value, bytes);
    self.repeats = same ? self.repeats + 1 : 0;
    if (!same || self.restless != 0) {
        self.restless -= self.restless != 0;
        return;
    }
    if (self.repeats >= 1 && memcmp(reinterpret_cast<const void *>(target.address), value, bytes) == 0) {
        machine_rest(machine, state::polling);
    }
}

/* -- loads and stores ------------------------------------------------------------------------------ */

static void load_parts(struct machine &machine, uint64_t address, void *value, uint32_t parts, bool acquire)
{
    uint32_t first = machine.random.below(parts);
    for (uint32_t turn = 0; turn < parts; turn++) {
        uint32_t part = (first + turn) % parts;
        if (turn != 0 && machine.random.chance(8192)) {
            machine_pause(machine);
        }
        uint32_t word = (uint32_t)memory_load(machine, *machine.current, address + 4 * part, 4, acquire);
        memcpy(static_cast<char *>(value) + 4 * part, &word, 4);
    }
}

/* Mutants that make a load's answer other than it is. */
static void spoil_load(const struct machine &machine, const struct target &target, void *value, uint32_t bytes)
{
    uint32_t words[4];
    memcpy(words, value, bytes);
    if (is(machine, MUTANT_FIRST_WORD_CHECKED) && bytes == 16 && target.inbox && words[0] != SENTINEL) {
        for (uint32_t &word : words) {
            word = word == SENTINEL ? SENTINEL - 1 : word;
        }
    }
    if (is(machine, MUTANT_DEAF_TO_ABORT) && target.known && target.offset == offsetof(struct arena_head, abort)) {
        words[0] = 0;
    }
    memcpy(value, words, bytes);
    if (is(machine, MUTANT_TICKET_IGNORED) && target.table && target.field == offsetof(struct direct_entry, ticket)) {
        memcpy(value, &machine.current->block->grid->arguments.ticket, 8);
    }
    if (bytes == 8) {
        spoil_flag(machine, target, value);
    }
}

/* False: the store is swallowed. */
static bool spoil_store(const struct machine &machine, const struct target &target, uint32_t *words, uint32_t count)
{
    if (is(machine, MUTANT_MISSING_RESET) && target.inbox && target.own && words[0] == SENTINEL) {
        return false;
    }
    for (uint32_t at = 0; is(machine, MUTANT_SENTINEL_SENT) && target.inbox && at < count; at++) {
        words[at] = words[at] == SENTINEL - 1 ? SENTINEL : words[at];
    }
    return true;
}

static void store(struct machine &machine, uint64_t address, uint64_t value, uint32_t bytes, bool add, bool release)
{
    struct thread &self = *machine.current;
    struct pending pending = {address,
                              value,
                              (uint8_t)bytes,
                              add,
                              release && !is(machine, MUTANT_MISSING_RELEASE),
                              false,
                              self.place.thread,
                              self.block->phase};
    memory_store(machine, self, pending);
}

/* Counters are of device scope: a peer that used them would see nothing it can rely on. */
static void check_counter(struct machine &machine, const struct target &target)
{
    if (target.known && !target.own) {
        machine_fail(machine, "an access of device scope to a peer's memory");
        machine_pause(machine);
    }
}

static uint64_t sum(uint64_t old, uint64_t operand)
{
    return old + operand;
}

static uint64_t claim(uint64_t old, uint64_t)
{
    return old == 0 ? 1 : old;
}

} // namespace simgpu

using namespace simgpu;

extern "C" void simulated_register(const char *name, kernel_body kernel, uint32_t bytes, uint32_t threads)
{
    named_kernels().push_back({name, kernel, {bytes, threads}});
}

extern "C" void simulated_load(const void *from, void *value, uint32_t bytes, enum simulated_order order,
                               enum simulated_scope scope)
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    check_inside(machine, from, bytes);
    struct target target = find_target(machine, from);
    if (is(machine, MUTANT_EPOCH_FROM_ENDED) && target.known && target.offset == offsetof(struct arena_head, begun)) {
        target.address += sizeof(uint64_t); /* `ended` */
    }
    bool acquire = acquires(machine, target, order);
    if (scope == SIMULATED_DEVICE) {
        check_counter(machine, target);
    }
    bool torn = bytes == 8 && is(machine, MUTANT_TORN_PAIRS) && target.inbox;
    if (bytes == 16 || torn) {
        load_parts(machine, target.address, value, bytes / 4, acquire);
    } else {
        uint64_t answer = memory_load(machine, *machine.current, target.address, bytes, acquire);
        memcpy(value, &answer, bytes);
    }
    spoil_load(machine, target, value, bytes);
    note_poll(machine, target, value, bytes);
    if (is(machine, MUTANT_EPOCH_AT_ONCE) && scope == SIMULATED_DEVICE && port_thread() == 0) {
        store(machine, target.address, EPOCH_UNITS / port_blocks(), 8, true, false);
    }
}

extern "C" void simulated_store(void *to, const void *value, uint32_t bytes, enum simulated_order order,
                                enum simulated_scope)
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    check_inside(machine, to, bytes);
    forget_polling(*machine.current);
    struct target target = find_target(machine, to);
    note_emptied(*machine.current, target);
    bool release = releases(machine, target, order);
    uint32_t words[4];
    memcpy(words, value, bytes);
    if (!spoil_store(machine, target, words, bytes / 4)) {
        return;
    }
    bool torn = bytes == 8 && is(machine, MUTANT_TORN_PAIRS) && target.inbox;
    if (bytes == 8 && !torn) {
        uint64_t whole = spoil_ballot(machine, find_flag(target), (uint64_t)words[1] << 32 | words[0]);
        store(machine, target.address, whole, 8, false, release);
        return;
    }
    for (uint32_t part = 0; part < bytes / 4; part++) {
        store(machine, target.address + 4 * part, words[part], 4, false, release);
    }
}

extern "C" bool simulated_claim(uint32_t *word)
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    forget_polling(*machine.current);
    return memory_exchange(machine, *machine.current, reinterpret_cast<uint64_t>(word), 4, claim, 0) == 0;
}

extern "C" void simulated_fence()
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    forget_polling(*machine.current);
    if (!is(machine, MUTANT_MISSING_FENCE)) {
        memory_fence(machine, *machine.current);
    }
}

extern "C" void simulated_add(uint64_t *counter, uint64_t amount)
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    forget_polling(*machine.current);
    struct target target = find_target(machine, counter);
    check_counter(machine, target);
    if (is(machine, MUTANT_EPOCH_AT_ONCE) && target.offset == offsetof(struct arena_head, ended)) {
        return;
    }
    bool by_one = is(machine, MUTANT_EPOCH_BY_ONE_BLOCK);
    if ((by_one || is(machine, MUTANT_EPOCH_WITHOUT_OTHERS)) && port_block() != 0) {
        return;
    }
    bool follows = machine.options.counters_follow_stores && !is(machine, MUTANT_WEAK_COUNTER);
    store(machine, target.address, by_one ? amount * port_blocks() : amount, 8, true, follows);
}

extern "C" uint64_t simulated_fetch_add(uint64_t *counter, uint64_t amount)
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    forget_polling(*machine.current);
    struct target target = find_target(machine, counter);
    check_counter(machine, target);
    return memory_exchange(machine, *machine.current, target.address, 8, sum, amount);
}

extern "C" bool simulated_barrier(bool value)
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    struct block &block = *machine.current->block;
    forget_polling(*machine.current);
    if (is(machine, MUTANT_MISSING_BARRIER)) {
        return value;
    }
    block.gathering = block.gathering || value;
    if (++block.arrived == block.live) {
        block_pass_barrier(machine, block);
    } else {
        machine_rest(machine, state::barrier);
    }
    return block.any;
}

extern "C" void simulated_exchange4(uint32_t value, uint32_t values[4])
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    struct thread &self = *machine.current;
    struct block &block = *self.block;
    forget_polling(self);
    self.exchanges++;
    block.exchanges = true;
    struct quartet &quartet = block.quartets[self.place.thread / 4];
    quartet.values[self.place.thread % 4] = value;
    uint32_t first = self.place.thread / 4 * 4;
    uint32_t members = self.place.threads - first < 4 ? self.place.threads - first : 4;
    if (++quartet.arrived == members) {
        quartet.arrived = 0;
        for (uint32_t at = first; at < first + members; at++) {
            memcpy(block.threads[at].exchanged, quartet.values, sizeof(quartet.values));
            if (block.threads[at].state == state::exchange) {
                machine_wake(machine, block.threads[at]);
            }
        }
    } else {
        machine_rest(machine, state::exchange);
    }
    memcpy(values, self.exchanged, sizeof(self.exchanged));
}

extern "C" uint64_t simulated_clock_ns(void)
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    if (machine.options.live) {
        return live_clock_ns(*machine.current);
    }
    return is(machine, MUTANT_DEAF_TO_TIME) ? 1 : machine.clock_ns;
}

extern "C" void simulated_wait_for_predecessor(void)
{
    struct machine &machine = *machine_here;
    if (is(machine, MUTANT_SUCCESSOR_AT_ONCE)) {
        simulated_let_successor_in();
    }
    machine_pause(machine);
    struct thread &self = *machine.current;
    const struct grid *before = self.block->grid->predecessor;
    if (!self.block->grid->programmatic || before == nullptr || is(machine, MUTANT_NO_PREDECESSOR_WAIT)) {
        return;
    }
    while (!before->completed) {
        machine_rest(machine, state::predecessor);
    }
    self.floor = self.floor > before->completed_at ? self.floor : before->completed_at;
}

extern "C" void simulated_let_successor_in(void)
{
    struct machine &machine = *machine_here;
    machine_pause(machine);
    struct block &block = *machine.current->block;
    if (!block.let_in) {
        block.let_in = true;
        block.grid->let_in++;
        stream_advance(machine, *block.grid->stream);
    }
}

extern "C" void *simulated_shared(const void *key, uint64_t bytes)
{
    struct block &block = *machine_here->current->block;
    for (const std::pair<const void *, std::unique_ptr<uint64_t[]>> &array : block.shared) {
        if (array.first == key) {
            return array.second.get();
        }
    }
    size_t words = (bytes + 31) / 16 * 2;
    uint64_t *memory = new uint64_t[words];
    memset(memory, 0xa7, words * 8);
    block.shared.emplace_back(key, std::unique_ptr<uint64_t[]>(memory));
    return memory;
}
