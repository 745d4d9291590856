/* SPDX-License-Identifier: Apache-2.0 */
/*
 * portable_simulated.h - portable.h for the simulated GPU of the tests: C++17 on the CPU, a fiber a thread.
 *
 * Every function that touches what others also touch is a point at which the simulation may run somebody else; what
 * these accesses may do to each other is the business of tests/simgpu/memory.h.
 */
#ifndef TUTTI_KERNELS_PORTABLE_SIMULATED_H
#define TUTTI_KERNELS_PORTABLE_SIMULATED_H

#include <string.h>

/* Where the running fiber is in its grid. */
struct simulated_place {
    uint32_t thread, threads, block, blocks;
};

enum simulated_order { SIMULATED_RELAXED, SIMULATED_ACQUIRE, SIMULATED_RELEASE };

/* Who may look at an access: this rank's device alone, or everybody. */
enum simulated_scope { SIMULATED_DEVICE, SIMULATED_SYSTEM };

extern "C" {
extern __thread const struct simulated_place *simulated_here;

/* `bytes`: 4 and 8 are single accesses; 16 are four of 4 bytes. */
void simulated_load(const void *from, void *value, uint32_t bytes, enum simulated_order, enum simulated_scope);
void simulated_store(void *to, const void *value, uint32_t bytes, enum simulated_order, enum simulated_scope);
bool simulated_claim(uint32_t *word);
void simulated_fence();
void simulated_add(uint64_t *counter, uint64_t amount);
uint64_t simulated_fetch_add(uint64_t *counter, uint64_t amount);
bool simulated_barrier(bool value);
/* The values of threads 4k .. 4k+3. */
void simulated_exchange4(uint32_t value, uint32_t values[4]);
uint64_t simulated_clock_ns(void);
void simulated_wait_for_predecessor(void);
void simulated_let_successor_in(void);
/* The block's memory for the array that `key` stands for; garbage at first. */
void *simulated_shared(const void *key, uint64_t bytes);
/* Makes a kernel known by name, when the program starts, of how many bytes its arguments are, and how many threads a block of it
 * has at most. */
void simulated_register(const char *name, void (*kernel)(const struct kernel_arguments &arguments), uint32_t bytes,
                        uint32_t threads);
}

