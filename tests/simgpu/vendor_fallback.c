/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks whose GPUs cannot share memory, or for which there is no kernel: the vendor's collectives take over where the program
 * allows it, on all ranks, and say why; or creation fails on all ranks with the reason. And how a communicator of the vendor's
 * fails: errors of the vendor's, ranks that do not come, that differ, that die, that abort.
 *
 * The driver and the vendor's library are simulated where TUTTI_CUDA_LIBRARY is set; the environment tells what is wrong on which
 * rank. On real devices, with the real NCCL, what needs no such help is tested.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/gpu.h"
#include "harness/ranks.h"
#include "harness/values.h"
#include "tutti/runner.h"

#define WORLD_MAX 3
#define COUNT 1000
#define BROKEN_EXPORT "cuMemExportToShareableHandle=1,cuIpcGetMemHandle=1"

struct scene {
    const char *name;
    uint32_t flags;
    int odd;               /* the rank with these variables; -1: all */
    const char *variables; /* "NAME=value NAME=value" */
    tutti_status status;   /* of creation */
    const char *sentence;  /* it says this; or backend_reason does */
    const char *also;
};

static const struct scene scenes[] = {
    {"an export that fails, allowed", TUTTI_COMM_ALLOW_VENDOR, 1, "SIMGPU_FAULTS=" BROKEN_EXPORT, TUTTI_OK,
     "rank 1: ", "cuMemExportToShareableHandle"},
    {"an import that fails, allowed", TUTTI_COMM_ALLOW_VENDOR, 2, "SIMGPU_FAULTS=cuMemImportFromShareableHandle=1",
     TUTTI_OK, "rank 2: ", "cannot map the memory of rank 0"},
    {"a trial that fails, allowed", TUTTI_COMM_ALLOW_VENDOR, -1, "SIMGPU_FAULTS=cuLaunchKernel=801", TUTTI_OK,
     "rank 0: ", "cuLaunchKernel"},
    {"no kernel for the device, allowed", TUTTI_COMM_ALLOW_VENDOR, 1, "TUTTI_GPU_IMAGES=/proc/self/cmdline", TUTTI_OK,
     "rank 1: ", "the kernels in"},
    {"nothing wrong, allowed", TUTTI_COMM_ALLOW_VENDOR, -1, "", TUTTI_OK, "", NULL},
    {"an export that fails, not allowed", 0, 1, "SIMGPU_FAULTS=" BROKEN_EXPORT, TUTTI_ERR_DRIVER,
     "rank 1: ", "cuMemExportToShareableHandle"},
    {"no kernel for the device, not allowed", 0, 1, "TUTTI_GPU_IMAGES=/proc/self/cmdline", TUTTI_ERR_UNSUPPORTED,
     "rank 1: ", "the kernels in"},
    {"allowed on one rank", TUTTI_COMM_ALLOW_VENDOR, 1, "TEST_NO_FLAG=1", TUTTI_ERR_MISMATCH, "options->flags", NULL},
    {"allowed, and forbidden by the setting", TUTTI_COMM_ALLOW_VENDOR, -1,
     "SIMGPU_FAULTS=" BROKEN_EXPORT " TUTTI_GPU_VENDOR=never", TUTTI_ERR_DRIVER,
     "rank 0: ", "cuMemExportToShareableHandle"},
    {"the setting on one rank", TUTTI_COMM_ALLOW_VENDOR, 1, "TUTTI_GPU_VENDOR=never", TUTTI_ERR_MISMATCH,
     "TUTTI_GPU_VENDOR", NULL},
    {"asked for by the setting", 0, -1, "TUTTI_GPU_VENDOR=always", TUTTI_OK, "TUTTI_GPU_VENDOR=always", NULL},
    {"no library on one rank", 0, -1, "TUTTI_GPU_VENDOR=always TEST_NO_LIBRARY=1", TUTTI_ERR_UNSUPPORTED,
     "rank 1: no NCCL", "TUTTI_NCCL_LIBRARY"},
    {"no library, and no way without", TUTTI_COMM_ALLOW_VENDOR, -1, "SIMGPU_FAULTS=" BROKEN_EXPORT " TEST_NO_LIBRARY=1",
     TUTTI_ERR_UNSUPPORTED, "rank 1: no NCCL", "because of rank 0: cuMemExport"},
    {"the vendor cannot begin", 0, -1, "TUTTI_GPU_VENDOR=always SIMNCCL_FAULTS=ncclGetUniqueId=2", TUTTI_ERR_DRIVER,
     "rank 0: NCCL, ncclGetUniqueId: unhandled system error", NULL},
    {"the vendor cannot begin on one rank", TUTTI_COMM_ALLOW_VENDOR, 1,
     "SIMGPU_FAULTS=" BROKEN_EXPORT " SIMNCCL_FAULTS=ncclCommInitRankConfig=2", TUTTI_ERR_DRIVER,
     "rank 1: NCCL, ncclCommInitRankConfig", "stand in, because of rank 1"},
};

