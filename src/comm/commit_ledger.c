/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/room.h"
#include "collective/extent.h"
#include "collective/signature.h"
#include "comm/commit_part.h"
#include "comm/memory.h"
#include "memory/policy.h"
#include "memory/symmetric.h"

static void allocation_refuse(struct ledger_allocation *line, const char *reason)
{
    line->shareable = 0;
    (void)snprintf(line->reason, sizeof(line->reason), "%.199s", reason);
}

/* Exports an allocation, or says why that is not possible: its calls are staged then. */
static void allocation_export(tutti_comm *comm, struct offered *offered, struct ledger_allocation *line)
{
    struct policy_terms terms = {comm->world, comm->processes, comm->flags, comm->ordinal,
                                 comm->ops->memory_create != NULL};
    struct policy_verdict verdict;
    policy_decide(&offered->part.facts, &terms, &verdict);
    if (!verdict.shareable) {
        allocation_refuse(line, verdict.reason);
        return;
    }
    struct share_part *part = &offered->part;
    if (exports_acquire(comm->ops, comm->device, &part->facts, &part->exported) != TUTTI_OK) {
        allocation_refuse(line, tutti_last_error());
        return;
    }
    if (exports_name(part->exported, &line->name, &offered->fd) != TUTTI_OK) {
        allocation_refuse(line, tutti_last_error());
        exports_release(part->exported);
        part->exported = NULL;
        return;
    }
    line->shareable = 1;
    line->has_descriptor = offered->fd >= 0;
}

static const struct memory_facts *facts_of(const struct commit *commit, int32_t where)
{
    return &commit->offered[where].part.facts;
}

static uint64_t end_of(const struct commit *commit, int32_t where)
{
    return facts_of(commit, where)->start + facts_of(commit, where)->bytes;
}

/* The index of the allocation that the address lies in; WHERE_UNKNOWN if it is in none. Asks the driver once for each. */
static tutti_status allocation_find(struct commit *commit, uint64_t address, int32_t *where)
{
    uint32_t count = commit->ledger.head.allocations;
    for (int32_t index = (int32_t)count; index-- > 0;) { /* calls captured one after another use the same ones */
        if (address >= facts_of(commit, index)->start && address < end_of(commit, index)) {
            *where = index;
            return TUTTI_OK;
        }
    }
    struct memory_facts facts;
    tutti_status status = commit->comm->ops->group_look(commit->comm->group, address, &facts);
    if (status != TUTTI_OK) {
        return status;
    }
    *where = WHERE_UNKNOWN;
    if (facts.bytes == 0) {
        return TUTTI_OK;
    }
    if (!room_for(&commit->offered, &commit->offered_room, (size_t)count + 1, sizeof(*commit->offered))) {
        return commit_no_memory();
    }
    struct ledger_allocation *line = ledger_add_allocation(&commit->ledger);
    if (line == NULL) {
        return commit_no_memory();
    }
    commit->offered[count] = (struct offered){{NULL, facts}, -1, false};
    allocation_export(commit->comm, &commit->offered[count], line);
    *where = (int32_t)count;
    return TUTTI_OK;
}

static bool is_vmm(const struct memory_facts *facts)
{
    return facts->class == MEMORY_FD || facts->class == MEMORY_VMM;
}

/* The allocation that a buffer goes on in, behind the end of this one. Only VMM memory can be mapped like that elsewhere. */
static tutti_status allocation_behind(struct commit *commit, int32_t where, int32_t *behind)
{
    *behind = WHERE_UNKNOWN;
    if (!is_vmm(facts_of(commit, where))) {
        return TUTTI_OK;
    }
    tutti_status status = allocation_find(commit, end_of(commit, where), behind);
    if (status == TUTTI_OK && *behind >= 0 &&
        (!is_vmm(facts_of(commit, *behind)) || facts_of(commit, *behind)->start != end_of(commit, where))) {
        *behind = WHERE_UNKNOWN;
    }
    return status;
}

/* Where the range lies: the allocation that it begins in, or one that no peer can map, or WHERE_UNKNOWN. If the range is longer than that
 * allocation, those that it goes on in are to be mapped behind it. */
