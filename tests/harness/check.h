/* SPDX-License-Identifier: Apache-2.0 */
/* check.h - what a test program says when it fails: file, line, condition, and a sentence. */
#ifndef TESTS_HARNESS_CHECK_H
#define TESTS_HARNESS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Without what exit() runs: other threads may be inside a driver, whose state that would take away. */
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: failed: %s: ", __FILE__, __LINE__, #condition);                                    \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            (void)fflush(NULL);                                                                                        \
            _exit(1);                                                                                                  \
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

/* Where tests/simgpu builds a program of the host backend's again, for devices: what only the host backend does is left out. */
#ifdef TESTS_ON_DEVICES
#define ON_DEVICES 1
#else
#define ON_DEVICES 0
#endif

/* For the sentences of tutti/host.h's functions: where a driver stands in for them there are none. */
#define CHECK_SENTENCE(condition, ...) CHECK(ON_DEVICES || (condition), __VA_ARGS__)

#define SKIP(...)                                                                                                      \
    do {                                                                                                               \
        printf("skipped: ");                                                                                           \
        printf(__VA_ARGS__);                                                                                           \
        putchar('\n');                                                                                                 \
        exit(77);                                                                                                      \
    } while (0)

#endif
