/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/settings.h"
#include "comm/assemble.h"
#include "comm/mesh.h"
#include "comm/socket.h"

#define TRIAL_MS_MAX 10000u /* ranks begin it together: far more than a machine that works needs */

#define CAUSE_BYTES 76 /* of a sentence that is quoted in another one */

/* How far a rank has come. */
struct share_progress {
    int32_t status;
    char sentence[sizeof(((struct failure *)0)->sentence)];
};

/* What goes over the control pages. */
struct share_word {
    struct share_progress progress;
    int32_t has_descriptor;
    unsigned char bytes[DEVICE_EXPORT_BYTES];
};
_Static_assert(sizeof(struct share_word) <= CONTROL_MAIL_BYTES, "a word fits the mail");

/* How it went: the first trouble by rank, the same on all ranks. */
struct verdict {
    tutti_status status;
    int rank;
    char sentence[sizeof(((struct failure *)0)->sentence)];
};

/* -- agreement -------------------------------------------------------------------------------------------- */

static struct share_progress progress_of(tutti_status status)
{
    struct share_progress progress;
    memset(&progress, 0, sizeof(progress));
    progress.status = status;
    if (status != TUTTI_OK) {
        (void)snprintf(progress.sentence, sizeof(progress.sentence), "%.255s", tutti_last_error());
    }
    return progress;
}

static void verdict_hear(struct verdict *verdict, int rank, const struct share_progress *progress)
{
    if (verdict->status != TUTTI_OK || progress->status == TUTTI_OK) {
        return;
    }
    bool legal = progress->status < 0 && progress->status >= TUTTI_ERR_ABORTED;
    verdict->status = legal ? (tutti_status)progress->status : TUTTI_ERR_SYSTEM;
    verdict->rank = rank;
    (void)snprintf(verdict->sentence, sizeof(verdict->sentence), "%.*s", (int)sizeof(verdict->sentence) - 1,
                   progress->sentence);
}

/* All ranks say how far they have come. Fails only as the communicator does. */
static tutti_status verdict_agree(tutti_comm *comm, tutti_status own, struct verdict *verdict)
{
    struct share_progress mine = progress_of(own);
    struct share_progress *all = calloc((size_t)comm->world, sizeof(*all));
    if (all == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the other ranks' words");
    }
    tutti_status status = comm_exchange(comm, &mine, all, sizeof(mine));
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        verdict_hear(verdict, rank, &all[rank]);
    }
    free(all);
    return status;
}

/* The communicator fails with the verdict, which all its ranks have. */
static tutti_status verdict_fail(tutti_comm *comm, const struct verdict *verdict)
{
    struct failure failure = {verdict->status, verdict->rank, verdict->rank, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d: %.230s", verdict->rank, verdict->sentence);
    comm_fail(comm, &failure);
    return comm_check(comm);
}

/* -- one attempt ------------------------------------------------------------------------------------------ */

static struct memory_export export_none(void)
{
    struct memory_export none;
    memset(&none, 0, sizeof(none));
    none.fd = -1;
    return none;
}

/* This rank's trouble is everybody's. */
static tutti_status share_failed(tutti_comm *comm, tutti_status status)
{
    tutti_status told = comm_check(comm); /* keeps the first failure, which ours may follow from */
    if (told != TUTTI_OK) {
        return told;
    }
    struct failure failure = {status, comm->rank, comm->rank, ""};
    (void)snprintf(failure.sentence, sizeof(failure.sentence), "rank %d: %s", comm->rank, tutti_last_error());
    comm_fail(comm, &failure);
    return comm_check(comm);
}

/* Sends every process its copy of our descriptor, then takes theirs. */
static tutti_status descriptors_pass(tutti_comm *comm, const int *sockets, const struct memory_export *mine,
                                     const struct share_word *words, struct memory_export *all)
{
    struct deadline deadline = deadline_in(comm->exchange_limit_ms, &comm->controls[comm->rank]->failure_state);
    tutti_status status = TUTTI_OK;
    for (int rank = 0; rank < comm->world && status == TUTTI_OK && mine->fd >= 0; rank++) {
        if (sockets[rank] >= 0) {
            status = mesh_pass(sockets[rank], comm->rank, rank, mine->fd);
        }
    }
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        if (sockets[rank] >= 0 && words[rank].has_descriptor != 0) {
            status = mesh_take(sockets[rank], rank, comm->rank, &deadline, &all[rank].fd);
        }
    }
    return status;
}

