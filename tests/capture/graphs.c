/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs replay on any stream, one launch after another, live as long as they are needed, and nest. */
#include <stdatomic.h>
#include <string.h>

#include "harness/journal.h"
#include "tutti/host.h"

static tutti_host_stream *a, *b;
static sem_t gate;
static int numbers[] = {0, 1, 2, 3, 4, 5, 6};

static void enqueue(tutti_host_stream *stream, int number)
{
    CHECK_OK(tutti_host_enqueue(stream, journal_write, &numbers[number]));
}

static tutti_host_graph *end(void)
{
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_end(a, &graph));
    return graph;
}

static tutti_host_graph *capture_numbers(int first, int last)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    for (int number = first; number <= last; number++) {
        enqueue(a, number);
    }
    return end();
}

static uint64_t launches(const tutti_host_graph *graph)
{
    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_host_graph_info(graph, &info));
    return info.launches;
}

/* Drivers do not count them. */
#define CHECK_LAUNCHES(condition, ...) CHECK(ON_DEVICES || (condition), __VA_ARGS__)

static void between_eager_work(void)
{
    tutti_host_graph *graph = capture_numbers(1, 2);
    for (int i = 0; i < 3; i++) {
        enqueue(b, 3);
        CHECK_OK(tutti_host_graph_launch(graph, b));
        enqueue(b, 4);
        CHECK_OK(tutti_host_graph_launch(graph, b));
        CHECK_OK(tutti_host_stream_synchronize(b));
        JOURNAL_EXPECT("between eager work", 3, 1, 2, 4, 1, 2);
        CHECK_OK(tutti_host_graph_launch(graph, NULL));
        JOURNAL_EXPECT("on the NULL stream", 1, 2);
    }
    CHECK_LAUNCHES(launches(graph) == 9, "%llu launches", (unsigned long long)launches(graph));
    tutti_host_graph_destroy(graph);
}

static _Atomic int inside;
static _Atomic int runs;

static void alone(void *argument)
{
    (void)argument;
    CHECK(atomic_fetch_add(&inside, 1) == 0, "two launches of one graph at the same time");
    (void)atomic_fetch_add(&runs, 1);
    (void)atomic_fetch_sub(&inside, 1);
}

static void *launch_often(void *graph)
{
    for (int i = 0; i < 100; i++) {
        CHECK_OK(tutti_host_graph_launch(graph, i % 3 == 0 ? a : b));
        CHECK_OK(tutti_host_graph_launch(graph, i % 2 == 0 ? b : NULL));
    }
    return NULL;
}

/* From several threads, on two streams and none. */
static void one_at_a_time(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_enqueue(a, alone, NULL));
    tutti_host_graph *graph = end();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, launch_often, graph) == 0, "pthread_create");
    }
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
    }
    CHECK_OK(tutti_host_stream_synchronize(a));
    CHECK_OK(tutti_host_stream_synchronize(b));
    CHECK(atomic_load(&runs) == 600 && (ON_DEVICES || launches(graph) == 600), "%d runs, %llu launches",
          atomic_load(&runs), (unsigned long long)launches(graph));
    tutti_host_graph_destroy(graph);
}

/* b's launch comes second although b is free: a's was made first. */
static void in_launch_order(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    enqueue(a, 1);
    tutti_host_graph *graph = end();
    CHECK_OK(tutti_host_enqueue(a, gate_hold, &gate));
    enqueue(a, 2);
    CHECK_OK(tutti_host_graph_launch(graph, a));
    CHECK_OK(tutti_host_graph_launch(graph, b));
    enqueue(b, 3);
    int done = -1;
    CHECK_OK(tutti_host_stream_query(b, &done));
    CHECK(done == 0 && journal_count() == 0, "the second launch overtook the first");
    gate_open(&gate);
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    CHECK_OK(tutti_host_stream_synchronize(b));
    CHECK_OK(tutti_host_stream_synchronize(a));
    CHECK_LAUNCHES(launches(graph) == 3, "%llu launches", (unsigned long long)launches(graph));
    CHECK(journal_count() == 5, "%d ran", journal_count());
    CHECK(journal.items[0] == 2 && journal.items[1] == 1, "the first launch was not the first");
    journal.count = 0;
    tutti_host_graph_destroy(graph);
}

static void destroyed_while_launched(void)
{
    tutti_host_graph *graph = capture_numbers(1, 3);
    CHECK_OK(tutti_host_enqueue(b, gate_hold, &gate));
    CHECK_OK(tutti_host_graph_launch(graph, b));
    CHECK_OK(tutti_host_graph_launch(graph, b));
    tutti_host_graph_destroy(graph);
    gate_open(&gate);
    CHECK_OK(tutti_host_stream_synchronize(b));
    JOURNAL_EXPECT("a destroyed graph's launches", 1, 2, 3, 1, 2, 3);
    tutti_host_graph_destroy(NULL);
}

