/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "capture/share.h"
#include "collective/extent.h"
#include "comm/commit_part.h"
#include "comm/descriptor.h"
#include "comm/memory.h"
#include "comm/socket.h"

/* -- what the peers offer --------------------------------------------------------------------------------------- */

static bool passes(const struct ledger_view *view, const bool *used, uint32_t index)
{
    return index < view->head.allocations && used[index] && view->allocations[index].has_descriptor != 0;
}

/* The share takes over the mapping. */
static tutti_status share_peer(struct commit *commit, int rank, uint32_t index, struct mapping *mapping)
{
    commit->shares[rank][index] = share_add(commit->comm->registry, mapping, NULL, 0);
    if (commit->shares[rank][index] == NULL) {
        mapping_release(mapping);
        return commit_no_memory();
    }
    return TUTTI_OK;
}

static tutti_status run_begin(struct commit *commit, int rank, uint32_t first, uint32_t count)
{
    const struct ledger_allocation *lines = &commit->views[rank].allocations[first];
    struct memory_name *names = calloc(count, sizeof(*names));
    if (names == NULL) {
        return commit_no_memory();
    }
    for (uint32_t index = 0; index < count; index++) {
        names[index] = lines[index].name;
    }
    commit->runs[rank].first = first;
    tutti_status status =
        mapping_run_begin(commit->comm->ops, commit->comm->device, names, count, &commit->runs[rank].mapping);
    free(names);
    return status;
}

/* One allocation of a run, which is mapped with its last one. */
static tutti_status run_take(struct commit *commit, int rank, uint32_t index, int fd)
{
    const struct ledger_view *view = &commit->views[rank];
    struct mapping **mapping = &commit->runs[rank].mapping;
    tutti_status status = TUTTI_OK;
    if (view->allocations[index].joined == 0) {
        status = run_begin(commit, rank, index, ledger_run(view, index));
    }
    if (status == TUTTI_OK) {
        status = mapping_run_add(*mapping, &view->allocations[index].name, fd);
    }
    if (status == TUTTI_OK && ledger_run(view, index) == 1) { /* nothing follows */
        struct mapping *whole = *mapping;
        mapping_run_finish(&whole);
        *mapping = NULL;
        status = share_peer(commit, rank, commit->runs[rank].first, whole);
    }
    return status;
}

static tutti_status peer_take(struct commit *commit, int rank, uint32_t index, int fd)
{
    tutti_comm *comm = commit->comm;
    const struct ledger_view *view = &commit->views[rank];
    struct mapping *mapping = NULL;
    if (view->allocations[index].joined != 0 || ledger_run(view, index) > 1) {
        return run_take(commit, rank, index, fd);
    }
    tutti_status status = mapping_acquire(comm->ops, comm->device, &view->allocations[index].name, fd, &mapping);
    return status == TUTTI_OK ? share_peer(commit, rank, index, mapping) : status;
}

void offered_drop(struct offered *offered)
{
    socket_close(&offered->fd);
    exports_release(offered->part.exported);
    offered->part.exported = NULL;
}

/* With all of its run, at the first of that. */
static tutti_status share_own(struct commit *commit, uint32_t first)
{
    const int own = commit->comm->rank;
    uint32_t count = ledger_run(&commit->views[own], first);
    struct share_part *parts = calloc(count, sizeof(*parts));
    if (parts == NULL) {
        return commit_no_memory();
    }
    for (uint32_t index = 0; index < count; index++) {
        parts[index] = commit->offered[first + index].part;
    }
    struct share *share = share_add(commit->comm->registry, NULL, parts, count);
    free(parts);
    if (share == NULL) {
        return commit_no_memory();
    }
    for (uint32_t index = 0; index < count; index++) {
        commit->offered[first + index].part.exported = NULL; /* the share's now */
    }
    commit->shares[own][first] = share;
    return TUTTI_OK;
}

/* What `rank` offers under this index, if the calls use it. Takes the descriptor in any case: nobody else comes for it. */
static void allocation_take(struct commit *commit, int rank, const bool *used, uint32_t index)
{
    tutti_comm *comm = commit->comm;
    const struct ledger_view *view = &commit->views[rank];
    if (used == NULL || index >= view->head.allocations || !used[index]) {
        return;
    }
    if (rank == comm->rank) {
        commit_note(commit, view->allocations[index].joined == 0 ? share_own(commit, index) : TUTTI_OK);
        return;
    }
    int fd = -1;
    tutti_status status = TUTTI_OK;
    if (passes(view, used, index) && descriptor_reaches(comm, rank)) {
        struct deadline deadline = deadline_in(comm->exchange_limit_ms, &comm->controls[comm->rank]->failure_state);
        status = descriptor_take(comm, rank, index, &deadline, &fd);
    }
    if (status == TUTTI_OK && commit->word.status == TUTTI_OK) {
        status = peer_take(commit, rank, index, fd);
    }
    commit_note(commit, status);
    socket_close(&fd);
}

