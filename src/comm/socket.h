/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.h - the few socket verbs that the rendezvous and the mesh need. Everything is non-blocking and
 * close-on-exec; who waits, polls.
 */
#ifndef TUTTI_COMM_SOCKET_H
#define TUTTI_COMM_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "comm/deadline.h"
#include "tutti/tutti.h"

#define SOCKET_NAME_BYTES 96 /* of an abstract name, with its terminating zero */

/* The address of the abstract Unix socket `name`: it exists as long as a process holds it and leaves nothing in
 * any file system. Network namespaces do not share these names. */
socklen_t socket_abstract(const char *name, struct sockaddr_un *address);

/* Listens at the abstract name. *fd = -1 with errno set on failure (EADDRINUSE: the name is taken). Type: SOCK_STREAM or
 * SOCK_SEQPACKET. */
int socket_listen_abstract(const char *name, int type);

/* Connects to the abstract name; -1 with errno (ECONNREFUSED: nobody listens, EAGAIN: the queue is full). */
int socket_connect_abstract(const char *name, int type);

/* Accepts one connection; -1 with errno (EAGAIN: none waits). */
int socket_accept(int listener);

/* The user at the other end of a Unix socket; (uid_t)-1 if unknown. */
uid_t socket_peer_user(int fd);

/* Waits until `fd` is ready for `events` (poll) or hung up. False once the deadline has expired or was cut. */
bool socket_wait(int fd, short events, struct deadline *deadline);

/* Sends one packet with a descriptor attached (passed: -1 for none). False with errno. */
bool socket_send_packet(int fd, const void *bytes, size_t count, int passed);

/* Receives one packet of exactly `count` bytes. *passed: the one descriptor that came with it, the caller's now, or -1.
 * False with errno: EAGAIN nothing there, ECONNRESET closed, EBADMSG another size or more descriptors, EMFILE no room for
 * the descriptor. */
bool socket_receive_packet(int fd, void *bytes, size_t count, int *passed);

/* Closes *fd if it is one, and makes it -1. */
void socket_close(int *fd);

#endif
