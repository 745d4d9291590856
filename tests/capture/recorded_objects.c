/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for what is only recorded, or asking about it, is refused in every mode, to every thread, and invalidates. */
#include <string.h>

#include "harness/journal.h"
#include "tutti/host.h"

static tutti_host_stream *origin, *forked;
static tutti_host_event *event;
static int done;

static tutti_status origin_synchronize(void)
{
    return tutti_host_stream_synchronize(origin);
}

static tutti_status origin_query(void)
{
    return tutti_host_stream_query(origin, &done);
}

static tutti_status forked_synchronize(void)
{
    return tutti_host_stream_synchronize(forked);
}

static tutti_status forked_query(void)
{
    return tutti_host_stream_query(forked, &done);
}

static tutti_status event_synchronize(void)
{
    return tutti_host_event_synchronize(event);
}

static tutti_status event_query(void)
{
    return tutti_host_event_query(event, &done);
}

static tutti_status null_wait(void)
{
    return tutti_host_stream_wait_event(NULL, event);
}

static const struct {
    const char *name;
    tutti_status (*run)(void);
} calls[] = {
    {"tutti_host_stream_synchronize", origin_synchronize}, {"tutti_host_stream_query", origin_query},
    {"tutti_host_stream_synchronize", forked_synchronize}, {"tutti_host_stream_query", forked_query},
    {"tutti_host_event_synchronize", event_synchronize},   {"tutti_host_event_query", event_query},
    {"tutti_host_stream_wait_event", null_wait},
};

static void *relaxed_call(void *argument)
{
    tutti_host_capture_mode mode = TUTTI_HOST_CAPTURE_RELAXED;
    CHECK_OK(tutti_host_capture_mode_exchange(&mode));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, calls[*(const size_t *)argument].run());
    CHECK_OK(tutti_host_capture_mode_exchange(&mode));
    return NULL;
}

static void one_case(tutti_host_capture_mode mode, size_t call, int other_thread)
{
    static int number = 5;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(origin, mode));
    CHECK_OK(tutti_host_enqueue(origin, journal_write, &number));
    CHECK_OK(tutti_host_event_record(event, origin));
    CHECK_OK(tutti_host_stream_wait_event(forked, event));
    if (other_thread) {
        on_other_thread(relaxed_call, &call);
    } else {
        (void)relaxed_call(&call);
    }
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(origin, &graph));
    CHECK_SENTENCE(strstr(tutti_last_error(), calls[call].name) != NULL, "sentence: %s", tutti_last_error());
    CHECK(graph == NULL, "a failed end touched the graph");

    /* Afterwards the streams run again, and the event is refused until it is recorded again. */
    CHECK_STATUS(TUTTI_ERR_CAPTURE, event_query());
    CHECK_SENTENCE(strstr(tutti_last_error(), "over") != NULL, "sentence: %s", tutti_last_error());
    CHECK_STATUS(TUTTI_ERR_CAPTURE, event_synchronize());
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_wait_event(forked, event));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_wait_event(NULL, event));
    CHECK_OK(tutti_host_enqueue(origin, journal_write, &number));
    CHECK_OK(tutti_host_event_record(event, origin));
    CHECK_OK(event_synchronize());
    JOURNAL_EXPECT("only what was not captured", 5);
    CHECK_OK(forked_synchronize());
}

int main(void)
{
    CHECK_OK(tutti_host_stream_create(&origin));
    CHECK_OK(tutti_host_stream_create(&forked));
    CHECK_OK(tutti_host_event_create(&event));
    for (int mode = 0; mode < 3; mode++) {
        for (size_t call = 0; call < sizeof(calls) / sizeof(calls[0]); call++) {
            one_case((tutti_host_capture_mode)mode, call, 0);
            one_case((tutti_host_capture_mode)mode, call, 1);
        }
    }
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(forked);
    tutti_host_stream_destroy(origin);
    return 0;
}