/* -- one rank -------------------------------------------------------------------------------------------- */

static void variables_set(const char *variables)
{
    char text[512];
    char *rest = NULL;
    (void)snprintf(text, sizeof(text), "%s", variables);
    for (char *pair = strtok_r(text, " ", &rest); pair != NULL; pair = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(pair, '=');
        CHECK(equals != NULL, "'%s'", pair);
        *equals = 0;
        CHECK(setenv(pair, equals + 1, 1) == 0, "setenv");
    }
}

static tutti_status create(int rank, int world, const char *rendezvous, uint32_t flags, uint32_t timeout_ms,
                           tutti_comm **comm)
{
    const char *without = getenv("TEST_NO_LIBRARY");
    if (without != NULL && atoi(without) == rank) {
        CHECK(setenv("TUTTI_NCCL_LIBRARY", "/nowhere/libnccl.so.2", 1) == 0, "setenv");
    }
    tutti_comm_options options;
    memset(&options, 0, sizeof(options));
    options.struct_bytes = sizeof(options);
    options.backend = "cuda";
    options.rank = rank;
    options.world = world;
    options.device = rank;
    options.rendezvous = rendezvous;
    options.lanes = 2;
    options.timeout_ms = timeout_ms;
    options.flags = getenv("TEST_NO_FLAG") != NULL ? 0 : flags;
    return tutti_comm_create(&options, comm);
}

/* A sum on a stream of its own, of numbers that change with the call. */
static void sum_check(tutti_comm *comm, int rank, int world, uint64_t call_number)
{
    float host[COUNT];
    float *device = (float *)(void *)gpu_alloc(sizeof(host));
    tutti_stream stream = gpu_stream_create();
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream, .lane = (uint32_t)(call_number & 1)};
    values_fill(host, TUTTI_F32, call_number, rank, 0, COUNT);
    gpu_upload(device, host, sizeof(host), stream);
    CHECK_OK(tutti_all_reduce(comm, device, device, COUNT, TUTTI_F32, TUTTI_SUM, &call));
    gpu_download(host, device, sizeof(host), stream);
    CHECK_OK(tutti_comm_status(comm));
    CHECK(values_check(host, TUTTI_F32, TUTTI_SUM, call_number, world, 0, COUNT), "call %d", (int)call_number);
    gpu_stream_destroy(stream);
    gpu_free(device);
}

static void says(const char *text, const char *what)
{
    CHECK(what == NULL || strstr(text, what) != NULL, "\"%s\" does not say \"%s\"", text, what);
}

/* Pointers are what they are, but nothing can be shared. */
static void memory_check(tutti_comm *comm)
{
    void *symmetric = NULL;
    unsigned char *plain = gpu_alloc(4096);
    tutti_memory_class_t class = {.struct_bytes = sizeof(class)};
    CHECK_OK(tutti_memory_class(comm, plain + 16, &class));
    CHECK(class.offset == 16 && class.shareable == 0, "%s", class.reason);
    CHECK_STATUS(TUTTI_ERR_UNSUPPORTED, tutti_alloc(comm, 4096, &symmetric));
    says(tutti_last_error(), "the vendor's collectives");
    gpu_free(plain);
}

