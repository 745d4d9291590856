/* SPDX-License-Identifier: Apache-2.0 */
#include "run_progress.h"

#include <stdio.h>
#include <unistd.h>

#define BAR_WIDTH 40

void progress_show(const char *label, uint64_t done, size_t all)
{
    if (!isatty(STDOUT_FILENO)) {
        return;
    }
    char bar[BAR_WIDTH + 1];
    size_t filled = all == 0 ? 0 : (size_t)done * BAR_WIDTH / all;
    for (size_t i = 0; i < BAR_WIDTH; i++) {
        bar[i] = i < filled ? '#' : '.';
    }
    bar[BAR_WIDTH] = '\0';
    printf("\r  %-24s [%s] %3zu %%", label, bar, all == 0 ? (size_t)0 : (size_t)done * 100 / all);
    (void)fflush(stdout);
}

void progress_clear(void)
{
    if (isatty(STDOUT_FILENO)) {
        printf("\r\033[K");
        (void)fflush(stdout);
    }
}
