/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/settings.h"

static bool wanted(enum log_level level)
{
    const char *setting = settings_text(SETTING_LOG);
    return strcmp(setting, "info") == 0 || (level == LOG_WARN && strcmp(setting, "warn") == 0);
}

void log_line(enum log_level level, const char *format, ...)
{
    if (!wanted(level)) {
        return;
    }
    int number = errno; /* a log line must not disturb the error that it is about */
    char line[1024] = "tutti: ";
    size_t used = strlen(line);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line + used, sizeof(line) - used - 1, format, arguments);
    va_end(arguments);
    used += length > 0 ? (size_t)length : 0;
    used = used < sizeof(line) - 2 ? used : sizeof(line) - 2;
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written; /* nowhere to complain to */
    errno = number;
}
