/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of numbers: rank order in fp32, one rounding, NaN, infinities,
 * zeros, denormals; whatever the caller's floating-point environment, the
 * vector extension and the size of the message. */
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/values.h"
#include "tutti/host.h"

#define F32 TUTTI_F32
#define F16 TUTTI_F16
#define BF16 TUTTI_BF16
#define SUM TUTTI_SUM
#define MAX TUTTI_MAX
#define MIN TUTTI_MIN

/* Written out by hand, not computed: three ranks' inputs and the one result, in
 * bits. */
static const struct rule {
    const char *what;
    tutti_dtype dtype;
    tutti_op op;
    uint32_t inputs[3], result;
} rules[] = {
    {"rank order: (1e8 + 1) - 1e8 loses the 1", F32, SUM, {0x4cbebc20, 0x3f800000, 0xccbebc20}, 0x00000000},
    {"rank order: (1e8 - 1e8) + 1 keeps it", F32, SUM, {0x4cbebc20, 0xccbebc20, 0x3f800000}, 0x3f800000},
    {"a partial sum overflows and stays", F32, SUM, {0x7f7fffff, 0x7f7fffff, 0xff7fffff}, 0x7f800000},
    {"infinity less infinity", F32, SUM, {0x7f800000, 0xff800000, 0x3f800000}, 0x7fc00000},
    {"a signalling NaN with payload", F32, SUM, {0x3f800000, 0xff812345, 0x3f800000}, 0x7fc00000},
    {"NaN first", F32, SUM, {0xffffffff, 0x3f800000, 0x3f800000}, 0x7fc00000},
    {"denormals are numbers", F32, SUM, {0x00000001, 0x00000001, 0x00000001}, 0x00000003},
    {"normal less normal gives a denormal", F32, SUM, {0x00800001, 0x80800000, 0x00000000}, 0x00000001},
    {"-0 + -0 + -0", F32, SUM, {0x80000000, 0x80000000, 0x80000000}, 0x80000000},
    {"-0 + 0", F32, SUM, {0x80000000, 0x80000000, 0x00000000}, 0x00000000},
    {"max of zeros, +0 in the middle", F32, MAX, {0x80000000, 0x00000000, 0x80000000}, 0x00000000},
    {"max of zeros, +0 first", F32, MAX, {0x00000000, 0x80000000, 0x80000000}, 0x00000000},
    {"min of zeros, -0 in the middle", F32, MIN, {0x00000000, 0x80000000, 0x00000000}, 0x80000000},
    {"min of zeros, -0 last", F32, MIN, {0x00000000, 0x00000000, 0x80000000}, 0x80000000},
    {"max keeps NaN above infinity", F32, MAX, {0x7f800000, 0xffc00001, 0x3f800000}, 0x7fc00000},
    {"min keeps NaN below -infinity", F32, MIN, {0x7fa00000, 0xff800000, 0x3f800000}, 0x7fc00000},
    {"max, NaN last", F32, MAX, {0x3f800000, 0x40000000, 0x7fc00000}, 0x7fc00000},
    {"max of denormals", F32, MAX, {0x00000001, 0x00000002, 0x80000003}, 0x00000002},
    {"min of infinities", F32, MIN, {0x7f800000, 0x7f800000, 0xff800000}, 0xff800000},

    {"bf16: 256 + 1 + 1, rounded once", BF16, SUM, {0x4380, 0x3f80, 0x3f80}, 0x4381},
    {"bf16: 256 + 1 is a tie, to even", BF16, SUM, {0x4380, 0x3f80, 0x0000}, 0x4380},
    {"bf16: 258 + 1 is a tie, to even", BF16, SUM, {0x4381, 0x3f80, 0x0000}, 0x4382},
    {"bf16: overflow", BF16, SUM, {0x7f7f, 0x7f7f, 0x0000}, 0x7f80},
    {"bf16: NaN with payload", BF16, SUM, {0x3f80, 0xff81, 0x3f80}, 0x7fc0},
    {"bf16: denormals", BF16, SUM, {0x0001, 0x0001, 0x8003}, 0x8001},
    {"bf16: max of zeros", BF16, MAX, {0x8000, 0x0000, 0x8000}, 0x0000},
    {"bf16: min and NaN", BF16, MIN, {0x3f80, 0x7fff, 0xff80}, 0x7fc0},

    {"f16: 65504 + 15 rounds down", F16, SUM, {0x7bff, 0x4b80, 0x0000}, 0x7bff},
    {"f16: 65504 + 16 is a tie, to infinity", F16, SUM, {0x7bff, 0x4c00, 0x0000}, 0x7c00},
    {"f16: overflow on the way does not show", F16, SUM, {0x7bff, 0x7bff, 0xfbff}, 0x7bff},
    {"f16: 2048 + 1 + 1, rounded once", F16, SUM, {0x6800, 0x3c00, 0x3c00}, 0x6801},
    {"f16: 2048 + 1 is a tie, to even", F16, SUM, {0x6800, 0x3c00, 0x0000}, 0x6800},
    {"f16: denormals", F16, SUM, {0x0001, 0x0001, 0x83ff}, 0x83fd},
    {"f16: a denormal sum that becomes normal", F16, SUM, {0x03ff, 0x0001, 0x0000}, 0x0400},
    {"f16: infinity less infinity", F16, SUM, {0x7c00, 0xfc00, 0x0000}, 0x7e00},
    {"f16: max and NaN", F16, MAX, {0x7c00, 0xfe01, 0x0000}, 0x7e00},
    {"f16: min of zeros", F16, MIN, {0x0000, 0x8000, 0x0000}, 0x8000},
    {"f16: max of negatives", F16, MAX, {0xfc00, 0xc000, 0xbc00}, 0xbc00},
};

