/* SPDX-License-Identifier: Apache-2.0 */
/* TUTTI_HOST_SIMD chooses the table; what the CPU lacks is refused with a sentence; unset means the best. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/host/simd/simd.h"
#include "harness/check.h"

/* Leaves the process: a setting is read once. */
static void accepted(const char *setting, const char *expected)
{
    CHECK_OK(simd_check());
    CHECK(strcmp(simd_table()->name, expected) == 0, "%s gave %s", setting, simd_table()->name);
    CHECK(simd_table() == simd_table(), "the choice changed");
    _exit(0);
}

static void refused(const char *setting)
{
    CHECK_STATUS(TUTTI_ERR_UNSUPPORTED, simd_check());
    CHECK(strstr(tutti_last_error(), setting) != NULL, "unhelpful sentence: %s", tutti_last_error());
    _exit(0);
}

/* setting "": unset. expected NULL: refused. */
static void choice_check(const char *setting, const char *expected)
{
    int failed = setting[0] == 0 ? unsetenv("TUTTI_HOST_SIMD") : setenv("TUTTI_HOST_SIMD", setting, 1);
    CHECK(failed == 0, "environment");
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0 && expected == NULL) {
        refused(setting);
    }
    if (pid == 0) {
        accepted(setting, expected);
    }
    int state = 0;
    CHECK(waitpid(pid, &state, 0) == pid && WIFEXITED(state) && WEXITSTATUS(state) == 0, "setting '%s'", setting);
}

int main(void)
{
    const char *best = NULL;
    const char *last = "";
    bool usable = false;
    for (size_t t = 0; simd_table_at(t, &usable) != NULL; t++) {
        last = simd_table_at(t, &usable)->name;
        if (best == NULL && usable) {
            best = last;
        }
        choice_check(last, usable ? last : NULL);
    }
    CHECK(best != NULL && usable && strcmp(last, "portable") == 0, "the last table must run everywhere");
    choice_check("", best);
    choice_check("auto", best);
    return 0;
}
