/* SPDX-License-Identifier: Apache-2.0 */
/* run_json.h - the results as a file that is there completely or not at all. */
#ifndef TUTTI_TOOL_RUN_JSON_H
#define TUTTI_TOOL_RUN_JSON_H

#include "run.h"

/* A result file to be. Zero means none is wanted. */
struct run_json {
    char *target;    /* where it will be */
    char *temporary; /* where it is written; NULL: straight to the target (a pipe or a device) */
    int fd;
};

/* Opens the temporary beside `path`, before any work is done. False with a sentence. path NULL: none. */
bool run_json_begin(struct run_json *json, const char *path, char *why, size_t why_bytes);

/* Writes and puts it in place. False with a sentence; nothing is left then. */
bool run_json_finish(struct run_json *json, const struct run *run, bool verified, char *why, size_t why_bytes);

/* Takes back what run_json_begin did, unless it was finished. */
void run_json_abandon(struct run_json *json);

#endif
