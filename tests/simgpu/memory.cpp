/* SPDX-License-Identifier: Apache-2.0 */
#include "simgpu/memory.h"

#include <algorithm>

#include "simgpu/machine.h"

#if defined(__SANITIZE_THREAD__)
#pragma GCC diagnostic ignored "-Wtsan" /* it does not know fences; the machine's ranks share one thread anyway */
#endif

namespace simgpu
{

#define BLOCK_PENDING_MAX 32 /* live */

/* -- views ---------------------------------------------------------------------------------------- */

static size_t view_slot(const struct view &view, const struct word *word)
{
    size_t mask = view.entries.size() - 1;
    size_t at = (reinterpret_cast<uintptr_t>(word) / sizeof(struct word) * 0x9e3779b1u) & mask;
    while (view.entries[at].word != nullptr && view.entries[at].word != word) {
        at = (at + 1) & mask;
    }
    return at;
}

uint64_t view::find(const struct word *word) const
{
    return count == 0 ? 0 : entries[view_slot(*this, word)].time; /* an empty entry's time is 0 */
}

void view::raise(const struct word *word, uint64_t time)
{
    if (count * 2 >= entries.size()) {
        std::vector<entry> old = std::move(entries);
        entries.assign(old.empty() ? 16 : old.size() * 2, entry{nullptr, 0});
        for (const entry &moved : old) {
            if (moved.word != nullptr) {
                entries[view_slot(*this, moved.word)] = moved;
            }
        }
    }
    entry &found = entries[view_slot(*this, word)];
    count += found.word == nullptr;
    found.word = word;
    found.time = std::max(found.time, time);
}

void view::join(const struct view &other)
{
    for (const entry &known : other.entries) {
        if (known.word != nullptr) {
            raise(known.word, known.time);
        }
    }
}

void view::clear()
{
    if (count != 0) {
        std::fill(entries.begin(), entries.end(), entry{nullptr, 0});
        count = 0;
    }
}

/* -- words ---------------------------------------------------------------------------------------- */

uint64_t memory_present(uint64_t address, uint32_t bytes)
{
    return bytes == 8 ? __atomic_load_n(reinterpret_cast<const uint64_t *>(address), __ATOMIC_RELAXED)
                      : __atomic_load_n(reinterpret_cast<const uint32_t *>(address), __ATOMIC_RELAXED);
}

void memory_add_region(struct machine &machine, void *base, size_t bytes, int owner, enum holds holds)
{
    struct region region = {reinterpret_cast<uint64_t>(base), bytes, owner, holds, {}};
    region.words.resize(bytes / 4);
    for (size_t at = 0; at < region.words.size(); at++) {
        region.words[at].values[0] = static_cast<const uint32_t *>(base)[at];
    }
    machine.memory.regions.push_back(std::move(region));
}

struct region *memory_region(struct memory &memory, uint64_t address)
{
    for (struct region &region : memory.regions) {
        if (address - region.base < region.bytes) {
            return &region;
        }
    }
    return nullptr;
}

static struct word *word_at(struct memory &memory, uint64_t address)
{
    struct region *region = memory_region(memory, address);
    return region == nullptr ? nullptr : &region->words[(address - region->base) / 4];
}

/* What the word held at `time`, or the oldest that is remembered. */
static uint32_t word_then(const struct word &word, uint64_t time, uint64_t *since)
{
    int at = 0;
    while (at + 1 < WORD_PAST && word.times[at] > time) {
        at++;
    }
    *since = word.times[at];
    return word.values[at];
}

static void word_change(struct word &word, uint64_t now, uint32_t value)
{
    for (int at = WORD_PAST - 1; at > 0; at--) {
        word.times[at] = word.times[at - 1];
        word.values[at] = word.values[at - 1];
    }
    word.times[0] = now;
    word.values[0] = value;
}

static uint64_t add_operand(uint64_t old, uint64_t operand)
{
    return old + operand;
}

/* -- performing ----------------------------------------------------------------------------------- */

/* The memory has changed: who polls there looks again; who stored it knows it. */
static void performed(struct machine &machine, uint64_t address, uint32_t bytes, uint64_t value, struct view *seen)
{
    struct word *word = word_at(machine.memory, address);
    machine.memory.now++;
    for (uint32_t part = 0; word != nullptr && part < bytes / 4; part++) {
        word_change(word[part], machine.memory.now, (uint32_t)(value >> (32 * part)));
        seen->raise(&word[part], machine.memory.now);
    }
    if (machine.options.observe != nullptr) {
        machine.options.observe(machine.options.observer, address);
    }
    /* Live: live_wait looks at everything that is polled, from wherever it is stored. */
    for (size_t at = machine.options.live ? 0 : machine.polling.size(); at-- > 0;) {
        struct thread *thread = machine.polling[at];
        if (address < thread->watched + thread->watched_bytes && thread->watched < address + bytes) {
            machine_wake(machine, *thread);
        }
    }
}

static uint64_t change_present(uint64_t address, uint32_t bytes, uint64_t (*change)(uint64_t, uint64_t),
                               uint64_t operand)
{
    if (bytes == 8) {
        uint64_t *at = reinterpret_cast<uint64_t *>(address);
        uint64_t old = __atomic_load_n(at, __ATOMIC_RELAXED);
        while (
            !__atomic_compare_exchange_n(at, &old, change(old, operand), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        }
        return old;
    }
    uint32_t *at = reinterpret_cast<uint32_t *>(address);
    uint32_t old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(at, &old, (uint32_t)change(old, operand), false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED)) {
    }
    return old;
}

static void buffer_changed(struct memory &memory, struct store_buffer &buffer)
{
    bool listed = buffer.position < memory.dirty.size() && memory.dirty[buffer.position] == &buffer;
    if (!buffer.entries.empty() && !listed) {
        buffer.position = memory.dirty.size();
        memory.dirty.push_back(&buffer);
    } else if (buffer.entries.empty() && listed) {
        memory.dirty[buffer.position] = memory.dirty.back();
        memory.dirty[buffer.position]->position = buffer.position;
        memory.dirty.pop_back();
    }
}

static void perform(struct machine &machine, struct store_buffer &buffer, size_t index)
{
    struct pending entry = buffer.entries[index];
    buffer.entries.erase(buffer.entries.begin() + (ptrdiff_t)index);
    buffer_changed(machine.memory, buffer);
    uint64_t value = entry.value;
    if (entry.add) {
        value += change_present(entry.address, entry.bytes, add_operand, entry.value);
    } else if (entry.bytes == 8) { /* release: for what other processes see */
        __atomic_store_n(reinterpret_cast<uint64_t *>(entry.address), value, __ATOMIC_RELEASE);
    } else {
        __atomic_store_n(reinterpret_cast<uint32_t *>(entry.address), (uint32_t)value, __ATOMIC_RELEASE);
    }
    struct block &block = *buffer.block;
    performed(machine, entry.address, entry.bytes, value,
              buffer.thread != nullptr ? &buffer.thread->seen : &block.seen);
    if (!entry.orphan) {
        block.grid->outstanding--;
        grid_check_completed(machine, *block.grid);
    }
}

static bool overlap(const struct pending &entry, uint64_t address, uint32_t bytes)
{
    return entry.address < address + bytes && address < entry.address + entry.bytes;
}

/* Rules 2 and 5: what must be performed before. */
static bool must_wait(const struct store_buffer &buffer, size_t index)
{
    const struct pending &entry = buffer.entries[index];
    for (size_t at = 0; at < buffer.entries.size(); at++) {
        const struct pending &other = buffer.entries[at];
        if (at < index && overlap(other, entry.address, entry.bytes)) {
            return true;
        }
        if (entry.release && ((at < index && other.thread == entry.thread) || other.phase < entry.phase)) {
            return true;
        }
    }
    if (buffer.thread != nullptr) {
        for (const struct pending &other : buffer.block->buffer.entries) {
            if (entry.release || overlap(other, entry.address, entry.bytes)) {
                return true;
            }
        }
    }
    return false;
}

static bool perform_some(struct machine &machine, struct store_buffer &buffer)
{
    size_t count = buffer.entries.size();
    size_t first = count == 0 ? 0 : machine.random.below(count);
    for (size_t turn = 0; turn < count; turn++) {
        size_t index = (first + turn) % count;
        if (!must_wait(buffer, index)) {
            perform(machine, buffer, index);
            return true;
        }
    }
    return false;
}

bool memory_perform_one(struct machine &machine, int except_rank)
{
    std::vector<struct store_buffer *> &dirty = machine.memory.dirty;
    size_t count = dirty.size();
    size_t first = count == 0 ? 0 : machine.random.below(count);
    for (size_t turn = 0; turn < count; turn++) {
        struct store_buffer *buffer = dirty[(first + turn) % count];
        if (buffer->block->grid->stream->rank != except_rank) {
            /* If all of a thread's stores wait for the block's, one of those can go. */
            return perform_some(machine, *buffer) || perform_some(machine, buffer->block->buffer);
        }
    }
    return false;
}

/* Performs what this thread knows to be stored at an address, in order, and all that must come before. */
static void perform_at(struct machine &machine, struct thread &thread, uint64_t address, uint32_t bytes)
{
    struct store_buffer *const buffers[2] = {&thread.block->buffer, &thread.buffer};
    for (struct store_buffer *buffer : buffers) {
        for (size_t at = 0; at < buffer->entries.size();) {
            if (!overlap(buffer->entries[at], address, bytes)) {
                at++;
                continue;
            }
            while (must_wait(*buffer, at)) { /* a release: everything before it */
                bool blocks_first = buffer == &thread.buffer && !thread.block->buffer.entries.empty();
                perform(machine, blocks_first ? thread.block->buffer : *buffer, 0);
                at -= !blocks_first;
            }
            perform(machine, *buffer, at);
        }
    }
}

/* -- accesses ------------------------------------------------------------------------------------- */

/* The newest pending store that `thread` must see; nullptr: none. */
static const struct pending *newest_own(const struct thread &thread, uint64_t address, uint32_t bytes)
{
    const struct store_buffer *const buffers[2] = {&thread.buffer, &thread.block->buffer};
    for (const struct store_buffer *buffer : buffers) {
        for (size_t at = buffer->entries.size(); at-- > 0;) {
            if (overlap(buffer->entries[at], address, bytes)) {
                return &buffer->entries[at];
            }
        }
    }
    return nullptr;
}

/* Rule 4. */
static uint64_t load_past(struct machine &machine, struct thread &thread, struct word *words, uint32_t count)
{
    uint64_t oldest = thread.floor;
    bool changed = false;
    for (uint32_t part = 0; part < count; part++) {
        oldest = std::max({oldest, thread.seen.find(&words[part]), thread.block->seen.find(&words[part])});
        changed = changed || words[part].times[0] > thread.floor;
    }
    uint64_t time = machine.memory.now;
    if (changed && oldest < time && machine.random.chance(machine.options.schedule.stale_chance)) {
        bool random = machine.random.chance(32768);
        time = random ? oldest + machine.random.next() % (time - oldest + 1) : oldest;
    }
    uint64_t value = 0;
    for (uint32_t part = 0; part < count; part++) {
        uint64_t since;
        value |= (uint64_t)word_then(words[part], time, &since) << (32 * part);
        if (since > thread.floor) {
            thread.seen.raise(&words[part], since);
        }
    }
    return value;
}

uint64_t memory_load(struct machine &machine, struct thread &thread, uint64_t address, uint32_t bytes, bool acquire)
{
    const struct pending *own = newest_own(thread, address, bytes);
    uint64_t value;
    if (own != nullptr && !own->add && own->address == address && own->bytes == bytes) {
        value = own->value;
    } else {
        if (own != nullptr) {
            perform_at(machine, thread, address, bytes);
        }
        struct word *words = word_at(machine.memory, address);
        value = words == nullptr ? memory_present(address, bytes) : load_past(machine, thread, words, bytes / 4);
    }
    if (acquire) {
        thread.floor = machine.memory.now;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    }
    return value;
}

void memory_store(struct machine &machine, struct thread &thread, const struct pending &pending)
{
    thread.buffer.entries.push_back(pending);
    thread.block->grid->outstanding++;
    buffer_changed(machine.memory, thread.buffer);
}

uint64_t memory_exchange(struct machine &machine, struct thread &thread, uint64_t address, uint32_t bytes,
                         uint64_t (*change)(uint64_t old, uint64_t operand), uint64_t operand)
{
    perform_at(machine, thread, address, bytes);
    uint64_t old = change_present(address, bytes, change, operand);
    performed(machine, address, bytes, change(old, operand), &thread.seen);
    return old;
}

void memory_fence(struct machine &machine, struct thread &thread)
{
    struct store_buffer *const buffers[2] = {&thread.block->buffer, &thread.buffer};
    for (struct store_buffer *buffer : buffers) {
        while (!buffer->entries.empty() && perform_some(machine, *buffer)) {
        }
    }
    thread.floor = machine.memory.now;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Live grids have thousands of threads: most of what they stored is performed, in any order of threads. */
static void thin_out(struct machine &machine, struct block &block)
{
    size_t count = block.threads.size();
    size_t first = machine.random.below(count);
    for (size_t turn = 0; turn < count; turn++) {
        struct store_buffer &buffer = block.threads[(first + turn) % count].buffer;
        bool keep = block.buffer.entries.size() < BLOCK_PENDING_MAX && machine.random.chance(2000);
        while (!buffer.entries.empty() && !keep && perform_some(machine, buffer)) {
        }
    }
    while (block.buffer.entries.size() > BLOCK_PENDING_MAX && perform_some(machine, block.buffer)) {
    }
}

void memory_barrier(struct machine &machine, struct block &block)
{
    if (machine.options.live) {
        thin_out(machine, block);
    }
    for (struct thread &thread : block.threads) {
        std::vector<struct pending> &entries = thread.buffer.entries;
        block.buffer.entries.insert(block.buffer.entries.end(), entries.begin(), entries.end());
        entries.clear();
        buffer_changed(machine.memory, thread.buffer);
        block.seen.join(thread.seen);
        thread.seen.clear();
    }
    buffer_changed(machine.memory, block.buffer);
}

} // namespace simgpu
