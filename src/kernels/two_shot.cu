/* SPDX-License-Identifier: Apache-2.0 */
/*
 * two_shot.cu - P3, sentinel two-shot: each element is reduced by one rank. Two hops, no flags, no barrier.
 *
 * Wire format. The vectors of the message are dealt to owners: owner j has `shard` = ceil(vecs / world) vectors. A half is
 * cut into two areas of `world` slots of half_bytes / world / 2 bytes:
 *
 *     area 0, slot r:  rank r's input of the shard that I own      (first hop)
 *     area 1, slot r:  rank r's reduced shard                      (second hop)
 *
 * Words are self-validating as in one_shot.cu. In the second hop no word can be SENTINEL by itself: results have
 * canonical NaN only. Tile t of a block is vector range t of every shard, in both hops, so a block depends on the same
 * block of its peers and on nothing else; the sum runs over the same ranks in the same order as in one-shot: same
 * bits.
 *
 * reduce_scatter is the first hop alone, with the caller's blocks as shards.
 */
#include "kernels/elements.h"
#include "kernels/numbers.h"
#include "kernels/turn.h"

struct shards {
    uint64_t vecs;        /* of a full shard */
    uint64_t input_bytes; /* of all of src, so that the last shard's end is known (all_reduce) */
    uint64_t slot_bytes;
    uint64_t stride, begin; /* of this block's tiles */
};

/* Shard `owner` of a buffer whose shards follow one another. */
PORT_DEVICE struct span shard_of(uint64_t base, uint64_t bytes, uint64_t shard_bytes, uint32_t owner)
{
    uint64_t first = owner * shard_bytes;
    uint64_t left = bytes > first ? bytes - first : 0;
    return span_make(base + first, left < shard_bytes ? left : shard_bytes);
}

PORT_DEVICE uint64_t vecs_of(const struct span &span)
{
    return (span.bytes + 15) / 16;
}

/* First hop: each thread sends to its peer the vectors of the shard that the peer owns. */
template <class Type, bool plain>
PORT_DEVICE void scatter(const struct kernel_arguments &arguments, const struct turn &turn, const struct shards &shards,
                         const struct span &theirs, uint32_t peer, uint32_t column)
{
    uint64_t vecs = vecs_of(theirs);
    for (uint64_t vec = shards.begin + column; vec < vecs; vec += shards.stride) {
        struct vec4 value = avoid_sentinel(span_load<Type::element_bytes, plain>(theirs, vec));
        port_store_system4(slot_at(arguments, turn, peer, arguments.rank * shards.slot_bytes + vec * 16), value);
    }
}

/* The block's words of one tile of my shard, summed over the ranks, back into row `rank` of the tile. */
template <class Type, int world, bool plain>
PORT_DEVICE void reduce_in_place(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    uint32_t *words = reinterpret_cast<uint32_t *>(tile);
    uint32_t tile_words = 4u << arguments.tile_shift;
    for (uint32_t word = port_thread(); word < tile_words; word += port_threads()) {
        uint32_t sum = reduce_word<Type, world>(plain ? OP_SUM : arguments.op, words + word, tile_words);
        words[word] = sum; /* row 0: only this thread touches this column */
    }
}

/* Waits for my shard's inputs, tile by tile, and leaves the sums where `sends` says: at the peers' second areas and
 * in dst. */
template <class Type, int world, bool plain>
PORT_DEVICE void reduce_shard(const struct kernel_arguments &arguments, struct turn &turn, const struct shards &shards,
                              const struct span &src, const struct span &dst, bool sends, struct vec4 *tile)
{
    const uint32_t peer = port_thread() >> arguments.tile_shift;
    const uint32_t column = port_thread() & ((1u << arguments.tile_shift) - 1);
    const uint64_t vecs = vecs_of(src);
    const uint64_t second_area = shards.slot_bytes * world;
    for (uint64_t first = shards.begin; first < vecs; first += shards.stride) {
        uint64_t vec = first + column;
        if (vec < vecs) {
            uint64_t offset = peer * shards.slot_bytes + vec * 16;
            tile[port_thread()] =
                peer == arguments.rank
                    ? span_load<Type::element_bytes, plain>(src, vec)
                    : receive(arguments, turn, slot_at(arguments, turn, arguments.rank, offset), peer);
        }
        port_sync();
        reduce_in_place<Type, world, plain>(arguments, tile);
        port_sync();
        if (vec < vecs) {
            struct vec4 sum = tile[column];
            if (peer == arguments.rank) {
                span_store<Type::element_bytes, plain>(dst, vec, sum);
            } else if (sends && !turn.failed) {
                uint64_t offset = second_area + arguments.rank * shards.slot_bytes + vec * 16;
                port_store_system4(slot_at(arguments, turn, peer, offset), sum);
            }
        }
        port_sync();
    }
}

/* Second hop: each thread takes its peer's shard of the result. */
template <class Type, int world, bool plain>
PORT_DEVICE void gather(const struct kernel_arguments &arguments, struct turn &turn, const struct shards &shards,
                        const struct span &theirs, uint32_t peer, uint32_t column)
{
    uint64_t vecs = vecs_of(theirs);
    for (uint64_t vec = shards.begin + column; vec < vecs; vec += shards.stride) {
        uint64_t offset = (world + peer) * shards.slot_bytes + vec * 16;
        struct vec4 value = receive(arguments, turn, slot_at(arguments, turn, arguments.rank, offset), peer);
        span_store<Type::element_bytes, plain>(theirs, vec, value);
    }
}

