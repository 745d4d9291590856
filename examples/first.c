/* SPDX-License-Identifier: Apache-2.0 */
/*
 * first.c - the first program: four processes add their vectors.
 *
 *     cc first.c $(pkg-config --cflags --libs tutti) -o first && ./first
 *
 * A real engine's ranks are started by torchrun, mpirun or srun and say options.rendezvous = "env"; here the
 * program starts its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tutti/tutti.h>

#define WORLD 4
#define COUNT 1000

static int rank_main(int rank, const char *rendezvous)
{
    tutti_comm_options options = {0};
    options.struct_bytes = sizeof(options);
    options.backend = "host";
    options.rank = rank;
    options.world = WORLD;
    options.rendezvous = rendezvous;
    tutti_comm *comm = NULL;
    if (tutti_comm_create(&options, &comm) != TUTTI_OK) {
        fprintf(stderr, "rank %d: %s\n", rank, tutti_last_error());
        return 1;
    }

    float vector[COUNT];
    for (int i = 0; i < COUNT; i++) {
        vector[i] = (float)(rank * COUNT + i);
    }
    if (tutti_all_reduce(comm, vector, vector, COUNT, TUTTI_F32, TUTTI_SUM, NULL) != TUTTI_OK) {
        fprintf(stderr, "rank %d: %s\n", rank, tutti_last_error());
        tutti_comm_destroy(comm);
        return 1;
    }
    printf("rank %d: the sum starts with %g and ends with %g\n", rank, (double)vector[0], (double)vector[COUNT - 1]);
    tutti_comm_destroy(comm);
    return vector[0] == 6000.0f && vector[COUNT - 1] == 9996.0f ? 0 : 1;
}

int main(void)
{
    char directory[] = "/tmp/first-XXXXXX"; /* where the ranks meet; nothing is written into it */
    char rendezvous[64];
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        return 1;
    }
    (void)snprintf(rendezvous, sizeof(rendezvous), "unix:%s", directory);
    for (int rank = 0; rank < WORLD; rank++) {
        if (fork() == 0) {
            return rank_main(rank, rendezvous);
        }
    }
    int failed = 0;
    for (int rank = 0; rank < WORLD; rank++) {
        int state = 0;
        failed |= wait(&state) < 0 || state != 0;
    }
    (void)rmdir(directory);
    return failed;
}
