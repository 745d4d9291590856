/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process.h - which process this is, also after a fork.
 *
 * A host program may fork at any time (Python's multiprocessing does). The child has our memory but not our
 * threads, and an inherited connection in it would hide its parent's death from the peers. So what holds
 * locks or connections registers a hook here.
 */
#ifndef TUTTI_BASE_PROCESS_H
#define TUTTI_BASE_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

#define PROCESS_COOKIE_BYTES 16

/* Fills with random bytes of the kernel. SYSTEM. */
tutti_status process_random(void *bytes, size_t count);

/* 128 random bits that no other process has, the same for all threads of this one. SYSTEM. */
tutti_status process_cookie(uint8_t cookie[PROCESS_COOKIE_BYTES]);

/* A number that differs between a process and the children it forks. One load. */
unsigned process_generation(void);

struct process_fork_hook {
    void (*before)(void); /* in the parent: takes the locks */
    void (*parent)(void); /* in the parent: gives them back */
    void (*child)(void);  /* in the child: gives them back, closes what the child must not hold */
    struct process_fork_hook *next;
};

/* Registers a hook for good; the first one to be registered is the last whose `before` runs. The hook has static
 * storage. Called once per hook (pthread_once). */
void process_fork_hook_add(struct process_fork_hook *hook);

#endif
