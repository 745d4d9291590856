/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#14193: captured kernels read addresses that were filled in after the capture window; whatever was captured outside of it, or
 * replayed inside, died, sometimes only at particular sizes (two prompts of 1025 tokens), and a segment without a varying
 * dimension failed by itself. Here, in one session: capture, replay, capture again, sizes in any order, among them segments of one
 * size; then the commit, and the same graphs; then buckets that are captured while others serve, replayed before their own commit. Each
 * is captured in one pass, some are replayed for the first time only after the commit, and every result is the one right one, so
 * that all ways have the same bits.
 */
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/ranks.h"
#include "harness/replayed.h"

#define HIDDEN 32
#define BUCKETS_MAX 9

static const size_t rows_of[BUCKETS_MAX] = {1025, 1, 2048, 1025, 3, 512, 777, 2, 64};

struct engine {
    tutti_comm *comm;
    tutti_host_stream *stream;
    struct replayed fixed; /* a segment that is the same for all batches */
    struct replayed buckets[BUCKETS_MAX];
    size_t order[BUCKETS_MAX];
    int captured, bucket_count;
    uint64_t random, number;
};

/* Two layers' reduces with a gather between them. */
static void bucket_make(struct replayed *bucket, size_t rows, int rank, int world)
{
    const struct job first = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = rows * HIDDEN};
    const struct job gather = {.kind = TUTTI_ALL_GATHER, .count = rows * 2};
    const struct job second = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = rows * HIDDEN, .in_place = true};
    replayed_add(bucket, &first, rank, world);
    replayed_add(bucket, &gather, rank, world);
    replayed_add(bucket, &second, rank, world);
}

static void engine_make(struct engine *engine, int rank, int world, const char *rendezvous, uint64_t seed)
{
    const struct job fixed = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F32, .count = 10000};
    *engine = (struct engine){.comm = ranks_comm(rank, world, rendezvous), .random = seed};
    engine->stream = replayed_stream();
    engine->bucket_count = effort() == EFFORT_QUICK ? 6 : BUCKETS_MAX;
    replayed_add(&engine->fixed, &fixed, rank, world);
    for (int index = 0; index < engine->bucket_count; index++) {
        engine->order[index] = (size_t)index;
    }
    for (int index = engine->bucket_count - 1; index > 0; index--) { /* the same on all ranks */
        int other = (int)(ranks_random(&engine->random) % (uint64_t)(index + 1));
        size_t kept = engine->order[index];
        engine->order[index] = engine->order[other];
        engine->order[other] = kept;
    }
    for (int index = 0; index < engine->bucket_count; index++) {
        bucket_make(&engine->buckets[index], rows_of[engine->order[index]], rank, world);
    }
}

static void serve_fixed(struct engine *engine, const char *how)
{
    replayed_run(&engine->fixed, engine->stream, ++engine->number, how, NULL);
}

/* One of those captured so far, and the fixed segment. */
static void serve(struct engine *engine, const char *how)
{
    int which = (int)(ranks_random(&engine->random) % (uint64_t)engine->captured);
    replayed_run(&engine->buckets[which], engine->stream, ++engine->number, how, NULL);
    serve_fixed(engine, how);
}

static void capture_next(struct engine *engine)
{
    replayed_capture(&engine->buckets[engine->captured++], engine->comm, engine->stream);
}

/* How many calls of the graphs would be direct, once committed. */
static uint64_t direct_calls(const struct engine *engine)
{
    uint64_t count = replayed_direct(engine->comm, &engine->fixed.jobs[0]);
    for (int index = 0; index < engine->captured; index++) {
        for (int job = 0; job < engine->buckets[index].count; job++) {
            count += replayed_direct(engine->comm, &engine->buckets[index].jobs[job]);
        }
    }
    return count;
}

/* Everything is committed: every replay of a graph with large calls shows it. */
static void serve_all(struct engine *engine, const char *how)
{
    tutti_stats before = replayed_stats(engine->comm);
    CHECK(before.pending_calls == 0 && before.committed_calls == direct_calls(engine), "%s: %llu direct, %llu wait",
          how, (unsigned long long)before.committed_calls, (unsigned long long)before.pending_calls);
    for (int index = 0; index < engine->captured; index++) {
        replayed_run(&engine->buckets[index], engine->stream, ++engine->number, how, NULL);
    }
    serve_fixed(engine, how);
    tutti_stats after = replayed_stats(engine->comm);
    CHECK(!ON_DEVICES || after.direct_calls - before.direct_calls == before.committed_calls,
          "%s: %llu calls went directly, not %llu", how, (unsigned long long)(after.direct_calls - before.direct_calls),
          (unsigned long long)before.committed_calls);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    static _Thread_local struct engine engine;
    tutti_capture *session = NULL;
    engine_make(&engine, rank, world, rendezvous, *(const uint64_t *)user);
    int eager = engine.bucket_count / 2; /* captured before serving begins; the others lazily */
    CHECK_OK(tutti_capture_begin(engine.comm, engine.stream, &session));
    replayed_capture(&engine.fixed, engine.comm, engine.stream);
    while (engine.captured < eager) {
        capture_next(&engine);
        if (ranks_random(&engine.random) % 2 == 0) {
            serve(&engine, "replayed before the commit");
        }
    }
    tutti_stats before = replayed_stats(engine.comm);
    CHECK(!ON_DEVICES || before.direct_calls == 0, "something is direct before the commit");
    CHECK(before.committed_calls == 0, "something is committed before the commit");
    CHECK_OK(tutti_capture_commit(session));
    serve_all(&engine, "committed");
    while (engine.captured < engine.bucket_count) {
        capture_next(&engine);
        serve(&engine, "beside a bucket that is not committed");
        replayed_run(&engine.buckets[engine.captured - 1], engine.stream, ++engine.number, "captured lazily", NULL);
        if (ranks_random(&engine.random) % 2 == 0) {
            CHECK_OK(tutti_commit(engine.comm));
        }
    }
    CHECK_OK(tutti_commit(engine.comm));
    serve_all(&engine, "all committed");
    replayed_destroy(&engine.fixed);
    for (int index = 0; index < engine.bucket_count; index++) {
        replayed_destroy(&engine.buckets[index]);
    }
    tutti_host_stream_destroy(engine.stream);
    tutti_comm_destroy(engine.comm);
}

int main(void)
{
    uint64_t seed = ranks_seed();
    ranks_run(RANKS_PROCESSES, 2, 60, run_rank, &seed);
    ranks_run(RANKS_PROCESSES, 3, 60, run_rank, &seed);
    ranks_run(RANKS_THREADS, 2, 60, run_rank, &seed);
    return 0;
}