static void put(void *buffer, tutti_dtype dtype, size_t index, uint32_t bits)
{
    if (dtype == F32) {
        ((uint32_t *)buffer)[index] = bits;
    } else {
        ((uint16_t *)buffer)[index] = (uint16_t)bits;
    }
}

static uint32_t get(const void *buffer, tutti_dtype dtype, size_t index)
{
    return dtype == F32 ? ((const uint32_t *)buffer)[index] : ((const uint16_t *)buffer)[index];
}

#define COUNT_MAX 200003

static void check_rules(tutti_comm *comm, int rank)
{
    static const size_t counts[] = {1, 7, 64, 1023, 20001, COUNT_MAX};  /* vector tails, every protocol */
    size_t tried = ON_DEVICES ? 4 : sizeof(counts) / sizeof(counts[0]); /* simulated ones are slow */
    uint32_t *src = malloc(COUNT_MAX * sizeof(*src));
    uint32_t *dst = malloc(COUNT_MAX * sizeof(*dst));
    CHECK(src != NULL && dst != NULL, "no memory");
    for (size_t r = 0; r < sizeof(rules) / sizeof(rules[0]); r++) {
        const struct rule *rule = &rules[r];
        for (size_t c = 0; c < tried; c++) {
            for (size_t i = 0; i < counts[c]; i++) {
                put(src, rule->dtype, i, rule->inputs[rank]);
                put(dst, rule->dtype, i, ~rule->result);
            }
            CHECK_OK(tutti_all_reduce(comm, src, dst, counts[c], rule->dtype, rule->op, NULL));
            for (size_t i = 0; i < counts[c]; i++) {
                uint32_t got = get(dst, rule->dtype, i);
                CHECK(got == rule->result, "%s: element %zu of %zu is %#x, not %#x", rule->what, i, counts[c], got,
                      rule->result);
            }
        }
    }
    free(src);
    free(dst);
}

static void rules_hold(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    check_rules(comm, rank);
    tutti_comm_destroy(comm);
}

/* -- every half against many others
 * ------------------------------------------------------------------ */

static void every_half(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    static uint16_t src[65536];
    static uint16_t dst[65536];
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    for (uint32_t round = 0; round < (ON_DEVICES ? 1 : 16); round++) {
        for (int which = 0; which < 6; which++) {
            tutti_dtype dtype = which < 3 ? F16 : BF16;
            tutti_op op = (tutti_op)(which % 3);
            uint32_t factor = 2 * round * 4099 + 1; /* odd: a permutation of all patterns */
            for (uint32_t i = 0; i < 65536; i++) {
                src[i] = (uint16_t)(rank == 0 ? i : i * factor + round * 977);
            }
            CHECK_OK(tutti_all_reduce(comm, src, dst, 65536, dtype, op, NULL));
            for (uint32_t i = 0; i < 65536; i++) {
                uint32_t inputs[2] = {i, (i * factor + round * 977) & 0xffffu};
                uint32_t expected = values_reduce(dtype, op, inputs, 2);
                CHECK(dst[i] == expected, "%s, operator %d of %#x and %#x is %#x, not %#x",
                      dtype == F16 ? "f16" : "bf16", (int)op, inputs[0], inputs[1], dst[i], expected);
            }
        }
    }
    tutti_comm_destroy(comm);
}

