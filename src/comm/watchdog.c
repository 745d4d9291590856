/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/process.h"
#include "comm/socket.h"

#define STACK_BYTES (256u * 1024u) /* room for a sanitizer's frames */
#define EVENTS_AT_ONCE 16
#define NUDGE_ID 0 /* the id of `nudge_fd` in epoll; watches count from 1 */

/* Serialises add and remove, which start and stop the thread. Taken before `lock`; never by the thread. */
static pthread_mutex_t lifecycle = PTHREAD_MUTEX_INITIALIZER;
/* Guards the list, and is held while a watch's hung_up runs: whoever removes a watch waits for it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct watch *watched;
static struct tick *ticks; /* under `lock` */
static uint64_t last_id;
static pthread_t thread;
static bool running;
static int epoll_fd = -1;
static int nudge_fd = -1; /* wakes the thread: it has to stop, or has its first tick */
static _Atomic bool stopping;
static pthread_once_t hook_once = PTHREAD_ONCE_INIT;

static void fork_before(void)
{
    (void)pthread_mutex_lock(&lifecycle);
    (void)pthread_mutex_lock(&lock);
}

static void fork_parent(void)
{
    (void)pthread_mutex_unlock(&lock);
    (void)pthread_mutex_unlock(&lifecycle);
}

static void fork_child(void)
{
    for (struct watch *watch = watched; watch != NULL; watch = watch->next) {
        socket_close(&watch->fd);
    }
    watched = NULL;
    ticks = NULL;
    running = false;
    socket_close(&epoll_fd);
    socket_close(&nudge_fd);
    fork_parent();
}

static struct process_fork_hook hook = {fork_before, fork_parent, fork_child, NULL};

static void hook_add(void)
{
    process_fork_hook_add(&hook);
}

static void event_handle(uint64_t id)
{
    (void)pthread_mutex_lock(&lock);
    struct watch *found = watched;
    while (found != NULL && found->id != id) {
        found = found->next;
    }
    if (found != NULL) { /* else it was removed after the event had been fetched */
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, found->fd, NULL);
        found->hung_up(found->user, found->tag);
    }
    (void)pthread_mutex_unlock(&lock);
}

/* True if the thread has to stop. */
static bool nudged(void)
{
    uint64_t nudges;
    ssize_t got = read(nudge_fd, &nudges, sizeof(nudges));
    (void)got; /* the number does not matter */
    return atomic_load(&stopping);
}

static void nudge(void)
{
    uint64_t one = 1;
    ssize_t written = write(nudge_fd, &one, sizeof(one));
    (void)written; /* an eventfd takes eight bytes */
}

/* Calls every tick. Returns how long the thread may sleep, in milliseconds. */
static int ticks_call(void)
{
    (void)pthread_mutex_lock(&lock);
    int sleep_ms = ticks != NULL ? WATCHDOG_TICK_MS : -1;
    for (struct tick *tick = ticks; tick != NULL; tick = tick->next) {
        tick->call(tick->user);
    }
    (void)pthread_mutex_unlock(&lock);
    return sleep_ms;
}

static void *watch_loop(void *argument)
{
    int fd = *(const int *)argument; /* epoll_fd, which does not change while this thread runs */
    struct epoll_event events[EVENTS_AT_ONCE];
    for (;;) {
        int count = epoll_wait(fd, events, EVENTS_AT_ONCE, ticks_call());
        for (int index = 0; index < count; index++) {
            if (events[index].data.u64 != NUDGE_ID) {
                event_handle(events[index].data.u64);
            } else if (nudged()) {
                return NULL;
            }
        }
        if (count < 0 && errno != EINTR) {
            return NULL; /* cannot happen to a valid descriptor */
        }
    }
}

