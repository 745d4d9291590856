/* SPDX-License-Identifier: Apache-2.0 */
/* Exports, mappings, spans and the policy, on a backend that is a table: names never come back, a peer's allocation is mapped once
 * and unmapped after its last user, also by several threads at a time, and failures leave nothing. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "harness/check.h"
#include "harness/ranks.h"
#include "memory/exports.h"
#include "memory/mapping.h"
#include "memory/policy.h"
#include "memory/span.h"

#define PAGE 4096u

/* -- a backend that is a table ---------------------------------------------------------------------------------- */

static struct memory_facts table[8]; /* bytes 0: none */
static uint64_t handles[8];          /* what a hold of it holds; 0: nothing */
static _Atomic int held_count, mapped_count, refuse_imports;

static struct memory_facts *table_at(uint64_t address)
{
    for (int index = 0; index < 8; index++) {
        if (table[index].bytes != 0 && address >= table[index].start &&
            address - table[index].start < table[index].bytes) {
            return &table[index];
        }
    }
    return NULL;
}

static tutti_status look(void *where, uint64_t address, struct memory_facts *facts)
{
    const struct memory_facts *found = table_at(address);
    CHECK(where == table, "the argument arrives");
    *facts = found != NULL ? *found : (struct memory_facts){.class = MEMORY_UNKNOWN, .ordinal = -1};
    return address == 666 ? error_set(TUTTI_ERR_DRIVER, "the driver does not answer") : TUTTI_OK;
}

static tutti_status hold(struct device *device, const struct memory_facts *facts, struct memory_block *block)
{
    (void)device;
    const struct memory_facts *found = table_at(facts->start);
    if (found == NULL) {
        return error_set(TUTTI_ERR_DRIVER, "nothing is there to hold");
    }
    atomic_fetch_add(&held_count, 1);
    *block = (struct memory_block){facts->start, facts->bytes, 1, 0, (void *)(uintptr_t)handles[found - table]};
    return TUTTI_OK;
}

static bool alike(const struct memory_block *held, const struct memory_block *other)
{
    return held->address == other->address && held->object == other->object;
}

static tutti_status export_words(struct device *device, const struct memory_block *held, struct memory_export *mine)
{
    (void)device;
    memset(mine->bytes, 0, sizeof(mine->bytes));
    memcpy(mine->bytes, held, sizeof(*held));
    mine->fd = -1;
    return TUTTI_OK;
}

static tutti_status import(struct device *device, const struct memory_export *theirs, struct memory_block *block)
{
    (void)device;
    if (atomic_load(&refuse_imports) != 0) {
        return error_set(TUTTI_ERR_DRIVER, "it cannot be mapped");
    }
    atomic_fetch_add(&mapped_count, 1);
    memcpy(block, theirs->bytes, sizeof(*block));
    block->kind = 2;
    return TUTTI_OK;
}

/* Addresses without memory: a range each time, and what is mapped there. */
#define RANGES_AT ((uint64_t)1000 * PAGE)
#define RANGE_BYTES ((uint64_t)100 * PAGE)
static int ranges, placed[8];
static uint64_t reserved_bytes;

static void release(struct device *device, struct memory_block *block)
{
    (void)device;
    CHECK(block->kind == 1 || block->kind == 2, "released twice");
    atomic_fetch_sub(block->kind == 1 ? &held_count : &mapped_count, 1);
    if (block->address >= RANGES_AT) {
        placed[(block->address - RANGES_AT) / RANGE_BYTES]--;
    }
    block->kind = 0;
}

static tutti_status reserve(struct device *device, uint64_t bytes, uint64_t *address)
{
    (void)device;
    reserved_bytes += bytes;
    *address = RANGES_AT + (uint64_t)ranges++ * RANGE_BYTES;
    return TUTTI_OK;
}

static void unreserve(struct device *device, uint64_t address, uint64_t bytes)
{
    (void)device;
    CHECK(placed[(address - RANGES_AT) / RANGE_BYTES] == 0, "addresses are given back while memory is there");
    reserved_bytes -= bytes;
}

static tutti_status place(struct device *device, const struct memory_export *theirs, uint64_t address,
                          struct memory_block *block)
{
    tutti_status status = import(device, theirs, block);
    if (status == TUTTI_OK) {
        block->address = address;
        placed[(address - RANGES_AT) / RANGE_BYTES]++;
    }
    return status;
}

