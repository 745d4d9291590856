/* SPDX-License-Identifier: Apache-2.0 */
/* task.h - one piece of work as queues and graphs hold it. */
#ifndef TUTTI_DEVICE_HOST_TASK_H
#define TUTTI_DEVICE_HOST_TASK_H

#include <stddef.h>

#include "tutti/host.h"

/* Either `run` or `function` is set. Two pointers, because a user's function would otherwise need an allocation
 * of its own only to be called through the other's type. */
struct task {
    tutti_status (*run)(void *payload);
    tutti_host_function function;
    void (*drop)(void *payload); /* frees the payload; may be NULL */
    void *payload;
};

enum task_kind { TASK_WORK, TASK_FUNCTION, TASK_COLLECTIVE, TASK_CHILD };

/* What a capture needs to know of a task, and an eager queue does not. */
struct task_label {
    const char *name;                /* for sentences; static storage */
    const void *chain;               /* or NULL; see struct work in stream.h */
    void (*recorded)(void *payload); /* or NULL; the same */
    enum task_kind kind;
};

static inline tutti_status task_run(const struct task *task)
{
    if (task->function != NULL) {
        task->function(task->payload);
        return TUTTI_OK;
    }
    return task->run(task->payload);
}

static inline void task_drop(const struct task *task)
{
    if (task->drop != NULL) {
        task->drop(task->payload);
    }
}

#endif
