/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/signature.h"

#include <inttypes.h>
#include <stdio.h>

#include "collective/choice.h"

#define COUNT_BITS 48

static const char *const kind_names[] = {"all_reduce", "reduce_scatter", "all_gather",
                                         "broadcast",  "all_to_all",     "barrier"};
static const char *const dtype_names[] = {"f32", "f16", "bf16"};
static const char *const op_names[] = {"sum", "max", "min"};

const char *signature_kind_name(tutti_collective kind)
{
    return kind_names[kind];
}

uint64_t signature_pack(const struct operation *operation)
{
    uint64_t count = (uint64_t)operation->count & ((UINT64_C(1) << COUNT_BITS) - 1);
    uint64_t head = (uint64_t)operation->kind | (uint64_t)operation->dtype << 4 | (uint64_t)operation->op << 8 |
                    (uint64_t)operation->root << 10;
    return head << COUNT_BITS | count;
}

void signature_describe(uint64_t signature, char *text, size_t text_bytes)
{
    uint64_t head = signature >> COUNT_BITS;
    struct operation operation = {
        .kind = (tutti_collective)(head & 15),
        .dtype = (tutti_dtype)(head >> 4 & 15),
        .op = (tutti_op)(head >> 8 & 3),
        .root = (int)(head >> 10 & 63),
        .count = (size_t)(signature & ((UINT64_C(1) << COUNT_BITS) - 1)),
    };
    if (operation.kind >= TUTTI_COLLECTIVE_COUNT || operation.dtype > TUTTI_BF16 || operation.op > TUTTI_MIN) {
        (void)snprintf(text, text_bytes, "something unreadable (0x%" PRIx64 ")", signature);
        return;
    }
    const char *kind = kind_names[operation.kind];
    size_t bytes = operation.count * choice_unit_bytes(&operation);
    if (operation.kind == TUTTI_BARRIER) {
        (void)snprintf(text, text_bytes, "barrier");
    } else if (operation.kind == TUTTI_BROADCAST) {
        (void)snprintf(text, text_bytes, "%s of %zu bytes from rank %d", kind, bytes, operation.root);
    } else if (operation.kind == TUTTI_ALL_REDUCE || operation.kind == TUTTI_REDUCE_SCATTER) {
        (void)snprintf(text, text_bytes, "%s of %zu bytes (%s %s)", kind, bytes, dtype_names[operation.dtype],
                       op_names[operation.op]);
    } else {
        (void)snprintf(text, text_bytes, "%s of %zu bytes", kind, bytes);
    }
}
