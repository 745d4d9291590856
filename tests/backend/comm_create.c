/* SPDX-License-Identifier: Apache-2.0 */
/* Creation: every way to meet, ranks as threads and as processes and mixed, one communicator after another through one
 * rendezvous; and that nothing stays behind. */
#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/ranks.h"

#define COUNT 257

/* An all-reduce whose result only this call of these ranks can have. */
static void use(tutti_comm *comm, int rank, int world, unsigned call)
{
    float values[COUNT];
    for (int index = 0; index < COUNT; index++) {
        values[index] = (float)((rank + 1) * (index + 1) + (int)call % 7);
    }
    CHECK_OK(tutti_all_reduce(comm, values, values, COUNT, TUTTI_F32, TUTTI_SUM, NULL));
    for (int index = 0; index < COUNT; index++) {
        float expected = (float)(world * (world + 1) / 2 * (index + 1) + world * ((int)call % 7));
        CHECK(values[index] == expected, "rank %d of %d, call %u, element %d: %f instead of %f", rank, world, call,
              index, (double)values[index], (double)expected);
    }
}

static void look(const tutti_comm *comm, int rank, int world, int processes)
{
    tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
    CHECK_OK(tutti_comm_info(comm, &info));
    CHECK(info.rank == rank && info.world == world, "rank %d of %d", info.rank, info.world);
    CHECK(info.processes == processes, "%d processes instead of %d", info.processes, processes);
    CHECK(info.lost_ranks == 0 && info.arena_bytes > 0 && info.mapped_bytes == info.arena_bytes * (uint64_t)world,
          "mapped %" PRIu64 " of arena %" PRIu64, info.mapped_bytes, info.arena_bytes);
    CHECK(strcmp(info.backend, ON_DEVICES ? getenv("TUTTI_TEST_GPU") : "host") == 0 && info.backend_reason[0] != 0 &&
              info.create_us > 0,
          "backend %s", info.backend);
}

/* -- a rendezvous by name ---------------------------------------------------------------------------- */

struct plan {
    const char *rendezvous; /* NULL: the one that ranks_run gives */
    int processes;
    unsigned rounds;
};

static void meet_and_use(int rank, int world, const char *rendezvous, void *user)
{
    const struct plan *plan = user;
    for (unsigned round = 0; round < plan->rounds; round++) {
        tutti_comm *comm = ranks_comm(rank, world, plan->rendezvous != NULL ? plan->rendezvous : rendezvous);
        look(comm, rank, world, plan->processes);
        use(comm, rank, world, round);
        tutti_comm_destroy(comm);
    }
}

static void test_worlds(void)
{
    for (int world = 1; world <= 8; world++) {
        struct plan processes = {NULL, world, 3};
        struct plan threads = {NULL, 1, 3};
        ranks_run(RANKS_PROCESSES, world, 60, meet_and_use, &processes);
        ranks_run(RANKS_THREADS, world, 60, meet_and_use, &threads);
    }
    struct plan many = {NULL, 1, 2};
    ranks_run(RANKS_THREADS, ON_DEVICES ? 8 : 64, 120, meet_and_use, &many);
}

/* A port that was free a moment ago. */
static int port_find(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "bind");
    CHECK(getsockname(fd, (struct sockaddr *)&address, &bytes) == 0, "getsockname");
    (void)close(fd);
    return ntohs(address.sin_port);
}

static int ipv6_works(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    int works = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return works;
}

static void test_tcp(void)
{
    const char *hosts[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t index = 0; index < 3; index++) {
        if (index == 2 && !ipv6_works()) {
            printf("no IPv6 here: [::1] was not tried\n");
            continue;
        }
        char text[64];
        (void)snprintf(text, sizeof(text), "tcp:%s:%d", hosts[index], port_find());
        struct plan plan = {text, 4, 4};
        ranks_run(RANKS_PROCESSES, 4, 60, meet_and_use, &plan);
        plan.processes = 1;
        ranks_run(RANKS_THREADS, 3, 60, meet_and_use, &plan);
    }
}

/* -- two processes of two threads each ------------------------------------------------------------------- */

struct member {
    int rank;
    const char *rendezvous;
};

static void *member_main(void *argument)
{
    const struct member *member = argument;
    struct plan plan = {NULL, 2, 5};
    meet_and_use(member->rank, 4, member->rendezvous, &plan);
    return NULL;
}

/* Ranks 0 and 2 live in one process, 1 and 3 in the other. */
static void mixed_process(int process, int world, const char *rendezvous, void *user)
{
    (void)world;
    (void)user;
    pthread_t threads[2];
    struct member members[2] = {{process, rendezvous}, {process + 2, rendezvous}};
    for (int index = 0; index < 2; index++) {
        CHECK(pthread_create(&threads[index], NULL, member_main, &members[index]) == 0, "pthread_create");
    }
    for (int index = 0; index < 2; index++) {
        (void)pthread_join(threads[index], NULL);
    }
}

/* -- the caller's allgather ---------------------------------------------------------------------------------- */

struct board {
    pthread_barrier_t barrier;
    int fail_on; /* the rank whose callback fails; -1: none */
    unsigned char bytes[8][4096];
};

struct board_view {
    struct board *board;
    int rank, world;
};

