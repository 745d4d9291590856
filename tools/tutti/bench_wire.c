/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_wire.h"

#include <errno.h>
#include <sys/socket.h>

int bench_wire_send(int fd, const void *data, size_t bytes)
{
    const char *from = data;
    while (bytes > 0) {
        ssize_t sent = send(fd, from, bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return -1;
        }
        from += sent;
        bytes -= (size_t)sent;
    }
    return 0;
}

int bench_wire_receive(int fd, void *data, size_t bytes)
{
    char *to = data;
    while (bytes > 0) {
        ssize_t got = recv(fd, to, bytes, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            errno = got == 0 ? EPIPE : errno;
            return -1;
        }
        to += got;
        bytes -= (size_t)got;
    }
    return 0;
}
