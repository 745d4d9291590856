/* SPDX-License-Identifier: Apache-2.0 */
/*
 * litmus.cpp - is the simulated memory as weak as memory.h says, and no weaker?
 *
 * Each test is a few threads on as many devices and a predicate on what they read. `weak` outcomes must be seen
 * within some seeds, `forbidden` ones never.
 */
#include <stdio.h>
#include <string.h>

extern "C" {
#include "harness/check.h"
#include "harness/effort.h"
}
#include "simgpu/machine.h"

using namespace simgpu;

/* x and y are what is raced for; r are the answers. */
struct bench {
    alignas(64) uint32_t x[4];
    alignas(64) uint32_t y[4];
    alignas(64) uint64_t pair;
    uint32_t r[8];
    uint64_t wide[2];
};

#define DEVICES_MAX 4

struct test {
    const char *name;
    uint32_t devices, threads;
    /* Thread `thread` of device `device`. */
    void (*body)(struct bench &bench, uint32_t device, uint32_t thread);
    bool (*outcome)(const struct bench &bench);
    bool weak;  /* the outcome must be seen; else it must not */
    bool twice; /* device 0 launches its grid twice, one after the other */
};

static uint32_t load(const uint32_t *from)
{
    return port_load_system(from);
}

static uint32_t load_acquire(const uint32_t *from)
{
    uint32_t value;
    simulated_load(from, &value, sizeof(value), SIMULATED_ACQUIRE, SIMULATED_SYSTEM);
    return value;
}

/* -- bodies ---------------------------------------------------------------------------------------- */

static void message(struct bench &bench, uint32_t device, bool release, bool acquire)
{
    if (device == 0) {
        port_store_system(&bench.x[0], 1);
        release ? port_store_release_system(&bench.y[0], 1) : port_store_system(&bench.y[0], 1);
    } else {
        bench.r[0] = acquire ? load_acquire(&bench.y[0]) : load(&bench.y[0]);
        bench.r[1] = load(&bench.x[0]);
    }
}

static void message_relaxed(struct bench &bench, uint32_t device, uint32_t)
{
    message(bench, device, false, false);
}

static void message_released(struct bench &bench, uint32_t device, uint32_t)
{
    message(bench, device, true, false);
}

static void message_acquired(struct bench &bench, uint32_t device, uint32_t)
{
    message(bench, device, false, true);
}

static void message_whole(struct bench &bench, uint32_t device, uint32_t)
{
    message(bench, device, true, true);
}

static bool flag_without_data(const struct bench &bench)
{
    return bench.r[0] == 1 && bench.r[1] == 0;
}

/* Each stores, then reads what the other stores. */
static void store_buffering(struct bench &bench, uint32_t device, uint32_t)
{
    port_store_system(device == 0 ? &bench.x[0] : &bench.y[0], 1);
    bench.r[device] = load(device == 0 ? &bench.y[0] : &bench.x[0]);
}

static bool both_missed(const struct bench &bench)
{
    return bench.r[0] == 0 && bench.r[1] == 0;
}

/* Four threads of one place: what two readers see of one word. */
static void one_word(struct bench &bench, uint32_t device, uint32_t)
{
    if (device < 2) {
        port_store_system(&bench.x[0], device + 1);
    } else {
        bench.r[2 * (device - 2)] = load(&bench.x[0]);
        bench.r[2 * (device - 2) + 1] = load(&bench.x[0]);
    }
}

/* The readers disagree on the order of two stores to one word, or one goes back. */
static bool incoherent(const struct bench &bench)
{
    const uint32_t *r = bench.r;
    bool back = (r[0] != 0 && r[1] == 0) || (r[2] != 0 && r[3] == 0);
    return back || (r[0] == 1 && r[1] == 2 && r[2] == 2 && r[3] == 1) ||
           (r[0] == 2 && r[1] == 1 && r[2] == 1 && r[3] == 2);
}

static void own_stores(struct bench &bench, uint32_t, uint32_t)
{
    port_store_system(&bench.x[0], 1);
    port_store_system(&bench.x[0], 2);
    bench.r[0] = load(&bench.x[0]);
    port_store_system(&bench.x[0], 3);
    bench.r[1] = load(&bench.x[0]);
}

static bool own_missed(const struct bench &bench)
{
    return bench.r[0] != 2 || bench.r[1] != 3 || bench.x[0] != 3;
}

static void vector(struct bench &bench, uint32_t device, uint32_t)
{
    if (device == 0) {
        port_store_system4(reinterpret_cast<struct vec4 *>(bench.x), {1, 1, 1, 1});
    } else {
        struct vec4 seen = port_load_system4(reinterpret_cast<const struct vec4 *>(bench.x));
        memcpy(bench.r, &seen, sizeof(seen));
    }
}

static bool vector_torn(const struct bench &bench)
{
    uint32_t sum = bench.r[0] + bench.r[1] + bench.r[2] + bench.r[3];
    return sum != 0 && sum != 4 && (bench.r[0] == 0 || bench.r[3] == 0);
}

static void pair(struct bench &bench, uint32_t device, uint32_t)
{
    if (device == 0) {
        port_store_system8(&bench.pair, 0x100000001u);
    } else {
        bench.wide[0] = port_load_system8(&bench.pair);
    }
}

static bool pair_torn(const struct bench &bench)
{
    return bench.wide[0] != 0 && bench.wide[0] != 0x100000001u;
}

