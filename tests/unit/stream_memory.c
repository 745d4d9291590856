/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of every call fails once: SYSTEM with a sentence, nothing recorded, run or lost, and the same call
 * succeeds afterwards. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define REPLACED 0
#else
#define REPLACED 1
#endif

#include "harness/journal.h"
#include "tutti/host.h"

static _Thread_local int fail_in; /* the allocation that fails, counted from 1; 0: none */
static _Thread_local bool failed;

#if REPLACED
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);

static bool fails(void)
{
    if (fail_in == 0 || --fail_in > 0) {
        return false;
    }
    failed = true;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t bytes)
{
    return fails() ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    return fails() ? NULL : __libc_realloc(memory, bytes);
}
#endif

static tutti_host_stream *a, *b, *extra;
static tutti_host_event *event, *back;
static tutti_host_graph *graph, *child;
static int numbers[2000];
static int number;

static tutti_status enqueue(void)
{
    return tutti_host_enqueue(a, journal_write, &numbers[number]);
}

static tutti_status enqueue_forked(void)
{
    return tutti_host_enqueue(b, journal_write, &numbers[number]);
}

static tutti_status begin(void)
{
    return tutti_host_capture_begin(a, TUTTI_HOST_CAPTURE_GLOBAL);
}

static tutti_status end(void)
{
    return tutti_host_capture_end(a, &graph);
}

static tutti_status record(void)
{
    return tutti_host_event_record(event, a);
}

static tutti_status record_forked(void)
{
    return tutti_host_event_record(back, b);
}

static tutti_status fork_stream(void)
{
    return tutti_host_stream_wait_event(b, event);
}

static tutti_status join(void)
{
    return tutti_host_stream_wait_event(a, back);
}

static tutti_status launch(void)
{
    return tutti_host_graph_launch(graph, a);
}

static tutti_status launch_child(void)
{
    return tutti_host_graph_launch(child, a);
}

static tutti_status create_stream(void)
{
    return tutti_host_stream_create(&extra);
}

static tutti_status create_event(void)
{
    return tutti_host_event_create(&event);
}

static tutti_status create_back(void)
{
    return tutti_host_event_create(&back);
}

/* Fails the call's first allocation, then its second, and so on, until it succeeds without a failure. Returns how often it
 * failed. */
static int hard(tutti_status (*call)(void), const char *name)
{
    for (int nth = 1;; nth++) {
        fail_in = nth;
        failed = false;
        tutti_status status = call();
        fail_in = 0;
        if (status == TUTTI_OK) {
            return nth - 1;
        }
        CHECK(failed, "%s: %s (%s)", name, tutti_status_name(status), tutti_last_error());
        CHECK(status == TUTTI_ERR_SYSTEM, "%s: %s (%s)", name, tutti_status_name(status), tutti_last_error());
        CHECK(nth < 50, "%s never succeeds", name);
    }
}

#define HARD(call) hard(call, #call)

static void queue_full_of_work(void)
{
    sem_t gate;
    int failures = 0;
    CHECK(sem_init(&gate, 0, 0) == 0, "sem_init");
    CHECK_OK(tutti_host_enqueue(a, gate_hold, &gate));
    for (number = 0; number < 1000; number++) {
        failures += HARD(enqueue);
    }
    CHECK(failures >= 3, "the queue grew %d times", failures);
    gate_open(&gate);
    CHECK_OK(tutti_host_stream_synchronize(a));
    journal_expect(numbers, 1000, "enqueued without memory");
}

static void capture_and_launch(void)
{
    int failures = HARD(begin);
    for (number = 0; number < 1000; number++) {
        failures += number % 2 == 0 ? HARD(enqueue) : HARD(enqueue_forked);
        if (number % 2 == 0) {
            failures += HARD(record) + HARD(fork_stream);
        } else {
            failures += HARD(record_forked) + HARD(join);
        }
    }
    CHECK_OK(tutti_host_stream_wait_event(a, back));
    failures += HARD(end);
    CHECK(failures > 20, "%d failures", failures);
    failures = HARD(launch);
    CHECK(failures > 0, "a launch allocates nothing?");
    CHECK_OK(tutti_host_stream_synchronize(a));
    journal_expect(numbers, 1000, "captured without memory");
}

static void nested(void)
{
    child = graph;
    (void)HARD(begin);
    (void)HARD(launch_child);
    (void)HARD(end);
    (void)HARD(launch);
    CHECK_OK(tutti_host_stream_synchronize(a));
    journal_expect(numbers, 1000, "the child");
    tutti_host_graph_destroy(child);
    tutti_host_graph_destroy(graph);
}

int main(void)
{
    if (!REPLACED) {
        SKIP("needs glibc's allocator, which a sanitizer replaces");
    }
    for (int i = 0; i < 2000; i++) {
        numbers[i] = i;
    }
    CHECK_OK(tutti_host_stream_create(&a));
    CHECK_OK(tutti_host_stream_create(&b));
    CHECK(HARD(create_stream) >= 2 && HARD(create_event) >= 1 && HARD(create_back) >= 1, "creation allocates nothing?");
    queue_full_of_work();
    sem_t gate;
    CHECK(sem_init(&gate, 0, 0) == 0, "sem_init");
    CHECK_OK(tutti_host_enqueue(a, gate_hold, &gate));
    (void)HARD(record); /* eager */
    (void)HARD(fork_stream);
    gate_open(&gate);
    CHECK_OK(tutti_host_stream_synchronize(b));
    capture_and_launch();
    nested();
    tutti_host_event_destroy(back);
    tutti_host_event_destroy(event);
    tutti_host_stream_destroy(extra);
    tutti_host_stream_destroy(b);
    tutti_host_stream_destroy(a);
    return 0;
}
