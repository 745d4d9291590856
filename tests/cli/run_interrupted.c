/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti run` stopped in the middle: no rank goes on, no file and no folder is left. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/check.h"
#include "harness/command.h"

static char folder[32];

/* Entries of the folder whose name begins so. */
static int entries(const char *beginning)
{
    DIR *directory = opendir(folder);
    CHECK(directory != NULL, "%s", folder);
    int count = 0;
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        count += strncmp(entry->d_name, beginning, strlen(beginning)) == 0;
    }
    (void)closedir(directory);
    return count;
}

static void pause_ms(long ms)
{
    (void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

static pid_t start(const char *json)
{
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        int nothing = open("/dev/null", O_WRONLY);
        (void)dup2(nothing, STDOUT_FILENO);
        (void)dup2(nothing, STDERR_FILENO);
        (void)execl(TUTTI_TOOL, TUTTI_TOOL, "run", "--ranks", "2", "--trace", "trace.jsonl", "--json", json,
                    (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Ends the run with `number` once its ranks can be at work, and waits until every process of it is gone: as their
 * subreaper this process inherits the orphans. */
static int stop(pid_t pid, int number, long after_ms)
{
    for (int look = 0; look < 1000 && entries("tutti-run-") == 0; look++) {
        pause_ms(5);
    }
    CHECK(entries("tutti-run-") == 1, "the run did not begin");
    pause_ms(after_ms);
    CHECK(kill(pid, number) == 0, "kill");
    int state = 0;
    CHECK(waitpid(pid, &state, 0) == pid, "waitpid");
    for (int look = 0; look < 2000; look++) {
        int orphan_state = 0;
        pid_t orphan = waitpid(-1, &orphan_state, WNOHANG);
        if (orphan < 0) {
            return state;
        }
        if (orphan == 0) {
            pause_ms(5);
        }
    }
    CHECK(0, "a rank outlived its parent");
    return state;
}

int main(void)
{
    command_make_folder(folder);
    CHECK(chdir(folder) == 0 && setenv("TMPDIR", folder, 1) == 0, "%s", folder);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "prctl");
    FILE *file = fopen("trace.jsonl", "w");
    CHECK(file != NULL, "trace.jsonl");
    (void)fputs("{\"prompt_tokens\": 5, \"output_tokens\": 60000}\n", file); /* minutes */
    (void)fclose(file);

    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (int i = 0; i < 3; i++) {
        int state = stop(start("out.json"), numbers[i], 20 + 150 * i);
        CHECK(WIFEXITED(state) && WEXITSTATUS(state) == 1, "wait status 0x%x", (unsigned)state);
        CHECK(entries("tutti-run-") == 0 && entries("out.json") == 0, "something was left in %s", folder);
    }
    /* SIGKILL cannot be answered: the meeting folder and the unfinished file stay, but no rank does. */
    int state = stop(start("out.json"), SIGKILL, 300);
    CHECK(WIFSIGNALED(state), "wait status 0x%x", (unsigned)state);
    CHECK(access("out.json", F_OK) != 0, "a result although nothing was finished");
    CHECK(chdir("/") == 0, "chdir");
    char command[64];
    (void)snprintf(command, sizeof(command), "rm -r %s", folder);
    CHECK(system(command) == 0, "%s", command);
    return 0;
}
