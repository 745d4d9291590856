/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rendezvous_wire.h - frames and connections of a rendezvous.
 *
 *     caller                      rank 0
 *     JOIN + hello        ->
 *                         <-      WELCOME                    at once: from now on rank 0 owes an answer
 *                         <-      ALL + world hellos         or REFUSED + a refusal
 *
 * Same bytes over Unix and TCP sockets, between processes of one machine: native byte order.
 */
#ifndef TUTTI_COMM_RENDEZVOUS_WIRE_H
#define TUTTI_COMM_RENDEZVOUS_WIRE_H

#include "comm/rendezvous.h"

#define WIRE_MAGIC 0x31766472697474u /* "ttirdv1" */

enum wire_type { WIRE_JOIN = 1, WIRE_WELCOME = 2, WIRE_ALL = 3, WIRE_REFUSED = 4 };

struct wire_header {
    uint64_t magic;
    int32_t type;
    int32_t rank, world;        /* JOIN: of the caller */
    uint32_t bytes;             /* that follow */
    uint8_t token[TOKEN_BYTES]; /* JOIN */
};

struct wire_join {
    struct wire_header header;
    union hello_frame hello;
};

struct wire_refusal {
    int32_t status;
    char sentence[MESH_SENTENCE_BYTES];
};

/* A header of this type, for `bytes` that follow. */
struct wire_header wire_header_make(enum wire_type type, uint32_t bytes);

/* Listens at the rendezvous; -1 with errno (EADDRINUSE), or with errno 0 if the host's name is unknown. */
int wire_listen(const struct rendezvous *rendezvous);

/* Connects to it; -1 with errno (ECONNREFUSED: nobody listens yet), 0 as above. */
int wire_connect(const struct rendezvous *rendezvous, struct deadline *deadline);

/* Sends or receives exactly `count` bytes. False with errno: ETIMEDOUT, ECONNRESET (closed), others. */
bool wire_send(int fd, const void *bytes, size_t count, struct deadline *deadline);
bool wire_receive(int fd, void *bytes, size_t count, struct deadline *deadline);

#endif
