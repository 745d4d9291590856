/* SPDX-License-Identifier: Apache-2.0 */
/* Ticks of the watchdog: called while they are added, together with watches, and never once they have been removed. */
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "comm/watchdog.h"
#include "harness/check.h"

static void count(void *counter)
{
    (void)atomic_fetch_add((_Atomic int *)counter, 1);
}

static void hung_up(void *user, int tag)
{
    atomic_store((_Atomic int *)user, tag);
}

static void nap(void)
{
    const struct timespec pause = {0, 2000000};
    (void)nanosleep(&pause, NULL);
}

/* Until the counter has gone on by `more`; the test's time limit ends it otherwise. */
static void await(_Atomic int *counter, int more)
{
    for (int first = atomic_load(counter); atomic_load(counter) < first + more;) {
        nap();
    }
}

static void expect_still(_Atomic int *counter)
{
    int first = atomic_load(counter);
    for (int i = 0; i < 20; i++) {
        nap();
    }
    CHECK(atomic_load(counter) == first, "a removed tick was called");
}

int main(void)
{
    static _Atomic int counters[2];
    static _Atomic int tag;
    struct tick ticks[2] = {{.call = count, .user = &counters[0]}, {.call = count, .user = &counters[1]}};
    int sockets[2];
    watchdog_tick_remove(&ticks[0]); /* never added */

    CHECK_OK(watchdog_tick_add(&ticks[0]));
    await(&counters[0], 3);
    watchdog_tick_remove(&ticks[0]);
    expect_still(&counters[0]);

    /* The thread sleeps without limit while it only watches: a tick must wake it. */
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0, "socketpair");
    struct watch watch = {.fd = sockets[0], .hung_up = hung_up, .user = &tag, .tag = 7};
    CHECK_OK(watchdog_add(&watch, 1));
    nap();
    CHECK_OK(watchdog_tick_add(&ticks[0]));
    CHECK_OK(watchdog_tick_add(&ticks[1]));
    await(&counters[0], 2);
    await(&counters[1], 2);
    watchdog_tick_remove(&ticks[0]);
    expect_still(&counters[0]);
    await(&counters[1], 2);
    (void)close(sockets[1]);
    while (atomic_load(&tag) != 7) {
        nap();
    }
    watchdog_tick_remove(&ticks[1]);
    watchdog_tick_remove(&ticks[1]); /* once more does no harm */
    expect_still(&counters[1]);
    watchdog_remove(&watch, 1);
    (void)close(sockets[0]);
    return 0;
}
