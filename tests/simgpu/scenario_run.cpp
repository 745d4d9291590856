/* SPDX-License-Identifier: Apache-2.0 */
/* scenario_run.cpp - memory, launches and judgement of one run. */
#include <algorithm>
#include <string.h>

#include "simgpu/scenario.h"
#include "tutti/tutti.h"

namespace simgpu
{

#define UNTOUCHED 0xa5
#define LEAN_WORLD 3 /* one_shot up to here has a thread a vector */

struct fill_order {
    const struct scenario *scenario;
    uint32_t call;
    int rank;
    struct buffers buffers;
    bool waits;
    bool again; /* the buffers hold what another call left */
};

struct run {
    const struct scenario &scenario;
    struct machine &machine;
    std::vector<unsigned char> memory; /* arenas, notes, buffers */
    std::vector<uint64_t> arenas;      /* [lane * world + rank] */
    std::vector<struct failure_note *> notes;
    std::vector<struct buffers> buffers;  /* [call * world + rank] */
    std::vector<struct fill_order> fills; /* likewise */
    std::vector<struct grid *> grids;     /* likewise; nullptr where a rank stays away */
    struct desks desks;
    std::vector<struct host> hosts;                    /* [rank] */
    std::vector<std::vector<unsigned char>> snapshots; /* likewise: dst as the call left it */
    std::string trouble;                               /* seen on the way */
};

/* -- memory ---------------------------------------------------------------------------------------- */

static uint64_t arena_bytes(const struct scenario &scenario)
{
    return ARENA_HEAD_BYTES + 2 * scenario.half_bytes;
}

/* Hands out `bytes`, `shift` off a 16-byte boundary, with room on both sides. */
static uint64_t take(uint64_t &at, uint64_t bytes, uint32_t shift)
{
    uint64_t begin = (at + 32 + 63) / 64 * 64 + shift;
    at = begin + bytes + 32;
    return begin;
}

static void place_buffers(struct run &run, uint64_t &at)
{
    const struct scenario &scenario = run.scenario;
    for (uint32_t number = 0; number < scenario.calls.size(); number++) {
        const struct call &call = scenario.calls[number];
        for (uint32_t rank = 0; rank < scenario.world; rank++) {
            if (call.original != number) {
                run.buffers.push_back(run.buffers[call.original * scenario.world + rank]);
                continue;
            }
            uint64_t src_bytes = call_src_bytes(scenario, call);
            uint64_t dst_bytes = call_dst_bytes(scenario, call);
            uint64_t room = std::max(dst_bytes, call.in_place[rank] ? src_bytes : 0);
            uint64_t first = take(at, room, call.dst_shift[rank]);
            uint64_t dst = first, src = first;
            if (!call.in_place[rank]) {
                src = take(at, src_bytes, call.src_shift[rank]);
            } else if (call.kind == TUTTI_ALL_GATHER) {
                src = dst + rank * call.units;
            } else if (call.kind == TUTTI_REDUCE_SCATTER) {
                dst = src + rank * dst_bytes;
            }
            run.buffers.push_back({reinterpret_cast<unsigned char *>(src), reinterpret_cast<unsigned char *>(dst),
                                   src_bytes, dst_bytes, reinterpret_cast<unsigned char *>(first),
                                   reinterpret_cast<unsigned char *>(first + room)});
        }
    }
}

/* What the hosts write, and the memory that their ranks' kernels write for them. `real`: not only counted. */
static void place_desks(struct run &run, uint64_t &at, bool real)
{
    const struct scenario &scenario = run.scenario;
    run.desks = {};
    for (uint32_t rank = 0; rank < scenario.world; rank++) {
        uint64_t bytes = SLOTS * sizeof(struct direct_entry);
        run.desks.tables.push_back(reinterpret_cast<struct direct_entry *>(take(at, bytes, 0)));
        run.desks.arrived.push_back(reinterpret_cast<uint64_t *>(take(at, 8, 0)));
        run.desks.granted.push_back(reinterpret_cast<uint64_t *>(take(at, 8, 0)));
        if (real) {
            memset(run.desks.tables[rank], 0, bytes);
            memory_add_region(run.machine, run.desks.tables[rank], bytes, (int)rank, holds::table);
            *run.desks.arrived[rank] = *run.desks.granted[rank] = 0;
        }
    }
    for (uint32_t arena = 0; arena < scenario.lanes * scenario.world; arena++) {
        run.desks.tallies.push_back(reinterpret_cast<struct direct_tally *>(take(at, sizeof(struct direct_tally), 0)));
        if (real) {
            memset(run.desks.tallies[arena], 0, sizeof(struct direct_tally));
        }
    }
}

/* Twice: to learn how much there is, then to place it. Offsets become addresses. */
static void place(struct run &run)
{
    const struct scenario &scenario = run.scenario;
    uint64_t base = 0;
    for (int turn = 0; turn < 2; turn++) {
        uint64_t at = base;
        run.arenas.clear();
        run.buffers.clear();
        run.notes.clear();
        for (uint32_t arena = 0; arena < scenario.lanes * scenario.world; arena++) {
            run.arenas.push_back(take(at, arena_bytes(scenario), 0));
        }
        for (uint32_t rank = 0; rank < scenario.world; rank++) {
            run.notes.push_back(reinterpret_cast<struct failure_note *>(take(at, sizeof(struct failure_note), 0)));
        }
        place_buffers(run, at);
        place_desks(run, at, turn == 1);
        if (turn == 0) {
            run.memory.assign(at + 64, UNTOUCHED);
            base = reinterpret_cast<uint64_t>(run.memory.data());
        }
    }
    for (size_t arena = 0; arena < run.arenas.size(); arena++) {
        void *memory = reinterpret_cast<void *>(run.arenas[arena]);
        memset(memory, 0, ARENA_HEAD_BYTES);
        memset(static_cast<char *>(memory) + ARENA_HEAD_BYTES, 0xff, 2 * scenario.half_bytes);
        memory_add_region(run.machine, memory, arena_bytes(scenario), (int)(arena % scenario.world));
    }
    for (uint32_t rank = 0; rank < scenario.world; rank++) {
        memset(run.notes[rank], 0, sizeof(struct failure_note));
    }
    run.machine.options.memory_begin = base;
    run.machine.options.memory_end = base + run.memory.size();
}

/* -- launches -------------------------------------------------------------------------------------- */

/* A user's kernel that makes the input of a call. */
static void fill_kernel(const struct kernel_arguments &arguments)
{
    const struct fill_order &order = *reinterpret_cast<const struct fill_order *>(arguments.src);
    if (order.waits) {
        port_wait_for_predecessor();
    }
    if (arguments.rank % 2 == 0) {
        port_let_successor_in();
    }
    port_clock_ns(); /* a point at which others may run */
    if (order.again) {
        memset(order.buffers.first, UNTOUCHED, (size_t)(order.buffers.end - order.buffers.first));
    }
    call_fill(*order.scenario, order.call, order.rank, order.buffers);
    port_clock_ns();
}

/* All bits of the input; twice is as if nothing had been. */
static void turn_over(const struct buffers &buffers)
{
    for (uint64_t at = 0; buffers.src != buffers.dst && at < buffers.src_bytes; at++) {
        buffers.src[at] = (unsigned char)~buffers.src[at];
    }
}

/* A user's kernel behind a direct call: what the call left is complete, and what went into it is nobody's any more. */
static void keep_kernel(const struct kernel_arguments &arguments)
{
    struct run &run = *reinterpret_cast<struct run *>(arguments.src);
    size_t at = arguments.units * run.scenario.world + arguments.rank;
    const struct buffers &buffers = run.buffers[at];
    std::string trouble = call_check(run.scenario, (uint32_t)arguments.units, (int)arguments.rank, buffers, false);
    run.trouble = run.trouble.empty() ? trouble : run.trouble;
    run.snapshots[at].assign(buffers.dst, buffers.dst + buffers.dst_bytes);
    turn_over(buffers);
}

/* The host, which ends the waiting: of each rank at another time. */
static void host_kernel(const struct kernel_arguments &arguments)
{
    const struct run &run = *reinterpret_cast<const struct run *>(arguments.src);
    const struct scenario &scenario = run.scenario;
    for (uint32_t turn = 0; turn < scenario.world; turn++) {
        uint32_t rank = (turn + arguments.root) % scenario.world;
        for (uint64_t pause = 0; pause < arguments.units; pause++) {
            port_clock_ns();
        }
        for (uint32_t lane = 0; lane < scenario.lanes && scenario.ending == ending::abort_words; lane++) {
            uint64_t arena = run.arenas[lane * scenario.world + rank];
            port_store_system(&reinterpret_cast<struct arena_head *>(arena)->abort, 1);
        }
        if (scenario.ending != ending::abort_words) {
            uint64_t given_up = scenario.ending == ending::note_all ? UINT64_MAX : (uint64_t)1 << scenario.absent;
            port_store_system8(&run.notes[rank]->given_up, given_up);
        }
    }
}

static kernel_body find_kernel(const struct call &call, uint32_t world)
{
    static const char *const types[] = {"f32", "f16", "bf16"};
    if (call.kernel_stem == nullptr) {
        return kernel_find(call.words ? "tutti_words" : "tutti_copies");
    }
    std::string type = call.kind == TUTTI_ALL_GATHER ? "" : std::string("_") + types[call.dtype];
    std::string name = std::string(call.kernel_stem) + type + "_" + std::to_string(world);
    return kernel_find(name.c_str());
}

/* What a rank knows of the ranks' buffers: all there is, nothing, or of another part of the memory than its peers. */
static void draw_route(struct run &run, uint32_t number, int rank, struct direct_route *route)
{
    const struct scenario &scenario = run.scenario;
    const enum votes votes = scenario.calls[number].votes;
    uint32_t draw = votes == votes::mixed ? run.machine.random.below(4) : 0;
    if (votes == votes::none || draw == 1) {
        return;
    }
    for (uint32_t peer = 0; peer < scenario.world; peer++) {
        const struct buffers &buffers = run.buffers[number * scenario.world + peer];
        route->src[peer] = reinterpret_cast<uint64_t>(buffers.src);
        route->dst[peer] = reinterpret_cast<uint64_t>(buffers.dst);
    }
    const uint64_t place = (uint64_t)(number + 1) << 40;
    route->ballot[0] = place + (draw == 2 ? (uint64_t)rank + 1 : 0);
    route->ballot[1] = place + 77 + (draw == 3 ? (uint64_t)rank + 1 : 0);
}

static struct kernel_arguments make_arguments(struct run &run, uint32_t number, int rank)
{
    const struct scenario &scenario = run.scenario;
    const struct call &call = scenario.calls[number];
    const struct buffers &buffers = run.buffers[number * scenario.world + (uint32_t)rank];
    struct kernel_arguments arguments = {};
    for (uint32_t peer = 0; peer < scenario.world; peer++) {
        arguments.lanes[peer] = run.arenas[call.lane * scenario.world + peer];
    }
    arguments.own = arguments.lanes[rank];
    arguments.share = EPOCH_UNITS / call.blocks;
    arguments.rounds = call.rounds;
    arguments.round_units = call.round_units;
    if (call_is_direct(call)) {
        draw_route(run, number, rank, &arguments.route);
        arguments.tally = reinterpret_cast<uint64_t>(run.desks.tallies[call.lane * scenario.world + (uint32_t)rank]);
    }
    if (call.slot != NO_SLOT) {
        arguments.entry = reinterpret_cast<uint64_t>(&run.desks.tables[(uint32_t)rank][call.slot]);
        arguments.ticket = 1000 + call.original;
    }
    arguments.src = reinterpret_cast<uint64_t>(buffers.src);
    arguments.dst = reinterpret_cast<uint64_t>(buffers.dst);
    arguments.units = call.units;
    arguments.half_bytes = scenario.half_bytes;
    arguments.rank = (uint32_t)rank;
    arguments.world = scenario.world;
    arguments.tile_shift = call.tile_shift;
    arguments.op = call.op;
    arguments.kind = call.kind;
    arguments.flags = scenario.programmatic * (uint32_t)KERNEL_PROGRAMMATIC | scenario.early * (uint32_t)KERNEL_EARLY |
                      call.eager * (uint32_t)KERNEL_EAGER;
    arguments.root = call.root;
    arguments.lane = call.lane;
    arguments.signature = 0x51600000u + number;
    arguments.timeout_ns = scenario.timeout_ns;
    arguments.note = reinterpret_cast<uint64_t>(run.notes[(uint32_t)rank]);
    arguments.src_stride = call.units * call_unit_bytes(call);
    arguments.dst_stride = call.units;
    arguments.row_bytes = call.row_bytes;
    arguments.row_stride = call.row_stride;
    return arguments;
}

/* The user's kernel, then ours. */
static void launch_call(struct run &run, struct stream &stream, uint32_t number)
{
    const struct scenario &scenario = run.scenario;
    const struct call &call = scenario.calls[number];
    struct fill_order &order = run.fills[number * scenario.world + (uint32_t)stream.rank];
    if (call.produced || scenario.foreign) {
        struct kernel_arguments arguments = {};
        arguments.src = reinterpret_cast<uint64_t>(&order);
        arguments.rank = (uint32_t)scenario.seed + number;
        stream_launch(run.machine, stream, fill_kernel, arguments, 1, 1, scenario.programmatic);
    } else {
        call_fill(scenario, number, stream.rank, order.buffers);
    }
    struct kernel_arguments arguments = make_arguments(run, number, stream.rank);
    bool lean = call_is_ring(call) ||
                (call.kernel_stem != nullptr && call.kernel_stem[6] == 'o' && scenario.world <= LEAN_WORLD);
    uint32_t threads = (lean ? 1 : scenario.world) << call.tile_shift;
    run.grids[number * scenario.world + (uint32_t)stream.rank] = stream_launch(
        run.machine, stream, find_kernel(call, scenario.world), arguments, call.blocks, threads, scenario.programmatic);
}

static void launch_keeper(struct run &run, struct stream &stream, uint32_t number)
{
    struct kernel_arguments arguments = {};
    arguments.src = reinterpret_cast<uint64_t>(&run);
    arguments.units = number;
    arguments.rank = (uint32_t)stream.rank;
    stream_launch(run.machine, stream, keep_kernel, arguments, 1, 1, false);
}

/* All that a rank does on a lane, in this order. */
static void launch_lane(struct run &run, uint32_t lane, int rank)
{
    const struct scenario &scenario = run.scenario;
    struct stream *stream = machine_stream(run.machine, rank);
    uint32_t grant = 0;
    for (uint32_t number = lane; number < scenario.calls.size(); number += scenario.lanes) {
        if (rank == scenario.absent && number >= scenario.absent_from) {
            continue;
        }
        while (grant < scenario.grants.size() && scenario.grants[grant].before == number) {
            grants_launch_gate(run.machine, *stream, run.desks, grant++);
        }
        launch_call(run, *stream, number);
        if (call_is_direct(scenario.calls[number]) && !scenario_expects_failure(scenario)) {
            launch_keeper(run, *stream, number);
        }
    }
}

static void launch_all(struct run &run)
{
    run.snapshots.assign(run.buffers.size(), {});
    const struct scenario &scenario = run.scenario;
    run.grids.assign(run.buffers.size(), nullptr);
    for (uint32_t number = 0; number < scenario.calls.size(); number++) {
        for (int rank = 0; rank < (int)scenario.world; rank++) {
            run.fills.push_back({&scenario, number, rank, run.buffers[number * scenario.world + (uint32_t)rank],
                                 !scenario.foreign, scenario.calls[number].original != number});
        }
    }
    for (uint32_t lane = 0; lane < scenario.lanes; lane++) {
        for (int rank = 0; rank < (int)scenario.world; rank++) {
            launch_lane(run, lane, rank);
        }
    }
    for (int rank = 0; rank < (int)scenario.world; rank++) {
        run.hosts.push_back({&run.machine, &scenario, &run.desks, &run.buffers, rank});
    }
    for (int rank = 0; rank < (int)scenario.world && !scenario.grants.empty(); rank++) {
        grants_launch_host(run.machine, run.hosts[(size_t)rank]);
    }
    if (scenario.ending != ending::timeout) {
        struct kernel_arguments arguments = {};
        arguments.src = reinterpret_cast<uint64_t>(&run);
        arguments.units = run.machine.random.below(100);
        arguments.root = run.machine.random.below(scenario.world);
        struct stream *host = machine_stream(run.machine, KERNEL_WORLD_MAX - 1);
        stream_launch(run.machine, *host, host_kernel, arguments, 1, 1, false);
    }
}

/* -- judgement ------------------------------------------------------------------------------------- */

/* Behind the end nothing came into what a call had left; and if nobody judged it then, it is judged now. */
static std::string check_result(struct run &run, uint32_t number, uint32_t rank)
{
    size_t at = number * run.scenario.world + rank;
    const std::vector<unsigned char> &kept = run.snapshots[at];
    if (kept.empty()) {
        return call_check(run.scenario, number, (int)rank, run.buffers[at], scenario_expects_failure(run.scenario));
    }
    for (size_t later = number + 1; later < run.scenario.calls.size(); later++) {
        if (run.scenario.calls[later].original == run.scenario.calls[number].original) {
            return "";
        }
    }
    const unsigned char *dst = run.buffers[at].dst;
    const unsigned char *own = run.buffers[at].src; /* in place it is a part of the result, turned over with it */
    for (size_t byte = 0; byte < kept.size(); byte++) {
        bool turned = own != dst && dst + byte >= own && dst + byte < own + run.buffers[at].src_bytes;
        if (dst[byte] != (unsigned char)(turned ? ~kept[byte] : kept[byte])) {
            return "call " + std::to_string(number) + ", rank " + std::to_string(rank) +
                   ": the result was not complete when the call was";
        }
    }
    return "";
}

static std::string check_results(struct run &run)
{
    for (uint32_t number = 0; number < run.scenario.calls.size(); number++) {
        for (uint32_t rank = 0; rank < run.scenario.world; rank++) {
            bool launched = run.grids[number * run.scenario.world + rank] != nullptr;
            std::string trouble = launched ? check_result(run, number, rank) : "";
            if (!trouble.empty()) {
                return trouble;
            }
        }
    }
    return "";
}

/* What the proof of two halves rests on. */
static std::string check_order(struct run &run)
{
    const struct scenario &scenario = run.scenario;
    for (size_t at = 0; at < run.grids.size() && !scenario_expects_failure(scenario); at++) {
        size_t call = at / scenario.world;
        for (size_t peer = 0; peer < scenario.world; peer++) {
            if (run.grids[at]->last_step < run.grids[call * scenario.world + peer]->first_step) {
                return "call " + std::to_string(call) + ": rank " + std::to_string(at % scenario.world) +
                       " completed before rank " + std::to_string(peer) + " had started";
            }
        }
    }
    return "";
}

static std::string check_arena(struct run &run, size_t arena)
{
    const struct scenario &scenario = run.scenario;
    uint32_t lane = (uint32_t)arena / scenario.world, rank = (uint32_t)arena % scenario.world;
    const struct arena_head *head = reinterpret_cast<const struct arena_head *>(run.arenas[arena]);
    uint64_t calls = 0, eager = 0;
    for (size_t number = lane; number < scenario.calls.size(); number += scenario.lanes) {
        bool launched = run.grids[number * scenario.world + rank] != nullptr;
        calls += launched;
        eager += launched && scenario.calls[number].eager;
    }
    std::string where = "rank " + std::to_string(rank) + ", lane " + std::to_string(lane);
    if (head->ended != calls * EPOCH_UNITS || head->begun != (scenario.programmatic ? calls : 0) * EPOCH_UNITS ||
        head->eager != eager * EPOCH_UNITS) {
        return where + ": counters " + std::to_string(head->begun) + ", " + std::to_string(head->ended) + ", " +
               std::to_string(head->eager) + " after " + std::to_string(calls) + " calls";
    }
    if (scenario_expects_failure(scenario)) {
        return "";
    }
    const uint32_t *words = reinterpret_cast<const uint32_t *>(run.arenas[arena] + ARENA_HEAD_BYTES);
    for (size_t at = 0; at < 2 * scenario.half_bytes / 4; at++) {
        if (words[at] != SENTINEL) {
            return where + ": word " + std::to_string(at) + " of the inboxes is not empty";
        }
    }
    if (head->abort != 0 || run.notes[rank]->state != 0) {
        return where + ": a failure was noted";
    }
    return "";
}

static bool note_is_right(const struct run &run, uint32_t rank)
{
    const struct failure_note &note = *run.notes[rank];
    const struct scenario &scenario = run.scenario;
    return note.state == 2 && note.kind == FAILURE_TIMEOUT && note.peer < scenario.world && note.peer != rank &&
           note.lane < scenario.lanes && note.signature == 0x51600000u + note.call * scenario.lanes + note.lane &&
           (note.waited_ns >= scenario.timeout_ns || scenario.ending == ending::note_rank);
}

/* On a lane either everybody knows of a failure or nobody; and everybody does where a call was missing. */
static std::string check_lane_failure(const struct run &run, uint32_t lane)
{
    const struct scenario &scenario = run.scenario;
    uint32_t aborted = 0;
    bool missing = false;
    for (uint32_t rank = 0; rank < scenario.world; rank++) {
        uint64_t arena = run.arenas[lane * scenario.world + rank];
        aborted += reinterpret_cast<const struct arena_head *>(arena)->abort != 0;
    }
    for (size_t number = lane; number < scenario.calls.size(); number += scenario.lanes) {
        missing = missing || (scenario.absent >= 0 && number >= scenario.absent_from);
    }
    bool all = aborted == scenario.world;
    if (scenario.ending == ending::note_all || all || (aborted == 0 && !missing)) {
        return "";
    }
    return "lane " + std::to_string(lane) + ": " + std::to_string(aborted) + " ranks know of the failure";
}

/* Somebody gave up, has noted it, and everybody knows. */
static std::string check_failure(struct run &run)
{
    const struct scenario &scenario = run.scenario;
    uint32_t noted = 0;
    for (uint32_t rank = 0; rank < scenario.world; rank++) {
        noted += run.notes[rank]->state != 0;
        if (run.notes[rank]->state != 0 && !note_is_right(run, rank)) {
            return "rank " + std::to_string(rank) + ": its note is wrong";
        }
    }
    bool notes = scenario.ending == ending::timeout || scenario.ending == ending::note_rank;
    if (!notes && noted != 0) {
        return "a timeout was noted after an abort";
    }
    if (notes && scenario.family != FAMILY_LATE && noted == 0) {
        return "nobody noted the failure";
    }
    std::string trouble;
    for (uint32_t lane = 0; lane < scenario.lanes && trouble.empty(); lane++) {
        trouble = check_lane_failure(run, lane);
    }
    return trouble;
}

/* Called when a store is performed: a note that says it is complete must be so at once. */
static void observe(void *user, uint64_t address)
{
    struct run &run = *static_cast<struct run *>(user);
    bool expected = scenario_expects_failure(run.scenario);
    for (uint32_t rank = 0; rank < run.notes.size() && run.trouble.empty() && expected; rank++) {
        if (address == reinterpret_cast<uint64_t>(&run.notes[rank]->state) && run.notes[rank]->state == 2 &&
            !note_is_right(run, rank)) {
            run.trouble = "rank " + std::to_string(rank) + ": its note is complete and wrong";
        }
    }
}

std::string scenario_run(struct machine &machine, const struct scenario &scenario)
{
    struct run run = {scenario, machine, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
    struct machine_options options = scenario.machine;
    options.observe = observe;
    options.observer = &run;
    machine_reset(machine, options);
    place(run);
    launch_all(run);
    if (!machine_run(machine)) {
        return machine.failure;
    }
    std::string trouble = run.trouble.empty() ? check_results(run) : run.trouble;
    if (trouble.empty()) {
        trouble = check_order(run);
    }
    if (trouble.empty()) {
        trouble = grants_check(scenario, run.desks, run.arenas);
    }
    for (size_t arena = 0; arena < run.arenas.size() && trouble.empty(); arena++) {
        trouble = check_arena(run, arena);
    }
    if (trouble.empty() && scenario_expects_failure(scenario)) {
        trouble = check_failure(run);
    }
    return trouble;
}

} // namespace simgpu
