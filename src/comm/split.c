/* SPDX-License-Identifier: Apache-2.0 */
/*
 * split.c - subgroups. The parent's control pages are the meeting place; three exchanges, in which all ranks of the
 * parent take part, also those that join no child:
 *
 *   1  color and key            every rank works out who belongs together
 *   2  how the preparation went, and where the rank can be reached
 *      (members now pass their segments, as in creation, over connections of their own that are closed again:
 *      two splits of one family may run at the same time)
 *   3  how the joining went     all ranks succeed, or all fail with the first trouble by rank
 *
 * and a fourth where the backend shares memory of its own (share.h): its steps need children that all members have
 * joined.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "comm/assemble.h"
#include "comm/comm.h"
#include "comm/mesh.h"
#include "comm/peers.h"
#include "comm/share.h"
#include "comm/socket.h"
#include "memory/segment.h"

struct choice_word {
    int32_t color, key;
};

/* How far a rank has come; in the second exchange with its address. */
struct progress {
    int32_t status;
    char sentence[MESH_SENTENCE_BYTES];
    struct mesh_address address;
};
_Static_assert(sizeof(struct progress) <= CONTROL_MAIL_BYTES, "progress fits the mail");

struct splitting {
    tutti_comm *parent;
    tutti_comm *child;            /* NULL: not made, or color < 0 */
    int member_count;             /* 0: color < 0 */
    int members[TUTTI_WORLD_MAX]; /* [child rank]: rank in the parent */
    int child_rank;
    int listener;
    int sockets[TUTTI_WORLD_MAX]; /* of the mesh */
    struct progress mine;
    struct progress all[TUTTI_WORLD_MAX]; /* [parent rank] */
    struct mesh_address addresses[TUTTI_WORLD_MAX];
};

static void progress_note(struct splitting *splitting, tutti_status status)
{
    splitting->mine.status = status;
    if (status != TUTTI_OK) {
        (void)snprintf(splitting->mine.sentence, sizeof(splitting->mine.sentence), "%s", tutti_last_error());
    }
}

/* Exchanges `mine`; the first rank in trouble decides for all. */
static tutti_status progress_exchange(struct splitting *splitting)
{
    tutti_comm *parent = splitting->parent;
    tutti_status status = comm_exchange(parent, &splitting->mine, splitting->all, sizeof(splitting->mine));
    for (int rank = 0; rank < parent->world && status == TUTTI_OK; rank++) {
        struct progress *progress = &splitting->all[rank];
        progress->sentence[sizeof(progress->sentence) - 1] = 0;
        progress->address.name[sizeof(progress->address.name) - 1] = 0;
        if (progress->status != TUTTI_OK) {
            bool legal = progress->status < 0 && progress->status >= TUTTI_ERR_ABORTED;
            status = error_set(legal ? (tutti_status)progress->status : TUTTI_ERR_SYSTEM,
                               "tutti_comm_split: rank %d of the parent: %s", rank, progress->sentence);
        }
    }
    return status;
}

/* Exchange 1. Members in the order of (key, parent rank): an insertion sort of at most 64. */
static tutti_status members_agree(struct splitting *splitting, int color, int key)
{
    tutti_comm *parent = splitting->parent;
    struct choice_word mine = {color, key};
    struct choice_word all[TUTTI_WORLD_MAX];
    tutti_status status = comm_exchange(parent, &mine, all, sizeof(mine));
    if (status != TUTTI_OK || color < 0) {
        return status;
    }
    for (int rank = 0; rank < parent->world; rank++) {
        if (all[rank].color != color) {
            continue;
        }
        int place = splitting->member_count++;
        while (place > 0 && all[splitting->members[place - 1]].key > all[rank].key) {
            splitting->members[place] = splitting->members[place - 1];
            place--;
        }
        splitting->members[place] = rank;
    }
    while (splitting->members[splitting->child_rank] != parent->rank) {
        splitting->child_rank++;
    }
    return TUTTI_OK;
}

static tutti_status child_prepare(struct splitting *splitting)
{
    tutti_comm *parent = splitting->parent;
    tutti_status status = assemble_new(splitting->child_rank, splitting->member_count, &splitting->child);
    if (status != TUTTI_OK) {
        return status;
    }
    tutti_comm *child = splitting->child;
    child->ops = parent->ops;
    child->lanes = parent->lanes;
    child->timeout_ms = parent->timeout_ms;
    child->exchange_limit_ms = parent->timeout_ms;
    child->message_bytes_max = parent->message_bytes_max;
    child->flags = parent->flags;
    memcpy(child->backend_reason, parent->backend_reason, sizeof(child->backend_reason));
    child->peers = parent->peers;
    peers_retain(child->peers);
    for (int rank = 0; rank < child->world; rank++) {
        child->root_rank[rank] = parent->root_rank[splitting->members[rank]];
    }
    status = assemble_own(child, parent->ordinal);
    if (status == TUTTI_OK) {
        status = mesh_listen(child->segments[child->rank], &splitting->mine.address, &splitting->listener);
    }
    return status;
}

