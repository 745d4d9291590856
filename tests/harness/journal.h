/* SPDX-License-Identifier: Apache-2.0 */
/* journal.h - what ran, in which order: functions for streams that write their number down, and a gate that holds one. */
#ifndef TESTS_HARNESS_JOURNAL_H
#define TESTS_HARNESS_JOURNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "harness/check.h"

#define JOURNAL_MAX 65536

struct journal {
    pthread_mutex_t mutex;
    int count;
    int items[JOURNAL_MAX];
};

static struct journal journal = {PTHREAD_MUTEX_INITIALIZER, 0, {0}};

static inline void journal_add(int number)
{
    (void)pthread_mutex_lock(&journal.mutex);
    CHECK(journal.count < JOURNAL_MAX, "the journal is full");
    journal.items[journal.count++] = number;
    (void)pthread_mutex_unlock(&journal.mutex);
}

/* For tutti_host_enqueue: writes the int that it points to. */
static inline void journal_write(void *number)
{
    journal_add(*(const int *)number);
}

static inline int journal_count(void)
{
    (void)pthread_mutex_lock(&journal.mutex);
    int count = journal.count;
    (void)pthread_mutex_unlock(&journal.mutex);
    return count;
}

/* Fails unless exactly these numbers were written since the last call, in this order; then forgets them. */
static inline void journal_expect(const int *numbers, int count, const char *what)
{
    (void)pthread_mutex_lock(&journal.mutex);
    for (int i = 0; i < count && i < journal.count; i++) {
        CHECK(journal.items[i] == numbers[i], "%s: at %d ran %d instead of %d", what, i, journal.items[i], numbers[i]);
    }
    CHECK(journal.count == count, "%s: %d ran instead of %d", what, journal.count, count);
    journal.count = 0;
    (void)pthread_mutex_unlock(&journal.mutex);
}

/* Fails unless these numbers have been written since the last journal_expect or journal_end, in this order, whatever lies between. */
static inline void journal_holds(const int *numbers, int count, const char *what)
{
    int found = 0;
    (void)pthread_mutex_lock(&journal.mutex);
    for (int at = 0; at < journal.count && found < count; at++) {
        found += journal.items[at] == numbers[found];
    }
    (void)pthread_mutex_unlock(&journal.mutex);
    CHECK(found == count, "%s: %d did not run, or too early", what, numbers[found]);
}

/* Fails unless so many were; then forgets them. */
static inline void journal_end(int count, const char *what)
{
    (void)pthread_mutex_lock(&journal.mutex);
    CHECK(journal.count == count, "%s: %d ran instead of %d", what, journal.count, count);
    journal.count = 0;
    (void)pthread_mutex_unlock(&journal.mutex);
}

#define JOURNAL_HOLDS(what, ...)                                                                                       \
    journal_holds((const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)), what)
#define JOURNAL_EXPECT(what, ...)                                                                                      \
    journal_expect((const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)), what)

/* A function that holds its stream until the test opens the gate. Enqueue it once per gate_open. */
static inline void gate_hold(void *gate)
{
    while (sem_wait(gate) != 0) {
    }
}

static inline void gate_open(sem_t *gate)
{
    CHECK(sem_post(gate) == 0, "sem_post");
}

/* Runs body(argument) on a new thread and waits for it. */
static inline void on_other_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, argument) == 0, "pthread_create");
    CHECK(pthread_join(thread, NULL) == 0, "pthread_join");
}

#endif
