/* SPDX-License-Identifier: Apache-2.0 */
/* names.h - what the two vendors' tables of functions have in common. */
#ifndef TESTS_SIMGPU_DRIVER_NAMES_H
#define TESTS_SIMGPU_DRIVER_NAMES_H

#include <string.h>

#include "simgpu/driver/driver.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

/* First line of a function of the vendor's. */
#define ENTER()                                                                                                        \
    do {                                                                                                               \
        int enter_result = simgpu::driver_enter(__func__);                                                             \
        if (enter_result != simgpu::SUCCESS) {                                                                         \
            return enter_result;                                                                                       \
        }                                                                                                              \
    } while (0)

/* Also finds the stream; afterwards there are `queue` and the lock, `held`. */
#define ENTER_STREAM(handle)                                                                                           \
    ENTER();                                                                                                           \
    simgpu::guard held(simgpu::driver_lock);                                                                           \
    int queue_result = simgpu::SUCCESS;                                                                                \
    struct simgpu::queue *queue = simgpu::queue_find((handle), &queue_result);                                         \
    if (queue == nullptr) {                                                                                            \
        return queue_result;                                                                                           \
    }                                                                                                                  \
    (void)held

struct launch_attribute {
    int id; /* 6: programmatic stream serialization */
    int padding;
    union {
        int value;
        uint64_t bytes[8];
    } value;
};

namespace simgpu
{

/* SIMGPU_VERSION, or this. */
int version_or(int usual);

/* Names of results: both vendors' lists, with the vendor's prefix in front. */
const char *result_name(int result);

/* Answers of cuPointerGetAttributes by number; false: an attribute that is not known. */
bool pointer_answer(int attribute, uint64_t address, void *place);

int submit_fill(struct queue &queue, guard &held, uint64_t address, uint32_t word, size_t count);
int submit_call(struct queue &queue, guard &held, void (*function)(void *), void *argument);
int submit_copy(struct queue &queue, guard &held, void *to, const void *from, size_t bytes);

int capture_info(void *stream, int *status, uint64_t *id, void **graph, void *const **nodes, size_t *count);
int capture_depend(void *stream, void **nodes, size_t count, unsigned flags);
/* The stream-ordered calls: nodes of a graph where the stream captures. */
int pool_alloc(uint64_t *address, size_t bytes, void *stream);
int pool_free(uint64_t address, void *stream);

int stream_make(void **stream, unsigned flags);
int event_make(void **event);
int event_drop(void *event);
struct event *event_find(void *handle);
int capture_finish(void *stream, void **graph);
int graph_instantiate(void **executable, void *graph);
int graph_nodes(void *graph, void **nodes, size_t *count);
int graph_edges(void *graph, void **from, void **to, size_t *count);
int graph_node_type(void *node, int *type);
int graph_node_memory(void *node, void *parameters);
int graph_drop(void *graph);
int executable_drop(void *executable);
int executable_launch(void *executable, void *stream);
int graph_hold(void *graph, void *object, unsigned references, unsigned flags);
int handle_drop(void *module);

} // namespace simgpu

#endif
