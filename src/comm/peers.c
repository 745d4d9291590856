/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/peers.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "comm/parcels.h"
#include "comm/socket.h"

tutti_status peers_create(int rank, int world, struct peers **peers)
{
    struct peers *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "rank %d: out of memory for its connections", rank);
    }
    made->references = 1;
    made->generation = process_generation();
    made->rank = rank;
    made->world = world;
    for (int peer = 0; peer < TUTTI_WORLD_MAX; peer++) {
        made->sockets[peer] = -1;
    }
    (void)pthread_mutex_init(&made->lock, NULL);
    *peers = made;
    return TUTTI_OK;
}

void peers_retain(struct peers *peers)
{
    (void)pthread_mutex_lock(&peers->lock);
    peers->references++;
    (void)pthread_mutex_unlock(&peers->lock);
}

void peers_release(struct peers *peers)
{
    if (peers == NULL) {
        return;
    }
    /* In a forked child the lock may be held by a thread that it does not have, and the watchdog's hook has closed the
     * connections: only the count is left to do, by the child's one user of this family. */
    bool forked = peers->generation != process_generation();
    if (!forked) {
        (void)pthread_mutex_lock(&peers->lock);
    }
    bool last = --peers->references == 0;
    if (!forked) {
        (void)pthread_mutex_unlock(&peers->lock);
    }
    if (!last) {
        return;
    }
    if (!forked) {
        if (peers->watched) {
            watchdog_remove(peers->watches, (size_t)peers->world);
        }
        for (int rank = 0; rank < peers->world; rank++) {
            socket_close(&peers->sockets[rank]);
        }
        parcels_drop(peers);
        (void)pthread_mutex_destroy(&peers->lock);
    }
    free(peers);
}

/* On the watchdog's thread. */
static void hung_up(void *user, int rank)
{
    struct peers *peers = user;
    struct failure words = {TUTTI_OK, rank, rank, ""};
    (void)mesh_last_words(peers->sockets[rank], &words.status, words.sentence);
    (void)pthread_mutex_lock(&peers->lock);
    peers->gone |= (uint64_t)1 << rank;
    peers->words[rank] = words;
    for (tutti_comm *comm = peers->first; comm != NULL; comm = comm->next_of_family) {
        comm_peer_gone(comm, rank, words.status != TUTTI_OK ? &words : NULL);
    }
    (void)pthread_mutex_unlock(&peers->lock);
}

tutti_status peers_watch(struct peers *peers)
{
    bool any = false;
    for (int rank = 0; rank < peers->world; rank++) {
        peers->watches[rank] =
            (struct watch){.fd = peers->sockets[rank], .hung_up = hung_up, .user = peers, .tag = rank};
        any = any || peers->sockets[rank] >= 0;
    }
    if (!any) {
        return TUTTI_OK; /* ranks of one process need no watchdog */
    }
    tutti_status status = watchdog_add(peers->watches, (size_t)peers->world);
    peers->watched = status == TUTTI_OK;
    return status;
}

void peers_attach(struct peers *peers, tutti_comm *comm)
{
    (void)pthread_mutex_lock(&peers->lock);
    comm->next_of_family = peers->first;
    peers->first = comm;
    for (int rank = 0; rank < peers->world; rank++) {
        if ((peers->gone >> rank & 1) != 0) {
            comm_peer_gone(comm, rank, peers->words[rank].status != TUTTI_OK ? &peers->words[rank] : NULL);
        }
    }
    (void)pthread_mutex_unlock(&peers->lock);
}

void peers_detach(struct peers *peers, tutti_comm *comm)
{
    (void)pthread_mutex_lock(&peers->lock);
    tutti_comm **link = &peers->first;
    while (*link != NULL && *link != comm) {
        link = &(*link)->next_of_family;
    }
    if (*link != NULL) {
        *link = comm->next_of_family;
    }
    (void)pthread_mutex_unlock(&peers->lock);
}

long peers_pid(const struct peers *peers, int rank)
{
    return (long)peers->pids[rank];
}
