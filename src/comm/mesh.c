/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/mesh.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/socket.h"
#include "comm/token.h"

#define PACKET_MAGIC 0x3168736d69747474u /* "tttimsh1" */
#define PENDING_MAX 64                   /* connections that have not said yet who they are */
#define PROBE_NS 50000000u

enum packet_type { PACKET_CALL = 1, PACKET_ANSWER = 2, PACKET_FAILED = 3, PACKET_MEMORY = 4, PACKET_PARCEL = 5 };

struct packet {
    uint64_t magic;
    int32_t type;
    int32_t from, to;
    int32_t status;                  /* FAILED */
    uint8_t token[MESH_TOKEN_BYTES]; /* CALL: of the called rank; PARCEL: its label */
    char sentence[MESH_SENTENCE_BYTES];
};

/* What this rank still lacks of a peer. */
enum link_state { LINK_DONE, LINK_AWAITS_CALL, LINK_AWAITS_ANSWER };

struct joining {
    const struct mesh *mesh;
    int listener;
    enum link_state links[TUTTI_WORLD_MAX];
    bool refused[TUTTI_WORLD_MAX]; /* its listener was gone at the last probe */
    int pending[PENDING_MAX];
    int pending_count;
    uint64_t probed_ns;
};

tutti_status mesh_listen(const struct segment *own, struct mesh_address *address, int *listener)
{
    uint8_t random[MESH_TOKEN_BYTES];
    memset(address, 0, sizeof(*address));
    tutti_status status = process_cookie(address->process);
    if (status == TUTTI_OK) {
        status = process_random(address->token, sizeof(address->token));
    }
    if (status == TUTTI_OK) {
        status = process_random(random, sizeof(random));
    }
    if (status != TUTTI_OK) {
        return status;
    }
    char digits[2 * MESH_TOKEN_BYTES + 1];
    token_print(random, digits);
    (void)snprintf(address->name, sizeof(address->name), "tutti-mesh-%s", digits);
    address->pid = (int32_t)getpid();
    address->segment_device = own->device;
    address->segment_inode = own->inode;
    address->segment_bytes = own->bytes;
    int fd = socket_listen_abstract(address->name, SOCK_SEQPACKET);
    if (fd < 0) {
        return error_set_errno("listening for the other ranks");
    }
    *listener = fd;
    return TUTTI_OK;
}

static bool packet_sound(struct packet *packet)
{
    packet->sentence[sizeof(packet->sentence) - 1] = 0;
    return packet->magic == PACKET_MAGIC;
}

static bool packet_legal_failure(const struct packet *packet)
{
    return packet->type == PACKET_FAILED && packet->status < 0 && packet->status >= TUTTI_ERR_ABORTED;
}

/* Whether a packet at our listener is the farewell of one of our ranks; then what it says. */
static bool packet_failed(const struct mesh *mesh, struct packet *packet, tutti_status *status, char *sentence)
{
    if (!packet_sound(packet) || !packet_legal_failure(packet) || packet->to != mesh->rank ||
        !token_equal(packet->token, mesh->addresses[mesh->rank].token)) {
        return false;
    }
    *status = (tutti_status)packet->status;
    memcpy(sentence, packet->sentence, sizeof(packet->sentence));
    return true;
}

bool mesh_last_words(int socket, tutti_status *status, char *sentence)
{
    bool spoken = false;
    for (int left = 8; left > 0; left--) {
        struct packet packet;
        int passed = -1;
        if (!socket_receive_packet(socket, &packet, sizeof(packet), &passed)) {
            if (errno == EAGAIN) {
                break;
            }
            continue; /* a reset comes before what was sent earlier, if the peer left something of ours unread */
        }
        socket_close(&passed);
        if (packet_sound(&packet) && packet_legal_failure(&packet)) {
            *status = (tutti_status)packet.status;
            memcpy(sentence, packet.sentence, sizeof(packet.sentence));
            spoken = true;
        }
    }
    return spoken;
}

static bool same_process(const struct mesh *mesh, int rank)
{
    return memcmp(mesh->addresses[rank].process, mesh->addresses[mesh->rank].process, PROCESS_COOKIE_BYTES) == 0;
}

