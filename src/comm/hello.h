/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hello.h - what a rank says of itself before there is a communicator, and how the ranks' words are compared.
 *
 * Every rank gets every rank's hello and draws its conclusions by the same rules, so that all ranks fail with the same
 * sentence, or none does. A rank that could not even prepare says so in its hello instead of leaving the
 * others to wait for it.
 */
#ifndef TUTTI_COMM_HELLO_H
#define TUTTI_COMM_HELLO_H

#include <stdint.h>

#include "base/build.h"
#include "comm/mesh.h"
#include "tutti/tutti.h"

#define HELLO_MAGIC 0x6f6c6c6568697474u /* "ttihello" */
#define HELLO_BYTES 2048u               /* never changes, so that different builds understand that they differ */

struct hello {
    /* In the same place in every version of the library. */
    uint64_t magic;
    char build[BUILD_TEXT_BYTES];

    int32_t rank, world;
    int32_t status; /* not TUTTI_OK: this rank cannot take part; `sentence` says why */
    char sentence[MESH_SENTENCE_BYTES];

    char machine[48]; /* changes with every boot */
    uint64_t network_namespace;
    uint32_t user;
    char backend[16];
    char device_name[64];
    uint64_t device_identity;
    int32_t driver_version, reserved;
    int32_t lanes;
    uint32_t flags; /* TUTTI_COMM_* */
    uint32_t timeout_ms;
    uint64_t message_bytes_max;
    char settings[512]; /* "NAME=value" lines of those that must agree */

    struct mesh_address address;
};
_Static_assert(sizeof(struct hello) <= HELLO_BYTES, "a hello fits its frame");

/* A hello as it goes over wires. */
union hello_frame {
    struct hello hello;
    unsigned char bytes[HELLO_BYTES];
};

/* Fills in what concerns build, machine and settings; the rest is zero. */
void hello_fill(struct hello *hello);

/* Makes a hello that came from elsewhere safe to read: every text ends. */
void hello_terminate(struct hello *hello);

/* TUTTI_OK if the ranks can form a communicator; else the first trouble by fixed rules, in one sentence that is the
 * same on all ranks. */
tutti_status hello_compare(const union hello_frame *all, int world);

#endif
