/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/span.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"

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

static tutti_status part_add(void *user, uint64_t address, const struct span_part *part)
{
    struct span *span = user;
    if (part->bytes == 0) {
        return error_set(TUTTI_ERR_ARGUMENT, "no allocation is known at 0x%" PRIx64, address);
    }
    struct span_part *grown = realloc(span->parts, (span->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for a span of %zu allocations", span->count + 1);
    }
    grown[span->count++] = *part;
    span->parts = grown;
    return TUTTI_OK;
}

tutti_status span_find(span_look look, void *where, uint64_t address, uint64_t bytes, struct span *span)
{
    struct span found = {NULL, 0};
    tutti_status status = span_walk(look, where, address, bytes, part_add, &found);
    if (status != TUTTI_OK) {
        span_free(&found);
        return status;
    }
    *span = found;
    return TUTTI_OK;
}

void span_free(struct span *span)
{
    free(span->parts);
    *span = (struct span){NULL, 0};
}
