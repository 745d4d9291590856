/* SPDX-License-Identifier: Apache-2.0 */
/* assemble.h - the steps that creation and split have in common. Each leaves a communicator that comm_destroy can take. */
#ifndef TUTTI_COMM_ASSEMBLE_H
#define TUTTI_COMM_ASSEMBLE_H

#include "comm/comm.h"
#include "comm/mesh.h"

/* An empty communicator of this rank, with nothing but locks and the process's generation. SYSTEM. */
tutti_status assemble_new(int rank, int world, tutti_comm **comm);

/* Opens the device `ordinal` of comm->ops and makes the rank's own segment; comm->lanes and message_bytes_max are set. What
 * the backend says, or SYSTEM. */
tutti_status assemble_own(tutti_comm *comm, int ordinal);

/* Once all segments are there: enters them and counts the processes. `addresses`: of all ranks. */
void assemble_joined(tutti_comm *comm, const struct mesh_address *addresses);

/* Makes the backend's group; from now on the watchdog polls it, if the backend wants that. What the backend says, or SYSTEM;
 * then there is no group. */
tutti_status assemble_group(tutti_comm *comm);

/* Ends the group, if there is one, so that another one can be made in its place. */
void assemble_group_undo(tutti_comm *comm);

#endif
