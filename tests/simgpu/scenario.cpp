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
        "one_shot", "two_shot",     "reduce_scatter", "direct", "direct_scatter", "direct_gather", "copies",  "words",
        "mixed",    "programmatic", "foreign",        "lanes",  "absent",         "late",          "aborted",
    };
    return family < FAMILY_COUNT ? names[family] : "?";
}

enum protocol { ONE_SHOT, TWO_SHOT, REDUCE_SCATTER, DIRECT, DIRECT_SCATTER, DIRECT_GATHER, COPIES, WORDS, PROTOCOLS };

bool call_is_direct(const struct call &call)
{
    return call.kernel_stem != nullptr && call.kernel_stem[6] == 'd';
}

bool call_is_ring(const struct call &call)
{
    return call_is_direct(call) && call.kind != TUTTI_ALL_GATHER;
}

uint32_t call_unit_bytes(const struct call &call)
{
    bool reduces = call.kind == TUTTI_ALL_REDUCE || call.kind == TUTTI_REDUCE_SCATTER;
    return !reduces ? 1 : call.dtype == TUTTI_F32 ? 4 : 2;
}

bool call_is_whole(const struct scenario &scenario, const struct call &call)
{
    bool whole = call.units * call_unit_bytes(call) % 16 == 0;
    for (uint32_t rank = 0; rank < scenario.world; rank++) {
        whole = whole && call.dst_shift[rank] == 0 && (call.in_place[rank] || call.src_shift[rank] == 0);
    }
    return whole;
}

bool scenario_expects_failure(const struct scenario &scenario)
{
    return scenario.family == FAMILY_ABSENT || scenario.family == FAMILY_ABORTED || scenario.family == FAMILY_LATE;
}

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

/* In rounds of whole vectors, or lines, of a vector for each rank where they are dealt to all. Mostly whole vectors at whole addresses. */
static void draw_direct(struct random &random, struct call &call, uint32_t world, bool one_round)
{
    static const enum votes drawn[] = {votes::all, votes::all, votes::none, votes::mixed};
    uint64_t align = call.kind == TUTTI_ALL_GATHER ? 240 : 16 / call_unit_bytes(call);
    call.votes = drawn[random.below(4)];
    if (random.chance(54000)) {
        uint64_t vec = 16 / call_unit_bytes(call);
        call.units = (call.units + vec - 1) / vec * vec;
        memset(call.src_shift, 0, sizeof(call.src_shift));
        memset(call.dst_shift, 0, sizeof(call.dst_shift));
    }
    uint64_t parts = (call.units + align - 1) / align;
    uint64_t wanted = one_round ? 1 : 1 + 2 * random.below(3);
    if (call_is_ring(call)) { /* any number, often a few more than segments; the last one as short as it comes */
        const uint32_t areas = RING_AREAS(world), segments = areas << random.below(2);
        wanted = random.chance(32768) ? segments + 1 + random.below(areas) : 1 + random.below(3 * areas + 1);
        wanted = one_round ? 1 : wanted;
        align *= call.kind == TUTTI_ALL_REDUCE ? world : 1;
        call.units = std::max<uint64_t>(call.units, one_round ? 0 : wanted * align * random.below(3));
        parts = (call.units + align - 1) / align;
    }
    uint64_t most = (parts + wanted - 1) / wanted;
    call.rounds = (uint32_t)((parts + most - 1) / most);
    if (call.rounds % 2 == 0 && !call_is_ring(call)) { /* too short for that */
        most = parts;
        call.rounds = 1;
    }
    call.round_units = most * align;
}

