/* SPDX-License-Identifier: Apache-2.0 */
/* TUTTI_HOST_SIMD chooses the table; what the CPU lacks is refused with a sentence; unset means the best. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/host/simd/simd.h"
#include "harness/check.h"

/* In a process of its own, because a setting is read once. `expected` NULL: refused. */
static void choice_check(const char *setting, const char *expected)
{
    pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        CHECK(setting == NULL ? unsetenv("TUTTI_HOST_SIMD") == 0 : setenv("TUTTI_HOST_SIMD", setting, 1) == 0,
              "environment");
        if (expected == NULL) {
            CHECK_STATUS(TUTTI_ERR_UNSUPPORTED, simd_check());
            CHECK(strstr(tutti_last_error(), setting) != NULL, "unhelpful sentence: %s", tutti_last_error());
        } else {
            CHECK_OK(simd_check());
            CHECK(strcmp(simd_table()->name, expected) == 0, "%s gave %s", setting, simd_table()->name);
            CHECK(simd_table() == simd_table(), "the choice changed");
        }
        _exit(0);
    }
    int state = 0;
    CHECK(waitpid(pid, &state, 0) == pid && WIFEXITED(state) && WEXITSTATUS(state) == 0, "setting %s",
          setting == NULL ? "(unset)" : setting);
}

int main(void)
{
    const char *best = NULL;
    const char *last = NULL;
    bool usable = false;
    for (size_t t = 0; simd_table_at(t, &usable) != NULL; t++) {
        last = simd_table_at(t, &usable)->name;
        if (best == NULL && usable) {
            best = last;
        }
        choice_check(last, usable ? last : NULL);
    }
    CHECK(best != NULL && usable && strcmp(last, "portable") == 0, "the last table must run everywhere");
    choice_check(NULL, best);
    choice_check("auto", best);
    return 0;
}
