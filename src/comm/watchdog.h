/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watchdog.h - the one thread of a process that waits for connections to close, and looks every few milliseconds at
 * what a device may have written.
 *
 * It runs while there is anything to do, sleeps in the kernel otherwise, blocks all signals, and calls no driver. In a
 * forked child there is no such thread, and the connections are closed: a child that kept them would hide its
 * parent's death from the peers.
 */
#ifndef TUTTI_COMM_WATCHDOG_H
#define TUTTI_COMM_WATCHDOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

struct watch {
    int fd;                               /* -1: nothing to watch */
    void (*hung_up)(void *user, int tag); /* once, on the watchdog's thread; must not add or remove watches */
    void *user;
    int tag;
    /* Private to watchdog.c. */
    uint64_t id;
    struct watch *next;
};

/* Watches `count` connections, which stay the caller's, until watchdog_remove. All or none. SYSTEM. */
tutti_status watchdog_add(struct watch *watches, size_t count);

/* Forgets them. No hung_up of theirs runs any more when it returns. */
void watchdog_remove(struct watch *watches, size_t count);

struct tick {
    void (*call)(void *user); /* every WATCHDOG_TICK_MS, on the watchdog's thread; must not add or remove anything */
    void *user;
    /* Private to watchdog.c. */
    bool added;
    struct tick *next;
};
#define WATCHDOG_TICK_MS 10

/* Calls it until watchdog_tick_remove. The tick stays the caller's. SYSTEM. */
tutti_status watchdog_tick_add(struct tick *tick);

/* It does not run any more when this returns. One that was never added is allowed. */
void watchdog_tick_remove(struct tick *tick);

#endif
