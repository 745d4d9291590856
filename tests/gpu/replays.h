/* SPDX-License-Identifier: Apache-2.0 */
/* replays.h - what replays.c and its kernels agree on. */
#ifndef TESTS_GPU_REPLAYS_H
#define TESTS_GPU_REPLAYS_H

#include <stdint.h>

enum { REPLAY_ALL_REDUCE, REPLAY_REDUCE_SCATTER, REPLAY_ALL_GATHER, REPLAY_BROADCAST, REPLAY_ALL_TO_ALL, REPLAY_KINDS };

/* One collective of a graph, as the kernels see it: addresses are the device's. */
struct replay_job {
    uint64_t src, dst;
    uint64_t replay;             /* uint32_t: which replay of all this is; counted on the device */
    uint64_t report;             /* struct replay_report */
    uint32_t kind, dtype, width; /* width of an element; 1: bytes of a copy */
    uint32_t count;              /* elements of the message or of a rank's share */
    uint32_t src_count, dst_count;
    uint32_t call, rank, world, root;
};

/* What a rank's checks found: how many elements were compared, how many were wrong, and the first of those. */
struct replay_report {
    uint64_t checked;
    uint32_t wrong;
    uint32_t replay, call, index, got, wanted;
};

#endif
