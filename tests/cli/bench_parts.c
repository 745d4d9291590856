/* SPDX-License-Identifier: Apache-2.0 */
/* The bench judges libraries, so it is judged first: its checks see every kind of wrong result, its times are what
 * bench.c says, and its sizes are what was asked for. */
#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "tools/tutti/bench_options.h"
#include "tools/tutti/bench_time.h"
#include "tools/tutti/bench_values.h"

#define COUNT 2500 /* more than one block, and not a whole number of them */

static float decode(tutti_dtype dtype, const void *from, size_t index)
{
    uint16_t half = 0;
    uint32_t word = 0;
    float value = 0;
    if (dtype == TUTTI_F32) {
        memcpy(&value, (const char *)from + 4 * index, 4);
        return value;
    }
    memcpy(&half, (const char *)from + 2 * index, 2);
    if (dtype == TUTTI_BF16) {
        word = (uint32_t)half << 16;
        memcpy(&value, &word, sizeof(value));
        return value;
    }
    int exponent = (half >> 10) & 31;
    float scale = 1; /* positive normal numbers and zero are all there are */
    for (int i = exponent; i < 25; i++) {
        scale /= 2;
    }
    for (int i = exponent; i > 25; i--) {
        scale *= 2;
    }
    return half == 0 ? 0 : scale * (float)((half & 1023) + 1024);
}

/* What a library gives that adds one rank after another and rounds each time, as MPI may; encoded by the fill of a
 * world where it is exact. */
static void check_sums(tutti_dtype dtype, int ranks)
{
    static uint32_t inputs[64][COUNT];
    static uint32_t output[COUNT];
    size_t element_bytes = dtype == TUTTI_F32 ? 4 : 2;
    float largest = dtype == TUTTI_F32 ? 16777216.0f : dtype == TUTTI_F16 ? 2048.0f : 256.0f;
    float seen = 0;
    for (int rank = 0; rank < ranks; rank++) {
        bench_values_fill(dtype, ranks, 77, rank, 5, inputs[rank], COUNT);
    }
    for (size_t i = 0; i < COUNT; i++) {
        float sum = 0;
        for (int rank = 0; rank < ranks; rank++) {
            sum += decode(dtype, inputs[rank], i);
        }
        CHECK(sum <= largest, "%d ranks: %g is not exact", ranks, (double)sum);
        seen = sum > seen ? sum : seen;
        uint32_t word = 0;
        memcpy(&word, &sum, sizeof(word));
        if (dtype == TUTTI_F32) {
            output[i] = word;
        } else if (dtype == TUTTI_BF16) {
            CHECK((word & 0xffff) == 0, "%g has more digits than bf16", (double)sum);
            ((uint16_t *)(void *)output)[i] = (uint16_t)(word >> 16);
        } else {
            CHECK((word & 0x1fff) == 0, "%g has more digits than f16", (double)sum);
            uint32_t half = word == 0 ? 0 : (word >> 13) - ((127 - 15) << 10);
            ((uint16_t *)(void *)output)[i] = (uint16_t)half;
        }
    }
    CHECK(seen > 0, "all sums are zero");
    CHECK(bench_values_wrong_sum(dtype, ranks, 77, 5, output, COUNT) == 0, "type %d, %d ranks", (int)dtype, ranks);
    ((unsigned char *)output)[1234 * element_bytes] ^= 1; /* one bit */
    CHECK(bench_values_wrong_sum(dtype, ranks, 77, 5, output, COUNT) == 1, "type %d, %d ranks", (int)dtype, ranks);
}

/* Data of another call, another rank or another place must not pass; random small numbers agree by chance now and then,
 * so "most" is asked. */