/* One index after another, so that no more descriptors are under way than there are ranks. Fails only with the communicator. */
tutti_status commit_take_allocations(struct commit *commit)
{
    tutti_comm *comm = commit->comm;
    bool *used[KERNEL_WORLD_MAX] = {NULL};
    uint32_t most = 0;
    tutti_status status = TUTTI_OK;
    for (int rank = 0; rank < comm->world && comm->world <= KERNEL_WORLD_MAX; rank++) {
        uint32_t count = commit->views[rank].head.allocations;
        used[rank] = calloc((size_t)count + 1, sizeof(bool));
        commit->shares[rank] = calloc((size_t)count + 1, sizeof(struct share *));
        if (used[rank] == NULL || commit->shares[rank] == NULL) {
            status = comm_give_up(comm, "tutti_commit"); /* the others count on its descriptors */
            break;
        }
        ledger_mark_used(&commit->views[rank], &commit->verdict, used[rank]);
        most = count > most ? count : most;
    }
    for (uint32_t index = 0; index < most && status == TUTTI_OK; index++) {
        if (passes(&commit->views[comm->rank], used[comm->rank], index)) {
            status = descriptor_send(comm, index, commit->offered[index].fd, "tutti_commit");
        }
        for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
            allocation_take(commit, rank, used[rank], index);
        }
    }
    for (int rank = 0; rank < KERNEL_WORLD_MAX; rank++) {
        free(used[rank]);
    }
    return status;
}

/* -- the entries -------------------------------------------------------------------------------------------- */

static uint64_t buffer_address(const struct commit *commit, const struct ticket *ticket, uint32_t call, int which,
                               int rank)
{
    const tutti_comm *comm = commit->comm;
    const struct ledger_buffer *buffer = &commit->views[rank].calls[call].buffers[which];
    const void *own = which == BUFFER_SRC ? ticket->operation.src : ticket->operation.dst;
    if (rank == comm->rank) {
        return (uint64_t)(uintptr_t)own;
    }
    if (buffer->where == WHERE_PRIVATE) {
        return 0;
    }
    if (buffer->where == WHERE_SYMMETRIC) {
        return memory_part(comm, buffer->serial, rank, buffer->offset);
    }
    return commit->shares[rank][buffer->where]->mapping->block.address + buffer->offset;
}

/* Addresses that a peer named must lie in what it has. */
static bool buffer_fits(const struct commit *commit, const struct ticket *ticket, uint32_t call, int which, int rank)
{
    size_t world = (size_t)commit->comm->world;
    uint64_t bytes =
        which == BUFFER_SRC ? extent_src_bytes(&ticket->operation, world) : extent_dst_bytes(&ticket->operation, world);
    const struct ledger_buffer *buffer = &commit->views[rank].calls[call].buffers[which];
    bool private = commit_is_private(&ticket->operation, which);
    if (private || buffer->where == WHERE_PRIVATE) {
        return private && buffer->where == WHERE_PRIVATE;
    }
    if (rank == commit->comm->rank) {
        return true;
    }
    if (buffer->where == WHERE_SYMMETRIC) {
        return buffer->offset <= UINT64_MAX - bytes &&
               memory_part(commit->comm, buffer->serial, rank, buffer->offset + bytes) != 0;
    }
    uint64_t held = commit->shares[rank][buffer->where]->mapping->block.bytes;
    return buffer->offset <= held && bytes <= held - buffer->offset && buffer->offset % 16 == 0;
}

static tutti_status entry_fill(struct commit *commit, struct ticket *ticket, uint32_t call)
{
    tutti_comm *comm = commit->comm;
    struct direct_entry *entry = &comm->registry->entries[ticket->slot];
    memset(entry, 0, sizeof(*entry));
    entry->ticket = ticket->number;
    for (int rank = 0; rank < comm->world; rank++) {
        if (!buffer_fits(commit, ticket, call, BUFFER_SRC, rank) ||
            !buffer_fits(commit, ticket, call, BUFFER_DST, rank)) {
            return error_set(TUTTI_ERR_MISMATCH, "rank %d names a buffer that does not lie in its allocation", rank);
        }
        entry->src[rank] = buffer_address(commit, ticket, call, BUFFER_SRC, rank);
        entry->dst[rank] = buffer_address(commit, ticket, call, BUFFER_DST, rank);
    }
    return TUTTI_OK;
}

