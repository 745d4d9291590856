/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#22299: a batch larger than the largest captured size hit an assertion. Here it is called instead of replayed, over its own rows
 * or the next multiple of a tile, with padding zeroed as ever, and counted; what does not vary is replayed even then. Any size does, also
 * between replays, also when nothing is captured at all.
 */
#include "harness/check.h"
#include "harness/layers.h"
#include "harness/ranks.h"

#define LARGEST 16
#define TILE 8
#define ROWS 1032
static const size_t sizes[] = {4, LARGEST};
static const size_t above[] = {17, 24, 25, 100, 1025, 33, 1024};
#define ABOVE (sizeof(above) / sizeof(above[0]))

static void one_size(struct layers *layers, struct layers *plain, size_t rows, int step)
{
    tutti_runner_stats_t before = layers_stats(layers);
    int dense = layers->calls[LAYERS_DENSE];
    int fixed = layers->calls[LAYERS_CONSTANT];
    layers->widest[LAYERS_DENSE] = layers->widest[LAYERS_ATTENTION] = 0;
    CHECK(layers_differ(layers, plain, rows, step) == 0, "rank %d, %zu rows", layers->rank, rows);
    tutti_runner_stats_t after = layers_stats(layers);
    size_t width = (rows + TILE - 1) / TILE * TILE;
    CHECK(after.oversize_runs == before.oversize_runs + 1 && after.eager_runs == before.eager_runs, "%zu rows", rows);
    CHECK(after.padding_rows == before.padding_rows + width - rows && after.rows == before.rows + rows, "%zu rows",
          rows);
    CHECK(layers->calls[LAYERS_DENSE] == dense + 2 && layers->widest[LAYERS_DENSE] == width &&
              layers->widest[LAYERS_ATTENTION] == rows,
          "%zu rows: dense over %zu", rows, layers->widest[LAYERS_DENSE]);
    CHECK(layers->calls[LAYERS_CONSTANT] == fixed + (before.captures == 0), "%zu rows: the constant segment is %s",
          rows, before.captures == 0 ? "not called" : "called");
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const tutti_runner_options options = {
        .struct_bytes = sizeof(options), .buckets = sizes, .bucket_count = 2, .oversize_multiple = TILE};
    struct layers layers;
    struct layers plain;
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    layers_open(&layers, comm, rank, world, 0, ROWS, &options);
    layers_open_plain(&plain, comm, rank, world, 0, ROWS);
    layers.poison = LAYERS_NAN;
    for (int captured = 0; captured < 2; captured++) {
        for (size_t index = 0; index < ABOVE; index++) {
            one_size(&layers, &plain, above[index], captured * 100 + (int)index);
            CHECK(layers_differ(&layers, &plain, index + 1, 50 + (int)index) == 0, "rank %d, in between", rank);
        }
        if (captured == 0) {
            CHECK_OK(tutti_runner_capture(layers.runner, layers.stream));
        }
    }
    tutti_runner_stats_t stats = layers_stats(&layers);
    CHECK(stats.oversize_runs == 2 * ABOVE && stats.replayed_runs == ABOVE && stats.eager_runs == ABOVE, "rank %d",
          rank);
    layers_close(&layers);
    layers_close(&plain);
    tutti_comm_destroy(comm);
}

int main(void)
{
    ranks_run(RANKS_PROCESSES, 2, 120, run_rank, NULL);
    return 0;
}