static void check_mistakes(tutti_dtype dtype, int ranks)
{
    static uint32_t data[COUNT];
    bench_values_fill(dtype, ranks, 9, 1, 0, data, COUNT);
    CHECK(bench_values_wrong(dtype, ranks, 9, 1, 0, data, COUNT) == 0, "the right values");
    CHECK(bench_values_wrong(dtype, ranks, 8, 1, 0, data, COUNT) > COUNT / 4, "the call before");
    CHECK(bench_values_wrong(dtype, ranks, 10, 1, 0, data, COUNT) > COUNT / 4, "the next call");
    CHECK(bench_values_wrong(dtype, ranks, 9, 0, 0, data, COUNT) > COUNT / 4, "another rank");
    for (uint64_t shift = 1; shift <= 64; shift++) {
        CHECK(bench_values_wrong(dtype, ranks, 9, 1, shift, data, COUNT) > COUNT / 50, "shifted by %" PRIu64, shift);
    }
    memset(data, 0, sizeof(data));
    CHECK(bench_values_wrong(dtype, ranks, 9, 1, 0, data, COUNT) > COUNT / 2, "nothing was written");
}

static void check_times(void)
{
    /* Two ranks, one batch of four calls; the slower rank changes. */
    uint64_t stamps[] = {1000, 3000, 4000, 9000, /* rank 0 */
                         2000, 2500, 6000, 8000 /* rank 1 */};
    struct bench_stamps found = {.per_rank = 4, .by_rank = stamps};
    struct bench_order order = {.loop = BENCH_LOOP_TIGHT, .slots = 4, .batches = 1};
    double scratch[8];
    struct bench_times times = bench_time_calls(&order, &found, 2, scratch); /* at 2, 3, 6, 9 us: 1, 3 and 3 */
    CHECK(times.samples == 3 && times.us_p50 == 3 && times.us_p99 == 3, "%g %g", times.us_p50, times.us_p99);
    order = (struct bench_order){.loop = BENCH_LOOP_GRAPH, .slots = 10, .batches = 2};
    times = bench_time_calls(&order, &found, 2, scratch); /* 2 to 3 us, then 6 to 9, ten calls each */
    CHECK(times.samples == 2 && times.us_p50 == 0.1 && times.us_p99 == 0.3, "%g %g", times.us_p50, times.us_p99);
    order = (struct bench_order){.loop = BENCH_LOOP_ALONE, .slots = 10, .batches = 2};
    times = bench_time_calls(&order, &found, 2, scratch);
    CHECK(times.samples == 2 && times.us_p50 == 1 && times.us_p99 == 3, "%g %g", times.us_p50, times.us_p99);
    order = (struct bench_order){.loop = BENCH_LOOP_COPY, .slots = 2, .batches = 2, .copiers = 1, .copy_passes = 5};
    double copy = bench_time_copy(&order, &found, 4, scratch); /* rank 0: 2 and 5 us for 10 copies; 4 ranks a core */
    CHECK(copy > 1.399 && copy < 1.401, "%g", copy);
    CHECK(bench_time_copies(TUTTI_ALL_REDUCE, 2) == 2, "two memcpy at two ranks");
}

static void check_sizes(const char *text, const char *want)
{
    uint64_t sizes[BENCH_SIZES_MAX];
    size_t count = 0;
    char sentence[256];
    char got[512] = "";
    CHECK(bench_sizes_parse(text, sizes, &count, sentence, sizeof(sentence)) == 0, "%s: %s", text, sentence);
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(got);
        (void)snprintf(got + used, sizeof(got) - used, "%" PRIu64 " ", sizes[i]);
    }
    CHECK(strcmp(got, want) == 0, "%s: %s", text, got);
}

int main(void)
{
    static const tutti_dtype dtypes[] = {TUTTI_F32, TUTTI_F16, TUTTI_BF16};
    static const int worlds[] = {1, 2, 3, 8, 37, 64};
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < sizeof(worlds) / sizeof(worlds[0]); j++) {
            check_sums(dtypes[i], worlds[j]);
            check_mistakes(dtypes[i], worlds[j]);
        }
    }
    check_times();
    check_sizes("4096", "4096 ");
    check_sizes("1K:16K", "1024 2048 4096 8192 16384 ");
    check_sizes("1k:1m:x16", "1024 16384 262144 ");
    check_sizes("1K,3K,1M", "1024 3072 1048576 ");
    check_sizes("3:10,1G", "3 6 1073741824 ");
    return 0;
}
