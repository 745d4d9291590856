/* SPDX-License-Identifier: Apache-2.0 */
/* live.cpp - a machine whose peers are other threads and processes: real time, and waiting without burning a processor. */
#include <sched.h>
#include <string.h>
#include <time.h>

#include "kernels/turn.h"
#include "simgpu/machine.h"

namespace simgpu
{

#define LOOK_NS 30000000u /* how often those that wait are sent to look at the clock and the marks */
#define LOADS_PER_LOOK                                                                                                 \
    (2 * POLLS_PER_LOOK) /* until a thread that polls has looked, with the loads that it looks with */
#define YIELDS 20        /* before sleeping */
#define PAUSE_NS_FIRST 20000
#define PAUSE_NS_MOST 500000

static uint64_t now_ns()
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A kernel counts no step between two looks for more than STEP_NS_MAX, and here it rests in between: the clock hands out
 * the time in such steps, and has the thread look again until it has caught up. */
uint64_t live_clock_ns(struct thread &thread)
{
    uint64_t now = now_ns();
    if (thread.clock_ns != 0 && now - thread.clock_ns > STEP_NS_MAX) {
        now = thread.clock_ns + STEP_NS_MAX;
        thread.restless = LOADS_PER_LOOK;
    }
    thread.clock_ns = now;
    return now;
}

/* Wakes those for whom something has changed. */
static bool wake_changed(struct machine &machine)
{
    bool any = false;
    for (size_t at = machine.polling.size(); at-- > 0;) {
        struct thread *thread = machine.polling[at];
        uint32_t words[4] = {0, 0, 0, 0};
        for (uint32_t part = 0; part < thread->watched_bytes / 4; part++) {
            words[part] = (uint32_t)memory_present(thread->watched + 4 * part, 4);
        }
        if (memcmp(words, thread->watched_value, thread->watched_bytes) != 0) {
            machine_wake(machine, *thread);
            any = true;
        }
    }
    return any;
}

void live_wait(struct machine &machine)
{
    long pause_ns = PAUSE_NS_FIRST;
    uint64_t begin_ns = now_ns();
    for (uint32_t turn = 0; !wake_changed(machine); turn++) {
        if (now_ns() - begin_ns > LOOK_NS) {
            while (!machine.polling.empty()) {
                machine.polling.back()->restless = LOADS_PER_LOOK;
                machine_wake(machine, *machine.polling.back());
            }
            return;
        }
        if (turn < YIELDS) {
            sched_yield();
            continue;
        }
        const struct timespec pause = {0, pause_ns};
        nanosleep(&pause, nullptr);
        pause_ns = pause_ns < PAUSE_NS_MOST ? pause_ns * 2 : PAUSE_NS_MOST;
    }
}

} // namespace simgpu
