/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large all-reduces between processes, of buffers that tutti_alloc made, of ordinary ones, and of both, different on different
 * ranks, in one call: always right. Directly only where all ranks' buffers lie at the same place of what tutti_alloc made; then
 * always. Eagerly, on a stream and replayed, in place and not, with new inputs for every call.
 */
#include <stdbool.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "tutti/host.h"

#define AREA ((size_t)1 << 20) /* elements */
#define ROUNDS 24
enum place { SYMMETRIC, ORDINARY, ORDINARY_ON_OTHER, ELSEWHERE_ON_OTHER, PLACES };
enum way { EAGER, STREAM, REPLAYED, WAYS };

struct rank {
    int rank, world;
    tutti_comm *comm;
    tutti_host_stream *stream;
    float *symmetric[2], *ordinary[2];
    uint64_t call;
};

struct buffers {
    float *src, *dst;
    size_t count;
    bool direct; /* on all ranks */
};

static float value_of(uint64_t call, int rank, size_t index)
{
    uint64_t state = call * 1000003u + (uint64_t)rank * 7919u + index;
    return (float)(ranks_random(&state) % 2001) - 1000.0f;
}

static float *place_at(const struct rank *self, int which, enum place place, int other, size_t offset)
{
    bool differs = self->rank == other;
    if (place == ORDINARY || (place == ORDINARY_ON_OTHER && differs)) {
        return self->ordinary[which] + offset;
    }
    return self->symmetric[which] + offset + (place == ELSEWHERE_ON_OTHER && differs ? 16 : 0);
}

/* The same draws on all ranks. */
static struct buffers draw(const struct rank *self, uint64_t *random)
{
    enum place src = (enum place)(ranks_random(random) % PLACES);
    enum place dst = (enum place)(ranks_random(random) % PLACES);
    int other = (int)(ranks_random(random) % (uint64_t)self->world);
    if (ranks_random(random) % 2 == 0) {
        src = dst = SYMMETRIC;
    }
    struct buffers buffers = {.count = AREA / 8 + ranks_random(random) % (AREA / 4)};
    size_t offset = ranks_random(random) % (AREA / 2);
    bool in_place = ranks_random(random) % 3 == 0;
    buffers.src = place_at(self, 0, src, other, offset);
    buffers.dst = in_place ? buffers.src : place_at(self, 1, dst, other, offset / 2);
    buffers.direct = src == SYMMETRIC && (in_place || dst == SYMMETRIC);
    return buffers;
}

static void fill(struct rank *self, const struct buffers *buffers)
{
    self->call++;
    for (size_t index = 0; index < buffers->count; index++) {
        buffers->src[index] = value_of(self->call, self->rank, index);
    }
}

static void verify(const struct rank *self, const struct buffers *buffers, const char *how)
{
    CHECK_OK(tutti_comm_status(self->comm));
    for (size_t index = 0; index < buffers->count; index++) {
        float wanted = 0;
        for (int rank = 0; rank < self->world; rank++) {
            wanted += value_of(self->call, rank, index);
        }
        CHECK(buffers->dst[index] == wanted, "rank %d, call %llu, %s, %zu elements: element %zu is %g, not %g",
              self->rank, (unsigned long long)self->call, how, buffers->count, index, (double)buffers->dst[index],
              (double)wanted);
    }
}

static void reduce(const struct rank *self, const struct buffers *buffers, tutti_host_stream *stream)
{
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    CHECK_OK(tutti_all_reduce(self->comm, buffers->src, buffers->dst, buffers->count, TUTTI_F32, TUTTI_SUM, &call));
}

static uint64_t replayed(struct rank *self, const struct buffers *buffers)
{
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_capture_begin(self->stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    reduce(self, buffers, self->stream);
    CHECK_OK(tutti_host_capture_end(self->stream, &graph));
    for (int replay = 0; replay < 2; replay++) {
        fill(self, buffers);
        CHECK_OK(tutti_host_graph_launch(graph, NULL));
        verify(self, buffers, "replayed");
    }
    tutti_host_graph_destroy(graph);
    return 2;
}

static uint64_t run(struct rank *self, const struct buffers *buffers, enum way way)
{
    if (way == REPLAYED) {
        return replayed(self, buffers);
    }
    fill(self, buffers);
    reduce(self, buffers, way == STREAM ? self->stream : NULL);
    if (way == STREAM) {
        CHECK_OK(tutti_host_stream_synchronize(self->stream));
    }
    verify(self, buffers, way == STREAM ? "on a stream" : "eager");
    return 1;
}

static void rank_run(int rank, int world, const char *rendezvous, void *user)
{
    struct rank self = {.rank = rank, .world = world, .comm = ranks_comm(rank, world, rendezvous)};
    uint64_t random = *(const uint64_t *)user;
    uint64_t direct = 0, staged = 0;
    CHECK_OK(tutti_host_stream_create(&self.stream));
    for (int which = 0; which < 2; which++) {
        void *memory = NULL;
        CHECK_OK(tutti_alloc(self.comm, AREA * sizeof(float), &memory));
        self.symmetric[which] = memory;
        self.ordinary[which] = malloc(AREA * sizeof(float));
        CHECK(self.ordinary[which] != NULL, "memory");
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct buffers buffers = draw(&self, &random);
        uint64_t calls = run(&self, &buffers, (enum way)(ranks_random(&random) % WAYS));
        *(buffers.direct ? &direct : &staged) += calls;
    }
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    CHECK_OK(tutti_comm_stats(self.comm, &stats));
    CHECK(stats.direct_calls == direct && stats.staged_calls == staged, "%llu direct, %llu staged, not %llu and %llu",
          (unsigned long long)stats.direct_calls, (unsigned long long)stats.staged_calls, (unsigned long long)direct,
          (unsigned long long)staged);
    CHECK_OK(tutti_free(self.comm, self.symmetric[0]));
    tutti_host_stream_destroy(self.stream);
    tutti_comm_destroy(self.comm);
    free(self.ordinary[0]);
    free(self.ordinary[1]);
}

int main(void)
{
    uint64_t seed = ranks_seed();
    for (int world = 2; world <= 4; world++) {
        seed++;
        ranks_run(RANKS_PROCESSES, world, 120, rank_run, &seed);
    }
    return 0;
}
