/* SPDX-License-Identifier: Apache-2.0 */
/* Streams run in order, beside their caller, one function at a time, whoever executes. */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/journal.h"
#include "tutti/host.h"

static tutti_host_stream *stream;
static sem_t gate;

static void order(void)
{
    enum { COUNT = 5000 };
    static int numbers[COUNT];
    for (int i = 0; i < COUNT; i++) {
        numbers[i] = i;
    }
    for (int batch = 1; batch < COUNT; batch *= 7) { /* also more than the queue's first capacity */
        for (int i = 0; i < COUNT; i++) {
            CHECK_OK(tutti_host_enqueue(stream, journal_write, &numbers[i]));
            if (i % batch == 0) {
                CHECK_OK(tutti_host_stream_synchronize(stream));
                CHECK(journal_count() == i + 1, "%d of %d done after synchronize", journal_count(), i + 1);
            }
        }
        CHECK_OK(tutti_host_stream_synchronize(stream));
        journal_expect(numbers, COUNT, "order");
    }
}

/* Work runs though nobody waits for it. */
static void runs_by_itself(void)
{
    static int one = 1;
    CHECK_OK(tutti_host_enqueue(stream, journal_write, &one));
    CHECK_OK(tutti_host_enqueue(stream, (tutti_host_function)gate_open, &gate));
    gate_hold(&gate);
    JOURNAL_EXPECT("nobody waited", 1);
}

static void null_stream(void)
{
    static int one = 1;
    int done = 0;
    CHECK_OK(tutti_host_enqueue(NULL, journal_write, &one));
    JOURNAL_EXPECT("the NULL stream is the caller", 1);
    CHECK_OK(tutti_host_stream_synchronize(NULL));
    CHECK_OK(tutti_host_stream_query(NULL, &done));
    CHECK(done == 1, "done is %d", done);
}

static void query(void)
{
    int done = -1;
    CHECK_OK(tutti_host_enqueue(stream, gate_hold, &gate));
    CHECK_OK(tutti_host_stream_query(stream, &done));
    CHECK(done == 0, "a held stream is done");
    gate_open(&gate);
    CHECK_OK(tutti_host_stream_synchronize(stream));
    CHECK_OK(tutti_host_stream_query(stream, &done));
    CHECK(done == 1, "done is %d", done);
}

static _Atomic int inside;
static uint64_t plain_sum; /* not atomic: only one thread at a time may be in a function of the stream */

static void add_alone(void *argument)
{
    CHECK(atomic_fetch_add(&inside, 1) == 0, "two functions of one stream at the same time");
    plain_sum += *(const uint64_t *)argument;
    (void)atomic_fetch_sub(&inside, 1);
}

#define ADDS 2000

static void *add_many(void *argument)
{
    for (int i = 0; i < ADDS; i++) {
        CHECK_OK(tutti_host_enqueue(stream, add_alone, argument));
        if (i % 50 == 0) {
            CHECK_OK(tutti_host_stream_synchronize(stream));
        }
    }
    CHECK_OK(tutti_host_stream_synchronize(stream));
    return NULL;
}

static void many_threads(void)
{
    static uint64_t values[4] = {1, 1000, 1000000, 1000000000};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, add_many, &values[i]) == 0, "pthread_create");
    }
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
    }
    CHECK(plain_sum == 1001001001ull * ADDS, "sum %llu", (unsigned long long)plain_sum);
}

static tutti_host_event *behind;
static tutti_status own[4];

static void wait_for_myself(void *argument)
{
    int done = -1;
    (void)argument;
    own[0] = tutti_host_stream_synchronize(stream);
    CHECK(strstr(tutti_last_error(), "wait for itself") != NULL, "sentence: %s", tutti_last_error());
    gate_hold(&gate); /* until the event behind this function is recorded */
    own[1] = tutti_host_event_synchronize(behind);
    own[2] = tutti_host_stream_wait_event(NULL, behind);
    own[3] = tutti_host_stream_query(stream, &done);
    CHECK(done == 0, "the stream is not done while its function runs");
}

