/* SPDX-License-Identifier: Apache-2.0 */
/* What launchers' variables mean: rank, world, and a meeting place that all ranks of a job name alike and no other job
 * does; incomplete, contradictory and many-machine environments are refused by the variables' names. */
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/rendezvous.h"
#include "harness/check.h"

struct outcome {
    tutti_status status;
    struct rendezvous rendezvous;
    char sentence[512];
};

static struct outcome *outcome;

/* Resolves in a process that has only these variables ("NAME=value ...", up to 12), as a launcher's child. */
static const struct rendezvous *resolve(const char *variables)
{
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        char text[1024];
        CHECK(clearenv() == 0, "clearenv");
        (void)snprintf(text, sizeof(text), "%s", variables);
        for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
            char *value = strchr(word, '=');
            *value++ = 0;
            CHECK(setenv(word, value, 1) == 0, "setenv");
        }
        memset(outcome, 0, sizeof(*outcome));
        tutti_comm_options options = {.struct_bytes = sizeof(options), .rendezvous = "env"};
        outcome->status = rendezvous_resolve(&options, &outcome->rendezvous);
        (void)snprintf(outcome->sentence, sizeof(outcome->sentence), "%s", tutti_last_error());
        _exit(0);
    }
    int state = 0;
    CHECK(waitpid(child, &state, 0) == child && state == 0, "the child ended with 0x%x", (unsigned)state);
    return &outcome->rendezvous;
}

static void check_good(const char *variables, int rank, int world)
{
    const struct rendezvous *found = resolve(variables);
    CHECK(outcome->status == TUTTI_OK, "%s: %s", variables, outcome->sentence);
    CHECK(found->rank == rank && found->world == world, "%s: rank %d of %d", variables, found->rank, found->world);
}

static void check_bad(const char *variables, tutti_status status, const char *part)
{
    (void)resolve(variables);
    CHECK(outcome->status == status, "%s: %s (%s)", variables, tutti_status_name(outcome->status), outcome->sentence);
    CHECK(strstr(outcome->sentence, part) != NULL, "%s: \"%s\" lacks \"%s\"", variables, outcome->sentence, part);
}

/* Two environments meet at one place, or do not. */
static void check_meet(const char *one, const char *other, int meet)
{
    struct rendezvous first = *resolve(one);
    CHECK(outcome->status == TUTTI_OK, "%s: %s", one, outcome->sentence);
    struct rendezvous second = *resolve(other);
    CHECK(outcome->status == TUTTI_OK, "%s: %s", other, outcome->sentence);
    int same = first.kind == second.kind && strcmp(first.name, second.name) == 0 &&
               strcmp(first.host, second.host) == 0 && strcmp(first.port, second.port) == 0 &&
               token_equal(first.token, second.token);
    CHECK(same == meet, "%s and %s %s", one, other, same ? "meet" : "do not meet");
}

#define TORCH(rank, port)                                                                                              \
    "RANK=" #rank " WORLD_SIZE=4 LOCAL_RANK=" #rank " LOCAL_WORLD_SIZE=4 MASTER_ADDR=127.0.0.1 MASTER_PORT=" #port     \
    " TORCHELASTIC_RUN_ID=none TORCHELASTIC_RESTART_COUNT=0"
#define OMPI(rank, job)                                                                                                \
    "OMPI_COMM_WORLD_RANK=" #rank " OMPI_COMM_WORLD_SIZE=3 OMPI_COMM_WORLD_LOCAL_SIZE=3 PMIX_NAMESPACE=" #job
#define SLURM(rank, step)                                                                                              \
    "SLURM_PROCID=" #rank " SLURM_NTASKS=2 SLURM_JOB_ID=77 SLURM_STEP_ID=" #step " SLURM_STEP_NUM_NODES=1"

static void test_good(void)
{
    check_good("TUTTI_RANK=2 TUTTI_WORLD=3 TUTTI_RENDEZVOUS=unix:/tmp", 2, 3);
    check_good("TUTTI_RANK=0 TUTTI_WORLD=1", 0, 1);
    check_good(TORCH(3, 29500), 3, 4);
    check_good("RANK=1 WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=1234", 1, 2);
    check_good(OMPI(1, 5), 1, 3);
    check_good("PMI_RANK=1 PMI_SIZE=2", 1, 2);
    check_good(SLURM(1, 0), 1, 2);
    check_good(OMPI(2, 5) " TUTTI_RENDEZVOUS=unix:/tmp", 2, 3);
    /* Inner launchers win over outer ones, and TUTTI_* over all. */
    check_good(TORCH(3, 29500) " " SLURM(1, 0), 3, 4);
    check_good(OMPI(2, 5) " " SLURM(1, 0), 2, 3);
    check_good("TUTTI_RANK=1 TUTTI_WORLD=2 TUTTI_RENDEZVOUS=unix:/tmp " TORCH(3, 29500), 1, 2);
}

