/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - memory that all ranks map, made and freed together.
 *
 *   allocate   1  make the own part                       a failure is told in the next step
 *              2  exchange: what for, how large, its name  all ranks come to the same conclusion
 *              3  pass descriptors, map the peers' parts
 *              4  exchange: how that went                  all ranks have everything, or all undo what they did
 *   free       1  find it, let this rank's calls end       2  exchange: which one   3  unmap the peers' parts
 *              4  exchange: nobody maps it any more        5  free the own part
 *
 * Undoing a step that others may have finished takes one exchange more: a plain allocation that is freed while a peer maps it
 * takes the mapping with it. If the communicator fails on the way, nobody can be sure of anybody; then the memory stays until the
 * communicator is destroyed, whose rules know what to do with it (device.h, group_keep).
 */
#include "comm/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "comm/commit.h"
#include "comm/descriptor.h"
#include "comm/mesh.h"
#include "comm/socket.h"
#include "memory/policy.h"
#include "memory/segment.h"
#include "memory/symmetric.h"

enum verb { VERB_ALLOC = 1, VERB_FREE = 2 };

/* What a rank says of itself in the exchange. */
struct memory_word {
    int32_t verb;
    int32_t status;
    int32_t has_descriptor;
    int32_t reserved;
    uint64_t number; /* alloc: bytes; free: the serial number */
    struct memory_name name;
    char sentence[MESH_SENTENCE_BYTES];
};
_Static_assert(sizeof(struct memory_word) <= CONTROL_MAIL_BYTES, "a word fits the mail");

/* One rank's part of one call. */
struct transaction {
    tutti_comm *comm;
    struct symmetric *symmetric; /* alloc: being made; free: found */
    struct memory_word mine;
    int fd;
    struct memory_word *words; /* [world] */
    int descriptors[TUTTI_WORLD_MAX];
};

static const char *verb_name(int32_t verb)
{
    return verb == VERB_ALLOC ? "tutti_alloc" : verb == VERB_FREE ? "tutti_free" : "something else";
}

static void note(struct transaction *transaction, tutti_status status)
{
    transaction->mine.status = status;
    if (status != TUTTI_OK) {
        (void)snprintf(transaction->mine.sentence, sizeof(transaction->mine.sentence), "%s", tutti_last_error());
    }
}

/* -- what the ranks' words come to: the same on all of them --------------------------------------------------------- */

static tutti_status judge_trouble(const tutti_comm *comm, struct memory_word *words)
{
    for (int rank = 0; rank < comm->world; rank++) {
        struct memory_word *word = &words[rank];
        word->sentence[sizeof(word->sentence) - 1] = 0;
        if (word->status != TUTTI_OK) {
            bool legal = word->status < 0 && word->status >= TUTTI_ERR_ABORTED;
            return error_set(legal ? (tutti_status)word->status : TUTTI_ERR_SYSTEM, "%s: rank %d: %s",
                             verb_name(word->verb), rank, word->sentence);
        }
    }
    return TUTTI_OK;
}

static tutti_status judge(const tutti_comm *comm, struct memory_word *words)
{
    for (int rank = 1; rank < comm->world; rank++) {
        if (words[rank].verb != words[0].verb) {
            return error_set(TUTTI_ERR_MISMATCH, "rank 0 calls %s, rank %d calls %s", verb_name(words[0].verb), rank,
                             verb_name(words[rank].verb));
        }
    }
    tutti_status status = judge_trouble(comm, words);
    for (int rank = 1; rank < comm->world && status == TUTTI_OK; rank++) {
        if (words[rank].number == words[0].number) {
            continue;
        }
        status = words[0].verb == VERB_ALLOC
                     ? error_set(TUTTI_ERR_MISMATCH,
                                 "tutti_alloc: rank 0 asks for %" PRIu64 " bytes, rank %d for %" PRIu64
                                 ": all ranks ask for the same",
                                 words[0].number, rank, words[rank].number)
                     : error_set(TUTTI_ERR_MISMATCH,
                                 "tutti_free: rank 0 frees its allocation %" PRIu64 ", rank %d its allocation %" PRIu64
                                 ": all ranks free the same one",
                                 words[0].number, rank, words[rank].number);
    }
    return status;
}

