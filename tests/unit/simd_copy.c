/* SPDX-License-Identifier: Apache-2.0 */
/* Every table's copy: all small sizes and some large ones, any alignment, between inaccessible pages. */
#include "device/host/simd/simd.h"
#include "harness/ranks.h"
#include "simd_guarded.h"

#define BYTES_MAX ((size_t)70001)

static void copy_check(const struct simd_table *table, const struct guarded *from, const struct guarded *to,
                       size_t bytes, bool streaming)
{
    for (int place = PLACE_START; place < PLACE_COUNT; place++) {
        for (int other = PLACE_START; other < PLACE_COUNT; other++) {
            const unsigned char *src = guarded_place(from, bytes, 1, (enum place)place);
            unsigned char *dst = guarded_place(to, bytes, 5, (enum place)other);
            guarded_fill(to);
            table->copy(dst, src, bytes, streaming);
            CHECK(memcmp(dst, src, bytes) == 0, "%s: %zu bytes, streaming %d", table->name, bytes, (int)streaming);
            guarded_check(to, dst, bytes);
        }
    }
}

int main(void)
{
    static const size_t sizes[] = {1000, 4095, 4096, 4097, 20000, BYTES_MAX};
    uint64_t state = ranks_seed();
    struct guarded small_from = guarded_make(4000);
    struct guarded small_to = guarded_make(4000);
    struct guarded from = guarded_make(BYTES_MAX + 64);
    struct guarded to = guarded_make(BYTES_MAX + 64);
    for (size_t i = 0; i < from.bytes; i++) {
        from.start[i] = (unsigned char)ranks_random(&state);
        small_from.start[i % small_from.bytes] = from.start[i];
    }
    bool usable = false;
    for (size_t t = 0; simd_table_at(t, &usable) != NULL; t++) {
        const struct simd_table *table = simd_table_at(t, &usable);
        for (size_t bytes = 0; usable && bytes <= 600; bytes++) {
            copy_check(table, &small_from, &small_to, bytes, bytes % 2 != 0);
            copy_check(table, &small_from, &small_to, bytes, bytes % 2 == 0);
        }
        for (size_t s = 0; usable && s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            copy_check(table, &from, &to, sizes[s], false);
            copy_check(table, &from, &to, sizes[s], true);
        }
    }
    return 0;
}
