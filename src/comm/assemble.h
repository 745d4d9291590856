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

/* Once all segments are there: counts the processes and makes the backend's group. `addresses`: of all ranks. */
tutti_status assemble_group(tutti_comm *comm, const struct mesh_address *addresses);

/* From now on the watchdog polls the group, if its backend wants that; until comm_destroy. SYSTEM. */
tutti_status assemble_polling(tutti_comm *comm);

#endif