/* -- the pieces of an allocation ------------------------------------------------------------------------------------ */

static tutti_status part_make(struct transaction *transaction, size_t bytes, bool has_place)
{
    tutti_comm *comm = transaction->comm;
    if (!has_place || bytes == 0 || bytes > SIZE_MAX / 2) {
        return error_set(TUTTI_ERR_ARGUMENT, has_place ? "%zu bytes cannot be allocated" : "pointer is NULL", bytes);
    }
    return symmetric_create(comm->ops, comm->device, bytes, &transaction->symmetric, &transaction->mine.name,
                            &transaction->fd);
}

static void alloc_begin(struct transaction *transaction, size_t bytes, bool has_place)
{
    transaction->mine.verb = VERB_ALLOC;
    transaction->mine.number = bytes;
    note(transaction, part_make(transaction, bytes, has_place));
    transaction->mine.has_descriptor = transaction->fd >= 0;
}

/* The same on all ranks: nothing has been said to any yet. */
static tutti_status call_check(tutti_comm *comm, int32_t verb)
{
    tutti_status status = comm_check(comm);
    if (status == TUTTI_OK && comm->ops->memory_create == NULL) {
        status = error_set(TUTTI_ERR_UNSUPPORTED, "%s: the ranks of this communicator share no memory: %.200s",
                           verb_name(verb), comm->backend_reason);
    }
    return status;
}

/* Takes them all, also once one has failed: nobody else comes for them. */
static tutti_status descriptors_take(struct transaction *transaction)
{
    tutti_comm *comm = transaction->comm;
    struct deadline deadline = deadline_in(comm->exchange_limit_ms, &comm->controls[comm->rank]->failure_state);
    tutti_status first = TUTTI_OK;
    char sentence[ERROR_SENTENCE_BYTES] = "";
    for (int rank = 0; rank < comm->world; rank++) {
        if (!descriptor_reaches(comm, rank) || transaction->words[rank].has_descriptor == 0) {
            continue;
        }
        tutti_status status = descriptor_take(comm, rank, 0, &deadline, &transaction->descriptors[rank]);
        if (first == TUTTI_OK && status != TUTTI_OK) {
            first = status;
            (void)snprintf(sentence, sizeof(sentence), "%s", tutti_last_error());
        }
    }
    return first == TUTTI_OK ? TUTTI_OK : error_set(first, "%s", sentence);
}

static tutti_status parts_map(struct transaction *transaction)
{
    tutti_comm *comm = transaction->comm;
    tutti_status status = TUTTI_OK;
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        if (rank != comm->rank) {
            status = mapping_acquire(comm->ops, comm->device, &transaction->words[rank].name,
                                     transaction->descriptors[rank], &transaction->symmetric->peers[rank]);
        }
    }
    return status;
}

/* -- keeping book ---------------------------------------------------------------------------------------------------- */

/* The counters are read by any thread. */
static void enter(struct transaction *transaction)
{
    tutti_comm *comm = transaction->comm;
    struct symmetric *symmetric = transaction->symmetric;
    symmetric->next = comm->symmetric;
    comm->symmetric = symmetric;
    (void)atomic_fetch_add(&comm->symmetric_count, 1);
    (void)atomic_fetch_add(&comm->symmetric_bytes, symmetric->own.bytes);
    (void)atomic_fetch_add(&comm->symmetric_mapped_bytes, symmetric_mapped_bytes(symmetric));
    (void)atomic_fetch_add(&comm->allocs, 1);
    transaction->symmetric = NULL;
}

static void leave(struct transaction *transaction, uint64_t mapped_bytes)
{
    tutti_comm *comm = transaction->comm;
    struct symmetric **link = &comm->symmetric;
    while (*link != transaction->symmetric) {
        link = &(*link)->next;
    }
    *link = transaction->symmetric->next;
    (void)atomic_fetch_sub(&comm->symmetric_count, 1);
    (void)atomic_fetch_sub(&comm->symmetric_bytes, transaction->symmetric->own.bytes);
    (void)atomic_fetch_sub(&comm->symmetric_mapped_bytes, mapped_bytes);
    (void)atomic_fetch_add(&comm->frees, 1);
}

