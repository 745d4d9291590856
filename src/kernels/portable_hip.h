/* SPDX-License-Identifier: Apache-2.0 */
/*
 * portable_hip.h - portable.h for clang's AMD target, gfx90a and gfx942, with the compiler's builtins alone. Orders and scopes
 * are those of LLVM's AMDGPU memory model.
 *
 * The arena is uncached memory, so that a relaxed access of system scope goes to where every device sees it. Wavefronts have
 * 64 lanes; what the kernels exchange between lanes stays within four neighbours.
 */
#ifndef TUTTI_KERNELS_PORTABLE_HIP_H
#define TUTTI_KERNELS_PORTABLE_HIP_H

#define PORT_DEVICE static inline __attribute__((device, always_inline))
/* Inlined all the same: a call would need a stack, and with it scratch memory for every kernel. */
#define PORT_COLD PORT_DEVICE
#define PORT_SHARED(type, name, count) static __attribute__((device, shared)) type name[count]
/* Parameters are read where the hardware puts them: a copy on the stack, indexed by rank, would be scratch memory. */
#define PORT_KERNEL(name) PORT_KERNEL_OF(struct kernel_arguments, name)
#define PORT_KERNEL_LARGE(name) PORT_KERNEL_BOUND(struct kernel_arguments, name, KERNEL_LARGE_THREADS_MAX)
#define PORT_KERNEL_OF(type, name) PORT_KERNEL_BOUND(type, name, KERNEL_THREADS_MAX)
/* Of any kernel, two blocks fit a compute unit: of each, one of its four SIMDs has threads / 256 waves. */
#define PORT_KERNEL_BOUND(type, name, threads)                                                                         \
    PORT_DEVICE void name##_body(const type &arguments);                                                               \
    extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, threads),                                         \
                              amdgpu_waves_per_eu(2 * (threads) / 256))) void                                          \
    name(type)                                                                                                         \
    {                                                                                                                  \
        name##_body(*(const type *)__builtin_amdgcn_kernarg_segment_ptr());                                            \
    }                                                                                                                  \
    PORT_DEVICE void name##_body(const type &arguments)

PORT_DEVICE uint32_t port_thread()
{
    return __builtin_amdgcn_workitem_id_x();
}

PORT_DEVICE uint32_t port_threads()
{
    return __builtin_amdgcn_workgroup_size_x();
}

PORT_DEVICE uint32_t port_block()
{
    return __builtin_amdgcn_workgroup_id_x();
}

PORT_DEVICE uint32_t port_blocks()
{
    return __builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x();
}

