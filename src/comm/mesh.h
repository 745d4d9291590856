/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh.h - how the ranks of a new communicator get hold of each other's segments.
 *
 * Ranks of one process find each other's segments in the process's cache. Every pair of ranks of different
 * processes makes one Unix connection (the higher rank calls the lower one) and passes each other a descriptor.
 * The connection of a pair then stays open for one purpose: that it closes when a process dies.
 */
#ifndef TUTTI_COMM_MESH_H
#define TUTTI_COMM_MESH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/process.h"
#include "comm/deadline.h"
#include "memory/segment.h"
#include "tutti/tutti.h"

#define MESH_NAME_BYTES 48
#define MESH_TOKEN_BYTES 16
#define MESH_SENTENCE_BYTES 256
#define MESH_LABEL_BYTES MESH_TOKEN_BYTES

/* Where a rank can be reached; every rank gets every other's before the mesh is made. Goes over wires. */
struct mesh_address {
    uint8_t process[PROCESS_COOKIE_BYTES]; /* equal: ranks of one process */
    uint8_t token[MESH_TOKEN_BYTES];       /* who calls this rank must know it */
    char name[MESH_NAME_BYTES];            /* abstract Unix socket, with 128 random bits */
    uint64_t segment_device, segment_inode, segment_bytes;
    int32_t pid;
    int32_t reserved;
};

/* One rank's part in the making of a mesh. */
struct mesh {
    int rank, world;
    const struct mesh_address *addresses; /* [world] */
    struct segment *const *own;           /* &segments[rank] */
    int *sockets;                         /* [world]: -1, then connected; none within a process */
    struct segment **segments;            /* [world]: NULL, then mapped; own given at [rank] */
};

/* Makes this rank's address and the socket that listens there. The listener is the caller's to close. SYSTEM. */
tutti_status mesh_listen(const struct segment *own, struct mesh_address *address, int *listener);

/* [collective] Connects and maps. Bounded by the deadline. On failure the sockets and segments so far stay for the caller
 * to release, after mesh_tell. TIMEOUT, PEER_LOST, SYSTEM, or what a peer told. */
tutti_status mesh_join(const struct mesh *mesh, int listener, struct deadline *deadline);

/* Tells every rank of other processes that this one gives up, and why; before the listener is closed. */
void mesh_tell(const struct mesh *mesh, tutti_status status, const char *sentence);

/* Passes rank `to`, at the other end of the connection, a descriptor, which stays the caller's. SYSTEM, PEER_LOST. */
tutti_status mesh_pass(int socket, int from, int to, int fd);

/* Waits for the descriptor that rank `from` passes; *fd is the caller's. SYSTEM, PEER_LOST, TIMEOUT; ABORTED once the deadline
 * was cut. */
tutti_status mesh_take(int socket, int from, int to, struct deadline *deadline, int *fd);

/* A descriptor under way between ranks of a finished communicator. */
struct mesh_parcel {
    int from, to; /* as the connections count the ranks */
    uint8_t label[MESH_LABEL_BYTES];
    int fd; /* received: the receiver's to close; -1: there was no number for it */
};

/* SYSTEM, PEER_LOST. */
tutti_status mesh_parcel_send(int socket, const struct mesh_parcel *parcel);

/* Takes one if one is there; *there says so. Nothing is waited for. SYSTEM, PEER_LOST. */
tutti_status mesh_parcel_receive(int socket, struct mesh_parcel *parcel, bool *there);

/* Reads what the peer said before its connection closed. True if it said why it gave up: then *status and sentence
 * (MESH_SENTENCE_BYTES) are set. */
bool mesh_last_words(int socket, tutti_status *status, char *sentence);

#endif