/* Peers may have mapped it, and cannot be asked any more: it waits for the communicator's end. */
static void abandon(struct transaction *transaction)
{
    if (transaction->symmetric != NULL) {
        transaction->symmetric->next = transaction->comm->abandoned;
        transaction->comm->abandoned = transaction->symmetric;
        transaction->symmetric = NULL;
    }
}

/* -- transactions ---------------------------------------------------------------------------------------------------- */

static struct transaction *transaction_begin(tutti_comm *comm)
{
    struct transaction *transaction = calloc(1, sizeof(*transaction));
    struct memory_word *words = calloc((size_t)comm->world, sizeof(*words));
    if (transaction == NULL || words == NULL) {
        free(transaction);
        free(words);
        return NULL;
    }
    transaction->comm = comm;
    transaction->words = words;
    transaction->fd = -1;
    memset(transaction->descriptors, -1, sizeof(transaction->descriptors)); /* every byte 0xff: every int -1 */
    return transaction;
}

/* Frees an allocation that did not come about, too. */
static void transaction_end(struct transaction *transaction)
{
    socket_close(&transaction->fd);
    for (int rank = 0; rank < TUTTI_WORLD_MAX; rank++) {
        socket_close(&transaction->descriptors[rank]);
    }
    if (transaction->mine.verb == VERB_ALLOC) {
        symmetric_free(transaction->symmetric);
    }
    free(transaction->words);
    free(transaction);
}

/* The communicator's own failure, if it has failed, is told apart from what the ranks agree on. */
static tutti_status words_exchange(struct transaction *transaction, bool *failed)
{
    tutti_comm *comm = transaction->comm;
    tutti_status status = comm_exchange(comm, &transaction->mine, transaction->words, sizeof(transaction->mine));
    *failed = status != TUTTI_OK;
    return *failed ? status : judge(comm, transaction->words);
}

static tutti_status alloc_run(struct transaction *transaction)
{
    bool failed = false;
    tutti_status status = words_exchange(transaction, &failed);
    if (status != TUTTI_OK) {
        if (failed) {
            abandon(transaction); /* a peer may have got the word */
        }
        return status;
    }
    /* Every rank sends its descriptor before it waits for one. */
    status = transaction->fd >= 0 ? descriptor_send(transaction->comm, 0, transaction->fd, "tutti_alloc") : TUTTI_OK;
    if (status != TUTTI_OK) {
        abandon(transaction);
        return status;
    }
    status = descriptors_take(transaction);
    note(transaction, status == TUTTI_OK ? parts_map(transaction) : status);
    status = words_exchange(transaction, &failed);
    if (status != TUTTI_OK && !failed) {
        char sentence[ERROR_SENTENCE_BYTES];
        (void)snprintf(sentence, sizeof(sentence), "%s", tutti_last_error());
        symmetric_close(transaction->symmetric);
        failed = comm_exchange(transaction->comm, &transaction->mine, transaction->words, sizeof(transaction->mine)) !=
                 TUTTI_OK;
        (void)error_set(status, "%s", sentence);
    }
    if (failed) {
        abandon(transaction);
    }
    return status;
}

tutti_status comm_alloc(tutti_comm *comm, size_t bytes, void **pointer)
{
    tutti_status status = call_check(comm, VERB_ALLOC);
    if (status != TUTTI_OK) {
        return status;
    }
    if (comm->one_thread_drives_all) {
        return error_set(TUTTI_ERR_UNSUPPORTED,
                         "tutti_alloc would wait for ranks that this thread has yet to call: use tutti_alloc_all");
    }
    struct transaction *transaction = transaction_begin(comm);
    if (transaction == NULL) {
        return comm_give_up(comm, verb_name(VERB_ALLOC));
    }
    alloc_begin(transaction, bytes, pointer != NULL);
    status = alloc_run(transaction);
    if (status == TUTTI_OK && pointer != NULL) {
        transaction->symmetric->serial = ++comm->symmetric_serial;
        *pointer = (void *)(uintptr_t)transaction->symmetric->own.address;
        enter(transaction);
    }
    transaction_end(transaction);
    return status;
}

