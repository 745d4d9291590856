/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random programs of tutti_alloc, tutti_free, writes, looks at the peers' parts and collectives from and to such memory: contents
 * survive whatever else is made and freed, peers see what a rank wrote, and nothing is left at the end.
 *
 *     memory processes-5 | threads-3 | mixed-4 (two processes of two threads)
 */
#include <pthread.h>
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/footprint.h"
#include "harness/ranks.h"

#define LIVE_MAX 6
#define BYTES_MAX ((size_t)3 << 20)

struct live {
    unsigned char *memory; /* NULL: none */
    size_t bytes;
    unsigned id, version; /* version 0: as it was made */
};

struct program {
    int world, threads, steps;
    uint64_t seed;
};

struct rank {
    int rank, world;
    tutti_comm *comm;
    uint64_t random; /* the same on all ranks */
    unsigned made;
    uint64_t allocs, frees;
    struct live live[LIVE_MAX];
};

static unsigned char value(const struct live *live, int rank, size_t index)
{
    uint64_t word = ((uint64_t)live->id << 40) + ((uint64_t)live->version << 20) + (uint64_t)rank * 4099 + index;
    word *= 0x9e3779b97f4a7c15u;
    return live->version == 0 ? 0 : (unsigned char)(word >> 56);
}

static void check_part(const struct live *live, const unsigned char *memory, int rank, const char *whose)
{
    size_t step = live->bytes / 4096 + 1; /* not every byte; the first, the last, and some between */
    for (size_t index = 0; index < live->bytes; index += step) {
        CHECK(memory[index] == value(live, rank, index), "%s: allocation %u, version %u, byte %zu of %zu", whose,
              live->id, live->version, index, live->bytes);
    }
    CHECK(memory[live->bytes - 1] == value(live, rank, live->bytes - 1), "%s: the last byte of %zu", whose,
          live->bytes);
}

static void write_part(struct rank *self, struct live *live)
{
    live->version++;
    for (size_t index = 0; index < live->bytes; index++) {
        live->memory[index] = value(live, self->rank, index);
    }
}

static void make(struct rank *self, struct live *live)
{
    size_t bytes = 1 + (size_t)(ranks_random(&self->random) % (ranks_random(&self->random) % 2 ? BYTES_MAX : 9000));
    void *memory = NULL;
    CHECK_OK(tutti_alloc(self->comm, bytes, &memory));
    *live = (struct live){memory, bytes, ++self->made, 0};
    self->allocs++;
    check_part(live, live->memory, self->rank, "new");
}

static void drop(struct rank *self, struct live *live)
{
    check_part(live, live->memory, self->rank, "before its end");
    CHECK_OK(tutti_free(self->comm, live->memory));
    live->memory = NULL;
    self->frees++;
}

/* Every rank reads every rank's part, from an address somewhere in it. */
static void look_at_peers(struct rank *self, struct live *live)
{
    size_t inside = (size_t)(ranks_random(&self->random) % live->bytes);
    CHECK_OK(tutti_barrier(self->comm, NULL));
    for (int rank = 0; rank < self->world; rank++) {
        void *peer = NULL;
        CHECK_OK(tutti_peer_pointer(self->comm, live->memory + inside, rank, &peer));
        CHECK(rank != self->rank || peer == live->memory + inside, "%p is not %p", peer, (void *)live->memory);
        check_part(live, (const unsigned char *)peer - inside, rank, "a peer's part");
    }
    CHECK_OK(tutti_barrier(self->comm, NULL));
}

/* all_reduce from one to another, or in place. */
static void reduce(struct rank *self, struct live *from, struct live *to)
{
    size_t bytes = from->bytes < to->bytes ? from->bytes : to->bytes;
    size_t count = bytes / sizeof(float);
    float *src = (float *)(void *)from->memory;
    float *dst = (float *)(void *)to->memory;
    for (size_t index = 0; index < count; index++) {
        src[index] = (float)((index + from->id + (size_t)self->rank * 3) % 1000);
    }
    CHECK_OK(tutti_all_reduce(self->comm, src, dst, count, TUTTI_F32, TUTTI_SUM, NULL));
    for (size_t index = 0; index < count; index += count / 997 + 1) {
        size_t sum = 0;
        for (int rank = 0; rank < self->world; rank++) {
            sum += (index + from->id + (size_t)rank * 3) % 1000;
        }
        CHECK(dst[index] == (float)sum, "element %zu of %zu: %g instead of %zu", index, count, (double)dst[index], sum);
    }
    write_part(self, from);
    if (to != from) {
        write_part(self, to);
    }
}

