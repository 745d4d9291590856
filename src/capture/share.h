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

struct share {
    struct exported *exported; /* own: given back with the last use; or NULL */
    struct mapping *mapping;   /* a peer's: likewise */
    struct memory_facts facts; /* own: as it was when it was committed */
    uint32_t uses;
    bool looked;        /* own: whether it still is that has been asked, in this walk */
    struct share *next; /* of the registry */
};

/* A share with one use, which takes over what it stands for. NULL without memory; then that stays the caller's. */
struct share *share_add(struct registry *registry, struct exported *exported, struct mapping *mapping,
                        const struct memory_facts *facts);

/* One use less. NULL is allowed. */
void share_drop(struct registry *registry, struct share *share);

/* All that the ticket holds. No kernel uses it any more. */
void shares_drop(struct registry *registry, struct ticket *ticket);

#endif
