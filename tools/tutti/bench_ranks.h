/* SPDX-License-Identifier: Apache-2.0 */
/* bench_ranks.h - our own ranks of the bench: one communicator behind the loop of bench_measure.h. */
#ifndef TOOLS_BENCH_RANKS_H
#define TOOLS_BENCH_RANKS_H

/* Serves as rank `rank` of `ranks` on the socket `fd` until the bench hangs up. Returns 0, or -1 if the library
 * failed; the bench has been told. */
int bench_ranks_serve(int fd, const char *backend, const char *rendezvous, int rank, int ranks);

#endif