void mesh_tell(const struct mesh *mesh, tutti_status status, const char *sentence)
{
    struct packet packet = {PACKET_MAGIC, PACKET_FAILED, mesh->rank, 0, status, {0}, {0}};
    (void)snprintf(packet.sentence, sizeof(packet.sentence), "%s", sentence);
    for (int rank = 0; rank < mesh->world; rank++) {
        if (rank == mesh->rank || same_process(mesh, rank)) {
            continue;
        }
        /* A rank that is not connected is told at its own listener: it must know before it finds ours gone. */
        int caller =
            mesh->sockets[rank] >= 0 ? -1 : socket_connect_abstract(mesh->addresses[rank].name, SOCK_SEQPACKET);
        int fd = mesh->sockets[rank] >= 0 ? mesh->sockets[rank] : caller;
        if (fd >= 0) {
            packet.to = rank;
            memcpy(packet.token, mesh->addresses[rank].token, sizeof(packet.token));
            (void)socket_send_packet(fd, &packet, sizeof(packet), -1);
        }
        socket_close(&caller);
    }
}

static tutti_status callers_accept(struct joining *joining);

/* A rank gave up and told us at our listener, where we have not looked yet. */
static bool queue_words(struct joining *joining, tutti_status *status, char *sentence)
{
    bool spoken = false;
    (void)callers_accept(joining); /* what cannot be accepted cannot be heard */
    for (int index = 0; index < joining->pending_count && !spoken; index++) {
        struct packet packet;
        int passed = -1;
        if (socket_receive_packet(joining->pending[index], &packet, sizeof(packet), &passed)) {
            spoken = packet_failed(joining->mesh, &packet, status, sentence);
            socket_close(&passed);
        }
    }
    return spoken;
}

/* A rank's connection or listener is gone: the end of this joining, with the cause if anybody has told it. Whoever gives up
 * tells first and closes then. */
static tutti_status peer_gone(struct joining *joining, int rank)
{
    const struct mesh *mesh = joining->mesh;
    tutti_status status = TUTTI_OK;
    char sentence[MESH_SENTENCE_BYTES];
    if ((mesh->sockets[rank] >= 0 && mesh_last_words(mesh->sockets[rank], &status, sentence)) ||
        queue_words(joining, &status, sentence)) {
        return error_set(status, "%s", sentence);
    }
    return error_set(TUTTI_ERR_PEER_LOST, "rank %d (pid %d) ended while the communicator was being made", rank,
                     (int)mesh->addresses[rank].pid);
}

static tutti_status packet_send(struct joining *joining, int rank, enum packet_type type)
{
    const struct mesh *mesh = joining->mesh;
    struct packet packet = {PACKET_MAGIC, (int32_t)type, mesh->rank, rank, 0, {0}, {0}};
    memcpy(packet.token, mesh->addresses[rank].token, sizeof(packet.token));
    if (socket_send_packet(mesh->sockets[rank], &packet, sizeof(packet), segment_fd(*mesh->own))) {
        return TUTTI_OK;
    }
    if (errno == EPIPE || errno == ECONNRESET) {
        return peer_gone(joining, rank);
    }
    return error_set_errno("rank %d: passing shared memory to rank %d", mesh->rank, rank);
}

static tutti_status segment_take(const struct mesh *mesh, int rank, int *passed)
{
    if (*passed < 0) {
        return error_set(TUTTI_ERR_SYSTEM,
                         "rank %d got no shared memory from rank %d: has it reached its limit of open files?",
                         mesh->rank, rank);
    }
    tutti_status status = segment_import(*passed, mesh->addresses[rank].segment_bytes, &mesh->segments[rank]);
    socket_close(passed);
    return status == TUTTI_OK
               ? TUTTI_OK
               : error_set(status, "rank %d cannot map rank %d's memory: %s", mesh->rank, rank, tutti_last_error());
}

/* Calls a lower rank: it has listened since before it gave its address. */
static tutti_status lower_call(struct joining *joining, int rank, struct deadline *deadline)
{
    const struct mesh *mesh = joining->mesh;
    int fd = socket_connect_abstract(mesh->addresses[rank].name, SOCK_SEQPACKET);
    while (fd < 0 && errno == EAGAIN && !deadline_cut(deadline) && !deadline_expired(deadline)) {
        (void)poll(NULL, 0, 1); /* its queue is full for the moment */
        fd = socket_connect_abstract(mesh->addresses[rank].name, SOCK_SEQPACKET);
    }
    if (fd < 0 && errno == ECONNREFUSED) {
        return peer_gone(joining, rank);
    }
    if (fd < 0) {
        return error_set_errno("rank %d: connecting to rank %d", mesh->rank, rank);
    }
    if (socket_peer_user(fd) != geteuid()) {
        socket_close(&fd);
        return error_set(TUTTI_ERR_SYSTEM, "rank %d's socket belongs to another user", rank);
    }
    mesh->sockets[rank] = fd;
    return packet_send(joining, rank, PACKET_CALL);
}

