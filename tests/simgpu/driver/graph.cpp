/* SPDX-License-Identifier: Apache-2.0 */
#include "simgpu/driver/driver.h"

namespace simgpu
{

struct user_object *object_create(void *pointer, void (*destroy)(void *), unsigned references)
{
    struct user_object *object = new simgpu::user_object{pointer, destroy, references};
    handle_add(object);
    return object;
}

void object_release(struct user_object *object, unsigned references)
{
    object->references -= references;
    if (object->references == 0) {
        handle_remove(object);
        std::thread(object->destroy, object->pointer).detach();
        delete object;
    }
}

/* Where the last graph, executable or launch in flight lets go of it: with or without the lock. */
graph_body::~graph_body()
{
    if (objects.empty()) {
        return;
    }
    std::vector<struct user_object *> dropped;
    dropped.swap(objects);
    std::thread([dropped] {
        guard held(driver_lock);
        for (struct user_object *object : dropped) {
            object_release(object, 1);
        }
    }).detach();
}

struct launch_counts launch_counts;

/* "Each launch is ordered behind both any previous work in this stream and any previous launches of this graph" (CUDA Driver
 * API, cuGraphLaunch). */
int graph_launch(struct executable &executable, struct queue &queue, guard &held)
{
    std::shared_ptr<struct graph_body> body = executable.body;
    bool recorded = queue.capture != nullptr;
    if (!recorded && executable.last != nullptr && !executable.last->done) {
        queue.next_waits.push_back(executable.last);
    }
    int result = queue_submit(queue, held, NODE_GRAPH, [body](struct queue &on) {
        for (const std::unique_ptr<struct node> &node : body->nodes) {
            int failed = node->body(on);
            if (failed != SUCCESS) {
                return failed;
            }
        }
        return (int)SUCCESS;
    });
    if (!recorded && result == SUCCESS) {
        executable.last = queue.last;
        launch_counts.all++;
        launch_counts.holding += body->objects.empty() ? 0 : 1;
    }
    return result;
}

} // namespace simgpu