/* -- freeing --------------------------------------------------------------------------------------------------------- */

static void free_begin(struct transaction *transaction, const void *pointer)
{
    tutti_comm *comm = transaction->comm;
    struct symmetric *found = comm->symmetric;
    while (found != NULL && found->own.address != (uint64_t)(uintptr_t)pointer) {
        found = found->next;
    }
    transaction->mine.verb = VERB_FREE;
    transaction->symmetric = found;
    transaction->mine.number = found != NULL ? found->serial : 0;
    note(transaction, found != NULL ? TUTTI_OK
                                    : error_set(TUTTI_ERR_ARGUMENT,
                                                "%p is not what tutti_alloc returned for this communicator, or it has "
                                                "been freed",
                                                pointer));
}

/* Committed calls that use it: their entries name the peers' parts. */
static bool uses_symmetric(const struct ticket *ticket, const void *user)
{
    const struct symmetric *symmetric = user;
    const void *const buffers[] = {ticket->operation.src, ticket->operation.dst};
    for (size_t index = 0; index < sizeof(buffers) / sizeof(buffers[0]); index++) {
        uint64_t address = (uint64_t)(uintptr_t)buffers[index];
        if (address >= symmetric->own.address && address - symmetric->own.address < symmetric->own.bytes) {
            return true;
        }
    }
    return false;
}

/* Fails only with the communicator: then nothing may be unmapped. */
static tutti_status free_withdraw(struct transaction *transaction)
{
    tutti_comm *comm = transaction->comm;
    tutti_status status = commit_withdraw(comm, uses_symmetric, transaction->symmetric, TICKET_STAGED);
    bool withdrawn =
        status == TUTTI_OK || status == TUTTI_ERR_ARGUMENT; /* the calls' other buffer has changed: not ours to tell */
    if (!withdrawn) {
        struct failure failure = {status, comm->rank, comm->rank, ""};
        (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d: tutti_free: %.200s", comm->rank,
                       tutti_last_error());
        comm_fail(comm, &failure);
    }
    return withdrawn ? TUTTI_OK : comm_check(comm);
}

static void free_finish(struct transaction *transaction, uint64_t mapped_bytes)
{
    leave(transaction, mapped_bytes);
    symmetric_free(transaction->symmetric);
    transaction->symmetric = NULL;
}

tutti_status comm_free(tutti_comm *comm, void *pointer)
{
    bool failed = false;
    tutti_status status = call_check(comm, VERB_FREE);
    if (status != TUTTI_OK) {
        return status;
    }
    if (comm->one_thread_drives_all) {
        return error_set(TUTTI_ERR_UNSUPPORTED,
                         "tutti_free would wait for ranks that this thread has yet to call: use tutti_free_all");
    }
    struct transaction *transaction = transaction_begin(comm);
    if (transaction == NULL) {
        return comm_give_up(comm, verb_name(VERB_FREE));
    }
    free_begin(transaction, pointer);
    comm->ops->group_settle(comm->group);
    status = words_exchange(transaction, &failed);
    if (status == TUTTI_OK) {
        uint64_t mapped_bytes = symmetric_mapped_bytes(transaction->symmetric);
        status = free_withdraw(transaction);
        if (status == TUTTI_OK) {
            symmetric_close(transaction->symmetric);
            status = words_exchange(transaction, &failed);
        }
        if (status == TUTTI_OK) {
            free_finish(transaction, mapped_bytes);
        }
    }
    transaction_end(transaction);
    return status;
}

/* -- one thread that drives all ranks ---------------------------------------------------------------------------------- */

