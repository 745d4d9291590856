/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every collective x type x operator x size, in place and not, eagerly on the
 * NULL stream, eagerly on a stream, and captured and replayed three times with
 * new inputs, at one world size:
 *
 *     collectives_matrix processes-5 | threads-3 | mixed-4 (two processes of
 * two threads)
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

#define RESULTS_MAX 4096
#define REPLAYS 3

struct matrix {
    int world;
    int threads; /* of each process; 0: as ranks_run starts them */
    tutti_host_capture_mode mode;
    /* Shared by all ranks, [world][RESULTS_MAX]: a hash of each result. Compared
   * at the end, so that the ranks run freely until then. */
    uint64_t *results;
};

struct rank {
    const struct matrix *matrix;
    int rank;
    tutti_comm *comm;
    tutti_host_stream *stream, *other;
    struct job_buffers buffers;
    uint64_t call;
    uint64_t executed[TUTTI_COLLECTIVE_COUNT], captured;
};

/* -- the list of jobs
 * ------------------------------------------------------------------------------
 */

static size_t element_counts(size_t element_bytes, size_t *counts)
{
    size_t megabyte = effort() == EFFORT_QUICK ? 1u << 17 : 1u << 20;
    size_t list[] = {0, 1, 257, 4096 / element_bytes, 150001 / element_bytes, megabyte / element_bytes + 3};
    memcpy(counts, list, sizeof(list));
    return sizeof(list) / sizeof(list[0]);
}

/* The index-th job, in an order that is the same on all ranks. False past the
 * last. */
static bool job_at(size_t index, int world, struct job *job)
{
    size_t counts[8];
    memset(job, 0, sizeof(*job));
    job->share_check = true;
    job->in_place = index % 2 == 1;
    size_t position = index / 2;
    if (position < 2 * 9 * 6) { /* 2 reductions x 3 types x 3 operators x 6 sizes */
        job->kind = position % 2 == 0 ? TUTTI_ALL_REDUCE : TUTTI_REDUCE_SCATTER;
        job->dtype = (tutti_dtype)(position / 2 % 3);
        job->op = (tutti_op)(position / 6 % 3);
        (void)element_counts(tutti_dtype_bytes(job->dtype), counts);
        job->count = counts[position / 18];
        if (job->kind == TUTTI_REDUCE_SCATTER && job->count > 100000) {
            job->count = job->count / (size_t)world + 3; /* the message as a whole is that large */
        }
        job->src_offset = (index * 7 % 13) * tutti_dtype_bytes(job->dtype);
        job->dst_offset = (index * 5 % 11) * tutti_dtype_bytes(job->dtype);
        return true;
    }
    position -= 2 * 9 * 6;
    static const tutti_collective copies[] = {TUTTI_ALL_GATHER, TUTTI_ALL_GATHER, TUTTI_BROADCAST, TUTTI_ALL_TO_ALL};
    if (position >= 4 * 6) {
        return false;
    }
    job->kind = copies[position % 4];
    (void)element_counts(1, counts);
    job->count = counts[position / 4];
    job->root = (int)(index / 3 % (size_t)world);
    job->src_offset = index * 7 % 61;
    job->dst_offset = index * 5 % 59;
    if (position % 4 == 1) {
        static const size_t rows[] = {1, 3, 8, 33};
        job->rows = rows[index % 4];
        job->count = (job->count + job->rows - 1) / job->rows;
        job->gap_bytes = index % 3 * 17;
        job->in_place = false;
    }
    return true;
}

/* -- one job in every way
 * -------------------------------------------------------------------------- */

static void verify(struct rank *self, const struct job *job, const char *how)
{
    uint64_t hash = 0;
    CHECK_OK(tutti_comm_status(self->comm));
    job_verify(job, how, &hash);
    CHECK(self->call <= RESULTS_MAX, "%llu calls", (unsigned long long)self->call);
    self->matrix->results[(size_t)self->rank * RESULTS_MAX + self->call - 1] = job_common(job) ? hash : 0;
    self->executed[job->kind]++;
}

static void run_eager(struct rank *self, struct job *job)
{
    tutti_call call = {.struct_bytes = sizeof(call)};
    job_fill(job, ++self->call);
    CHECK_OK(job_issue(job, self->comm, self->call % 2 == 0 ? NULL : &call));
    verify(self, job, "eager");

    call.stream = self->stream;
    job_fill(job, ++self->call);
    CHECK_OK(job_issue(job, self->comm, &call));
    CHECK_OK(tutti_host_stream_synchronize(self->stream));
    verify(self, job, "on a stream");
}

