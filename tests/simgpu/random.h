/* SPDX-License-Identifier: Apache-2.0 */
/* random.h - the one source of chance of a run: a seed reproduces it. */
#ifndef TESTS_SIMGPU_RANDOM_H
#define TESTS_SIMGPU_RANDOM_H

#include <stdint.h>

namespace simgpu
{

struct random {
    uint64_t state;

    uint64_t next()
    {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }

    /* 0 .. bound-1; bound > 0. */
    uint32_t below(uint64_t bound)
    {
        return (uint32_t)((next() >> 32) * bound >> 32);
    }

    /* True `per_64k` times of 65536. */
    bool chance(uint32_t per_64k)
    {
        return per_64k != 0 && (next() >> 48) < per_64k;
    }
};

} // namespace simgpu

#endif