static tutti_status family_check(int32_t verb, tutti_comm *const *comms, int world)
{
    for (int rank = 0; rank < world; rank++) {
        tutti_status status = call_check(comms[rank], verb);
        if (status != TUTTI_OK) {
            return status;
        }
        if (!comm_is_of_family(comms[rank], comms[0], rank, world)) {
            return error_set(TUTTI_ERR_ARGUMENT,
                             "%s_all: comms[%d] is not rank %d of %d that one tutti_comm_create_all made",
                             verb_name(verb), rank, rank, world);
        }
    }
    return TUTTI_OK;
}

static void transactions_end(struct transaction **transactions, int world)
{
    for (int rank = 0; rank < world; rank++) {
        if (transactions[rank] != NULL && transactions[rank]->mine.verb == VERB_ALLOC &&
            transactions[rank]->symmetric != NULL) {
            symmetric_close(transactions[rank]->symmetric);
        }
    }
    for (int rank = 0; rank < world; rank++) {
        if (transactions[rank] != NULL) {
            transaction_end(transactions[rank]);
        }
    }
}

static bool transactions_begin(tutti_comm *const *comms, int world, struct transaction **transactions)
{
    bool all = true;
    for (int rank = 0; rank < world && all; rank++) {
        transactions[rank] = transaction_begin(comms[rank]);
        all = transactions[rank] != NULL;
    }
    if (!all) {
        (void)error_set(TUTTI_ERR_SYSTEM, "out of memory for a call of %d ranks", world);
        transactions_end(transactions, world);
    }
    return all;
}

/* Each rank gets the others' words without any exchange. */
static tutti_status transactions_judge(const tutti_comm *comm, struct transaction **transactions)
{
    struct memory_word *words = NULL;
    for (int rank = 0; rank < comm->world && transactions[rank] != NULL; rank++) {
        words = transactions[rank]->words;
        for (int other = 0; other < comm->world && transactions[other] != NULL; other++) {
            words[other] = transactions[other]->mine;
        }
    }
    return words != NULL ? judge(comm, words) : TUTTI_OK;
}

tutti_status comm_alloc_all(tutti_comm *const *comms, int world, size_t bytes, void **pointers)
{
    struct transaction *transactions[TUTTI_WORLD_MAX] = {NULL};
    tutti_status status = family_check(VERB_ALLOC, comms, world);
    if (status != TUTTI_OK) {
        return status;
    }
    if (!transactions_begin(comms, world, transactions)) {
        return TUTTI_ERR_SYSTEM;
    }
    for (int rank = 0; rank < world; rank++) {
        alloc_begin(transactions[rank], bytes, true);
    }
    status = transactions_judge(comms[0], transactions);
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = parts_map(transactions[rank]);
    }
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        transactions[rank]->symmetric->serial = ++comms[rank]->symmetric_serial;
        pointers[rank] = (void *)(uintptr_t)transactions[rank]->symmetric->own.address;
        enter(transactions[rank]);
    }
    transactions_end(transactions, world);
    return status;
}

tutti_status comm_free_all(tutti_comm *const *comms, int world, void *const *pointers)
{
    struct transaction *transactions[TUTTI_WORLD_MAX] = {NULL};
    uint64_t mapped_bytes[TUTTI_WORLD_MAX];
    tutti_status status = family_check(VERB_FREE, comms, world);
    if (status != TUTTI_OK) {
        return status;
    }
    if (!transactions_begin(comms, world, transactions)) {
        return TUTTI_ERR_SYSTEM;
    }
    for (int rank = 0; rank < world; rank++) {
        free_begin(transactions[rank], pointers[rank]);
    }
    status = transactions_judge(comms[0], transactions);
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        comms[rank]->ops->group_settle(comms[rank]->group);
        status = free_withdraw(transactions[rank]);
    }
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        mapped_bytes[rank] = symmetric_mapped_bytes(transactions[rank]->symmetric);
        symmetric_close(transactions[rank]->symmetric);
    }
    for (int rank = 0; rank < world && status == TUTTI_OK; rank++) {
        free_finish(transactions[rank], mapped_bytes[rank]);
    }
    transactions_end(transactions, world);
    return status;
}