static int board_allgather(void *user, const void *mine, void *all, size_t bytes)
{
    struct board_view *view = user;
    CHECK(bytes <= sizeof(view->board->bytes[0]), "%zu bytes", bytes);
    memcpy(view->board->bytes[view->rank], mine, bytes);
    (void)pthread_barrier_wait(&view->board->barrier);
    for (int rank = 0; rank < view->world; rank++) {
        memcpy((unsigned char *)all + (size_t)rank * bytes, view->board->bytes[rank], bytes);
    }
    (void)pthread_barrier_wait(&view->board->barrier);
    return view->board->fail_on >= 0 ? 7 : 0;
}

static void meet_by_callback(int rank, int world, const char *rendezvous, void *user)
{
    (void)rendezvous;
    struct board *board = user;
    struct board_view view = {board, rank, world};
    tutti_comm_options options = {.struct_bytes = sizeof(options), .rank = rank, .world = world};
    options.allgather = board_allgather;
    options.allgather_user = &view;
    tutti_comm *comm = NULL;
    if (board->fail_on >= 0) {
        CHECK_STATUS(TUTTI_ERR_ARGUMENT, tutti_comm_create(&options, &comm));
        CHECK(strstr(tutti_last_error(), "returned 7") != NULL && comm == NULL, "%s", tutti_last_error());
        return;
    }
    CHECK_OK(tutti_comm_create(&options, &comm));
    use(comm, rank, world, 5);
    tutti_comm_destroy(comm);
}

static void test_callback(void)
{
    struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED, "mmap");
    for (int fail_on = -1; fail_on <= 0; fail_on++) {
        for (int world = 1; world <= 8; world++) {
            pthread_barrierattr_t shared;
            (void)pthread_barrierattr_init(&shared);
            (void)pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
            (void)pthread_barrier_init(&board->barrier, &shared, (unsigned)world);
            board->fail_on = fail_on;
            ranks_run(RANKS_PROCESSES, world, 60, meet_by_callback, board);
            ranks_run(RANKS_THREADS, world, 60, meet_by_callback, board);
            (void)pthread_barrier_destroy(&board->barrier);
        }
    }
    (void)munmap(board, sizeof(*board));
}

/* -- nothing stays -------------------------------------------------------------------------------------------- */

static int descriptors_count(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL, "/proc/self/fd");
    while (readdir(directory) != NULL) {
        count++;
    }
    (void)closedir(directory);
    return count;
}

static int segments_count(void)
{
    int count = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL, "/proc/self/maps");
    while (fgets(line, sizeof(line), maps) != NULL) {
        count += strstr(line, "memfd:tutti") != NULL;
    }
    (void)fclose(maps);
    return count;
}

static int threads_count(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/task");
    CHECK(directory != NULL, "/proc/self/task");
    while (readdir(directory) != NULL) {
        count++;
    }
    (void)closedir(directory);
    return count;
}

static void hundred_times(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct plan plan = {NULL, world, 1};
    meet_and_use(rank, world, rendezvous, &plan); /* whatever is made once per process */
    int descriptors = descriptors_count();
    int segments = segments_count();
    int threads = threads_count();
    CHECK(ON_DEVICES || segments == 0, "%d segments are mapped", segments);
    plan.rounds = 100;
    meet_and_use(rank, world, rendezvous, &plan);
    CHECK(ON_DEVICES || descriptors_count() == descriptors, "%d descriptors instead of %d", descriptors_count(),
          descriptors);
    CHECK(ON_DEVICES || segments_count() == 0, "%d segments are mapped",
          segments_count()); /* what peers still use stays */
    CHECK(ON_DEVICES || threads_count() == threads, "%d threads instead of %d", threads_count(), threads);
}

static void one_mapping_per_process(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    CHECK_OK(tutti_barrier(comm, NULL));
    /* Every segment is mapped once, though each of the ranks uses it. */
    CHECK(ON_DEVICES || segments_count() == world, "%d mappings for %d ranks", segments_count(), world);
    CHECK_OK(tutti_barrier(comm, NULL));
    tutti_comm_destroy(comm);
}

/* -- how long it takes ------------------------------------------------------------------------------------------ */

static int compare_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void measure(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    uint64_t us[21];
    for (int round = 0; round < 21; round++) {
        tutti_comm *comm = ranks_comm(rank, world, rendezvous);
        tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
        CHECK_OK(tutti_comm_info(comm, &info));
        us[round] = info.create_us;
        CHECK_OK(tutti_barrier(comm, NULL));
        tutti_comm_destroy(comm);
    }
    if (rank == 0) {
        qsort(us, 21, sizeof(us[0]), compare_u64);
        printf("creation of %d ranks as processes: median %" PRIu64 " us, slowest of 21 %" PRIu64 " us\n", world,
               us[10], us[20]);
    }
}

int main(void)
{
    CHECK(setenv("TUTTI_SESSION_TOKEN", "00112233445566778899aabbCCDDEEFF", 1) == 0, "setenv");
    ranks_run(RANKS_PROCESSES, 8, 60, measure, NULL);
    ranks_run(RANKS_PROCESSES, 3, 120, hundred_times, NULL);
    ranks_run(RANKS_THREADS, 6, 60, one_mapping_per_process, NULL);
    test_worlds();
    test_tcp();
    ranks_run(RANKS_PROCESSES, 2, 60, mixed_process, NULL);
    test_callback();
    CHECK(ON_DEVICES || segments_count() == 0, "%d segments are mapped", segments_count());
    return 0;
}
