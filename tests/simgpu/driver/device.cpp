/* SPDX-License-Identifier: Apache-2.0 */
#include <map>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "simgpu/driver/driver.h"

namespace simgpu
{

#define DEVICES_MAX 16

std::mutex driver_lock;

struct fault {
    std::string name;
    uint64_t first, last; /* of the calls, from 1 */
    int result;           /* -1: invalidates the captures */
};

/* Never destroyed: workers outlive main. */
struct state {
    pid_t process = 0;
    std::vector<struct device *> devices;
    std::set<const void *> handles;
    std::vector<struct fault> faults;
    std::map<std::string, uint64_t> calls;
    uint64_t struck = 0; /* by faults */
    bool watched = false;
    std::thread::id watcher;
    uint64_t strangers = 0;
    std::string stranger;
};
static struct state &state = *new struct state();

static thread_local std::vector<struct device *> contexts; /* CUDA */
static thread_local int current_ordinal;                   /* HIP */

/* -- the environment ------------------------------------------------------------------------------- */

static long environment_number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != nullptr && text[0] != 0 ? strtol(text, nullptr, 10) : otherwise;
}

/* "name[@n[+]]=result" */
static void fault_read(const std::string &text)
{
    size_t equals = text.find('=');
    size_t at = text.find('@');
    if (equals == std::string::npos) {
        fprintf(stderr, "SIMGPU_FAULTS: '%s' has no result\n", text.c_str());
        return;
    }
    struct fault fault = {text.substr(0, at < equals ? at : equals), 1, UINT64_MAX, 0};
    if (at < equals) {
        fault.first = fault.last = strtoull(text.c_str() + at + 1, nullptr, 10);
        fault.last = text[equals - 1] == '+' ? UINT64_MAX : fault.last;
    }
    std::string what = text.substr(equals + 1);
    fault.result = what == "invalidate" ? -1 : (int)strtol(what.c_str(), nullptr, 10);
    state.faults.push_back(fault);
}

static void faults_read(const char *text)
{
    std::string all = text != nullptr ? text : "";
    for (size_t at = 0; at < all.size();) {
        size_t comma = std::min(all.find(',', at), all.size());
        if (comma > at) {
            fault_read(all.substr(at, comma - at));
        }
        at = comma + 1;
    }
}

/* Physical numbers of the devices that this process sees. */
static std::vector<int> visible_devices()
{
    std::vector<int> visible;
    int count = (int)environment_number("SIMGPU_DEVICES", 8);
    const char *text = getenv(driver_is_hip ? "HIP_VISIBLE_DEVICES" : "CUDA_VISIBLE_DEVICES");
    int first = environment_number("SIMGPU_PRIVATE_DEVICES", 0) != 0 ? (1 + (int)getpid()) * DEVICES_MAX : 0;
    if (text == nullptr || first != 0) {
        for (int physical = 0; physical < count && physical < DEVICES_MAX; physical++) {
            visible.push_back(first + physical);
        }
        return visible;
    }
    for (const char *at = text; *at != 0;) {
        char *end;
        long physical = strtol(at, &end, 10);
        if (end == at || physical < 0 || physical >= count) {
            break; /* the first bad one hides those behind it */
        }
        visible.push_back((int)physical);
        at = *end == ',' ? end + 1 : end;
    }
    return visible;
}

/* -- devices --------------------------------------------------------------------------------------- */

static struct device *device_make(int ordinal, int physical)
{
    struct device *device = new struct device();
    device->ordinal = ordinal;
    device->physical = physical;
    memcpy(device->uuid, driver_is_hip ? "simulatedAMD" : "simulatedNVI", 12);
    memcpy(device->uuid + 12, &physical, sizeof(physical));
    device->multiprocessors = (int)environment_number("SIMGPU_MULTIPROCESSORS", 4);
    device->reads_any_memory = environment_number("SIMGPU_ANY_MEMORY", 0) != 0;
    device->legacy = queue_create(device, false, true);
    return device;
}

static void lock_driver()
{
    driver_lock.lock();
}