/* Tells of this rank's memory, or of its trouble, and hears of the others'. Fills all[world]; descriptors in it are the
 * caller's to close. */
static tutti_status exports_exchange(tutti_comm *comm, const int *sockets, tutti_status own,
                                     const struct memory_export *mine, struct memory_export *all,
                                     struct verdict *verdict)
{
    struct share_word word;
    memset(&word, 0, sizeof(word));
    word.progress = progress_of(own);
    word.has_descriptor = mine->fd >= 0;
    memcpy(word.bytes, mine->bytes, sizeof(word.bytes));
    struct share_word *words = calloc((size_t)comm->world, sizeof(*words));
    if (words == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the other ranks' words");
    }
    tutti_status status = comm_exchange(comm, &word, words, sizeof(word));
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        memcpy(all[rank].bytes, words[rank].bytes, sizeof(all[rank].bytes));
        verdict_hear(verdict, rank, &words[rank].progress);
    }
    if (status == TUTTI_OK && verdict->status == TUTTI_OK) {
        status = descriptors_pass(comm, sockets, mine, words, all);
    }
    free(words);
    return status;
}

static tutti_status imports_make(tutti_comm *comm, const struct memory_export *all)
{
    tutti_status status = TUTTI_OK;
    for (int rank = 0; rank < comm->world && status == TUTTI_OK; rank++) {
        status = comm->ops->group_import(comm->group, rank, &all[rank]);
    }
    return status;
}

static uint32_t trial_limit_ms(const tutti_comm *comm)
{
    return comm->exchange_limit_ms < TRIAL_MS_MAX ? comm->exchange_limit_ms : TRIAL_MS_MAX;
}

/* Makes the group and takes it through the steps, until some rank has trouble. Returns other than TUTTI_OK only where ranks
 * cannot even agree any more. */
static tutti_status share_steps(tutti_comm *comm, const int *sockets, struct memory_export *mine,
                                struct memory_export *all, struct verdict *verdict)
{
    tutti_status own = assemble_group(comm);
    if (own == TUTTI_OK) {
        own = comm->ops->group_export(comm->group, mine);
    }
    tutti_status status = exports_exchange(comm, sockets, own, mine, all, verdict);
    if (status != TUTTI_OK || verdict->status != TUTTI_OK) {
        return status;
    }
    status = verdict_agree(comm, imports_make(comm, all), verdict);
    if (status != TUTTI_OK || verdict->status != TUTTI_OK) {
        return status;
    }
    status = verdict_agree(comm, comm->ops->group_probe_begin(comm->group, trial_limit_ms(comm)), verdict);
    if (status != TUTTI_OK || verdict->status != TUTTI_OK) {
        return status;
    }
    return verdict_agree(comm, comm->ops->group_probe_end(comm->group), verdict);
}

static tutti_status share_attempt(tutti_comm *comm, const int *sockets, struct verdict *verdict)
{
    memset(verdict, 0, sizeof(*verdict));
    struct memory_export mine = export_none();
    struct memory_export *all = calloc((size_t)comm->world, sizeof(*all));
    if (all == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the other ranks' memory");
    }
    for (int rank = 0; rank < comm->world; rank++) {
        all[rank] = export_none();
    }
    tutti_status status = share_steps(comm, sockets, &mine, all, verdict);
    socket_close(&mine.fd);
    for (int rank = 0; rank < comm->world; rank++) {
        socket_close(&all[rank].fd);
    }
    free(all);
    return status;
}

/* -- the vendor's collectives instead --------------------------------------------------------------------- */

tutti_status share_choose(tutti_comm *comm)
{
    if (comm->ops->vendor == NULL || strcmp(settings_text(SETTING_GPU_VENDOR), "always") != 0) {
        return TUTTI_OK;
    }
    if (comm->one_thread_drives_all) {
        return error_set(TUTTI_ERR_UNSUPPORTED,
                         "TUTTI_GPU_VENDOR=always, but the vendor's collectives need a thread for each rank: "
                         "tutti_comm_create_all cannot use them");
    }
    comm->ops = comm->ops->vendor;
    (void)snprintf(comm->backend_reason, sizeof(comm->backend_reason),
                   "%s with the vendor's collectives: TUTTI_GPU_VENDOR=always", comm->ops->name);
    return TUTTI_OK;
}