static void test_meeting(void)
{
    check_meet(TORCH(0, 29500), TORCH(3, 29500), 1);
    check_meet(TORCH(0, 29500), TORCH(0, 29501), 0);
    check_meet(OMPI(0, 123), OMPI(2, 123), 1);
    check_meet(OMPI(0, 123), OMPI(2, 124), 0);
    check_meet(SLURM(0, 0), SLURM(1, 0), 1);
    check_meet(SLURM(0, 0), SLURM(1, 1), 0);
    /* MPICH names no job: siblings meet, by the process that started them. */
    check_meet("PMI_RANK=0 PMI_SIZE=2", "PMI_RANK=1 PMI_SIZE=2", 1);
    check_meet("PMI_RANK=0 PMI_SIZE=2 PMI_PORT=a:1", "PMI_RANK=1 PMI_SIZE=2 PMI_PORT=a:2", 0);
    /* A restarted torchrun job must not meet ranks of the one before. */
    check_meet(TORCH(0, 29500),
               "RANK=1 WORLD_SIZE=4 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 TORCHELASTIC_RUN_ID=none "
               "TORCHELASTIC_RESTART_COUNT=1",
               0);
    /* Over TCP the launcher's job is the token. */
    check_meet(OMPI(0, 123) " TUTTI_RENDEZVOUS=tcp:localhost:4000", OMPI(1, 123) " TUTTI_RENDEZVOUS=tcp:localhost:4000",
               1);
    check_meet(OMPI(0, 123) " TUTTI_RENDEZVOUS=tcp:localhost:4000", OMPI(1, 124) " TUTTI_RENDEZVOUS=tcp:localhost:4000",
               0);
}

static void test_bad(void)
{
    check_bad("PATH=/bin", TUTTI_ERR_ARGUMENT, "no launcher's variables");
    check_bad("TUTTI_RANK=1", TUTTI_ERR_ARGUMENT, "TUTTI_RANK is set but not TUTTI_WORLD");
    check_bad("TUTTI_WORLD=2 TUTTI_RENDEZVOUS=unix:/tmp", TUTTI_ERR_ARGUMENT, "TUTTI_WORLD is set but not TUTTI_RANK");
    check_bad("TUTTI_RANK=1 TUTTI_WORLD=2", TUTTI_ERR_ARGUMENT, "not TUTTI_RENDEZVOUS");
    check_bad("TUTTI_RANK=2 TUTTI_WORLD=2 TUTTI_RENDEZVOUS=unix:/tmp", TUTTI_ERR_ARGUMENT, "rank 2");
    check_bad("TUTTI_RANK=x TUTTI_WORLD=2 TUTTI_RENDEZVOUS=unix:/tmp", TUTTI_ERR_ARGUMENT, "TUTTI_RANK=x");
    check_bad("TUTTI_RANK=0 TUTTI_WORLD=65 TUTTI_RENDEZVOUS=unix:/tmp", TUTTI_ERR_ARGUMENT, "TUTTI_WORLD=65");
    check_bad("TUTTI_RANK=0 TUTTI_WORLD=2 TUTTI_RENDEZVOUS=unix:/nowhere/at/all", TUTTI_ERR_ARGUMENT,
              "/nowhere/at/all");
    check_bad("TUTTI_RANK=0 TUTTI_WORLD=2 TUTTI_RENDEZVOUS=ftp:x", TUTTI_ERR_ARGUMENT, "none of unix:/dir");
    check_bad("TUTTI_RANK=0 TUTTI_WORLD=2 TUTTI_RENDEZVOUS=tcp:x:99999", TUTTI_ERR_ARGUMENT, "port");
    check_bad("TUTTI_RANK=0 TUTTI_WORLD=2 TUTTI_RENDEZVOUS=tcp:localhost:80", TUTTI_ERR_ARGUMENT,
              "TUTTI_SESSION_TOKEN");
    check_bad("TUTTI_RANK=0 TUTTI_WORLD=2 TUTTI_RENDEZVOUS=tcp:localhost:80 TUTTI_SESSION_TOKEN=12", TUTTI_ERR_ARGUMENT,
              "32 hex digits");
    check_bad("RANK=1", TUTTI_ERR_ARGUMENT, "RANK set but not WORLD_SIZE");
    check_bad("RANK=1 WORLD_SIZE=2", TUTTI_ERR_ARGUMENT, "MASTER_PORT");
    check_bad("OMPI_COMM_WORLD_RANK=1", TUTTI_ERR_ARGUMENT, "OMPI_COMM_WORLD_SIZE");
    check_bad("SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_JOB_ID=1", TUTTI_ERR_ARGUMENT, "srun");
    check_bad("SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_JOB_ID=1 SLURM_STEP_ID=4294967291", TUTTI_ERR_ARGUMENT, "srun");
    check_bad("OMPI_COMM_WORLD_RANK=one OMPI_COMM_WORLD_SIZE=2", TUTTI_ERR_ARGUMENT, "OMPI_COMM_WORLD_RANK=one");
    check_bad("OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=2", TUTTI_ERR_ARGUMENT, "rank 5");
    check_bad("RANK=1 WORLD_SIZE=2 MASTER_PORT=1 " OMPI(0, 5), TUTTI_ERR_ARGUMENT, "contradict");
    check_bad("RANK=9 WORLD_SIZE=16 LOCAL_WORLD_SIZE=8 MASTER_PORT=1", TUTTI_ERR_UNSUPPORTED, "LOCAL_WORLD_SIZE=8");
    check_bad("OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_SIZE=2", TUTTI_ERR_UNSUPPORTED,
              "one machine");
    check_bad("SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_STEP_ID=0 SLURM_STEP_NUM_NODES=2", TUTTI_ERR_UNSUPPORTED,
              "SLURM_STEP_NUM_NODES=2");
}

int main(void)
{
    outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(outcome != MAP_FAILED, "mmap");
    test_good();
    test_meeting();
    test_bad();
    return 0;
}
