/* SPDX-License-Identifier: Apache-2.0 */
/* Rendezvous "env", end to end: ranks that have nothing but a launcher's variables find each other, several times over. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/ranks.h"

struct launcher {
    const char *name;
    /* "NAME=value" words; R stands for the rank, W for the world, J for a number of the job, D for ranks_run's place. */
    const char *variables;
};

static const struct launcher launchers[] = {
    {"TUTTI_*, a directory", "TUTTI_RANK=R TUTTI_WORLD=W TUTTI_RENDEZVOUS=D"},
    {"torchrun", "RANK=R WORLD_SIZE=W LOCAL_RANK=R LOCAL_WORLD_SIZE=W MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 "
                 "TORCHELASTIC_RUN_ID=J TORCHELASTIC_RESTART_COUNT=0"},
    {"torchrun's four", "RANK=R WORLD_SIZE=W MASTER_ADDR=127.0.0.1 MASTER_PORT=J"},
    {"Open MPI 5",
     "OMPI_COMM_WORLD_RANK=R OMPI_COMM_WORLD_SIZE=W OMPI_COMM_WORLD_LOCAL_SIZE=W PMIX_NAMESPACE=prterun-J@1"},
    {"Open MPI 4",
     "OMPI_COMM_WORLD_RANK=R OMPI_COMM_WORLD_SIZE=W OMPI_COMM_WORLD_LOCAL_SIZE=W OMPI_MCA_ess_base_jobid=J"},
    {"MPICH", "PMI_RANK=R PMI_SIZE=W MPI_LOCALNRANKS=W MPI_LOCALRANKID=R"},
    {"Slurm", "SLURM_PROCID=R SLURM_NTASKS=W SLURM_JOB_ID=J SLURM_STEP_ID=0 SLURM_STEP_NUM_NODES=1"},
    {"Slurm with a place", "SLURM_PROCID=R SLURM_NTASKS=W SLURM_JOB_ID=J SLURM_STEP_ID=0 TUTTI_RENDEZVOUS=D"},
};

static void variables_set(const char *variables, int rank, int world, const char *place)
{
    char text[1024];
    CHECK(clearenv() == 0, "clearenv");
    (void)snprintf(text, sizeof(text), "%s", variables);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        char *value = strchr(word, '=');
        char filled[256] = "";
        *value++ = 0;
        for (; *value != 0; value++) {
            size_t used = strlen(filled);
            if (*value == 'R' || *value == 'W' || *value == 'J') {
                (void)snprintf(filled + used, sizeof(filled) - used, "%d",
                               *value == 'R'   ? rank
                               : *value == 'W' ? world
                                               : (int)getppid());
            } else {
                (void)snprintf(filled + used, sizeof(filled) - used, "%.*s", *value == 'D' ? 200 : 1,
                               *value == 'D' ? place : value);
            }
        }
        CHECK(setenv(word, filled, 1) == 0, "setenv");
    }
}

static void meet(int rank, int world, const char *rendezvous, void *user)
{
    const struct launcher *launcher = user;
    variables_set(launcher->variables, rank, world, rendezvous);
    tutti_comm_options options = {.struct_bytes = sizeof(options), .rendezvous = "env", .timeout_ms = 20000};
    for (int round = 0; round < 3; round++) {
        tutti_comm *comm = NULL;
        CHECK_OK(tutti_comm_create(&options, &comm));
        tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
        CHECK_OK(tutti_comm_info(comm, &info));
        CHECK(info.rank == rank && info.world == world && info.processes == world, "%s: rank %d of %d", launcher->name,
              info.rank, info.world);
        float value = (float)(rank + round);
        CHECK_OK(tutti_all_reduce(comm, &value, &value, 1, TUTTI_F32, TUTTI_SUM, NULL));
        CHECK(value == (float)(world * (world - 1) / 2 + world * round), "%s: %f", launcher->name, (double)value);
        tutti_comm_destroy(comm);
        options.rank = round == 0 ? rank : 0; /* said twice, and not at all */
        options.world = round == 0 ? world : 0;
    }
    options.world = world + 1;
    tutti_comm *comm = NULL;
    CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_create(&options, &comm));
    CHECK(strstr(tutti_last_error(), "the environment says rank") != NULL, "%s", tutti_last_error());
}

int main(void)
{
    for (size_t index = 0; index < sizeof(launchers) / sizeof(launchers[0]); index++) {
        struct launcher launcher = launchers[index];
        printf("%s\n", launcher.name);
        (void)fflush(stdout);
        ranks_run(RANKS_PROCESSES, 3, 60, meet, &launcher);
    }
    return 0;
}