static void pending_drop(struct joining *joining, int index, bool close_it)
{
    if (close_it) {
        (void)close(joining->pending[index]);
    }
    joining->pending[index] = joining->pending[--joining->pending_count];
}

static tutti_status callers_accept(struct joining *joining)
{
    for (;;) {
        int fd = socket_accept(joining->listener);
        if (fd < 0) {
            return errno == EAGAIN ? TUTTI_OK
                                   : error_set_errno("rank %d: accepting the other ranks", joining->mesh->rank);
        }
        if (socket_peer_user(fd) != geteuid()) {
            log_line(LOG_WARN, "refused a connection of user %ld", (long)socket_peer_user(fd));
            (void)close(fd);
            continue;
        }
        if (joining->pending_count == PENDING_MAX) {
            pending_drop(joining, 0, true); /* whoever is quiet for so long is no rank */
        }
        joining->pending[joining->pending_count++] = fd;
    }
}

/* Reads what a pending connection has to say. Strangers are dropped; only a rank's own trouble is an error. */
static tutti_status caller_hear(struct joining *joining, int index)
{
    const struct mesh *mesh = joining->mesh;
    struct packet packet;
    int passed = -1;
    if (!socket_receive_packet(joining->pending[index], &packet, sizeof(packet), &passed)) {
        if (errno == EMFILE) {
            return error_set_errno("rank %d: receiving another rank's memory", mesh->rank);
        }
        if (errno != EAGAIN) {
            pending_drop(joining, index, true);
        }
        return TUTTI_OK;
    }
    tutti_status told = TUTTI_OK;
    char sentence[MESH_SENTENCE_BYTES];
    if (packet_failed(mesh, &packet, &told, sentence)) {
        socket_close(&passed);
        return error_set(told, "%s", sentence);
    }
    bool known = packet_sound(&packet) && packet.type == PACKET_CALL && packet.to == mesh->rank &&
                 packet.from > mesh->rank && packet.from < mesh->world &&
                 token_equal(packet.token, mesh->addresses[mesh->rank].token) &&
                 joining->links[packet.from] == LINK_AWAITS_CALL;
    if (!known) {
        log_line(LOG_WARN, "rank %d refused a connection that is none of its peers'", mesh->rank);
        socket_close(&passed);
        pending_drop(joining, index, true);
        return TUTTI_OK;
    }
    int rank = packet.from;
    mesh->sockets[rank] = joining->pending[index];
    pending_drop(joining, index, false);
    tutti_status status = segment_take(mesh, rank, &passed);
    if (status == TUTTI_OK) {
        status = packet_send(joining, rank, PACKET_ANSWER);
    }
    joining->links[rank] = LINK_DONE;
    return status;
}

static tutti_status answer_hear(struct joining *joining, int rank)
{
    const struct mesh *mesh = joining->mesh;
    struct packet packet;
    int passed = -1;
    if (!socket_receive_packet(mesh->sockets[rank], &packet, sizeof(packet), &passed)) {
        if (errno == EMFILE) {
            return error_set_errno("rank %d: receiving rank %d's memory", mesh->rank, rank);
        }
        return errno == EAGAIN ? TUTTI_OK : peer_gone(joining, rank);
    }
    if (!packet_sound(&packet) || packet.from != rank || packet.to != mesh->rank) {
        socket_close(&passed);
        return error_set(TUTTI_ERR_SYSTEM, "rank %d answered nonsense", rank);
    }
    if (packet.type == PACKET_FAILED) {
        socket_close(&passed);
        return error_set(packet_legal_failure(&packet) ? (tutti_status)packet.status : TUTTI_ERR_SYSTEM, "%s",
                         packet.sentence);
    }
    joining->links[rank] = LINK_DONE;
    return segment_take(mesh, rank, &passed);
}

