/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/check.h"

static char *read_all(int fd)
{
    off_t bytes = lseek(fd, 0, SEEK_END);
    CHECK(bytes >= 0, "%s", strerror(errno));
    char *text = calloc((size_t)bytes + 1, 1);
    CHECK(text != NULL, "no memory");
    CHECK(pread(fd, text, (size_t)bytes, 0) == bytes, "%s", strerror(errno));
    (void)close(fd);
    return text;
}

static _Noreturn void child_main(const char *const *arguments, int out, int error)
{
    union { /* execv does not write to them, but its type predates const */
        const char *const *given;
        char *const *taken;
    } vector = {.given = arguments};
    int nothing = open("/dev/null", O_RDONLY);
    (void)dup2(nothing, STDIN_FILENO);
    (void)dup2(out, STDOUT_FILENO);
    (void)dup2(error, STDERR_FILENO);
    (void)execv(arguments[0], vector.taken);
    _exit(127);
}

static int await_end(pid_t pid, const char *name, int seconds)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int state = 0;
    for (int left = seconds * 200; left > 0; left--) {
        if (waitpid(pid, &state, WNOHANG) == pid) {
            return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
        }
        (void)nanosleep(&pause, NULL);
    }
    (void)kill(pid, SIGKILL);
    CHECK(false, "%s did not end in %d s", name, seconds);
    return -1;
}

struct command_result command_run(const char *const *arguments, const char *out_path, int seconds)
{
    struct command_result result = {0};
    int out = out_path != NULL ? open(out_path, O_WRONLY | O_CLOEXEC) : memfd_create("out", MFD_CLOEXEC);
    int error = memfd_create("error", MFD_CLOEXEC);
    CHECK(out >= 0 && error >= 0, "%s", strerror(errno));
    (void)fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        child_main(arguments, out, error);
    }
    result.code = await_end(pid, arguments[0], seconds);
    CHECK(result.code != 127, "%s could not be started", arguments[0]);
    result.error = read_all(error);
    if (out_path == NULL) {
        result.out = read_all(out);
    } else {
        (void)close(out);
    }
    return result;
}

void command_free(struct command_result *result)
{
    free(result->out);
    free(result->error);
    memset(result, 0, sizeof(*result));
}

int command_lines(const char *text)
{
    int lines = 0;
    for (const char *c = text; *c != '\0'; c++) {
        lines += *c == '\n' || c[1] == '\0';
    }
    return lines;
}

void command_make_folder(char path[32])
{
    (void)snprintf(path, 32, "/tmp/tutti-test-XXXXXX");
    CHECK(mkdtemp(path) != NULL, "%s: %s", path, strerror(errno));
}