/* Also a subgroup has the vendor's collectives. */
static void subgroup_check(tutti_comm *comm, int rank, int world)
{
    tutti_comm *child = NULL;
    CHECK_OK(tutti_comm_split(comm, rank == 0 ? -1 : 7, 0, &child));
    if (child != NULL) {
        tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
        CHECK_OK(tutti_comm_info(child, &info));
        CHECK(info.deterministic == 0 && info.world == world - 1, "a subgroup: %s", info.backend_reason);
        sum_check(child, rank - 1, world - 1, 40);
        tutti_comm_destroy(child);
    }
}

/* A runner's padding needs our kernels, whoever does the collectives. */
static void runner_check(tutti_comm *comm, bool kernels)
{
    tutti_runner *runner = NULL;
    CHECK_STATUS(kernels ? TUTTI_OK : TUTTI_ERR_UNSUPPORTED, tutti_runner_create(comm, NULL, &runner));
    CHECK(kernels == (runner != NULL), "a runner that is half made");
    if (!kernels) {
        says(tutti_last_error(), "zeroes padding by a kernel");
        says(tutti_last_error(), "the kernels in");
    }
    tutti_runner_destroy(runner);
}

static void create_and_look(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    tutti_comm *comm = NULL;
    if (scene->odd < 0 || scene->odd == rank) {
        variables_set(scene->variables);
    }
    gpu_use("cuda", rank);
    values_integers();
    CHECK_STATUS(scene->status, create(rank, world, rendezvous, scene->flags, 20000, &comm));
    if (scene->status != TUTTI_OK) {
        says(tutti_last_error(), scene->sentence);
        says(tutti_last_error(), scene->also);
        return;
    }
    bool vendor = scene->sentence[0] != 0;
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    tutti_plan_t plan = {.struct_bytes = sizeof(plan)};
    CHECK_OK(tutti_comm_info(comm, &info));
    CHECK_OK(tutti_plan(comm, TUTTI_ALL_REDUCE, COUNT, TUTTI_F32, &plan));
    CHECK(info.deterministic == !vendor && strcmp(info.backend, "cuda") == 0, "%s", info.backend_reason);
    CHECK((strcmp(plan.protocol, "nccl") == 0) == vendor, "%s", plan.protocol);
    if (vendor) {
        says(info.backend_reason, scene->sentence);
        says(info.backend_reason, scene->also);
        says(plan.reason, scene->sentence);
        says(plan.reason, "NCCL 2.");
        memory_check(comm);
        runner_check(comm, scene->odd != rank || strstr(scene->variables, "TUTTI_GPU_IMAGES") == NULL);
        subgroup_check(comm, rank, world);
    }
    for (uint64_t call = 1; call < 6; call++) {
        sum_check(comm, rank, world, call);
    }
    tutti_comm_destroy(comm);
}

/* -- communicators that fail ------------------------------------------------------------------------------ */

/* What the ranks tell each other beside the communicator. */
struct board {
    _Atomic int waiting, seen;
};

static void pause_ms(long ms)
{
    const struct timespec pause = {0, ms * 1000000};
    (void)nanosleep(&pause, NULL);
}

/* A sum that never gets its peers; then the device is free again. `expected`: what the communicator says. */
static void sum_in_vain(tutti_comm *comm, struct board *board, tutti_status expected, const char *sentence)
{
    float *device = (float *)(void *)gpu_alloc(sizeof(float) * COUNT);
    tutti_stream stream = gpu_stream_create();
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    tutti_status status = tutti_all_reduce(comm, device, device, COUNT, TUTTI_F32, TUTTI_SUM, &call);
    CHECK(status == TUTTI_OK || status == expected, "%s", tutti_last_error());
    board->waiting++;
    while (tutti_comm_status(comm) == TUTTI_OK) {
        pause_ms(1);
    }
    CHECK_STATUS(expected, tutti_comm_status(comm));
    says(tutti_last_error(), sentence);
    gpu_stream_wait(stream); /* the status has ended what waited there */
    CHECK_STATUS(expected, tutti_all_reduce(comm, device, device, COUNT, TUTTI_F32, TUTTI_SUM, &call));
    board->seen++;
    gpu_stream_destroy(stream);
    gpu_free(device);
}

