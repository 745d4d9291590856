/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/policy.h"

#include <stdio.h>

static void decide(struct policy_verdict *verdict, tutti_memory_kind kind, bool shareable, const char *reason)
{
    verdict->kind = kind;
    verdict->shareable = shareable;
    (void)snprintf(verdict->reason, sizeof(verdict->reason), "%s", reason);
}

/* What can be shared with no process at all, as far as the class tells. */
static tutti_memory_kind kind_of(enum memory_class class)
{
    switch (class) {
    case MEMORY_HOST:
        return TUTTI_MEMORY_HOST;
    case MEMORY_MANAGED:
        return TUTTI_MEMORY_MANAGED;
    case MEMORY_FD:
        return TUTTI_MEMORY_FD;
    case MEMORY_IPC:
        return TUTTI_MEMORY_IPC;
    case MEMORY_POOL:
    case MEMORY_VMM:
        return TUTTI_MEMORY_STAGED;
    case MEMORY_UNKNOWN:
        break;
    }
    return TUTTI_MEMORY_UNKNOWN;
}

static void decide_unusable(const struct memory_facts *facts, const struct policy_terms *terms,
                            struct policy_verdict *verdict)
{
    decide(verdict, kind_of(facts->class), false,
           "the device cannot use it: an ordinary host pointer, memory that has been freed, or memory of a graph that "
           "was never "
           "launched; calls refuse it, except for the graph's own");
    if (facts->class != MEMORY_UNKNOWN) {
        (void)snprintf(verdict->reason, sizeof(verdict->reason),
                       "it lies on device %d, but the communicator's device is %d; calls refuse it", facts->ordinal,
                       terms->ordinal);
    }
}

/* Device memory of the communicator's device, whose ranks live in several processes. */
static void decide_between_processes(const struct memory_facts *facts, const struct policy_terms *terms,
                                     struct policy_verdict *verdict)
{
    bool mixed = terms->processes < terms->world;
    if (facts->class == MEMORY_VMM) {
        decide(
            verdict, TUTTI_MEMORY_STAGED, false,
            "VMM memory made without a type of handle: nothing by which another process could map it; calls stage it");
    } else if (facts->class == MEMORY_IPC && mixed && !facts->threads_reach) {
        decide(
            verdict, TUTTI_MEMORY_STAGED, false,
            "an IPC handle opens in other processes only, and ranks of this one are on other devices; calls stage it");
    } else if (facts->class == MEMORY_IPC) {
        decide(verdict, TUTTI_MEMORY_IPC, true,
               "a plain device allocation: peers map it through the driver's IPC handle");
    } else if ((terms->flags & TUTTI_COMM_DIRECT_FD) == 0) {
        decide(verdict, TUTTI_MEMORY_FD, false,
               "exportable VMM memory, whose allocator may put other pages behind its addresses: without "
               "TUTTI_COMM_DIRECT_FD calls stage it");
    } else {
        decide(verdict, TUTTI_MEMORY_FD, true,
               "peers map it through a file descriptor, as TUTTI_COMM_DIRECT_FD allows");
    }
}

/* For ranks that share memory. */
static void decide_usable(const struct memory_facts *facts, const struct policy_terms *terms,
                          struct policy_verdict *verdict)
{
    if (facts->class == MEMORY_MANAGED) {
        decide(verdict, TUTTI_MEMORY_MANAGED, false,
               "managed memory moves between host and devices, and no handle stands for it; calls stage it");
    } else if (facts->class == MEMORY_POOL) {
        decide(verdict, TUTTI_MEMORY_STAGED, false,
               "memory of a stream-ordered pool or of a graph, whose pages can go and come any time; calls stage it");
    } else if (terms->processes == 1 && facts->threads_reach) {
        decide(verdict, TUTTI_MEMORY_SAME_PROCESS, true, "all ranks are threads of this process and reach it");
    } else if (facts->class == MEMORY_HOST || facts->class == MEMORY_UNKNOWN) {
        decide(verdict, TUTTI_MEMORY_HOST, false,
               "host memory of this process, which no other process can map; calls stage it");
    } else if (terms->processes == 1) {
        decide(verdict, TUTTI_MEMORY_STAGED, false,
               "ranks of this process on other devices do not reach it: use one process a device, or VMM memory; calls "
               "stage it");
    } else {
        decide_between_processes(facts, terms, verdict);
    }
}

void policy_decide(const struct memory_facts *facts, const struct policy_terms *terms, struct policy_verdict *verdict)
{
    if (!facts->usable) {
        decide_unusable(facts, terms, verdict);
        return;
    }
    decide_usable(facts, terms, verdict);
    if (!terms->shares) {
        decide(verdict, verdict->kind == TUTTI_MEMORY_SAME_PROCESS ? kind_of(facts->class) : verdict->kind, false,
               "the ranks of this communicator share no memory; its calls take this one");
    }
}
