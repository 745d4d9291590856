/* SPDX-License-Identifier: Apache-2.0 */
/* fiber.h - one simulated thread's stack, and switching to it. All fibers of a machine live on one OS thread. */
#ifndef TESTS_SIMGPU_FIBER_H
#define TESTS_SIMGPU_FIBER_H

#include <stddef.h>

namespace simgpu
{

struct fiber;

/* The calling OS thread itself, as something to switch back to. Owned by the caller. */
struct fiber *fiber_adopt();

/* A stack without a body. nullptr if there is no memory. */
struct fiber *fiber_create(size_t stack_bytes);

/* Also one that has not come to its end: nothing on its stack is unwound. Not the running one, unless adopted. */
void fiber_destroy(struct fiber *fiber);

/* The next switch to `fiber` calls body(user), which must never return. Whatever ran there before is forgotten. */
void fiber_prepare(struct fiber *fiber, void (*body)(void *user), void *user);

/* `from` is the running one. Returns when somebody switches to it. */
void fiber_switch(struct fiber *from, struct fiber *to);

} // namespace simgpu

#endif