static void draw_copy(struct random &random, struct call &call, uint32_t world, bool gathers)
{
    static const uint32_t kinds[] = {TUTTI_ALL_GATHER, TUTTI_BROADCAST, TUTTI_ALL_TO_ALL, TUTTI_BARRIER};
    call.kind = gathers ? (uint32_t)TUTTI_ALL_GATHER : kinds[random.below(call.words ? 4 : 3)];
    call.root = random.below(world);
    /* Lines: up to three for each thread, or up to eleven, which it takes in several goes. */
    uint32_t unit_most = call.words ? 2 : (call.root + call.blocks + world) % 3 == 0 ? 32 : 8;
    uint32_t most = (5u * call.blocks << call.tile_shift) * unit_most;
    call.units = call.kind == TUTTI_BARRIER ? 0 : 1 + random.below(most);
    if (call.kind == TUTTI_ALL_GATHER && !gathers && random.chance(20000)) {
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
    static const char *const stems[] = {"tutti_one_shot",
                                        "tutti_two_shot",
                                        "tutti_reduce_scatter",
                                        "tutti_direct",
                                        "tutti_direct_scatter",
                                        "tutti_direct_gather",
                                        nullptr,
                                        nullptr};
    struct call call = {};
    call.kernel_stem = stems[protocol];
    call.blocks = 1u << random.below(3); /* a power of two */
    call.words = protocol == WORDS;
    call.slot = NO_SLOT;
    if (protocol == COPIES || protocol == DIRECT_GATHER) {
        call.blocks = 1u << random.below(2);
        call.tile_shift = 5 + random.chance(8192);
    } else if (protocol == DIRECT || protocol == DIRECT_SCATTER) {
        call.tile_shift = (world > 4 ? 3 : 2) + random.below(random.chance(6000) ? 4 : 2); /* a thread for each peer */
    } else {
        call.tile_shift = random.below(random.chance(6000) ? 6 : 3);
    }
    if (protocol == COPIES || protocol == WORDS || protocol == DIRECT_GATHER) {
        draw_copy(random, call, world, protocol == DIRECT_GATHER);
    } else {
        bool scatters = protocol == REDUCE_SCATTER || protocol == DIRECT_SCATTER;
        call.kind = scatters ? TUTTI_REDUCE_SCATTER : TUTTI_ALL_REDUCE;
        draw_reduction(random, call, world);
    }
    call.rounds = 1;
    if (call_is_direct(call)) {
        draw_direct(random, call, world, one_round);
    }
    call.produced = random.chance(16384);
    call.eager = random.chance(32768);
    return call;
}

/* Bytes that a half must have for a call: the protocols' files say how they cut it. */
static uint64_t half_needed(const struct call &call, uint32_t world)
{
    uint64_t units = call_is_direct(call) ? call.round_units : call.units;
    uint64_t vecs = (units * call_unit_bytes(call) + 15) / 16;
    if (call_unit_bytes(call) == 1) {
        uint64_t slot =
            call.words ? std::max<uint64_t>(1, (units + 3) / 4) * 8 : std::max<uint64_t>(1, (units + 59) / 60) * 64;
        return (slot + 63) / 64 * 64 * world;
    }
    bool dealt = call.kind == TUTTI_ALL_REDUCE && call.kernel_stem[6] != 'o';
    uint64_t areas = call_is_ring(call) ? RING_AREAS(world) : dealt ? 2 : 1;
    return (dealt ? (vecs + world - 1) / world : vecs) * 16 * areas * world;
}

/* A captured call: one of its own, or another replay of one. */
static void draw_captured(struct random &random, struct scenario &scenario, uint32_t number)
{
    struct call &call = scenario.calls[number];
    uint32_t other = number == 0 ? 0 : random.below(number);
    call.slot = (int)random.below(SLOTS);
    if (number != 0 && scenario.calls[other].slot != NO_SLOT && random.chance(45000)) {
        call = scenario.calls[other];
        call.produced = true;
    }
    bool replay = call.original != number;
    if (random.chance(replay ? 20000 : 52000)) {
        scenario.grants.push_back({number, call.original, call.slot, random.chance(32768)});
    }
}

static void draw_calls(struct random &random, struct scenario &scenario)
{
    static const uint32_t protocols[] = {ONE_SHOT,       TWO_SHOT,      REDUCE_SCATTER, DIRECT,
                                         DIRECT_SCATTER, DIRECT_GATHER, COPIES,         WORDS};
    bool captures = scenario.family >= FAMILY_DIRECT && scenario.family <= FAMILY_DIRECT_GATHER;
    bool copies = scenario.family == FAMILY_COPIES || scenario.family == FAMILY_DIRECT_GATHER;
    uint32_t count = copies ? 3 + random.below(2) : 3 + random.below(5);
    for (uint32_t number = 0; number < count * scenario.lanes; number++) {
        uint32_t protocol = scenario.family < PROTOCOLS ? protocols[scenario.family] : random.below(PROTOCOLS);
        if ((protocol == COPIES || protocol == DIRECT_GATHER) && !copies && random.chance(45000)) {
            protocol = WORDS; /* copies need many threads: fewer of them */
        }
        scenario.calls.push_back(draw_call(random, protocol, scenario.world, scenario.family >= FAMILY_ABSENT));
        scenario.calls.back().lane = number % scenario.lanes;
        scenario.calls.back().original = number;
        if (captures && random.chance(45000)) {
            draw_captured(random, scenario, number);
        }
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
    /* Five have a ring of fewer segments. */
    const bool ring = family == FAMILY_DIRECT || family == FAMILY_DIRECT_SCATTER;
    scenario.world = world != 0 ? world : 2 + random.below(ring ? 4 : 3);
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
               "%llu/%llu rounds %u of %llu votes %d slot %d original %u%s\n",
               at, stem, call.kind, call.dtype, call.op, call.root, (unsigned long long)call.units, call.blocks,
               call.tile_shift, call.lane, (unsigned long long)call.row_bytes, (unsigned long long)call.row_stride,
               call.rounds, (unsigned long long)call.round_units, static_cast<int>(call.votes), call.slot,
               call.original, call.produced ? " produced" : "");
    }
    for (const struct grant &grant : scenario.grants) {
        printf("  before call %u: slot %d to call %u%s\n", grant.before, grant.slot, grant.call,
               grant.prompt ? ", committed at once" : "");
    }
}

} // namespace simgpu