static const struct device_ops ops = {.memory_hold = hold,
                                      .memory_alike = alike,
                                      .memory_export = export_words,
                                      .memory_import = import,
                                      .memory_release = release,
                                      .memory_reserve = reserve,
                                      .memory_unreserve = unreserve,
                                      .memory_place = place};
static struct device *const devices[2] = {(struct device *)(uintptr_t)16, (struct device *)(uintptr_t)32};

static struct memory_facts *allocate(int index, enum memory_class class, uint64_t start, uint64_t bytes,
                                     uint64_t identity, uint64_t handle)
{
    table[index] = (struct memory_facts){.class = class,
                                         .usable = true,
                                         .threads_reach = true,
                                         .ordinal = 0,
                                         .start = start,
                                         .bytes = bytes,
                                         .identity = identity};
    handles[index] = handle;
    return &table[index];
}

static struct memory_name name_of(const struct exported *exported)
{
    struct memory_name name;
    int fd = 0;
    CHECK_OK(exports_name(exported, &name, &fd));
    CHECK(fd == -1, "%d", fd);
    return name;
}

/* -- exports --------------------------------------------------------------------------------------------------- */

/* Exports what lies at PAGE twice, with `second` there the second time. True if both have one name. */
static bool same_name(struct memory_facts first, uint64_t handle, struct memory_facts second, uint64_t second_handle)
{
    struct exported *exports[2] = {NULL, NULL};
    table[0] = first;
    handles[0] = handle;
    CHECK_OK(exports_acquire(&ops, devices[0], &table[0], &exports[0]));
    table[0] = second;
    handles[0] = second_handle;
    CHECK_OK(exports_acquire(&ops, devices[0], &table[0], &exports[1]));
    struct memory_name names[2] = {name_of(exports[0]), name_of(exports[1])};
    bool same = names[0].identity == names[1].identity;
    CHECK(same == (exports[0] == exports[1]) && names[0].identity != 0, "one export has one name");
    CHECK(memcmp(names[0].process, names[1].process, sizeof(names[0].process)) == 0, "of this process");
    CHECK(atomic_load(&held_count) == (same ? 1 : 2), "%d are held", atomic_load(&held_count));
    exports_release(exports[0]);
    exports_release(exports[1]);
    CHECK(atomic_load(&held_count) == 0 && exports_count() == 0, "something is left");
    return same;
}

static void test_exports(void)
{
    struct exported *exported = NULL;
    struct memory_facts plain = *allocate(0, MEMORY_IPC, PAGE, PAGE, 7, 0);
    struct memory_facts plain_later = plain;
    plain_later.identity = 8;
    struct memory_facts unnumbered = plain;
    unnumbered.identity = 0;
    struct memory_facts vmm = *allocate(0, MEMORY_FD, PAGE, PAGE, 0, 0);
    CHECK(same_name(plain, 0, plain, 0), "one allocation");
    CHECK(!same_name(plain, 0, plain_later, 0), "freed, and another one at the same address");
    CHECK(!same_name(unnumbered, 0, unnumbered, 0), "nobody can tell, so they are two");
    CHECK(same_name(vmm, 50, vmm, 50), "one handle");
    CHECK(!same_name(vmm, 50, vmm, 51), "other pages at the same address");
    allocate(0, MEMORY_POOL, PAGE, PAGE, 7, 0);
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, exports_acquire(&ops, devices[0], &table[0], &exported));
    table[0].bytes = 0;
    CHECK_STATUS(TUTTI_ERR_DRIVER, exports_acquire(&ops, devices[0], &plain, &exported));
    CHECK(exported == NULL && exports_count() == 0, "a failure leaves nothing");
    exports_release(NULL);
}

/* -- mappings -------------------------------------------------------------------------------------------------- */