void memory_leave(tutti_comm *comm)
{
    struct symmetric **end = &comm->symmetric;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = comm->abandoned;
    if (comm->symmetric != NULL) {
        comm->ops->group_keep(comm->group, comm->symmetric);
    }
    comm->symmetric = NULL;
    comm->abandoned = NULL;
}

/* -- asking ------------------------------------------------------------------------------------------------------------ */

bool memory_place(const tutti_comm *comm, const void *pointer, size_t bytes, struct symmetric_place *place)
{
    uint64_t address = (uint64_t)(uintptr_t)pointer;
    const struct symmetric *each = comm->symmetric;
    while (each != NULL && (address < each->own.address || address - each->own.address > each->bytes ||
                            bytes > each->bytes - (address - each->own.address))) {
        each = each->next;
    }
    if (each == NULL) {
        return false;
    }
    place->serial = each->serial;
    place->offset = address - each->own.address;
    for (int rank = 0; rank < comm->world; rank++) {
        place->parts[rank] = rank == comm->rank ? each->own.address : each->peers[rank]->block.address;
    }
    return true;
}

uint64_t memory_part(const tutti_comm *comm, uint64_t serial, int rank, uint64_t offset)
{
    const struct symmetric *each = comm->symmetric;
    while (each != NULL && each->serial != serial) {
        each = each->next;
    }
    if (each == NULL || offset > each->bytes) {
        return 0;
    }
    return (rank == comm->rank ? each->own.address : each->peers[rank]->block.address) + offset;
}

tutti_status comm_peer_pointer(tutti_comm *comm, const void *pointer, int rank, void **peer)
{
    int whose = -1;
    uint64_t address = (uint64_t)(uintptr_t)pointer;
    const struct symmetric *found = symmetric_find(comm->symmetric, address, comm->rank, &whose);
    if (found == NULL || whose != comm->rank) {
        return error_set(TUTTI_ERR_ARGUMENT, "tutti_peer_pointer: %p is not memory that tutti_alloc gave this rank",
                         pointer);
    }
    uint64_t base = rank == comm->rank ? found->own.address : found->peers[rank]->block.address;
    *peer = (void *)(uintptr_t)(base + (address - found->own.address));
    return TUTTI_OK;
}

static void class_symmetric(const tutti_comm *comm, const struct symmetric *found, int whose, uint64_t address,
                            tutti_memory_class_t *out)
{
    const struct memory_block *block = whose == comm->rank ? &found->own : &found->peers[whose]->block;
    out->kind = TUTTI_MEMORY_SYMMETRIC;
    out->shareable = 1;
    out->base = block->address;
    out->bytes = block->bytes;
    out->offset = address - block->address;
    (void)snprintf(out->reason, sizeof(out->reason),
                   "rank %d's part of what tutti_alloc made; every rank has mapped it", whose);
}

tutti_status comm_memory_class(tutti_comm *comm, const void *pointer, tutti_memory_class_t *out)
{
    struct memory_facts facts;
    struct policy_verdict verdict;
    struct policy_terms terms = {comm->world, comm->processes, comm->flags, comm->ordinal,
                                 comm->ops->memory_create != NULL};
    uint64_t address = (uint64_t)(uintptr_t)pointer;
    int whose = -1;
    tutti_status status = comm->ops->group_look(comm->group, address, &facts);
    if (status != TUTTI_OK) {
        return status;
    }
    out->device = facts.ordinal;
    const struct symmetric *found = symmetric_find(comm->symmetric, address, comm->rank, &whose);
    if (found != NULL) {
        class_symmetric(comm, found, whose, address, out);
        return TUTTI_OK;
    }
    policy_decide(&facts, &terms, &verdict);
    out->kind = verdict.kind;
    out->shareable = verdict.shareable;
    out->base = facts.start;
    out->bytes = facts.bytes;
    out->offset = facts.bytes != 0 ? address - facts.start : 0;
    (void)snprintf(out->reason, sizeof(out->reason), "%s", verdict.reason);
    return TUTTI_OK;
}