#define PORT_DEVICE [[maybe_unused]] static inline
#define PORT_COLD [[maybe_unused]] static
#define PORT_SHARED(type, name, count)                                                                                 \
    static const char name##_key = 0;                                                                                  \
    type *const name = static_cast<type *>(simulated_shared(&name##_key, sizeof(type) * (count)))
#define PORT_KERNEL(name) PORT_KERNEL_BOUND(name, KERNEL_THREADS_MAX)
#define PORT_KERNEL_LARGE(name) PORT_KERNEL_BOUND(name, KERNEL_LARGE_THREADS_MAX)
#define PORT_KERNEL_BOUND(name, threads)                                                                               \
    extern "C" void name(const struct kernel_arguments &arguments);                                                    \
    static const struct simulated_entry name##_entry(#name, name, sizeof(struct kernel_arguments), threads);           \
    extern "C" void name(const struct kernel_arguments &arguments)
/* Launches carry struct kernel_arguments, of which this kernel's are the first bytes. */
#define PORT_KERNEL_OF(type, name)                                                                                     \
    static void name##_body(const type &arguments);                                                                    \
    extern "C" void name(const struct kernel_arguments &launched)                                                      \
    {                                                                                                                  \
        static_assert(sizeof(type) <= sizeof(launched), "it fits");                                                    \
        type arguments;                                                                                                \
        memcpy(&arguments, &launched, sizeof(arguments));                                                              \
        name##_body(arguments);                                                                                        \
    }                                                                                                                  \
    static const struct simulated_entry name##_entry(#name, name, sizeof(type), KERNEL_THREADS_MAX);                   \
    static void name##_body(const type &arguments)

struct simulated_entry {
    simulated_entry(const char *name, void (*kernel)(const struct kernel_arguments &arguments), uint32_t bytes,
                    uint32_t threads)
    {
        simulated_register(name, kernel, bytes, threads);
    }
};

PORT_DEVICE uint32_t port_thread()
{
    return simulated_here->thread;
}

PORT_DEVICE uint32_t port_threads()
{
    return simulated_here->threads;
}

PORT_DEVICE uint32_t port_block()
{
    return simulated_here->block;
}

PORT_DEVICE uint32_t port_blocks()
{
    return simulated_here->blocks;
}

PORT_DEVICE void port_sync()
{
    simulated_barrier(false);
}

#define PORT_GRID_END_ORDERS 1

PORT_DEVICE void port_sync_stored()
{
    port_sync();
}

PORT_DEVICE void port_settle(uint64_t &)
{
}

PORT_DEVICE bool port_sync_or(bool value)
{
    return simulated_barrier(value);
}

PORT_DEVICE uint32_t port_or4(uint32_t value)
{
    uint32_t values[4];
    simulated_exchange4(value, values);
    return values[0] | values[1] | values[2] | values[3];
}

PORT_DEVICE uint32_t port_last4(uint32_t value)
{
    uint32_t values[4];
    simulated_exchange4(value, values);
    return values[3];
}

PORT_DEVICE struct vec4 port_load_system4(const struct vec4 *from)
{
    struct vec4 value;
    simulated_load(from, &value, sizeof(value), SIMULATED_RELAXED, SIMULATED_SYSTEM);
    return value;
}

PORT_DEVICE void port_store_system4(struct vec4 *to, struct vec4 value)
{
    simulated_store(to, &value, sizeof(value), SIMULATED_RELAXED, SIMULATED_SYSTEM);
}

PORT_DEVICE uint64_t port_load_system8(const uint64_t *from)
{
    uint64_t value;
    simulated_load(from, &value, sizeof(value), SIMULATED_RELAXED, SIMULATED_SYSTEM);
    return value;
}

PORT_DEVICE void port_store_system8(uint64_t *to, uint64_t value)
{
    simulated_store(to, &value, sizeof(value), SIMULATED_RELAXED, SIMULATED_SYSTEM);
}

PORT_DEVICE uint32_t port_load_system(const uint32_t *from)
{
    uint32_t value;
    simulated_load(from, &value, sizeof(value), SIMULATED_RELAXED, SIMULATED_SYSTEM);
    return value;
}

PORT_DEVICE void port_store_system(uint32_t *to, uint32_t value)
{
    simulated_store(to, &value, sizeof(value), SIMULATED_RELAXED, SIMULATED_SYSTEM);
}

PORT_DEVICE void port_store_release_system(uint32_t *to, uint32_t value)
{
    simulated_store(to, &value, sizeof(value), SIMULATED_RELEASE, SIMULATED_SYSTEM);
}

/* The same for 8 bytes; and a load with acquire: what was stored before the value that it sees is seen after it. */
PORT_DEVICE void port_store_release_system8(uint64_t *to, uint64_t value)
{
    simulated_store(to, &value, sizeof(value), SIMULATED_RELEASE, SIMULATED_SYSTEM);
}

PORT_DEVICE uint64_t port_load_acquire_system8(const uint64_t *from)
{
    uint64_t value;
    simulated_load(from, &value, sizeof(value), SIMULATED_ACQUIRE, SIMULATED_SYSTEM);
    return value;
}

/* Orders what this thread stored and saw before it before what it stores and sees after it, for everybody. */
PORT_DEVICE void port_fence_system()
{
    simulated_fence();
}

PORT_DEVICE bool port_claim_system(uint32_t *word)
{
    return simulated_claim(word);
}

PORT_DEVICE uint64_t port_load_counter(const uint64_t *counter)
{
    uint64_t value;
    simulated_load(counter, &value, sizeof(value), SIMULATED_RELAXED, SIMULATED_DEVICE);
    return value;
}

PORT_DEVICE void port_add_counter(uint64_t *counter, uint64_t amount)
{
    simulated_add(counter, amount);
}

PORT_DEVICE uint64_t port_fetch_add_counter(uint64_t *counter, uint64_t amount)
{
    return simulated_fetch_add(counter, amount);
}

PORT_DEVICE uint64_t port_clock_ns()
{
    return simulated_clock_ns();
}

PORT_DEVICE void port_wait_for_predecessor()
{
    simulated_wait_for_predecessor();
}

PORT_DEVICE void port_let_successor_in()
{
    simulated_let_successor_in();
}

/* -- conversions -- */

PORT_DEVICE float port_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

PORT_DEVICE uint32_t port_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

PORT_DEVICE float port_f16_to_f32(uint32_t bits)
{
    uint32_t sign = (bits & 0x8000u) << 16;
    uint32_t exponent = bits >> 10 & 0x1fu;
    uint32_t fraction = bits & 0x3ffu;
    if (exponent == 0) { /* zero or denormal: a multiple of 2^-24 */
        return port_float(sign | port_bits((float)fraction * 0x1p-24f));
    }
    return port_float(sign | (exponent == 0x1fu ? 0xffu : exponent + 112u) << 23 | fraction << 13);
}

/* To nearest, ties to even; NaN in some pattern of NaN. */
PORT_DEVICE uint32_t simulated_f16(float value)
{
    uint32_t bits = port_bits(value);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return sign | 0x7fffu;
    }
    if (magnitude >= 0x477ff000u) { /* 65520: where rounding reaches infinity */
        return sign | 0x7c00u;
    }
    if (magnitude < 0x38800000u) { /* denormal: adding 0.5 leaves the value in units of 2^-24, rounded */
        return sign | (port_bits(port_float(magnitude) + 0.5f) - 0x3f000000u);
    }
    uint32_t odd = magnitude >> 13 & 1u;
    return sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
}

PORT_DEVICE uint32_t simulated_bf16(float value)
{
    uint32_t bits = port_bits(value);
    return value == value ? (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16 : 0x7fffu;
}

PORT_DEVICE uint32_t port_pack_f16(float low, float high)
{
    return simulated_f16(low) | simulated_f16(high) << 16;
}

PORT_DEVICE uint32_t port_pack_bf16(float low, float high)
{
    return simulated_bf16(low) | simulated_bf16(high) << 16;
}

/* The build says -ffp-contract=off. */
PORT_DEVICE float port_add(float a, float b)
{
    return a + b;
}

#endif
