/* SPDX-License-Identifier: Apache-2.0 */
/* command.h - runs a program as a user does, and keeps what it said. */
#ifndef TESTS_HARNESS_COMMAND_H
#define TESTS_HARNESS_COMMAND_H

struct command_result {
    int code;    /* exit code; 128 + signal if a signal ended it */
    char *out;   /* all of standard output, as text; freed by command_free */
    char *error; /* all of standard error */
};

/* Runs arguments[0] with the arguments up to NULL; out_path instead of keeping standard output, if not NULL. Fails the
 * test if the program cannot be started or outlasts `seconds`. */
struct command_result command_run(const char *const *arguments, const char *out_path, int seconds);
void command_free(struct command_result *result);

/* How many lines the text has; a last line without its end counts. */
int command_lines(const char *text);

/* A new empty folder of this test, "/tmp/tutti-test-XXXXXX"; the caller removes what it holds, then it. */
void command_make_folder(char path[32]);

#endif
