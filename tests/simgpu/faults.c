/* SPDX-License-Identifier: Apache-2.0 */
/* Driver calls that fail on purpose (SIMGPU_FAULTS, driver/driver.h): statuses, sentences, and that the next attempt works. */
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/gpu.h"
#include "harness/ranks.h"
#include "harness/verdicts.h"
#include "simgpu/tell.h"

#define COUNT 64

static const char *backend;

/* The vendor's name of a call. */
static const char *call_of(const char *cuda, const char *hip)
{
    return strcmp(backend, "cuda") == 0 ? cuda : hip;
}

static tutti_status create(int rank, int world, const char *rendezvous, tutti_comm **comm)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = backend, .rank = rank, .world = world};
    options.rendezvous = rendezvous;
    options.device = rank;
    options.timeout_ms = 20000;
    return tutti_comm_create(&options, comm);
}

/* In a process of its own, whose driver reads these variables. */
static void apart(const char *name, const char *value, void (*body)(const char *words), const char *words)
{
    (void)fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        (void)alarm(60);
        CHECK(setenv(name, value, 1) == 0, "setenv");
        body(words);
        exit(0);
    }
    int state = 0;
    CHECK(waitpid(child, &state, 0) == child && state == 0, "%s=%s: wait status 0x%x", name, value, (unsigned)state);
}

/* -- one rank ----------------------------------------------------------------------------------------- */

/* Nothing is usable: creation and what `tutti info` shows say why. */
static void unusable(const char *words)
{
    tutti_comm *comm = NULL;
    CHECK_STATUS(TUTTI_ERR_UNSUPPORTED, create(0, 1, NULL, &comm));
    CHECK(comm == NULL && strstr(tutti_last_error(), words) != NULL, "\"%s\" lacks \"%s\"", tutti_last_error(), words);
    tutti_backend_t shown = {.struct_bytes = sizeof(shown)};
    size_t index = 0;
    while (strcmp(shown.name, backend) != 0) {
        CHECK_OK(tutti_backend(index++, &shown));
    }
    CHECK(shown.usable == 0 && strstr(shown.description, words) != NULL, "\"%s\" lacks \"%s\"", shown.description,
          words);
}

static void no_image(const char *words)
{
    tutti_comm *comm = NULL;
    CHECK_STATUS(TUTTI_ERR_UNSUPPORTED, create(0, 1, NULL, &comm));
    CHECK(comm == NULL && strstr(tutti_last_error(), words) != NULL, "\"%s\" lacks \"%s\"", tutti_last_error(), words);
}

/* Calls on a stream of rank 0 of 1: the first fails and says so, the second works. */
static void failing_launch(const char *words)
{
    tutti_comm *comm = NULL;
    CHECK_OK(create(0, 1, NULL, &comm));
    gpu_use(backend, 0);
    unsigned char *memory = gpu_alloc(COUNT * sizeof(float));
    tutti_call call = {.struct_bytes = sizeof(call), .stream = gpu_stream_create()};
    for (int turn = 0; turn < 2; turn++) {
        tutti_status status = tutti_all_reduce(comm, memory, memory, COUNT, TUTTI_F32, TUTTI_SUM, &call);
        CHECK(status == (turn == 0 ? TUTTI_ERR_DRIVER : TUTTI_OK), "call %d: %s", turn, tutti_last_error());
        CHECK(strstr(tutti_last_error(), words) != NULL && strstr(tutti_last_error(), "tutti_all_reduce") != NULL,
              "\"%s\" lacks \"%s\"", tutti_last_error(), words);
    }
    gpu_stream_wait(call.stream);
    CHECK_OK(tutti_comm_status(comm));
    tutti_comm_destroy(comm);
}

/* Another thread does something unsafe while this one captures: the call names itself and its stream. */
static void invalidated(const char *words)
{
    tutti_comm *comm = NULL;
    CHECK_OK(create(0, 1, NULL, &comm));
    gpu_use(backend, 0);
    unsigned char *memory = gpu_alloc(COUNT * sizeof(float));
    tutti_call call = {.struct_bytes = sizeof(call), .stream = gpu_stream_create()};
    char stream[32];
    (void)snprintf(stream, sizeof(stream), "%p", call.stream);
    gpu_capture_begin(call.stream, GPU_CAPTURE_GLOBAL);
    CHECK_STATUS(TUTTI_ERR_CAPTURE, tutti_all_reduce(comm, memory, memory, COUNT, TUTTI_F32, TUTTI_SUM, &call));
    CHECK(strstr(tutti_last_error(), words) != NULL && strstr(tutti_last_error(), stream) != NULL,
          "\"%s\" lacks \"%s\" or %s", tutti_last_error(), words, stream);
    gpu_capture_drop(call.stream);
    CHECK_OK(tutti_all_reduce(comm, memory, memory, COUNT, TUTTI_F32, TUTTI_SUM, &call));
    gpu_stream_wait(call.stream);
    CHECK_OK(tutti_comm_status(comm));
    tutti_comm_destroy(comm);
}

