/* SPDX-License-Identifier: Apache-2.0 */
/* Forks and joins by events: the graph holds every branch, and runs what they order in that order; the host's graphs run all of it in the
 * order of capture. */
#include "harness/journal.h"
#include "tutti/host.h"

static tutti_host_stream *a, *b, *c;
static tutti_host_event *events[3];
static int numbers[] = {0, 1, 2, 3, 4, 5, 6, 7};

static void enqueue(tutti_host_stream *stream, int number)
{
    CHECK_OK(tutti_host_enqueue(stream, journal_write, &numbers[number]));
}

static void order(tutti_host_stream *from, tutti_host_stream *to, tutti_host_event *event)
{
    CHECK_OK(tutti_host_event_record(event, from));
    CHECK_OK(tutti_host_stream_wait_event(to, event));
}

static tutti_host_graph *end(uint64_t nodes, uint64_t edges)
{
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_end(a, &graph));
    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_host_graph_info(graph, &info));
    CHECK(info.nodes == nodes && info.functions == nodes && info.edges == edges,
          "%llu nodes, %llu functions, %llu edges", (unsigned long long)info.nodes, (unsigned long long)info.functions,
          (unsigned long long)info.edges);
    CHECK(info.collectives == 0 && info.children == 0 && info.launches == 0, "info of a new graph");
    CHECK(ON_DEVICES || info.memory_bytes >= nodes * 2 * sizeof(void *), "%llu bytes",
          (unsigned long long)info.memory_bytes);
    return graph;
}

static void diamond(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    enqueue(a, 1);
    order(a, b, events[0]);
    order(a, c, events[0]);
    enqueue(c, 2);
    enqueue(b, 3);
    order(b, a, events[1]);
    order(c, a, events[2]);
    enqueue(a, 4);
    tutti_host_graph *graph = end(4, 5); /* 1-2, 1-3, and 4 behind 1, 2 and 3 */
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    if (ON_DEVICES) {
        JOURNAL_HOLDS("a diamond", 1, 2, 4);
        JOURNAL_HOLDS("a diamond", 1, 3, 4);
        journal_end(4, "a diamond");
    } else {
        JOURNAL_EXPECT("a diamond", 1, 2, 3, 4);
    }
    tutti_host_graph_destroy(graph);
}

/* Joined through another branch; the branch itself never meets the first stream. */
static void joined_through(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    order(a, b, events[0]);
    enqueue(b, 1);
    order(b, c, events[1]);
    enqueue(c, 2);
    order(c, a, events[2]);
    tutti_host_graph *graph = end(2, 1);
    CHECK_OK(tutti_host_graph_launch(graph, c));
    CHECK_OK(tutti_host_stream_synchronize(c));
    JOURNAL_EXPECT("joined through c", 1, 2);
    tutti_host_graph_destroy(graph);
}

/* A captured event keeps what it marked, also for a wait that comes much later. */
static void snapshot(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    enqueue(a, 1);
    CHECK_OK(tutti_host_event_record(events[0], a));
    enqueue(a, 2);
    enqueue(a, 3);
    CHECK_OK(tutti_host_stream_wait_event(b, events[0])); /* behind 1 alone */
    enqueue(b, 4);
    order(b, a, events[1]);
    enqueue(a, 5);
    tutti_host_graph *graph = end(5, 5); /* 1-2, 2-3, 1-4, and 5 behind 3 and 4 */
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    if (ON_DEVICES) {
        JOURNAL_HOLDS("a snapshot", 1, 2, 3, 5);
        JOURNAL_HOLDS("a snapshot", 1, 4, 5);
        journal_end(5, "a snapshot");
    } else {
        JOURNAL_EXPECT("a snapshot", 1, 2, 3, 4, 5);
    }
    tutti_host_graph_destroy(graph);
}

/* The stream's earlier work and the event's destruction do not matter to the capture. */
static void event_destroyed(void)
{
    tutti_host_event *fresh = NULL;
    CHECK_OK(tutti_host_event_create(&fresh));
    enqueue(b, 7);
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    enqueue(a, 1);
    order(a, b, fresh);
    tutti_host_event_destroy(fresh);
    enqueue(b, 2);
    order(b, a, events[0]);
    tutti_host_graph *graph = end(2, 1);
    CHECK_OK(tutti_host_stream_synchronize(b));
    JOURNAL_EXPECT("work from before the capture", 7);
    CHECK_OK(tutti_host_graph_launch(graph, b));
    CHECK_OK(tutti_host_stream_synchronize(b));
    JOURNAL_EXPECT("replayed", 1, 2);
    tutti_host_graph_destroy(graph);
}

/* Waiting for one event again and again adds nothing. */
static void waited_often(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    enqueue(a, 1);
    order(a, b, events[0]);
    enqueue(b, 2);
    CHECK_OK(tutti_host_event_record(events[1], b));
    for (int i = 0; i < 1000; i++) {
        CHECK_OK(tutti_host_stream_wait_event(a, events[1]));
        CHECK_OK(tutti_host_stream_wait_event(a, events[0]));
    }
    enqueue(a, 3);
    tutti_host_graph *graph = end(3, 3);
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    JOURNAL_EXPECT("waited often", 1, 2, 3);
    tutti_host_graph_destroy(graph);
}

int main(void)
{
    CHECK_OK(tutti_host_stream_create(&a));
    CHECK_OK(tutti_host_stream_create(&b));
    CHECK_OK(tutti_host_stream_create(&c));
    for (int i = 0; i < 3; i++) {
        CHECK_OK(tutti_host_event_create(&events[i]));
    }
    diamond();
    joined_through();
    snapshot();
    event_destroyed();
    waited_often();
    for (int i = 0; i < 3; i++) {
        tutti_host_event_destroy(events[i]);
    }
    tutti_host_stream_destroy(c);
    tutti_host_stream_destroy(b);
    tutti_host_stream_destroy(a);
    return 0;
}
