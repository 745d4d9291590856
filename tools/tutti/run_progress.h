/* SPDX-License-Identifier: Apache-2.0 */
/* run_progress.h - a bar on a terminal; nothing elsewhere. */
#ifndef TUTTI_TOOL_RUN_PROGRESS_H
#define TUTTI_TOOL_RUN_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

/* Draws `done` of `all` over the current line, if stdout is a terminal. */
void progress_show(const char *label, uint64_t done, size_t all);

/* Gives the line back. */
void progress_clear(void);

#endif
