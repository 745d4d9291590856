/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 256  /* above TUTTI_WORLD_MAX: a connect never waits for an accept */
#define PASSED_MAX 4 /* room for more descriptors than we accept, so that extra ones are seen and closed */

socklen_t socket_abstract(const char *name, struct sockaddr_un *address)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    size_t length = strlen(name);
    memcpy(address->sun_path + 1, name, length); /* names are below SOCKET_NAME_BYTES by construction */
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

static int close_keeping_errno(int fd)
{
    int number = errno;
    (void)close(fd);
    errno = number;
    return -1;
}

int socket_listen_abstract(const char *name, int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    struct sockaddr_un address;
    socklen_t bytes = socket_abstract(name, &address);
    if (bind(fd, (const struct sockaddr *)&address, bytes) != 0 || listen(fd, BACKLOG) != 0) {
        return close_keeping_errno(fd);
    }
    return fd;
}

int socket_connect_abstract(const char *name, int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    struct sockaddr_un address;
    socklen_t bytes = socket_abstract(name, &address);
    int failed;
    do {
        failed = connect(fd, (const struct sockaddr *)&address, bytes);
    } while (failed != 0 && errno == EINTR);
    return failed == 0 ? fd : close_keeping_errno(fd);
}

int socket_accept(int listener)
{
    int fd;
    do {
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    return fd;
}

uid_t socket_peer_user(int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
        return (uid_t)-1;
    }
    return peer.uid;
}

bool socket_wait(int fd, short events, struct deadline *deadline)
{
    while (!deadline_cut(deadline)) {
        struct pollfd poll_fd = {fd, events, 0};
        if (poll(&poll_fd, 1, DEADLINE_STEP_MS) > 0) {
            return true;
        }
        if (deadline_expired(deadline)) {
            return false;
        }
    }
    return false;
}

bool socket_send_packet(int fd, const void *bytes, size_t count, int passed)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {(void *)(uintptr_t)bytes, count}; /* sendmsg does not write to it */
    struct msghdr message = {0};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (passed >= 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &passed, sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)count;
}

/* Takes the descriptors out of a message: the first into *passed, the rest closed. Returns how many there were. */
static size_t descriptors_take(struct msghdr *message, int *passed)
{
    size_t found = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < count; index++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + index * sizeof(int), sizeof(int));
            if (found++ == 0) {
                *passed = fd;
            } else {
                (void)close(fd);
            }
        }
    }
    return found;
}

bool socket_receive_packet(int fd, void *bytes, size_t count, int *passed)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(PASSED_MAX * sizeof(int))];
    } control;
    struct iovec part = {bytes, count};
    struct msghdr message = {0};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof(control.bytes);
    ssize_t got;
    do {
        got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    *passed = -1;
    if (got < 0) {
        return false;
    }
    size_t found = descriptors_take(&message, passed);
    if (got == 0) {
        errno = ECONNRESET;
    } else if (found == 0 && (message.msg_flags & MSG_CTRUNC) != 0) {
        errno = EMFILE; /* the kernel found no number for it */
    } else if ((size_t)got != count || found > 1 || (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0) {
        errno = EBADMSG;
    } else {
        return true;
    }
    int number = errno;
    socket_close(passed);
    errno = number;
    return false;
}

void socket_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}