static void children(void)
{
    tutti_host_graph *child = capture_numbers(1, 2);
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    enqueue(a, 3);
    CHECK_OK(tutti_host_graph_launch(child, a));
    CHECK_OK(tutti_host_graph_launch(child, a));
    enqueue(a, 4);
    tutti_host_graph *parent = end();
    CHECK(journal_count() == 0, "a captured launch ran");
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_graph_launch(parent, a));
    enqueue(a, 5);
    tutti_host_graph *grandparent = end();

    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_host_graph_info(parent, &info));
    CHECK(info.nodes == 4 && info.functions == 2 && info.children == 2 && info.edges == 3, "the parent's info");
    CHECK_OK(tutti_host_graph_launch(child, NULL));
    JOURNAL_EXPECT("the child alone", 1, 2);
    tutti_host_graph_destroy(child); /* kept by its parent, as that by its own */
    tutti_host_graph_destroy(parent);
    CHECK_OK(tutti_host_graph_launch(grandparent, b));
    CHECK_OK(tutti_host_graph_launch(grandparent, NULL));
    CHECK_OK(tutti_host_stream_synchronize(b));
    JOURNAL_EXPECT("three generations", 3, 1, 2, 1, 2, 4, 5, 3, 1, 2, 1, 2, 4, 5);
    tutti_host_graph_destroy(grandparent);
}

/* A child that is in an invalid capture lives on by its own right. */
static void child_of_an_invalid_capture(void)
{
    tutti_host_graph *child = capture_numbers(1, 1);
    tutti_host_graph *none = NULL;
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_graph_launch(child, a));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_synchronize(b));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_graph_launch(child, a));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(a, &none));
    CHECK_OK(tutti_host_graph_launch(child, a));
    CHECK_OK(tutti_host_stream_synchronize(a));
    JOURNAL_EXPECT("the child", 1);
    CHECK_LAUNCHES(launches(child) == 1, "%llu launches", (unsigned long long)launches(child));
    tutti_host_graph_destroy(child);
}

static tutti_host_graph *own;
static tutti_status own_status;

static void launch_own(void *stream)
{
    own_status = tutti_host_graph_launch(own, stream);
}

/* A function that launches, on the calling thread, what it is part of or what is queued behind it: told so, no hang. */
static void launched_from_inside(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(tutti_host_enqueue(a, launch_own, NULL));
    own = end();
    CHECK_OK(tutti_host_graph_launch(own, NULL));
    CHECK(own_status == TUTTI_ERR_ARGUMENT, "%s", tutti_status_name(own_status));
    CHECK(launches(own) == 1, "%llu launches", (unsigned long long)launches(own));
    tutti_host_graph_destroy(own);

    own = capture_numbers(1, 1);
    CHECK_OK(tutti_host_enqueue(b, gate_hold, &gate));
    CHECK_OK(tutti_host_enqueue(b, launch_own, NULL));
    CHECK_OK(tutti_host_enqueue(b, launch_own, a)); /* that is fine */
    CHECK_OK(tutti_host_graph_launch(own, b));
    own_status = TUTTI_OK;
    gate_open(&gate);
    CHECK_OK(tutti_host_stream_synchronize(b));
    CHECK(own_status == TUTTI_OK && launches(own) >= 1, "the launch on a stream");
    CHECK_OK(tutti_host_stream_synchronize(a));
    CHECK(journal_count() == 2 && launches(own) == 2, "%d ran, %llu launches", journal_count(),
          (unsigned long long)launches(own));
    journal.count = 0;
    tutti_host_graph_destroy(own);
}

/* 10,000 nodes on four streams that fork and join all the time. */
static void large(void)
{
    enum { NODES = 10000, STREAMS = 4 };
    static int order[NODES];
    tutti_host_stream *streams[STREAMS] = {a, b, NULL, NULL};
    tutti_host_event *event = NULL;
    CHECK_OK(tutti_host_event_create(&event));
    CHECK_OK(tutti_host_stream_create(&streams[2]));
    CHECK_OK(tutti_host_stream_create(&streams[3]));
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    for (int i = 0; i < NODES; i++) {
        order[i] = i;
        CHECK_OK(tutti_host_enqueue(streams[i % STREAMS], journal_write, &order[i]));
        CHECK_OK(tutti_host_event_record(event, streams[i % STREAMS]));
        CHECK_OK(tutti_host_stream_wait_event(streams[(i + 1) % STREAMS], event));
    }
    CHECK_OK(tutti_host_stream_wait_event(a, event));
    tutti_host_graph *graph = end();
    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_host_graph_info(graph, &info));
    CHECK(info.nodes == NODES && info.edges <= 2 * NODES, "%llu edges", (unsigned long long)info.edges);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(tutti_host_graph_launch(graph, b));
        CHECK_OK(tutti_host_stream_synchronize(b));
        journal_expect(order, NODES, "10,000 nodes");
    }
    tutti_host_graph_destroy(graph);
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(streams[3]);
    tutti_host_stream_destroy(streams[2]);
}

int main(void)
{
    CHECK(sem_init(&gate, 0, 0) == 0, "sem_init");
    CHECK_OK(tutti_host_stream_create(&a));
    CHECK_OK(tutti_host_stream_create(&b));
    between_eager_work();
    one_at_a_time();
    in_launch_order();
    destroyed_while_launched();
    children();
    child_of_an_invalid_capture();
    if (!ON_DEVICES) { /* a driver forbids it: cuLaunchHostFunc */
        launched_from_inside();
    }
    large();
    tutti_host_stream_destroy(b);
    tutti_host_stream_destroy(a);
    return 0;
}
