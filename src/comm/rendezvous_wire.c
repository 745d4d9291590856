/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/rendezvous_wire.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 256

struct wire_header wire_header_make(enum wire_type type, uint32_t bytes)
{
    struct wire_header header;
    memset(&header, 0, sizeof(header));
    header.magic = WIRE_MAGIC;
    header.type = (int32_t)type;
    header.bytes = bytes;
    return header;
}

static struct addrinfo *tcp_addresses(const struct rendezvous *rendezvous)
{
    struct addrinfo wanted;
    struct addrinfo *found = NULL;
    memset(&wanted, 0, sizeof(wanted));
    wanted.ai_family = AF_UNSPEC;
    wanted.ai_socktype = SOCK_STREAM;
    wanted.ai_flags = AI_NUMERICSERV;
    return getaddrinfo(rendezvous->host, rendezvous->port, &wanted, &found) == 0 ? found : NULL;
}

static int tcp_socket(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only costs time if refused */
    }
    return fd;
}

static int tcp_listen(const struct rendezvous *rendezvous)
{
    struct addrinfo *addresses = tcp_addresses(rendezvous);
    int number = 0;
    int fd = -1;
    for (const struct addrinfo *address = addresses; address != NULL; address = address->ai_next) {
        fd = tcp_socket(address);
        int on = 1;
        /* Connections of the last meeting may linger in TIME_WAIT; they must not keep the next one from its port. */
        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
            bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
            break;
        }
        number = errno;
        socket_close(&fd);
        if (number == EADDRINUSE) {
            break; /* at the host's next address the callers would not look first */
        }
    }
    if (addresses != NULL) {
        freeaddrinfo(addresses);
    }
    errno = number;
    return fd;
}

static bool tcp_connect_to(int fd, const struct addrinfo *address, struct deadline *deadline)
{
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0) {
        return true;
    }
    if (errno != EINPROGRESS && errno != EINTR) {
        return false;
    }
    if (!socket_wait(fd, POLLOUT, deadline)) {
        errno = ETIMEDOUT;
        return false;
    }
    int number = 0;
    socklen_t bytes = sizeof(number);
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &bytes);
    errno = number;
    return number == 0;
}

/* A connect to a free port of the own host may meet itself: TCP's simultaneous open. It is no connection to anybody, and it
 * holds the port that rank 0 wants. */
static bool tcp_met_itself(int fd)
{
    struct sockaddr_storage here;
    struct sockaddr_storage there;
    socklen_t here_bytes = sizeof(here);
    socklen_t there_bytes = sizeof(there);
    memset(&here, 0, sizeof(here));
    memset(&there, 0, sizeof(there));
    return getsockname(fd, (struct sockaddr *)&here, &here_bytes) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &there_bytes) == 0 && here_bytes == there_bytes &&
           memcmp(&here, &there, here_bytes) == 0;
}

static int tcp_connect(const struct rendezvous *rendezvous, struct deadline *deadline)
{
    struct addrinfo *addresses = tcp_addresses(rendezvous);
    int number = 0;
    int fd = -1;
    for (const struct addrinfo *address = addresses; address != NULL && fd < 0; address = address->ai_next) {
        fd = tcp_socket(address);
        if (fd >= 0 && !tcp_connect_to(fd, address, deadline)) {
            number = errno;
            socket_close(&fd);
        } else if (fd >= 0 && tcp_met_itself(fd)) {
            number = ECONNREFUSED;
            socket_close(&fd);
        }
    }
    if (addresses != NULL) {
        freeaddrinfo(addresses);
    }
    errno = number;
    return fd;
}

int wire_listen(const struct rendezvous *rendezvous)
{
    return rendezvous->kind == RENDEZVOUS_TCP ? tcp_listen(rendezvous)
                                              : socket_listen_abstract(rendezvous->name, SOCK_STREAM);
}

int wire_connect(const struct rendezvous *rendezvous, struct deadline *deadline)
{
    return rendezvous->kind == RENDEZVOUS_TCP ? tcp_connect(rendezvous, deadline)
                                              : socket_connect_abstract(rendezvous->name, SOCK_STREAM);
}

/* Both directions. */
static bool wire_move(int fd, char *bytes, size_t count, bool out, struct deadline *deadline)
{
    for (size_t done = 0; done < count;) {
        ssize_t moved = out ? send(fd, bytes + done, count - done, MSG_NOSIGNAL | MSG_DONTWAIT)
                            : recv(fd, bytes + done, count - done, MSG_DONTWAIT);
        if (moved > 0) {
            done += (size_t)moved;
        } else if (moved == 0) {
            errno = ECONNRESET;
            return false;
        } else if (errno == EAGAIN) {
            if (!socket_wait(fd, out ? POLLOUT : POLLIN, deadline)) {
                errno = ETIMEDOUT;
                return false;
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

bool wire_send(int fd, const void *bytes, size_t count, struct deadline *deadline)
{
    return wire_move(fd, (char *)(uintptr_t)bytes, count, true, deadline); /* only read */
}

bool wire_receive(int fd, void *bytes, size_t count, struct deadline *deadline)
{
    return wire_move(fd, bytes, count, false, deadline);
}