template <class Type>
PORT_DEVICE void poison_shard(const struct shards &shards, const struct span &dst, uint32_t column)
{
    const uint32_t word = nan_word(Type());
    const struct vec4 value = {word, word, word, word};
    for (uint64_t vec = shards.begin + column; vec < vecs_of(dst); vec += shards.stride) {
        span_store<Type::element_bytes, false>(dst, vec, value);
    }
}

template <class Type, int world, bool plain>
PORT_DEVICE void two_shot(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    const uint32_t peer = port_thread() >> arguments.tile_shift;
    const uint32_t column = port_thread() & ((1u << arguments.tile_shift) - 1);
    const uint64_t bytes = arguments.units * Type::element_bytes;
    struct shards shards;
    shards.vecs = ((bytes + 15) / 16 + world - 1) / world;
    shards.input_bytes = bytes;
    shards.slot_bytes = arguments.half_bytes / (2 * world) / 16 * 16;
    shards.stride = (uint64_t)port_blocks() << arguments.tile_shift;
    shards.begin = (uint64_t)port_block() << arguments.tile_shift;
    const uint64_t shard_bytes = shards.vecs * 16;
    const struct span their_dst = shard_of(arguments.dst, bytes, shard_bytes, peer);

    struct turn turn = turn_begin(arguments);
    if (peer != arguments.rank && !turn.failed) {
        scatter<Type, plain>(arguments, turn, shards, shard_of(arguments.src, bytes, shard_bytes, peer), peer, column);
    }
    turn_announce(arguments, turn);
    port_sync(); /* in place: dst's tiles are read by all threads of the block before any is written */
    reduce_shard<Type, world, plain>(arguments, turn, shards,
                                     shard_of(arguments.src, bytes, shard_bytes, arguments.rank),
                                     shard_of(arguments.dst, bytes, shard_bytes, arguments.rank), true, tile);
    if (peer != arguments.rank) {
        gather<Type, world, plain>(arguments, turn, shards, their_dst, peer, column);
    }
    if (turn_finish(arguments, turn)) {
        poison_shard<Type>(shards, their_dst, column);
    }
    turn_leave(arguments);
}

template <class Type, int world, bool plain>
PORT_DEVICE void reduce_scatter(const struct kernel_arguments &arguments, struct vec4 *tile)
{
    const uint32_t peer = port_thread() >> arguments.tile_shift;
    const uint32_t column = port_thread() & ((1u << arguments.tile_shift) - 1);
    const uint64_t bytes = arguments.units * Type::element_bytes;
    struct shards shards;
    shards.vecs = (bytes + 15) / 16;
    shards.input_bytes = bytes;
    shards.slot_bytes = arguments.half_bytes / world / 16 * 16;
    shards.stride = (uint64_t)port_blocks() << arguments.tile_shift;
    shards.begin = (uint64_t)port_block() << arguments.tile_shift;
    const struct span dst = span_make(arguments.dst, bytes);

    struct turn turn = turn_begin(arguments);
    if (peer != arguments.rank && !turn.failed) {
        scatter<Type, plain>(arguments, turn, shards, span_make(arguments.src + peer * arguments.src_stride, bytes),
                             peer, column);
    }
    turn_announce(arguments, turn);
    reduce_shard<Type, world, plain>(arguments, turn, shards,
                                     span_make(arguments.src + arguments.rank * arguments.src_stride, bytes), dst,
                                     false, tile);
    if (turn_finish(arguments, turn) && peer == arguments.rank) {
        poison_shard<Type>(shards, dst, column);
    }
    turn_leave(arguments);
}

/* A sum of whole vectors: the path that has to be short. Every shard is then whole too. */
template <class Type> PORT_DEVICE bool is_plain(const struct kernel_arguments &arguments)
{
    uint64_t bytes = arguments.units * Type::element_bytes;
    return arguments.op == OP_SUM && ((arguments.src | arguments.dst | bytes | arguments.src_stride) & 15) == 0;
}

#define TWO_SHOT(type, world)                                                                                          \
    PORT_KERNEL(tutti_two_shot_##type##_##world)                                                                       \
    {                                                                                                                  \
        PORT_SHARED(struct vec4, tile, KERNEL_THREADS_MAX);                                                            \
        if (is_plain<type_##type>(arguments)) {                                                                        \
            two_shot<type_##type, world, true>(arguments, tile);                                                       \
        } else {                                                                                                       \
            two_shot<type_##type, world, false>(arguments, tile);                                                      \
        }                                                                                                              \
    }                                                                                                                  \
    PORT_KERNEL(tutti_reduce_scatter_##type##_##world)                                                                 \
    {                                                                                                                  \
        PORT_SHARED(struct vec4, tile, KERNEL_THREADS_MAX);                                                            \
        if (is_plain<type_##type>(arguments)) {                                                                        \
            reduce_scatter<type_##type, world, true>(arguments, tile);                                                 \
        } else {                                                                                                       \
            reduce_scatter<type_##type, world, false>(arguments, tile);                                                \
        }                                                                                                              \
    }
#define TWO_SHOT_WORLDS(type)                                                                                          \
    TWO_SHOT(type, 2)                                                                                                  \
    TWO_SHOT(type, 3)                                                                                                  \
    TWO_SHOT(type, 4)                                                                                                  \
    TWO_SHOT(type, 5)                                                                                                  \
    TWO_SHOT(type, 6)                                                                                                  \
    TWO_SHOT(type, 7)                                                                                                  \
    TWO_SHOT(type, 8)
TWO_SHOT_WORLDS(f32)
TWO_SHOT_WORLDS(f16)
TWO_SHOT_WORLDS(bf16)
