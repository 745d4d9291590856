/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_wire.h - what the bench and its ranks say to each other.
 *
 * Every rank, ours or a peer library's, holds one stream socket to the bench. It sends a hello, then sleeps in
 * recv() until an order comes, does what it says, and answers with a reply and its time stamps. So a team that is
 * not being measured uses no processor time, whatever its library does inside a call. Both ends are built
 * from one tree and run on one machine: plain structs, guarded by a magic number.
 */
#ifndef TOOLS_BENCH_WIRE_H
#define TOOLS_BENCH_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define BENCH_MAGIC 0x74740001u /* change it with any struct below */

/* How an order is measured; bench_measure.h defines the stamps of each. */
enum bench_loop {
    BENCH_LOOP_TIGHT = 0, /* calls back to back */
    BENCH_LOOP_GRAPH = 1, /* the same calls, captured once and replayed */
    BENCH_LOOP_ALONE = 2, /* one call at a time, after a barrier */
    BENCH_LOOP_COPY = 3,  /* no collective: memcpy by every rank at once, for the bound */
    BENCH_LOOP_SPAN = 4   /* GPUs: calls back to back, timed as one */
};

struct bench_hello {
    uint32_t magic;
    int32_t rank, ranks;
    int32_t failed;        /* not 0: the rank could not start, see text */
    char text[400];        /* the library's name and version, or why it failed */
    char device_text[200]; /* what it runs on; "" if it does not say */
};

struct bench_order {
    uint32_t magic;
    uint32_t loop;       /* enum bench_loop */
    uint32_t collective; /* tutti_collective */
    uint32_t dtype;      /* tutti_dtype */
    uint64_t count;      /* elements: of the message (all_reduce, broadcast), else of one rank's share */
    uint64_t first_call; /* number of the first call; calls are numbered on, so that no input comes twice */
    uint32_t slots;      /* how many pairs of buffers a batch goes through, one call each */
    uint32_t batches;
    uint32_t copiers;     /* COPY: how many ranks copy, the others only wait */
    uint32_t copy_passes; /* COPY: how often a batch goes through the slots */
};

struct bench_reply {
    uint32_t magic;
    int32_t failed;   /* not 0: see text; no stamps follow */
    uint64_t checked; /* elements compared with what they must be */
    uint64_t wrong;   /* of them, how many were not */
    uint64_t stamps;  /* how many uint64_t follow: nanoseconds of CLOCK_MONOTONIC */
    uint64_t sleeps;  /* waits of this order that gave up spinning; 0 if the library does not say */
    char text[400];
};

/* 0, or -1 with errno: EPIPE when the other end is gone. */
int bench_wire_send(int fd, const void *data, size_t bytes);
int bench_wire_receive(int fd, void *data, size_t bytes);

#endif
