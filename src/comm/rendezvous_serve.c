/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/rendezvous_wire.h"

#define STRANGERS_MAX 64                                  /* callers that have not said yet who they are */
#define CALLERS_MAX (STRANGERS_MAX + 2 * TUTTI_WORLD_MAX) /* twice: duplicates are told what is wrong */
#define GRACE_MS 1000u      /* after a failure: ranks that are still on their way hear of it too */
#define ANSWER_MIN_MS 5000u /* answers get this long even if the meeting took all its time */

struct caller {
    int fd;
    int rank; /* -1: a stranger */
    size_t got;
    struct wire_join join;
};

struct serving {
    const struct rendezvous *rendezvous;
    union hello_frame *all;
    struct deadline *deadline;
    struct deadline grace; /* once status is not TUTTI_OK */
    tutti_status status;   /* the first trouble, and its sentence */
    char sentence[MESH_SENTENCE_BYTES];
    bool arrived[TUTTI_WORLD_MAX];
    int arrived_count;
    int listener;
    int caller_count;
    struct caller callers[CALLERS_MAX];
};

/* Keeps the thread's last sentence as the meeting's end, if it is the first. */
static void trouble(struct serving *serving, tutti_status status)
{
    if (serving->status == TUTTI_OK) {
        serving->status = status;
        (void)snprintf(serving->sentence, sizeof(serving->sentence), "%s", tutti_last_error());
        serving->grace = deadline_in(GRACE_MS, NULL);
    }
}

static void caller_drop(struct serving *serving, int index)
{
    (void)close(serving->callers[index].fd);
    serving->caller_count--;
    if (index != serving->caller_count) {
        serving->callers[index] = serving->callers[serving->caller_count];
    }
}

static void refuse(int fd, tutti_status status, const char *sentence)
{
    struct {
        struct wire_header header;
        struct wire_refusal refusal;
    } answer;
    memset(&answer, 0, sizeof(answer));
    answer.header = wire_header_make(WIRE_REFUSED, sizeof(answer.refusal));
    answer.refusal.status = status;
    (void)snprintf(answer.refusal.sentence, sizeof(answer.refusal.sentence), "%s", sentence);
    (void)send(fd, &answer, sizeof(answer), MSG_NOSIGNAL | MSG_DONTWAIT); /* fits any socket's buffer */
}

/* Makes room by closing whoever has been a stranger for longest. */
static bool stranger_evict(struct serving *serving)
{
    int strangers = 0;
    int oldest = -1;
    for (int index = serving->caller_count - 1; index >= 0; index--) {
        if (serving->callers[index].rank < 0) {
            strangers++;
            oldest = index;
        }
    }
    if (strangers >= STRANGERS_MAX || (serving->caller_count == CALLERS_MAX && oldest >= 0)) {
        caller_drop(serving, oldest);
    }
    return serving->caller_count < CALLERS_MAX;
}

static void callers_accept(struct serving *serving)
{
    for (;;) {
        int fd = socket_accept(serving->listener);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                trouble(serving,
                        error_set_errno("rank 0 cannot accept the other ranks at %s", serving->rendezvous->text));
            }
            return;
        }
        bool stranger = serving->rendezvous->kind == RENDEZVOUS_ABSTRACT && socket_peer_user(fd) != geteuid();
        if (stranger || !stranger_evict(serving)) {
            log_line(LOG_WARN, "rank 0 refused a connection at %s", serving->rendezvous->text);
            (void)close(fd);
            continue;
        }
        struct caller *caller = &serving->callers[serving->caller_count++];
        caller->fd = fd;
        caller->rank = -1;
        caller->got = 0;
    }
}

