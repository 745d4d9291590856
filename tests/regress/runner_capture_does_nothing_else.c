/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#22299: during the capture of a piecewise graph a library started a program to ask for chip information, and hung. Here a runner
 * captures 12 buckets in the trap (harness/trap.h), at start-up and lazily, beside a thread that asks for statistics: from the first
 * capture to the agreement of the ranks the library starts no process or thread, opens and maps nothing; and while a segment is captured
 * it allocates nothing on devices, where a call is a kernel's arguments, and on the host, where a recorded call is memory, as much for
 * the last bucket as for the second. What a bucket takes around that, for its graphs, does not depend on its rows either.
 */
#include "harness/layers.h"
#include "harness/ranks.h"
#include "harness/trap.h"

#define ROWS 96
static const size_t sizes[] = {2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, ROWS};
#define BUCKETS ((int)(sizeof(sizes) / sizeof(sizes[0])))

static struct {
    bool capturing;
    int bucket;
    uint64_t in_segments[BUCKETS + 2], in_all[BUCKETS + 2]; /* allocations, by bucket */
    uint64_t before, begun;
} seen;

static void progress(void *user, const tutti_runner_progress_t *progress)
{
    (void)user;
    if (progress->phase == TUTTI_RUNNER_CAPTURE && !seen.capturing) {
        seen.capturing = true;
        arm();
        seen.begun = 0;
    } else if (progress->phase == TUTTI_RUNNER_CAPTURE) {
        seen.in_all[seen.bucket++] = atomic_load(&allocations) - seen.begun;
        seen.begun = atomic_load(&allocations);
    } else if (seen.capturing) {
        seen.capturing = false;
        (void)disarm("a runner's captures");
    }
}

static void spy(struct layers *layers, bool in)
{
    (void)layers;
    if (!seen.capturing) {
        return;
    }
    uint64_t now = atomic_load(&allocations);
    if (in) {
        seen.before = now;
    } else {
        seen.in_segments[seen.bucket] += now - seen.before;
    }
}

struct asker {
    tutti_comm *comm;
    _Atomic int stop;
};

static void *ask(void *argument)
{
    struct asker *asker = argument;
    while (atomic_load(&asker->stop) == 0) {
        tutti_stats stats = {.struct_bytes = sizeof(stats)};
        CHECK_OK(tutti_comm_status(asker->comm));
        CHECK_OK(tutti_comm_stats(asker->comm, &stats));
        (void)usleep(500);
    }
    return NULL;
}

static void bucket_check(int bucket)
{
    CHECK(!ON_DEVICES || seen.in_segments[bucket] == 0, "bucket %d allocates", bucket);
    CHECK(bucket < 2 || seen.in_all[bucket] == seen.in_all[1], "bucket %d takes %llu allocations", bucket,
          (unsigned long long)seen.in_all[bucket]);
    CHECK(bucket < 2 || seen.in_segments[bucket] == seen.in_segments[1], "bucket %d allocates %llu times", bucket,
          (unsigned long long)seen.in_segments[bucket]);
}

static void at_start(struct layers *layers, struct layers *plain)
{
    seen.bucket = 0;
    CHECK_OK(tutti_runner_capture(layers->runner, layers->stream));
    CHECK(!seen.capturing && seen.bucket == BUCKETS, "%d captures were told of", seen.bucket);
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        bucket_check(bucket);
    }
    for (size_t rows = 1; rows <= ROWS; rows += 7) {
        CHECK(layers_differ(layers, plain, rows, (int)rows) == 0, "rank %d: %zu rows", layers->rank, rows);
    }
}

static void lazily(struct layers *layers, struct layers *plain)
{
    for (size_t rows = ROWS; rows > 0; rows--) {
        seen.bucket = 0;
        CHECK(layers_differ(layers, plain, rows, (int)rows) == 0, "rank %d: %zu rows", layers->rank, rows);
    }
    CHECK(layers_stats(layers).captures == (uint64_t)BUCKETS + 1, "rank %d", layers->rank);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct asker asker = {.comm = ranks_comm(rank, world, rendezvous)};
    struct layers plain;
    pthread_t thread;
    trap_set();
    layers_open_plain(&plain, asker.comm, rank, world, 0, ROWS);
    CHECK(pthread_create(&thread, NULL, ask, &asker) == 0, "no thread");
    for (int lazy = 0; lazy < 2; lazy++) {
        struct layers layers;
        const tutti_runner_options options = {.struct_bytes = sizeof(options),
                                              .flags = lazy ? TUTTI_RUNNER_LAZY : 0,
                                              .buckets = sizes,
                                              .bucket_count = (size_t)BUCKETS,
                                              .progress = progress};
        layers_open(&layers, asker.comm, rank, world, 0, ROWS, &options);
        layers.spy = spy;
        if (lazy) {
            lazily(&layers, &plain);
        } else {
            at_start(&layers, &plain);
        }
        layers_close(&layers);
    }
    atomic_store(&asker.stop, 1);
    (void)pthread_join(thread, NULL);
    layers_close(&plain);
    tutti_comm_destroy(asker.comm);
}

int main(void)
{
    if (!TRAPS) {
        SKIP("sanitizers have put themselves in the places that this test watches");
    }
    ranks_run(RANKS_PROCESSES, 2, 60, run_rank, NULL);
    return 0;
}
