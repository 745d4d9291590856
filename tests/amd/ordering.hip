/* SPDX-License-Identifier: Apache-2.0 */
/* ordering.hip - each memory access of kernels/portable.h in a kernel of its own, for ordering.sh to look at. */
#include "kernels/portable.h"

#define KERNEL(name)                                                                                                   \
    extern "C" __attribute__((global)) void name(uint64_t *pair, struct vec4 *vector, uint32_t *word, uint64_t value)

KERNEL(load_vector)
{
    struct vec4 loaded = port_load_system4(vector);
    word[0] = loaded.x ^ loaded.y ^ loaded.z ^ loaded.w;
}

KERNEL(store_vector)
{
    struct vec4 stored = {(uint32_t)value, 1, 2, 3};
    port_store_system4(vector, stored);
}

KERNEL(load_pair)
{
    pair[1] = port_load_system8(pair);
}

KERNEL(store_pair)
{
    port_store_system8(pair, value);
}

KERNEL(load_word)
{
    word[1] = port_load_system(word);
}

KERNEL(store_word)
{
    port_store_system(word, (uint32_t)value);
}

KERNEL(store_release)
{
    vector->x = 1;
    port_store_release_system(word, 2);
}

KERNEL(store_release_pair)
{
    vector->x = 1;
    port_store_release_system8(pair, value);
}

KERNEL(load_acquire_pair)
{
    uint64_t flag = port_load_acquire_system8(pair);
    pair[2] = flag + pair[1];
}

KERNEL(fence)
{
    vector->x = 1;
    port_fence_system();
    port_store_system(word, 2);
}

KERNEL(claim)
{
    word[1] = port_claim_system(word);
}

KERNEL(load_counter)
{
    pair[1] = port_load_counter(pair);
}

KERNEL(add_counter)
{
    port_add_counter(pair, value);
}

KERNEL(fetch_add_counter)
{
    pair[1] = port_fetch_add_counter(pair, value);
}

KERNEL(sync_stored)
{
    vector->x = 1;
    port_sync_stored();
    port_add_counter(pair, value);
}
