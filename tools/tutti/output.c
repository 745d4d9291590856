/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int explain(const char *path, char *sentence, size_t sentence_bytes)
{
    (void)snprintf(sentence, sentence_bytes, "cannot write %s: %s", path, strerror(errno));
    return -1;
}

/* The file itself where path is a link, so that the link is not replaced. */
static int resolve(const char *path, char *target, size_t target_bytes)
{
    char real[PATH_MAX];
    const char *use = realpath(path, real) != NULL ? real : path;
    if (strlen(use) + sizeof(".XXXXXX") > target_bytes) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(target, use, strlen(use) + 1);
    return 0;
}

static bool written_directly(const char *path)
{
    struct stat there;
    return stat(path, &there) == 0 && !S_ISREG(there.st_mode) && !S_ISDIR(there.st_mode);
}

int output_check(const char *path, char *sentence, size_t sentence_bytes)
{
    struct stat there;
    char target[PATH_MAX];
    if (strcmp(path, "-") == 0) {
        return 0;
    }
    if (stat(path, &there) == 0 && S_ISDIR(there.st_mode)) {
        errno = EISDIR;
        return explain(path, sentence, sentence_bytes);
    }
    if (written_directly(path)) {
        return access(path, W_OK) == 0 ? 0 : explain(path, sentence, sentence_bytes);
    }
    if (resolve(path, target, sizeof(target)) != 0) {
        return explain(path, sentence, sentence_bytes);
    }
    memcpy(target + strlen(target), ".XXXXXX", sizeof(".XXXXXX"));
    int fd = mkstemp(target);
    if (fd < 0) {
        return explain(path, sentence, sentence_bytes);
    }
    (void)close(fd);
    (void)unlink(target);
    return 0;
}

static int write_stream(FILE *stream, const char *text)
{
    return fputs(text, stream) < 0 || fflush(stream) != 0 ? -1 : 0;
}

static int write_directly(const char *path, const char *text)
{
    FILE *stream = fopen(path, "w");
    if (stream == NULL) {
        return -1;
    }
    int failed = write_stream(stream, text);
    int why = errno;
    if (fclose(stream) != 0 && failed == 0) {
        return -1;
    }
    errno = why;
    return failed;
}

/* A file with the permissions that creating it under its own name would have given, or that it has. */
static int set_mode(int fd, const char *target)
{
    struct stat there;
    mode_t mask = umask(0);
    (void)umask(mask);
    mode_t mode = stat(target, &there) == 0 ? there.st_mode & 0777 : 0666 & ~mask;
    return fchmod(fd, mode);
}

static int replace(const char *target, const char *text)
{
    char beside[PATH_MAX + sizeof(".XXXXXX")];
    (void)snprintf(beside, sizeof(beside), "%s.XXXXXX", target);
    int fd = mkstemp(beside);
    if (fd < 0) {
        return -1;
    }
    FILE *stream = fdopen(fd, "w");
    if (stream == NULL) {
        (void)close(fd);
        goto undo_file;
    }
    bool written = set_mode(fd, target) == 0 && write_stream(stream, text) == 0 && fsync(fd) == 0;
    int why = errno;
    if (fclose(stream) != 0 || !written) {
        errno = written ? errno : why;
        goto undo_file;
    }
    if (rename(beside, target) == 0) {
        return 0;
    }
undo_file:;
    int first = errno;
    (void)unlink(beside);
    errno = first;
    return -1;
}

int output_write(const char *path, const char *text, char *sentence, size_t sentence_bytes)
{
    char target[PATH_MAX];
    int failed = 0;
    if (strcmp(path, "-") == 0) {
        failed = write_stream(stdout, text);
    } else if (written_directly(path)) {
        failed = write_directly(path, text);
    } else {
        failed = resolve(path, target, sizeof(target)) != 0 ? -1 : replace(target, text);
    }
    return failed == 0 ? 0 : explain(path, sentence, sentence_bytes);
}

int output_finish(const char *command)
{
    if (fflush(stdout) != 0) {
        (void)fprintf(stderr, "%s: standard output could not be written: %s\n", command, strerror(errno));
        return -1;
    }
    if (ferror(stdout) != 0) { /* an earlier write; its reason is gone */
        (void)fprintf(stderr, "%s: standard output could not be written, some of it is lost\n", command);
        return -1;
    }
    return 0;
}