static void await(const _Atomic int *word, int value)
{
    while (*word < value) {
        pause_ms(1);
    }
}

static tutti_comm *vendor_comm(int rank, int world, const char *rendezvous, uint32_t timeout_ms)
{
    tutti_comm *comm = NULL;
    variables_set("TUTTI_GPU_VENDOR=always");
    gpu_use("cuda", rank);
    CHECK_OK(create(rank, world, rendezvous, 0, timeout_ms, &comm));
    return comm;
}

/* Rank 1 makes no call until the others have given up. */
static void rank_late(int rank, int world, const char *rendezvous, void *user)
{
    struct board *board = user;
    bool simulated = getenv("TUTTI_CUDA_LIBRARY") != NULL; /* the real NCCL needs most of a second to begin */
    tutti_comm *comm = vendor_comm(rank, world, rendezvous, simulated ? 200 : 4000);
    if (rank == 1) {
        await(&board->seen, world - 1);
        CHECK_STATUS(TUTTI_ERR_TIMEOUT, tutti_comm_status(comm));
    } else {
        sum_in_vain(comm, board, TUTTI_ERR_TIMEOUT, "for rank 1 in call 1 of lane 0; rank 1 has made no call yet");
    }
    tutti_comm_destroy(comm);
}

/* Rank 0 aborts while the others wait. */
static void rank_aborts(int rank, int world, const char *rendezvous, void *user)
{
    struct board *board = user;
    tutti_comm *comm = vendor_comm(rank, world, rendezvous, 60000);
    if (rank == 0) {
        await(&board->waiting, world - 1);
        CHECK_OK(tutti_comm_abort(comm));
        await(&board->seen, world - 1);
    } else {
        sum_in_vain(comm, board, TUTTI_ERR_ABORTED, "rank 0");
    }
    tutti_comm_destroy(comm);
}

/* The last rank exits while the others wait for it. */
static void rank_dies(int rank, int world, const char *rendezvous, void *user)
{
    struct board *board = user;
    tutti_comm *comm = vendor_comm(rank, world, rendezvous, 60000);
    if (rank == world - 1) {
        await(&board->waiting, world - 1);
        _exit(0);
    }
    sum_in_vain(comm, board, TUTTI_ERR_PEER_LOST, "is gone");
    tutti_comm_destroy(comm);
}

/* The vendor's library notes an error on one rank. */
static void rank_errs(int rank, int world, const char *rendezvous, void *user)
{
    struct board *board = user;
    tutti_comm *comm = vendor_comm(rank, world, rendezvous, 60000);
    if (rank == 1) {
        await(&board->waiting, world - 1);
        CHECK(setenv("SIMNCCL_FAULTS", "async=2", 1) == 0, "setenv");
    }
    sum_in_vain(comm, board, TUTTI_ERR_DRIVER, "unhandled system error");
    tutti_comm_destroy(comm);
}

/* A graph that is still there when its communicator goes, and one that was there when it failed. */
static void rank_leaves_graph(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = vendor_comm(rank, world, rendezvous, 60000);
    float *device = (float *)(void *)gpu_alloc(sizeof(float) * COUNT);
    tutti_stream stream = gpu_stream_create();
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    gpu_capture_begin(stream, GPU_CAPTURE_THREAD_LOCAL);
    CHECK_OK(tutti_all_reduce(comm, device, device, COUNT, TUTTI_F32, TUTTI_SUM, &call));
    gpu_graph graph = gpu_capture_end(stream);
    gpu_graph_launch(graph, stream);
    gpu_stream_wait(stream);
    CHECK_OK(tutti_comm_status(comm));
    tutti_comm_destroy(comm);
    gpu_graph_destroy(graph);
    comm = NULL;
    CHECK_OK(create(rank, world, rendezvous, 0, 60000, &comm)); /* and sweeps the first one up */
    values_integers();
    sum_check(comm, rank, world, 9);
    tutti_comm_destroy(comm);
    gpu_stream_destroy(stream);
    gpu_free(device);
}

