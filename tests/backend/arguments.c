/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's mistakes: TUTTI_ERR_ARGUMENT, one sentence that names what is
 * wrong, nothing enqueued, and the next correct call works. */
#include <stdio.h>
#include <string.h>

#include "harness/check.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

/* The call must fail so, and its sentence must contain `word`. */
#define REFUSED(word, call)                                                                                            \
    do {                                                                                                               \
        tutti_status refused_status = (call);                                                                          \
        CHECK(refused_status == TUTTI_ERR_ARGUMENT, "got %s (%s)", tutti_status_name(refused_status),                  \
              tutti_last_error());                                                                                     \
        CHECK(strstr(tutti_last_error(), (word)) != NULL, "\"%s\" does not say \"%s\"", tutti_last_error(), (word));   \
    } while (0)

static void works(tutti_comm *comm, int rank, int world, uint64_t number, const tutti_call *call)
{
    struct job job = {.kind = TUTTI_ALL_REDUCE, .count = 1000};
    struct job_buffers buffers;
    job_buffers_create(&buffers, 4000);
    job_place(&job, rank, world, &buffers);
    job_fill(&job, number);
    CHECK_OK(job_issue(&job, comm, call));
    if (call != NULL) {
        CHECK_OK(tutti_host_stream_synchronize(call->stream));
    }
    CHECK_OK(tutti_comm_status(comm));
    job_verify(&job, "after a refused call", NULL);
    job_buffers_destroy(&buffers);
}

/* -- collectives
 * -------------------------------------------------------------------------------------
 */

static float area[1024];

static void bad_reductions(tutti_comm *comm, const tutti_call *call)
{
    char *bytes = (char *)area;
    REFUSED("src", tutti_all_reduce(comm, NULL, area, 4, TUTTI_F32, TUTTI_SUM, call));
    REFUSED("dst", tutti_all_reduce(comm, area, NULL, 4, TUTTI_F32, TUTTI_SUM, call));
    REFUSED("dtype", tutti_all_reduce(comm, area, area, 4, (tutti_dtype)3, TUTTI_SUM, call));
    REFUSED("dtype", tutti_reduce_scatter(comm, area, area + 512, 4, (tutti_dtype)77, TUTTI_SUM, call));
    REFUSED("op", tutti_all_reduce(comm, area, area, 4, TUTTI_F32, (tutti_op)3, call));
    REFUSED("op", tutti_reduce_scatter(comm, area, area + 512, 4, TUTTI_F32, (tutti_op)9, call));
    REFUSED("src", tutti_all_reduce(comm, bytes + 2, area + 512, 4, TUTTI_F32, TUTTI_SUM, call));
    REFUSED("dst", tutti_all_reduce(comm, area, bytes + 513, 4, TUTTI_BF16, TUTTI_SUM, call));
    REFUSED("overlap", tutti_all_reduce(comm, area, area + 3, 4, TUTTI_F32, TUTTI_SUM, call));
    REFUSED("overlap", tutti_all_reduce(comm, area + 3, area, 4, TUTTI_F32, TUTTI_SUM, call));
    REFUSED("overlap", tutti_reduce_scatter(comm, area, area + 1, 4, TUTTI_F32, TUTTI_SUM, call));
    REFUSED("count", tutti_all_reduce(comm, area, area, SIZE_MAX / 2, TUTTI_F32, TUTTI_SUM, call));
    REFUSED("count", tutti_reduce_scatter(comm, area, area + 512, SIZE_MAX / 4, TUTTI_F16, TUTTI_SUM, call));
    REFUSED("comm", tutti_all_reduce(NULL, area, area, 4, TUTTI_F32, TUTTI_SUM, call));
}

static void bad_copies(tutti_comm *comm, int world, const tutti_call *call)
{
    char *bytes = (char *)area;
    size_t row = 16;
    size_t stride = row * (size_t)world;
    REFUSED("src", tutti_all_gather(comm, NULL, bytes, 8, call));
    REFUSED("dst", tutti_all_gather(comm, bytes, NULL, 8, call));
    REFUSED("overlap", tutti_all_gather(comm, bytes + 3, bytes, 8, call));
    REFUSED("src", tutti_all_gather_rows(comm, NULL, bytes, 2, row, stride, call));
    REFUSED("dst", tutti_all_gather_rows(comm, bytes, NULL, 2, row, stride, call));
    REFUSED("dst_stride_bytes", tutti_all_gather_rows(comm, bytes, bytes + 2048, 2, row, stride - 1, call));
    REFUSED("overlap", tutti_all_gather_rows(comm, bytes, bytes, 2, row, stride, call));
    REFUSED("buffer", tutti_broadcast(comm, NULL, 8, 0, call));
    REFUSED("root", tutti_broadcast(comm, bytes, 8, world, call));
    REFUSED("root", tutti_broadcast(comm, bytes, 8, -1, call));
    REFUSED("src", tutti_all_to_all(comm, NULL, bytes, 8, call));
    REFUSED("dst", tutti_all_to_all(comm, bytes, NULL, 8, call));
    REFUSED("overlap", tutti_all_to_all(comm, bytes, bytes + 1, 8, call));
    REFUSED("comm", tutti_barrier(NULL, call));
}

