/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What communicators take of a device's places, so that no two grids that wait for peers keep each other from starting: never more in
 * all than the greediest one's kernels allow, the whole of a grid for the first, something for each of several after it, and all of
 * it back. In random order, with kernels of which one, two or three blocks fit a multiprocessor.
 */
#include <stdlib.h>

#include "device/gpu/gpu_device.h"
#include "harness/check.h"
#include "harness/ranks.h"

#define MULTIPROCESSORS 132u
#define GROUPS 12

struct holding {
    unsigned places, blocks;
};

static void check_first_ones(void)
{
    static const unsigned wanted[] = {128, 64, 32, 16, 8, 8};
    struct device device = {.blocks_promised = 0};
    for (size_t index = 0; index < sizeof(wanted) / sizeof(wanted[0]); index++) {
        const unsigned got = gpu_device_blocks_take(&device, 2 * MULTIPROCESSORS, 128);
        CHECK(got == wanted[index], "communicator %zu of a device of %u multiprocessors has %u blocks, not %u", index,
              MULTIPROCESSORS, got, wanted[index]);
    }
}

static void check_sum(const struct holding *holdings)
{
    unsigned sum = 0, least = UINT32_MAX;
    for (int index = 0; index < GROUPS; index++) {
        const struct holding *holding = &holdings[index];
        sum += holding->blocks;
        least = holding->blocks != 0 && holding->places < least ? holding->places : least;
    }
    CHECK(sum <= least, "%u blocks are promised where only %u fit beside each other", sum, least);
}

static void check_random(uint64_t *random)
{
    struct device device = {.blocks_promised = 0};
    struct holding holdings[GROUPS] = {{0, 0}};
    for (int step = 0; step < 300; step++) {
        struct holding *holding = &holdings[ranks_random(random) % GROUPS];
        if (holding->blocks != 0) {
            gpu_device_blocks_return(&device, holding->blocks);
            *holding = (struct holding){0, 0};
            continue;
        }
        const unsigned wanted = (1u << ranks_random(random) % 8) * (1 + (unsigned)(ranks_random(random) % 3));
        holding->places = MULTIPROCESSORS * (1 + (unsigned)(ranks_random(random) % 3));
        holding->blocks = gpu_device_blocks_take(&device, holding->places, wanted);
        CHECK(holding->blocks <= wanted, "%u blocks for %u wanted", holding->blocks, wanted);
        check_sum(holdings);
    }
    for (int index = 0; index < GROUPS; index++) {
        gpu_device_blocks_return(&device, holdings[index].blocks);
    }
    CHECK(device.blocks_promised == 0, "%u blocks were not given back", device.blocks_promised);
    CHECK(gpu_device_blocks_take(&device, 2 * MULTIPROCESSORS, 128) == 128, "an empty device has places for a grid");
}

int main(void)
{
    uint64_t random = ranks_seed();
    check_first_ones();
    for (int round = 0; round < 200; round++) {
        check_random(&random);
    }
    return 0;
}
