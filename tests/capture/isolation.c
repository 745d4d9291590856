/* SPDX-License-Identifier: Apache-2.0 */
/* Waits that cross the border of a capture: events from outside, from before, from another capture. */
#include <stdbool.h>
#include <string.h>

#include "harness/journal.h"
#include "tutti/host.h"

static tutti_host_stream *a, *b, *c;
static tutti_host_event *event, *other;
static int numbers[] = {0, 1, 2, 3, 4, 5};

static void begin(tutti_host_stream *stream)
{
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_RELAXED));
}

static void enqueue(tutti_host_stream *stream, int number)
{
    CHECK_OK(tutti_host_enqueue(stream, journal_write, &numbers[number]));
}

static void expect_end(tutti_host_stream *stream, const char *says)
{
    tutti_host_graph *graph = NULL;
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(stream, &graph));
    CHECK(graph == NULL, "a failed end touched the graph");
    CHECK_SENTENCE(strstr(tutti_last_error(), says) != NULL, "sentence: %s", tutti_last_error());
}

static void expect_state(tutti_host_stream *stream, tutti_host_capture_status expected)
{
    tutti_host_capture_status state = TUTTI_HOST_CAPTURE_NONE;
    uint64_t id = 0;
    CHECK_OK(tutti_host_capture_info(stream, &state, &id));
    CHECK(state == expected, "state %d, not %d", (int)state, (int)expected);
    bool may_be_unnamed = ON_DEVICES && expected == TUTTI_HOST_CAPTURE_INVALIDATED; /* as CUDA's are */
    CHECK((id == 0) == (expected == TUTTI_HOST_CAPTURE_NONE) || may_be_unnamed, "id %llu", (unsigned long long)id);
}

static void uncaptured_event(int recorded)
{
    tutti_host_event *fresh = NULL;
    CHECK_OK(tutti_host_event_create(&fresh));
    if (recorded) {
        CHECK_OK(tutti_host_event_record(fresh, b));
    }
    begin(a);
    enqueue(a, 1);
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_wait_event(a, fresh));
    expect_state(a, TUTTI_HOST_CAPTURE_INVALIDATED);
    expect_end(a, "outside the capture");
    tutti_host_event_destroy(fresh);
}

static void merge(void)
{
    begin(a);
    begin(b);
    enqueue(a, 1);
    enqueue(b, 2);
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_wait_event(b, event));
    expect_state(a, TUTTI_HOST_CAPTURE_INVALIDATED);
    expect_state(b, TUTTI_HOST_CAPTURE_INVALIDATED);
    expect_end(a, "merged");
    expect_end(b, "merged");
}

/* An event of a capture that is over is none of the new capture's, although the stream is the same. */
static void earlier_capture(void)
{
    tutti_host_graph *graph = NULL;
    begin(a);
    enqueue(a, 1);
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK_OK(tutti_host_capture_end(a, &graph));
    begin(a);
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_wait_event(a, event));
    expect_end(a, "outside the capture");
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_wait_event(b, event));
    expect_state(b, TUTTI_HOST_CAPTURE_NONE);
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    JOURNAL_EXPECT("the first capture's graph", 1);
    tutti_host_graph_destroy(graph);
    CHECK_OK(tutti_host_event_record(event, NULL)); /* recorded again, it is an event like any other */
    CHECK_OK(tutti_host_stream_wait_event(b, event));
    CHECK_OK(tutti_host_event_synchronize(event));
}

/* An event of an invalidated capture takes nobody into it. */
static void invalidated_event(void)
{
    begin(a);
    enqueue(a, 1);
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_synchronize(a));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_wait_event(b, event));
    expect_state(b, TUTTI_HOST_CAPTURE_NONE);
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_wait_event(a, event));
    expect_end(a, "refused afterwards was tutti_host_stream_wait_event");
}

/* A captured event that was recorded again outside no longer forks. */
static void recorded_outside_again(void)
{
    tutti_host_graph *graph = NULL;
    begin(a);
    enqueue(a, 1);
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK_OK(tutti_host_event_record(event, b));
    CHECK_OK(tutti_host_stream_wait_event(c, event));
    expect_state(c, TUTTI_HOST_CAPTURE_NONE);
    CHECK_OK(tutti_host_capture_end(a, &graph));
    tutti_host_graph_destroy(graph);
}

/* Work on streams beside a capture runs, whatever its mode. */
static void work_beside(void)
{
    for (int mode = 0; mode < 3; mode++) {
        tutti_host_graph *graph = NULL;
        CHECK_OK(tutti_host_capture_begin(a, (tutti_host_capture_mode)mode));
        enqueue(a, 1);
        enqueue(b, 2);
        CHECK_OK(tutti_host_event_record(other, b));
        CHECK_OK(tutti_host_stream_wait_event(c, other));
        enqueue(c, 3);
        CHECK_OK(tutti_host_event_record(other, c));
        CHECK_OK(tutti_host_stream_wait_event(NULL, other)); /* the NULL stream's way of waiting is work, too */
        enqueue(NULL, 4);
        CHECK_OK(tutti_host_capture_end(a, &graph));
        JOURNAL_EXPECT("work beside a capture", 2, 3, 4);
        tutti_host_graph_destroy(graph);
    }
}

int main(void)
{
    CHECK_OK(tutti_host_stream_create(&a));
    CHECK_OK(tutti_host_stream_create(&b));
    CHECK_OK(tutti_host_stream_create(&c));
    CHECK_OK(tutti_host_event_create(&event));
    CHECK_OK(tutti_host_event_create(&other));
    uncaptured_event(1);
    uncaptured_event(0);
    merge();
    earlier_capture();
    invalidated_event();
    recorded_outside_again();
    work_beside();
    CHECK(journal_count() == 0, "something ran that was captured in vain");
    enqueue(a, 5);
    CHECK_OK(tutti_host_stream_synchronize(a));
    JOURNAL_EXPECT("the stream is usable", 5);
    tutti_host_event_destroy(other);
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(c);
    tutti_host_stream_destroy(b);
    tutti_host_stream_destroy(a);
    return 0;
}