static void run_captured(struct rank *self, struct job *job)
{
    tutti_call call = {.struct_bytes = sizeof(call), .stream = self->stream};
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(self->stream, self->matrix->mode));
    CHECK_OK(job_issue(job, self->comm, &call));
    CHECK_OK(tutti_host_capture_end(self->stream, &graph));
    self->captured++;
    for (int replay = 0; replay < REPLAYS; replay++) {
        /* On the stream it was captured on, on another, and on none. */
        tutti_host_stream *streams[REPLAYS] = {self->stream, self->other, NULL};
        job_fill(job, ++self->call);
        CHECK_OK(tutti_host_graph_launch(graph, streams[replay]));
        if (streams[replay] != NULL) {
            CHECK_OK(tutti_host_stream_synchronize(streams[replay]));
        }
        verify(self, job, "replayed");
        self->executed[job->kind] -= ON_DEVICES; /* which tell the host nothing of replays */
    }
    tutti_host_graph_destroy(graph);
}

static void check_statistics(struct rank *self)
{
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_comm_stats(self->comm, &stats));
    for (int kind = 0; kind < TUTTI_COLLECTIVE_COUNT; kind++) {
        CHECK(stats.calls[kind] == self->executed[kind], "collective %d: counted %llu, made %llu", kind,
              (unsigned long long)stats.calls[kind], (unsigned long long)self->executed[kind]);
    }
    CHECK(stats.captured == self->captured, "captured: counted %llu, made %llu", (unsigned long long)stats.captured,
          (unsigned long long)self->captured);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    struct rank self = {.matrix = user, .rank = rank};
    struct job job;
    size_t bytes_max = 0;
    for (size_t index = 0; job_at(index, world, &job); index++) {
        bytes_max = job_bytes(&job, world) > bytes_max ? job_bytes(&job, world) : bytes_max;
    }
    job_buffers_create(&self.buffers, bytes_max);
    self.comm = ranks_comm(rank, world, rendezvous);
    CHECK_OK(tutti_host_stream_create(&self.stream));
    CHECK_OK(tutti_host_stream_create(&self.other));

    /* A quick run makes every third job, over all kinds, types, operators and
   * sizes. */
    size_t step = effort() == EFFORT_QUICK ? (ON_DEVICES ? 11 : 3) : 1;
    for (size_t index = 0; job_at(index, world, &job); index += step) {
        job_place(&job, rank, world, &self.buffers);
        run_eager(&self, &job);
        run_captured(&self, &job);
    }
    check_statistics(&self);

    tutti_host_stream_destroy(self.other);
    tutti_host_stream_destroy(self.stream);
    tutti_comm_destroy(self.comm);
    job_buffers_destroy(&self.buffers);
}

/* -- ranks that are threads of several processes
 * ---------------------------------------------------- */

struct rank_thread {
    pthread_t thread;
    int rank;
    const char *rendezvous;
    struct matrix *matrix;
};

static void *rank_thread_main(void *argument)
{
    struct rank_thread *self = argument;
    run_rank(self->rank, self->matrix->world, self->rendezvous, self->matrix);
    return NULL;
}

static void run_process(int process, int processes, const char *rendezvous, void *user)
{
    struct matrix *matrix = user;
    struct rank_thread threads[8];
    (void)processes;
    for (int i = 0; i < matrix->threads; i++) {
        threads[i] = (struct rank_thread){0, process * matrix->threads + i, rendezvous, matrix};
        CHECK(pthread_create(&threads[i].thread, NULL, rank_thread_main, &threads[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < matrix->threads; i++) {
        (void)pthread_join(threads[i].thread, NULL);
    }
}

static void compare_results(const struct matrix *matrix)
{
    size_t made = 0;
    for (size_t call = 0; call < RESULTS_MAX; call++) {
        uint64_t first = matrix->results[call];
        made += first != 0;
        for (int rank = 1; rank < matrix->world; rank++) {
            CHECK(matrix->results[(size_t)rank * RESULTS_MAX + call] == first,
                  "call %zu: rank %d has other bits than 0", call + 1, rank);
        }
    }
    CHECK(made > 0, "no results");
    printf("%zu results were the same on %d ranks\n", made, matrix->world);
}

int main(int count, char **arguments)
{
    const char *how = count == 2 ? arguments[1] : "processes-2";
    const char *dash = strchr(how, '-');
    CHECK(dash != NULL && dash[1] >= '1' && dash[1] <= '8', "'%s' is not processes-N, threads-N or mixed-N", how);
    struct matrix matrix = {.world = dash[1] - '0'};
    size_t bytes = (size_t)matrix.world * RESULTS_MAX * sizeof(uint64_t);
    matrix.results = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(matrix.results != MAP_FAILED, "%zu bytes", bytes);

    /* Where other ranks live in this process, their waiting must not be forbidden
   * by this one's capture. */
    matrix.mode = how[0] == 'p' ? TUTTI_HOST_CAPTURE_GLOBAL : TUTTI_HOST_CAPTURE_THREAD_LOCAL;
    if (how[0] == 'm') {
        matrix.threads = 2;
        ranks_run(RANKS_PROCESSES, matrix.world / 2, 240, run_process, &matrix);
    } else {
        ranks_run(how[0] == 'p' ? RANKS_PROCESSES : RANKS_THREADS, matrix.world, 240, run_rank, &matrix);
    }
    compare_results(&matrix);
    return 0;
}
