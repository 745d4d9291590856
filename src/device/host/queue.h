/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h - the part of a stream that runs: a FIFO of tasks, a worker thread, and whoever waits.
 *
 * Tasks have positions 1, 2, 3 ...; the queue has reached position p when the tasks up to p have run and been
 * dropped. At most one thread executes at a time, in order: the worker, or a thread that waits for a position and
 * finds nobody executing. A waiting thread executes only tasks up to the position that it waits for. So helping adds
 * no dependency that waiting would not have, and cannot deadlock where waiting would not.
 *
 * A queue outlives its stream for as long as events mark positions in it.
 */
#ifndef TUTTI_DEVICE_HOST_QUEUE_H
#define TUTTI_DEVICE_HOST_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "device/host/task.h"

struct queue;

/* The worker starts here, with all signals blocked. SYSTEM: no memory, no thread. */
tutti_status queue_create(struct queue **queue);

/* Waits until everything has run, ends the worker and gives up the creator's reference. From inside one of the
 * queue's own tasks it does not wait: the worker then runs what is left and ends by itself. In a forked
 * child, which has no workers, it does nothing. */
void queue_close(struct queue *queue);

void queue_retain(struct queue *queue);
void queue_release(struct queue *queue);

/* Appends; the queue owns the payload from then on. SYSTEM: no memory, and nothing has changed. */
tutti_status queue_push(struct queue *queue, const struct task *task);

/* The position of the last task pushed; 0 if there was none. */
uint64_t queue_end(struct queue *queue);

bool queue_reached(const struct queue *queue, uint64_t position);

/* Waits for the position, and works meanwhile if nobody does. Never from inside a task of this queue unless the
 * position is reached: the caller asks frame_inside(queue) first. Leaves the thread's last error alone. */
void queue_wait(struct queue *queue, uint64_t position);

#endif
