/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/choice_gpu.h"

#include "base/settings.h"
#include "collective/choice.h"
#include "kernels/arguments.h"

#define HALF_BYTES_DEFAULT ((size_t)32 << 20)
#define HALF_BYTES_LEAST ((size_t)256 << 10)
#define HALF_ALIGN 4096u
#define VEC_BYTES 16u
#define LEAN_WORLD_MAX 3 /* as in kernels/one_shot.cu: one thread a vector, as in kernels/ring.h for any world */
#define BLOCKS_MOST 128u /* more never paid */
/* H200, 2 and 4 GPUs (docs/results/gpu-direct.md). Reductions of 8 MB are no quicker directly than by themselves, and slower staged; of 16 MB
 * they are quicker. Copies are further from the wire: all_gather of 1 MB is no quicker yet, of 2 MB it is. */
#define DIRECT_REDUCE_BYTES_MIN ((size_t)16 << 20)
#define DIRECT_GATHER_BYTES_MIN ((size_t)3 << 19)
#define WORDS_BYTES_MAX 1024u
#define LINE_BYTES 64u /* of a copy on the wire, */
#define LINE_PAYLOAD 60u
#define COPY_ALIGN 240u /* whole lines and whole vectors */
_Static_assert(BLOCKS_MOST <= KERNEL_DIRECT_BLOCKS_MAX, "every block has flags");

static size_t round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

