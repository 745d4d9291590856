/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture.cpp - stream capture and what it forbids: CUDA Driver API, "Stream Management" (cuStreamBeginCapture,
 * cuThreadExchangeStreamCaptureMode) and CUDA C++ Programming Guide, "Prohibited and Unhandled Operations" and
 * "Invalidation"; which calls are unsafe was measured (docs/capture.md).
 */
#include "simgpu/driver/driver.h"

#include <algorithm>

namespace simgpu
{

static std::vector<struct capture *> &captures = *new std::vector<struct capture *>();
static uint64_t next_id = 1;
static thread_local int thread_mode = MODE_GLOBAL;

struct capture *capture_by_id(uint64_t id)
{
    for (struct capture *capture : captures) {
        if (capture->id == id) {
            return capture;
        }
    }
    return nullptr;
}

int capture_begin(struct queue &queue, int mode)
{
    if (queue.legacy) {
        return CAPTURE_UNSUPPORTED;
    }
    if (queue.capture != nullptr || mode < MODE_GLOBAL || mode > MODE_RELAXED) {
        return queue.capture != nullptr ? ILLEGAL_STATE : INVALID_VALUE;
    }
    struct graph *graph = new simgpu::graph{std::make_shared<struct graph_body>()};
    handle_add(graph);
    struct capture *capture =
        new simgpu::capture{next_id++, mode, false, std::this_thread::get_id(), &queue, graph, {}};
    capture->members.insert(&queue);
    captures.push_back(capture);
    queue.capture = capture;
    queue.frontier.clear();
    return SUCCESS;
}

void capture_forget(struct queue &queue)
{
    struct capture *capture = queue.capture;
    capture->members.erase(&queue);
    queue.capture = nullptr;
    queue.frontier.clear();
    if (capture->origin == &queue) {
        capture->origin = nullptr;
    }
}

/* Every stream that took part is an ordinary one again. */
static void capture_delete(struct capture *capture)
{
    while (!capture->members.empty()) {
        capture_forget(**capture->members.begin());
    }
    captures.erase(std::find(captures.begin(), captures.end(), capture));
    delete capture;
}

/* Whether something was recorded on another stream that the origin does not come after. */
static bool unjoined(const struct capture &capture)
{
    const std::vector<struct node *> &frontier = capture.origin->frontier;
    for (const std::unique_ptr<struct node> &node : capture.graph->body->nodes) {
        if (!node->has_dependents && std::find(frontier.begin(), frontier.end(), node.get()) == frontier.end()) {
            return true;
        }
    }
    return false;
}

int capture_end(struct queue &queue, struct graph **graph)
{
    struct capture *capture = queue.capture;
    *graph = nullptr;
    if (capture == nullptr) {
        return ILLEGAL_STATE;
    }
    if (capture->origin != &queue) {
        capture_invalidate(*capture);
        return CAPTURE_UNMATCHED;
    }
    if (capture->mode != MODE_RELAXED && capture->thread != std::this_thread::get_id()) {
        capture_invalidate(*capture);
        return CAPTURE_WRONG_THREAD;
    }
    struct graph *made = capture->graph;
    int result = capture->invalidated ? CAPTURE_INVALIDATED : unjoined(*capture) ? CAPTURE_UNJOINED : SUCCESS;
    capture_delete(capture);
    if (result != SUCCESS) {
        handle_remove(made);
        delete made;
        return result;
    }
    *graph = made;
    return SUCCESS;
}

void capture_abandon(struct queue &queue)
{
    struct capture *capture = queue.capture;
    capture_invalidate(*capture);
    if (capture->origin != &queue) {
        capture_forget(queue);
        return;
    }
    struct graph *made = capture->graph;
    capture_delete(capture);
    handle_remove(made);
    delete made;
}

int capture_exchange_mode(int *mode)
{
    if (*mode < MODE_GLOBAL || *mode > MODE_RELAXED) {
        return INVALID_VALUE;
    }
    std::swap(*mode, thread_mode);
    return SUCCESS;
}

void capture_invalidate(struct capture &capture)
{
    capture.invalidated = true;
}

void capture_invalidate_all()
{
    for (struct capture *capture : captures) {
        capture_invalidate(*capture);
    }
}

int capture_check_unsafe()
{
    int result = SUCCESS;
    for (struct capture *capture : captures) {
        bool own = capture->thread == std::this_thread::get_id() && capture->mode != MODE_RELAXED;
        bool others = thread_mode == MODE_GLOBAL && capture->mode == MODE_GLOBAL;
        if (thread_mode != MODE_RELAXED && (own || others)) {
            capture_invalidate(*capture);
            result = CAPTURE_UNSUPPORTED;
        }
    }
    return result;
}

int capture_check_legacy(const struct device &device)
{
    int result = SUCCESS;
    for (struct capture *capture : captures) {
        for (const struct queue *member : capture->members) {
            if (member->device == &device && !member->non_blocking && capture->mode != MODE_RELAXED) {
                capture_invalidate(*capture);
                result = CAPTURE_IMPLICIT;
            }
        }
    }
    return result;
}

int capture_add(struct queue &queue, node_type type, work body)
{
    struct capture &capture = *queue.capture;
    if (capture.invalidated) {
        return CAPTURE_INVALIDATED;
    }
    std::unique_ptr<struct node> node(new simgpu::node{type, std::move(body), queue.frontier, false, 0, 0, 0});
    for (struct node *before : node->depends) {
        before->has_dependents = true;
    }
    queue.frontier.assign(1, node.get());
    capture.graph->body->nodes.push_back(std::move(node));
    return SUCCESS;
}

} // namespace simgpu
