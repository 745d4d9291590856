/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#23580: on one driver release an event query from another thread, the vendor collective library's watchdog, invalidated captures,
 * and the only remedy was an environment variable found by bisecting. Here such releases are a table: on HIP 7.2.0 creation and
 * `tutti info` say what is wrong with it, our own collectives work, and the vendor's do not stand in, unless one setting says always.
 * Ranks that have loaded different drivers are told so.
 */
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/gpu.h"
#include "harness/ranks.h"
#include "harness/values.h"

#define WORLD 2
#define COUNT 1000
#define NO_EXPORT "hipIpcGetMemHandle=1"
#define HIP_7_2_0 "70226015"
#define HIP_7_2_1 "70253211"
#define WORDS "HIP 7.2.0: an event query from any thread invalidates"

struct scene {
    const char *name;
    const char *version, *version_of_last; /* of the driver */
    const char *faults, *setting;          /* SIMGPU_FAULTS, TUTTI_GPU_VENDOR */
    uint32_t flags;
    tutti_status status;
    bool vendor;                    /* whose collectives */
    const char *says[2], *says_not; /* backend_reason, or the error */
};

static const struct scene scenes[] = {
    {"nothing needs the vendor",
     HIP_7_2_0,
     HIP_7_2_0,
     "",
     "auto",
     TUTTI_COMM_ALLOW_VENDOR,
     TUTTI_OK,
     false,
     {WORDS, "hip: named by"},
     NULL},
    {"memory cannot be shared",
     HIP_7_2_0,
     HIP_7_2_0,
     NO_EXPORT,
     "auto",
     TUTTI_COMM_ALLOW_VENDOR,
     TUTTI_ERR_DRIVER,
     false,
     {WORDS, "TUTTI_GPU_VENDOR=always"},
     NULL},
    {"the same, not allowed",
     HIP_7_2_0,
     HIP_7_2_0,
     NO_EXPORT,
     "auto",
     0,
     TUTTI_ERR_DRIVER,
     false,
     {"hipIpcGetMemHandle", NULL},
     WORDS},
    {"overridden",
     HIP_7_2_0,
     HIP_7_2_0,
     "",
     "always",
     TUTTI_COMM_ALLOW_VENDOR,
     TUTTI_OK,
     true,
     {WORDS, "TUTTI_GPU_VENDOR=always"},
     NULL},
    {"the next release",
     HIP_7_2_1,
     HIP_7_2_1,
     NO_EXPORT,
     "auto",
     TUTTI_COMM_ALLOW_VENDOR,
     TUTTI_OK,
     true,
     {"because of rank 0: hipIpcGetMemHandle", NULL},
     "HIP 7.2.0"},
    {"the next release, nothing wrong",
     HIP_7_2_1,
     HIP_7_2_1,
     "",
     "auto",
     0,
     TUTTI_OK,
     false,
     {"hip: named by", NULL},
     "HIP 7.2.0"},
    {"another driver on one rank",
     HIP_7_2_1,
     HIP_7_2_0,
     "",
     "auto",
     0,
     TUTTI_ERR_MISMATCH,
     false,
     {"rank 1 has loaded another driver than rank 0: version 70226015 there, 70253211 here", NULL},
     NULL},
};

static void says(const struct scene *scene, const char *text)
{
    for (int index = 0; index < 2; index++) {
        CHECK(scene->says[index] == NULL || strstr(text, scene->says[index]) != NULL, "\"%s\" lacks \"%s\"", text,
              scene->says[index]);
    }
    CHECK(scene->says_not == NULL || strstr(text, scene->says_not) == NULL, "\"%s\" speaks of \"%s\"", text,
          scene->says_not);
}

/* What `tutti info` shows of the backend. */
static void shown(bool known)
{
    tutti_backend_t backend = {.struct_bytes = sizeof(backend)};
    for (size_t index = 0; strcmp(backend.name, "hip") != 0; index++) {
        CHECK_OK(tutti_backend(index, &backend));
    }
    CHECK(backend.usable, "%s", backend.description);
    CHECK((strstr(backend.description, WORDS) != NULL) == known, "\"%s\"", backend.description);
}

static void sum_check(tutti_comm *comm, int rank, int world)
{
    float host[COUNT];
    float *device = (float *)(void *)gpu_alloc(sizeof(host));
    tutti_stream stream = gpu_stream_create();
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    values_fill(host, TUTTI_F32, 7, rank, 0, COUNT);
    gpu_upload(device, host, sizeof(host), stream);
    CHECK_OK(tutti_all_reduce(comm, device, device, COUNT, TUTTI_F32, TUTTI_SUM, &call));
    gpu_download(host, device, sizeof(host), stream);
    CHECK_OK(tutti_comm_status(comm));
    CHECK(values_check(host, TUTTI_F32, TUTTI_SUM, 7, world, 0, COUNT), "a wrong sum");
    gpu_stream_destroy(stream);
    gpu_free(device);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const struct scene *scene = user;
    const char *version = rank == world - 1 ? scene->version_of_last : scene->version;
    CHECK(setenv("SIMGPU_VERSION", version, 1) == 0 && setenv("SIMGPU_FAULTS", scene->faults, 1) == 0 &&
              setenv("TUTTI_GPU_VENDOR", scene->setting, 1) == 0,
          "setenv");
    gpu_use("hip", rank);
    values_integers();
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "hip", .rank = rank, .world = world};
    options.device = rank;
    options.rendezvous = rendezvous;
    options.flags = scene->flags;
    options.timeout_ms = 20000;
    tutti_comm *comm = NULL;
    CHECK_STATUS(scene->status, tutti_comm_create(&options, &comm));
    shown(strcmp(version, HIP_7_2_0) == 0);
    if (scene->status != TUTTI_OK) {
        says(scene, tutti_last_error());
        return;
    }
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_comm_info(comm, &info));
    says(scene, info.backend_reason);
    CHECK(info.deterministic == !scene->vendor, "deterministic is %d", info.deterministic);
    sum_check(comm, rank, world);
    tutti_comm_destroy(comm);
}

int main(void)
{
    for (size_t index = 0; index < sizeof(scenes) / sizeof(scenes[0]); index++) {
        struct scene scene = scenes[index];
        printf("%s\n", scene.name);
        ranks_run(RANKS_PROCESSES, WORLD, 60, run_rank, &scene);
    }
    return 0;
}
