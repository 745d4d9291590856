/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.h - the steps of creation that a backend with memory of its own adds (device.h, group_export and on). Segments are
 * mapped and groups made; the ranks tell each other of their memory, map it, and try whether it works.
 *
 *     export | words over the control pages, descriptors over the connections | import | all have come so far | trial
 *
 * A failure on one rank becomes the communicator's failure, so that no other rank waits for it.
 */
#ifndef TUTTI_COMM_SHARE_H
#define TUTTI_COMM_SHARE_H

#include "comm/comm.h"

/* [collective] All steps, on one rank of the many. sockets: [world], connections to the ranks of other processes, -1 for
 * those of this one. Does nothing for a backend that shares no memory of its own. */
tutti_status share_memory(tutti_comm *comm, const int *sockets);

/* The same for all ranks at once, by the one thread that drives them. comms: [world]. */
tutti_status share_memory_all(tutti_comm *const *comms, int world);

#endif
