/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/symmetric.h"

#include <stdlib.h>

#include "base/error.h"

tutti_status symmetric_create(const struct device_ops *ops, struct device *device, size_t bytes,
                              struct symmetric **symmetric, struct memory_name *name, int *fd)
{
    struct memory_facts facts;
    struct symmetric *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the record of an allocation");
    }
    made->ops = ops;
    made->device = device;
    made->bytes = bytes;
    tutti_status status = ops->memory_create(device, bytes, &made->own, &facts);
    if (status != TUTTI_OK) {
        free(made);
        return status;
    }
    status = exports_acquire(ops, device, &facts, &made->exported);
    if (status == TUTTI_OK) {
        status = exports_name(made->exported, name, fd);
    }
    if (status != TUTTI_OK) {
        symmetric_free(made);
        return status;
    }
    *symmetric = made;
    return TUTTI_OK;
}

void symmetric_close(struct symmetric *symmetric)
{
    for (int rank = 0; rank < TUTTI_WORLD_MAX; rank++) {
        mapping_release(symmetric->peers[rank]);
        symmetric->peers[rank] = NULL;
    }
}

void symmetric_free(struct symmetric *symmetric)
{
    if (symmetric == NULL) {
        return;
    }
    symmetric_close(symmetric);
    exports_release(symmetric->exported);
    symmetric->ops->memory_release(symmetric->device, &symmetric->own);
    free(symmetric);
}

void symmetric_close_all(struct symmetric *list)
{
    for (struct symmetric *each = list; each != NULL; each = each->next) {
        symmetric_close(each);
    }
}

void symmetric_free_all(struct symmetric *list)
{
    while (list != NULL) {
        struct symmetric *next = list->next;
        symmetric_free(list);
        list = next;
    }
}

static bool holds(const struct memory_block *block, uint64_t address)
{
    return address >= block->address && address - block->address < block->bytes;
}

const struct symmetric *symmetric_find(const struct symmetric *list, uint64_t address, int own_rank, int *rank)
{
    for (const struct symmetric *each = list; each != NULL; each = each->next) {
        if (holds(&each->own, address)) {
            *rank = own_rank;
            return each;
        }
        for (int peer = 0; peer < TUTTI_WORLD_MAX; peer++) {
            if (each->peers[peer] != NULL && holds(&each->peers[peer]->block, address)) {
                *rank = peer;
                return each;
            }
        }
    }
    return NULL;
}

uint64_t symmetric_mapped_bytes(const struct symmetric *symmetric)
{
    uint64_t bytes = symmetric->own.bytes;
    for (int rank = 0; rank < TUTTI_WORLD_MAX; rank++) {
        bytes += symmetric->peers[rank] != NULL ? symmetric->peers[rank]->block.bytes : 0;
    }
    return bytes;
}