static void bad_calls(tutti_comm *comm)
{
    tutti_call call = {.struct_bytes = 0};
    REFUSED("struct_bytes", tutti_barrier(comm, &call));
    call.struct_bytes = sizeof(call);
    call.lane = 1;
    REFUSED("lane", tutti_all_reduce(comm, area, area, 4, TUTTI_F32, TUTTI_SUM, &call));
    call.lane = 0xffffffffu;
    REFUSED("lane", tutti_broadcast(comm, area, 4, 0, &call));
    call.lane = 0;
    call.flags = 1;
    REFUSED("flags", tutti_all_gather(comm, area, area + 512, 4, &call));
}

/* Only rank 0 makes the mistakes: had anything been enqueued, the ranks would
 * no longer fit together. */
static void collectives(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_host_stream *stream = NULL;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_stream_create(&stream));
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    if (rank == 0) {
        bad_reductions(comm, NULL);
        bad_copies(comm, world, NULL);
        bad_calls(comm);
    }
    works(comm, rank, world, 1, NULL);
    if (rank == 0) {
        bad_reductions(comm, &call);
        bad_copies(comm, world, &call);
    }
    works(comm, rank, world, 2, &call);

    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    if (rank == 0) {
        bad_reductions(comm, &call);
        bad_copies(comm, world, &call);
    }
    CHECK_OK(tutti_barrier(comm, &call));
    CHECK_OK(tutti_host_capture_end(stream, &graph));
    tutti_host_graph_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_host_graph_info(graph, &info));
    CHECK((ON_DEVICES && world == 1) || info.collectives == 1, "%llu collectives in the graph",
          (unsigned long long)info.collectives);
    CHECK_OK(tutti_host_graph_launch(graph, NULL));
    works(comm, rank, world, 3, NULL);
    tutti_host_graph_destroy(graph);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
}

/* -- empty calls
 * ---------------------------------------------------------------------------------------
 */

static void empty_calls(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    CHECK_OK(tutti_all_reduce(comm, NULL, NULL, 0, TUTTI_F32, TUTTI_SUM, NULL));
    CHECK_OK(tutti_reduce_scatter(comm, NULL, NULL, 0, TUTTI_BF16, TUTTI_MAX, NULL));
    CHECK_OK(tutti_all_gather(comm, NULL, NULL, 0, NULL));
    CHECK_OK(tutti_all_gather_rows(comm, NULL, NULL, 0, 100, 1000, NULL));
    CHECK_OK(tutti_all_gather_rows(comm, NULL, NULL, 5, 0, 0, NULL));
    CHECK_OK(tutti_broadcast(comm, NULL, 0, world - 1, NULL));
    CHECK_OK(tutti_all_to_all(comm, NULL, NULL, 0, NULL));
    works(comm, rank, world, 1, NULL);
    tutti_comm_destroy(comm);
}

/* -- creation
 * ------------------------------------------------------------------------------------------
 */

static tutti_comm_options alone(void)
{
    tutti_comm_options options = {.struct_bytes = sizeof(options), .backend = "host", .world = 1};
    return options;
}

/* Creation fails with one of two statuses, says `word`, and leaves *comm as it
 * was. */
static void not_created(const char *word, tutti_status status, const tutti_comm_options *options)
{
    tutti_comm *comm = (tutti_comm *)(void *)area;
    CHECK_STATUS(status, tutti_comm_create(options, &comm));
    CHECK(strstr(tutti_last_error(), word) != NULL, "\"%s\" does not say \"%s\"", tutti_last_error(), word);
    CHECK(comm == (tutti_comm *)(void *)area, "the output was touched");
}

static void creation(void)
{
    tutti_comm_options options = alone();
    options.struct_bytes = 0;
    not_created("struct_bytes", TUTTI_ERR_ARGUMENT, &options);
    options = alone();
    options.world = 0;
    not_created("world", TUTTI_ERR_ARGUMENT, &options);
    options.world = TUTTI_WORLD_MAX + 1;
    not_created("world", TUTTI_ERR_ARGUMENT, &options);
    options = alone();
    options.rank = 1;
    not_created("rank", TUTTI_ERR_ARGUMENT, &options);
    options.rank = -1;
    not_created("rank", TUTTI_ERR_ARGUMENT, &options);
    options = alone();
    options.device = 11;
    not_created("device", TUTTI_ERR_ARGUMENT, &options);
    options = alone();
    options.lanes = TUTTI_LANES_MAX + 1;
    not_created("lanes", TUTTI_ERR_ARGUMENT, &options);
    options.lanes = -1;
    not_created("lanes", TUTTI_ERR_ARGUMENT, &options);
    options = alone();
    options.flags = 1u << 30; /* none is defined there */
    not_created("flags", TUTTI_ERR_ARGUMENT, &options);
    options = alone();
    options.backend = "abacus";
    not_created("abacus", TUTTI_ERR_UNSUPPORTED, &options);
    options = alone();
    options.world = 2;
    not_created("allgather", TUTTI_ERR_ARGUMENT, &options);
    options.rendezvous = "pigeon:post";
    not_created("pigeon:post", TUTTI_ERR_ARGUMENT, &options);
    options.rendezvous = "tcp:nowhere";
    not_created("tcp:nowhere", TUTTI_ERR_ARGUMENT, &options);
    tutti_comm *comm = NULL;
    REFUSED("options", tutti_comm_create(NULL, &comm));
    options = alone();
    REFUSED("comm", tutti_comm_create(&options, NULL));
    REFUSED("world", tutti_comm_create_all(&options, NULL, 0, &comm));
    REFUSED("comms", tutti_comm_create_all(&options, NULL, 1, NULL));
    int device = 13;
    REFUSED("device", tutti_comm_create_all(&options, &device, 1, &comm));
    CHECK(comm == NULL, "the output was touched");
}

