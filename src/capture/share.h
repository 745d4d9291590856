/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.h - what a rank holds so that committed calls can go directly: its own allocations, exported, and its peers', mapped. One
 * for each allocation and commit, counted by the tickets that use it (memory/mapping.h maps an allocation once, however many there are).
 */
#ifndef TUTTI_CAPTURE_SHARE_H
#define TUTTI_CAPTURE_SHARE_H

#include "capture/registry.h"
#include "memory/exports.h"
#include "memory/mapping.h"

/* An own allocation. */
struct share_part {
    struct exported *exported; /* given back with the last use */
    struct memory_facts facts; /* as it was when it was committed */
};

struct share {
    struct mapping *mapping; /* a peer's: given back with the last use; or NULL */
    uint32_t uses;
    bool looked;        /* own: whether it still is that has been asked, in this walk */
    struct share *next; /* of the registry */
    size_t count;       /* own: one, or those of a run, in order of address */
    struct share_part parts[];
};

/* A share with one use, which takes over what it stands for: `mapping`, or `count` own allocations. NULL without memory; then that stays the
 * caller's. */
struct share *share_add(struct registry *registry, struct mapping *mapping, const struct share_part *parts,
                        size_t count);

/* One use less. NULL is allowed. */
void share_drop(struct registry *registry, struct share *share);

/* All that the ticket holds. No kernel uses it any more. */
void shares_drop(struct registry *registry, struct ticket *ticket);

#endif
