/* SPDX-License-Identifier: Apache-2.0 */
/* Who may begin and end a capture, when, and what is left behind. */
#include <string.h>

#include "harness/journal.h"
#include "tutti/host.h"

static tutti_host_stream *a, *b;
static tutti_host_event *event, *back;
static int numbers[] = {0, 1, 2, 3, 4, 5};

static void enqueue(tutti_host_stream *stream, int number)
{
    CHECK_OK(tutti_host_enqueue(stream, journal_write, &numbers[number]));
}

static void fork_stream(void)
{
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK_OK(tutti_host_stream_wait_event(b, event));
}

static void expect_refused_end(tutti_host_stream *stream, const char *says)
{
    tutti_host_graph *graph = (tutti_host_graph *)(uintptr_t)&numbers;
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(stream, &graph));
    CHECK(graph == (tutti_host_graph *)(uintptr_t)&numbers, "a failed end touched the graph");
    CHECK_SENTENCE(strstr(tutti_last_error(), says) != NULL, "sentence: %s", tutti_last_error());
}

static tutti_host_capture_status state_of(tutti_host_stream *stream)
{
    tutti_host_capture_status state = TUTTI_HOST_CAPTURE_NONE;
    uint64_t id = 0;
    CHECK_OK(tutti_host_capture_info(stream, &state, &id));
    return state;
}

/* Both streams run work again. */
static void expect_usable(void)
{
    CHECK(state_of(a) == TUTTI_HOST_CAPTURE_NONE && state_of(b) == TUTTI_HOST_CAPTURE_NONE, "still capturing");
    CHECK_OK(tutti_host_stream_synchronize(b));
    CHECK(journal_count() == 0, "captured work ran");
    enqueue(a, 4);
    CHECK_OK(tutti_host_stream_synchronize(a));
    enqueue(b, 5);
    CHECK_OK(tutti_host_stream_synchronize(b));
    JOURNAL_EXPECT("after the capture", 4, 5);
}

static void not_capturing(void)
{
    expect_refused_end(a, "not capturing");
    expect_usable();
}

static void begun_twice(void)
{
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_RELAXED));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    enqueue(a, 1);
    fork_stream();
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_begin(b, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_capture_end(a, &graph)); /* the capture did not suffer */
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    JOURNAL_EXPECT("begun twice", 1);
    tutti_host_graph_destroy(graph);
    expect_usable();
}

static void unjoined(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    enqueue(a, 1);
    fork_stream();
    enqueue(b, 2);
    expect_refused_end(a, "1 of the capture's 2 operations, the first of them tutti_host_enqueue");
    expect_usable();
}

/* Joined once, but not for the work that came after. */
static void unjoined_tail(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    fork_stream();
    enqueue(b, 1);
    CHECK_OK(tutti_host_event_record(back, b));
    CHECK_OK(tutti_host_stream_wait_event(a, back));
    enqueue(b, 2);
    enqueue(a, 3);
    expect_refused_end(a, "not joined");
    expect_usable();
}

/* A fork that did nothing has nothing to join, and an event behind it stands for the work before it. */
static void empty_fork(void)
{
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    enqueue(a, 1);
    fork_stream();
    CHECK(state_of(b) == TUTTI_HOST_CAPTURE_ACTIVE, "not forked");
    CHECK_OK(tutti_host_capture_end(a, &graph));
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    JOURNAL_EXPECT("an empty fork", 1);
    tutti_host_graph_destroy(graph);
    expect_usable();
}

static void empty_capture(void)
{
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_capture_end(a, &graph));
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    CHECK_OK(tutti_host_graph_launch(graph, a));
    tutti_host_graph_destroy(graph);
    expect_usable();
}

static void wrong_stream(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_RELAXED));
    fork_stream();
    enqueue(b, 1);
    CHECK_OK(tutti_host_event_record(back, b));
    CHECK_OK(tutti_host_stream_wait_event(a, back));
    expect_refused_end(b, "began on another stream");
    CHECK(state_of(a) == TUTTI_HOST_CAPTURE_INVALIDATED, "the capture went on");
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_enqueue(b, journal_write, &numbers[2]));
    expect_refused_end(a, "named a forked stream");
    expect_usable();
}

