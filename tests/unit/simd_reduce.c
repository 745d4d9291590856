/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every table, type, operator and number of sources, at every kind of address, in place or not, with and
 * without a second destination and streaming, against the reference: bit for bit, and not a byte outside.
 */
#include <stdio.h>

#include "device/host/simd/float_environment.h"
#include "device/host/simd/simd.h"
#include "harness/effort.h"
#include "harness/ranks.h"
#include "simd_guarded.h"
#include "simd_reference.h"

#define SOURCES_MAX 64
#define COUNT_MAX 4099
#define SLACK_BYTES 64

static const int source_counts[] = {1, 2, 3, 4, 5, 8, 9, 16, 64};
static const size_t counts[] = {0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 257, 1000, COUNT_MAX};
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const uint32_t specials_f32[] = {
    0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000,
    0x7f800001, 0xff800001, 0x7fbfffff, 0x7fffffff, 0xffffffff, 0x7fc12345, 0x00000001, 0x80000001,
    0x007fffff, 0x807fffff, 0x00800000, 0x80800000, 0x7f7fffff, 0xff7fffff, 0x73800000, 0xf3800000,
    0x3f800001, 0x33800000, 0x33800001, 0xb3800000, 0x4b7fffff, 0x34000000, 0x7f000000, 0xff000000,
};
static const uint32_t specials_f16[] = {
    0x0000, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0xfe00, 0x7c01, 0xfc01, 0x7dff,
    0x7fff, 0xffff, 0x7e55, 0x0001, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x8400, 0x7bff, 0xfbff,
    0x4c00, 0x4bff, 0x4c01, 0xcc00, 0x1000, 0x1001, 0x0fff, 0x9000, 0x7800, 0x3c01,
};
static const uint32_t specials_bf16[] = {
    0x0000, 0x8000, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc0, 0xffc0, 0x7f81, 0xff81, 0x7fbf,
    0x7fff, 0xffff, 0x7fd5, 0x0001, 0x8001, 0x007f, 0x807f, 0x0080, 0x8080, 0x7f7f, 0xff7f,
    0x7b00, 0x7aff, 0x7b01, 0xfb00, 0x3b80, 0x3b81, 0x3b7f, 0xbb80, 0x7f00, 0x3f81,
};
#define SPECIAL_COUNT 32
_Static_assert(LENGTH(specials_f32) == SPECIAL_COUNT && LENGTH(specials_f16) == SPECIAL_COUNT &&
                   LENGTH(specials_bf16) == SPECIAL_COUNT,
               "pairs are formed of them below");

static uint32_t special(size_t index, tutti_dtype dtype)
{
    const uint32_t *list = dtype == TUTTI_F32 ? specials_f32 : dtype == TUTTI_F16 ? specials_f16 : specials_bf16;
    return list[index % SPECIAL_COUNT];
}

/* A number whose exponent lies within `spread` of 1: sums of such round in many ways and stay finite. */
static uint32_t ordinary(uint64_t random, int spread, tutti_dtype dtype)
{
    double magnitude = ldexp(1.0 + (double)(random >> 12 & 0xffffff) / 0x1000000, (int)(random >> 40) % spread);
    return reference_encode((random & 1) != 0 ? -magnitude : magnitude, dtype);
}

/* What source s holds at index: first all pairs of special values in the first two sources, then by turns
 * ordinary numbers, numbers of wide range, tiny ones, one special among ordinary ones, and random bits. */
static uint32_t input(int s, size_t index, tutti_dtype dtype, uint64_t *state)
{
    uint64_t random = ranks_random(state);
    uint32_t bits = (uint32_t)(random >> 32) & (dtype == TUTTI_F32 ? 0xffffffffu : 0xffffu);
    if (index < SPECIAL_COUNT * SPECIAL_COUNT) {
        return s == 0   ? special(index / SPECIAL_COUNT, dtype)
               : s == 1 ? special(index, dtype)
                        : ordinary(random, 4, dtype);
    }
    switch (index % 6) {
    case 0:
    case 1:
        return ordinary(random, 3, dtype);
    case 2:
        return ordinary(random, 15, dtype);
    case 3: /* denormals and the smallest normals, of both signs */
        return bits & (dtype == TUTTI_F32 ? 0x81ffffffu : dtype == TUTTI_F16 ? 0x87ffu : 0x81ffu);
    case 4:
        return (index / 6) % SOURCES_MAX == (size_t)s ? special(random >> 20, dtype) : ordinary(random, 8, dtype);
    default:
        return bits;
    }
}

struct fixture {
    struct guarded sources[SOURCES_MAX], dst, second;
    unsigned char *values[SOURCES_MAX]; /* the inputs, as they were */
    unsigned char expected[COUNT_MAX * 4];
};

static void inputs_make(struct fixture *fixture, int source_count, tutti_dtype dtype, tutti_op op, uint64_t *state)
{
    for (int s = 0; s < source_count; s++) {
        for (size_t i = 0; i < COUNT_MAX; i++) {
            reference_store(fixture->values[s], i, input(s, i, dtype, state), dtype);
        }
    }
    for (size_t i = 0; i < COUNT_MAX; i++) {
        uint32_t bits = reference_reduce((const void *const *)fixture->values, source_count, i, dtype, op);
        reference_store(fixture->expected, i, bits, dtype);
    }
}

struct trial {
    const struct simd_table *table;
    tutti_dtype dtype;
    tutti_op op;
    int source_count;
    size_t count;
    enum place place;
    int in_place; /* which source dst is, or -1 */
    bool second, streaming;
};

