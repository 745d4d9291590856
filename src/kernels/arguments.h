/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arguments.h - what the host and the kernels agree on: the arena, and a launch's parameters.
 *
 * Read by C (src/device/gpu) and by every kernel compiler; fixed-width members only, explicit padding.
 *
 * A rank's arena in device memory, mapped by all ranks at creation, holds per lane
 *
 *     head     81920 bytes: struct arena_head, then struct arena_flags
 *     half 0   half_bytes, every word SENTINEL while unused
 *     half 1   half_bytes, likewise
 *
 * and call e of the lane (its epoch) uses half e & 1 of every rank. How a half is cut is the protocol's
 * matter (one file each); that every word of it is SENTINEL again when the call has completed is the rule
 * of all of them. docs/protocols-gpu.md has the proof that two halves suffice.
 */
#ifndef TUTTI_KERNELS_ARGUMENTS_H
#define TUTTI_KERNELS_ARGUMENTS_H

#include <stdint.h>

#define KERNEL_WORLD_MAX 8
#define ARENA_HEAD_BYTES 81920
#define ARENA_FLAGS_AT 4096
#define SENTINEL 0xffffffffu

/* Threads of a block, at most; of the direct protocols, which need more registers, half as many. So any block takes half a
 * multiprocessor at most (device/gpu/group.c counts on it). */
#define KERNEL_THREADS_MAX 512
#define KERNEL_LARGE_THREADS_MAX 256

/* Every block of a call adds EPOCH_UNITS / blocks to a counter, so that it gains EPOCH_UNITS per call whatever
 * the grid: a grid's size is a power of two up to this number. 64 bits last for 10^16 calls. */
#define EPOCH_UNITS 1024u

/* Direct-capable calls of one lane as they went, replays included; written by block 0 of the kernel, read by the host any time. */
struct direct_tally {
    uint64_t direct_calls, direct_bytes, staged_calls, staged_bytes;
};

struct arena_head {
    /* Advanced by this rank's own blocks: `begun` when a block runs (only where launches are programmatic, which they all are
     * in a communicator, or none), `ended` when it leaves. The call's epoch is ended / EPOCH_UNITS while its grid runs. */
    uint64_t begun, ended;
    /* What this rank is doing, for peers that lose patience: of call e at [e & 1]. */
    uint64_t signature[2];
    uint64_t call;
    /* Like `ended`, of calls with KERNEL_EAGER alone: the host counts those, and destruction waits for them. */
    uint64_t eager;
    /* Counted here; the host has a copy. */
    struct direct_tally tally;
    /* Blocks of the direct protocol that may be using buffers of peers, or have them use this rank's: how many began, how many are
     * through. The host waits until both are the same before it unmaps (device/gpu/table.c). */
    uint64_t entered, left;
    /* Nonzero: the communicator has failed, leave at once. Set by a peer, by this rank or by the host. */
    uint32_t abort;
};

/* What blocks of the direct protocol tell the same block of their peers (vote.h). [block][rank], written by that rank. A word
 * holds the number of the call that it was set for, plus one: no other value is ever waited for, and nothing is cleared. */
#define KERNEL_DIRECT_BLOCKS_MAX 128
#define BALLOT_WORDS 8
#define BALLOT_PART_BITS 16
struct arena_flags {
    /* Call's number + 1 above 16 bits of the ballot, struct direct_route's, from its lowest on: each word tells by itself that it has
     * come. 48 bits of a number last for years of calls without a pause. */
    uint64_t start[KERNEL_DIRECT_BLOCKS_MAX][KERNEL_WORLD_MAX][BALLOT_WORDS];
    uint64_t done[KERNEL_DIRECT_BLOCKS_MAX][KERNEL_WORLD_MAX];
};

/* Into how many areas a half is cut by the reductions of the direct protocol, each with one slot a rank (kernels/ring.h). With the default
 * halves a slot then holds two vectors for each thread of a full grid, or more. */
#define RING_AREAS(world) ((world) == 2 ? 16u : (world) <= 4 ? 8u : 4u)
#define RING_VECS 2 /* of which it gets these: with one each, or with a few that have three, the wire idles more */

/* How this rank reaches all ranks' buffers of one call in symmetric memory. */
struct direct_route {
    /* Where the call's src and dst lie: which allocation of the communicator, numbered from 1 on, the same on all ranks and never
     * again (upper 24 bits), and how far behind its beginning, in units of 16 bytes. Ranks whose ballots are equal mean the same
     * parts. 0: not in memory that all ranks have mapped. Below 1 << 40: BALLOT_*. */
    uint64_t ballot[2];
    uint64_t src[KERNEL_WORLD_MAX], dst[KERNEL_WORLD_MAX];
};
enum {
    BALLOT_COMMITTED = 1, /* in ballot[1]: ballot[0] is a commit of struct direct_entry */
    BALLOT_PRIVATE = 2, /* peers do not touch this buffer (all_gather's src, reduce_scatter's dst): it lies anywhere */
};