/* A rank that dies before it has called us leaves no closed connection, but nobody listens at its address. */
static tutti_status absent_probe(struct joining *joining)
{
    uint64_t now_ns = clock_now_ns();
    if (now_ns - joining->probed_ns < PROBE_NS) {
        return TUTTI_OK;
    }
    joining->probed_ns = now_ns;
    const struct mesh *mesh = joining->mesh;
    for (int rank = 0; rank < mesh->world; rank++) {
        if (joining->links[rank] != LINK_AWAITS_CALL) {
            continue;
        }
        int fd = socket_connect_abstract(mesh->addresses[rank].name, SOCK_SEQPACKET);
        bool refused = fd < 0 && errno == ECONNREFUSED;
        socket_close(&fd);
        /* Twice: its call may have been under way to our queue when it stopped listening. */
        if (refused && joining->refused[rank]) {
            return peer_gone(joining, rank);
        }
        joining->refused[rank] = refused;
    }
    return TUTTI_OK;
}

/* Waits for something to happen and deals with it. */
static tutti_status joining_step(struct joining *joining)
{
    const struct mesh *mesh = joining->mesh;
    struct pollfd watched[1 + PENDING_MAX + TUTTI_WORLD_MAX];
    int watched_rank[TUTTI_WORLD_MAX];
    int pending_count = joining->pending_count;
    nfds_t count = 0;
    watched[count++] = (struct pollfd){joining->listener, POLLIN, 0};
    for (int index = 0; index < pending_count; index++) {
        watched[count++] = (struct pollfd){joining->pending[index], POLLIN, 0};
    }
    nfds_t first_rank = count;
    for (int rank = 0; rank < mesh->world; rank++) {
        if (mesh->sockets[rank] >= 0) {
            watched_rank[count - first_rank] = rank;
            short events = joining->links[rank] == LINK_AWAITS_ANSWER ? POLLIN : 0;
            watched[count++] = (struct pollfd){mesh->sockets[rank], events, 0};
        }
    }
    (void)poll(watched, count, DEADLINE_STEP_MS);
    tutti_status status = TUTTI_OK;
    for (nfds_t index = first_rank; index < count && status == TUTTI_OK; index++) {
        int rank = watched_rank[index - first_rank];
        if (watched[index].revents != 0 && joining->links[rank] == LINK_AWAITS_ANSWER) {
            status = answer_hear(joining, rank);
        } else if (watched[index].revents != 0) {
            status = peer_gone(joining, rank);
        }
    }
    /* Backwards: dropping one moves the last into its place. */
    for (int index = pending_count - 1; index >= 0 && status == TUTTI_OK; index--) {
        if (watched[1 + index].revents != 0) {
            status = caller_hear(joining, index);
        }
    }
    if (status == TUTTI_OK) {
        status = callers_accept(joining);
    }
    return status == TUTTI_OK ? absent_probe(joining) : status;
}

static bool joining_done(const struct joining *joining)
{
    for (int rank = 0; rank < joining->mesh->world; rank++) {
        if (joining->links[rank] != LINK_DONE) {
            return false;
        }
    }
    return true;
}

static tutti_status joining_expired(const struct joining *joining, const struct deadline *deadline)
{
    int missing = 0;
    while (missing < joining->mesh->world - 1 && joining->links[missing] == LINK_DONE) {
        missing++;
    }
    return error_set(TUTTI_ERR_TIMEOUT, "rank %d waited %u ms for rank %d (pid %d) to connect", joining->mesh->rank,
                     deadline->limit_ms, missing, (int)joining->mesh->addresses[missing].pid);
}

/* Ranks of this process are found in its cache; those of others are called or waited for. */
static tutti_status joining_begin(struct joining *joining, struct deadline *deadline)
{
    const struct mesh *mesh = joining->mesh;
    for (int rank = 0; rank < mesh->world; rank++) {
        const struct mesh_address *address = &mesh->addresses[rank];
        joining->links[rank] = LINK_DONE;
        if (rank == mesh->rank) {
            continue;
        }
        if (same_process(mesh, rank)) {
            mesh->segments[rank] =
                segment_find(address->segment_device, address->segment_inode, address->segment_bytes);
            if (mesh->segments[rank] == NULL) {
                return peer_gone(joining, rank);
            }
        } else if (rank > mesh->rank) {
            joining->links[rank] = LINK_AWAITS_CALL;
        } else {
            tutti_status status = lower_call(joining, rank, deadline);
            if (status != TUTTI_OK) {
                return status;
            }
            joining->links[rank] = LINK_AWAITS_ANSWER;
        }
    }
    return TUTTI_OK;
}