/* As much as a size_t holds, if that is less. */
static size_t size_product(size_t a, size_t b)
{
    return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

static size_t round_down(size_t value, size_t multiple)
{
    return value / multiple * multiple;
}

const char *gpu_choice_protocol_name(enum gpu_protocol protocol)
{
    static const char *const names[GPU_PROTOCOL_COUNT] = {
        [GPU_LOCAL] = "local",       [GPU_WORDS] = "exchange",          [GPU_ONE_SHOT] = "one-shot",
        [GPU_TWO_SHOT] = "two-shot", [GPU_REDUCE_SCATTER] = "exchange", [GPU_COPIES] = "exchange",
        [GPU_DIRECT] = "direct",     [GPU_DIRECT_SCATTER] = "direct",   [GPU_DIRECT_GATHER] = "direct",
    };
    return names[protocol];
}

bool gpu_choice_is_direct(enum gpu_protocol protocol)
{
    return protocol == GPU_DIRECT || protocol == GPU_DIRECT_SCATTER || protocol == GPU_DIRECT_GATHER;
}

unsigned gpu_choice_threads_max(enum gpu_protocol protocol)
{
    const bool large = gpu_choice_is_direct(protocol) || protocol == GPU_COPIES;
    return large ? KERNEL_LARGE_THREADS_MAX : KERNEL_THREADS_MAX;
}

size_t gpu_choice_half_bytes(int world, size_t message_bytes_max)
{
    if (settings_given(SETTING_GPU_HALF_BYTES) && settings_number(SETTING_GPU_HALF_BYTES) > 0) {
        size_t given = (size_t)settings_number(SETTING_GPU_HALF_BYTES);
        return round_up(given, HALF_ALIGN);
    }
    if (message_bytes_max == 0 || message_bytes_max > HALF_BYTES_DEFAULT) {
        return HALF_BYTES_DEFAULT;
    }
    /* A copy of that size from every rank, with its masks. */
    size_t wanted = round_up((message_bytes_max / LINE_PAYLOAD + 1) * LINE_BYTES * (size_t)world, HALF_ALIGN);
    wanted = wanted > HALF_BYTES_LEAST ? wanted : HALF_BYTES_LEAST;
    return wanted < HALF_BYTES_DEFAULT ? wanted : HALF_BYTES_DEFAULT;
}

size_t gpu_choice_one_shot_bytes_max(int world)
{
    /* H200, bf16, graph replay; measured for 2, 4 and 8. Few ranks: the second hop costs more than the bytes it saves. */
    static const size_t table[KERNEL_WORLD_MAX + 1] = {0,         0,         1u << 20,  256u << 10, 128u << 10,
                                                       64u << 10, 64u << 10, 32u << 10, 32u << 10};
    if (settings_given(SETTING_GPU_ONE_SHOT_BYTES_MAX) && settings_number(SETTING_GPU_ONE_SHOT_BYTES_MAX) > 0) {
        return (size_t)settings_number(SETTING_GPU_ONE_SHOT_BYTES_MAX);
    }
    return world >= 0 && world <= KERNEL_WORLD_MAX ? table[world] : 0;
}

size_t gpu_choice_direct_bytes_min(tutti_collective kind)
{
    size_t measured = kind == TUTTI_ALL_GATHER ? DIRECT_GATHER_BYTES_MIN : DIRECT_REDUCE_BYTES_MIN;
    bool given = settings_given(SETTING_GPU_DIRECT_BYTES_MIN) && settings_number(SETTING_GPU_DIRECT_BYTES_MIN) > 0;
    return given ? (size_t)settings_number(SETTING_GPU_DIRECT_BYTES_MIN) : measured;
}

/* -- protocol and launches --------------------------------------------------------------------------- */

/* Cuts `units` into the fewest launches of at most `most` units each, all nearly equal. */
static void cut(struct gpu_choice *choice, size_t units, size_t most, size_t align_units)
{
    choice->launches = 1;
    choice->launch_units = units > 0 ? units : 1;
    if (units > most) {
        uint64_t launches = (units + most - 1) / most;
        choice->launch_units = round_up((units + (size_t)launches - 1) / (size_t)launches, align_units);
        choice->launches = (units + choice->launch_units - 1) / choice->launch_units;
    }
}

#define DIRECT_REASON(what, staged)                                                                                    \
    what " wherever all ranks find that they can: buffers aligned to 16 bytes, of tutti_alloc's at one place on "      \
         "all ranks, or captured and committed; else " staged

/* False where the message is too short for the direct protocol. `bytes`: of the whole message. */
static bool wants_direct(enum gpu_protocol protocol, const struct gpu_terms *terms, size_t bytes)
{
    size_t least = protocol == GPU_DIRECT_GATHER ? terms->direct_gather_bytes_min : terms->direct_reduce_bytes_min;
    return least != 0 && bytes >= least;
}

/* Of a round, as much of a slot (kernels/ring.h) as a grid takes, with as many vectors for each thread: else most would wait for some. */
static size_t ring_slot_bytes(const struct gpu_terms *terms)
{
    size_t slot_bytes = round_down(terms->half_bytes / (RING_AREAS(terms->world) * (size_t)terms->world), VEC_BYTES);
    size_t grid_bytes = (size_t)BLOCKS_MOST * KERNEL_LARGE_THREADS_MAX * VEC_BYTES;
    size_t vecs = slot_bytes / grid_bytes < RING_VECS ? slot_bytes / grid_bytes : RING_VECS;
    return vecs > 0 ? vecs * grid_bytes : slot_bytes;
}

/* Rounds through a ring (kernels/ring.h) of `most` units each, the last one shorter. */
static bool choose_ring(struct gpu_choice *choice, enum gpu_protocol protocol, const struct gpu_terms *terms,
                        size_t bytes, size_t units, size_t most)
{
    if (most == 0 || !wants_direct(protocol, terms, bytes) || (units + most - 1) / most > UINT32_MAX) {
        return false;
    }
    choice->protocol = protocol;
    choice->launches = 1;
    choice->launch_units = most;
    choice->rounds = (uint32_t)((units + most - 1) / most);
    return true;
}

/* Rounds of at most `most` units, as they take the halves in turns: an odd number of them. False where that cannot be cut so. */
static bool choose_turns(struct gpu_choice *choice, enum gpu_protocol protocol, const struct gpu_terms *terms,
                         size_t bytes, size_t units, size_t most, size_t align_units)
{
    if (!wants_direct(protocol, terms, bytes)) {
        return false;
    }
    size_t parts = (units + align_units - 1) / align_units;
    size_t wanted = (units + most - 1) / most;
    for (size_t rounds = wanted | 1; rounds <= parts; rounds += 2) {
        size_t each = (parts + rounds - 1) / rounds;
        size_t made = (parts + each - 1) / each;
        if (made % 2 == 1 && made >= wanted && made <= UINT32_MAX) {
            choice->protocol = protocol;
            choice->launches = 1;
            choice->launch_units = each * align_units;
            choice->rounds = (uint32_t)made;
            return true;
        }
    }
    return false;
}

static void choose_all_reduce(struct gpu_choice *choice, const struct operation *operation,
                              const struct gpu_terms *terms, size_t unit_bytes)
{
    size_t world = (size_t)terms->world;
    size_t slot_bytes = round_down(terms->half_bytes / world, VEC_BYTES);
    size_t shard_bytes = round_down(terms->half_bytes / (2 * world), VEC_BYTES);
    size_t most = shard_bytes * world / unit_bytes;
    size_t ring_most = ring_slot_bytes(terms) * world / unit_bytes;
    size_t bytes = size_product(operation->count, unit_bytes);
    if (operation->count <= terms->one_shot_bytes_max / unit_bytes) {
        choice->protocol = GPU_ONE_SHOT;
        choice->reason = "small: every rank sends all to all, and one hop beats fewer bytes";
        cut(choice, operation->count, slot_bytes / unit_bytes, VEC_BYTES / unit_bytes);
    } else if (choose_ring(choice, GPU_DIRECT, terms, bytes, operation->count, ring_most)) {
        choice->reason = DIRECT_REASON("the ranks write to each other's results", "each element is staged twice");
    } else {
        choice->protocol = GPU_TWO_SHOT;
        choice->reason = "larger: each element is reduced by one rank and sent on by it";
        cut(choice, operation->count, most, VEC_BYTES / unit_bytes);
    }
}

static void choose_reduce_scatter(struct gpu_choice *choice, const struct operation *operation,
                                  const struct gpu_terms *terms, size_t unit_bytes)
{
    size_t most = round_down(terms->half_bytes / (size_t)terms->world, VEC_BYTES) / unit_bytes;
    size_t ring_most = ring_slot_bytes(terms) / unit_bytes;
    size_t bytes = size_product(operation->count, unit_bytes * (size_t)terms->world);
    if (choose_ring(choice, GPU_DIRECT_SCATTER, terms, bytes, operation->count, ring_most)) {
        choice->reason = DIRECT_REASON("the ranks read each other's inputs", "every rank sends each peer its block");
    } else {
        choice->protocol = GPU_REDUCE_SCATTER;
        choice->reason = "every rank sends each peer its block and reduces its own";
        cut(choice, operation->count, most, VEC_BYTES / unit_bytes);
    }
}

static void choose_copy(struct gpu_choice *choice, const struct operation *operation, const struct gpu_terms *terms)
{
    size_t slot_bytes = terms->half_bytes / (size_t)terms->world;
    size_t most = round_down(slot_bytes / LINE_BYTES * LINE_PAYLOAD, COPY_ALIGN);
    bool gathers = operation->kind == TUTTI_ALL_GATHER && operation->row_bytes == 0;
    size_t bytes = size_product(operation->count, (size_t)terms->world);
    if (operation->count <= WORDS_BYTES_MAX && operation->count <= round_down(slot_bytes, VEC_BYTES) / 2) {
        choice->protocol = GPU_WORDS;
        choice->reason = "smallest: every word travels with a flag of its own";
        cut(choice, operation->count, WORDS_BYTES_MAX, 4);
    } else if (gathers && choose_turns(choice, GPU_DIRECT_GATHER, terms, bytes, operation->count, most, COPY_ALIGN)) {
        choice->reason =
            DIRECT_REASON("the ranks write to each other's results", "in lines with a mask through the staging");
    } else {
        choice->protocol = GPU_COPIES;
        choice->reason = "every rank sends each peer what that needs, in lines with a mask";
        cut(choice, operation->count, most, COPY_ALIGN);
    }
}

static bool reduces(const struct operation *operation)
{
    return operation->kind == TUTTI_ALL_REDUCE || operation->kind == TUTTI_REDUCE_SCATTER;
}

void gpu_choice_make(struct gpu_choice *choice, const struct operation *operation, const struct gpu_terms *terms)
{
    size_t unit_bytes = choice_unit_bytes(operation);
    choice->rounds = 1;
    if (operation->count == 0 && operation->kind != TUTTI_BARRIER) {
        *choice = (struct gpu_choice){GPU_LOCAL, 1, 0, 1, "empty: nothing is launched"};
    } else if (terms->world == 1 && reduces(operation)) {
        choice->protocol = GPU_ONE_SHOT;
        choice->reason = "one rank: nothing crosses";
        cut(choice, operation->count, round_down(terms->half_bytes, VEC_BYTES) / unit_bytes, VEC_BYTES / unit_bytes);
    } else if (terms->world == 1 && operation->kind == TUTTI_BARRIER) {
        *choice = (struct gpu_choice){GPU_LOCAL, 1, 0, 1, "one rank: nobody to wait for"};
    } else if (terms->world == 1) {
        *choice = (struct gpu_choice){GPU_LOCAL, operation->count + 1, 1, 1, "one rank: nothing crosses"};
    } else if (operation->kind == TUTTI_ALL_REDUCE) {
        choose_all_reduce(choice, operation, terms, unit_bytes);
    } else if (operation->kind == TUTTI_REDUCE_SCATTER) {
        choose_reduce_scatter(choice, operation, terms, unit_bytes);
    } else {
        choose_copy(choice, operation, terms);
    }
}

/* -- geometry ---------------------------------------------------------------------------------------- */

static unsigned power_above(uint64_t value, unsigned most)
{
    unsigned power = 1;
    while (power < value && power < most) {
        power *= 2;
    }
    return power;
}

static unsigned power_below(unsigned value)
{
    unsigned power = 1;
    while (power <= value / 2) {
        power *= 2;
    }
    return power;
}

/* The widest tile of which `rows` make a block. */
static unsigned widest_tile(enum gpu_protocol protocol, unsigned rows)
{
    const unsigned most = gpu_choice_threads_max(protocol);
    unsigned shift = 0;
    while (rows << (shift + 1) <= most) {
        shift++;
    }
    return shift;
}

/* Tiles as measured (docs/protocols-gpu.md): from `vecs` on (of the message, or of a shard or block) tiles of 1 << shift. */
struct tile_row {
    uint64_t vecs;
    unsigned shift;
};
static const struct tile_row lean_tiles[] = {{32769, 9}, {8193, 8}, {4097, 7}, {0, 6}};
static const struct tile_row spread_tiles[] = {{4097, 6}, {0, 5}};
static const struct tile_row shard_tiles[] = {{32769, 8}, {4097, 6}, {1025, 5}, {513, 4}, {0, 5}};
/* Of a round: all blocks, then all threads. */
static const struct tile_row ring_tiles[] = {{16385, 8}, {8193, 7}, {0, 6}};
static const struct tile_row copy_tiles[] = {{8193, 6}, {0, 5}};
/* Two ranks' blocks would have 128 threads, which are too few for the wire. Four ranks' have 256, and lose by more (measured). */
static const struct tile_row pair_tiles[] = {{32769, 7}, {8193, 6}, {0, 5}};
static const struct tile_row other_tiles[] = {{0, 5}};

static bool is_ring(enum gpu_protocol protocol)
{
    return protocol == GPU_DIRECT || protocol == GPU_DIRECT_SCATTER;
}

static unsigned tile_of(enum gpu_protocol protocol, bool lean, unsigned world, uint64_t vecs)
{
    const struct tile_row *row = other_tiles;
    if (is_ring(protocol)) {
        row = ring_tiles;
    } else if (protocol == GPU_ONE_SHOT && lean) {
        row = lean_tiles;
    } else if (protocol == GPU_ONE_SHOT) {
        row = spread_tiles;
    } else if (protocol == GPU_TWO_SHOT || protocol == GPU_REDUCE_SCATTER) {
        row = shard_tiles;
    } else if (protocol == GPU_COPIES || protocol == GPU_DIRECT_GATHER) {
        row = world == 2 ? pair_tiles : copy_tiles;
    }
    while (vecs < row->vecs) {
        row++;
    }
    unsigned widest = widest_tile(protocol, lean ? 1 : world);
    return row->shift < widest ? row->shift : widest;
}

struct gpu_geometry gpu_choice_geometry(enum gpu_protocol protocol, const struct gpu_terms *terms, size_t bytes,
                                        unsigned blocks_max)
{
    unsigned world = (unsigned)terms->world;
    uint64_t vecs = (bytes + VEC_BYTES - 1) / VEC_BYTES;
    if (protocol == GPU_TWO_SHOT || protocol == GPU_DIRECT) {
        vecs = (vecs + world - 1) / world;
    } else if (protocol == GPU_COPIES || protocol == GPU_DIRECT_GATHER || protocol == GPU_LOCAL) {
        vecs = (bytes + LINE_PAYLOAD - 1) / LINE_PAYLOAD * (LINE_BYTES / VEC_BYTES);
    } else if (protocol == GPU_WORDS) {
        vecs = (bytes + 3) / 4;
    }
    struct gpu_geometry geometry;
    bool lean = is_ring(protocol) || (protocol == GPU_ONE_SHOT && world <= LEAN_WORLD_MAX);
    geometry.tile_shift = tile_of(protocol, lean, world, vecs);
    geometry.threads = (lean ? 1 : world) << geometry.tile_shift;
    uint64_t tiles = (vecs + (1u << geometry.tile_shift) - 1) >> geometry.tile_shift;
    geometry.blocks = power_above(tiles, BLOCKS_MOST);
    if (protocol == GPU_TWO_SHOT && world > 4 && geometry.tile_shift == 6 && tiles <= BLOCKS_MOST) {
        geometry.blocks = power_above(tiles, BLOCKS_MOST / 2); /* two tiles a block were better than twice the blocks */
    }
    unsigned most = blocks_max != 0 && blocks_max < terms->resident_blocks ? blocks_max : terms->resident_blocks;
    most = most > 0 ? power_below(most) : 1;
    geometry.blocks = geometry.blocks < most ? geometry.blocks : most;
    return geometry;
}
