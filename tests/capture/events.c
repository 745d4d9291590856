/* SPDX-License-Identifier: Apache-2.0 */
/* Events outside of captures: what a wait waits for is what the event marked when the wait was made. */
#include "harness/journal.h"
#include "tutti/host.h"

static tutti_host_stream *a, *b;
static tutti_host_event *event;
static sem_t gate;
static int numbers[] = {0, 1, 2, 3, 4, 5};

static void enqueue(tutti_host_stream *stream, int number)
{
    CHECK_OK(tutti_host_enqueue(stream, journal_write, &numbers[number]));
}

static void hold(tutti_host_stream *stream)
{
    CHECK_OK(tutti_host_enqueue(stream, gate_hold, &gate));
}

static int query(void)
{
    int done = -1;
    CHECK_OK(tutti_host_event_query(event, &done));
    return done;
}

static void never_recorded(void)
{
    tutti_host_event *fresh = NULL;
    int done = -1;
    CHECK_OK(tutti_host_event_create(&fresh));
    CHECK_OK(tutti_host_event_query(fresh, &done));
    CHECK(done == 1, "done is %d", done);
    CHECK_OK(tutti_host_event_synchronize(fresh));
    CHECK_OK(tutti_host_stream_wait_event(a, fresh));
    CHECK_OK(tutti_host_stream_wait_event(NULL, fresh));
    CHECK_OK(tutti_host_stream_synchronize(a));
    tutti_host_event_destroy(fresh);
}

static void marks_what_is_there(void)
{
    hold(a);
    enqueue(a, 1);
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK(query() == 0, "the event is complete while its stream is held");
    CHECK_OK(tutti_host_stream_wait_event(b, event));
    enqueue(b, 2);
    int done = -1;
    CHECK_OK(tutti_host_stream_query(b, &done));
    CHECK(done == 0, "b did not wait");
    gate_open(&gate);
    CHECK_OK(tutti_host_event_synchronize(event));
    CHECK(query() == 1, "not complete after synchronize");
    CHECK_OK(tutti_host_stream_synchronize(b));
    JOURNAL_EXPECT("b waits for a", 1, 2);
}

/* b waits for the first mark, c's synchronize for the second: work behind the first mark is held. */
static void recorded_again_later(void)
{
    enqueue(a, 1);
    CHECK_OK(tutti_host_event_record(event, a));
    CHECK_OK(tutti_host_stream_wait_event(b, event));
    enqueue(b, 2);
    hold(a);
    CHECK_OK(tutti_host_event_record(event, a)); /* must not move what b waits for */
    CHECK_OK(tutti_host_stream_synchronize(b));
    JOURNAL_EXPECT("b waited for the first mark only", 1, 2);
    CHECK(query() == 0, "the second mark is complete while its stream is held");
    gate_open(&gate);
    CHECK_OK(tutti_host_event_synchronize(event));
    CHECK_OK(tutti_host_event_record(event, NULL));
    CHECK(query() == 1, "a mark of the NULL stream is complete");
}

static void destroyed_while_pending(void)
{
    tutti_host_event *fresh = NULL;
    CHECK_OK(tutti_host_event_create(&fresh));
    hold(a);
    enqueue(a, 1);
    CHECK_OK(tutti_host_event_record(fresh, a));
    CHECK_OK(tutti_host_stream_wait_event(b, fresh));
    enqueue(b, 2);
    tutti_host_event_destroy(fresh);
    gate_open(&gate);
    CHECK_OK(tutti_host_stream_synchronize(b));
    JOURNAL_EXPECT("the wait outlived its event", 1, 2);
}

/* An event outlives the stream it marks. */
static void stream_destroyed(void)
{
    tutti_host_stream *gone = NULL;
    CHECK_OK(tutti_host_stream_create(&gone));
    enqueue(gone, 1);
    CHECK_OK(tutti_host_event_record(event, gone));
    CHECK_OK(tutti_host_stream_wait_event(b, event));
    tutti_host_stream_destroy(gone);
    CHECK(query() == 1, "a destroyed stream's work is done");
    CHECK_OK(tutti_host_event_synchronize(event));
    CHECK_OK(tutti_host_stream_wait_event(a, event));
    CHECK_OK(tutti_host_stream_synchronize(a));
    CHECK_OK(tutti_host_stream_synchronize(b));
    JOURNAL_EXPECT("the destroyed stream's work", 1);
}

/* A long chain of streams, each waiting for the one before: whoever waits for the last works through all. */
static void chain(void)
{
    enum { LENGTH = 40 };
    static int order[LENGTH];
    tutti_host_stream *streams[LENGTH];
    for (int i = 0; i < LENGTH; i++) {
        order[i] = i;
        CHECK_OK(tutti_host_stream_create(&streams[i]));
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < LENGTH; i++) {
            if (i > 0) {
                CHECK_OK(tutti_host_stream_wait_event(streams[i], event));
            }
            CHECK_OK(tutti_host_enqueue(streams[i], journal_write, &order[i]));
            CHECK_OK(tutti_host_event_record(event, streams[i]));
        }
        CHECK_OK(tutti_host_stream_wait_event(streams[0], event));
        CHECK_OK(tutti_host_stream_synchronize(streams[LENGTH - 1]));
        journal_expect(order, LENGTH, "a chain of streams");
    }
    for (int i = 0; i < LENGTH; i++) {
        tutti_host_stream_destroy(streams[i]);
    }
}

int main(void)
{
    CHECK(sem_init(&gate, 0, 0) == 0, "sem_init");
    CHECK_OK(tutti_host_stream_create(&a));
    CHECK_OK(tutti_host_stream_create(&b));
    CHECK_OK(tutti_host_event_create(&event));
    never_recorded();
    marks_what_is_there();
    recorded_again_later();
    destroyed_while_pending();
    stream_destroyed();
    chain();
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(b);
    tutti_host_stream_destroy(a);
    return 0;
}
