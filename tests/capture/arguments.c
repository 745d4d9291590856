/* SPDX-License-Identifier: Apache-2.0 */
/* What is missing or out of range is ARGUMENT, with a sentence that names call and argument, and changes nothing. */
#include <string.h>

#include "harness/journal.h"
#include "tutti/host.h"

#define EXPECT(call, name, argument)                                                                                   \
    do {                                                                                                               \
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, call);                                                                        \
        CHECK(strstr(tutti_last_error(), name) != NULL && strstr(tutti_last_error(), argument) != NULL,                \
              "sentence: %s", tutti_last_error());                                                                     \
    } while (0)

int main(void)
{
    static int one = 1;
    tutti_host_stream *stream = NULL;
    tutti_host_event *event = NULL;
    tutti_host_graph *graph = NULL;
    tutti_host_capture_mode mode = (tutti_host_capture_mode)3;
    tutti_host_capture_status state = TUTTI_HOST_CAPTURE_ACTIVE;
    uint64_t id = 9;
    int done = -7;

    EXPECT(tutti_host_stream_create(NULL), "tutti_host_stream_create", "stream");
    EXPECT(tutti_host_event_create(NULL), "tutti_host_event_create", "event");
    CHECK_OK(tutti_host_stream_create(&stream));
    CHECK_OK(tutti_host_event_create(&event));
    EXPECT(tutti_host_capture_begin(NULL, TUTTI_HOST_CAPTURE_GLOBAL), "tutti_host_capture_begin", "NULL stream");
    EXPECT(tutti_host_capture_begin(stream, mode), "tutti_host_capture_begin", "mode 3");
    EXPECT(tutti_host_capture_begin(stream, (tutti_host_capture_mode)-1), "tutti_host_capture_begin", "mode -1");
    EXPECT(tutti_host_capture_mode_exchange(NULL), "tutti_host_capture_mode_exchange", "mode");
    EXPECT(tutti_host_capture_mode_exchange(&mode), "tutti_host_capture_mode_exchange", "mode 3");
    CHECK((int)mode == 3, "the mode was touched");

    /* In a capture, to see that no argument error invalidates it. */
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_enqueue(stream, journal_write, &one));
    EXPECT(tutti_host_enqueue(stream, NULL, &one), "tutti_host_enqueue", "function");
    EXPECT(tutti_host_enqueue(NULL, NULL, &one), "tutti_host_enqueue", "function");
    EXPECT(tutti_host_stream_query(stream, NULL), "tutti_host_stream_query", "done");
    EXPECT(tutti_host_event_record(NULL, stream), "tutti_host_event_record", "event");
    EXPECT(tutti_host_stream_wait_event(stream, NULL), "tutti_host_stream_wait_event", "event");
    EXPECT(tutti_host_event_synchronize(NULL), "tutti_host_event_synchronize", "event");
    EXPECT(tutti_host_event_query(NULL, &done), "tutti_host_event_query", "event");
    EXPECT(tutti_host_event_query(event, NULL), "tutti_host_event_query", "done");
    EXPECT(tutti_host_capture_end(NULL, &graph), "tutti_host_capture_end", "stream");
    EXPECT(tutti_host_capture_end(stream, NULL), "tutti_host_capture_end", "graph");
    EXPECT(tutti_host_capture_info(stream, NULL, &id), "tutti_host_capture_info", "status");
    EXPECT(tutti_host_capture_info(stream, &state, NULL), "tutti_host_capture_info", "id");
    EXPECT(tutti_host_graph_launch(NULL, stream), "tutti_host_graph_launch", "graph");
    CHECK(done == -7, "done was touched");
    CHECK_OK(tutti_host_capture_info(NULL, &state, &id));
    CHECK(state == TUTTI_HOST_CAPTURE_NONE && id == 0, "the NULL stream captures");
    CHECK_OK(tutti_host_capture_end(stream, &graph));

    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info) - 1, .nodes = 77};
    EXPECT(tutti_host_graph_info(graph, NULL), "tutti_host_graph_info", "info");
    EXPECT(tutti_host_graph_info(NULL, &info), "tutti_host_graph_info", "graph");
    EXPECT(tutti_host_graph_info(graph, &info), "tutti_host_graph_info", "struct_bytes");
    CHECK(info.nodes == 77, "info was touched");
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    JOURNAL_EXPECT("the capture", 1);

    tutti_host_graph_destroy(graph);
    tutti_host_graph_destroy(NULL);
    tutti_host_event_destroy(event);
    tutti_host_event_destroy(NULL);
    tutti_host_stream_destroy(stream);
    return 0;
}
