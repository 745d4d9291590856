/* SPDX-License-Identifier: Apache-2.0 */
/* bench_options.h - the command line of `tutti bench`. */
#ifndef TOOLS_BENCH_OPTIONS_H
#define TOOLS_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tutti/tutti.h"

#define BENCH_SIZES_MAX 256
#define BENCH_DTYPES 3

enum bench_peer {
    BENCH_PEER_OPENMPI,
    BENCH_PEER_MPICH,
    BENCH_PEER_NCCL,
    BENCH_PEER_NCCL_SYMMETRIC,
    BENCH_PEER_STAGED,
    BENCH_PEER_SYMMETRIC,
    BENCH_PEERS
};

struct bench_options {
    const char *backend;
    tutti_collective ops[TUTTI_COLLECTIVE_COUNT]; /* in the order given, each once */
    size_t op_count;
    tutti_dtype dtypes[BENCH_DTYPES];
    size_t dtype_count;
    int ranks;
    uint64_t sizes[BENCH_SIZES_MAX]; /* bytes */
    size_t size_count;
    bool graph;
    bool threads;
    enum bench_peer peers[BENCH_PEERS];
    size_t peer_count;
    uint32_t calls;      /* of a run on GPUs; 0: by size */
    uint64_t iterations; /* timed calls per round; 0: by time */
    double seconds;      /* per size and competitor, all rounds together */
    unsigned rounds;
    const char *json, *csv; /* NULL: not wanted */
};

/* 0; 1 after --help was printed; -1 after one line on stderr. Strings point into argv. */
int bench_options_parse(struct bench_options *options, int argc, char **argv);

/* The backend is one for GPUs. */
bool bench_on_gpu(const struct bench_options *options);

const char *bench_op_name(tutti_collective op);
const char *bench_dtype_name(tutti_dtype dtype);
const char *bench_peer_name(enum bench_peer peer);

/* Adds the sizes of "1K:16M", "1K:16M:x4", "1K,3K,1M" or a mixture to sizes[*count]. 0, or -1 with a sentence. */
int bench_sizes_parse(const char *text, uint64_t *sizes, size_t *count, char *sentence, size_t sentence_bytes);

#endif