static tutti_status range_find(struct commit *commit, uint64_t address, uint64_t bytes, int32_t *where)
{
    int32_t first = WHERE_UNKNOWN;
    tutti_status status = allocation_find(commit, address, &first);
    int32_t last = first;
    while (status == TUTTI_OK && last >= 0 && commit->ledger.allocations[last].shareable != 0 &&
           address + bytes > end_of(commit, last)) {
        status = allocation_behind(commit, last, &last);
    }
    *where = last;
    if (status != TUTTI_OK || last < 0 || commit->ledger.allocations[last].shareable == 0) {
        return status;
    }
    *where = first;
    for (int32_t each = first; each != last && status == TUTTI_OK;) {
        status = allocation_behind(commit, each, &each);
        commit->offered[each].reached = true;
    }
    return status;
}

/* -- runs: allocations that buffers span, in order of address ---------------------------------------------------------- */

struct place {
    uint64_t start;
    uint32_t before; /* its index until now */
};

static int places_compare(const void *one, const void *other)
{
    const struct place *a = one;
    const struct place *b = other;
    return a->start < b->start ? -1 : a->start > b->start;
}

/* Buffers name the first allocation of a run. now: [former index] */
static void buffer_move(const struct commit *commit, const uint32_t *now, struct ledger_buffer *buffer)
{
    if (buffer->where < 0) {
        return;
    }
    buffer->where = (int32_t)now[buffer->where];
    while (commit->ledger.allocations[buffer->where].joined != 0) {
        buffer->where--;
        buffer->offset += facts_of(commit, buffer->where)->bytes;
    }
}

static void allocations_move(struct commit *commit, const struct place *places, const struct offered *offered,
                             const struct ledger_allocation *lines, uint32_t *now)
{
    for (uint32_t index = 0; index < commit->ledger.head.allocations; index++) {
        uint32_t before = places[index].before;
        commit->offered[index] = offered[before];
        commit->ledger.allocations[index] = lines[before];
        commit->ledger.allocations[index].joined = offered[before].reached;
        now[before] = index;
    }
    for (uint32_t call = 0; call < commit->ledger.head.calls; call++) {
        for (int which = 0; which < BUFFER_COUNT; which++) {
            buffer_move(commit, now, &commit->ledger.calls[call].buffers[which]);
        }
    }
}

/* Once all buffers are known. */
static tutti_status runs_join(struct commit *commit)
{
    const size_t count = commit->ledger.head.allocations;
    bool any = false;
    for (size_t index = 0; index < count; index++) {
        any = any || commit->offered[index].reached;
    }
    if (!any) {
        return TUTTI_OK;
    }
    struct place *places = calloc(count, sizeof(*places));
    struct offered *offered = calloc(count, sizeof(*offered));
    struct ledger_allocation *lines = calloc(count, sizeof(*lines));
    uint32_t *now = calloc(count, sizeof(*now));
    bool room = places != NULL && offered != NULL && lines != NULL && now != NULL;
    if (room) {
        for (size_t index = 0; index < count; index++) {
            places[index] = (struct place){commit->offered[index].part.facts.start, (uint32_t)index};
        }
        qsort(places, count, sizeof(*places), places_compare);
        memcpy(offered, commit->offered, count * sizeof(*offered));
        memcpy(lines, commit->ledger.allocations, count * sizeof(*lines));
        allocations_move(commit, places, offered, lines, now);
    }
    free(places);
    free(offered);
    free(lines);
    free(now);
    return room ? TUTTI_OK : commit_no_memory();
}

/* -- calls ------------------------------------------------------------------------------------------------------------- */

/* Which of an operation's buffers peers use, when it is direct: who gathers, writes; who scatters, reads. */
bool commit_is_private(const struct operation *operation, enum ticket_buffer which)
{
    return (operation->kind == TUTTI_ALL_GATHER && which == BUFFER_SRC) ||
           (operation->kind == TUTTI_REDUCE_SCATTER && which == BUFFER_DST);
}

