/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting and asking beside a capture: each capture mode x calling thread x strictness of that thread x call. The rule is
 * cuThreadExchangeStreamCaptureMode's, written out again here as a table: 1 where the call is refused.
 */
#include <string.h>

#include "harness/journal.h"
#include "tutti/host.h"

static tutti_host_stream *capturing, *beside;
static tutti_host_event *event;

static tutti_status stream_synchronize(void)
{
    return tutti_host_stream_synchronize(beside);
}

static tutti_status stream_query(void)
{
    int done = -7;
    tutti_status status = tutti_host_stream_query(beside, &done);
    CHECK(status == TUTTI_OK ? done == 1 : done == -7, "done is %d", done);
    return status;
}

static tutti_status event_synchronize(void)
{
    return tutti_host_event_synchronize(event);
}

static tutti_status event_query(void)
{
    int done = -7;
    tutti_status status = tutti_host_event_query(event, &done);
    CHECK(status == TUTTI_OK ? done == 1 : done == -7, "done is %d", done);
    return status;
}

static tutti_status null_synchronize(void)
{
    return tutti_host_stream_synchronize(NULL);
}

static tutti_status null_query(void)
{
    int done = -7;
    return tutti_host_stream_query(NULL, &done);
}

static const struct {
    const char *name;
    tutti_status (*run)(void);
} calls[] = {
    {"tutti_host_stream_synchronize", stream_synchronize}, {"tutti_host_stream_query", stream_query},
    {"tutti_host_event_synchronize", event_synchronize},   {"tutti_host_event_query", event_query},
    {"tutti_host_stream_synchronize", null_synchronize},   {"tutti_host_stream_query", null_query},
};

static const char *const modes[] = {"global", "thread-local", "relaxed"};

/* [capture's mode][calling thread's mode] */
static const int refused_same_thread[3][3] = {{1, 1, 0}, {1, 1, 0}, {0, 0, 0}};
static const int refused_other_thread[3][3] = {{1, 0, 0}, {0, 0, 0}, {0, 0, 0}};

struct attempt {
    size_t call;
    tutti_host_capture_mode thread_mode;
    tutti_status status;
    char sentence[512];
};

static void *attempt_run(void *argument)
{
    struct attempt *attempt = argument;
    tutti_host_capture_mode mode = attempt->thread_mode;
    CHECK_OK(tutti_host_capture_mode_exchange(&mode));
    CHECK(mode == TUTTI_HOST_CAPTURE_GLOBAL, "a thread begins in mode %d", (int)mode);
    attempt->status = calls[attempt->call].run();
    (void)snprintf(attempt->sentence, sizeof(attempt->sentence), "%s", tutti_last_error());
    CHECK_OK(tutti_host_capture_mode_exchange(&mode));
    CHECK(mode == attempt->thread_mode, "the mode did not stay");
    return NULL;
}

static void check_end(tutti_host_capture_mode mode, const struct attempt *attempt, int refused)
{
    static const int one = 1;
    tutti_host_capture_status state = TUTTI_HOST_CAPTURE_NONE;
    uint64_t id = 0;
    CHECK_OK(tutti_host_capture_info(capturing, &state, &id));
    CHECK(state == (refused ? TUTTI_HOST_CAPTURE_INVALIDATED : TUTTI_HOST_CAPTURE_ACTIVE), "state %d", (int)state);
    tutti_host_graph *graph = NULL;
    if (!refused) {
        CHECK_OK(tutti_host_enqueue(capturing, journal_write, (void *)(uintptr_t)&one));
        CHECK_OK(tutti_host_capture_end(capturing, &graph));
        CHECK_OK(tutti_host_graph_launch(graph, NULL));
        JOURNAL_EXPECT("an undisturbed capture", 1);
        tutti_host_graph_destroy(graph);
        return;
    }
    CHECK_SENTENCE(strstr(attempt->sentence, calls[attempt->call].name) != NULL, "sentence: %s", attempt->sentence);
    CHECK_SENTENCE(strstr(attempt->sentence, modes[mode]) != NULL, "sentence: %s", attempt->sentence);
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(capturing, &graph));
    CHECK(graph == NULL, "a failed end touched the graph");
    CHECK_SENTENCE(strstr(tutti_last_error(), calls[attempt->call].name) != NULL, "sentence: %s", tutti_last_error());
    CHECK_SENTENCE(strstr(tutti_last_error(), modes[mode]) != NULL, "sentence: %s", tutti_last_error());
}

