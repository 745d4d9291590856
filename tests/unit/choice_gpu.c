/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice of kernels, launches and grids of the GPU backends, for random operations: every launch fits the inbox as the
 * kernels cut it, the launches cover the message without a gap, boundaries fall on vectors, and grids are legal and resident.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "collective/choice.h"
#include "collective/choice_gpu.h"
#include "harness/check.h"
#include "harness/ranks.h"
#include "kernels/arguments.h"

/* The most that a launch of this protocol may carry, worked out as the kernels cut a half (kernels/<protocol>.cu). */
static bool fits(enum gpu_protocol protocol, const struct gpu_terms *terms, size_t bytes)
{
    size_t world = (size_t)terms->world;
    size_t half = terms->half_bytes;
    size_t vecs = (bytes + 15) / 16;
    switch (protocol) {
    case GPU_ONE_SHOT:
    case GPU_REDUCE_SCATTER:
        return vecs * 16 <= half / world / 16 * 16;
    case GPU_DIRECT_SCATTER: /* one round, as kernels/ring.h has them */
        return vecs * 16 <= half / (RING_AREAS(world) * world) / 16 * 16;
    case GPU_DIRECT:
        return (vecs + world - 1) / world * 16 <= half / (RING_AREAS(world) * world) / 16 * 16;
    case GPU_TWO_SHOT:
        return (vecs + world - 1) / world * 16 <= half / (2 * world) / 16 * 16;
    case GPU_WORDS:
        return (bytes == 0 ? 1 : (bytes + 3) / 4) * 8 <= half / world / 16 * 16;
    case GPU_COPIES:
    case GPU_DIRECT_GATHER: /* one round */
        return (bytes == 0 ? 1 : (bytes + 59) / 60) * 64 <= half / world / 64 * 64;
    case GPU_LOCAL:
        return true;
    case GPU_PROTOCOL_COUNT:
        break;
    }
    return false;
}

static void check_geometry(const struct gpu_choice *choice, const struct gpu_terms *terms, size_t bytes,
                           unsigned blocks_max)
{
    struct gpu_geometry geometry = gpu_choice_geometry(choice->protocol, terms, bytes, blocks_max);
    bool ring = choice->protocol == GPU_DIRECT || choice->protocol == GPU_DIRECT_SCATTER;
    bool lean = ring || (choice->protocol == GPU_ONE_SHOT && terms->world <= 3);
    unsigned rows = lean ? 1 : (unsigned)terms->world;
    CHECK(!ring || geometry.threads >= 16, "%u threads, and one for each peer's flags", geometry.threads);
    CHECK(geometry.threads == rows << geometry.tile_shift &&
              geometry.threads <= gpu_choice_threads_max(choice->protocol),
          "%u threads for %u rows, tile shift %u", geometry.threads, rows, geometry.tile_shift);
    CHECK(geometry.blocks >= 1 && geometry.blocks <= EPOCH_UNITS && (geometry.blocks & (geometry.blocks - 1)) == 0,
          "%u blocks", geometry.blocks);
    CHECK(geometry.blocks <= terms->resident_blocks, "%u blocks of %u", geometry.blocks, terms->resident_blocks);
    CHECK(blocks_max == 0 || geometry.blocks <= blocks_max, "%u blocks of %u", geometry.blocks, blocks_max);
    bool lines = choice->protocol == GPU_COPIES || choice->protocol == GPU_DIRECT_GATHER;
    CHECK((!lines && choice->protocol != GPU_LOCAL) || geometry.tile_shift >= 5,
          "a warp of the copying kernel serves one peer, tile shift %u", geometry.tile_shift);
}

/* The direct protocols take what they are meant for, and all of it but for a gather that cannot be cut into an odd number of rounds. */
static void check_direct(const struct operation *operation, const struct gpu_terms *terms,
                         const struct gpu_choice *choice)
{
    bool direct = gpu_choice_is_direct(choice->protocol);
    size_t blocks = operation->kind == TUTTI_ALL_REDUCE ? 1 : (size_t)terms->world;
    size_t bytes = operation->count * choice_unit_bytes(operation) * blocks;
    bool whole_kind = operation->kind == TUTTI_ALL_REDUCE || operation->kind == TUTTI_REDUCE_SCATTER ||
                      (operation->kind == TUTTI_ALL_GATHER && operation->row_bytes == 0);
    size_t least =
        operation->kind == TUTTI_ALL_GATHER ? terms->direct_gather_bytes_min : terms->direct_reduce_bytes_min;
    bool meant = whole_kind && terms->world > 1 && least != 0 && bytes >= least;
    CHECK(!direct || (meant && choice->launches == 1), "%zu bytes of kind %d go directly from %zu on", bytes,
          (int)operation->kind, least);
    bool smaller = choice->protocol == GPU_ONE_SHOT || choice->protocol == GPU_WORDS;
    CHECK(direct || !meant || smaller || choice->launches == 0 ||
              (choice->launches % 2 == 0 && operation->kind == TUTTI_ALL_GATHER),
          "%zu bytes of kind %d, in %" PRIu64 " launches, do not go directly from %zu on", bytes, (int)operation->kind,
          choice->launches, least);
}

