/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "comm/rendezvous_wire.h"

/* Rank 0's own limit may have begun later than ours; once it has welcomed us we give it time to answer. */
#define ANSWER_EXTRA_MS 2000u
#define BACKOFF_FIRST_NS 200000
#define BACKOFF_LAST_NS ((long)CLOCK_STEP_NS_MAX)

/* How one call ended: with `status` and its sentence set, or to be tried again. */
enum call_end { CALL_ANSWERED, CALL_FAILED, CALL_AGAIN };

static enum call_end refusal_hear(int fd, const struct wire_header *header, struct deadline *deadline,
                                  tutti_status *status)
{
    struct wire_refusal refusal;
    if (header->bytes != sizeof(refusal) || !wire_receive(fd, &refusal, sizeof(refusal), deadline)) {
        return CALL_AGAIN;
    }
    refusal.sentence[sizeof(refusal.sentence) - 1] = 0;
    bool legal = refusal.status < 0 && refusal.status >= TUTTI_ERR_ABORTED;
    *status = error_set(legal ? (tutti_status)refusal.status : TUTTI_ERR_SYSTEM, "%s", refusal.sentence);
    return CALL_FAILED;
}

/* After the welcome rank 0 owes us an answer: if it does not come, rank 0 is gone. */
static enum call_end answer_hear(const struct rendezvous *rendezvous, int fd, union hello_frame *all, uint32_t limit_ms,
                                 tutti_status *status)
{
    struct deadline deadline = deadline_in(limit_ms + ANSWER_EXTRA_MS, NULL);
    struct wire_header header;
    if (!wire_receive(fd, &header, sizeof(header), &deadline)) {
        *status = errno == ETIMEDOUT ? error_set(TUTTI_ERR_TIMEOUT, "rank %d waited %u ms for the other ranks at %s",
                                                 rendezvous->rank, limit_ms, rendezvous->text)
                                     : error_set(TUTTI_ERR_PEER_LOST, "rank 0 ended while the ranks were meeting at %s",
                                                 rendezvous->text);
        return CALL_FAILED;
    }
    size_t bytes = (size_t)rendezvous->world * sizeof(*all);
    if (header.magic == WIRE_MAGIC && header.type == WIRE_REFUSED &&
        refusal_hear(fd, &header, &deadline, status) == CALL_FAILED) {
        return CALL_FAILED;
    }
    if (header.magic != WIRE_MAGIC || header.type != WIRE_ALL || header.bytes != bytes ||
        !wire_receive(fd, all, bytes, &deadline)) {
        *status = error_set(TUTTI_ERR_PEER_LOST, "rank 0's answer at %s broke off or is none", rendezvous->text);
        return CALL_FAILED;
    }
    *status = TUTTI_OK;
    return CALL_ANSWERED;
}

static enum call_end call(const struct rendezvous *rendezvous, int fd, const union hello_frame *mine,
                          union hello_frame *all, struct deadline *deadline, tutti_status *status)
{
    if (rendezvous->kind == RENDEZVOUS_ABSTRACT && socket_peer_user(fd) != geteuid()) {
        *status = error_set(TUTTI_ERR_SYSTEM, "the rendezvous %s is held by user %ld", rendezvous->text,
                            (long)socket_peer_user(fd));
        return CALL_FAILED;
    }
    struct wire_join join = {wire_header_make(WIRE_JOIN, sizeof(*mine)), *mine};
    join.header.rank = rendezvous->rank;
    join.header.world = rendezvous->world;
    memcpy(join.header.token, rendezvous->token, sizeof(join.header.token));
    struct wire_header header;
    /* Closed before the welcome: rank 0 had ended an earlier meeting, or went away before it knew us. */
    if (!wire_send(fd, &join, sizeof(join), deadline) || !wire_receive(fd, &header, sizeof(header), deadline)) {
        return CALL_AGAIN;
    }
    if (header.magic == WIRE_MAGIC && header.type == WIRE_REFUSED) {
        return refusal_hear(fd, &header, deadline, status);
    }
    if (header.magic != WIRE_MAGIC || header.type != WIRE_WELCOME || header.bytes != 0) {
        *status = error_set(TUTTI_ERR_MISMATCH, "what listens at %s is not rank 0 of a Tutti job of this build",
                            rendezvous->text);
        return CALL_FAILED;
    }
    return answer_hear(rendezvous, fd, all, deadline->limit_ms, status);
}

/* Nobody listens yet, or nobody listens well. */
static bool worth_another_try(int number)
{
    return number == ECONNREFUSED || number == EAGAIN || number == ETIMEDOUT || number == ECONNRESET ||
           number == EINTR || number == ECONNABORTED;
}

tutti_status rendezvous_join(const struct rendezvous *rendezvous, const union hello_frame *mine, union hello_frame *all,
                             struct deadline *deadline)
{
    struct timespec pause = {0, BACKOFF_FIRST_NS};
    for (;;) {
        int fd = wire_connect(rendezvous, deadline);
        if (fd < 0 && errno == 0) {
            return error_set(TUTTI_ERR_ARGUMENT, "rendezvous \"%s\": the host's name is unknown", rendezvous->text);
        }
        if (fd < 0 && !worth_another_try(errno)) {
            return error_set_errno("connecting to rank 0 at %s", rendezvous->text);
        }
        if (fd >= 0) {
            tutti_status status = TUTTI_OK;
            enum call_end end = call(rendezvous, fd, mine, all, deadline, &status);
            socket_close(&fd);
            if (end != CALL_AGAIN) {
                return status;
            }
        }
        if (deadline_expired(deadline)) {
            return error_set(
                TUTTI_ERR_TIMEOUT,
                "rank %d of %d waited %u ms at %s, but rank 0 did not come: start it, or raise timeout_ms or "
                "TUTTI_CREATE_TIMEOUT_MS",
                rendezvous->rank, rendezvous->world, deadline->limit_ms, rendezvous->text);
        }
        (void)nanosleep(&pause, NULL);
        pause.tv_nsec = pause.tv_nsec * 2 < BACKOFF_LAST_NS ? pause.tv_nsec * 2 : BACKOFF_LAST_NS;
    }
}
