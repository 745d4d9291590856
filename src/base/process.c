/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/error.h"

static _Atomic(struct process_fork_hook *) hooks;
static _Atomic unsigned generation;
static pthread_once_t install_once = PTHREAD_ONCE_INIT;

static pthread_mutex_t cookie_lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t cookie_bytes[PROCESS_COOKIE_BYTES];
static pid_t cookie_pid; /* 0: none yet */

static void before_fork(void)
{
    for (struct process_fork_hook *hook = atomic_load(&hooks); hook != NULL; hook = hook->next) {
        hook->before();
    }
    (void)pthread_mutex_lock(&cookie_lock);
}

static void after_fork_in_parent(void)
{
    (void)pthread_mutex_unlock(&cookie_lock);
    for (struct process_fork_hook *hook = atomic_load(&hooks); hook != NULL; hook = hook->next) {
        hook->parent();
    }
}

static void after_fork_in_child(void)
{
    (void)pthread_mutex_unlock(&cookie_lock);
    (void)atomic_fetch_add(&generation, 1);
    for (struct process_fork_hook *hook = atomic_load(&hooks); hook != NULL; hook = hook->next) {
        hook->child();
    }
}

static void install(void)
{
    /* Fails only for want of memory; forked children then keep our connections until they end. */
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void process_fork_hook_add(struct process_fork_hook *hook)
{
    (void)pthread_once(&install_once, install);
    hook->next = atomic_load(&hooks);
    while (!atomic_compare_exchange_weak(&hooks, &hook->next, hook)) {
    }
}

unsigned process_generation(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

tutti_status process_random(void *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t got = getrandom((char *)bytes + done, count - done, 0);
        if (got < 0 && errno != EINTR) {
            return error_set_errno("getrandom");
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return TUTTI_OK;
}

tutti_status process_cookie(uint8_t cookie[PROCESS_COOKIE_BYTES])
{
    (void)pthread_once(&install_once, install);
    (void)pthread_mutex_lock(&cookie_lock);
    tutti_status status = TUTTI_OK;
    /* By process number and not by the hook: also a child made by a bare clone() gets its own. */
    if (cookie_pid != getpid()) {
        status = process_random(cookie_bytes, sizeof(cookie_bytes));
        cookie_pid = status == TUTTI_OK ? getpid() : 0;
    }
    memcpy(cookie, cookie_bytes, sizeof(cookie_bytes));
    (void)pthread_mutex_unlock(&cookie_lock);
    return status;
}