/* One slot of the table of captured calls, in this rank's own device memory. All zero: poisoned, nobody's. The host writes ticket and
 * addresses first, `commit` last; it clears `commit` first, and writes the rest again only once no kernel of this rank can still be
 * reading it. */
struct direct_entry {
    /* 0: not committed; else what the ranks agreed on: which commit, and which call of it (nonzero, upper bit clear, never the same
     * again). */
    uint64_t commit;
    uint64_t ticket;                                       /* whose slot it is; tickets are never reused */
    uint64_t src[KERNEL_WORLD_MAX], dst[KERNEL_WORLD_MAX]; /* all ranks' buffers, as this rank's device reaches them */
};

/* The first failure that a kernel of this rank met, in host memory that the device can write. */
struct failure_note {
    uint32_t state; /* 0; 1 while it is written; 2 once complete */
    uint32_t kind;  /* FAILURE_* */
    uint32_t peer;  /* who was waited for */
    uint32_t lane;
    uint64_t call, signature;
    uint64_t peer_call, peer_signature;
    uint64_t waited_ns;
    /* Written by the host, for kernels that wait. */
    uint64_t given_up; /* bit r: rank r has left for good; all ones: the communicator has failed */
    uint64_t extra_ns; /* how much longer than timeout_ns a wait may last (tutti_comm_extend_deadline) */
    /* Nonzero: a call of this rank has failed and poisoned its output, for whatever reason. The reason may be a peer's to tell,
     * and come a little later than the end of the call. */
    uint32_t poisoned, reserved;
};
enum { FAILURE_TIMEOUT = 1, FAILURE_MISMATCH = 2 };

enum {
    KERNEL_PROGRAMMATIC = 1, /* launched programmatically: wait for what comes before, let in what comes after */
    KERNEL_EAGER = 2,        /* not part of a graph */
    KERNEL_EARLY = 4,        /* programmatic: let it in as soon as this block runs; see turn.h */
};

/* What every call needs comes first: parameters are fetched a cache line at a time, on the way to the first store. */
struct kernel_arguments {
    uint64_t own; /* lanes[rank] */
    uint64_t src, dst;
    uint64_t units; /* elements (reductions) or bytes (copies) of the result or of each block */
    uint64_t half_bytes;
    uint32_t rank;
    uint32_t tile_shift; /* a block handles 1 << tile_shift 16-byte vectors at a time */
    uint32_t op;         /* tutti_op */
    uint32_t flags;
    uint32_t share; /* EPOCH_UNITS / blocks: what a block adds to a counter */
    uint32_t world;
    uint64_t lanes[KERNEL_WORLD_MAX]; /* this lane in every rank's arena, as mapped here */
    uint32_t kind;                    /* tutti_collective */
    uint32_t root;
    uint32_t lane;
    uint32_t rounds; /* direct: of round_units, the last one shorter; all_gather: an odd number */
    uint64_t signature;
    uint64_t timeout_ns;
    uint64_t note; /* struct failure_note, as the device sees it */
    /* Distance in bytes of the blocks of src (all_to_all, reduce_scatter) and of dst (all_gather, all_to_all). */
    uint64_t src_stride, dst_stride;
    uint64_t row_bytes, row_stride; /* all_gather_rows: dst's row is row_stride long; 0: dense blocks */
    uint64_t row_first;             /* byte of the dense source rows at which this launch begins */
    uint64_t round_units;           /* direct: what the staging holds at a time */
    uint64_t entry;                 /* struct direct_entry of this call's slot; 0: it has none */
    uint64_t ticket;                /* that the entry must have to be this call's */
    uint64_t tally;                 /* struct direct_tally in host memory, as the device sees it; 0: none */
    struct direct_route route;      /* asked where the entry is not this call's, or not committed */
};

/* What padding.cu is launched with; never more than the above. */
#define PADDING_MATRICES_MAX 8
struct padding_matrix {
    uint64_t address, row_bytes, stride_bytes; /* stride_bytes >= row_bytes, or there is one row */
};
struct padding_arguments {
    uint64_t word; /* uint32_t in device memory: how many rows are real */
    uint64_t rows;
    uint32_t count, reserved;
    struct padding_matrix matrices[PADDING_MATRICES_MAX];
};

#endif