static void test_mappings(void)
{
    struct exported *exported[2];
    struct mapping *mappings[4] = {NULL};
    allocate(0, MEMORY_IPC, PAGE, PAGE, 7, 0);
    allocate(1, MEMORY_IPC, 2 * PAGE, 3 * PAGE, 8, 0);
    CHECK_OK(exports_acquire(&ops, devices[0], &table[0], &exported[0]));
    CHECK_OK(exports_acquire(&ops, devices[0], &table[1], &exported[1]));
    struct memory_name first = name_of(exported[0]);
    struct memory_name second = name_of(exported[1]);
    CHECK_OK(mapping_acquire(&ops, devices[0], &first, -1, &mappings[0]));
    CHECK_OK(mapping_acquire(&ops, devices[0], &first, -1, &mappings[1]));
    CHECK(mappings[0] == mappings[1] && atomic_load(&mapped_count) == 1, "mapped %d times", mapped_count);
    CHECK_OK(mapping_acquire(&ops, devices[0], &second, -1, &mappings[2]));
    CHECK_OK(mapping_acquire(&ops, devices[1], &first, -1, &mappings[3]));
    CHECK(mappings[2] != mappings[0] && mappings[3] != mappings[0] && atomic_load(&mapped_count) == 3,
          "another allocation, another device");
    CHECK(mappings[2]->block.address == 2 * PAGE && mapping_count() == 3, "what is mapped");
    struct memory_name stranger = first;
    stranger.process[0] ^= 1;
    struct mapping *foreign = NULL;
    CHECK_OK(mapping_acquire(&ops, devices[0], &stranger, -1, &foreign));
    CHECK(foreign != mappings[0], "another process's allocation of the same number");
    mapping_release(foreign);
    mapping_release(mappings[0]);
    CHECK(atomic_load(&mapped_count) == 3, "the second user still has it");
    mapping_release(mappings[1]);
    CHECK(atomic_load(&mapped_count) == 2, "the last user is gone");
    mapping_release(mappings[2]);
    mapping_release(mappings[3]);
    struct memory_name liar = second;
    struct mapping *none = NULL;
    liar.bytes = PAGE;
    CHECK_STATUS(TUTTI_ERR_SYSTEM, mapping_acquire(&ops, devices[0], &liar, -1, &none));
    atomic_store(&refuse_imports, 1);
    CHECK_STATUS(TUTTI_ERR_DRIVER, mapping_acquire(&ops, devices[0], &first, -1, &none));
    atomic_store(&refuse_imports, 0);
    CHECK(none == NULL && atomic_load(&mapped_count) == 0 && mapping_count() == 0, "failures leave nothing");
    exports_release(exported[0]);
    exports_release(exported[1]);
    mapping_release(NULL);
}

/* Allocations back to back. */
static void test_runs(void)
{
    struct exported *exported[3];
    struct memory_name names[3];
    struct mapping *run = NULL;
    struct mapping *same = NULL;
    struct mapping *late = NULL;
    struct mapping *other = NULL;
    for (int index = 0; index < 3; index++) {
        allocate(index, MEMORY_FD, (uint64_t)(10 + 2 * index) * PAGE, 2 * PAGE, 0, 60 + (uint64_t)index);
        CHECK_OK(exports_acquire(&ops, devices[0], &table[index], &exported[index]));
        names[index] = name_of(exported[index]);
    }
    CHECK_OK(mapping_run_begin(&ops, devices[0], names, 3, &run));
    CHECK_OK(mapping_run_begin(&ops, devices[0], names, 3, &late));
    CHECK(run != late && mapping_count() == 0, "what is not complete is nobody else's");
    CHECK_STATUS(TUTTI_ERR_SYSTEM, mapping_run_add(run, &names[1], -1));
    for (int index = 0; index < 3; index++) {
        CHECK_OK(mapping_run_add(run, &names[index], -1));
    }
    CHECK_STATUS(TUTTI_ERR_SYSTEM, mapping_run_add(run, &names[2], -1));
    mapping_run_finish(&run);
    CHECK(run->block.address == RANGES_AT && run->block.bytes == 6 * PAGE, "address and length of all of it");
    CHECK(run->parts[2].block.address == RANGES_AT + 4 * PAGE, "back to back");
    CHECK(atomic_load(&mapped_count) == 3 && reserved_bytes == 12 * PAGE && mapping_count() == 1, "once");
    for (int index = 0; index < 3; index++) {
        CHECK_OK(mapping_run_add(late, &names[index], -1));
    }
    mapping_run_finish(&late);
    CHECK(late == run && atomic_load(&mapped_count) == 3 && reserved_bytes == 6 * PAGE,
          "who was later uses the former");
    mapping_release(late);
    CHECK_OK(mapping_run_begin(&ops, devices[0], names, 3, &same));
    CHECK_OK(mapping_run_add(same, &names[0], -1)); /* which is there */
    mapping_run_finish(&same);
    CHECK(same == run && atomic_load(&mapped_count) == 3, "it is mapped once");
    CHECK_OK(mapping_run_begin(&ops, devices[0], names, 2, &other));
    CHECK(other != run, "a shorter one is another one");
    CHECK_OK(mapping_run_add(other, &names[0], -1));
    atomic_store(&refuse_imports, 1);
    CHECK_STATUS(TUTTI_ERR_DRIVER, mapping_run_add(other, &names[1], -1));
    atomic_store(&refuse_imports, 0);
    mapping_release(run);
    CHECK(atomic_load(&mapped_count) == 4, "the second user still has it");
    CHECK(mapping_count() == 1, "what is not complete does not count");
    for (int index = 0; index < 3; index++) {
        exports_release(exported[index]);
    }
    mapping_release(same);
    mapping_release(other);
    CHECK(atomic_load(&mapped_count) == 0 && reserved_bytes == 0 && mapping_count() == 0, "something is left");
}

