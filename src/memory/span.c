/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/span.h"

tutti_status span_walk(span_look look, void *where, uint64_t address, uint64_t bytes, span_visit visit, void *user)
{
    tutti_status status = TUTTI_OK;
    for (uint64_t done = 0; done < bytes && status == TUTTI_OK;) {
        struct span_part part = {{0}, 0, 0};
        uint64_t at = address + done;
        status = look(where, at, &part.facts);
        if (status != TUTTI_OK) {
            return status;
        }
        if (part.facts.class != MEMORY_UNKNOWN && at >= part.facts.start && at - part.facts.start < part.facts.bytes) {
            uint64_t left = bytes - done;
            part.offset = at - part.facts.start;
            part.bytes = part.facts.bytes - part.offset < left ? part.facts.bytes - part.offset : left;
        }
        status = visit(user, at, &part);
        done = part.bytes > 0 ? done + part.bytes : bytes;
    }
    return status;
}
