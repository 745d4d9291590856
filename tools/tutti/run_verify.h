/* SPDX-License-Identifier: Apache-2.0 */
/* run_verify.h - whether the tokens of a pass are the reference's. */
#ifndef TUTTI_TOOL_RUN_VERIFY_H
#define TUTTI_TOOL_RUN_VERIFY_H

#include "run.h"

struct verdict {
    bool held;
    size_t total;
    size_t equal;    /* the same token on every rank; exact numerics: with the same logits, bit for bit */
    size_t excused;  /* real numerics: another token, where the reference's margin is within the bound */
    float deviation; /* real numerics: of any logit on any rank from the reference's */
    char first[200]; /* what the first difference is, or "" */
};

/* Compares the outputs of `trace` (the run's, or its beginning) on the ranks in the mask. */
struct verdict verify_against_reference(const struct run *run, const struct trace *trace, enum board_slot slot,
                                        uint64_t ranks);

/* Whether two passes of the same ranks gave the same tokens and the same logits, bit for bit. */
struct verdict verify_same_bits(const struct run *run, enum board_slot left, enum board_slot right);

/* Real numerics: how far a logit may be from the reference's. */
float verify_bound(const struct model_shape *shape);

#endif
