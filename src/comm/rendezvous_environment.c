/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What launchers tell their processes. Ranks of one launcher's job meet at a place named by the job's identity, because
 * all of them run on one machine as one user, and the port that a launcher announces is taken by its own
 * store.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/settings.h"
#include "comm/rendezvous.h"

struct launcher {
    const char *name;
    const char *rank, *world;  /* both, or it is not this launcher */
    const char *local_world;   /* how many ranks run on this machine; NULL: it does not say */
    const char *machines;      /* how many machines; NULL: it does not say */
    const char *needed;        /* without it the process was not really started by it; NULL: nothing */
    const char *identities[6]; /* whatever is set of these tells jobs apart */
    const char *advice;        /* for the error when `needed` is missing */
};

/* Inner launchers first: torchrun may run inside a Slurm step, never the other way round. */
static const struct launcher launchers[] = {
    {"torchrun",
     "RANK",
     "WORLD_SIZE",
     "LOCAL_WORLD_SIZE",
     NULL,
     "MASTER_PORT",
     {"TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"},
     "set MASTER_ADDR and MASTER_PORT as torchrun does"},
    {"Open MPI",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_SIZE",
     NULL,
     NULL,
     {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "OMPI_MCA_orte_hnp_uri"},
     ""},
    {"MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", NULL, NULL, {"PMI_JOBID", "PMI_PORT", "HYDRA_JOBID"}, ""},
    {"Slurm",
     "SLURM_PROCID",
     "SLURM_NTASKS",
     NULL,
     "SLURM_STEP_NUM_NODES",
     "SLURM_STEP_ID",
     {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_CLUSTER_NAME"},
     "start the ranks with srun"},
};
#define LAUNCHER_COUNT (sizeof(launchers) / sizeof(launchers[0]))

/* An empty variable counts as unset. */
static const char *variable(const char *name)
{
    const char *value = name != NULL ? getenv(name) : NULL;
    return value != NULL && value[0] != 0 ? value : NULL;
}

/* What tells apart jobs of a launcher that names none: the process that started the ranks, and when it was born itself. It is the
 * one at the other end of the connection that the launcher left open for its ranks, or else the parent; between the
 * launcher and a rank there may be a shell. */
static void starter_identity(char *text, size_t bytes)
{
    char path[64];
    char stat_text[1024];
    struct ucred peer = {0, 0, 0};
    socklen_t peer_bytes = sizeof(peer);
    const char *connection = variable("PMI_FD");
    bool told = connection != NULL &&
                getsockopt((int)strtol(connection, NULL, 10), SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) == 0;
    long starter = told && peer.pid > 0 ? (long)peer.pid : (long)getppid();
    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", starter);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, stat_text, sizeof(stat_text) - 1) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    stat_text[got > 0 ? got : 0] = 0;
    /* Field 22, counted from behind the command's closing parenthesis, which may itself hold anything. */
    const char *field = strrchr(stat_text, ')');
    for (int skip = 0; field != NULL && skip < 20; skip++) {
        field = strchr(field + 1, ' ');
    }
    int length = field != NULL ? (int)strcspn(field + 1, " ") : 0;
    (void)snprintf(text, bytes, "started by %ld born %.*s", starter, length, field != NULL ? field + 1 : "");
}

static void launcher_job(const struct launcher *launcher, char *job, size_t bytes)
{
    size_t used = (size_t)snprintf(job, bytes, "%s job", launcher->name);
    bool told = false;
    for (size_t index = 0; index < 6 && launcher->identities[index] != NULL; index++) {
        const char *value = variable(launcher->identities[index]);
        if (value != NULL && used < bytes) {
            used += (size_t)snprintf(job + used, bytes - used, " %.40s", value);
            told = true;
        }
    }
    if (!told && used + 1 < bytes) {
        job[used++] = ' ';
        starter_identity(job + used, bytes - used);
    }
}

static bool launcher_complete(const struct launcher *launcher)
{
    return variable(launcher->rank) != NULL && variable(launcher->world) != NULL &&
           (launcher->needed == NULL || variable(launcher->needed) != NULL);
}

void rendezvous_job(char *job, size_t bytes)
{
    job[0] = 0;
    for (size_t index = 0; index < LAUNCHER_COUNT; index++) {
        if (launcher_complete(&launchers[index])) {
            launcher_job(&launchers[index], job, bytes);
            return;
        }
    }
}

static tutti_status number_read(const char *name, int *number)
{
    const char *value = variable(name);
    char *end = NULL;
    long parsed = strtol(value, &end, 10);
    if (*end != 0 || value[0] < '0' || value[0] > '9' || parsed > 1000000) {
        return error_set(TUTTI_ERR_ARGUMENT, "rendezvous \"env\": %s=%.40s is not a number", name, value);
    }
    *number = (int)parsed;
    return TUTTI_OK;
}

/* The names of what is set of a launcher without being complete. False if nothing is. */
static bool incomplete_describe(const struct launcher *launcher, char *text, size_t bytes)
{
    const char *names[] = {launcher->rank, launcher->world, launcher->needed};
    char set[128] = "";
    char unset[128] = "";
    for (size_t index = 0; index < 3; index++) {
        if (names[index] == NULL) {
            continue;
        }
        char *list = variable(names[index]) != NULL ? set : unset;
        size_t used = strlen(list);
        (void)snprintf(list + used, sizeof(set) - used, "%s%s", used > 0 ? ", " : "", names[index]);
    }
    /* What is `needed` alone is no sign of a launcher. */
    if (variable(launcher->rank) == NULL && variable(launcher->world) == NULL) {
        return false;
    }
    (void)snprintf(text, bytes, "%s set but not %s%s%s", set, unset, launcher->advice[0] != 0 ? ": " : "",
                   launcher->advice);
    return true;
}

static tutti_status nothing_found(void)
{
    for (size_t index = 0; index < LAUNCHER_COUNT; index++) {
        char text[300];
        if (incomplete_describe(&launchers[index], text, sizeof(text))) {
            return error_set(TUTTI_ERR_ARGUMENT, "rendezvous \"env\": %s variables are incomplete: %s",
                             launchers[index].name, text);
        }
    }
    return error_set(TUTTI_ERR_ARGUMENT,
                     "rendezvous \"env\": no launcher's variables are set; start the ranks with "
                     "torchrun, mpirun or srun, or set TUTTI_RANK, TUTTI_WORLD and TUTTI_RENDEZVOUS");
}

static tutti_status machines_check(const struct launcher *launcher, int world)
{
    int number = 0;
    if (variable(launcher->local_world) != NULL) {
        tutti_status status = number_read(launcher->local_world, &number);
        if (status != TUTTI_OK) {
            return status;
        }
        if (number != world) {
            return error_set(
                TUTTI_ERR_UNSUPPORTED,
                "%s=%d but %s=%d: a communicator joins ranks of one machine; make one for each machine with "
                "TUTTI_RANK, TUTTI_WORLD and TUTTI_RENDEZVOUS",
                launcher->world, world, launcher->local_world, number);
        }
    }
    if (variable(launcher->machines) != NULL) {
        tutti_status status = number_read(launcher->machines, &number);
        if (status != TUTTI_OK) {
            return status;
        }
        if (number != 1) {
            return error_set(
                TUTTI_ERR_UNSUPPORTED,
                "%s=%d: a communicator joins ranks of one machine; make one for each machine with TUTTI_RANK, "
                "TUTTI_WORLD and TUTTI_RENDEZVOUS",
                launcher->machines, number);
        }
    }
    return TUTTI_OK;
}

/* RANK and WORLD_SIZE are names that a shell may hold for other reasons: where torchrun itself did not set them, they must not
 * contradict a real launcher. */
static tutti_status contradiction_check(const struct launcher *chosen, int rank, int world)
{
    if (chosen != &launchers[0] || variable("TORCHELASTIC_RUN_ID") != NULL) {
        return TUTTI_OK;
    }
    for (size_t index = 1; index < LAUNCHER_COUNT; index++) {
        const struct launcher *other = &launchers[index];
        int other_rank = 0;
        int other_world = 0;
        if (!launcher_complete(other) || number_read(other->rank, &other_rank) != TUTTI_OK ||
            number_read(other->world, &other_world) != TUTTI_OK) {
            continue;
        }
        if (other_world > 1 && (other_rank != rank || other_world != world)) {
            return error_set(TUTTI_ERR_ARGUMENT,
                             "rendezvous \"env\": RANK=%d and WORLD_SIZE=%d contradict %s=%d and %s=%d: unset one pair",
                             rank, world, other->rank, other_rank, other->world, other_world);
        }
    }
    return TUTTI_OK;
}

static tutti_status launcher_read(const struct launcher *launcher, struct rendezvous *rendezvous)
{
    tutti_status status = number_read(launcher->rank, &rendezvous->rank);
    if (status == TUTTI_OK) {
        status = number_read(launcher->world, &rendezvous->world);
    }
    if (status == TUTTI_OK) {
        status = machines_check(launcher, rendezvous->world);
    }
    if (status == TUTTI_OK) {
        status = contradiction_check(launcher, rendezvous->rank, rendezvous->world);
    }
    /* The number that srun gives to a batch script, which is one process and not the job's ranks. */
    if (status == TUTTI_OK && strcmp(launcher->name, "Slurm") == 0 &&
        strcmp(variable("SLURM_STEP_ID"), "4294967291") == 0) {
        status = error_set(TUTTI_ERR_ARGUMENT,
                           "rendezvous \"env\": this is a Slurm batch script and not a step of it: start "
                           "the ranks with srun");
    }
    if (status != TUTTI_OK) {
        return status;
    }
    uint8_t identity[TOKEN_BYTES];
    char digits[TOKEN_TEXT_BYTES];
    launcher_job(launcher, rendezvous->text, sizeof(rendezvous->text));
    token_derive(rendezvous->text, identity);
    token_print(identity, digits);
    rendezvous->kind = RENDEZVOUS_ABSTRACT;
    (void)snprintf(rendezvous->name, sizeof(rendezvous->name), "tutti-job-%u-%s", (unsigned)geteuid(), digits);
    return TUTTI_OK;
}

/* TUTTI_RANK and TUTTI_WORLD come as a pair, and before every launcher's. */
static tutti_status own_read(struct rendezvous *rendezvous)
{
    if (!settings_given(SETTING_RANK) || !settings_given(SETTING_WORLD)) {
        return error_set(TUTTI_ERR_ARGUMENT, "rendezvous \"env\": %s is set but not %s",
                         settings_given(SETTING_RANK) ? "TUTTI_RANK" : "TUTTI_WORLD",
                         settings_given(SETTING_RANK) ? "TUTTI_WORLD" : "TUTTI_RANK");
    }
    rendezvous->rank = (int)settings_number(SETTING_RANK);
    rendezvous->world = (int)settings_number(SETTING_WORLD);
    if (!settings_given(SETTING_RENDEZVOUS) && rendezvous->world > 1) {
        return error_set(TUTTI_ERR_ARGUMENT, "rendezvous \"env\": TUTTI_RANK and TUTTI_WORLD are set but not "
                                             "TUTTI_RENDEZVOUS (unix:/dir or tcp:host:port)");
    }
    return TUTTI_OK;
}

tutti_status rendezvous_environment(struct rendezvous *rendezvous)
{
    /* Only what says where to meet: with any other bad setting this rank still goes there and tells. */
    static const enum setting needed[] = {SETTING_RANK, SETTING_WORLD, SETTING_RENDEZVOUS, SETTING_SESSION_TOKEN};
    tutti_status status = TUTTI_OK;
    for (size_t index = 0; index < sizeof(needed) / sizeof(needed[0]) && status == TUTTI_OK; index++) {
        status = settings_check_one(needed[index]);
    }
    if (status != TUTTI_OK) {
        return status;
    }
    (void)snprintf(rendezvous->text, sizeof(rendezvous->text), "TUTTI_RANK and TUTTI_WORLD");
    const struct launcher *launcher = NULL;
    for (size_t index = 0; index < LAUNCHER_COUNT && launcher == NULL; index++) {
        launcher = launcher_complete(&launchers[index]) ? &launchers[index] : NULL;
    }
    if (settings_given(SETTING_RANK) || settings_given(SETTING_WORLD)) {
        status = own_read(rendezvous);
    } else if (launcher != NULL) {
        status = launcher_read(launcher, rendezvous);
    } else {
        status = nothing_found();
    }
    if (status == TUTTI_OK && settings_given(SETTING_RENDEZVOUS)) {
        char job[RENDEZVOUS_TEXT_BYTES];
        rendezvous_job(job, sizeof(job));
        status = rendezvous_place(settings_text(SETTING_RENDEZVOUS), job, rendezvous);
    }
    return status;
}
