/* SPDX-License-Identifier: Apache-2.0 */
/* scenario.cpp - drawing scenarios from seeds. */
#include "simgpu/scenario.h"

#include <algorithm>
#include <stdio.h>
#include <string.h>

#include "tutti/tutti.h"

namespace simgpu
{

const char *family_name(uint32_t family)
{
    static const char *const names[FAMILY_COUNT] = {
        "one_shot",     "two_shot", "reduce_scatter", "direct", "copies", "words",   "mixed",
        "programmatic", "foreign",  "lanes",          "absent", "late",   "aborted",
    };
    return family < FAMILY_COUNT ? names[family] : "?";
}

enum protocol { ONE_SHOT, TWO_SHOT, REDUCE_SCATTER, DIRECT, COPIES, WORDS, PROTOCOLS };

static void draw_reduction(struct random &random, struct call &call, uint32_t world)
{
    call.dtype = random.below(3);
    call.op = random.chance(40000) ? (uint32_t)TUTTI_SUM : random.below(3);
    uint32_t elements = call.dtype == TUTTI_F32 ? 4 : 8; /* of 16 bytes */
    uint32_t tiles = call.kind == TUTTI_ALL_REDUCE && call.kernel_stem[6] != 'o' ? world : 1;
    uint64_t vecs = 1 + random.below((5u * call.blocks << call.tile_shift) / 2 * tiles + 1);
    call.units = vecs * elements;
    if (random.chance(32768)) {
        call.units -= random.below(elements);
    }
    for (uint32_t rank = 0; rank < world; rank++) {
        uint32_t width = 16 / elements;
        bool aligned = random.chance(40000);
        call.src_shift[rank] = aligned ? 0 : random.below(elements) * width;
        call.dst_shift[rank] = aligned ? 0 : random.below(elements) * width;
        call.in_place[rank] = random.chance(16384);
    }
}

/* In rounds of whole vectors. Only whole vectors at whole addresses are ever committed. */
static void draw_direct(struct random &random, struct call &call, bool one_round)
{
    static const enum votes drawn[] = {votes::all, votes::all, votes::none, votes::mixed};
    uint32_t elements = call.dtype == TUTTI_F32 ? 4 : 8;
    call.votes = drawn[random.below(4)];
    if (call.votes != votes::none) {
        call.units = (call.units + elements - 1) / elements * elements;
        memset(call.src_shift, 0, sizeof(call.src_shift));
        memset(call.dst_shift, 0, sizeof(call.dst_shift));
    }
    uint64_t vecs = (call.units + elements - 1) / elements;
    uint64_t wanted = one_round ? 1 : 1 + 2 * random.below(3);
    uint64_t most = (vecs + wanted - 1) / wanted;
    call.rounds = (uint32_t)((vecs + most - 1) / most);
    if (call.rounds % 2 == 0) { /* too few vectors for that */
        most = vecs;
        call.rounds = 1;
    }
    call.round_units = most * elements;
}

static void draw_copy(struct random &random, struct call &call, uint32_t world)
{
    static const uint32_t kinds[] = {TUTTI_ALL_GATHER, TUTTI_BROADCAST, TUTTI_ALL_TO_ALL, TUTTI_BARRIER};
    call.kind = kinds[random.below(call.words ? 4 : 3)];
    call.root = random.below(world);
    uint32_t most = call.words ? (5u * call.blocks << call.tile_shift) * 2 : (5u * call.blocks << call.tile_shift) * 8;
    call.units = call.kind == TUTTI_BARRIER ? 0 : 1 + random.below(most);
    if (call.kind == TUTTI_ALL_GATHER && random.chance(20000)) {
        call.row_bytes = 1 + random.below(24);
        call.row_stride = call.row_bytes * world + random.below(9);
        call.units = std::max<uint64_t>(1, call.units / call.row_bytes) * call.row_bytes;
    }
    for (uint32_t rank = 0; rank < world; rank++) {
        bool aligned = random.chance(32768);
        call.src_shift[rank] = aligned ? 0 : random.below(16);
        call.dst_shift[rank] = aligned ? 0 : random.below(16);
        call.in_place[rank] = call.kind == TUTTI_BROADCAST || (call.row_bytes == 0 && random.chance(16384));
    }
}

static struct call draw_call(struct random &random, uint32_t protocol, uint32_t world, bool one_round)
{
    static const char *const stems[] = {"tutti_one_shot", "tutti_two_shot", "tutti_reduce_scatter",
                                        "tutti_direct",   nullptr,          nullptr};
    struct call call = {};
    call.kernel_stem = stems[protocol];
    call.blocks = 1u << random.below(3); /* a power of two */
    call.words = protocol == WORDS;
    if (protocol == COPIES) {
        call.blocks = 1u << random.below(2);
        call.tile_shift = 5 + random.chance(8192);
    } else {
        call.tile_shift = random.below(random.chance(6000) ? 6 : 3);
    }
    if (protocol == COPIES || protocol == WORDS) {
        draw_copy(random, call, world);
    } else {
        call.kind = protocol == REDUCE_SCATTER ? TUTTI_REDUCE_SCATTER : TUTTI_ALL_REDUCE;
        draw_reduction(random, call, world);
    }
    call.rounds = 1;
    if (protocol == DIRECT) {
        draw_direct(random, call, one_round);
    }
    call.produced = random.chance(16384);
    call.eager = random.chance(32768);
    return call;
}

/* Bytes that a half must have for a call: the protocols' files say how they cut it. */
static uint64_t half_needed(const struct call &call, uint32_t world)
{
    uint64_t bytes = call.units * (call.dtype == TUTTI_F32 ? 4 : 2);
    uint64_t vecs = (bytes + 15) / 16;
    if (call.kernel_stem == nullptr) {
        uint64_t slot = call.words ? std::max<uint64_t>(1, (call.units + 3) / 4) * 8
                                   : std::max<uint64_t>(1, (call.units + 59) / 60) * 64;
        return (slot + 63) / 64 * 64 * world;
    }
    if (call.kernel_stem[6] == 'd') {
        vecs = call.round_units * (call.dtype == TUTTI_F32 ? 4 : 2) / 16;
    }
    if (call.kernel_stem[6] == 't' || call.kernel_stem[6] == 'd') {
        return (vecs + world - 1) / world * 16 * 2 * world;
    }
    return vecs * 16 * world;
}

static void draw_calls(struct random &random, struct scenario &scenario)
{
    static const uint32_t protocols[] = {ONE_SHOT, TWO_SHOT, REDUCE_SCATTER, DIRECT, COPIES, WORDS};
    bool copies = scenario.family == FAMILY_COPIES;
    uint32_t count = copies ? 3 + random.below(2) : 3 + random.below(5);
    for (uint32_t number = 0; number < count * scenario.lanes; number++) {
        uint32_t protocol = scenario.family < PROTOCOLS ? protocols[scenario.family] : random.below(PROTOCOLS);
        if (protocol == COPIES && !copies && random.chance(45000)) {
            protocol = WORDS; /* copies need many threads: fewer of them */
        }
        scenario.calls.push_back(draw_call(random, protocol, scenario.world, scenario.family >= FAMILY_ABSENT));
        scenario.calls.back().lane = number % scenario.lanes;
    }
    for (const struct call &call : scenario.calls) {
        scenario.half_bytes = std::max(scenario.half_bytes, half_needed(call, scenario.world));
    }
    scenario.half_bytes = (scenario.half_bytes + 63) / 64 * 64 + 64 * random.below(3);
}

static void draw_machine(struct random &random, struct scenario &scenario, uint32_t warp, uint32_t mutant)
{
    struct machine_options &machine = scenario.machine;
    machine.seed = random.next();
    machine.warp = warp;
    machine.mutant = mutant;
    machine.half_bytes = scenario.half_bytes;
    machine.steps_max = 4000000;
    machine.counters_follow_stores = scenario.foreign;
    uint32_t most = 0;
    for (const struct call &call : scenario.calls) {
        most = std::max(most, call.blocks);
    }
    machine.capacity = scenario.lanes * most + (scenario.lanes == 1 ? random.below(4) : 0);
    machine.schedule = schedule_draw(random);
    if (random.chance(24000)) {
        machine.schedule.stalled = (int)random.below(scenario.world);
        machine.schedule.stall_at = random.below(random.chance(32768) ? 200 : 3000);
    }
}

struct scenario scenario_draw(uint64_t seed, uint32_t family, uint32_t world, uint32_t warp, uint32_t mutant)
{
    struct random random = {seed * 0x2545f4914f6cdd1du + family};
    struct scenario scenario = {};
    scenario.seed = seed;
    scenario.family = family;
    scenario.world = world != 0 ? world : 2 + random.below(3);
    scenario.lanes = family == FAMILY_LANES || (family >= FAMILY_ABSENT && random.chance(16384)) ? 2 : 1;
    scenario.programmatic = family == FAMILY_PROGRAMMATIC || family == FAMILY_FOREIGN || family == FAMILY_LANES;
    scenario.foreign = family == FAMILY_FOREIGN;
    if (family >= FAMILY_ABSENT) {
        scenario.programmatic = random.chance(20000);
    }
    /* With two lanes the promise behind it would be broken, and they could block each other: MUTANT_SUCCESSOR_AT_ONCE. */
    scenario.early = scenario.programmatic && scenario.lanes == 1 && random.chance(32768);
    scenario.timeout_ns = 60000000;
    scenario.absent = -1;
    draw_calls(random, scenario);
    draw_machine(random, scenario, warp, mutant);
    if (family == FAMILY_ABSENT || family == FAMILY_ABORTED) {
        scenario.absent = (int)random.below(scenario.world);
        scenario.absent_from = random.below(scenario.calls.size());
    }
    if (family == FAMILY_ABORTED) {
        scenario.ending = static_cast<enum ending>(1 + random.below(3));
        scenario.timeout_ns = (uint64_t)3600 * 1000000000;
    }
    if (family == FAMILY_LATE) {
        scenario.machine.schedule.stalled = (int)random.below(scenario.world);
        scenario.machine.schedule.stall_at = random.below(600);
        scenario.machine.schedule.stall_rounds = 1 + random.below(60);
        scenario.timeout_ns = random.chance(16384) ? 1000 : scenario.timeout_ns;
    }
    return scenario;
}

void scenario_print(const struct scenario &scenario)
{
    const struct schedule &schedule = scenario.machine.schedule;
    printf(
        "  world %u, lanes %u, half %llu bytes, capacity %u, strategy %d, perform %u, stale %u, start %u, lockstep %d, "
        "stalled %d at %llu, absent %d from call %u%s%s%s\n",
        scenario.world, scenario.lanes, (unsigned long long)scenario.half_bytes, scenario.machine.capacity,
        static_cast<int>(schedule.strategy), schedule.perform_chance, schedule.stale_chance, schedule.start_chance,
        schedule.lockstep, schedule.stalled, (unsigned long long)schedule.stall_at, scenario.absent,
        scenario.absent_from, scenario.programmatic ? ", programmatic" : "", scenario.early ? ", early" : "",
        scenario.foreign ? ", foreign" : "");
    for (size_t at = 0; at < scenario.calls.size(); at++) {
        const struct call &call = scenario.calls[at];
        const char *stem = call.kernel_stem != nullptr ? call.kernel_stem : call.words ? "tutti_words" : "tutti_copies";
        printf("  call %zu: %s kind %u dtype %u op %u root %u units %llu blocks %u tile_shift %u lane %u rows "
               "%llu/%llu%s\n",
               at, stem, call.kind, call.dtype, call.op, call.root, (unsigned long long)call.units, call.blocks,
               call.tile_shift, call.lane, (unsigned long long)call.row_bytes, (unsigned long long)call.row_stride,
               call.produced ? " produced" : "");
    }
}

} // namespace simgpu
