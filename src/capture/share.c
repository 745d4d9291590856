/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/share.h"

#include <stdlib.h>
#include <string.h>

struct share *share_add(struct registry *registry, struct mapping *mapping, const struct share_part *parts,
                        size_t count)
{
    struct share *share = calloc(1, sizeof(*share) + count * sizeof(share->parts[0]));
    if (share == NULL) {
        return NULL;
    }
    share->mapping = mapping;
    share->uses = 1;
    share->count = count;
    if (count > 0) {
        memcpy(share->parts, parts, count * sizeof(*parts));
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
    for (size_t index = 0; index < share->count; index++) {
        exports_release(share->parts[index].exported);
    }
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