static void unlock_driver()
{
    driver_lock.unlock();
}

/* With the lock. */
static int initialize()
{
    if (state.process == 0) { /* no child begins with a lock that nobody gives back */
        pthread_atfork(lock_driver, unlock_driver, unlock_driver);
    }
    state.process = getpid();
    faults_read(getenv("SIMGPU_FAULTS"));
    std::vector<int> visible = visible_devices();
    for (size_t ordinal = 0; ordinal < visible.size(); ordinal++) {
        state.devices.push_back(device_make((int)ordinal, visible[ordinal]));
    }
    return state.devices.empty() ? NO_DEVICE : SUCCESS;
}

/* A driver does not survive a fork, except for the tests that are used to that: what the parent had is forgotten. */
static int after_fork()
{
    if (environment_number("SIMGPU_FORKS", 0) == 0) {
        return NOT_INITIALIZED;
    }
    queues_forget();
    contexts.clear();
    current_ordinal = 0;
    state.devices.clear();
    state.faults.clear();
    state.calls.clear();
    return initialize();
}

int driver_init()
{
    guard held(driver_lock);
    if (state.process == getpid()) {
        return SUCCESS;
    }
    return state.process == 0 ? initialize() : after_fork();
}

int device_count()
{
    return (int)state.devices.size();
}

struct device *device_at(int ordinal)
{
    return ordinal >= 0 && ordinal < device_count() ? state.devices[(size_t)ordinal] : nullptr;
}

struct device *device_current()
{
    if (driver_is_hip) {
        return device_at(current_ordinal);
    }
    return contexts.empty() ? nullptr : contexts.back();
}

void context_push(struct device *device)
{
    contexts.push_back(device);
}

struct device *context_pop()
{
    struct device *device = contexts.empty() ? nullptr : contexts.back();
    if (device != nullptr) {
        contexts.pop_back();
    }
    return device;
}

void context_set(struct device *device)
{
    if (driver_is_hip) {
        current_ordinal = device->ordinal;
        return;
    }
    if (!contexts.empty()) {
        contexts.pop_back();
    }
    if (device != nullptr) {
        contexts.push_back(device);
    }
}

/* -- calls ----------------------------------------------------------------------------------------- */

static int scripted(const char *name)
{
    if (state.faults.empty()) {
        return SUCCESS;
    }
    uint64_t number = ++state.calls[name];
    for (const struct fault &fault : state.faults) {
        if (fault.name == name && number >= fault.first && number <= fault.last) {
            state.struck++;
            if (fault.result >= 0) {
                return fault.result;
            }
            capture_invalidate_all();
        }
    }
    return SUCCESS;
}

uint64_t driver_fault(const char *text)
{
    guard held(driver_lock);
    uint64_t struck = state.struck;
    state.struck = 0;
    state.faults.clear();
    state.calls.clear();
    faults_read(text);
    return struck;
}

void driver_watch(bool on)
{
    guard held(driver_lock);
    state.watched = on;
    state.watcher = std::this_thread::get_id();
    if (on) {
        state.strangers = 0;
        state.stranger.clear();
    }
}

uint64_t driver_strangers(const char **first)
{
    guard held(driver_lock);
    *first = state.stranger.c_str();
    return state.strangers;
}

int driver_enter(const char *name)
{
    guard held(driver_lock);
    if (state.watched && state.watcher != std::this_thread::get_id()) {
        state.stranger = state.strangers++ == 0 ? name : state.stranger;
    }
    if (state.process != getpid()) {
        int result = state.process == 0 ? (int)NOT_INITIALIZED : after_fork();
        if (result != SUCCESS) {
            return result;
        }
    }
    return scripted(name);
}

void handle_add(const void *handle)
{
    state.handles.insert(handle);
}

void handle_remove(const void *handle)
{
    state.handles.erase(handle);
}

bool handle_is(const void *handle)
{
    return state.handles.count(handle) != 0;
}

void driver_misused(const char *what)
{
    fprintf(stderr, "simulated driver: %s that is not there\n", what);
    abort();
}

} // namespace simgpu
