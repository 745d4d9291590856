/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#22299 and #23580: during a capture a library started a program and hung; another one's thread called the driver and
 * invalidated the capture. Here, between two marks, every allocation, mapping, thread, process and file that is asked for is counted, by
 * who asks; and on simulated devices also the driver calls of other threads. Captured calls, all kinds of them, in sessions and
 * without, ask for nothing, while the watchdog runs and another thread asks for status and statistics all the time.
 *
 * On devices what counts is what the library itself asks for: a driver may do what it likes. On the host backend the library is also what
 * the driver is there, and a recorded call is memory; so what each call allocates is counted, and must be the same for all kinds and
 * sizes, but for lists that grow now and then, which the very first call does. Anything else stays forbidden.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/ranks.h"
#include "harness/replayed.h"
#include "harness/trap.h"

/* -- what is captured -------------------------------------------------------------------------------------------- */

static const struct job jobs[] = {
    {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_BF16, .count = 40000},
    {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F32, .count = 3},
    {.kind = TUTTI_REDUCE_SCATTER, .dtype = TUTTI_F16, .count = 30000},
    {.kind = TUTTI_ALL_GATHER, .count = 70000},
    {.kind = TUTTI_ALL_GATHER, .count = 64, .rows = 8},
    {.kind = TUTTI_BROADCAST, .count = 50001},
    {.kind = TUTTI_ALL_TO_ALL, .count = 4096},
    {.kind = TUTTI_BARRIER},
};
#define JOBS (sizeof(jobs) / sizeof(jobs[0]))
#define TIMES (ON_DEVICES ? 6 : 30)

/* Asks all the time, as a server's monitoring does. */
struct asker {
    tutti_comm *comm;
    _Atomic int stop;
};

static void *ask(void *argument)
{
    struct asker *asker = argument;
    while (atomic_load(&asker->stop) == 0) {
        tutti_stats stats = {.struct_bytes = sizeof(stats)};
        tutti_comm_info_t info = {.struct_bytes = sizeof(info)};
        CHECK_OK(tutti_comm_status(asker->comm));
        CHECK_OK(tutti_comm_stats(asker->comm, &stats));
        CHECK_OK(tutti_comm_info(asker->comm, &info));
        (void)usleep(500);
    }
    return NULL;
}

/* One call, and what it asked for. */
static uint64_t count_call(const struct job *job, tutti_comm *comm, const tutti_call *call)
{
    arm();
    tutti_status status = job_issue(job, comm, call);
    uint64_t count = disarm("a captured call");
    CHECK_OK(status);
    return count;
}

static void capture(struct replayed *graph, tutti_comm *comm, tutti_host_stream *stream, bool first)
{
    static uint64_t very_first;
    uint64_t least[JOBS];
    const tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_GLOBAL));
    for (int times = 0; times < TIMES; times++) {
        for (int index = 0; index < graph->count; index++) {
            uint64_t count = count_call(&graph->jobs[index], comm, &call);
            least[index] = times == 0 || count < least[index] ? count : least[index];
            if (ON_DEVICES) {
                CHECK(count == 0, "a captured call allocates %llu times", (unsigned long long)count);
            } else if (first && times == 0 && index == 0) {
                very_first = count;
            }
            CHECK(ON_DEVICES || count <= very_first,
                  "call %d, for the %dth time, allocates %llu times, the very first %llu times", index, times + 1,
                  (unsigned long long)count, (unsigned long long)very_first);
        }
    }
    for (int index = 1; index < graph->count; index++) {
        CHECK(least[index] == least[0], "call %d allocates %llu times, call 0 %llu times", index,
              (unsigned long long)least[index], (unsigned long long)least[0]);
    }
    arm();
    (void)usleep(30000); /* watchdogs go on */
    CHECK(disarm("an open capture") == 0, "something is allocated while nobody calls");
    CHECK_OK(tutti_host_capture_end(stream, &graph->graph));
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    trap_set();
    struct replayed graph = {0};
    tutti_capture *session = NULL;
    struct asker asker = {.comm = ranks_comm(rank, world, rendezvous)};
    tutti_comm *comm = asker.comm;
    tutti_host_stream *stream = replayed_stream();
    pthread_t thread;
    for (size_t index = 0; index < JOBS; index++) {
        replayed_add(&graph, &jobs[index], rank, world);
    }
    CHECK(pthread_create(&thread, NULL, ask, &asker) == 0, "no thread");
    capture(&graph, comm, stream, true); /* the first calls of the communicator are captured ones */
    replayed_run(&graph, stream, 1, "captured in the trap", NULL);
    replayed_drop(&graph);
    CHECK_OK(tutti_capture_begin(comm, stream, &session));
    capture(&graph, comm, stream, false);
    replayed_run(&graph, stream, 2, "captured in the trap, in a session", NULL);
    CHECK_OK(tutti_capture_commit(session));
    replayed_run(&graph, stream, 3, "committed", NULL);
    atomic_store(&asker.stop, 1);
    (void)pthread_join(thread, NULL);
    replayed_destroy(&graph);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
}

/* The trap itself works: what the library does at creation is seen. */
static void spring_trap(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    trap_set();
    atomic_store(&armed, 1);
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    atomic_store(&armed, 0);
    CHECK(atomic_load(&others) > 0, "a communicator maps memory, and nobody saw it");
    CHECK(atomic_load(&allocations) > 0, "a communicator allocates memory, and nobody saw it");
    tutti_comm_destroy(comm);
}

int main(void)
{
    if (!TRAPS) {
        SKIP("sanitizers have put themselves in the places that this test watches");
    }
    ranks_run(RANKS_PROCESSES, 2, 60, spring_trap, NULL);
    ranks_run(RANKS_PROCESSES, 2, 60, run_rank, NULL);
    return 0;
}