static tutti_status buffer_describe(struct commit *commit, const struct operation *operation, enum ticket_buffer which,
                                    struct ledger_buffer *buffer)
{
    size_t world = (size_t)commit->comm->world;
    const void *pointer = which == BUFFER_SRC ? operation->src : operation->dst;
    uint64_t bytes = which == BUFFER_SRC ? extent_src_bytes(operation, world) : extent_dst_bytes(operation, world);
    uint64_t address = (uint64_t)(uintptr_t)pointer;
    struct symmetric_place place;
    if (address % 16 != 0 || bytes % 16 != 0) {
        buffer->where = WHERE_UNALIGNED;
        return TUTTI_OK;
    }
    if (commit_is_private(operation, which)) {
        buffer->where = WHERE_PRIVATE;
        return TUTTI_OK;
    }
    if (memory_place(commit->comm, pointer, bytes, &place)) {
        *buffer = (struct ledger_buffer){WHERE_SYMMETRIC, (uint32_t)place.serial, place.offset};
        return TUTTI_OK;
    }
    tutti_status status = range_find(commit, address, bytes, &buffer->where);
    if (status == TUTTI_OK && buffer->where >= 0) {
        buffer->offset = address - facts_of(commit, buffer->where)->start;
    }
    return status;
}

static tutti_status call_add(struct commit *commit, struct ticket *ticket)
{
    uint32_t count = commit->ledger.head.calls;
    if (!room_for(&commit->tickets, &commit->ticket_room, (size_t)count + 1, sizeof(struct ticket *))) {
        return commit_no_memory();
    }
    struct ledger_call *call = ledger_add_call(&commit->ledger);
    if (call == NULL) {
        return commit_no_memory();
    }
    commit->tickets[count] = ticket;
    call->missing = ticket == NULL;
    call->buffers[BUFFER_SRC].where = call->buffers[BUFFER_DST].where = WHERE_UNKNOWN;
    if (ticket == NULL) {
        return TUTTI_OK;
    }
    const struct operation *operation = &ticket->operation;
    call->agreed = ticket->agreed;
    call->signature = signature_pack(operation);
    call->row_bytes = operation->row_bytes;
    call->lane = ticket->lane;
    call->has_slot = ticket->slot != SLOT_NONE;
    if (!call->has_slot) {
        return TUTTI_OK;
    }
    tutti_status status = buffer_describe(commit, operation, BUFFER_SRC, &call->buffers[BUFFER_SRC]);
    return status != TUTTI_OK ? status : buffer_describe(commit, operation, BUFFER_DST, &call->buffers[BUFFER_DST]);
}

static tutti_status graph_add(struct commit *commit, struct recorded *recorded)
{
    uint32_t count = commit->ledger.head.graphs;
    if (!room_for(&commit->graphs, &commit->graph_room, (size_t)count + 1, sizeof(struct recorded *))) {
        return commit_no_memory();
    }
    struct ledger_graph *graph = ledger_add_graph(&commit->ledger);
    if (graph == NULL) {
        return commit_no_memory();
    }
    commit->graphs[count] = recorded;
    graph->session = recorded->session;
    graph->fate = recorded->broken ? FATE_BROKEN : recorded_gone(recorded) ? FATE_GONE : FATE_WHOLE;
    graph->captured = recorded->count;
    graph->last = recorded->last != NULL ? signature_pack(&recorded->last->operation) : 0;
    struct ledger_head *head = &commit->ledger.head;
    if (graph->fate == FATE_BROKEN && head->sentence[0] == 0) {
        (void)snprintf(head->sentence, sizeof(head->sentence), "%.199s", recorded->why);
    }
    if (graph->fate != FATE_WHOLE) {
        return TUTTI_OK;
    }
    graph->calls = recorded->count;
    tutti_status status = TUTTI_OK;
    for (struct ticket *ticket = recorded->first; ticket != NULL && status == TUTTI_OK; ticket = ticket->next) {
        status = call_add(commit, ticket);
    }
    return status;
}

/* A ledger that says only why this rank cannot take part. */
static void ledger_void(struct commit *commit, tutti_status status)
{
    ledger_refuse(&commit->ledger, status);
    for (uint32_t index = 0; index < commit->ledger.head.allocations; index++) {
        offered_drop(&commit->offered[index]);
    }
    commit->ledger.head.graphs = commit->ledger.head.calls = commit->ledger.head.allocations = 0;
}

