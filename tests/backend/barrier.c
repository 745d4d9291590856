/* SPDX-License-Identifier: Apache-2.0 */
/* Nobody leaves a barrier before everybody has come: eagerly, on a stream, and
 * in a graph. */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "tutti/host.h"

#define ROUNDS 150

struct shared {
    _Atomic int arrived;
};

struct rank {
    struct shared *shared;
    int rank, world;
    int round, early; /* rounds gone through; how often somebody was missing */
    uint64_t random;
};

static void arrive(void *argument)
{
    struct rank *self = argument;
    for (uint64_t yields = ranks_random(&self->random) % 4; yields > 0; yields--) {
        (void)sched_yield();
    }
    atomic_fetch_add_explicit(&self->shared->arrived, 1, memory_order_relaxed);
}

/* Between two barriers all ranks arrive once: nobody can be ahead by more than
 * one round. */
static void look(void *argument)
{
    struct rank *self = argument;
    self->round++;
    int arrived = atomic_load_explicit(&self->shared->arrived, memory_order_relaxed);
    self->early += arrived < self->round * self->world || arrived > (self->round + 1) * self->world;
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    struct rank self = {.shared = user, .rank = rank, .world = world, .random = (uint64_t)rank};
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_host_stream *stream = NULL;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_stream_create(&stream));
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    for (int i = 0; i < ROUNDS; i++) {
        arrive(&self);
        CHECK_OK(tutti_barrier(comm, NULL));
        look(&self);
    }
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_OK(tutti_host_enqueue(stream, arrive, &self));
        CHECK_OK(tutti_barrier(comm, &call));
        CHECK_OK(tutti_host_enqueue(stream, look, &self));
    }
    CHECK_OK(tutti_host_stream_synchronize(stream));
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_THREAD_LOCAL));
    CHECK_OK(tutti_host_enqueue(stream, arrive, &self));
    CHECK_OK(tutti_barrier(comm, &call));
    CHECK_OK(tutti_host_enqueue(stream, look, &self));
    CHECK_OK(tutti_host_capture_end(stream, &graph));
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_OK(tutti_host_graph_launch(graph, stream));
    }
    CHECK_OK(tutti_host_stream_synchronize(stream));
    CHECK_OK(tutti_comm_status(comm));
    CHECK(self.early == 0 && self.round == 3 * ROUNDS, "rank %d left %d of %d barriers too early", rank, self.early,
          self.round);
    tutti_host_graph_destroy(graph);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
}

int main(void)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED, "no shared page");
    static const int worlds[] = {1, 2, 3, 5, 8};
    for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++) {
        for (int mode = RANKS_PROCESSES; mode <= RANKS_THREADS; mode++) {
            atomic_store(&shared->arrived, 0);
            ranks_run((enum ranks_mode)mode, worlds[i], 60, run_rank, shared);
        }
    }
    return 0;
}
