/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario_grants.cpp - the hosts' part in direct calls: which slot is whose, commits and what is taken back, at any time; and what
 * the tallies say in the end.
 *
 * What a host must not do is written down in struct direct_entry, and it does not: addresses change while the rank's stream waits
 * at a gate. Everything else happens while the kernels run.
 */
#include <string.h>

#include "simgpu/scenario.h"

namespace simgpu
{

static void pause(struct random &random)
{
    static const uint32_t most[] = {1, 60, 600, 3000};
    for (uint32_t left = random.below(most[random.below(4)]); left > 0; left--) {
        port_clock_ns();
    }
}

static void write_rest(const struct host &host, const struct grant &grant, struct direct_entry *entry)
{
    port_store_system8(&entry->ticket, 1000 + grant.call);
    for (uint32_t rank = 0; rank < host.scenario->world; rank++) {
        const struct buffers &buffers = (*host.buffers)[grant.call * host.scenario->world + rank];
        port_store_system8(&entry->src[rank], reinterpret_cast<uint64_t>(buffers.src));
        port_store_system8(&entry->dst[rank], reinterpret_cast<uint64_t>(buffers.dst));
    }
    port_fence_system();
}

static void write_commit(struct direct_entry *entry, uint64_t commit)
{
    port_store_system8(&entry->commit, commit);
    port_fence_system();
}

/* One grant, on one rank. Nobody reads the rest of an entry whose commit has been 0 ever since he began, so that it may be written
 * when the gate is open again, too. */
static void host_grant(const struct host &host, uint32_t number, struct random &random)
{
    const struct grant &grant = host.scenario->grants[number];
    struct direct_entry *entry = &host.desks->tables[(uint32_t)host.rank][grant.slot];
    const uint64_t commit = 0x100 + number; /* the same on all ranks */
    const bool wrong = host.machine->options.mutant == MUTANT_COMMIT_FIRST;
    const bool at_gate = !wrong && (grant.prompt || random.chance(32768));
    const bool able = grant.prompt || random.below(8) != 0;
    while (port_load_acquire_system8(host.desks->arrived[(uint32_t)host.rank]) <= number) {
    }
    write_commit(entry, 0);
    if (at_gate) {
        write_rest(host, grant, entry);
    }
    if (grant.prompt) {
        write_commit(entry, commit);
    }
    port_store_release_system8(host.desks->granted[(uint32_t)host.rank], number + 1);
    if (!grant.prompt) {
        pause(random);
    }
    if (wrong && able) {
        write_commit(entry, commit);
    }
    if (!at_gate) {
        write_rest(host, grant, entry);
    }
    if (!grant.prompt && able) {
        pause(random);
        write_commit(entry, commit);
    }
    if (random.below(3) == 0) {
        pause(random);
        write_commit(entry, 0);
    }
}

static void host_kernel(const struct kernel_arguments &arguments)
{
    const struct host *host = reinterpret_cast<const struct host *>(arguments.src);
    struct random random = {arguments.units};
    for (uint32_t number = 0; number < host->scenario->grants.size(); number++) {
        host_grant(*host, number, random);
    }
}

void grants_launch_host(struct machine &machine, const struct host &host)
{
    struct kernel_arguments arguments = {};
    arguments.src = reinterpret_cast<uint64_t>(&host);
    arguments.units = machine.random.next();
    struct stream *stream = machine_stream(machine, KERNEL_WORLD_MAX + host.rank);
    stream_launch(machine, *stream, host_kernel, arguments, 1, 1, false);
}

/* The stream rests until its host has granted. */
static void gate_kernel(const struct kernel_arguments &arguments)
{
    port_store_release_system8(reinterpret_cast<uint64_t *>(arguments.src), arguments.units + 1);
    while (port_load_acquire_system8(reinterpret_cast<const uint64_t *>(arguments.dst)) <= arguments.units) {
    }
}

void grants_launch_gate(struct machine &machine, struct stream &stream, const struct desks &desks, uint32_t number)
{
    struct kernel_arguments arguments = {};
    arguments.src = reinterpret_cast<uint64_t>(desks.arrived[(uint32_t)stream.rank]);
    arguments.dst = reinterpret_cast<uint64_t>(desks.granted[(uint32_t)stream.rank]);
    arguments.units = number;
    stream_launch(machine, stream, gate_kernel, arguments, 1, 1, false);
}

/* -- judgement ------------------------------------------------------------------------------------- */

/* What a lane's tally must be, as far as that is certain: `least` goes directly in any case, `most` never more. */
static std::string check_lane(const struct scenario &scenario, uint32_t lane, const struct direct_tally &tally)
{
    uint64_t calls = 0, bytes = 0, least = 0, most = 0;
    for (size_t number = lane; number < scenario.calls.size(); number += scenario.lanes) {
        const struct call &call = scenario.calls[number];
        if (call_is_direct(call)) {
            bool whole = call_is_whole(scenario, call);
            calls++;
            bytes += call.units * call_unit_bytes(call);
            least += whole && call.votes == votes::all && call.slot == NO_SLOT;
            most += whole && (call.votes != votes::none || call.slot != NO_SLOT);
        }
    }
    bool right = tally.direct_calls + tally.staged_calls == calls && tally.direct_bytes + tally.staged_bytes == bytes &&
                 tally.direct_calls >= least && tally.direct_calls <= most;
    return right ? ""
                 : "lane " + std::to_string(lane) + ": " + std::to_string(tally.direct_calls) + " direct and " +
                       std::to_string(tally.staged_calls) + " staged calls were counted of " + std::to_string(calls) +
                       ", " + std::to_string(least) + " to " + std::to_string(most) + " of them direct";
}

std::string grants_check(const struct scenario &scenario, const struct desks &desks,
                         const std::vector<uint64_t> &arenas)
{
    for (uint32_t arena = 0; arena < arenas.size() && !scenario_expects_failure(scenario); arena++) {
        const struct direct_tally &own = reinterpret_cast<const struct arena_head *>(arenas[arena])->tally;
        const struct direct_tally &first =
            reinterpret_cast<const struct arena_head *>(arenas[arena / scenario.world * scenario.world])->tally;
        if (memcmp(&own, desks.tallies[arena], sizeof(own)) != 0) {
            return "arena " + std::to_string(arena) + ": the host's copy of the tally is another";
        }
        if (memcmp(&own, &first, sizeof(own)) != 0) {
            return "arena " + std::to_string(arena) + ": the tally is not that of the others";
        }
        std::string trouble = check_lane(scenario, arena / scenario.world, own);
        if (!trouble.empty()) {
            return trouble;
        }
    }
    return "";
}

} // namespace simgpu