static void compare(const struct trial *trial, const struct fixture *fixture, const unsigned char *result,
                    const char *which)
{
    size_t element_bytes = reference_bytes(trial->dtype);
    if (memcmp(result, fixture->expected, trial->count * element_bytes) == 0) {
        return;
    }
    for (size_t i = 0; i < trial->count; i++) {
        uint32_t got = reference_load(result, i, trial->dtype);
        uint32_t wanted = reference_load(fixture->expected, i, trial->dtype);
        CHECK(got == wanted,
              "%s, type %d, op %d, %d sources, %zu elements, place %d, in place %d, streaming %d: %s[%zu] is 0x%x, not "
              "0x%x (source 0: 0x%x)",
              trial->table->name, (int)trial->dtype, (int)trial->op, trial->source_count, trial->count,
              (int)trial->place, trial->in_place, (int)trial->streaming, which, i, got, wanted,
              reference_load(fixture->values[0], i, trial->dtype));
    }
}

/* Sources lie at different places, so that they are aligned differently from each other and from dst. */
static unsigned char *source_place(const struct trial *trial, const struct fixture *fixture, int s)
{
    enum place place = (enum place)(((int)trial->place + (s == trial->in_place ? 0 : s)) % PLACE_COUNT);
    size_t element_bytes = reference_bytes(trial->dtype);
    return guarded_place(&fixture->sources[s], trial->count * element_bytes, element_bytes, place);
}

static void trial_run(const struct trial *trial, struct fixture *fixture)
{
    size_t element_bytes = reference_bytes(trial->dtype);
    size_t bytes = trial->count * element_bytes;
    const void *sources[SOURCES_MAX];
    for (int s = 0; s < trial->source_count; s++) {
        unsigned char *source = source_place(trial, fixture, s);
        memcpy(source, fixture->values[s], bytes);
        sources[s] = source;
    }
    const struct guarded *dst_memory = trial->in_place < 0 ? &fixture->dst : &fixture->sources[trial->in_place];
    unsigned char *dst = guarded_place(dst_memory, bytes, element_bytes, trial->place);
    unsigned char *second = guarded_place(&fixture->second, bytes, element_bytes, PLACE_BEFORE_END);
    guarded_fill(dst_memory);
    guarded_fill(&fixture->second);
    if (trial->in_place >= 0) {
        memcpy(dst, fixture->values[trial->in_place], bytes);
    }

    trial->table->reduce(dst, trial->second ? second : NULL, sources, trial->source_count, trial->count, trial->dtype,
                         trial->op, trial->streaming);

    compare(trial, fixture, dst, "dst");
    guarded_check(dst_memory, dst, bytes);
    if (trial->second) {
        compare(trial, fixture, second, "second");
    }
    guarded_check(&fixture->second, second, trial->second ? bytes : 0);
    for (int s = 0; s < trial->source_count; s++) {
        CHECK(s == trial->in_place || memcmp(sources[s], fixture->values[s], bytes) == 0, "source %d was changed", s);
    }
}

/* All sources in place; with many of them, second, streaming and place go by turns. */
static void trials_run(struct trial trial, struct fixture *fixture)
{
    unsigned turn = 0;
    /* Odd, so that every variant has its turn. */
    unsigned step = trial.source_count <= 4 ? 1 : trial.count <= 65 ? 5 : 17;
    if (effort() == EFFORT_QUICK) {
        step = 17;
    }
    for (trial.in_place = -1; trial.in_place < trial.source_count; trial.in_place++) {
        for (unsigned variant = 0; variant < 4 * PLACE_COUNT; variant++, turn++) {
            if (trial.in_place >= 0 && turn % step != 0) {
                continue;
            }
            trial.second = (variant & 1) != 0;
            trial.streaming = (variant & 2) != 0;
            trial.place = (enum place)(variant / 4);
            trial_run(&trial, fixture);
        }
    }
}

static void table_run(const struct simd_table *table, tutti_dtype dtype, tutti_op op, int source_count,
                      struct fixture *fixture)
{
    for (size_t c = 0; c < LENGTH(counts); c++) {
        trials_run(
            (struct trial){.table = table, .dtype = dtype, .op = op, .source_count = source_count, .count = counts[c]},
            fixture);
    }
}

int main(void)
{
    static struct fixture fixture;
    uint64_t state = ranks_seed();
    const size_t bytes_max = COUNT_MAX * 4 + SLACK_BYTES;
    for (int s = 0; s < SOURCES_MAX; s++) {
        fixture.sources[s] = guarded_make(bytes_max);
        fixture.values[s] = guarded_make(bytes_max).start;
    }
    fixture.dst = guarded_make(bytes_max);
    fixture.second = guarded_make(bytes_max);

    struct float_environment saved;
    float_environment_enter(&saved);
    for (unsigned combination = 0; combination < 9; combination++) {
        tutti_dtype dtype = (tutti_dtype)(combination / 3);
        tutti_op op = (tutti_op)(combination % 3);
        for (size_t n = 0; n < LENGTH(source_counts); n++) {
            inputs_make(&fixture, source_counts[n], dtype, op, &state);
            bool usable = false;
            for (size_t t = 0; simd_table_at(t, &usable) != NULL; t++) {
                if (usable) {
                    table_run(simd_table_at(t, &usable), dtype, op, source_counts[n], &fixture);
                }
            }
        }
    }
    float_environment_leave(&saved);
    return 0;
}