static bool thread_spawn(void)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t former;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    (void)sigfillset(&all);
    /* The thread inherits the mask: the host program's signals are none of its business. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &former);
    bool spawned = pthread_create(&thread, &attributes, watch_loop, &epoll_fd) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &former, NULL);
    (void)pthread_attr_destroy(&attributes);
    if (spawned) {
        (void)pthread_setname_np(thread, "tutti-watchdog");
    }
    return spawned;
}

/* Under lifecycle. */
static tutti_status thread_start(void)
{
    if (running) {
        return TUTTI_OK;
    }
    atomic_store(&stopping, false);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    nudge_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = NUDGE_ID};
    if (epoll_fd < 0 || nudge_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, nudge_fd, &event) != 0 || !thread_spawn()) {
        tutti_status status = error_set_errno("starting the thread that watches the other ranks");
        socket_close(&epoll_fd);
        socket_close(&nudge_fd);
        return status;
    }
    running = true;
    return TUTTI_OK;
}

/* Under lifecycle. */
static void thread_stop_if_idle(void)
{
    (void)pthread_mutex_lock(&lock);
    bool idle = watched == NULL && ticks == NULL;
    (void)pthread_mutex_unlock(&lock);
    if (!idle || !running) {
        return;
    }
    atomic_store(&stopping, true);
    nudge();
    (void)pthread_join(thread, NULL);
    running = false;
    socket_close(&epoll_fd);
    socket_close(&nudge_fd);
}

static void watches_forget(struct watch *watches, size_t count)
{
    (void)pthread_mutex_lock(&lock);
    for (size_t index = 0; index < count; index++) {
        struct watch **link = &watched;
        while (*link != NULL && *link != &watches[index]) {
            link = &(*link)->next;
        }
        if (*link != NULL) {
            *link = watches[index].next;
            (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watches[index].fd, NULL); /* fails after a hang-up: gone already */
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

tutti_status watchdog_add(struct watch *watches, size_t count)
{
    (void)pthread_once(&hook_once, hook_add);
    (void)pthread_mutex_lock(&lifecycle);
    tutti_status status = thread_start();
    for (size_t index = 0; index < count && status == TUTTI_OK; index++) {
        struct watch *watch = &watches[index];
        if (watch->fd < 0) {
            continue;
        }
        (void)pthread_mutex_lock(&lock);
        watch->id = ++last_id;
        watch->next = watched;
        watched = watch;
        struct epoll_event event = {.events = EPOLLRDHUP, .data.u64 = watch->id};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) != 0) {
            status = error_set_errno("watching the other ranks");
        }
        (void)pthread_mutex_unlock(&lock);
    }
    if (status != TUTTI_OK) {
        watches_forget(watches, count);
        thread_stop_if_idle();
    }
    (void)pthread_mutex_unlock(&lifecycle);
    return status;
}

void watchdog_remove(struct watch *watches, size_t count)
{
    (void)pthread_mutex_lock(&lifecycle);
    watches_forget(watches, count);
    thread_stop_if_idle();
    (void)pthread_mutex_unlock(&lifecycle);
}

tutti_status watchdog_tick_add(struct tick *tick)
{
    (void)pthread_once(&hook_once, hook_add);
    (void)pthread_mutex_lock(&lifecycle);
    tutti_status status = thread_start();
    if (status == TUTTI_OK) {
        (void)pthread_mutex_lock(&lock);
        tick->added = true;
        tick->next = ticks;
        ticks = tick;
        (void)pthread_mutex_unlock(&lock);
        nudge();
    }
    (void)pthread_mutex_unlock(&lifecycle);
    return status;
}

void watchdog_tick_remove(struct tick *tick)
{
    if (!tick->added) {
        return;
    }
    (void)pthread_mutex_lock(&lifecycle);
    (void)pthread_mutex_lock(&lock);
    struct tick **link = &ticks;
    while (*link != NULL && *link != tick) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = tick->next;
    }
    tick->added = false;
    (void)pthread_mutex_unlock(&lock);
    thread_stop_if_idle();
    (void)pthread_mutex_unlock(&lifecycle);
}