static struct memory_name crowd_names[4];

static void *crowd_member(void *argument)
{
    uint64_t random = *(const uint64_t *)argument;
    struct mapping *mine[4] = {NULL};
    for (int round = 0; round < 4000; round++) {
        size_t index = (size_t)(ranks_random(&random) % 4);
        if (mine[index] != NULL) {
            CHECK(mine[index]->block.kind == 2, "it was unmapped under a user");
            mapping_release(mine[index]);
            mine[index] = NULL;
        } else {
            CHECK_OK(mapping_acquire(&ops, devices[0], &crowd_names[index], -1, &mine[index]));
        }
        CHECK(atomic_load(&mapped_count) <= 4, "%d mappings of 4 allocations", atomic_load(&mapped_count));
    }
    for (int index = 0; index < 4; index++) {
        mapping_release(mine[index]);
    }
    return NULL;
}

static void test_crowd(uint64_t seed)
{
    struct exported *exported[4];
    pthread_t threads[4];
    uint64_t seeds[4];
    for (int index = 0; index < 4; index++) {
        allocate(index, MEMORY_IPC, (uint64_t)(index + 1) * PAGE, PAGE, (uint64_t)index + 1, 0);
        CHECK_OK(exports_acquire(&ops, devices[0], &table[index], &exported[index]));
        crowd_names[index] = name_of(exported[index]);
    }
    for (int index = 0; index < 4; index++) {
        seeds[index] = seed + (uint64_t)index;
        CHECK(pthread_create(&threads[index], NULL, crowd_member, &seeds[index]) == 0, "pthread_create");
    }
    for (int index = 0; index < 4; index++) {
        (void)pthread_join(threads[index], NULL);
        exports_release(exported[index]);
    }
    CHECK(atomic_load(&mapped_count) == 0 && atomic_load(&held_count) == 0, "something is left");
}

/* -- spans ------------------------------------------------------------------------------------------------------ */

struct walked {
    struct span_part parts[4];
    int count;
};

static tutti_status visit(void *user, uint64_t address, const struct span_part *part)
{
    struct walked *walked = user;
    CHECK(walked->count < 4, "too many parts");
    CHECK(part->bytes == 0 || address == part->facts.start + part->offset, "the part's address");
    walked->parts[walked->count++] = *part;
    return part->facts.class == MEMORY_POOL ? error_set(TUTTI_ERR_UNSUPPORTED, "not this one") : TUTTI_OK;
}

static struct walked walk(uint64_t address, uint64_t bytes, tutti_status expected)
{
    struct walked walked = {.count = 0};
    CHECK_STATUS(expected, span_walk(look, table, address, bytes, visit, &walked));
    return walked;
}

static void test_spans(void)
{
    memset(table, 0, sizeof(table));
    allocate(0, MEMORY_FD, 10 * PAGE, 2 * PAGE, 0, 50);
    allocate(1, MEMORY_FD, 12 * PAGE, PAGE, 0, 51);
    allocate(2, MEMORY_VMM, 13 * PAGE, 4 * PAGE, 0, 0);
    allocate(3, MEMORY_POOL, 18 * PAGE, PAGE, 0, 52);
    allocate(4, MEMORY_FD, 19 * PAGE, PAGE, 0, 53);
    struct walked walked = walk(10 * PAGE + 100, 5 * PAGE, TUTTI_OK);
    const struct span_part *parts = walked.parts;
    CHECK(walked.count == 3, "%d parts", walked.count);
    CHECK(parts[0].offset == 100 && parts[0].bytes == 2 * PAGE - 100, "first part");
    CHECK(parts[1].offset == 0 && parts[1].bytes == PAGE && parts[1].facts.start == 12 * PAGE, "second part");
    CHECK(parts[2].bytes == 2 * PAGE + 100 && parts[2].facts.class == MEMORY_VMM, "third part");
    walked = walk(12 * PAGE, PAGE, TUTTI_OK);
    CHECK(walked.count == 1 && walked.parts[0].bytes == PAGE, "exactly one allocation");
    CHECK(walk(12 * PAGE, 0, TUTTI_OK).count == 0, "nothing lies in nothing");
    walked = walk(16 * PAGE, 3 * PAGE, TUTTI_OK);
    CHECK(walked.count == 2 && walked.parts[1].bytes == 0, "the gap is the last part");
    CHECK(walk(9 * PAGE, 1, TUTTI_OK).parts[0].bytes == 0, "nothing is known there");
    CHECK(walk(18 * PAGE, 2 * PAGE, TUTTI_ERR_UNSUPPORTED).count == 1, "the visitor ends the walk");
    CHECK(walk(666, 1, TUTTI_ERR_DRIVER).count == 0, "so does the driver");
}

