/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rendezvous.h - how ranks that know nothing of each other meet, once per communicator, to learn every rank's hello.
 *
 * Rank 0 listens at a place that all ranks can name; the others call. When all have come, rank 0 first stops listening
 * and then answers everybody, so that whoever has got an answer can go on to the next meeting at the same
 * place. Nothing is written to any file system.
 *
 *   rendezvous.c               what the caller's text means        rendezvous_wire.[ch]  frames and connections
 *   rendezvous_environment.c   launchers' variables                rendezvous_serve.c    rank 0's part
 *                                                                  rendezvous_join.c     everybody else's
 */
#ifndef TUTTI_COMM_RENDEZVOUS_H
#define TUTTI_COMM_RENDEZVOUS_H

#include "comm/deadline.h"
#include "comm/hello.h"
#include "comm/socket.h"
#include "comm/token.h"
#include "tutti/tutti.h"

#define RENDEZVOUS_TEXT_BYTES 200

enum rendezvous_kind { RENDEZVOUS_NONE, RENDEZVOUS_ABSTRACT, RENDEZVOUS_TCP, RENDEZVOUS_CALLBACK };

struct rendezvous {
    enum rendezvous_kind kind;
    int rank, world;
    char text[RENDEZVOUS_TEXT_BYTES]; /* for sentences: "unix:/dir", "torchrun job ..." */
    char name[SOCKET_NAME_BYTES];     /* ABSTRACT */
    char host[128], port[8];          /* TCP */
    uint8_t token[TOKEN_BYTES];       /* TCP: everybody's; ABSTRACT: zero, the kernel vouches for the user */
    int (*allgather)(void *user, const void *mine, void *all, size_t bytes);
    void *allgather_user;
};

/* Finds rank, world and place from options and environment. ARGUMENT, UNSUPPORTED (several machines). */
tutti_status rendezvous_resolve(const tutti_comm_options *options, struct rendezvous *rendezvous);

/* [collective] all[world] = every rank's hello, terminated. TIMEOUT names the ranks that did not come; PEER_LOST, MISMATCH
 * (two ranks of one number, another world), SYSTEM; ARGUMENT if the callback failed. */
tutti_status rendezvous_meet(const struct rendezvous *rendezvous, const union hello_frame *mine, union hello_frame *all,
                             struct deadline *deadline);

/* Fills in kind, text, name, host, port and token from "unix:/dir" or "tcp:host:port". `job` identifies the launcher's job,
 * "" if there is none. ARGUMENT. */
tutti_status rendezvous_place(const char *text, const char *job, struct rendezvous *rendezvous);

/* Fills in everything from the environment. ARGUMENT names the variables; UNSUPPORTED: several machines. */
tutti_status rendezvous_environment(struct rendezvous *rendezvous);

/* The launcher's job identity, or "" if no launcher started this process. */
void rendezvous_job(char *job, size_t bytes);

/* Rank 0's part, and the others'. */
tutti_status rendezvous_serve(const struct rendezvous *rendezvous, const union hello_frame *mine,
                              union hello_frame *all, struct deadline *deadline);
tutti_status rendezvous_join(const struct rendezvous *rendezvous, const union hello_frame *mine, union hello_frame *all,
                             struct deadline *deadline);

#endif
