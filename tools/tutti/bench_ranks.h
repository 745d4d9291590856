/* SPDX-License-Identifier: Apache-2.0 */
/* bench_ranks.h - the ranks that the command itself starts: each sits in a process of its own, or in a thread, behind a socket. */
#ifndef TOOLS_BENCH_RANKS_H
#define TOOLS_BENCH_RANKS_H

struct bench_seat {
    int fd; /* to the bench */
    int rank, ranks;
    const char *backend, *rendezvous;
    void *meeting; /* BENCH_MEETING_BYTES, zero at first, that all ranks of the team share */
};
#define BENCH_MEETING_BYTES 4096u

/* Each serves until the bench hangs up. Returns 0, or -1 if the library failed; the bench has been told. */
typedef int bench_serve(const struct bench_seat *seat);

bench_serve bench_ranks_serve;          /* ours on the host: bench_measure.h */
bench_serve bench_gpu_ranks_serve;      /* ours on a GPU: bench_gpu_measure.h */
bench_serve bench_gpu_staged_serve;     /* the same, with graphs that are not committed */
bench_serve bench_gpu_symmetric_serve;  /* the same, in memory of tutti_alloc */
bench_serve bench_nccl_serve;           /* NCCL on a GPU */
bench_serve bench_nccl_symmetric_serve; /* the same, with buffers that it has registered as symmetric windows */

#endif