static tutti_status entries_write(tutti_comm *comm, uint32_t first, uint32_t end)
{
    return first < end
               ? comm->ops->group_entries_write(comm->group, &comm->registry->entries[first], first, end - first)
               : TUTTI_OK;
}

uint64_t commit_number(const struct commit *commit)
{
    uint64_t last = 0;
    for (int rank = 0; rank < commit->comm->world; rank++) {
        uint64_t theirs = commit->views[rank].head.last_commit;
        last = theirs > last ? theirs : last;
    }
    return last + 1;
}

/* Calls that were direct under a former commit are taken off that first. */
static tutti_status former_withdraw(struct commit *commit, uint32_t calls)
{
    tutti_comm *comm = commit->comm;
    struct registry *registry = comm->registry;
    uint32_t first = UINT32_MAX;
    uint32_t end = 0;
    for (uint32_t call = 0; call < calls; call++) {
        struct ticket *ticket = commit->tickets[call];
        if (ticket != NULL && ticket->state == TICKET_DIRECT) {
            registry->entries[ticket->slot].commit = 0;
            first = ticket->slot < first ? ticket->slot : first;
            end = ticket->slot + 1 > end ? ticket->slot + 1 : end;
        }
    }
    tutti_status status = entries_write(comm, first, end);
    if (status == TUTTI_OK && first < end) {
        status = comm->ops->group_quiesce(comm->group);
    }
    for (uint32_t call = 0; call < calls; call++) {
        struct ticket *ticket = commit->tickets[call];
        if (ticket != NULL && ticket->state == TICKET_DIRECT && status == TUTTI_OK) {
            shares_drop(registry, ticket);
            registry_move(registry, ticket, TICKET_SUSPENDED);
        } else if (ticket != NULL && ticket->state == TICKET_DIRECT) {
            registry->entries[ticket->slot].commit = ticket->agreed;
        }
    }
    if (status != TUTTI_OK) {
        char sentence[LEDGER_SENTENCE_BYTES];
        (void)snprintf(sentence, sizeof(sentence), "%.199s", tutti_last_error());
        (void)entries_write(comm, first, end); /* as it was */
        (void)error_set(status, "%s", sentence);
    }
    return status;
}

/* The ticket holds what its entry names, from now on. */
static void shares_take(struct commit *commit, struct ticket *ticket, uint32_t call)
{
    for (int rank = 0; rank < commit->comm->world; rank++) {
        for (int which = 0; which < BUFFER_COUNT; which++) {
            int32_t where = commit->views[rank].calls[call].buffers[which].where;
            if (where >= 0) {
                ticket->shares[which][rank] = commit->shares[rank][where];
                commit->shares[rank][where]->uses++;
            }
        }
    }
}

tutti_status commit_write_table(struct commit *commit)
{
    tutti_comm *comm = commit->comm;
    struct registry *registry = comm->registry;
    uint32_t calls = commit->ledger.head.calls;
    uint64_t number = commit_number(commit);
    uint32_t first = UINT32_MAX;
    uint32_t end = 0;
    tutti_status status = former_withdraw(commit, calls);
    for (uint32_t call = 0; call < calls; call++) {
        const struct ticket *ticket = commit->tickets[call];
        if (commit->verdict.direct[call]) {
            first = ticket->slot < first ? ticket->slot : first;
            end = ticket->slot + 1 > end ? ticket->slot + 1 : end;
        }
    }
    /* A slot may come from a graph that went while it was committed: the device still has that mark, and must not see it beside the
     * new ticket and half of the new addresses. */
    if (status == TUTTI_OK) {
        status = entries_write(comm, first, end);
    }
    for (uint32_t call = 0; call < calls && status == TUTTI_OK; call++) {
        if (commit->verdict.direct[call]) {
            status = entry_fill(commit, commit->tickets[call], call);
        }
    }
    if (status == TUTTI_OK) {
        status = entries_write(comm, first, end);
    }
    for (uint32_t call = 0; call < calls && status == TUTTI_OK; call++) {
        struct ticket *ticket = commit->tickets[call];
        if (commit->verdict.direct[call]) {
            ticket->agreed = number << 32 | (call + 1);
            registry->entries[ticket->slot].commit = ticket->agreed;
            shares_take(commit, ticket, call);
            registry_move(registry, ticket, TICKET_DIRECT);
        }
    }
    return status == TUTTI_OK ? entries_write(comm, first, end) : status;
}