/* Thread 0 stores the data, thread 1 the flag, a barrier between them. */
static void across_barrier(struct bench &bench, uint32_t device, uint32_t thread, bool release)
{
    if (device != 0) {
        bench.r[0] = thread == 0 ? load_acquire(&bench.y[0]) : bench.r[0];
        bench.r[1] = thread == 0 ? load(&bench.x[0]) : bench.r[1];
        return;
    }
    if (thread == 0) {
        port_store_system(&bench.x[0], 1);
    }
    port_sync();
    if (thread == 1) {
        release ? port_store_release_system(&bench.y[0], 1) : port_store_system(&bench.y[0], 1);
        bench.r[2] = load(&bench.x[0]);
    }
}

static void barrier_released(struct bench &bench, uint32_t device, uint32_t thread)
{
    across_barrier(bench, device, thread, true);
}

static void barrier_relaxed(struct bench &bench, uint32_t device, uint32_t thread)
{
    across_barrier(bench, device, thread, false);
}

static bool barrier_hid(const struct bench &bench)
{
    return bench.r[2] == 0;
}

/* What thread 0 saw, thread 1 must see after the barrier. */
static void seen_across_barrier(struct bench &bench, uint32_t device, uint32_t thread)
{
    if (device == 0) {
        port_store_system(&bench.x[0], 1);
        return;
    }
    if (thread == 0) {
        bench.r[0] = load(&bench.x[0]);
    }
    port_sync();
    if (thread == 1) {
        bench.r[1] = load(&bench.x[0]);
    }
}

/* Data in the first grid, the flag in the second. */
static void two_grids(struct bench &bench, uint32_t device, uint32_t)
{
    if (device == 0) {
        bool second = load(&bench.x[1]) == 1;
        port_store_system(second ? &bench.y[0] : &bench.x[0], 1);
        port_store_system(&bench.x[1], 1);
    } else {
        bench.r[0] = load_acquire(&bench.y[0]);
        bench.r[1] = load(&bench.x[0]);
    }
}

static void counters(struct bench &bench, uint32_t device, uint32_t thread)
{
    if (device == 0) {
        port_add_counter(&bench.pair, 1);
        uint64_t old = port_fetch_add_counter(&bench.pair, 1);
        bench.r[thread] = (uint32_t)old;
    }
}

static bool counted_wrong(const struct bench &bench)
{
    return bench.pair != 4 || bench.r[0] == bench.r[1] || bench.r[0] == 0 || bench.r[1] == 0;
}

static const struct test tests[] = {
    {"message, relaxed", 2, 1, message_relaxed, flag_without_data, true, false},
    {"message, released only", 2, 1, message_released, flag_without_data, true, false},
    {"message, acquired only", 2, 1, message_acquired, flag_without_data, true, false},
    {"message, released and acquired", 2, 1, message_whole, flag_without_data, false, false},
    {"store buffering", 2, 1, store_buffering, both_missed, true, false},
    {"one word, many readers", 4, 1, one_word, incoherent, false, false},
    {"own stores", 1, 1, own_stores, own_missed, false, false},
    {"16 bytes", 2, 1, vector, vector_torn, true, false},
    {"8 bytes", 2, 1, pair, pair_torn, false, false},
    {"barrier, then release", 2, 2, barrier_released, flag_without_data, false, false},
    {"barrier, then relaxed", 2, 2, barrier_relaxed, flag_without_data, true, false},
    {"barrier, within the block", 2, 2, barrier_relaxed, barrier_hid, false, false},
    {"barrier, what was seen", 2, 2, seen_across_barrier, flag_without_data, false, false},
    {"two grids", 2, 1, two_grids, flag_without_data, false, true},
    {"counters", 1, 2, counters, counted_wrong, false, false},
};

/* -- running --------------------------------------------------------------------------------------- */

static const struct test *running;
static struct bench bench;

static void kernel(const struct kernel_arguments &arguments)
{
    running->body(bench, arguments.rank, port_thread());
}

static bool run_once(struct machine &machine, const struct test &test, uint64_t seed)
{
    struct random random = {seed};
    struct machine_options options = {};
    options.seed = random.next();
    options.warp = 32;
    options.capacity = 8;
    options.steps_max = 100000;
    options.schedule = schedule_draw(random);
    machine_reset(machine, options);
    memset(&bench, 0, sizeof(bench));
    running = &test;
    /* Counters belong to one device. */
    memory_add_region(machine, &bench, offsetof(struct bench, r), 0);
    for (uint32_t device = 0; device < test.devices; device++) {
        struct stream *stream = machine_stream(machine, (int)device);
        struct kernel_arguments arguments = {};
        arguments.rank = device;
        for (int turn = 0; turn < (test.twice && device == 0 ? 2 : 1); turn++) {
            stream_launch(machine, *stream, kernel, arguments, 1, test.threads, false);
        }
    }
    CHECK(machine_run(machine), "%s, seed %llu: %s", test.name, (unsigned long long)seed, machine.failure.c_str());
    return test.outcome(bench);
}

int main()
{
    struct machine *machine = machine_create();
    uint64_t seeds = effort() == EFFORT_QUICK ? 1500 : effort() == EFFORT_LONG ? 1000000 : 20000;
    for (const struct test &test : tests) {
        uint64_t seen = 0;
        for (uint64_t seed = 1; seed <= seeds; seed++) {
            bool outcome = run_once(*machine, test, seed);
            CHECK(!outcome || test.weak, "%s: must not happen, seed %llu", test.name, (unsigned long long)seed);
            seen += outcome;
        }
        CHECK(!test.weak || seen != 0, "%s: never seen in %llu seeds", test.name, (unsigned long long)seeds);
        printf("%s: %s %llu of %llu times\n", test.name, test.weak ? "weak outcome" : "forbidden outcome",
               (unsigned long long)seen, (unsigned long long)seeds);
    }
    machine_destroy(machine);
    return 0;
}
