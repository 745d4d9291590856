/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_team.h - the ranks of one competitor, seen from the bench.
 *
 * A team is started once and serves all sizes; between its turns its ranks sleep in recv(), so that the
 * competitors do not disturb each other. Nothing is pinned to processors, ours or theirs.
 */
#ifndef TOOLS_BENCH_TEAM_H
#define TOOLS_BENCH_TEAM_H

#include <stdint.h>
#include <sys/types.h>

#include "bench_options.h"
#include "bench_ranks.h"
#include "bench_wire.h"

struct bench_team {
    const char *name; /* "tutti", "openmpi", "mpich" */
    int ranks;
    int fds[TUTTI_WORLD_MAX];    /* by rank; -1: not connected */
    pid_t pids[TUTTI_WORLD_MAX]; /* our ranks' processes, or the launcher's alone; 0: none */
    int log_fd;                  /* what the launcher and its ranks wrote, or -1 */
    char version[400];           /* the library's name and version */
    char device[200];
    char sentence[900]; /* after a failure */
};

/* The stamps that an order brought back. */
struct bench_stamps {
    uint64_t checked, wrong, sleeps; /* over all ranks */
    uint64_t per_rank;
    uint64_t *by_rank; /* rank r's at by_rank[r * per_rank]; reused by the next order, freed by bench_stamps_free */
    uint64_t capacity;
};

/* Starts ranks that are in this command, as processes or as threads of one process. name: static. 0, or -1 with team->sentence and
 * nothing left behind. */
int bench_team_start(struct bench_team *team, const char *name, const struct bench_options *options,
                     bench_serve *serve);

/* Starts a peer library's ranks through its mpirun. 0, or -1 with team->sentence, which says what to install. */
int bench_team_start_peer(struct bench_team *team, enum bench_peer peer, int ranks);

/* Lets all ranks carry out an order. 0, or -1 with team->sentence; the team can then only be stopped. */
int bench_team_order(struct bench_team *team, const struct bench_order *order, struct bench_stamps *stamps);

/* Hangs up, waits for the processes, and kills what does not go. Twice is fine. */
void bench_team_stop(struct bench_team *team);

void bench_stamps_free(struct bench_stamps *stamps);

#endif
