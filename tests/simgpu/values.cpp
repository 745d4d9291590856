/* SPDX-License-Identifier: Apache-2.0 */
/* values.cpp - what goes into the explorer's calls and what must come out; the reference is that of the harness. */
#include <stdio.h>
#include <string.h>

#include "simgpu/scenario.h"

extern "C" {
#include "harness/values.h"
}
#include "tutti/tutti.h"

namespace simgpu
{

static uint64_t mix(uint64_t a, uint64_t b)
{
    struct random random = {a * 0x9e3779b97f4a7c15u + b};
    return random.next();
}

static uint32_t element_bytes(const struct call &call)
{
    return call.dtype == TUTTI_F32 ? 4 : 2;
}

static bool is_reduction(const struct call &call)
{
    return call.kind == TUTTI_ALL_REDUCE || call.kind == TUTTI_REDUCE_SCATTER;
}

/* Some runs of elements are the pattern that an empty slot has. */
uint32_t input_element(const struct scenario &scenario, uint32_t call, int rank, uint64_t index)
{
    const struct call &what = scenario.calls[call];
    if (mix(scenario.seed + call * 64 + (uint64_t)rank, index / 4) % 11 == 0) {
        return what.dtype == TUTTI_F32 ? 0xffffffffu : 0xffffu;
    }
    return values_element((tutti_dtype)what.dtype, scenario.seed * 64 + call, rank, index);
}

unsigned char input_byte(const struct scenario &scenario, uint32_t call, int rank, uint64_t index)
{
    uint64_t chunk = mix(scenario.seed + call * 64 + (uint64_t)rank, index / 8);
    return (unsigned char)(chunk % 5 == 0 ? 0xff : chunk >> (8 * (index % 8)));
}

uint64_t call_src_bytes(const struct scenario &scenario, const struct call &call)
{
    switch (call.kind) {
    case TUTTI_ALL_REDUCE:
        return call.units * element_bytes(call);
    case TUTTI_REDUCE_SCATTER:
        return call.units * element_bytes(call) * scenario.world;
    case TUTTI_ALL_TO_ALL:
        return call.units * scenario.world;
    case TUTTI_BARRIER:
        return 0;
    default:
        return call.units;
    }
}

uint64_t call_dst_bytes(const struct scenario &scenario, const struct call &call)
{
    if (is_reduction(call)) {
        return call.units * element_bytes(call);
    }
    if (call.row_bytes != 0) {
        return call.units == 0 ? 0
                               : (call.units / call.row_bytes - 1) * call.row_stride + call.row_bytes * scenario.world;
    }
    bool all = call.kind == TUTTI_ALL_GATHER || call.kind == TUTTI_ALL_TO_ALL;
    return call.kind == TUTTI_BARRIER ? 0 : call.units * (all ? scenario.world : 1);
}

static void store_element(unsigned char *at, uint32_t bytes, uint32_t value)
{
    memcpy(at, &value, bytes); /* little-endian */
}

void call_fill(const struct scenario &scenario, uint32_t call, int rank, const struct buffers &buffers)
{
    const struct call &what = scenario.calls[call];
    if (what.kind == TUTTI_BROADCAST && (int)what.root != rank) {
        return;
    }
    uint32_t width = is_reduction(what) ? element_bytes(what) : 1;
    for (uint64_t index = 0; index < buffers.src_bytes / width; index++) {
        uint32_t value =
            is_reduction(what) ? input_element(scenario, call, rank, index) : input_byte(scenario, call, rank, index);
        store_element(buffers.src + index * width, width, value);
    }
}

static std::string difference(uint32_t call, int rank, uint64_t index, uint32_t got, uint32_t expected)
{
    char text[160];
    snprintf(text, sizeof(text), "call %u, rank %d: index %llu is %#x, must be %#x", call, rank,
             (unsigned long long)index, got, expected);
    return text;
}

static std::string check_reduction(const struct scenario &scenario, uint32_t call, int rank,
                                   const struct buffers &buffers, bool may_fail)
{
    const struct call &what = scenario.calls[call];
    const uint32_t width = element_bytes(what);
    const uint64_t first = what.kind == TUTTI_REDUCE_SCATTER ? (uint64_t)rank * what.units : 0;
    static const uint32_t nan[3] = {0x7fc00000u, 0x7e00u, 0x7fc0u};
    for (uint64_t index = 0; index < what.units; index++) {
        uint32_t inputs[KERNEL_WORLD_MAX], got = 0;
        for (uint32_t peer = 0; peer < scenario.world; peer++) {
            inputs[peer] = input_element(scenario, call, (int)peer, first + index);
        }
        uint32_t expected = values_reduce((tutti_dtype)what.dtype, (tutti_op)what.op, inputs, (int)scenario.world);
        memcpy(&got, buffers.dst + index * width, width);
        if (got != expected && !(may_fail && got == nan[what.dtype])) {
            return difference(call, rank, index, got, expected);
        }
    }
    return "";
}

/* The byte that peer `peer` sends to `rank` as its byte `index`. */
static unsigned char sent_byte(const struct scenario &scenario, uint32_t call, uint32_t peer, int rank, uint64_t index)
{
    const struct call &what = scenario.calls[call];
    uint64_t first = what.kind == TUTTI_ALL_TO_ALL ? (uint64_t)rank * what.units : 0;
    return input_byte(scenario, call, (int)peer, first + index);
}

/* Also that gaps between rows are as they were. */
static std::string check_copy(const struct scenario &scenario, uint32_t call, int rank, const struct buffers &buffers,
                              bool may_fail)
{
    const struct call &what = scenario.calls[call];
    std::vector<bool> written(buffers.dst_bytes, false);
    for (uint32_t peer = 0; peer < scenario.world && what.kind != TUTTI_BARRIER; peer++) {
        if (what.kind == TUTTI_BROADCAST && peer != what.root) {
            continue;
        }
        for (uint64_t index = 0; index < what.units; index++) {
            uint64_t at = what.kind == TUTTI_BROADCAST ? index : peer * what.units + index;
            if (what.row_bytes != 0) {
                at = index / what.row_bytes * what.row_stride + peer * what.row_bytes + index % what.row_bytes;
            }
            written[at] = true;
            unsigned char expected = sent_byte(scenario, call, peer, rank, index);
            if (buffers.dst[at] != expected && !(may_fail && buffers.dst[at] == 0)) {
                return difference(call, rank, at, buffers.dst[at], expected);
            }
        }
    }
    for (uint64_t at = 0; at < buffers.dst_bytes; at++) {
        if (!written[at] && buffers.dst[at] != VALUES_UNTOUCHED) {
            return difference(call, rank, at, buffers.dst[at], VALUES_UNTOUCHED);
        }
    }
    return "";
}

/* Also what is beside the result, and the input, except where the result is. */
std::string call_check(const struct scenario &scenario, uint32_t call, int rank, const struct buffers &buffers,
                       bool may_fail)
{
    const struct call &what = scenario.calls[call];
    for (uint64_t at = 1; at <= 16; at++) {
        if (buffers.first[-(int64_t)at] != VALUES_UNTOUCHED || buffers.end[at - 1] != VALUES_UNTOUCHED) {
            return "call " + std::to_string(call) + ", rank " + std::to_string(rank) + ": wrote beside its result";
        }
    }
    std::vector<unsigned char> input(buffers.src_bytes);
    call_fill(scenario, call, rank, {input.data(), nullptr, buffers.src_bytes, 0, nullptr, nullptr});
    bool has_input = what.kind != TUTTI_BROADCAST || (int)what.root == rank;
    for (uint64_t at = 0; at < buffers.src_bytes && has_input; at++) {
        bool in_result = buffers.src + at >= buffers.dst && buffers.src + at < buffers.dst + buffers.dst_bytes;
        if (!in_result && buffers.src[at] != input[at]) {
            return "call " + std::to_string(call) + ", rank " + std::to_string(rank) + ": changed its input";
        }
    }
    return is_reduction(what) ? check_reduction(scenario, call, rank, buffers, may_fail)
                              : check_copy(scenario, call, rank, buffers, may_fail);
}

} // namespace simgpu
