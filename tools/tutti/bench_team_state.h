/* SPDX-License-Identifier: Apache-2.0 */
/* bench_team_state.h - what the two ways to start a team share. */
#ifndef TOOLS_BENCH_TEAM_STATE_H
#define TOOLS_BENCH_TEAM_STATE_H

#include "bench_team.h"

/* A team without ranks: bench_team_stop may be called from here on. */
void bench_team_clear(struct bench_team *team, const char *name, int ranks);

/* Reads the hello of every rank from team->fds. 0, or -1 with team->sentence. */
int bench_team_greet(struct bench_team *team);

/* Adds what the launcher wrote last, if it wrote anything, to team->sentence. */
void bench_team_add_log(struct bench_team *team);

#endif
