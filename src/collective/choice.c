/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/choice.h"

#include "base/settings.h"

#define HALF_BYTES_DEFAULT ((size_t)256 * 1024)
#define HALF_BYTES_MIN ((size_t)64 * 1024)

static size_t round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static size_t round_down(size_t value, size_t multiple)
{
    return value / multiple * multiple;
}

const char *choice_protocol_name(enum protocol protocol)
{
    static const char *const names[PROTOCOL_COUNT] = {
        [PROTOCOL_LOCAL] = "local",       [PROTOCOL_ONE_SHOT] = "one-shot", [PROTOCOL_TWO_SHOT] = "two-shot",
        [PROTOCOL_EXCHANGE] = "exchange", [PROTOCOL_DIRECT] = "direct",
    };
    return names[protocol];
}

size_t choice_unit_bytes(const struct operation *operation)
{
    bool reduces = operation->kind == TUTTI_ALL_REDUCE || operation->kind == TUTTI_REDUCE_SCATTER;
    return reduces ? tutti_dtype_bytes(operation->dtype) : 1;
}

size_t choice_half_bytes(int world, size_t message_bytes_max)
{
    size_t half_bytes = (size_t)settings_number(SETTING_HOST_CHUNK_BYTES);
    if (half_bytes == 0) {
        half_bytes = HALF_BYTES_DEFAULT;
    }
    if (message_bytes_max > 0 && message_bytes_max < half_bytes) {
        half_bytes = message_bytes_max;
    }
    size_t least_bytes = HALF_BYTES_MIN;
    /* Every rank's block needs room for some cache lines, or large worlds crawl. */
    if (least_bytes < (size_t)world * 16 * CHOICE_ALIGN_BYTES) {
        least_bytes = (size_t)world * 16 * CHOICE_ALIGN_BYTES;
    }
    return round_up(half_bytes > least_bytes ? half_bytes : least_bytes, 4096);
}

size_t choice_one_shot_bytes_max(int world, int processes)
{
    if (settings_given(SETTING_HOST_ONE_SHOT_BYTES_MAX)) {
        return (size_t)settings_number(SETTING_HOST_ONE_SHOT_BYTES_MAX);
    }
    (void)processes;
    /* One-shot reads world * bytes on every rank but meets once; the others move about 3 * bytes and
     * meet twice. Measured: docs/results/. */
    if (world <= 2) {
        return 32 * 1024;
    }
    return world <= 4 ? 16 * 1024 : 8 * 1024;
}

/* Cuts `units` into the fewest rounds of at most `most` bytes each, all nearly equal. One round, the common case, takes
 * no division. */
static void cut_rounds(struct choice *choice, size_t units, size_t most_bytes, size_t unit_bytes)
{
    size_t align_units = CHOICE_ALIGN_BYTES / unit_bytes;
    size_t whole_units = (units + align_units - 1) & ~(align_units - 1);
    choice->rounds = 1;
    choice->round_units = whole_units > 0 ? whole_units : align_units;
    if (choice->round_units * unit_bytes <= most_bytes) {
        return;
    }
    size_t most = most_bytes / unit_bytes;
    choice->rounds = (units + most - 1) / most;
    choice->round_units = round_up((units + (size_t)choice->rounds - 1) / (size_t)choice->rounds, align_units);
    /* Rounding up may have made the last round empty. */
    choice->rounds = (units + choice->round_units - 1) / choice->round_units;
}

static void choose_all_reduce(struct choice *choice, const struct operation *operation,
                              const struct choice_terms *terms, size_t unit_bytes)
{
    size_t world = (size_t)terms->world;
    if (operation->count * unit_bytes <= terms->one_shot_bytes_max) {
        choice->protocol = PROTOCOL_ONE_SHOT;
        choice->reason = "small enough that meeting once beats reducing each element once";
        cut_rounds(choice, operation->count, terms->half_bytes, unit_bytes);
    } else if (terms->processes == 1) {
        choice->protocol = PROTOCOL_DIRECT;
        choice->reason = "the ranks are threads of one process and reach each other's buffers";
        choice->round_units = operation->count;
        choice->rounds = 1;
    } else {
        bool votes = operation->count * unit_bytes >= CHOICE_VOTE_BYTES_MIN;
        choice->protocol = votes ? PROTOCOL_DIRECT : PROTOCOL_TWO_SHOT;
        choice->reason =
            votes ? "larger: directly where all ranks' buffers are tutti_alloc's, at one place on all ranks; else each "
                    "element is reduced by one rank and copied by the others"
                  : "large: each element is reduced by one rank and copied by the others";
        /* A half holds the world's input shards and the one result shard. */
        size_t shard_bytes = round_down(terms->half_bytes / (world + 1), CHOICE_ALIGN_BYTES);
        cut_rounds(choice, operation->count, shard_bytes * world, unit_bytes);
    }
}

void choice_make(struct choice *choice, const struct operation *operation, const struct choice_terms *terms)
{
    size_t unit_bytes = choice_unit_bytes(operation);
    if (terms->world == 1) {
        *choice = (struct choice){PROTOCOL_LOCAL, operation->count, 1, "one rank: nothing crosses"};
        return;
    }
    if (operation->kind == TUTTI_ALL_REDUCE) {
        choose_all_reduce(choice, operation, terms, unit_bytes);
        return;
    }
    bool block_a_peer = operation->kind == TUTTI_REDUCE_SCATTER || operation->kind == TUTTI_ALL_TO_ALL;
    size_t most_bytes = block_a_peer ? terms->half_bytes / (size_t)terms->world : terms->half_bytes;
    choice->protocol = PROTOCOL_EXCHANGE;
    choice->reason = "each rank stages what others need and takes what is its own";
    cut_rounds(choice, operation->count, round_down(most_bytes, CHOICE_ALIGN_BYTES), unit_bytes);
}