PORT_DEVICE void port_sync()
{
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

/* The end of a grid would do on NVIDIA; here it is made sure of: every thread's stores have been performed when this barrier, the
 * last one before a block counts itself out, lets it through, so that none of them can be overtaken by the count. */
#define PORT_GRID_END_ORDERS 0

PORT_DEVICE void port_sync_stored()
{
    asm volatile("s_waitcnt vmcnt(0)" ::: "memory");
    port_sync();
}

PORT_DEVICE void port_settle(uint64_t &)
{
}

/* True on all threads if true on any. Also a barrier as port_sync_stored. */
PORT_DEVICE bool port_sync_or(bool value)
{
    static __attribute__((device, shared)) uint32_t any;
    port_sync_stored();
    if (port_thread() == 0) {
        any = 0;
    }
    port_sync();
    if (value) {
        __hip_atomic_store(&any, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
    }
    port_sync();
    return any != 0;
}

/* Lane movements within four neighbours: two bits a lane, where it reads from. */
#define QUAD_SWAP_PAIR 0xb1   /* 1 0 3 2 */
#define QUAD_SWAP_HALVES 0x4e /* 2 3 0 1 */
#define QUAD_LAST 0xff        /* 3 3 3 3 */
#define QUAD_MOVE(value, how) ((uint32_t)__builtin_amdgcn_mov_dpp((int)(value), how, 0xf, 0xf, true))

/* OR over four neighbouring threads (4k .. 4k+3); all of them call it. */
PORT_DEVICE uint32_t port_or4(uint32_t value)
{
    value |= QUAD_MOVE(value, QUAD_SWAP_PAIR);
    return value | QUAD_MOVE(value, QUAD_SWAP_HALVES);
}

/* The value of thread 4k+3; all four call it. */
PORT_DEVICE uint32_t port_last4(uint32_t value)
{
    return QUAD_MOVE(value, QUAD_LAST);
}

PORT_DEVICE uint64_t port_load_system8(const uint64_t *from)
{
    return __hip_atomic_load(from, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

PORT_DEVICE void port_store_system8(uint64_t *to, uint64_t value)
{
    __hip_atomic_store(to, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

/* The memory model has no 16-byte accesses: two of 8. */
PORT_DEVICE struct vec4 port_load_system4(const struct vec4 *from)
{
    const uint64_t *words = reinterpret_cast<const uint64_t *>(from);
    uint64_t low = port_load_system8(words);
    uint64_t high = port_load_system8(words + 1);
    struct vec4 value = {(uint32_t)low, (uint32_t)(low >> 32), (uint32_t)high, (uint32_t)(high >> 32)};
    return value;
}

PORT_DEVICE void port_store_system4(struct vec4 *to, struct vec4 value)
{
    uint64_t *words = reinterpret_cast<uint64_t *>(to);
    port_store_system8(words, (uint64_t)value.y << 32 | value.x);
    port_store_system8(words + 1, (uint64_t)value.w << 32 | value.z);
}

PORT_DEVICE uint32_t port_load_system(const uint32_t *from)
{
    return __hip_atomic_load(from, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

PORT_DEVICE void port_store_system(uint32_t *to, uint32_t value)
{
    __hip_atomic_store(to, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

/* Store with release: whoever reads it with acquire sees what this thread wrote before. */
PORT_DEVICE void port_store_release_system(uint32_t *to, uint32_t value)
{
    __hip_atomic_store(to, value, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_SYSTEM);
}

/* The same for 8 bytes; and a load with acquire: what was stored before the value that it sees is seen after it. */
PORT_DEVICE void port_store_release_system8(uint64_t *to, uint64_t value)
{
    __hip_atomic_store(to, value, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_SYSTEM);
}

PORT_DEVICE uint64_t port_load_acquire_system8(const uint64_t *from)
{
    return __hip_atomic_load(from, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_SYSTEM);
}

/* Orders what this thread stored and saw before it before what it stores and sees after it, for everybody. */
PORT_DEVICE void port_fence_system()
{
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "");
}

/* Claims a word that is 0 by writing 1. True for the one that claimed it. */
PORT_DEVICE bool port_claim_system(uint32_t *word)
{
    uint32_t expected = 0;
    return __hip_atomic_compare_exchange_strong(word, &expected, 1u, __ATOMIC_RELAXED, __ATOMIC_RELAXED,
                                                __HIP_MEMORY_SCOPE_SYSTEM);
}

/* Counters of this rank alone: device scope. */
PORT_DEVICE uint64_t port_load_counter(const uint64_t *counter)
{
    return __hip_atomic_load(counter, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

PORT_DEVICE void port_add_counter(uint64_t *counter, uint64_t amount)
{
    (void)__hip_atomic_fetch_add(counter, amount, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

PORT_DEVICE uint64_t port_fetch_add_counter(uint64_t *counter, uint64_t amount)
{
    return __hip_atomic_fetch_add(counter, amount, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

/* The constant clock ticks at 100 MHz. */
PORT_DEVICE uint64_t port_clock_ns()
{
    return __builtin_amdgcn_s_memrealtime() * 10;
}

/* Programmatic launch is NVIDIA's; the host never asks for it here. */
PORT_DEVICE void port_wait_for_predecessor()
{
}

PORT_DEVICE void port_let_successor_in()
{
}

/* -- conversions: two 16-bit values of a word, low half first -- */

PORT_DEVICE float port_float(uint32_t bits)
{
    return __builtin_bit_cast(float, bits);
}

PORT_DEVICE uint32_t port_bits(float value)
{
    return __builtin_bit_cast(uint32_t, value);
}

PORT_DEVICE float port_f16_to_f32(uint32_t bits)
{
    return (float)__builtin_bit_cast(_Float16, (uint16_t)bits);
}

PORT_DEVICE uint32_t port_pack_f16(float low, float high)
{
    return __builtin_bit_cast(uint16_t, (_Float16)low) | (uint32_t) __builtin_bit_cast(uint16_t, (_Float16)high) << 16;
}

/* To nearest even. NaN comes out as anything: the caller replaces it. */
PORT_DEVICE uint32_t port_round_bf16(float value)
{
    uint32_t bits = port_bits(value);
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

PORT_DEVICE uint32_t port_pack_bf16(float low, float high)
{
    return port_round_bf16(low) | port_round_bf16(high) << 16;
}

/* The sum, never contracted with anything (-ffp-contract=off). */
PORT_DEVICE float port_add(float a, float b)
{
    return a + b;
}

#endif
