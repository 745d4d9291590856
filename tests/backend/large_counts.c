/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts whose bytes exceed 2^31 and 2^32: sizes in 32 bits anywhere on the way
 * give wrong results.
 *
 *     large_counts all_reduce   2^31 bytes and some chunks, two ranks
 *     large_counts others       every collective, above 2^32 bytes; in the long
 * run only
 */
#include <stdio.h>
#include <string.h>

#include "harness/check.h"
#include "harness/effort.h"
#include "harness/job.h"
#include "harness/ranks.h"

#define GIB ((size_t)1 << 30)

static size_t memory_available_bytes(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    size_t kib = 0;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1) {
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kib * 1024;
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    struct job job = *(const struct job *)user;
    struct job_buffers buffers;
    area_create(&buffers.dst, job_bytes(&job, world));
    area_create(&buffers.src, job.in_place ? 0 : job_bytes(&job, world));
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    job_place(&job, rank, world, &buffers);
    job_fill(&job, 1);
    CHECK_OK(job_issue(&job, comm, NULL));
    job_verify(&job, "above 2^31 bytes", NULL);
    tutti_comm_destroy(comm);
    job_buffers_destroy(&buffers);
}

static void run(struct job job)
{
    char text[128];
    job.share_check = true;
    size_t needed = 2 * job_bytes(&job, 2) * (job.in_place ? 1 : 2) + 2 * GIB;
    job_describe(&job, text, sizeof(text));
    if (memory_available_bytes() < needed) {
        SKIP("%s needs %zu GiB of free memory, there are %zu", text, needed / GIB, memory_available_bytes() / GIB);
    }
    printf("%s\n", text);
    (void)fflush(stdout);
    ranks_run(RANKS_PROCESSES, 2, effort() == EFFORT_LONG ? 1800 : 240, run_rank, &job);
}

int main(int count, char **arguments)
{
    if (effort() == EFFORT_QUICK) {
        SKIP("large counts are too slow under a sanitizer");
    }
    if (count == 2 && strcmp(arguments[1], "others") != 0) {
        run((struct job){
            .kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F32, .count = (2 * GIB + GIB / 16) / 4 + 3, .in_place = true});
        return 0;
    }
    if (effort() != EFFORT_LONG) {
        SKIP("only in make test-long");
    }
    size_t bytes = 4 * GIB + 7;
    run((struct job){.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = bytes / 2, .in_place = true});
    run((struct job){
        .kind = TUTTI_REDUCE_SCATTER, .dtype = TUTTI_F16, .op = TUTTI_MAX, .count = bytes / 4, .in_place = true});
    run((struct job){.kind = TUTTI_ALL_GATHER, .count = bytes / 2, .in_place = true});
    run((struct job){.kind = TUTTI_ALL_GATHER, .count = 1000003, .rows = 1100});
    run((struct job){.kind = TUTTI_BROADCAST, .count = bytes, .root = 1, .in_place = true});
    run((struct job){.kind = TUTTI_ALL_TO_ALL, .count = bytes / 2, .in_place = true});
    return 0;
}
