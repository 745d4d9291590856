/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#22299: padding rows held garbage, which reached real rows through quantisation, expert routing and attention; and with
 * speculative decoding the count of real rows came from a field that was empty. Here padding holds NaN, infinities, huge numbers and random
 * bits before every run, and attention leaves the same behind between segments; token ids of padding would index beyond their
 * table. The real rows are bit for bit those of a run without padding: called, captured, replayed with other row counts in one bucket, captured
 * lazily. Experts need more than zeros, since a row of zeros takes room as well: they mask by the row word, and a model that does not is
 * told apart here.
 */
#include <stdlib.h>

#include "harness/check.h"
#include "harness/layers.h"
#include "harness/ranks.h"

#define ROWS 24
static const size_t sizes[] = {2, 8, 16};

static void all_counts(struct layers *layers, struct layers *plain, const char *how, int step)
{
    for (int poison = 0; poison < LAYERS_POISONS; poison++) {
        layers->poison = (enum layers_poison)poison;
        plain->poison = (enum layers_poison)((poison + 1) % LAYERS_POISONS);
        for (size_t index = 0; index < ROWS; index++) {
            size_t rows = (index * 7 + (size_t)poison) % ROWS + 1; /* up and down within a bucket */
            int wrong = layers_differ(layers, plain, rows, step++);
            CHECK(wrong == 0, "rank %d, %s, %zu rows over poison %d: %d values", layers->rank, how, rows, poison,
                  wrong);
        }
    }
}

static void padded(struct layers *layers, struct layers *plain, uint32_t flags)
{
    all_counts(layers, plain, "called", 0);
    if ((flags & TUTTI_RUNNER_LAZY) == 0) {
        CHECK_OK(tutti_runner_capture(layers->runner, layers->stream));
    }
    CHECK(layers_stats(layers).captures == 4 && layers_stats(plain).captures == 0, "rank %d", layers->rank);
    all_counts(layers, plain, "replayed", 1000);
    CHECK(layers_stats(layers).padding_rows > 0 && layers_stats(plain).padding_rows == 0, "rank %d", layers->rank);
}

/* What the word is for: rows of zeros are no harm to a sum or a maximum, and are to experts. */
static void unmasked(struct layers *layers, struct layers *plain)
{
    int wrong = 0;
    layers->unmasked = true;
    for (int step = 0; step < 20; step++) {
        wrong += layers_differ(layers, plain, 9, 3000 + step);
    }
    CHECK(wrong > 0, "rank %d: experts that take padding for rows are not noticed", layers->rank);
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    const uint32_t *flags = user;
    const tutti_runner_options options = {
        .struct_bytes = sizeof(options), .flags = *flags, .buckets = sizes, .bucket_count = 3, .oversize_multiple = 4};
    struct layers layers;
    struct layers plain;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    layers_open(&layers, comm, rank, world, 0, ROWS, &options);
    layers_open_plain(&plain, comm, rank, world, 0, ROWS);
    padded(&layers, &plain, *flags);
    unmasked(&layers, &plain);
    layers_close(&layers);
    layers_close(&plain);
    tutti_comm_destroy(comm);
}

int main(void)
{
    uint32_t flags[] = {0, TUTTI_RUNNER_LAZY};
    for (int which = 0; which < 2; which++) {
        ranks_run(RANKS_PROCESSES, 2, 120, run_rank, &flags[which]);
        ranks_run(RANKS_THREADS, ON_DEVICES ? 2 : 3, 120, run_rank, &flags[which]);
    }
    return 0;
}