static void ledger_begin(struct commit *commit, enum ledger_verb verb)
{
    struct registry *registry = commit->comm->registry;
    registry_sweep(registry);
    commit->ledger.head.verb = verb;
    commit->ledger.head.forgotten = registry->forgotten;
    commit->ledger.head.last_commit = registry->last_commit;
    commit->ledger.head.last_session = registry->last_session;
}

/* The session's stream tells what no call of ours has noticed. */
static tutti_status session_look(tutti_comm *comm)
{
    struct registry *registry = comm->registry;
    struct device_stream stream = {DEVICE_STREAM_IDLE, 0};
    if (registry->session == 0) {
        return TUTTI_OK;
    }
    tutti_status status = comm->ops->group_stream(comm->group, registry->session_stream, &stream);
    if (status == TUTTI_OK && stream.state == DEVICE_STREAM_INVALIDATED) {
        if (stream.capture == 0) {
            return error_set(TUTTI_ERR_CAPTURE, "the capture of stream %p is invalid: end it before the commit",
                             registry->session_stream);
        }
        registry_invalidated(registry, stream.capture, registry->session_stream, "the end of the capture");
    }
    if (status == TUTTI_OK && stream.state == DEVICE_STREAM_CAPTURING) {
        status = error_set(TUTTI_ERR_CAPTURE, "the capture of stream %p is still open: end it before the commit",
                           registry->session_stream);
    }
    return status;
}

void commit_collect_pending(struct commit *commit)
{
    ledger_begin(commit, LEDGER_COMMIT);
    commit->ledger.head.abandoned = commit->comm->registry->abandoned_session;
    tutti_status status = session_look(commit->comm);
    if (status == TUTTI_OK) {
        registry_settle_doubts(commit->comm->registry);
    }
    for (struct recorded *each = commit->comm->registry->recorded; each != NULL && status == TUTTI_OK;
         each = each->next) {
        if (each->pending && (each->count > 0 || each->broken)) {
            status = graph_add(commit, each);
        }
    }
    if (status == TUTTI_OK) {
        status = runs_join(commit);
    }
    if (status != TUTTI_OK) {
        ledger_void(commit, status);
    }
}

/* -- calls that have names ----------------------------------------------------------------------------- */

static int tickets_compare(const void *one, const void *other)
{
    const struct ticket *const *a = one;
    const struct ticket *const *b = other;
    return (*a)->agreed < (*b)->agreed ? -1 : (*a)->agreed > (*b)->agreed;
}

/* This rank's calls that can be resumed, in order of their names. NULL without memory. */
static struct ticket **tickets_named(const struct registry *registry, size_t *count)
{
    struct ticket **found = NULL;
    size_t room = 0;
    *count = 0;
    bool enough = room_for(&found, &room, 1, sizeof(*found));
    for (const struct recorded *each = registry->recorded; each != NULL; each = each->next) {
        for (struct ticket *ticket = each->first; ticket != NULL && enough; ticket = ticket->next) {
            if (ticket->state == TICKET_DIRECT || ticket->state == TICKET_SUSPENDED) {
                enough = room_for(&found, &room, *count + 1, sizeof(*found));
                if (enough) {
                    found[(*count)++] = ticket;
                }
            }
        }
    }
    if (!enough) {
        free(found);
        return NULL;
    }
    qsort(found, *count, sizeof(*found), tickets_compare);
    return found;
}

/* The calls of these names, in this order, which is an ascending one. */
void commit_collect_named(struct commit *commit, const uint64_t *names, size_t count)
{
    size_t here = 0;
    size_t at = 0;
    ledger_begin(commit, LEDGER_RESUME);
    struct ticket **tickets = tickets_named(commit->comm->registry, &here);
    if (tickets == NULL) {
        ledger_void(commit, commit_no_memory());
        return;
    }
    tutti_status status = TUTTI_OK;
    for (size_t index = 0; index < count && status == TUTTI_OK; index++) {
        while (at < here && tickets[at]->agreed < names[index]) {
            at++;
        }
        status = call_add(commit, at < here && tickets[at]->agreed == names[index] ? tickets[at] : NULL);
    }
    free(tickets);
    if (status == TUTTI_OK) {
        status = runs_join(commit);
    }
    if (status != TUTTI_OK) {
        ledger_void(commit, status);
    }
}
