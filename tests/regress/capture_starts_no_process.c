/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sglang#22299: during a capture a library lazily ran a program to ask for device information, and hung. Here
 * everything lazy happens at creation: a filter that kills whoever starts a process, a thread or a program, or
 * opens a file or a socket, is put on between creation and capture, and capture, replay and eager calls pass.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/job.h"
#include "harness/ranks.h"
#include "tutti/host.h"

static const unsigned forbidden[] = {
#ifdef SYS_fork
    SYS_fork,  SYS_vfork,
#endif
    SYS_clone, SYS_clone3, SYS_execve, SYS_execveat, SYS_openat, SYS_socket, SYS_memfd_create,
};
#define FORBIDDEN_COUNT (sizeof(forbidden) / sizeof(forbidden[0]))

static void set_trap(void)
{
    struct sock_filter program[2 * FORBIDDEN_COUNT + 2];
    size_t length = 0;
    program[length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, nr));
    for (size_t index = 0; index < FORBIDDEN_COUNT; index++) {
        program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, forbidden[index], 0, 1);
        program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    }
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {.len = (unsigned short)length, .filter = program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        SKIP("no seccomp filter to be had: %s", strerror(errno));
    }
}

static void run_rank(int rank, int world, const char *rendezvous, void *user)
{
    (void)user;
    struct job job = {.kind = TUTTI_ALL_REDUCE, .dtype = TUTTI_F16, .count = 200000};
    struct job_buffers buffers;
    job_buffers_create(&buffers, job_bytes(&job, world));
    job_place(&job, rank, world, &buffers);
    tutti_comm *comm = ranks_comm(rank, world, rendezvous);
    tutti_host_stream *stream = NULL;
    tutti_host_graph *graph = NULL;
    CHECK_OK(tutti_host_stream_create(&stream));
    set_trap();
    tutti_call call = {.struct_bytes = sizeof(call), .stream = stream};
    CHECK_OK(tutti_host_capture_begin(stream, TUTTI_HOST_CAPTURE_GLOBAL));
    CHECK_OK(job_issue(&job, comm, &call));
    CHECK_OK(tutti_host_capture_end(stream, &graph));
    for (uint64_t number = 1; number < 4; number++) {
        job_fill(&job, number);
        CHECK_OK(tutti_host_graph_launch(graph, stream));
        CHECK_OK(tutti_host_stream_synchronize(stream));
        job_verify(&job, "replayed in the trap", NULL);
        job_fill(&job, 10 + number);
        CHECK_OK(job_issue(&job, comm, NULL));
        job_verify(&job, "eager in the trap", NULL);
    }
    tutti_host_graph_destroy(graph);
    tutti_host_stream_destroy(stream);
    tutti_comm_destroy(comm);
    job_buffers_destroy(&buffers);
    _exit(0); /* a sanitizer's exit handlers may start processes */
}

/* The trap itself works. */
static void spring_trap(void)
{
    int state = 0;
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        set_trap();
        (void)fork();
        _exit(0);
    }
    CHECK(waitpid(pid, &state, 0) == pid, "waitpid");
    if (WIFEXITED(state) && WEXITSTATUS(state) == 77) {
        SKIP("no seccomp filter to be had");
    }
    CHECK(WIFSIGNALED(state) && WTERMSIG(state) == SIGSYS, "a process was started inside the trap: state 0x%x", state);
}

int main(void)
{
    spring_trap();
    ranks_run(RANKS_PROCESSES, 2, 120, run_rank, NULL);
    return 0;
}