/* Rank 1 has asked for patience, and captures before the call that the others wait for. */
static void rank_extends(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = vendor_comm(rank, world, rendezvous, 2000);
    const size_t many = (size_t)1 << 20; /* so that the call takes a while once all have come */
    float *device = (float *)(void *)gpu_alloc(sizeof(float) * many);
    tutti_stream stream = gpu_stream_create();
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    if (rank == 1) {
        CHECK_OK(tutti_comm_extend_deadline(comm, 60000));
    }
    gpu_capture_begin(stream, GPU_CAPTURE_THREAD_LOCAL);
    CHECK_OK(tutti_all_reduce(comm, device, device, COUNT, TUTTI_F32, TUTTI_SUM, &call));
    gpu_graph graph = gpu_capture_end(stream);
    if (rank == 1) {
        pause_ms(2600);
    }
    CHECK_OK(tutti_all_reduce(comm, device, device, many, TUTTI_F32, TUTTI_SUM, &call));
    gpu_stream_wait(stream);
    CHECK_OK(tutti_comm_status(comm));
    gpu_graph_destroy(graph);
    tutti_comm_destroy(comm);
    gpu_stream_destroy(stream);
    gpu_free(device);
}

static void all_at_once(int rank, int world, const char *rendezvous, void *user)
{
    (void)rank;
    (void)rendezvous;
    (void)user;
    const int devices[] = {0, 1};
    tutti_comm *comms[2];
    tutti_comm_options options;
    memset(&options, 0, sizeof(options));
    options.struct_bytes = sizeof(options);
    options.backend = "cuda";
    variables_set("TUTTI_GPU_VENDOR=always");
    CHECK_STATUS(TUTTI_ERR_UNSUPPORTED, tutti_comm_create_all(&options, devices, 2, comms));
    says(tutti_last_error(), "tutti_comm_create_all");
    (void)world;
}

/* -- all ------------------------------------------------------------------------------------------------- */

int main(void)
{
    char why[256];
    bool simulated = getenv("TUTTI_CUDA_LIBRARY") != NULL;
    int devices = gpu_count("cuda", why, sizeof(why));
    int world = devices < WORLD_MAX ? devices : WORLD_MAX;
    if (world < 2) {
        SKIP("needs 2 devices: %s", why);
    }
    for (size_t index = 0; index < sizeof(scenes) / sizeof(scenes[0]); index++) {
        struct scene scene = scenes[index];
        if (!simulated && strstr(scene.variables, "SIM") != NULL) {
            continue;
        }
        printf("%s\n", scene.name);
        ranks_run(RANKS_PROCESSES, world, 100, create_and_look, &scene);
    }
    struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED, "mmap");
    const struct {
        const char *name;
        rank_body body;
        int world;
        bool simulated;
    } bodies[] = {{"late", rank_late, world, false},          {"aborts", rank_aborts, world, false},
                  {"dies", rank_dies, world, false},          {"errs", rank_errs, world, true},
                  {"graph", rank_leaves_graph, world, false}, {"extends", rank_extends, world, true},
                  {"all at once", all_at_once, 1, false}};
    for (size_t index = 0; index < sizeof(bodies) / sizeof(bodies[0]); index++) {
        if (simulated || !bodies[index].simulated) {
            printf("%s\n", bodies[index].name);
            memset(board, 0, sizeof(*board));
            ranks_run(RANKS_PROCESSES, bodies[index].world, 100, bodies[index].body, board);
        }
    }
    return 0;
}