static void one_case(tutti_host_capture_mode mode, int other_thread, struct attempt *attempt, int refused)
{
    CHECK_OK(tutti_host_capture_begin(capturing, mode));
    if (other_thread) {
        on_other_thread(attempt_run, attempt);
    } else {
        (void)attempt_run(attempt);
    }
    CHECK(attempt->status == (refused ? TUTTI_ERR_CAPTURE : TUTTI_OK),
          "capture %s, %s thread in mode %s, call %zu: %s (%s)", modes[mode], other_thread ? "other" : "same",
          modes[attempt->thread_mode], attempt->call, tutti_status_name(attempt->status), attempt->sentence);
    check_end(mode, attempt, refused);
}

/* One call beside three captures invalidates exactly those that forbid it. */
static void exactly_those(void)
{
    tutti_host_stream *streams[3];
    tutti_host_graph *graphs[3] = {NULL, NULL, NULL};
    for (int mode = 0; mode < 3; mode++) {
        CHECK_OK(tutti_host_stream_create(&streams[mode]));
        CHECK_OK(tutti_host_capture_begin(streams[mode], (tutti_host_capture_mode)mode));
    }
    struct attempt attempt = {.call = 3, .thread_mode = TUTTI_HOST_CAPTURE_GLOBAL};
    on_other_thread(attempt_run, &attempt);
    CHECK(attempt.status == TUTTI_ERR_CAPTURE, "%s", tutti_status_name(attempt.status));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(streams[0], &graphs[0]));
    for (int mode = 1; mode < 3; mode++) {
        CHECK_OK(tutti_host_capture_end(streams[mode], &graphs[mode]));
    }
    for (int mode = 0; mode < 3; mode++) {
        tutti_host_graph_destroy(graphs[mode]);
        tutti_host_stream_destroy(streams[mode]);
    }
}

/* Until it is ended, an invalidated capture forbids what it forbade before. */
static void invalidated_still_forbids(void)
{
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(capturing, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_STATUS(TUTTI_ERR_CAPTURE, event_query());
    CHECK_STATUS(TUTTI_ERR_CAPTURE, stream_synchronize());
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_host_capture_end(capturing, &graph));
    const char *first = strstr(tutti_last_error(), "tutti_host_event_query");
    const char *second = strstr(tutti_last_error(), "tutti_host_stream_synchronize");
    CHECK_SENTENCE(first != NULL && second != NULL && first < second, "sentence: %s", tutti_last_error());
    CHECK_OK(event_query());
    CHECK_OK(stream_synchronize());
}

int main(void)
{
    CHECK_OK(tutti_host_stream_create(&capturing));
    CHECK_OK(tutti_host_stream_create(&beside));
    CHECK_OK(tutti_host_event_create(&event));
    CHECK_OK(tutti_host_event_record(event, beside));
    for (int mode = 0; mode < 3; mode++) {
        for (int thread_mode = 0; thread_mode < 3; thread_mode++) {
            for (size_t call = 0; call < sizeof(calls) / sizeof(calls[0]); call++) {
                struct attempt attempt = {.call = call, .thread_mode = (tutti_host_capture_mode)thread_mode};
                one_case((tutti_host_capture_mode)mode, 0, &attempt, refused_same_thread[mode][thread_mode]);
                one_case((tutti_host_capture_mode)mode, 1, &attempt, refused_other_thread[mode][thread_mode]);
            }
        }
    }
    exactly_those();
    invalidated_still_forbids();
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(beside);
    tutti_host_stream_destroy(capturing);
    return 0;
}
