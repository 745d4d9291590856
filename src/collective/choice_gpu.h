/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choice_gpu.h - which kernel a collective takes on the GPU backends, in how many launches, and with what grid.
 *
 * Pure functions of the operation and of terms that are equal on all ranks: never of a pointer, an alignment, a memory
 * class or anything else that one rank sees differently. docs/protocols-gpu.md describes the protocols.
 */
#ifndef TUTTI_COLLECTIVE_CHOICE_GPU_H
#define TUTTI_COLLECTIVE_CHOICE_GPU_H

#include "device/device.h"

enum gpu_protocol {
    GPU_LOCAL,          /* one rank: a copy, or a reduction of one */
    GPU_WORDS,          /* P1: barrier and the smallest copies */
    GPU_ONE_SHOT,       /* P2 */
    GPU_TWO_SHOT,       /* P3 */
    GPU_REDUCE_SCATTER, /* P3's first hop */
    GPU_COPIES,         /* P2c */
    /* P5, and in rounds in the same launch what the others would do: */
    GPU_DIRECT,         /* P3 */
    GPU_DIRECT_SCATTER, /* P3's first hop */
    GPU_DIRECT_GATHER,  /* P2c */
    GPU_PROTOCOL_COUNT
};

/* What all ranks agree on besides the operation. */
struct gpu_terms {
    int world;
    size_t half_bytes;
    size_t one_shot_bytes_max; /* all_reduce up to here takes one-shot */
    /* all_reduce and reduce_scatter, and all_gather, take the direct protocols from so many bytes on, of the whole message; 0: none
     * of them does. */
    size_t direct_reduce_bytes_min, direct_gather_bytes_min;
    unsigned resident_blocks; /* of any kernel, at the same time: so many a lane can count on, on every rank */
};

struct gpu_choice {
    enum gpu_protocol protocol;
    /* A launch handles this many units (elements of a reduction, bytes of a copy) of the result, or of each block where there
     * is one block a peer. At least 1. */
    size_t launch_units;
    uint64_t launches; /* 0: nothing to do */
    uint32_t rounds;   /* direct: one launch takes this many times launch_units; GPU_DIRECT_GATHER: odd */
    const char *reason;
};

struct gpu_geometry {
    unsigned blocks, threads, tile_shift;
};

/* One of the direct protocols: their calls are one launch of `rounds` times launch_units. */
bool gpu_choice_is_direct(enum gpu_protocol protocol);

/* A block of its kernel has no more threads. */
unsigned gpu_choice_threads_max(enum gpu_protocol protocol);

void gpu_choice_make(struct gpu_choice *choice, const struct operation *operation, const struct gpu_terms *terms);

/* The grid for one launch of `bytes` (of the result, or of each block). blocks_max: the caller's wish, the same on all
 * ranks; 0: none. */
struct gpu_geometry gpu_choice_geometry(enum gpu_protocol protocol, const struct gpu_terms *terms, size_t bytes,
                                        unsigned blocks_max);

/* The inbox of one call, from the setting TUTTI_GPU_HALF_BYTES, the world and message_bytes_max. */
size_t gpu_choice_half_bytes(int world, size_t message_bytes_max);

/* The one-shot threshold: the setting TUTTI_GPU_ONE_SHOT_BYTES_MAX, else the measured table. */
size_t gpu_choice_one_shot_bytes_max(int world);

/* From where on a kind of collective takes the direct protocol: the setting TUTTI_GPU_DIRECT_BYTES_MIN, else what was measured. */
size_t gpu_choice_direct_bytes_min(tutti_collective kind);

/* For tutti_plan and tutti_stats: "one-shot", .. */
const char *gpu_choice_protocol_name(enum gpu_protocol protocol);

#endif