/* A complete JOIN is there. False: not one of ours, to be dropped. */
static bool caller_enter(struct serving *serving, struct caller *caller)
{
    const struct rendezvous *rendezvous = serving->rendezvous;
    const struct wire_header *header = &caller->join.header;
    if (!token_equal(header->token, rendezvous->token)) {
        tutti_status status =
            error_set(TUTTI_ERR_MISMATCH,
                      "rank %d's session token is not that of rank 0 at %s: set TUTTI_SESSION_TOKEN alike "
                      "on all ranks of a job, and use another port for another job",
                      (int)header->rank, rendezvous->text);
        refuse(caller->fd, status, tutti_last_error());
        log_line(LOG_WARN, "rank 0 refused a caller with another session token at %s", rendezvous->text);
        return false;
    }
    if (header->rank < 0 || header->rank >= TUTTI_WORLD_MAX) {
        return false;
    }
    caller->rank = header->rank;
    struct wire_header welcome = wire_header_make(WIRE_WELCOME, 0);
    (void)send(caller->fd, &welcome, sizeof(welcome), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (header->world != rendezvous->world) {
        trouble(serving, error_set(TUTTI_ERR_MISMATCH, "rank %d expects %d ranks at %s, rank 0 expects %d",
                                   caller->rank, (int)header->world, rendezvous->text, rendezvous->world));
    } else if (caller->rank == 0 || serving->arrived[caller->rank]) {
        trouble(serving,
                error_set(TUTTI_ERR_MISMATCH,
                          "two processes or threads call themselves rank %d of %d at %s: give every rank its own "
                          "number, and every job its own rendezvous",
                          caller->rank, rendezvous->world, rendezvous->text));
    }
    if (caller->rank > 0 && caller->rank < rendezvous->world && !serving->arrived[caller->rank]) {
        serving->arrived[caller->rank] = true;
        serving->arrived_count++;
        serving->all[caller->rank] = caller->join.hello;
    }
    return true;
}

/* Something can be read from a caller, or it has hung up. False: to be dropped. */
static bool caller_hear(struct serving *serving, struct caller *caller)
{
    if (caller->rank >= 0) { /* a rank says nothing more before it is answered, so it has gone */
        char byte;
        if (recv(caller->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        trouble(serving, error_set(TUTTI_ERR_PEER_LOST, "rank %d ended or gave up while the ranks were meeting at %s",
                                   caller->rank, serving->rendezvous->text));
        return false;
    }
    ssize_t got =
        recv(caller->fd, (char *)&caller->join + caller->got, sizeof(caller->join) - caller->got, MSG_DONTWAIT);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    if (got == 0) {
        return false;
    }
    caller->got += (size_t)got;
    const struct wire_header *header = &caller->join.header;
    if (caller->got >= sizeof(*header) &&
        (header->magic != WIRE_MAGIC || header->type != WIRE_JOIN || header->bytes != sizeof(caller->join.hello))) {
        log_line(LOG_WARN, "rank 0 dropped a caller that is no rank at %s", serving->rendezvous->text);
        return false;
    }
    return caller->got < sizeof(caller->join) || caller_enter(serving, caller);
}

static void serving_step(struct serving *serving)
{
    struct pollfd watched[1 + CALLERS_MAX];
    int count = serving->caller_count;
    watched[0] = (struct pollfd){serving->listener, POLLIN, 0};
    for (int index = 0; index < count; index++) {
        watched[1 + index] = (struct pollfd){serving->callers[index].fd, POLLIN, 0};
    }
    if (poll(watched, 1 + (nfds_t)count, DEADLINE_STEP_MS) <= 0) {
        return;
    }
    /* Backwards: dropping one moves the last into its place. */
    for (int index = count - 1; index >= 0; index--) {
        if (watched[1 + index].revents != 0 && !caller_hear(serving, &serving->callers[index])) {
            caller_drop(serving, index);
        }
    }
    if (watched[0].revents != 0) {
        callers_accept(serving);
    }
}

static void expiry_describe(struct serving *serving)
{
    const struct rendezvous *rendezvous = serving->rendezvous;
    char missing[80] = "";
    size_t used = 0;
    for (int rank = 1; rank < rendezvous->world && used < sizeof(missing) - 12; rank++) {
        if (!serving->arrived[rank]) {
            used += (size_t)snprintf(missing + used, sizeof(missing) - used, "%s%d", used > 0 ? ", " : "", rank);
        }
    }
    trouble(serving,
            error_set(TUTTI_ERR_TIMEOUT,
                      "waited %u ms at %s for rank%s %s%s of %d: start what is missing, or raise timeout_ms or "
                      "TUTTI_CREATE_TIMEOUT_MS",
                      serving->deadline->limit_ms, rendezvous->text,
                      rendezvous->world - 1 - serving->arrived_count > 1 ? "s" : "", missing,
                      used >= sizeof(missing) - 12 ? " and more" : "", rendezvous->world));
}

/* Gives every rank that came the same answer, some bytes to each in turn, so that one that does not read does not
 * keep the others waiting. */
static void answer(struct serving *serving, const char *bytes, size_t count)
{
    uint32_t limit_ms = serving->deadline->limit_ms > ANSWER_MIN_MS ? serving->deadline->limit_ms : ANSWER_MIN_MS;
    struct deadline deadline = deadline_in(limit_ms, NULL);
    for (int index = serving->caller_count - 1; index >= 0; index--) {
        serving->callers[index].got = 0; /* from now on: how much was sent */
        if (serving->callers[index].rank < 0) {
            caller_drop(serving, index);
        }
    }
    while (serving->caller_count > 0 && !deadline_expired(&deadline)) {
        struct pollfd watched[CALLERS_MAX];
        for (int index = 0; index < serving->caller_count; index++) {
            watched[index] = (struct pollfd){serving->callers[index].fd, POLLOUT, 0};
        }
        (void)poll(watched, (nfds_t)serving->caller_count, DEADLINE_STEP_MS);
        for (int index = serving->caller_count - 1; index >= 0; index--) {
            struct caller *caller = &serving->callers[index];
            if (watched[index].revents == 0) {
                continue;
            }
            ssize_t sent = send(caller->fd, bytes + caller->got, count - caller->got, MSG_NOSIGNAL | MSG_DONTWAIT);
            bool broken = sent < 0 && errno != EAGAIN && errno != EINTR; /* it is missed when segments are passed */
            caller->got += sent > 0 ? (size_t)sent : 0;
            if (broken || caller->got == count) {
                caller_drop(serving, index);
            }
        }
    }
}

static void serving_answer(struct serving *serving)
{
    size_t bytes = (size_t)serving->rendezvous->world * sizeof(*serving->all);
    size_t room =
        sizeof(struct wire_header) + (bytes > sizeof(struct wire_refusal) ? bytes : sizeof(struct wire_refusal));
    char *frame = calloc(1, room);
    if (frame == NULL) {
        trouble(serving, error_set(TUTTI_ERR_SYSTEM, "rank 0 is out of memory"));
        return; /* the callers see their connections close */
    }
    if (serving->status == TUTTI_OK) {
        struct wire_header header = wire_header_make(WIRE_ALL, (uint32_t)bytes);
        memcpy(frame, &header, sizeof(header));
        memcpy(frame + sizeof(header), serving->all, bytes);
        answer(serving, frame, sizeof(header) + bytes);
    } else {
        struct wire_header header = wire_header_make(WIRE_REFUSED, sizeof(struct wire_refusal));
        struct wire_refusal refusal;
        memset(&refusal, 0, sizeof(refusal));
        refusal.status = serving->status;
        memcpy(refusal.sentence, serving->sentence, sizeof(refusal.sentence));
        memcpy(frame, &header, sizeof(header));
        memcpy(frame + sizeof(header), &refusal, sizeof(refusal));
        answer(serving, frame, sizeof(header) + sizeof(refusal));
    }
    free(frame);
}

static void serve(struct serving *serving)
{
    while (serving->arrived_count < serving->rendezvous->world - 1) {
        serving_step(serving);
        if (serving->status != TUTTI_OK && deadline_expired(&serving->grace)) {
            break;
        }
        if (serving->arrived_count < serving->rendezvous->world - 1 && deadline_expired(serving->deadline)) {
            expiry_describe(serving);
            break;
        }
    }
    /* A rank may have died while the last ones were on their way. */
    for (int index = serving->caller_count - 1; index >= 0 && serving->status == TUTTI_OK; index--) {
        if (serving->callers[index].rank >= 0 && !caller_hear(serving, &serving->callers[index])) {
            caller_drop(serving, index);
        }
    }
    /* Before the answers: whoever has one may call for the next meeting at once, and must not find this one. */
    socket_close(&serving->listener);
    serving_answer(serving);
    while (serving->caller_count > 0) {
        caller_drop(serving, serving->caller_count - 1);
    }
}

/* Listens, or finds out who does. A rank 0 that finds another one in its place tells it so, by joining it as
 * a second rank 0: then both jobs hear what is wrong. */
static tutti_status listener_open(const struct rendezvous *rendezvous, const union hello_frame *mine,
                                  union hello_frame *all, struct deadline *deadline, int *listener)
{
    for (;;) {
        *listener = wire_listen(rendezvous);
        if (*listener >= 0) {
            return TUTTI_OK;
        }
        if (errno == 0) {
            return error_set(TUTTI_ERR_ARGUMENT, "rendezvous \"%s\": the host's name is unknown", rendezvous->text);
        }
        if (errno != EADDRINUSE) {
            return error_set_errno("rank 0 listening at %s", rendezvous->text);
        }
        struct deadline attempt = deadline_in(100, NULL);
        tutti_status status = rendezvous_join(rendezvous, mine, all, &attempt);
        if (status == TUTTI_ERR_MISMATCH) {
            return status;
        }
        if (deadline_expired(deadline)) {
            return error_set(TUTTI_ERR_TIMEOUT,
                             "another process listens at %s and is no rank 0: choose another rendezvous",
                             rendezvous->text);
        }
    }
}

tutti_status rendezvous_serve(const struct rendezvous *rendezvous, const union hello_frame *mine,
                              union hello_frame *all, struct deadline *deadline)
{
    struct serving *serving = calloc(1, sizeof(*serving));
    if (serving == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "rank 0 is out of memory");
    }
    tutti_status status = listener_open(rendezvous, mine, all, deadline, &serving->listener);
    if (status == TUTTI_OK) {
        serving->rendezvous = rendezvous;
        serving->all = all;
        serving->deadline = deadline;
        all[0] = *mine;
        serve(serving);
        status = serving->status == TUTTI_OK ? TUTTI_OK : error_set(serving->status, "%s", serving->sentence);
    }
    free(serving);
    return status;
}