static void *end_here(void *status)
{
    tutti_host_graph *graph = NULL;
    *(tutti_status *)status = tutti_host_capture_end(a, &graph);
    tutti_host_graph_destroy(graph);
    return NULL;
}

static void wrong_thread(void)
{
    for (int mode = 0; mode < 3; mode++) {
        CHECK_OK(tutti_host_capture_begin(a, (tutti_host_capture_mode)mode));
        enqueue(a, 1);
        tutti_status status = TUTTI_OK;
        on_other_thread(end_here, &status);
        if (mode == TUTTI_HOST_CAPTURE_RELAXED) {
            CHECK(status == TUTTI_OK, "%s", tutti_status_name(status));
        } else {
            CHECK(status == TUTTI_ERR_CAPTURE, "%s", tutti_status_name(status));
            CHECK(state_of(a) == TUTTI_HOST_CAPTURE_INVALIDATED, "state %d", (int)state_of(a));
            expect_refused_end(a, "did not begin it");
        }
        expect_usable();
    }
}

static void *begin_here(void *mode)
{
    CHECK_OK(tutti_host_capture_begin(a, *(const tutti_host_capture_mode *)mode));
    return NULL;
}

/* The thread that began it has ended: only destroying the stream gets rid of a strict capture. */
static void thread_gone(void)
{
    tutti_host_graph *graph = NULL;
    tutti_host_capture_mode mode = TUTTI_HOST_CAPTURE_RELAXED;
    on_other_thread(begin_here, &mode);
    enqueue(a, 1);
    CHECK_OK(tutti_host_capture_end(a, &graph));
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    JOURNAL_EXPECT("begun by a thread that is gone", 1);
    tutti_host_graph_destroy(graph);

    mode = TUTTI_HOST_CAPTURE_THREAD_LOCAL;
    on_other_thread(begin_here, &mode);
    fork_stream();
    expect_refused_end(a, "begun by thread");
    tutti_host_stream_destroy(a);
    CHECK(state_of(b) == TUTTI_HOST_CAPTURE_NONE, "b is stuck in a capture that nobody can end");
    CHECK_OK(tutti_host_stream_create(&a));
    expect_usable();
}

static void forked_stream_destroyed(void)
{
    tutti_host_stream *forked = NULL;
    CHECK_OK(tutti_host_stream_create(&forked));
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK_OK(tutti_host_stream_wait_event(forked, event));
    enqueue(forked, 1);
    tutti_host_stream_destroy(forked);
    CHECK(state_of(a) == TUTTI_HOST_CAPTURE_INVALIDATED, "state %d", (int)state_of(a));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_enqueue(a, journal_write, &numbers[2]));
    expect_refused_end(a, "tutti_host_stream_destroy");
    expect_usable();
}

static void ids(void)
{
    uint64_t last = 0;
    for (int i = 0; i < 100; i++) {
        tutti_host_capture_status state = TUTTI_HOST_CAPTURE_NONE;
        uint64_t id = 0;
        uint64_t forked_id = 0;
        CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_RELAXED));
        fork_stream();
        CHECK_OK(tutti_host_capture_info(a, &state, &id));
        CHECK_OK(tutti_host_capture_info(b, &state, &forked_id));
        CHECK(state == TUTTI_HOST_CAPTURE_ACTIVE && id == forked_id && id > last, "capture %d", i);
        last = id;
        tutti_host_graph *graph = NULL;
        CHECK_OK(tutti_host_capture_end(a, &graph));
        tutti_host_graph_destroy(graph);
        CHECK_OK(tutti_host_capture_info(a, &state, &id));
        CHECK(state == TUTTI_HOST_CAPTURE_NONE && id == 0, "after capture %d", i);
    }
}

int main(void)
{
    CHECK_OK(tutti_host_stream_create(&a));
    CHECK_OK(tutti_host_stream_create(&b));
    CHECK_OK(tutti_host_event_create(&event));
    CHECK_OK(tutti_host_event_create(&back));
    not_capturing();
    begun_twice();
    unjoined();
    unjoined_tail();
    empty_fork();
    empty_capture();
    wrong_stream();
    wrong_thread();
    thread_gone();
    forked_stream_destroyed();
    ids();
    tutti_host_event_destroy(back);
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(b);
    tutti_host_stream_destroy(a);
    return 0;
}
