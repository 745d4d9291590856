/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/driver/driver.h"
#include "simgpu/machine.h"

namespace simgpu
{

#define MULTIPROCESSOR_THREADS 1024

struct function {
    kernel_body kernel;
    struct kernel_limits limits;
};

int module_make(void **module, const void *image)
{
    guard held(driver_lock);
    int unsafe = capture_check_unsafe();
    if (device_current() == nullptr || unsafe != 0) {
        return unsafe != 0 ? unsafe : INVALID_CONTEXT;
    }
    if (strncmp(static_cast<const char *>(image), SIMULATED_IMAGE, strlen(SIMULATED_IMAGE)) != 0) {
        return NO_BINARY; /* code for real devices */
    }
    *module = new char;
    handle_add(*module);
    return SUCCESS;
}

/* Functions live for ever, like the kernels that were compiled in. */
int module_find(void **function, void *module, const char *name)
{
    guard held(driver_lock);
    if (!handle_is(module)) {
        return INVALID_HANDLE;
    }
    static std::vector<std::pair<std::string, struct function *>> &known =
        *new std::vector<std::pair<std::string, struct function *>>();
    for (const std::pair<std::string, struct function *> &entry : known) {
        if (entry.first == name) {
            *function = entry.second;
            return SUCCESS;
        }
    }
    struct kernel_limits limits = {0, 0};
    kernel_body kernel = kernel_find(name, &limits);
    if (kernel == nullptr) {
        return NOT_FOUND;
    }
    known.emplace_back(name, new simgpu::function{kernel, limits});
    handle_add(known.back().second);
    *function = known.back().second;
    return SUCCESS;
}

int function_occupancy(int *blocks, void *function, int threads)
{
    guard held(driver_lock);
    if (!handle_is(function) || threads < 1) {
        return handle_is(function) ? INVALID_VALUE : INVALID_HANDLE;
    }
    uint32_t most = static_cast<struct function *>(function)->limits.threads;
    *blocks = (uint32_t)threads > most ? 0 : MULTIPROCESSOR_THREADS / threads;
    return SUCCESS;
}

/* -- running --------------------------------------------------------------------------------------- */

static uint64_t next_seed()
{
    static uint64_t drawn;
    static const char *text = getenv("SIMGPU_SEED");
    guard held(driver_lock);
    return (text != nullptr ? strtoull(text, nullptr, 0) : 1) * 0x9e3779b97f4a7c15u + ++drawn;
}

/* Mostly long bursts, so that large messages get done; stores linger a little. */
static struct machine_options options_for(const struct device &device)
{
    struct machine_options options = {};
    options.seed = next_seed();
    options.warp = driver_is_hip ? 64 : 32;
    options.capacity = UINT32_MAX; /* the grid is checked as a whole */
    options.steps_max = UINT64_MAX;
    options.live = true;
    options.schedule.strategy = strategy::bursts;
    options.schedule.switch_chance = 1500;
    options.schedule.perform_chance = 12000;
    options.schedule.start_chance = 8000;
    options.schedule.stalled = -1;
    (void)device;
    return options;
}

static int run(struct queue &queue, kernel_body kernel, const struct kernel_arguments &arguments, uint32_t blocks,
               uint32_t threads, bool programmatic)
{
    if (queue.machine == nullptr) {
        queue.machine = machine_create(); /* on the thread that it will live on */
    }
    struct machine &machine = *queue.machine;
    machine_reset(machine, options_for(*queue.device));
    struct stream *stream = machine_stream(machine, 0);
    stream_launch(machine, *stream, kernel, arguments, blocks, threads, programmatic);
    if (machine_run(machine)) {
        return SUCCESS;
    }
    fprintf(stderr, "simulated device %d: %s\n", queue.device->ordinal, machine.failure.c_str());
    return LAUNCH_FAILED;
}

int function_launch(void *function, uint32_t blocks, uint32_t threads, bool programmatic, void **parameters,
                    struct queue &queue, guard &held)
{
    if (!handle_is(function)) {
        return INVALID_HANDLE;
    }
    const struct kernel_limits limits = static_cast<struct function *>(function)->limits;
    uint64_t most = (uint64_t)queue.device->multiprocessors * (threads != 0 ? MULTIPROCESSOR_THREADS / threads : 0);
    if (blocks == 0 || threads == 0 || threads > limits.threads || blocks > most) {
        return INVALID_VALUE; /* the last: its blocks would wait for others that do not fit beside them */
    }
    kernel_body kernel = static_cast<struct function *>(function)->kernel;
    struct kernel_arguments arguments = {};
    memcpy(&arguments, parameters[0], limits.argument_bytes);
    return queue_submit(queue, held, NODE_KERNEL, [kernel, arguments, blocks, threads, programmatic](struct queue &on) {
        return run(on, kernel, arguments, blocks, threads, programmatic);
    });
}

void machine_release(struct machine *machine)
{
    if (machine != nullptr) {
        machine_destroy(machine);
    }
}

} // namespace simgpu
