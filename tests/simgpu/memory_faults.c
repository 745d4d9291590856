/* SPDX-License-Identifier: Apache-2.0 */
/* A driver call of tutti_alloc that fails on one rank: all ranks hear of it by one sentence, nothing is left, and the same call
 * succeeds afterwards. On the simulated drivers, whose calls can be told to fail (driver/driver.h). */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/footprint.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"

#define WORLD 3

struct scene {
    const char *backend, *call;
    int which; /* the call that fails; those before belong to the communicator's creation */
    struct verdicts *verdicts;
};

static void alloc_with_fault(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    char fault[64];
    void *memory = NULL;
    (void)snprintf(fault, sizeof(fault), "%s@%d=2", scene->call, scene->which);
    if (rank == 1) {
        CHECK(setenv("SIMGPU_FAULTS", fault, 1) == 0, "setenv");
    }
    tutti_comm_options options = {.struct_bytes = sizeof(options),
                                  .backend = scene->backend,
                                  .rank = rank,
                                  .world = world,
                                  .device = rank,
                                  .rendezvous = rendezvous};
    tutti_comm *comm = NULL;
    tutti_status status = tutti_comm_create(&options, &comm);
    if (status != TUTTI_OK) {
        verdict_give(scene->verdicts, rank, TUTTI_ERR_ABORTED); /* the fault came too early */
        return;
    }
    struct footprint before = footprint_take(comm);
    status = tutti_alloc(comm, 5000000, &memory);
    verdict_give(scene->verdicts, rank, status);
    if (status == TUTTI_OK) {
        CHECK_OK(tutti_free(comm, memory));
    }
    struct footprint after = footprint_take(comm);
    footprint_same(&before, &after, fault);
    if (status != TUTTI_OK) {
        CHECK(memory == NULL, "the output was touched");
        CHECK_OK(tutti_alloc(comm, 5000000, &memory));
        CHECK_OK(tutti_free(comm, memory));
    }
    tutti_comm_destroy(comm);
}

int main(void)
{
    static const char *const cuda_calls[] = {
        "cuMemCreate",
        "cuMemAddressReserve",
        "cuMemMap",
        "cuMemSetAccess",
        "cuMemRetainAllocationHandle",
        "cuMemExportToShareableHandle",
        "cuStreamCreate",
        "cuMemsetD32Async",
        "cuMemImportFromShareableHandle",
    };
    static const char *const hip_calls[] = {"hipExtMallocWithFlags", "hipIpcGetMemHandle", "hipIpcOpenMemHandle"};
    const char *backend = getenv("TUTTI_TEST_GPU");
    bool cuda = backend == NULL || strcmp(backend, "cuda") == 0;
    struct scene scene = {cuda ? "cuda" : "hip", NULL, 0, verdicts_create()};
    /* Without this a rank that gets no VMM memory takes another kind, and all is well. */
    CHECK(setenv("TUTTI_GPU_ARENA", cuda ? "vmm" : "auto", 1) == 0, "setenv");
    size_t count = cuda ? sizeof(cuda_calls) / sizeof(cuda_calls[0]) : sizeof(hip_calls) / sizeof(hip_calls[0]);
    for (size_t index = 0; index < count; index++) {
        int failures = 0;
        scene.call = cuda ? cuda_calls[index] : hip_calls[index];
        for (scene.which = 1; scene.which < 12; scene.which++) {
            verdicts_clear(scene.verdicts);
            ranks_run(RANKS_PROCESSES, WORLD, 60, alloc_with_fault, &scene);
            tutti_status status = scene.verdicts->ranks[0].status;
            if (status == TUTTI_OK) {
                break; /* tutti_alloc makes fewer of these calls */
            }
            if (status != TUTTI_ERR_ABORTED) {
                printf("%s@%d: %s\n", scene.call, scene.which, scene.verdicts->ranks[0].sentence);
                verdicts_check(scene.verdicts, WORLD, TUTTI_ERR_DRIVER, "tutti_alloc: rank 1: ");
                failures++;
            }
        }
        CHECK(failures > 0, "tutti_alloc never called %s", scene.call);
    }
    return 0;
}
