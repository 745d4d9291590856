/* SPDX-License-Identifier: Apache-2.0 */
/* After its invalidation a capture refuses every use of its streams and events until it is ended, and its end names what
 * invalidated it and the first operation that was refused afterwards. */
#include <string.h>

#include "harness/journal.h"
#include "tutti/host.h"

static tutti_host_stream *a, *b, *eager;
static tutti_host_event *event, *other;
static tutti_host_graph *child;
static int number = 1;
static int done;

static tutti_status enqueue_origin(void)
{
    return tutti_host_enqueue(a, journal_write, &number);
}

static tutti_status enqueue_forked(void)
{
    return tutti_host_enqueue(b, journal_write, &number);
}

static tutti_status launch(void)
{
    return tutti_host_graph_launch(child, b);
}

static tutti_status record(void)
{
    return tutti_host_event_record(other, a);
}

static tutti_status join(void)
{
    return tutti_host_stream_wait_event(a, event);
}

static tutti_status fork_more(void)
{
    return tutti_host_stream_wait_event(eager, event);
}

static tutti_status begin(void)
{
    return tutti_host_capture_begin(b, TUTTI_HOST_CAPTURE_GLOBAL);
}

static tutti_status synchronize(void)
{
    return tutti_host_stream_synchronize(b);
}

static tutti_status query(void)
{
    return tutti_host_stream_query(a, &done);
}

static tutti_status event_synchronize(void)
{
    return tutti_host_event_synchronize(event);
}

static tutti_status event_query(void)
{
    return tutti_host_event_query(event, &done);
}

static tutti_status end_forked(void)
{
    tutti_host_graph *graph = NULL;
    return tutti_host_capture_end(b, &graph);
}

static const struct {
    const char *name;
    tutti_status (*run)(void);
} uses[] = {
    {"tutti_host_enqueue", enqueue_origin},  {"tutti_host_enqueue", enqueue_forked},
    {"tutti_host_graph_launch", launch},     {"tutti_host_event_record", record},
    {"tutti_host_stream_wait_event", join},  {"tutti_host_stream_wait_event", fork_more},
    {"tutti_host_capture_begin", begin},     {"tutti_host_stream_synchronize", synchronize},
    {"tutti_host_stream_query", query},      {"tutti_host_event_synchronize", event_synchronize},
    {"tutti_host_event_query", event_query}, {"tutti_host_capture_end", end_forked},
};
#define USES (sizeof(uses) / sizeof(uses[0]))

static void open_and_invalidate(void)
{
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    CHECK_OK(enqueue_origin());
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK_OK(tutti_host_stream_wait_event(b, event));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_stream_query(eager, &done));
}

static void expect_end(const char *first_refused)
{
    tutti_host_graph *graph = NULL;
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(a, &graph));
    CHECK(graph == NULL, "a failed end touched the graph");
    CHECK_SENTENCE(strstr(tutti_last_error(), "invalidated by tutti_host_stream_query of thread") != NULL,
                   "sentence: %s", tutti_last_error());
    char wanted[96];
    (void)snprintf(wanted, sizeof(wanted), "refused afterwards was %s of thread", first_refused);
    CHECK_SENTENCE(strstr(tutti_last_error(), first_refused == NULL ? "no operation was refused" : wanted) != NULL,
                   "sentence: %s", tutti_last_error());
}

int main(void)
{
    CHECK_OK(tutti_host_stream_create(&a));
    CHECK_OK(tutti_host_stream_create(&b));
    CHECK_OK(tutti_host_stream_create(&eager));
    CHECK_OK(tutti_host_event_create(&event));
    CHECK_OK(tutti_host_event_create(&other));
    CHECK_OK(tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(enqueue_origin());
    CHECK_OK(tutti_host_capture_end(a, &child));

    open_and_invalidate();
    expect_end(NULL);
    for (size_t first = 0; first < USES; first++) {
        open_and_invalidate();
        for (size_t i = 0; i < USES; i++) {
            size_t use = (first + i) % USES;
            CHECK(uses[use].run() == TUTTI_ERR_CAPTURE, "%s (use %zu) was not refused", uses[use].name, use);
            CHECK_SENTENCE(strstr(tutti_last_error(), uses[use].name) != NULL, "sentence: %s", tutti_last_error());
        }
        expect_end(uses[first].name);
        CHECK_OK(tutti_host_stream_synchronize(a));
        CHECK_OK(tutti_host_stream_synchronize(b));
        CHECK(journal_count() == 0, "captured work ran");
    }
    tutti_host_graph_destroy(child);
    tutti_host_event_destroy(other);
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(eager);
    tutti_host_stream_destroy(b);
    tutti_host_stream_destroy(a);
    return 0;
}
