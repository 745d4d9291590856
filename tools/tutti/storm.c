/* SPDX-License-Identifier: Apache-2.0 */
#include "storm.h"

#include <inttypes.h>
#include <stdio.h>

#include "model_weights.h"
#include "run_ranks.h"
#include "run_report.h"
#include "run_verify.h"

uint64_t storm_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return weights_mix(*state);
}

bool storm_tokens(const struct run *run, uint64_t ranks, char *text, size_t text_bytes)
{
    struct verdict verdict = verify_against_reference(run, &run->storm_trace, BOARD_STORM, ranks);
    if (verdict.held) {
        (void)snprintf(text, text_bytes, "same tokens (%zu of %zu)", verdict.equal, verdict.total);
    } else {
        (void)snprintf(text, text_bytes, "WRONG TOKENS (only %zu of %zu the same; %s)", verdict.equal, verdict.total,
                       verdict.first);
    }
    return verdict.held;
}

bool storm_serve(struct run *run, struct serve_faults *faults, struct storm_outcome *outcome, char *tokens,
                 size_t tokens_bytes)
{
    int world = run->options.ranks;
    board_clear(&run->board, BOARD_STORM);
    const struct phase phase = {.label = outcome->name,
                                .world = world,
                                .body = run_rank_storm,
                                .user = faults,
                                .slot = BOARD_STORM,
                                .slot_last = BOARD_STORM,
                                .outputs = run->storm_trace.output_total};
    if (!phase_run(run, &phase, outcome->sentence, sizeof(outcome->sentence))) {
        outcome->ok = false;
        return false;
    }
    uint64_t all = world == 64 ? ~(uint64_t)0 : ((uint64_t)1 << world) - 1;
    outcome->ok = storm_tokens(run, all, tokens, tokens_bytes);
    return true;
}

bool storm_run(struct run *run)
{
    static void (*const storms[])(struct run *, struct storm_outcome *) = {
        storm_delayed_capture, storm_random_replay, storm_invalidated_capture,
        storm_refused_capture, storm_garbage,       storm_oversize,
        storm_interleaved,     storm_recycled,      storm_late_commit,
        storm_remapped,        storm_unshareable,   storm_lost_rank, /* after one that serves */
    };
    bool good = true;
    printf("  A storm over %d of the requests (--seed %" PRIu64 " repeats it)\n\n", run->storm_trace.count,
           run->options.seed);
    for (size_t i = 0; i < sizeof(storms) / sizeof(storms[0]); i++) {
        struct storm_outcome *outcome = &run->storms[run->storm_count++];
        storms[i](run, outcome);
        report_storm(outcome);
        good = good && outcome->ok;
    }
    printf("\n");
    return good;
}
