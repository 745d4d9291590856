/* SPDX-License-Identifier: Apache-2.0 */
/* ranks.h - starts the ranks of a test, as processes or as threads, and waits for them. */
#ifndef TESTS_HARNESS_RANKS_H
#define TESTS_HARNESS_RANKS_H

#include <stdint.h>

#include "tutti/tutti.h"

enum ranks_mode { RANKS_PROCESSES, RANKS_THREADS };

/* One rank's body. `rendezvous` is for tutti_comm_options.rendezvous, unique to this ranks_run. */
typedef void (*rank_body)(int rank, int world, const char *rendezvous, void *user);

/* Runs body on `world` ranks and waits for all. A rank that fails a CHECK, dies or outlasts
 * `seconds` fails the test program (the other ranks are killed). In RANKS_THREADS a failed CHECK ends the whole
 * program. Processes that end through _exit(0) inside the body count as passed. */
void ranks_run(enum ranks_mode mode, int world, int seconds, rank_body body, void *user);

/* So many of `world` ranks can be run here: fewer where each wants a real device of its own. */
int ranks_most(int world);

/* tutti_comm_create with everything else default; fails the test if it fails. */
tutti_comm *ranks_comm(int rank, int world, const char *rendezvous);

/* Small fast generator for test data; seed with ranks_seed(). */
uint64_t ranks_random(uint64_t *state);

/* The seed of a randomised test: TUTTI_TEST_SEED, else from the clock. Prints it. */
uint64_t ranks_seed(void);

#endif
