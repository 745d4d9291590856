/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recording.c - calls that become part of a graph.
 *
 * A captured kernel holds addresses of the arenas and works whenever the graph runs: nothing is patched later. What must
 * be seen to is order and life. Order: two calls of a lane must not run at the same time, but a capture knows only the
 * dependencies that streams and events give it, so calls of one lane on different streams are chained here. Life: a graph
 * may outlive the communicator, so it holds the group. One of this library's own is held for by who made it (holds.h). Any other does
 * so through a user object, whose destructor only counts: the driver forbids it to call the driver.
 */
#include "device/gpu/recording.h"

#include "base/error.h"
#include "device/gpu/context.h"
#include "device/gpu/holds.h"

tutti_status recording_look(const struct driver *driver, driver_stream stream, struct stream_state *state)
{
    int status_of = DRIVER_CAPTURE_NONE;
    *state = (struct stream_state){0};
    const void *edges = NULL;
    tutti_status status = driver->capture_info3 != NULL
                              ? DRIVER(driver, capture_info3, stream, &status_of, &state->id, &state->graph,
                                       &state->nodes, &edges, &state->node_count)
                              : DRIVER(driver, capture_info2, stream, &status_of, &state->id, &state->graph,
                                       &state->nodes, &state->node_count);
    state->invalidated = status == TUTTI_OK && status_of == DRIVER_CAPTURE_INVALIDATED;
    if (state->invalidated) {
        return error_set(TUTTI_ERR_CAPTURE,
                         "the capture of stream %p has been invalidated by something before this call", stream);
    }
    state->recording = status_of == DRIVER_CAPTURE_ACTIVE;
    return status;
}

tutti_status recording_look_for(const struct driver *driver, struct registry *registry, driver_stream stream,
                                const char *call, struct stream_state *state)
{
    tutti_status status = recording_look(driver, stream, state);
    if (state->invalidated) {
        registry_invalidated(registry, state->id, stream, call);
    }
    return status;
}

/* On a thread of the driver's, when the last graph of a capture is gone, with all that was instantiated from it. */
static void graph_gone(void *recorded)
{
    recorded_let_go(recorded);
}

static tutti_status graph_hold(const struct driver *driver, struct recorded *recorded, const struct stream_state *state)
{
    driver_object object = NULL;
    bool own = false;
    tutti_status status = holds_add(driver, state->id, recorded, &own);
    if (own) {
        return status;
    }
    recorded_hold(recorded);
    status = DRIVER(driver, object_create, &object, recorded, graph_gone, 1, DRIVER_USER_OBJECT_NO_SYNC);
    if (status != TUTTI_OK) {
        recorded_let_go(recorded);
        return status;
    }
    status = DRIVER(driver, graph_retain, state->graph, object, 1, DRIVER_USER_OBJECT_MOVE);
    if (status != TUTTI_OK) {
        (void)driver->object_release(object, 1); /* counts down */
    }
    return status;
}

static bool depends_already(const struct stream_state *state, driver_node node)
{
    for (size_t index = 0; index < state->node_count; index++) {
        if (state->nodes[index] == node) {
            return true;
        }
    }
    return false;
}

tutti_status recording_begin(const struct driver *driver, struct registry *registry, uint32_t lane,
                             driver_stream stream, const struct stream_state *state, struct recorded **recorded)
{
    struct recorded *found = registry_graph(registry, state->id, stream);
    tutti_status status = TUTTI_OK;
    if (found == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory to keep book of a graph");
    }
    if (!found->held) {
        status = graph_hold(driver, found, state);
        found->held = status == TUTTI_OK;
    }
    driver_node last = found->tails[lane];
    if (status == TUTTI_OK && last != NULL && !depends_already(state, last)) {
        status = DRIVER(driver, capture_depend, stream, &last, 1, DRIVER_ADD_DEPENDENCIES);
    }
    if (status != TUTTI_OK) {
        recorded_break(found, tutti_last_error()); /* the peers' graphs have this call */
        return status;
    }
    *recorded = found;
    return TUTTI_OK;
}

tutti_status recording_end(const struct driver *driver, struct recorded *recorded, uint32_t lane, driver_stream stream)
{
    struct stream_state state;
    tutti_status status = recording_look(driver, stream, &state);
    if (status == TUTTI_OK && state.recording && state.node_count == 1) {
        recorded->tails[lane] = state.nodes[0];
    }
    return status;
}

tutti_status recording_ask(const struct device *device, const void *stream, struct device_stream *out)
{
    struct stream_state state;
    struct context_scope scope;
    tutti_status status = context_enter(device, CONTEXT_ENQUEUES, &scope);
    if (status != TUTTI_OK) {
        return status;
    }
    status = recording_look(device->driver, (driver_stream)(uintptr_t)stream, &state);
    context_leave(&scope);
    *out = (struct device_stream){DEVICE_STREAM_IDLE, 0};
    if (state.invalidated) {
        *out = (struct device_stream){DEVICE_STREAM_INVALIDATED, state.id};
        return TUTTI_OK;
    }
    if (status == TUTTI_OK && state.recording) {
        *out = (struct device_stream){DEVICE_STREAM_CAPTURING, state.id};
    }
    return status;
}
