/* SPDX-License-Identifier: Apache-2.0 */
#include "run_verify.h"

#include <math.h>
#include <stdio.h>

/* Each of the 2 * layers all-reduces rounds partial sums of spread about 1 to bf16, half a unit of 2^-8 at most; the
 * errors add like independent ones, pass the layers above, and the head spreads them over logits of spread about 2. Eight
 * spreads cover every logit of every token; an element that is missing, doubled or stale stands out by far more. A mixture's
 * router puts the errors of what it reads into its weights, whose logits have a spread of 2: that much again. */
float verify_bound(const struct model_shape *shape)
{
    float passed = shape->experts > 0 ? 2.0f : 1.0f;
    return passed * 8.0f * 2.0f * ldexpf(1.0f, -8) * sqrtf(2.0f * (float)shape->layers);
}

/* Whether one rank's output is the reference's. *excused is set where real numerics make up for it. */
static bool one_token(const struct run *run, size_t output, enum board_slot slot, int rank, struct verdict *verdict,
                      bool *excused)
{
    const struct board_token *expected = board_tokens(&run->board, BOARD_REFERENCE, 0) + output;
    const struct board_token *got = board_tokens(&run->board, slot, rank) + output;
    /* A margin that is no number stands for logits that are none. */
    bool sound = got->written == 1 && expected->written == 1 && got->margin >= 0.0f && expected->margin >= 0.0f;
    bool same = sound && got->token == expected->token;
    if (run->options.numerics == NUMERICS_EXACT) {
        same = same && got->hash == expected->hash;
    } else {
        float bound = verify_bound(&run->shape);
        verdict->deviation = got->deviation > verdict->deviation ? got->deviation : verdict->deviation;
        if (!same && sound && expected->margin <= bound) {
            *excused = true;
            return true;
        }
    }
    if (!same && verdict->first[0] == '\0') {
        (void)snprintf(verdict->first, sizeof(verdict->first),
                       "output %zu on rank %d is token %d (logits %016llx), the one-rank run has %d (%016llx)", output,
                       rank, got->written == 1 ? (int)got->token : -1, (unsigned long long)got->hash,
                       (int)expected->token, (unsigned long long)expected->hash);
    }
    return same;
}

struct verdict verify_against_reference(const struct run *run, const struct trace *trace, enum board_slot slot,
                                        uint64_t ranks)
{
    struct verdict verdict = {0};
    for (int request = 0; request < trace->count; request++) {
        const struct trace_request *entry = &trace->requests[request];
        for (size_t i = 0; i < (size_t)entry->output_tokens; i++) {
            bool good = true;
            bool excused = false;
            for (int rank = 0; rank < run->board.ranks; rank++) {
                if ((ranks >> rank & 1u) != 0) {
                    good = one_token(run, entry->first_output + i, slot, rank, &verdict, &excused) && good;
                }
            }
            verdict.total++;
            verdict.equal += good;
            verdict.excused += good && excused;
        }
    }
    verdict.held = verdict.total > 0 && verdict.equal == verdict.total && ranks != 0;
    if (run->options.numerics == NUMERICS_REAL && !(verdict.deviation <= verify_bound(&run->shape))) {
        verdict.held = false;
        if (verdict.first[0] == '\0') {
            (void)snprintf(verdict.first, sizeof(verdict.first), "logits deviate by %.4g, more than the bound",
                           (double)verdict.deviation);
        }
    }
    return verdict;
}

struct verdict verify_same_bits(const struct run *run, enum board_slot left, enum board_slot right)
{
    struct verdict verdict = {.total = run->board.outputs};
    for (size_t output = 0; output < run->board.outputs; output++) {
        bool good = true;
        for (int rank = 0; rank < run->board.ranks; rank++) {
            const struct board_token *a = board_tokens(&run->board, left, rank) + output;
            const struct board_token *b = board_tokens(&run->board, right, rank) + output;
            good = good && a->written == 1 && b->written == 1 && a->token == b->token && a->hash == b->hash;
        }
        if (!good && verdict.first[0] == '\0') {
            (void)snprintf(verdict.first, sizeof(verdict.first), "output %zu differs", output);
        }
        verdict.equal += good;
    }
    verdict.held = verdict.total > 0 && verdict.equal == verdict.total;
    return verdict;
}