tutti_status mesh_join(const struct mesh *mesh, int listener, struct deadline *deadline)
{
    struct joining joining;
    memset(&joining, 0, sizeof(joining));
    joining.mesh = mesh;
    joining.listener = listener;
    joining.probed_ns = clock_now_ns();
    tutti_status status = joining_begin(&joining, deadline);
    while (status == TUTTI_OK && !joining_done(&joining)) {
        status = joining_step(&joining);
        if (status == TUTTI_OK && !joining_done(&joining)) {
            if (deadline_cut(deadline)) {
                status = error_set(TUTTI_ERR_ABORTED, "the making of the communicator was given up by another rank");
            } else if (deadline_expired(deadline)) {
                status = joining_expired(&joining, deadline);
            }
        }
    }
    while (joining.pending_count > 0) {
        pending_drop(&joining, 0, true);
    }
    return status;
}

/* -- after the mesh is made ------------------------------------------------------------------------- */

tutti_status mesh_pass(int socket, int from, int to, int fd)
{
    struct packet packet = {PACKET_MAGIC, PACKET_MEMORY, from, to, 0, {0}, {0}};
    if (socket_send_packet(socket, &packet, sizeof(packet), fd)) {
        return TUTTI_OK;
    }
    if (errno == EPIPE || errno == ECONNRESET) {
        return error_set(TUTTI_ERR_PEER_LOST, "rank %d ended before it took what rank %d shares", to, from);
    }
    return error_set_errno("passing memory to rank %d", to);
}

tutti_status mesh_take(int socket, int from, int to, struct deadline *deadline, int *fd)
{
    struct packet packet;
    int passed = -1;
    if (!socket_wait(socket, POLLIN, deadline)) {
        return deadline_cut(deadline)
                   ? error_set(TUTTI_ERR_ABORTED, "the communicator failed while rank %d waited for memory", to)
                   : error_set(TUTTI_ERR_TIMEOUT, "rank %d waited %u ms for rank %d's memory", to, deadline->limit_ms,
                               from);
    }
    if (!socket_receive_packet(socket, &packet, sizeof(packet), &passed)) {
        if (errno == ECONNRESET) {
            return error_set(TUTTI_ERR_PEER_LOST, "rank %d ended before it passed what it shares", from);
        }
        return error_set_errno("rank %d: receiving rank %d's memory", to, from);
    }
    bool sound = packet_sound(&packet);
    bool told = sound && packet_legal_failure(&packet);
    if (!sound || told || packet.type != PACKET_MEMORY || packet.from != from || packet.to != to || passed < 0) {
        socket_close(&passed);
        return told ? error_set((tutti_status)packet.status, "%s", packet.sentence)
                    : error_set(TUTTI_ERR_SYSTEM, "rank %d passed something that is not its memory", from);
    }
    *fd = passed;
    return TUTTI_OK;
}

tutti_status mesh_parcel_send(int socket, const struct mesh_parcel *parcel)
{
    struct packet packet = {PACKET_MAGIC, PACKET_PARCEL, parcel->from, parcel->to, 0, {0}, {0}};
    memcpy(packet.token, parcel->label, sizeof(packet.token));
    if (socket_send_packet(socket, &packet, sizeof(packet), parcel->fd)) {
        return TUTTI_OK;
    }
    if (errno == EPIPE || errno == ECONNRESET) {
        return error_set(TUTTI_ERR_PEER_LOST, "rank %d ended before it took what rank %d shares", parcel->to,
                         parcel->from);
    }
    return error_set_errno("passing memory to rank %d", parcel->to);
}

tutti_status mesh_parcel_receive(int socket, struct mesh_parcel *parcel, bool *there)
{
    struct packet packet;
    int passed = -1;
    *there = false;
    bool received = socket_receive_packet(socket, &packet, sizeof(packet), &passed);
    if (!received && errno == EAGAIN) {
        return TUTTI_OK;
    }
    if (!received && errno == ECONNRESET) {
        return error_set(TUTTI_ERR_PEER_LOST, "a rank ended before it passed what it shares");
    }
    if (!received && errno != EMFILE) {
        return error_set_errno("receiving another rank's memory");
    }
    if (packet.magic != PACKET_MAGIC || packet.type != PACKET_PARCEL) {
        socket_close(&passed);
        return error_set(TUTTI_ERR_SYSTEM, "another rank passed something that is not its memory");
    }
    *parcel = (struct mesh_parcel){packet.from, packet.to, {0}, passed};
    memcpy(parcel->label, packet.token, sizeof(parcel->label));
    *there = true;
    return TUTTI_OK;
}