/* A graph cannot be held: that call is refused, and the next one of the same capture holds it. */
static void unheld(const char *words)
{
    tutti_comm *comm = NULL;
    CHECK_OK(create(0, 1, NULL, &comm));
    gpu_use(backend, 0);
    unsigned char *memory = gpu_alloc(2 * COUNT * sizeof(float));
    tutti_call call = {.struct_bytes = sizeof(call), .stream = gpu_stream_create()};
    gpu_capture_begin(call.stream, GPU_CAPTURE_THREAD_LOCAL);
    for (int turn = 0; turn < 2; turn++) {
        tutti_status status =
            tutti_all_reduce(comm, memory, memory + COUNT * sizeof(float), COUNT, TUTTI_F32, TUTTI_SUM, &call);
        CHECK(status == (turn == 0 ? TUTTI_ERR_DRIVER : TUTTI_OK), "call %d: %s", turn, tutti_last_error());
        CHECK(strstr(tutti_last_error(), words) != NULL, "\"%s\" lacks \"%s\"", tutti_last_error(), words);
    }
    gpu_graph graph = gpu_capture_end(call.stream);
    gpu_graph_launch(graph, call.stream);
    gpu_stream_wait(call.stream);
    CHECK(launches().all == 1 && launches().holding == 1, "a graph that nothing holds");
    gpu_graph_destroy(graph);
    tutti_comm_destroy(comm);
}

/* -- two ranks, one of which has the fault ----------------------------------------------------------------- */

struct scene {
    const char *faults, *arena; /* of rank 1; of both */
    struct verdicts *verdicts;
};

static void fails_once(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    tutti_comm *comm = NULL;
    CHECK(setenv("TUTTI_GPU_ARENA", scene->arena, 1) == 0, "setenv");
    CHECK(rank == 0 || setenv("SIMGPU_FAULTS", scene->faults, 1) == 0, "setenv");
    verdict_give(scene->verdicts, rank, create(rank, world, rendezvous, &comm));
    if (comm == NULL) {
        CHECK_OK(create(rank, world, rendezvous, &comm));
    }
    tutti_comm_destroy(comm);
}

static void one_of_two(const char *faults, const char *arena, tutti_status status, const char *words)
{
    struct scene scene = {faults, arena, verdicts_create()};
    ranks_run(RANKS_PROCESSES, 2, 60, fails_once, &scene);
    for (int rank = 0; rank < 2; rank++) {
        if (status == TUTTI_OK) {
            CHECK(scene.verdicts->ranks[rank].status == TUTTI_OK, "%s: %s", faults,
                  scene.verdicts->ranks[rank].sentence);
        } else {
            verdict_check(scene.verdicts, rank, status, "rank 1");
            verdict_check(scene.verdicts, rank, status, words);
        }
    }
}

static void two_ranks(void)
{
    if (strcmp(backend, "hip") == 0) {
        one_of_two("hipExtMallocWithFlags@1=2", "auto", TUTTI_ERR_DRIVER, "hipExtMallocWithFlags");
        one_of_two("hipIpcGetMemHandle@1=1", "auto", TUTTI_ERR_DRIVER, "hipIpcGetMemHandle");
        return;
    }
    one_of_two("cuMemCreate@1=801", "auto", TUTTI_OK, ""); /* plain memory will do */
    one_of_two("cuMemCreate@1=801", "vmm", TUTTI_ERR_DRIVER, "cuMemCreate");
    one_of_two("cuMemCreate@1=2,cuMemAlloc_v2@1=2", "auto", TUTTI_ERR_DRIVER, "CUDA_ERROR_OUT_OF_MEMORY");
    one_of_two("cuMemExportToShareableHandle@1=1", "vmm", TUTTI_ERR_DRIVER, "cuMemExportToShareableHandle");
    one_of_two("cuIpcGetMemHandle@1=1", "ipc", TUTTI_ERR_DRIVER, "cuIpcGetMemHandle");
}

int main(void)
{
    backend = getenv("TUTTI_TEST_GPU") != NULL ? getenv("TUTTI_TEST_GPU") : "cuda";
    const char *library = call_of("TUTTI_CUDA_LIBRARY", "TUTTI_HIP_LIBRARY");
    char faults[96];
    apart(library, "/nowhere/libdriver.so", unusable, call_of("no NVIDIA driver", "no AMD driver"));
    apart("SIMGPU_DEVICES", "0", unusable, call_of("CUDA_ERROR_NO_DEVICE", "hipErrorNoDevice"));
    apart("SIMGPU_VERSION", "10020", unusable, "is of version 10020");
    apart("TUTTI_GPU_IMAGES", "/proc/self/cmdline", no_image, call_of("cuModuleLoadData", "hipModuleLoadData"));
    const char *launch = call_of("cuLaunchKernel", "hipModuleLaunchKernel");
    (void)snprintf(faults, sizeof(faults), "%s@1=1", launch);
    apart("SIMGPU_FAULTS", faults, failing_launch, launch);
    (void)snprintf(faults, sizeof(faults), "%s@1=invalidate", launch);
    apart("SIMGPU_FAULTS", faults, invalidated, "tutti_all_reduce");
    const char *hold = call_of("cuGraphRetainUserObject", "hipGraphRetainUserObject");
    (void)snprintf(faults, sizeof(faults), "%s@1=2", hold);
    apart("SIMGPU_FAULTS", faults, unheld, hold);
    two_ranks();
    return 0;
}