static int failing_allgather(void *user, const void *mine, void *all, size_t bytes)
{
    (void)mine;
    (void)all;
    (void)bytes;
    ++*(int *)user;
    return 7;
}

static void a_failing_allgather_fails_the_creation(void)
{
    int calls = 0;
    tutti_comm_options options = alone();
    options.world = 2;
    options.allgather = failing_allgather;
    options.allgather_user = &calls;
    tutti_comm *comm = NULL;
    tutti_status status = tutti_comm_create(&options, &comm);
    CHECK(status != TUTTI_OK && comm == NULL && calls == 1 && strstr(tutti_last_error(), "allgather") != NULL,
          "%s after %d calls: %s", tutti_status_name(status), calls, tutti_last_error());
}

/* -- everything else
 * ------------------------------------------------------------------------------------
 */

static void questions(void)
{
    tutti_comm_options options = alone();
    tutti_comm *comm = NULL;
    CHECK_OK(tutti_comm_create(&options, &comm));
    tutti_comm_info_t info = {.struct_bytes = 0};
    REFUSED("struct_bytes", tutti_comm_info(comm, &info));
    REFUSED("info", tutti_comm_info(comm, NULL));
    tutti_stats stats = {.struct_bytes = 0};
    REFUSED("struct_bytes", tutti_comm_stats(comm, &stats));
    REFUSED("stats", tutti_comm_stats(comm, NULL));
    tutti_plan_t plan = {.struct_bytes = sizeof(plan)};
    REFUSED("kind", tutti_plan(comm, (tutti_collective)6, 1, TUTTI_F32, &plan));
    REFUSED("dtype", tutti_plan(comm, TUTTI_ALL_REDUCE, 1, (tutti_dtype)3, &plan));
    REFUSED("plan", tutti_plan(comm, TUTTI_ALL_REDUCE, 1, TUTTI_F32, NULL));
    CHECK_OK(tutti_plan(comm, TUTTI_ALL_REDUCE, 1, TUTTI_F32, &plan));
    CHECK(plan.protocol[0] != 0 && plan.reason[0] != 0, "an empty plan");
    REFUSED("comm", tutti_comm_status(NULL));
    REFUSED("comm", tutti_comm_abort(NULL));
    REFUSED("child", tutti_comm_split(comm, 0, 0, NULL));
    tutti_comm_destroy(comm);
    tutti_comm_destroy(NULL);

    tutti_backend_t backend = {.struct_bytes = sizeof(backend)};
    tutti_setting_t setting = {.struct_bytes = sizeof(setting)};
    size_t backends = 0;
    size_t settings = 0;
    while (tutti_backend(backends, &backend) == TUTTI_OK) {
        CHECK(backend.name[0] != 0 && backend.description[0] != 0, "backend %zu", backends);
        backends++;
    }
    while (tutti_setting(settings, &setting) == TUTTI_OK) {
        CHECK(strncmp(setting.name, "TUTTI_", 6) == 0 && setting.description[0] != 0, "setting %zu", settings);
        settings++;
    }
    CHECK(backends > 0 && settings > 0, "%zu backends, %zu settings", backends, settings);
    REFUSED("backend", tutti_backend(backends, &backend));
    REFUSED("setting", tutti_setting(settings, &setting));
    CHECK(tutti_dtype_bytes((tutti_dtype)9) == 0 && tutti_dtype_bytes(TUTTI_BF16) == 2, "dtype bytes");
    CHECK(strcmp(tutti_status_name(TUTTI_ERR_TIMEOUT), "TUTTI_ERR_TIMEOUT") == 0, "%s",
          tutti_status_name(TUTTI_ERR_TIMEOUT));
    CHECK(strcmp(tutti_status_name((tutti_status)-99), "unknown status") == 0, "%s",
          tutti_status_name((tutti_status)-99));
}

int main(void)
{
    CHECK(strcmp(tutti_last_error(), "") == 0, "a sentence before any failure: %s", tutti_last_error());
    ranks_run(RANKS_PROCESSES, 1, 60, collectives, NULL);
    ranks_run(RANKS_PROCESSES, 3, 60, collectives, NULL);
    ranks_run(RANKS_PROCESSES, 2, 60, empty_calls, NULL);
    creation();
    a_failing_allgather_fails_the_creation();
    questions();
    return 0;
}