/* -- policy ----------------------------------------------------------------------------------------------------- */

static void expect(struct memory_facts facts, struct policy_terms terms, tutti_memory_kind kind, bool shareable,
                   const char *part)
{
    struct policy_verdict verdict;
    policy_decide(&facts, &terms, &verdict);
    CHECK(verdict.kind == kind && verdict.shareable == shareable && strstr(verdict.reason, part) != NULL,
          "class %d in %d processes of %d, flags %u: kind %d, shareable %d, \"%s\"", (int)facts.class, terms.processes,
          terms.world, terms.flags, (int)verdict.kind, verdict.shareable, verdict.reason);
}

static void test_policy(void)
{
    const struct policy_terms apart = {4, 4, 0, 0, true};
    const struct policy_terms direct = {4, 4, TUTTI_COMM_DIRECT_FD, 0, true};
    const struct policy_terms mixed = {4, 2, 0, 0, true};
    const struct policy_terms together = {4, 1, 0, 0, true};
    const struct policy_terms vendor = {4, 4, 0, 0, false};
    struct memory_facts facts = {.class = MEMORY_IPC, .usable = true, .threads_reach = true};
    expect(facts, apart, TUTTI_MEMORY_IPC, true, "IPC handle");
    expect(facts, mixed, TUTTI_MEMORY_IPC, true, "IPC handle");
    expect(facts, together, TUTTI_MEMORY_SAME_PROCESS, true, "threads of this process");
    expect(facts, vendor, TUTTI_MEMORY_IPC, false, "share no memory");
    facts.threads_reach = false;
    expect(facts, apart, TUTTI_MEMORY_IPC, true, "IPC handle");
    expect(facts, mixed, TUTTI_MEMORY_STAGED, false, "other processes only");
    expect(facts, together, TUTTI_MEMORY_STAGED, false, "VMM memory");
    facts = (struct memory_facts){.class = MEMORY_FD, .usable = true, .threads_reach = true};
    expect(facts, apart, TUTTI_MEMORY_FD, false, "TUTTI_COMM_DIRECT_FD");
    expect(facts, direct, TUTTI_MEMORY_FD, true, "TUTTI_COMM_DIRECT_FD");
    expect(facts, together, TUTTI_MEMORY_SAME_PROCESS, true, "threads of this process");
    facts.class = MEMORY_VMM;
    expect(facts, direct, TUTTI_MEMORY_STAGED, false, "without a type of handle");
    expect(facts, together, TUTTI_MEMORY_SAME_PROCESS, true, "threads of this process");
    facts = (struct memory_facts){.class = MEMORY_POOL, .usable = true};
    expect(facts, direct, TUTTI_MEMORY_STAGED, false, "pool");
    expect(facts, together, TUTTI_MEMORY_STAGED, false, "stage it");
    facts.class = MEMORY_MANAGED;
    expect(facts, direct, TUTTI_MEMORY_MANAGED, false, "managed");
    expect(facts, vendor, TUTTI_MEMORY_MANAGED, false, "share no memory");
    facts.class = MEMORY_HOST;
    expect(facts, together, TUTTI_MEMORY_HOST, false, "no other process");
    facts.class = MEMORY_UNKNOWN;
    expect(facts, apart, TUTTI_MEMORY_HOST, false, "no other process");
    facts.usable = false;
    expect(facts, apart, TUTTI_MEMORY_UNKNOWN, false, "refuse");
    facts = (struct memory_facts){.class = MEMORY_IPC, .ordinal = 3};
    expect(facts, apart, TUTTI_MEMORY_IPC, false, "lies on device 3, but the communicator's device is 0");
}

int main(void)
{
    test_exports();
    test_mappings();
    test_runs();
    test_crowd(ranks_seed());
    test_spans();
    test_policy();
    return 0;
}