static void check_rounds(const struct gpu_terms *terms, const struct gpu_choice *choice, size_t unit_bytes)
{
    size_t round_bytes = choice->launch_units * unit_bytes;
    CHECK(choice->rounds == 1 || gpu_choice_is_direct(choice->protocol), "%u rounds", choice->rounds);
    CHECK(choice->rounds % 2 == 1 || choice->protocol != GPU_DIRECT_GATHER, "%u rounds", choice->rounds);
    CHECK(choice->rounds == 1 || choice->protocol != GPU_DIRECT || round_bytes % (16 * (size_t)terms->world) == 0,
          "shards of a whole round differ: %zu bytes", round_bytes);
    CHECK(choice->rounds == 1 || choice->protocol != GPU_DIRECT_GATHER || round_bytes % 240 == 0,
          "a round ends within a line, or within a vector, after %zu bytes", round_bytes);
}

static void check_one(const struct operation *operation, const struct gpu_terms *terms, unsigned blocks_max)
{
    struct gpu_choice choice;
    size_t unit_bytes = choice_unit_bytes(operation);
    gpu_choice_make(&choice, operation, terms);
    CHECK(choice.reason != NULL && choice.launch_units > 0, "no reason, or no units");
    size_t covered = 0;
    uint64_t parts = choice.launches * choice.rounds;
    check_rounds(terms, &choice, unit_bytes);
    check_direct(operation, terms, &choice);
    for (uint64_t index = 0; index < parts; index++) {
        size_t first = (size_t)index * choice.launch_units;
        CHECK(first == 0 || first < operation->count, "part %" PRIu64 " of %" PRIu64 " has nothing to do", index,
              parts);
        size_t left = operation->count - first;
        size_t units = left < choice.launch_units ? left : choice.launch_units;
        CHECK(fits(choice.protocol, terms, units * unit_bytes),
              "%s of %zu bytes does not fit a half of %zu at %d ranks", gpu_choice_protocol_name(choice.protocol),
              units * unit_bytes, terms->half_bytes, terms->world);
        CHECK(index + 1 == parts || units * unit_bytes % 16 == 0, "cut after %zu bytes", units * unit_bytes);
        if (index == 0 || index + 1 == parts) {
            check_geometry(&choice, terms, units * unit_bytes, blocks_max);
        }
        covered += units;
    }
    CHECK(covered == operation->count || (choice.launches == 0 && operation->count == 0), "%zu of %zu", covered,
          operation->count);
    CHECK(choice.launches > 0 || operation->count == 0, "nothing launched");
}

static size_t random_size(uint64_t *random)
{
    unsigned bits = (unsigned)(ranks_random(random) % 28);
    return (size_t)(ranks_random(random) & (((uint64_t)1 << bits) - 1));
}

int main(void)
{
    uint64_t random = ranks_seed();
    for (int round = 0; round < 20000; round++) {
        struct operation operation = {
            .kind = (tutti_collective)(ranks_random(&random) % TUTTI_COLLECTIVE_COUNT),
            .dtype = (tutti_dtype)(ranks_random(&random) % 3),
            .count = random_size(&random),
        };
        if (operation.kind == TUTTI_BARRIER) {
            operation.count = 0;
        }
        if (operation.kind == TUTTI_ALL_GATHER && ranks_random(&random) % 4 == 0) {
            operation.row_bytes = 1;
        }
        struct gpu_terms terms = {.world = (int)(ranks_random(&random) % KERNEL_WORLD_MAX) + 1};
        terms.half_bytes = gpu_choice_half_bytes(terms.world, random_size(&random) + 1);
        if (ranks_random(&random) % 3 == 0) { /* as small as the setting allows */
            terms.half_bytes = 4096 * (size_t)(1 + ranks_random(&random) % 8);
        }
        terms.one_shot_bytes_max = gpu_choice_one_shot_bytes_max(terms.world);
        if (ranks_random(&random) % 2 == 0) {
            terms.direct_gather_bytes_min = 1 + random_size(&random);
            terms.direct_reduce_bytes_min = 1 + random_size(&random);
        }
        terms.resident_blocks = 1 + (unsigned)(ranks_random(&random) % 300);
        check_one(&operation, &terms, ranks_random(&random) % 4 == 0 ? (unsigned)(ranks_random(&random) % 200) : 0);
    }
    return 0;
}
