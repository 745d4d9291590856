/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls find the graph of this library's own that their capture makes, and no other one: by the driver and its number for the capture,
 * while the capture is open, from any thread. What a graph holds is held once for each time, until it is let go of; a child that was forked
 * in a capture knows nothing of it.
 */
#include "device/gpu/holds.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check.h"

#define MANY 100
#define THREADS 4
#define ROUNDS 2000

static struct registry *registry;
static const struct driver one, another;

static uint32_t living(void)
{
    return atomic_load(&registry->graphs);
}

static bool add(const struct driver *driver, uint64_t capture, struct recorded *recorded)
{
    bool own = false;
    CHECK_OK(holds_add(driver, capture, recorded, &own));
    return own;
}

static void by_capture(void)
{
    struct recorded *recorded[MANY];
    struct holds first = {0};
    struct holds second = {0};
    CHECK_OK(holds_prepare(&first));
    CHECK_OK(holds_prepare(&second));
    for (int index = 0; index < MANY; index++) {
        recorded[index] = registry_graph(registry, 1000 + (uint64_t)index, NULL);
        CHECK(recorded[index] != NULL, "memory");
    }
    CHECK(!add(&one, 7, recorded[0]) && living() == 0, "nothing is open");
    holds_open(&first, &one, 7);
    holds_open(&second, &one, 8);
    CHECK(!add(&one, 9, recorded[0]) && !add(&another, 7, recorded[0]) && living() == 0, "others' captures");
    for (int index = 0; index < MANY; index++) {
        CHECK(add(&one, index % 2 == 0 ? 7 : 8, recorded[index]), "%d", index);
    }
    CHECK(add(&one, 8, recorded[0]) && living() == MANY, "%u", living());
    holds_close(&first);
    CHECK(!add(&one, 7, recorded[1]) && add(&one, 8, recorded[1]) && add(&one, 8, recorded[1]), "after its end");
    holds_let_go(&first);
    CHECK(living() == MANY / 2 + 1 && !recorded_gone(recorded[0]) && recorded_gone(recorded[2]), "%u", living());
    holds_close(&second);
    holds_close(&second);
    holds_let_go(&second);
    holds_let_go(&second);
    CHECK(living() == 0 && recorded_gone(recorded[0]) && recorded_gone(recorded[1]), "%u", living());
    holds_free(&first);
    holds_free(&second);
}

/* Captures of several threads at a time, each with a number of its own; and calls of other threads' in them. */
static void *captures(void *argument)
{
    uint64_t thread = (uint64_t)(uintptr_t)argument;
    struct recorded *recorded = registry->recorded;
    for (uint64_t skip = 0; skip < thread; skip++) {
        recorded = recorded->next;
    }
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct holds holds = {0};
        uint64_t capture = round * THREADS + thread;
        CHECK_OK(holds_prepare(&holds));
        holds_open(&holds, &one, capture);
        CHECK(add(&one, capture, recorded), "not found");
        (void)add(&one, round * THREADS + (thread + 1) % THREADS, recorded);
        holds_close(&holds);
        CHECK(holds.count >= 1 && holds.recorded[0] != NULL && !recorded_gone(recorded), "%zu", holds.count);
        holds_let_go(&holds);
        holds_free(&holds);
    }
    return NULL;
}

static void from_threads(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t thread = 0; thread < THREADS; thread++) {
        CHECK(pthread_create(&threads[thread], NULL, captures, (void *)thread) == 0, "no thread");
    }
    for (int thread = 0; thread < THREADS; thread++) {
        CHECK(pthread_join(threads[thread], NULL) == 0, "join");
    }
    CHECK(living() == 0, "%u are held", living());
}

static void in_a_child(void)
{
    struct holds holds = {0};
    struct recorded *recorded = registry->recorded;
    int status = -1;
    CHECK_OK(holds_prepare(&holds));
    holds_open(&holds, &one, 7);
    pid_t child = fork();
    if (child == 0) {
        bool own = true;
        _exit(holds_add(&one, 7, recorded, &own) == TUTTI_OK && !own ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "the child: %d", status);
    CHECK(add(&one, 7, recorded), "the parent's capture");
    holds_close(&holds);
    holds_let_go(&holds);
    holds_free(&holds);
}

int main(void)
{
    registry = registry_create(0);
    CHECK(registry != NULL, "memory");
    by_capture();
    from_threads();
    in_a_child();
    registry_free(registry);
    return 0;
}