/* -- the caller's floating-point environment
 * --------------------------------------------------------- */

static void odd_environment(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    /* Each rank another one: the bits must not depend on whose thread does the
   * sum. */
    static const int roundings[] = {FE_UPWARD, FE_TOWARDZERO, FE_DOWNWARD};
    CHECK(fesetround(roundings[rank]) == 0, "rounding mode");
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040u); /* flush denormal results to zero, take
                                         denormal inputs as zero */
    unsigned before = _mm_getcsr() & 0xffc0u;
#endif
    (void)feclearexcept(FE_ALL_EXCEPT);
    check_rules(comm, rank);
    CHECK(fegetround() == roundings[rank], "the caller's rounding mode was changed");
#if defined(__x86_64__)
    CHECK((_mm_getcsr() & 0xffc0u) == before, "the caller's MXCSR was changed");
#endif
    tutti_comm_destroy(comm);
}

/* -- vector extensions
 * ---------------------------------------------------------------------------------
 */

static const char *const extensions[] = {"portable", "avx2", "avx512"};

struct hashes {
    uint64_t of[3][9];
    int extension;
};

static void one_extension(int rank, int world, const char *rendezvous, void *user)
{
    struct hashes *hashes = user;
    CHECK(setenv("TUTTI_HOST_SIMD", extensions[hashes->extension], 1) == 0, "setenv");
    tutti_comm_options options = {
        .struct_bytes = sizeof(options), .backend = "host", .rank = rank, .world = world, .rendezvous = rendezvous};
    tutti_comm *comm = NULL;
    tutti_status status = tutti_comm_create(&options, &comm);
    if (status == TUTTI_ERR_UNSUPPORTED) {
        CHECK(strstr(tutti_last_error(), extensions[hashes->extension]) != NULL, "%s", tutti_last_error());
        return;
    }
    CHECK_OK(status);
    static uint32_t src[100003];
    static uint32_t dst[100003];
    for (int which = 0; which < 9; which++) {
        tutti_dtype dtype = (tutti_dtype)(which % 3);
        tutti_op op = (tutti_op)(which / 3);
        uint64_t number = 4; /* a call with NaN, infinities, zeros and denormals */
        size_t special = 0;
        while (special == 0) {
            number++;
            for (size_t i = 0; i < 1000; i++) {
                special += isnan(values_to_float(dtype, values_element(dtype, number, 0, i))) ? 1 : 0;
            }
        }
        values_fill(src, dtype, number, rank, 0, 100003);
        CHECK_OK(tutti_all_reduce(comm, src, dst, 100003, dtype, op, NULL));
        CHECK(values_check(dst, dtype, op, number, world, 0, 100003), "%s", extensions[hashes->extension]);
        if (rank == 0) {
            hashes->of[hashes->extension][which] = values_hash(dst, 100003 * tutti_dtype_bytes(dtype));
        }
    }
    tutti_comm_destroy(comm);
}

static void extensions_agree(void)
{
    struct hashes *hashes = mmap(NULL, sizeof(*hashes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(hashes != MAP_FAILED, "no shared page");
    for (hashes->extension = 0; hashes->extension < 3; hashes->extension++) {
        const char *name = extensions[hashes->extension];
        ranks_run(RANKS_PROCESSES, 3, 60, one_extension, hashes);
        bool ran = hashes->of[hashes->extension][0] != 0;
        printf("%s: %s\n", name, ran ? "ran" : "not on this machine");
        for (int which = 0; ran && which < 9; which++) {
            CHECK(hashes->of[hashes->extension][which] == hashes->of[0][which], "%s has other bits than portable",
                  name);
        }
    }
    CHECK(hashes->of[0][0] != 0, "the portable table must run everywhere");
}

int main(void)
{
    if (!ON_DEVICES) {
        extensions_agree();
    }
    ranks_run(RANKS_PROCESSES, 3, 60, rules_hold, NULL);
    ranks_run(RANKS_THREADS, 3, 60, rules_hold, NULL);
    ranks_run(RANKS_PROCESSES, 3, 60, odd_environment, NULL);
    ranks_run(RANKS_THREADS, 3, 60, odd_environment, NULL);
    ranks_run(RANKS_PROCESSES, 2, 60, every_half, NULL);
    return 0;
}