static tutti_status child_join(struct splitting *splitting)
{
    tutti_comm *parent = splitting->parent;
    tutti_comm *child = splitting->child;
    for (int rank = 0; rank < child->world; rank++) {
        splitting->addresses[rank] = splitting->all[splitting->members[rank]].address;
        if (splitting->addresses[rank].segment_bytes != child->segment_bytes) {
            return error_set(TUTTI_ERR_MISMATCH, "it shares %zu bytes, rank %d shares %llu", child->segment_bytes,
                             splitting->members[rank], (unsigned long long)splitting->addresses[rank].segment_bytes);
        }
    }
    struct deadline deadline = deadline_in(parent->timeout_ms, &parent->controls[parent->rank]->failure_state);
    struct mesh mesh = {child->rank,        child->world,   splitting->addresses, &child->segments[child->rank],
                        splitting->sockets, child->segments};
    tutti_status status = mesh_join(&mesh, splitting->listener, &deadline);
    if (status != TUTTI_OK) {
        segment_fd_close(child->segments[child->rank]); /* telling may need the descriptor that the trouble was about */
        mesh_tell(&mesh, status, tutti_last_error());
        return status;
    }
    segment_fd_close(child->segments[child->rank]);
    assemble_joined(child, splitting->addresses);
    return device_shares(child->ops) ? TUTTI_OK : assemble_group(child);
}

/* The connections close only now that every rank has told how it went: a closed one means a rank that gave up. */
static void splitting_end(struct splitting *splitting, bool complete)
{
    socket_close(&splitting->listener);
    for (int rank = 0; rank < TUTTI_WORLD_MAX; rank++) {
        socket_close(&splitting->sockets[rank]);
    }
    if (!complete && splitting->child != NULL) {
        comm_destroy(splitting->child);
    }
    free(splitting);
}

static tutti_status split_run(struct splitting *splitting, int color, int key)
{
    tutti_status status = members_agree(splitting, color, key);
    if (status != TUTTI_OK) {
        return status;
    }
    if (splitting->member_count > 0) {
        progress_note(splitting, child_prepare(splitting));
    }
    status = progress_exchange(splitting);
    if (status != TUTTI_OK) {
        return status;
    }
    if (splitting->member_count > 0) {
        tutti_status joined = child_join(splitting);
        progress_note(splitting, joined);
        if (joined != TUTTI_OK) {
            socket_close(&splitting->listener); /* ranks that still wait for us see that nobody listens */
        }
    }
    status = progress_exchange(splitting);
    if (status != TUTTI_OK || !device_shares(splitting->parent->ops)) {
        return status;
    }
    if (splitting->member_count > 0) {
        peers_attach(splitting->child->peers, splitting->child); /* a death must end its waits from here on */
        progress_note(splitting, share_memory(splitting->child, splitting->sockets));
    }
    return progress_exchange(splitting);
}

tutti_status comm_split(tutti_comm *parent, int color, int key, tutti_comm **child)
{
    uint64_t begun_ns = clock_now_ns();
    tutti_status status = comm_check(parent);
    if (status != TUTTI_OK) {
        return status;
    }
    if (parent->one_thread_drives_all) {
        return error_set(
            TUTTI_ERR_UNSUPPORTED,
            "tutti_comm_split would wait for ranks that this thread has yet to call: make the subgroup with "
            "tutti_comm_create_all too");
    }
    struct splitting *splitting = calloc(1, sizeof(*splitting));
    if (splitting == NULL) {
        /* The others must not wait for a rank that cannot take part. */
        struct failure failure = {TUTTI_ERR_SYSTEM, parent->rank, parent->rank, ""};
        (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d is out of memory for tutti_comm_split",
                       parent->rank);
        comm_fail(parent, &failure);
        return comm_check(parent);
    }
    splitting->parent = parent;
    splitting->listener = -1;
    memset(splitting->sockets, -1, sizeof(splitting->sockets)); /* every byte 0xff: every int -1 */
    status = split_run(splitting, color, key);
    tutti_comm *made = splitting->child;
    splitting_end(splitting, status == TUTTI_OK);
    if (status != TUTTI_OK) {
        return status;
    }
    if (made != NULL) {
        made->create_us = (clock_now_ns() - begun_ns) / 1000;
        if (!device_shares(made->ops)) {
            peers_attach(made->peers, made);
        }
    }
    *child = made;
    return TUTTI_OK;
}