static void step(struct rank *self)
{
    uint64_t word = ranks_random(&self->random);
    struct live *live = &self->live[word % LIVE_MAX];
    struct live *other = &self->live[word / LIVE_MAX % LIVE_MAX];
    switch (live->memory == NULL ? 0 : 1 + (word >> 32) % 5) {
    case 0:
        make(self, live);
        break;
    case 1:
        drop(self, live);
        break;
    case 2:
        write_part(self, live);
        break;
    case 3:
        look_at_peers(self, live);
        break;
    case 4:
        reduce(self, live, other->memory != NULL ? other : live);
        break;
    default:
        check_part(live, live->memory, self->rank, "its own");
        break;
    }
}

static void check_counts(struct rank *self)
{
    tutti_stats stats = {.struct_bytes = sizeof(stats)};
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    uint64_t count = 0;
    uint64_t bytes = 0;
    for (int index = 0; index < LIVE_MAX; index++) {
        count += self->live[index].memory != NULL;
        bytes += self->live[index].memory != NULL ? self->live[index].bytes : 0;
    }
    CHECK_OK(tutti_comm_stats(self->comm, &stats));
    CHECK_OK(tutti_comm_info(self->comm, &info));
    CHECK(stats.allocs == self->allocs && stats.frees == self->frees, "%llu made, %llu freed",
          (unsigned long long)stats.allocs, (unsigned long long)stats.frees);
    CHECK(info.symmetric_count == count && info.symmetric_bytes >= bytes && info.arena_bytes >= info.symmetric_bytes,
          "%llu allocations, %llu bytes", (unsigned long long)info.symmetric_count,
          (unsigned long long)info.symmetric_bytes);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const struct program *program = user;
    struct rank self = {.rank = rank, .world = world, .random = program->seed};
    self.comm = ranks_comm(rank, world, rendezvous);
    CHECK_OK(tutti_barrier(self.comm, NULL));
    struct footprint before = footprint_take(self.comm);
    CHECK_OK(tutti_barrier(self.comm, NULL));
    for (int index = 0; index < program->steps; index++) {
        step(&self);
        if (index % 16 == 0) {
            check_counts(&self);
        }
    }
    for (int index = 0; index < LIVE_MAX; index++) {
        if (self.live[index].memory != NULL) {
            drop(&self, &self.live[index]);
        }
    }
    CHECK_OK(tutti_barrier(self.comm, NULL));
    struct footprint after = footprint_take(self.comm);
    footprint_same(&before, &after, "after everything was freed");
    CHECK_OK(tutti_barrier(self.comm, NULL));
    tutti_comm_destroy(self.comm);
}

/* -- two processes of two threads ----------------------------------------------------------------------------- */

struct member {
    const struct program *program;
    int rank;
    const char *rendezvous;
};

static void *run_member(void *argument)
{
    struct member *member = argument;
    run_rank(member->rank, member->program->world, member->rendezvous, (void *)(uintptr_t)member->program);
    return NULL;
}

static void run_process(int process, int processes, const char *rendezvous, void *user)
{
    const struct program *program = user;
    pthread_t threads[2];
    struct member members[2];
    (void)processes;
    for (int index = 0; index < 2; index++) {
        members[index] = (struct member){program, process * 2 + index, rendezvous};
        CHECK(pthread_create(&threads[index], NULL, run_member, &members[index]) == 0, "pthread_create");
    }
    for (int index = 0; index < 2; index++) {
        (void)pthread_join(threads[index], NULL);
    }
}

int main(int count, char **arguments)
{
    const char *how = count == 2 ? arguments[1] : "processes-2";
    const char *dash = strchr(how, '-');
    CHECK(dash != NULL && dash[1] >= '1' && dash[1] <= '8', "'%s' is not processes-N, threads-N or mixed-N", how);
    struct program program = {.world = dash[1] - '0', .seed = ranks_seed()};
    program.steps = effort() == EFFORT_QUICK ? 60 : effort() == EFFORT_NORMAL ? 250 : 3000;
    if (how[0] == 'm') {
        ranks_run(RANKS_PROCESSES, program.world / 2, 240, run_process, &program);
    } else {
        ranks_run(how[0] == 'p' ? RANKS_PROCESSES : RANKS_THREADS, program.world, 240, run_rank, &program);
    }
    return 0;
}
