/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peers.h - one rank's connections to the ranks of other processes, shared by a communicator and all that were split
 * from it, directly or not. They are made once, carry descriptors of memory (parcels.h), and close when a process ends.
 */
#ifndef TUTTI_COMM_PEERS_H
#define TUTTI_COMM_PEERS_H

#include <pthread.h>

#include "comm/comm.h"
#include "comm/mesh.h"
#include "comm/watchdog.h"

struct parcel;

struct peers {
    unsigned references; /* under lock */
    unsigned generation; /* process_generation() of the creator */
    int rank, world;
    int sockets[TUTTI_WORLD_MAX]; /* owned; -1: same process, or not connected */
    int32_t pids[TUTTI_WORLD_MAX];
    struct watch watches[TUTTI_WORLD_MAX];
    bool watched;
    pthread_mutex_t lock;
    tutti_comm *first;                     /* the communicators that are told; under lock */
    uint64_t gone;                         /* bit r: the connection to rank r has closed; under lock */
    struct failure words[TUTTI_WORLD_MAX]; /* of those gone: status not OK if they said why; under lock */
    struct parcel *parcels;                /* that came while somebody waited for another one; under lock */
};

/* One reference, no connections yet. SYSTEM. */
tutti_status peers_create(int rank, int world, struct peers **peers);
void peers_retain(struct peers *peers);

/* The last one closes the connections, after the watchdog has let go of them. NULL is allowed. */
void peers_release(struct peers *peers);

/* Watches the connections that mesh_join has made in peers->sockets. SYSTEM. */
tutti_status peers_watch(struct peers *peers);

/* From now on the communicator is told of closed connections, also of those that closed before. */
void peers_attach(struct peers *peers, tutti_comm *comm);
void peers_detach(struct peers *peers, tutti_comm *comm);

/* The process number of a rank, as that process sees it. */
long peers_pid(const struct peers *peers, int rank);

#endif
