/* SPDX-License-Identifier: Apache-2.0 */
#include "simgpu/fiber.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace simgpu
{

#define COLOURS 31
#define COLOUR_BYTES 192

struct fiber {
    bool adopted;
    void *stack;
    size_t stack_bytes;
    void (*body)(void *user);
    void *user;
    size_t colour;      /* bytes left free at the top: the same place of every stack would share a few cache lines */
    void *pointer;      /* where its registers are kept: the top of its stack */
    ucontext_t context; /* the same, where no switch is written by hand */
    void *fake_stack;   /* AddressSanitizer's */
    void *thread;       /* ThreadSanitizer's */
};

#if defined(__x86_64__)
/* Keeps the registers that a call preserves; swapcontext would ask the kernel about signals each time. */
extern "C" void simgpu_fiber_swap(void **from, void *to);
extern "C" void simgpu_fiber_first();
__asm__(".text\n"
        ".globl simgpu_fiber_swap\n.hidden simgpu_fiber_swap\n.type simgpu_fiber_swap, @function\n"
        "simgpu_fiber_swap:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size simgpu_fiber_swap, . - simgpu_fiber_swap\n"
        ".globl simgpu_fiber_first\n.hidden simgpu_fiber_first\n.type simgpu_fiber_first, @function\n"
        "simgpu_fiber_first:\n"
        "    movq %r12, %rdi\n"
        "    xorl %ebp, %ebp\n"
        "    call *%r13\n"
        "    ud2\n"
        ".size simgpu_fiber_first, . - simgpu_fiber_first\n"
        ".section .note.GNU-stack,\"\",@progbits\n"
        ".text\n");
#endif

/* First and last words of a switch, on the side that arrives. */
static void arrive(struct fiber *fiber)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber->fake_stack, nullptr, nullptr);
#endif
    (void)fiber;
}

static void leave(struct fiber *from, struct fiber *to)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(to->thread, 0);
#endif
    (void)from;
    (void)to;
}

static void begin(void *argument)
{
    struct fiber *fiber = static_cast<struct fiber *>(argument);
    arrive(fiber);
    fiber->body(fiber->user);
}

struct fiber *fiber_adopt()
{
    struct fiber *fiber = new struct fiber();
    fiber->adopted = true;
#if defined(__SANITIZE_ADDRESS__)
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        void *base = nullptr;
        size_t bytes = 0;
        pthread_attr_getstack(&attributes, &base, &bytes);
        pthread_attr_destroy(&attributes);
        fiber->stack = base;
        fiber->stack_bytes = bytes;
    }
#endif
#if defined(__SANITIZE_THREAD__)
    fiber->thread = __tsan_get_current_fiber();
#endif
    return fiber;
}

struct fiber *fiber_create(size_t stack_bytes)
{
    static thread_local size_t created;
    struct fiber *fiber = new struct fiber();
    fiber->colour = created++ % COLOURS * COLOUR_BYTES;
    fiber->stack_bytes = stack_bytes;
    fiber->stack =
        mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber->stack == MAP_FAILED) {
        delete fiber;
        return nullptr;
    }
#if defined(__SANITIZE_THREAD__)
    fiber->thread = __tsan_create_fiber(0);
#endif
    return fiber;
}

void fiber_destroy(struct fiber *fiber)
{
    if (!fiber->adopted) {
#if defined(__SANITIZE_THREAD__)
        __tsan_destroy_fiber(fiber->thread);
#endif
        munmap(fiber->stack, fiber->stack_bytes);
    }
    delete fiber;
}

#if defined(__x86_64__)

void fiber_prepare(struct fiber *fiber, void (*body)(void *user), void *user)
{
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
#endif
    fiber->body = body;
    fiber->user = user;
    fiber->fake_stack = nullptr;
    void **top = reinterpret_cast<void **>(static_cast<char *>(fiber->stack) + fiber->stack_bytes - fiber->colour);
    *--top = nullptr; /* a call pushes 8 bytes: `begin` wants the stack at 16 n + 8 when it starts */
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(simgpu_fiber_first);
    *--top = nullptr;                         /* rbp */
    *--top = nullptr;                         /* rbx */
    *--top = fiber;                           /* r12 */
    *--top = reinterpret_cast<void *>(begin); /* r13 */
    *--top = nullptr;                         /* r14 */
    *--top = nullptr;                         /* r15 */
    fiber->pointer = top;
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    leave(from, to);
    simgpu_fiber_swap(&from->pointer, to->pointer);
    arrive(from);
}

#else

/* makecontext passes ints. */
static void begin_halves(unsigned high, unsigned low)
{
    begin(reinterpret_cast<void *>((uintptr_t)high << 16 << 16 | low));
}

void fiber_prepare(struct fiber *fiber, void (*body)(void *user), void *user)
{
    fiber->body = body;
    fiber->user = user;
    fiber->fake_stack = nullptr;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = fiber->stack_bytes;
    fiber->context.uc_link = nullptr;
    uintptr_t address = reinterpret_cast<uintptr_t>(fiber);
    makecontext(&fiber->context, reinterpret_cast<void (*)()>(begin_halves), 2, (unsigned)(address >> 16 >> 16),
                (unsigned)address);
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    leave(from, to);
    swapcontext(&from->context, &to->context);
    arrive(from);
}

#endif

} // namespace simgpu
