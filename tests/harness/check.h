/* SPDX-License-Identifier: Apache-2.0 */
/* check.h - what a test program says when it fails: file, line, condition, and a sentence. */
#ifndef TESTS_HARNESS_CHECK_H
#define TESTS_HARNESS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: failed: %s: ", __FILE__, __LINE__, #condition);                                    \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* For calls into the library: shows its sentence. */
#define CHECK_OK(call)                                                                                                 \
    do {                                                                                                               \
        tutti_status check_status = (call);                                                                            \
        CHECK(check_status == TUTTI_OK, "%s: %s", tutti_status_name(check_status), tutti_last_error());                \
    } while (0)

#define CHECK_STATUS(expected, call)                                                                                   \
    do {                                                                                                               \
        tutti_status check_status = (call);                                                                            \
        CHECK(check_status == (expected), "got %s (%s)", tutti_status_name(check_status), tutti_last_error());         \
    } while (0)

#define SKIP(...)                                                                                                      \
    do {                                                                                                               \
        printf("skipped: ");                                                                                           \
        printf(__VA_ARGS__);                                                                                           \
        putchar('\n');                                                                                                 \
        exit(77);                                                                                                      \
    } while (0)

#endif
