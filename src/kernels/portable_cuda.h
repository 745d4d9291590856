/* SPDX-License-Identifier: Apache-2.0 */
/* portable_cuda.h - portable.h for nvcc, sm_80 and later. PTX names are those of the PTX ISA, "Memory Consistency Model". */
#ifndef TUTTI_KERNELS_PORTABLE_CUDA_H
#define TUTTI_KERNELS_PORTABLE_CUDA_H

#define PORT_DEVICE static __device__ __forceinline__
#define PORT_COLD static __device__ __noinline__ /* keeps what is rarely run out of the hot loop's registers */
#define PORT_SHARED(type, name, count) __shared__ type name[count] /* an array that the block shares */
#define PORT_KERNEL(name) PORT_KERNEL_OF(struct kernel_arguments, name)
/* One that is launched with something else. */
#define PORT_KERNEL_OF(type, name)                                                                                     \
    extern "C" __global__ void __launch_bounds__(KERNEL_THREADS_MAX) name(const __grid_constant__ type arguments)
/* One that needs more registers: of half the threads, two blocks fit a multiprocessor with up to 128. */
#define PORT_KERNEL_LARGE(name)                                                                                        \
    extern "C" __global__ void __launch_bounds__(KERNEL_LARGE_THREADS_MAX, 2)                                          \
        name(const __grid_constant__ struct kernel_arguments arguments)

PORT_DEVICE uint32_t port_thread()
{
    return threadIdx.x;
}

PORT_DEVICE uint32_t port_threads()
{
    return blockDim.x;
}

PORT_DEVICE uint32_t port_block()
{
    return blockIdx.x;
}

PORT_DEVICE uint32_t port_blocks()
{
    return gridDim.x;
}

PORT_DEVICE void port_sync()
{
    __syncthreads();
}

/* Whether the end of a grid alone orders its stores before the grids that depend on it (docs/protocols-gpu.md). */
#define PORT_GRID_END_ORDERS 1

/* The barrier before a block counts itself out. */
PORT_DEVICE void port_sync_stored()
{
    __syncthreads();
}

/* Keeps the compiler from working the value out later, behind a wait. */
PORT_DEVICE void port_settle(uint64_t &value)
{
    asm volatile("" : "+l"(value));
}

/* True on all threads if true on any. Also a barrier. */
PORT_DEVICE bool port_sync_or(bool value)
{
    return __syncthreads_or(value) != 0;
}

/* OR over four neighbouring threads (4k .. 4k+3); all threads of the warp call it. */
PORT_DEVICE uint32_t port_or4(uint32_t value)
{
    value |= __shfl_xor_sync(0xffffffffu, value, 1);
    return value | __shfl_xor_sync(0xffffffffu, value, 2);
}

/* The value of thread 4k+3; all threads of the warp call it. */
PORT_DEVICE uint32_t port_last4(uint32_t value)
{
    return __shfl_sync(0xffffffffu, value, 3, 4);
}

PORT_DEVICE struct vec4 port_load_system4(const struct vec4 *from)
{
    struct vec4 value;
    asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(from)
                 : "memory");
    return value;
}

PORT_DEVICE void port_store_system4(struct vec4 *to, struct vec4 value)
{
    asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(value.x), "r"(value.y),
                 "r"(value.z), "r"(value.w)
                 : "memory");
}

PORT_DEVICE uint64_t port_load_system8(const uint64_t *from)
{
    uint64_t value;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
    return value;
}

PORT_DEVICE void port_store_system8(uint64_t *to, uint64_t value)
{
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}

PORT_DEVICE uint32_t port_load_system(const uint32_t *from)
{
    uint32_t value;
    asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    return value;
}

PORT_DEVICE void port_store_system(uint32_t *to, uint32_t value)
{
    asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

/* Store with release: whoever reads it with acquire sees what this thread wrote before. */
PORT_DEVICE void port_store_release_system(uint32_t *to, uint32_t value)
{
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

/* The same for 8 bytes; and a load with acquire: what was stored before the value that it sees is seen after it. */
PORT_DEVICE void port_store_release_system8(uint64_t *to, uint64_t value)
{
    asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}

PORT_DEVICE uint64_t port_load_acquire_system8(const uint64_t *from)
{
    uint64_t value;
    asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
    return value;
}

/* Orders what this thread stored and saw before it before what it stores and sees after it, for everybody. */
PORT_DEVICE void port_fence_system()
{
    asm volatile("fence.acq_rel.sys;" ::: "memory");
}

/* Claims a word that is 0 by writing 1. True for the one that claimed it. */
PORT_DEVICE bool port_claim_system(uint32_t *word)
{
    return atomicCAS_system(word, 0u, 1u) == 0u;
}

/* Counters of this rank alone: device scope. */
PORT_DEVICE uint64_t port_load_counter(const uint64_t *counter)
{
    uint64_t value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(counter) : "memory");
    return value;
}

PORT_DEVICE void port_add_counter(uint64_t *counter, uint64_t amount)
{
    asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(counter), "l"(amount) : "memory");
}

PORT_DEVICE uint64_t port_fetch_add_counter(uint64_t *counter, uint64_t amount)
{
    return atomicAdd(reinterpret_cast<unsigned long long *>(counter), (unsigned long long)amount);
}

PORT_DEVICE uint64_t port_clock_ns()
{
    uint64_t now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    return now;
}

/* Everything that was launched before has completed and is visible. */
PORT_DEVICE void port_wait_for_predecessor()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The successor may start (it still waits for our completion where it says so). */
PORT_DEVICE void port_let_successor_in()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* -- conversions: two 16-bit values of a word, low half first -- */

PORT_DEVICE float port_f16_to_f32(uint32_t bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"((unsigned short)bits));
    return value;
}

PORT_DEVICE uint32_t port_pack_f16(float low, float high)
{
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

PORT_DEVICE uint32_t port_pack_bf16(float low, float high)
{
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

PORT_DEVICE float port_float(uint32_t bits)
{
    return __uint_as_float(bits);
}

PORT_DEVICE uint32_t port_bits(float value)
{
    return __float_as_uint(value);
}

/* The sum, never contracted with anything. */
PORT_DEVICE float port_add(float a, float b)
{
    return __fadd_rn(a, b);
}

#endif
