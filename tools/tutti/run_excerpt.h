/* SPDX-License-Identifier: Apache-2.0 */
/* run_excerpt.h - a taste of what was generated. */
#ifndef TUTTI_TOOL_RUN_EXCERPT_H
#define TUTTI_TOOL_RUN_EXCERPT_H

#include "run.h"

/* Prints the beginning of a few answers, if the trace has prompts as text and the vocabulary is the tiny model's. */
void excerpt_print(const struct run *run);

#endif
