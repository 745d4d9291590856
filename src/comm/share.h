/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.h - the steps of creation that a backend with memory of its own adds (device.h, group_export and on). Segments are
 * mapped; each rank makes its group, tells the others of its memory, maps theirs, and tries whether it works.
 *
 *     group, export | words over the control pages, descriptors over the connections | import | words | trial begun | words | its end | words
 *
 * In each word a rank says whether it has come so far, so that all ranks know the first one that has not, and why: there all
 * of them stop. Then the vendor's collectives may take the backend's place (struct device_ops, `vendor`), and take the
 * same steps; else the trouble becomes the communicator's failure.
 */
#ifndef TUTTI_COMM_SHARE_H
#define TUTTI_COMM_SHARE_H

#include "comm/comm.h"

/* While the rank prepares: the vendor's collectives from the start, where the setting TUTTI_GPU_VENDOR says so. UNSUPPORTED
 * where one thread drives all ranks. */
tutti_status share_choose(tutti_comm *comm);

/* [collective] All steps, on one rank of the many. sockets: [world], connections to the ranks of other processes, -1 for
 * those of this one. Does nothing for a backend that shares no memory of its own. */
tutti_status share_memory(tutti_comm *comm, const int *sockets);

/* The same for all ranks at once, by the one thread that drives them. comms: [world]. */
tutti_status share_memory_all(tutti_comm *const *comms, int world);

#endif
