/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - files that a tool leaves behind: whole or not at all, and every write error is noticed. */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <stddef.h>

/* Whether output_write to this path can be expected to work, found out without leaving anything: call it before the
 * work begins. "-" is standard output. 0, or -1 with a sentence that names the path. */
int output_check(const char *path, char *sentence, size_t sentence_bytes);

/* Writes text to path: a regular file is replaced in one step when all is on it, so that a reader or a crash
 * never sees half of it; a device or pipe is written directly; "-" is standard output. 0, or -1 with a sentence. */
int output_write(const char *path, const char *text, char *sentence, size_t sentence_bytes);

/* Flushes standard output; 0, or -1 after a line on stderr, if anything printed so far was lost. */
int output_finish(const char *command);

#endif
