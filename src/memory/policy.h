/* SPDX-License-Identifier: Apache-2.0 */
/* policy.h - whether peers may use a rank's memory directly, and why. Pure. */
#ifndef TUTTI_MEMORY_POLICY_H
#define TUTTI_MEMORY_POLICY_H

#include "device/device.h"

#define POLICY_REASON_BYTES 200

/* Of the communicator. */
struct policy_terms {
    int world, processes;
    uint32_t flags; /* TUTTI_COMM_* */
    int ordinal;    /* of its device */
    bool shares;    /* its ranks can map each other's memory at all */
};

struct policy_verdict {
    tutti_memory_kind kind;
    bool shareable;
    char reason[POLICY_REASON_BYTES];
};

/* The caller's memory; tutti_alloc's is shared anyway. */
void policy_decide(const struct memory_facts *facts, const struct policy_terms *terms, struct policy_verdict *verdict);

#endif
