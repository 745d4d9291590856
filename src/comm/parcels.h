/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parcels.h - descriptors that ranks of finished communicators pass each other. All communicators of a family use the same
 * connections, perhaps at the same time from different threads; the label says whose a parcel is and of which call, and
 * whoever receives another's keeps it for him.
 */
#ifndef TUTTI_COMM_PARCELS_H
#define TUTTI_COMM_PARCELS_H

#include "comm/peers.h"

/* Sends `fd`, which stays the caller's, to a rank of another process. Ranks as `peers` counts them. SYSTEM, PEER_LOST. */
tutti_status parcels_send(struct peers *peers, int to, const uint8_t label[MESH_LABEL_BYTES], int fd);

/* Waits for the parcel with this label; *fd is the caller's. SYSTEM (no number left for it, for instance: the parcel is
 * taken all the same), PEER_LOST, TIMEOUT; ABORTED once the deadline was cut. */
tutti_status parcels_take(struct peers *peers, int from, const uint8_t label[MESH_LABEL_BYTES],
                          struct deadline *deadline, int *fd);

/* Closes what nobody came for. */
void parcels_drop(struct peers *peers);

#endif
