/* SPDX-License-Identifier: Apache-2.0 */
/* descriptor.h - descriptors that the ranks of a communicator pass each other within a collective call (tutti_alloc, tutti_commit), behind an
 * exchange that has told all of them who sends how many. `index` tells one call's descriptors of a rank apart. */
#ifndef TUTTI_COMM_DESCRIPTOR_H
#define TUTTI_COMM_DESCRIPTOR_H

#include "comm/comm.h"
#include "comm/deadline.h"

/* Whether the rank lives in another process: only such ranks get descriptors. */
bool descriptor_reaches(const tutti_comm *comm, int rank);

/* Sends `fd`, which stays the caller's, to all of them. The others count on it: what goes wrong ends the communicator. call: "tutti_alloc". */
tutti_status descriptor_send(tutti_comm *comm, uint32_t index, int fd, const char *call);

/* Takes what `rank` of another process sends; *fd is the caller's. As parcels_take. */
tutti_status descriptor_take(tutti_comm *comm, int rank, uint32_t index, struct deadline *deadline, int *fd);

#endif