/* A pure function of what all ranks have agreed on, the driver's version among it. */
static bool vendor_may(const tutti_comm *comm, struct verdict *verdict)
{
    bool curable = verdict->status == TUTTI_ERR_UNSUPPORTED || verdict->status == TUTTI_ERR_DRIVER;
    if (!curable || comm->ops->vendor == NULL || (comm->flags & TUTTI_COMM_ALLOW_VENDOR) == 0 ||
        strcmp(settings_text(SETTING_GPU_VENDOR), "never") == 0) {
        return false;
    }
    struct device_description description;
    memset(&description, 0, sizeof(description));
    comm->ops->describe(comm->device, &description);
    if (description.caution != NULL) {
        char why[sizeof(verdict->sentence)];
        (void)snprintf(why, sizeof(why),
                       "%.60s; the vendor's collectives stand in with TUTTI_GPU_VENDOR=always only: %s",
                       verdict->sentence, description.caution);
        memcpy(verdict->sentence, why, sizeof(why));
    }
    return description.caution == NULL;
}

/* Takes the other backend for what this one cannot do. */
static tutti_status vendor_attempt(tutti_comm *comm, const int *sockets, struct verdict *verdict)
{
    const struct verdict cause = *verdict;
    assemble_group_undo(comm);
    comm->ops = comm->ops->vendor;
    (void)snprintf(comm->backend_reason, sizeof(comm->backend_reason),
                   "%s with the vendor's collectives, because of rank %d: %.190s", comm->ops->name, cause.rank,
                   cause.sentence);
    tutti_status status = share_attempt(comm, sockets, verdict);
    if (status == TUTTI_OK && verdict->status != TUTTI_OK) {
        char why[sizeof(verdict->sentence)];
        (void)snprintf(why, sizeof(why), "%.*s (the vendor's collectives were to stand in, because of rank %d: %.*s)",
                       CAUSE_BYTES, verdict->sentence, cause.rank, CAUSE_BYTES, cause.sentence);
        memcpy(verdict->sentence, why, sizeof(why));
    }
    return status;
}

tutti_status share_memory(tutti_comm *comm, const int *sockets)
{
    if (!device_shares(comm->ops)) {
        return TUTTI_OK;
    }
    struct verdict verdict;
    tutti_status status = share_attempt(comm, sockets, &verdict);
    if (status == TUTTI_OK && vendor_may(comm, &verdict)) {
        status = vendor_attempt(comm, sockets, &verdict);
    }
    if (status != TUTTI_OK) {
        return share_failed(comm, status);
    }
    return verdict.status == TUTTI_OK ? TUTTI_OK : verdict_fail(comm, &verdict);
}

/* -- one thread for all ranks ------------------------------------------------------------------------------ */

/* Each step for all ranks before the next: no step waits for a rank that has not had its turn. */
static tutti_status share_steps_all(tutti_comm *const *comms, int world, struct memory_export *all)
{
    tutti_status status = TUTTI_OK;
    int rank = 0;
    for (rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = assemble_group(comms[rank]);
    }
    for (rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = comms[rank]->ops->group_export(comms[rank]->group, &all[rank]);
        socket_close(&all[rank].fd); /* ranks of one process need none */
    }
    for (rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = imports_make(comms[rank], all);
    }
    for (rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = comms[rank]->ops->group_probe_begin(comms[rank]->group, trial_limit_ms(comms[rank]));
    }
    for (rank = 0; rank < world && status == TUTTI_OK; rank++) {
        status = comms[rank]->ops->group_probe_end(comms[rank]->group);
    }
    return status;
}

tutti_status share_memory_all(tutti_comm *const *comms, int world)
{
    if (!device_shares(comms[0]->ops)) {
        return TUTTI_OK;
    }
    struct memory_export *all = calloc((size_t)world, sizeof(*all));
    if (all == NULL) {
        return error_set(TUTTI_ERR_SYSTEM, "out of memory for the ranks' memory");
    }
    for (int rank = 0; rank < world; rank++) {
        all[rank] = export_none();
    }
    tutti_status status = share_steps_all(comms, world, all);
    free(all);
    return status == TUTTI_OK ? TUTTI_OK : share_failed(comms[0], status);
}