/* A function that waits for its own stream is told so, whichever thread executes it. */
static void own_stream(void)
{
    CHECK_OK(tutti_host_event_create(&behind));
    for (int i = 0; i < 20; i++) {
        memset(own, 0x55, sizeof(own));
        CHECK_OK(tutti_host_enqueue(stream, wait_for_myself, NULL));
        CHECK_OK(tutti_host_event_record(behind, stream));
        gate_open(&gate);
        CHECK_OK(tutti_host_stream_synchronize(stream));
        CHECK(own[0] == TUTTI_ERR_ARGUMENT && own[1] == TUTTI_ERR_ARGUMENT && own[2] == TUTTI_ERR_ARGUMENT, "%d %d %d",
              (int)own[0], (int)own[1], (int)own[2]);
        CHECK(own[3] == TUTTI_OK, "%d", (int)own[3]);
    }
    tutti_host_event_destroy(behind);
}

static void enqueue_more(void *argument)
{
    int *left = argument;
    journal_add(*left);
    if (--*left > 0) {
        CHECK_OK(tutti_host_enqueue(stream, enqueue_more, left));
    } else {
        gate_open(&gate);
    }
}

static void enqueue_from_function(void)
{
    for (int i = 0; i < 20; i++) {
        int left = 5;
        CHECK_OK(tutti_host_enqueue(stream, enqueue_more, &left));
        CHECK_OK(tutti_host_stream_synchronize(stream));
        gate_hold(&gate);
        CHECK_OK(tutti_host_stream_synchronize(stream));
        JOURNAL_EXPECT("functions that enqueue", 5, 4, 3, 2, 1);
    }
}

/* What fails in helped work is not the failure of the thread that helps. */
static void fail_quietly(void *argument)
{
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_host_stream_query(argument, NULL));
}

static void last_error_survives(void)
{
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_host_enqueue(stream, NULL, NULL));
    char sentence[512];
    (void)snprintf(sentence, sizeof(sentence), "%s", tutti_last_error());
    for (int i = 0; i < 50; i++) {
        CHECK_OK(tutti_host_enqueue(stream, fail_quietly, stream));
        CHECK_OK(tutti_host_stream_synchronize(stream));
        CHECK(strcmp(sentence, tutti_last_error()) == 0, "sentence: %s", tutti_last_error());
    }
}

static void destroy_waits(void)
{
    static int numbers[] = {1, 2, 3};
    tutti_host_stream *gone = NULL;
    for (int i = 0; i < 50; i++) {
        CHECK_OK(tutti_host_stream_create(&gone));
        for (int j = 0; j < 3; j++) {
            CHECK_OK(tutti_host_enqueue(gone, journal_write, &numbers[j]));
        }
        tutti_host_stream_destroy(gone);
        JOURNAL_EXPECT("destroy waits", 1, 2, 3);
    }
    tutti_host_stream_destroy(NULL);
}

static void destroy_own(void *argument)
{
    tutti_host_stream_destroy(argument);
    gate_open(&gate);
}

/* The last function of a stream may destroy it. */
static void destroyed_from_inside(void)
{
    for (int i = 0; i < 20; i++) {
        tutti_host_stream *gone = NULL;
        CHECK_OK(tutti_host_stream_create(&gone));
        CHECK_OK(tutti_host_enqueue(gone, destroy_own, gone));
        gate_hold(&gate);
    }
}

static void note_mask(void *argument)
{
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, argument) == 0, "pthread_sigmask");
    gate_open(&gate);
}

static void signals_blocked(void)
{
    sigset_t mask;
    (void)sigemptyset(&mask);
    CHECK_OK(tutti_host_enqueue(stream, note_mask, &mask));
    gate_hold(&gate); /* not synchronize, which could run it here */
    CHECK(sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGUSR1) == 1,
          "the worker takes signals");
}

/* A forked child has no workers. It cannot use its parent's streams, but it can drop them and exit. */
static void forked_child(void)
{
    (void)fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        (void)alarm(20);
        tutti_host_stream_destroy(stream);
        exit(0);
    }
    int state = -1;
    CHECK(waitpid(child, &state, 0) == child && state == 0, "the child ended with wait status 0x%x", (unsigned)state);
}

int main(void)
{
    CHECK(sem_init(&gate, 0, 0) == 0, "sem_init");
    CHECK_OK(tutti_host_stream_create(&stream));
    order();
    runs_by_itself();
    null_stream();
    query();
    many_threads();
    own_stream();
    enqueue_from_function();
    last_error_survives();
    destroy_waits();
    destroyed_from_inside();
    signals_blocked();
    forked_child();
    tutti_host_stream_destroy(stream);
    return 0;
}
