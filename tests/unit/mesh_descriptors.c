/* SPDX-License-Identifier: Apache-2.0 */
/* Passing descriptors over a finished connection: the right one arrives, and everything else that a peer may do instead is an
 * error that leaves no descriptor behind. */
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/mesh.h"
#include "comm/socket.h"
#include "harness/check.h"

static void connection(int sockets[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) == 0, "socketpair");
}

static void disconnect(int sockets[2])
{
    socket_close(&sockets[0]);
    socket_close(&sockets[1]);
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static void test_passes(void)
{
    int sockets[2];
    char text[8] = "";
    int fd = -1;
    struct deadline deadline = deadline_in(5000, NULL);
    int memory = memfd_create("passed", MFD_CLOEXEC);
    CHECK(memory >= 0 && write(memory, "inside", 6) == 6, "memfd");
    connection(sockets);
    CHECK_OK(mesh_pass(sockets[0], 1, 0, memory));
    CHECK_OK(mesh_take(sockets[1], 1, 0, &deadline, &fd));
    CHECK(fd >= 0 && fd != memory && pread(fd, text, 6, 0) == 6 && strcmp(text, "inside") == 0, "'%s'", text);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "it would survive exec");
    socket_close(&fd);
    socket_close(&memory);
    disconnect(sockets);
}

/* From a rank that is not the one at the other end, or to another. */
static void test_strangers(void)
{
    int sockets[2];
    int fd = -1;
    struct deadline deadline = deadline_in(5000, NULL);
    connection(sockets);
    CHECK_OK(mesh_pass(sockets[0], 2, 0, sockets[0]));
    CHECK_STATUS(TUTTI_ERR_SYSTEM, mesh_take(sockets[1], 1, 0, &deadline, &fd));
    CHECK_OK(mesh_pass(sockets[0], 1, 3, sockets[0]));
    CHECK_STATUS(TUTTI_ERR_SYSTEM, mesh_take(sockets[1], 1, 0, &deadline, &fd));
    CHECK_OK(mesh_pass(sockets[0], 1, 0, -1));
    CHECK_STATUS(TUTTI_ERR_SYSTEM, mesh_take(sockets[1], 1, 0, &deadline, &fd));
    CHECK(send(sockets[0], "noise", 5, 0) == 5, "send");
    CHECK_STATUS(TUTTI_ERR_SYSTEM, mesh_take(sockets[1], 1, 0, &deadline, &fd));
    CHECK(fd == -1, "an output was touched");
    disconnect(sockets);
}

static void test_endings(void)
{
    int sockets[2];
    int fd = -1;
    _Atomic uint32_t failed = 0;
    struct deadline deadline = deadline_in(30, &failed);
    connection(sockets);
    CHECK_STATUS(TUTTI_ERR_TIMEOUT, mesh_take(sockets[1], 1, 0, &deadline, &fd));
    deadline = deadline_in(5000, &failed);
    atomic_store(&failed, 1);
    CHECK_STATUS(TUTTI_ERR_ABORTED, mesh_take(sockets[1], 1, 0, &deadline, &fd));
    atomic_store(&failed, 0);
    socket_close(&sockets[0]);
    CHECK_STATUS(TUTTI_ERR_PEER_LOST, mesh_take(sockets[1], 1, 0, &deadline, &fd));
    CHECK_STATUS(TUTTI_ERR_PEER_LOST, mesh_pass(sockets[1], 0, 1, sockets[1]));
    disconnect(sockets);
}

int main(void)
{
    int before = open_descriptors();
    test_passes();
    test_strangers();
    test_endings();
    CHECK(open_descriptors() == before, "%d descriptors were left open", open_descriptors() - before);
    return 0;
}
