/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/share.h"

#include <stdlib.h>

struct share *share_add(struct registry *registry, struct exported *exported, struct mapping *mapping,
                        const struct memory_facts *facts)
{
    struct share *share = calloc(1, sizeof(*share));
    if (share == NULL) {
        return NULL;
    }
    share->exported = exported;
    share->mapping = mapping;
    share->uses = 1;
    if (facts != NULL) {
        share->facts = *facts;
    }
    share->next = registry->shares;
    registry->shares = share;
    (void)atomic_fetch_add(&registry->counts.mappings, mapping != NULL);
    return share;
}

void share_drop(struct registry *registry, struct share *share)
{
    if (share == NULL || --share->uses > 0) {
        return;
    }
    struct share **link = &registry->shares;
    while (*link != share) {
        link = &(*link)->next;
    }
    *link = share->next;
    (void)atomic_fetch_sub(&registry->counts.mappings, share->mapping != NULL);
    mapping_release(share->mapping);
    exports_release(share->exported);
    free(share);
}

void shares_drop(struct registry *registry, struct ticket *ticket)
{
    for (int buffer = 0; buffer < BUFFER_COUNT; buffer++) {
        for (int rank = 0; rank < KERNEL_WORLD_MAX; rank++) {
            share_drop(registry, ticket->shares[buffer][rank]);
            ticket->shares[buffer][rank] = NULL;
        }
    }
}
