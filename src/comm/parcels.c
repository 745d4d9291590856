/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/parcels.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "comm/socket.h"

struct parcel {
    struct mesh_parcel content;
    struct parcel *next;
};

tutti_status parcels_send(struct peers *peers, int to, const uint8_t label[MESH_LABEL_BYTES], int fd)
{
    struct mesh_parcel parcel = {peers->rank, to, {0}, fd};
    memcpy(parcel.label, label, sizeof(parcel.label));
    return mesh_parcel_send(peers->sockets[to], &parcel);
}

static bool is_for(const struct mesh_parcel *parcel, int from, const uint8_t label[MESH_LABEL_BYTES])
{
    return parcel->from == from && memcmp(parcel->label, label, sizeof(parcel->label)) == 0;
}

/* Under the lock: among those that others have received. */
static bool kept_find(struct peers *peers, int from, const uint8_t label[MESH_LABEL_BYTES], int *fd)
{
    for (struct parcel **link = &peers->parcels; *link != NULL; link = &(*link)->next) {
        struct parcel *parcel = *link;
        if (is_for(&parcel->content, from, label)) {
            *link = parcel->next;
            *fd = parcel->content.fd;
            free(parcel);
            return true;
        }
    }
    return false;
}

/* Under the lock: receives what waits in the connection until it is ours, and keeps the rest. Room is made first: once
 * received, a parcel must not be lost. */
static tutti_status receive(struct peers *peers, int from, const uint8_t label[MESH_LABEL_BYTES], bool *found, int *fd)
{
    for (bool there = true; there && !*found;) {
        struct parcel *parcel = malloc(sizeof(*parcel));
        if (parcel == NULL) {
            return error_set(TUTTI_ERR_SYSTEM, "out of memory for another rank's memory");
        }
        tutti_status status = mesh_parcel_receive(peers->sockets[from], &parcel->content, &there);
        if (status != TUTTI_OK || !there) {
            free(parcel);
            return status;
        }
        if (is_for(&parcel->content, from, label)) {
            *fd = parcel->content.fd;
            *found = true;
            free(parcel);
        } else {
            parcel->next = peers->parcels;
            peers->parcels = parcel;
        }
    }
    return TUTTI_OK;
}

tutti_status parcels_take(struct peers *peers, int from, const uint8_t label[MESH_LABEL_BYTES],
                          struct deadline *deadline, int *fd)
{
    int passed = -1;
    for (;;) {
        (void)pthread_mutex_lock(&peers->lock);
        bool found = kept_find(peers, from, label, &passed);
        tutti_status status = found ? TUTTI_OK : receive(peers, from, label, &found, &passed);
        (void)pthread_mutex_unlock(&peers->lock);
        if (found && passed < 0) {
            return error_set(TUTTI_ERR_SYSTEM, "no descriptor is left for the memory of another rank");
        }
        if (found) {
            *fd = passed;
        }
        if (found || status != TUTTI_OK) {
            return status;
        }
        if (deadline_cut(deadline)) {
            return error_set(TUTTI_ERR_ABORTED, "the communicator failed while rank %d waited for memory", peers->rank);
        }
        if (deadline_expired(deadline)) {
            return error_set(TUTTI_ERR_TIMEOUT, "rank %d waited %u ms for rank %d's memory", peers->rank,
                             deadline->limit_ms, from);
        }
        /* Not longer than a step: another thread may receive it for us. */
        struct pollfd poll_for = {peers->sockets[from], POLLIN, 0};
        (void)poll(&poll_for, 1, DEADLINE_STEP_MS);
    }
}

void parcels_drop(struct peers *peers)
{
    while (peers->parcels != NULL) {
        struct parcel *next = peers->parcels->next;
        socket_close(&peers->parcels->content.fd);
        free(peers->parcels);
        peers->parcels = next;
    }
}
